package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pawl/internal/site"
)

func TestAuthoritiesAreMadeOnceAndKept(t *testing.T) {
	directory, now := filepath.Join(t.TempDir(), "ca"), time.Now()
	if _, err := loadAuthorities(directory, now); err == nil {
		t.Fatal("there is a CA before it is made")
	}
	first, err := ensureAuthorities(directory, now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ensureAuthorities(directory, now.Add(365*24*time.Hour))
	if err != nil || !bytes.Equal(first.bundle(), second.bundle()) {
		t.Errorf("a good CA was made anew (%v)", err)
	}
	third, err := ensureAuthorities(directory, now.Add(rootLifetime-rootSpare/2))
	if err != nil || bytes.Equal(first.bundle(), third.bundle()) {
		t.Errorf("a CA near its end was kept (%v)", err)
	}
	for _, name := range rootNames {
		information, err := os.Stat(filepath.Join(directory, name+".key"))
		if err != nil || information.Mode().Perm() != 0o600 {
			t.Errorf("%s.key: %v %v", name, information.Mode(), err)
		}
	}
}

func TestCertificatesVerify(t *testing.T) {
	directory, now := t.TempDir(), time.Now()
	roots, err := ensureAuthorities(directory, now)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(roots.bundle())
	files := keyPair{filepath.Join(directory, "s.pem"), filepath.Join(directory, "s.key")}
	if err := roots[0].issueServer(files, "server.dc1.consul", []string{"127.0.1.1"}, now); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files.certificate)
	if err != nil {
		t.Fatal(err)
	}
	server, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server.dc1.consul", "127.0.1.1"} {
		if _, err := server.Verify(x509.VerifyOptions{Roots: trusted, DNSName: name}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := server.Verify(x509.VerifyOptions{Roots: trusted, DNSName: "vault.lab.pawl"}); err == nil {
		t.Error("a server of Consul passes as Vault")
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "i"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := roots[0].signIntermediate(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), now)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := parseCertificate(signed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intermediate.Verify(x509.VerifyOptions{Roots: trusted, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil || !intermediate.IsCA || !intermediate.MaxPathLenZero {
		t.Errorf("intermediate: CA %v, path length zero %v, %v", intermediate.IsCA, intermediate.MaxPathLenZero, err)
	}
	if _, err := roots[0].signIntermediate([]byte("nonsense"), now); err == nil {
		t.Error("nonsense was signed")
	}
}

func TestSiteFileParses(t *testing.T) {
	directory := t.TempDir()
	out := filepath.Join(directory, "site.yaml")
	if err := writeSite(out, filepath.Join(directory, "ca"), time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := site.Parse(text, out)
	if err != nil {
		t.Fatal(err)
	}
	// What the template says must be what the lab serves.
	for name, pair := range map[string][2]string{
		"vault":      {parsed.Vault.Address, vaultURL},
		"metadata":   {parsed.Metadata.URL, metadataURL},
		"audience":   {parsed.Metadata.Audience, audience},
		"resolver":   {parsed.Resolver, resolverAddress},
		"servers":    {parsed.Consul.Servers, consulName},
		"datacenter": {parsed.Consul.Datacenter, datacenter},
		"domain":     {parsed.Consul.Domain, domain},
		"folder":     {parsed.RuntimeFolder, runtimeFolder()},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: the site says %q, the lab %q", name, pair[0], pair[1])
		}
	}
	if parsed.Consul.ServerRPCPort != consulPorts["server"] || parsed.Consul.SerfPort != consulPorts["serf_lan"] {
		t.Errorf("ports: %d %d", parsed.Consul.ServerRPCPort, parsed.Consul.SerfPort)
	}
	mounts := map[string]string{}
	for _, one := range vaultSteps {
		mounts[one.path] = one.file
	}
	for _, path := range []string{
		"sys/auth/" + parsed.Vault.JWTMount, "auth/" + parsed.Vault.JWTMount + "/role/" + parsed.Vault.JWTRole,
		"sys/mounts/" + parsed.Vault.KVMount, parsed.Vault.KVMount + "/data/" + parsed.Vault.GossipPath,
		parsed.Vault.PKIMount + "/roles/" + parsed.Vault.PKIRole, parsed.Vault.ConsulMount + "/roles/" + parsed.Vault.ConsulRole,
	} {
		if mounts[path] == "" {
			t.Errorf("the site wants %s and nothing is written there", path)
		}
	}
	if roots := parsed.Roots(); len(roots) != 2 || roots[0].Subject.CommonName == roots[1].Subject.CommonName {
		t.Errorf("%d roots", len(roots))
	}
	if strings.Contains(string(text), "PRIVATE") {
		t.Error("a key is in the site file")
	}
}
