package site

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// retireAhead is how long before a root's end we begin to warn: time enough to
// build and roll out a binary with its successor (faults.md F40).
const retireAhead = 60 * 24 * time.Hour

// roots accepts a bundle of two or more CA certificates with different keys.
// Their dates are not judged here: an old binary must start and say what is
// wrong rather than not start; see Warnings.
func roots(value string) *complaint {
	certificates, wrong := parseRoots(value)
	if wrong != nil {
		return wrong
	}
	keys := map[string]bool{}
	for _, certificate := range certificates {
		keys[string(certificate.RawSubjectPublicKeyInfo)] = true
	}
	if len(keys) < 2 {
		return &complaint{fmt.Sprintf("holds %d CA of its own key, and two are wanted so that one can be retired", len(keys)), "append the PEM of a second root, whose key rests in a safe"}
	}
	return nil
}

// Roots returns the certificates of CARoots. A parsed Site has no bad one.
func (s Site) Roots() []*x509.Certificate {
	certificates, _ := parseRoots(s.CARoots)
	return certificates
}

// Warnings says what is not wrong yet but will be: roots that are near their
// end, past it, or not valid yet at now. A line each.
func (s Site) Warnings(now time.Time) []string {
	var warnings []string
	for _, certificate := range s.Roots() {
		name, state := certificate.Subject.CommonName, ""
		switch {
		case now.After(certificate.NotAfter):
			state = "has expired on " + certificate.NotAfter.Format(time.DateOnly)
		case now.Before(certificate.NotBefore):
			state = "is not valid before " + certificate.NotBefore.Format(time.RFC3339) + " (or this clock is wrong)"
		case now.After(certificate.NotAfter.Add(-retireAhead)):
			state = "expires on " + certificate.NotAfter.Format(time.DateOnly)
		default:
			continue
		}
		warnings = append(warnings, fmt.Sprintf("ca_roots: %q %s; fix: put its successor into the site file and build anew", name, state))
	}
	return warnings
}

func parseRoots(value string) ([]*x509.Certificate, *complaint) {
	const want = "write PEM blocks -----BEGIN CERTIFICATE----- below `ca_roots: |`, indented alike"
	rest := []byte(value)
	var certificates []*x509.Certificate
	for len(bytes.TrimSpace(rest)) > 0 {
		// pem.Decode skips what it cannot read; a bundle with a broken block must not shrink in silence.
		if !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("-----BEGIN ")) {
			return nil, &complaint{fmt.Sprintf("has something that is not PEM after %d certificates", len(certificates)), want}
		}
		begins := bytes.Count(rest, []byte("-----BEGIN "))
		block, after := pem.Decode(rest)
		if block == nil || bytes.Count(after, []byte("-----BEGIN ")) != begins-1 {
			return nil, &complaint{fmt.Sprintf("PEM block %d is broken", len(certificates)+1), want}
		}
		if block.Type != "CERTIFICATE" {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				return nil, &complaint{"holds a PRIVATE KEY", "take it out, and treat that key as lost: it was about to be built into a binary"}
			}
			return nil, &complaint{fmt.Sprintf("PEM block %d is a %s", len(certificates)+1, block.Type), want}
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &complaint{fmt.Sprintf("certificate %d does not parse: %v", len(certificates)+1, err), "export it again as PEM"}
		}
		mayNotSign := certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0
		if !certificate.BasicConstraintsValid || !certificate.IsCA || mayNotSign {
			return nil, &complaint{fmt.Sprintf("certificate %d (%q) is not a CA's", len(certificates)+1, certificate.Subject.CommonName), "write the root's certificate, not the server's"}
		}
		certificates, rest = append(certificates, certificate), after
	}
	if len(certificates) == 0 {
		return nil, &complaint{"holds no certificate", want}
	}
	return certificates, nil
}
