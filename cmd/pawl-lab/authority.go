package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	// rootSpare is what a kept root must still be good for; else both are made anew.
	rootSpare      = 90 * 24 * time.Hour
	serverLifetime = 365 * 24 * time.Hour
	// backdating covers a clock that is a little off between two machines of one site.
	backdating = time.Minute
)

// rootNames are the two roots of a lab: "a" signs, "b" is the spare that a
// rotation would move to. Both are trusted, so both stand in the site file.
var rootNames = [2]string{"root-a", "root-b"}

// keyPair names the two files of a certificate and its key.
type keyPair struct{ certificate, key string }

// authority is one root CA with its key.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// pem is the certificate's text.
	pem []byte
}

// authorities are the lab's two roots.
type authorities [2]authority

// bundle is both roots as PEM.
func (a authorities) bundle() []byte { return append(bytes.Clone(a[0].pem), a[1].pem...) }

// loadAuthorities reads the two roots from a folder and checks that they are of
// use for a while after now.
func loadAuthorities(directory string, now time.Time) (authorities, error) {
	var loaded authorities
	for i, name := range rootNames {
		root, err := loadAuthority(keyPair{filepath.Join(directory, name+".pem"), filepath.Join(directory, name+".key")}, now)
		if err != nil {
			return authorities{}, fmt.Errorf("load lab CA %s: %w", name, err)
		}
		loaded[i] = root
	}
	return loaded, nil
}

func loadAuthority(files keyPair, now time.Time) (authority, error) {
	text, err := os.ReadFile(files.certificate)
	if err != nil {
		return authority{}, err
	}
	certificate, err := parseCertificate(text)
	if err != nil {
		return authority{}, err
	}
	keyText, err := os.ReadFile(files.key)
	if err != nil {
		return authority{}, err
	}
	block, _ := pem.Decode(keyText)
	if block == nil {
		return authority{}, fmt.Errorf("read %s: no PEM inside", files.key)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return authority{}, err
	}
	switch {
	case !key.PublicKey.Equal(certificate.PublicKey):
		return authority{}, errors.New("key and certificate do not belong together")
	case !certificate.IsCA:
		return authority{}, errors.New("not a CA certificate")
	case now.Before(certificate.NotBefore), now.Add(rootSpare).After(certificate.NotAfter):
		return authority{}, fmt.Errorf("valid from %s to %s only", certificate.NotBefore, certificate.NotAfter)
	}
	return authority{certificate: certificate, key: key, pem: text}, nil
}

// ensureAuthorities returns the two roots of a folder and makes them where they
// are missing or no longer good. Both are made anew together.
func ensureAuthorities(directory string, now time.Time) (authorities, error) {
	loaded, err := loadAuthorities(directory, now)
	if err == nil {
		return loaded, nil
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return authorities{}, fmt.Errorf("make lab CA folder: %w", err)
	}
	for _, name := range rootNames {
		if err := makeAuthority(filepath.Join(directory, name), "pawl lab "+name, now); err != nil {
			return authorities{}, fmt.Errorf("make lab CA %s: %w", name, err)
		}
	}
	return loadAuthorities(directory, now)
}

func makeAuthority(path, name string, now time.Time) error {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(rootLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return writePair(keyPair{path + ".pem", path + ".key"}, template, nil)
}

// issueServer writes the certificate and key of one server of the lab.
func (a authority) issueServer(files keyPair, name string, addresses []string, now time.Time) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{name, "localhost"},
		NotBefore:   now.Add(-backdating),
		NotAfter:    now.Add(serverLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	return writePair(files, template, &a)
}

// signIntermediate turns Vault's CSR into a CA certificate that signs leaves only.
func (a authority) signIntermediate(request []byte, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil {
		return nil, errors.New("read intermediate's CSR: no PEM inside")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read intermediate's CSR: %w", err)
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check intermediate's CSR: %w", err)
	}
	template := &x509.Certificate{
		Subject:               parsed.Subject,
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(serverLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(template, a.certificate, parsed.PublicKey, a.key)
}

// writePair makes a key, signs its certificate by issuer (nil: by itself) and
// writes both, the key readable by its owner alone.
func writePair(files keyPair, template *x509.Certificate, issuer *authority) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	certificate, err := sign(template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(files.key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyBytes}), 0o600); err != nil {
		return err
	}
	return replaceFile(files.certificate, certificate, 0o644)
}

func sign(template, parent *x509.Certificate, public any, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM certificate inside")
	}
	return x509.ParseCertificate(block.Bytes)
}

// replaceFile writes a file so that a reader sees the old text or the new one.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(temporary, text, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
