package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/transitions"
)

// SignCertificate makes a key and a CSR here and has Vault sign it for
// <node>.node.<dc>.<domain>: the key never travels. The TTL is the certificate's
// end less Vault's own clock, so that ours does not matter (law 9).
func (c *Client) SignCertificate(ctx context.Context, token secret.Secret, node string) (transitions.CertificateGrant, error) {
	name := node + "." + c.domain
	sign := call{kind: signing, path: c.site.PKIMount + "/sign/" + c.site.PKIRole, token: token}
	key, keyPEM, request, err := makeRequest(name)
	if err != nil {
		return transitions.CertificateGrant{}, c.failed(sign, failure.Bug, failure.RemoteHost, err.Error())
	}
	// The names stand in the CSR too: a role may take them from either.
	sign.body = map[string]any{"csr": request, "common_name": name, "alt_names": name, "format": "pem"}
	answer, date, err := c.ask(ctx, sign)
	if err != nil {
		return transitions.CertificateGrant{}, err
	}
	if answer == nil {
		return transitions.CertificateGrant{}, c.lacking(sign, "the answer is empty", "mount Vault's PKI engine at "+c.site.PKIMount)
	}
	role := c.site.PKIMount + "/roles/" + c.site.PKIRole
	text, _ := answer.Data["certificate"].(string)
	leaf := parseCertificate(text)
	serial, _ := answer.Data["serial_number"].(string)
	switch {
	case leaf == nil || serial == "":
		return transitions.CertificateGrant{}, c.lacking(sign, "the answer has no certificate", "mount Vault's PKI engine at "+c.site.PKIMount)
	case !key.PublicKey.Equal(leaf.PublicKey):
		return transitions.CertificateGrant{}, c.lacking(sign, "the certificate is for another key", "make sure that Vault's PKI engine is at "+c.site.PKIMount)
	case !slices.Contains(leaf.DNSNames, name):
		return transitions.CertificateGrant{}, c.lacking(sign, fmt.Sprintf("the certificate is for %q, not for %s", leaf.DNSNames, name), "set use_csr_sans=true at "+role)
	}
	if date.IsZero() {
		date = c.now()
	}
	ttl := leaf.NotAfter.Sub(date)
	if ttl <= 0 {
		return transitions.CertificateGrant{}, c.lacking(sign, "the certificate has ended already, on "+leaf.NotAfter.Format(time.RFC3339), "set ttl at "+role+", and the clocks of Vault's nodes")
	}
	return transitions.CertificateGrant{
		Chain:  strings.TrimSpace(text) + "\n" + issuers(text, answer.Data),
		Key:    keyPEM,
		Serial: strings.ToLower(serial),
		TTL:    ttl,
	}, nil
}

// makeRequest makes a key and a CSR for name.
func makeRequest(name string) (*ecdsa.PrivateKey, secret.Secret, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, secret.Secret{}, "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, secret.Secret{}, "", fmt.Errorf("encode the key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
	}, key)
	if err != nil {
		return nil, secret.Secret{}, "", fmt.Errorf("make a certificate request: %w", err)
	}
	keyPEM := secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	return key, keyPEM, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})), nil
}

// issuers returns the intermediates of an answer, each with a line break after
// it, without roots: whoever verifies has its own, and trusts no other.
func issuers(leaf string, data map[string]any) string {
	listed, _ := data["ca_chain"].([]any)
	if len(listed) == 0 {
		listed = []any{data["issuing_ca"]}
	}
	var chain strings.Builder
	seen := []string{strings.TrimSpace(leaf)}
	for _, item := range listed {
		text, _ := item.(string)
		text = strings.TrimSpace(text)
		certificate := parseCertificate(text)
		if certificate == nil || slices.Contains(seen, text) || bytes.Equal(certificate.RawIssuer, certificate.RawSubject) {
			continue
		}
		seen = append(seen, text)
		chain.WriteString(text + "\n")
	}
	return chain.String()
}

// parseCertificate returns nil for what is none.
func parseCertificate(text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return certificate
}
