package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// authority is a CA of two levels, as a Vault with an offline root has it.
type authority struct {
	root, intermediate *x509.Certificate
	key                *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	make := func(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	root, rootKey := make("root", nil, nil)
	intermediate, key := make("intermediate", root, rootKey)
	return authority{root, intermediate, key}
}

// sign signs what a request asks for, as pki/sign does.
func (a authority) sign(t *testing.T, request *http.Request, ends time.Time) *x509.Certificate {
	t.Helper()
	var body struct{ CSR string }
	if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(body.CSR))
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || asked.CheckSignature() != nil {
		t.Fatal("the CSR is no good", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0xAB12), Subject: asked.Subject, DNSNames: asked.DNSNames, NotAfter: ends,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.intermediate, asked.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestSignCertificate(t *testing.T) {
	ca := newAuthority(t)
	// Vault's clock is an hour ahead of ours, and the certificate lasts ten minutes by it.
	date := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	answers := map[string]func(*x509.Certificate) object{
		"whole chain": func(c *x509.Certificate) object {
			return object{"ca_chain": []string{encode(ca.intermediate), encode(ca.root)}}
		},
		"leaf in it": func(c *x509.Certificate) object {
			return object{"ca_chain": []string{encode(c), encode(ca.intermediate)}}
		},
		"only an issuer": func(c *x509.Certificate) object { return object{"issuing_ca": encode(ca.intermediate)} },
	}
	for name, chain := range answers {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
				if request.URL.Path != "/v1/pki/sign/pawl" || request.Header.Get("X-Vault-Token") != canary {
					t.Errorf("asked %s", request.URL.Path)
				}
				signed := ca.sign(t, request, date.Add(10*time.Minute))
				data := chain(signed)
				data["certificate"], data["serial_number"] = encode(signed), "AB:12"
				writer.Header().Set("Date", date.Format(http.TimeFormat))
				reply(t, writer, object{"data": data})
			})
			grant, err := client.SignCertificate(t.Context(), secret.New(canary), "vm-1")
			if err != nil {
				t.Fatal(err)
			}
			if grant.Serial != "ab:12" || grant.TTL != 10*time.Minute {
				t.Errorf("serial %q, ttl %s", grant.Serial, grant.TTL)
			}
			pair, err := tls.X509KeyPair([]byte(grant.Chain), []byte(grant.Key.Reveal()))
			if err != nil || len(pair.Certificate) != 2 {
				t.Fatalf("%d certificates (%v)", len(pair.Certificate), err)
			}
			roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(ca.root)
			between, _ := x509.ParseCertificate(pair.Certificate[1])
			intermediates.AddCert(between)
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "vm-1.node.dc1.consul", Roots: roots, Intermediates: intermediates,
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			if pair.Leaf.Subject.CommonName != "vm-1.node.dc1.consul" {
				t.Errorf("common name %q", pair.Leaf.Subject.CommonName)
			}
		})
	}
}

func TestSignedWrongly(t *testing.T) {
	ca := newAuthority(t)
	other := ""
	spoil := map[string]func(*x509.Certificate, object){
		"for another key":    func(_ *x509.Certificate, data object) { data["certificate"] = other },
		"ended already":      func(*x509.Certificate, object) {},
		"without a serial":   func(_ *x509.Certificate, data object) { delete(data, "serial_number") },
		"has no certificate": func(_ *x509.Certificate, data object) { data["certificate"] = "none" },
	}
	other = encode(ca.intermediate)
	for name, change := range spoil {
		client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
			ends := time.Now().Add(time.Hour)
			if name == "ended already" {
				ends = time.Now().Add(-time.Hour)
			}
			signed := ca.sign(t, request, ends)
			data := object{"certificate": encode(signed), "serial_number": "ab:12"}
			change(signed, data)
			reply(t, writer, object{"data": data})
		})
		_, err := client.SignCertificate(t.Context(), secret.New(canary), "vm-1")
		if got := failure.Of(err); got == nil || got.Class != failure.Config || got.Fix == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGossipKey(t *testing.T) {
	key := func(length int) string { return base64.StdEncoding.EncodeToString(make([]byte, length)) }
	tests := []struct {
		name, value, words string
	}{
		{"128 bits", key(16), ""}, {"192 bits", key(24), ""}, {"256 bits", key(32), ""},
		{"short", key(15), "15 bytes"}, {"long", key(33), "33 bytes"}, {"empty", "", "no text as key"}, {"not base64", "secret key!", "not base64"},
	}
	for _, test := range tests {
		client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
			if request.Method != http.MethodGet || request.URL.Path != "/v1/kv/data/consul/gossip" {
				t.Errorf("asked %s %s", request.Method, request.URL.Path)
			}
			reply(t, writer, object{"data": object{"data": object{"key": test.value}, "metadata": object{"version": 7}}})
		})
		grant, err := client.ReadGossipKey(t.Context(), secret.New(canary))
		if test.words == "" {
			if err != nil || grant.ID != "7" || grant.Key.Reveal() != test.value {
				t.Errorf("%s: %+v (%v)", test.name, grant, err)
			}
			continue
		}
		got := failure.Of(err)
		if got == nil || got.Class != failure.Config || !strings.Contains(got.Error(), test.words) || got.Fix == "" {
			t.Errorf("%s: %+v", test.name, got)
		}
		if test.value != "" && got != nil && strings.Contains(got.Error()+got.Fix, test.value) {
			t.Errorf("%s: the key is in the error", test.name)
		}
	}
}

func TestConsulToken(t *testing.T) {
	good := func() object {
		return object{"lease_id": "consul/creds/pawl/x", "lease_duration": 3600, "data": object{"token": "t", "accessor": "a"}}
	}
	for name, change := range map[string]func(object){
		"good":        func(object) {},
		"no accessor": func(o object) { delete(o["data"].(object), "accessor") },
		"no token":    func(o object) { delete(o["data"].(object), "token") },
		"no lease":    func(o object) { delete(o, "lease_id") },
		"no ttl":      func(o object) { o["lease_duration"] = 0 },
	} {
		client := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
			body := good()
			change(body)
			reply(t, writer, body)
		})
		grant, err := client.IssueConsulToken(t.Context(), secret.New(canary))
		if name == "good" {
			if err != nil || grant.Token.Reveal() != "t" || grant.Accessor != "a" || grant.Lease != "consul/creds/pawl/x" || grant.TTL != time.Hour {
				t.Errorf("%+v (%v)", grant, err)
			}
		} else if got := failure.Of(err); got == nil || got.Class != failure.Config || got.Fix == "" || !grant.Token.Empty() {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
