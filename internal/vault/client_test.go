package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/internal/site"
)

func constants(address string, roots string) site.Site {
	return site.Site{
		CARoots: roots,
		Vault: site.Vault{Address: address, JWTMount: "jwt", JWTRole: "pawl", KVMount: "kv", GossipPath: "consul/gossip", GossipField: "key",
			PKIMount: "pki", PKIRole: "pawl", ConsulMount: "consul", ConsulRole: "pawl", Timeout: 5 * time.Second},
		Consul: site.Consul{Datacenter: "dc1", Domain: "consul"},
	}
}

func encode(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

// serve answers over real TLS with one handler.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	web := httptest.NewUnstartedServer(handler)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.StartTLS()
	t.Cleanup(web.Close)
	client, err := New(constants(web.URL, encode(web.Certificate())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func reply(t *testing.T, writer http.ResponseWriter, body any) {
	t.Helper()
	if err := json.NewEncoder(writer).Encode(body); err != nil {
		t.Error(err)
	}
}

type object = map[string]any

// TestEnvironmentIsIgnored: the library reads a dozen variables, and dies of a malformed one.
func TestEnvironmentIsIgnored(t *testing.T) {
	for name, value := range map[string]string{
		"VAULT_TOKEN": canary, "VAULT_NAMESPACE": "other", "VAULT_ADDR": "https://127.0.0.1:1", "VAULT_MAX_RETRIES": "many", "VAULT_WRAP_TTL": "5m",
		"VAULT_HEADERS": `{"X-Other":"1"}`, "VAULT_SKIP_VERIFY": "true", "VAULT_CACERT": "/nowhere", "HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	var seen http.Header
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		seen = request.Header
		reply(t, writer, object{"data": object{"ttl": 60}})
	})
	if err := client.LookupToken(t.Context(), secret.New("mine")); err != nil {
		t.Fatal(err)
	}
	if seen.Get("X-Vault-Token") != "mine" || seen.Get("X-Vault-Namespace") != "" || seen.Get("X-Other") != "" || seen.Get("X-Vault-Wrap-Ttl") != "" || seen.Get("X-Vault-Request") != "true" {
		t.Errorf("headers %v", seen)
	}
	if os.Getenv("VAULT_TOKEN") != canary {
		t.Error("the environment was changed for good")
	}
}

func TestNamespace(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("X-Vault-Namespace") != "team-a" {
			t.Errorf("namespace %q", request.Header.Get("X-Vault-Namespace"))
		}
		writer.WriteHeader(http.StatusNotFound)
	}))
	defer web.Close()
	with := constants(web.URL, encode(web.Certificate()))
	with.Vault.Namespace = "team-a"
	client, err := New(with)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Login(t.Context(), secret.New("jwt"))
	if got := failure.Of(err); got.Class != failure.Config || !strings.Contains(got.Fix, `namespace "team-a"`) {
		t.Errorf("%+v", got)
	}
}

func TestOneTokenPerCall(t *testing.T) {
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body)
		number := strings.TrimPrefix(request.Header.Get("X-Vault-Token"), "token-")
		reply(t, writer, object{"auth": object{"lease_duration": json.Number(number), "client_token": "x"}})
	})
	var group sync.WaitGroup
	for number := 1; number <= 16; number++ {
		group.Go(func() {
			for range 5 {
				ttl, err := client.RenewToken(t.Context(), secret.New(fmt.Sprint("token-", number)))
				if err != nil || ttl != time.Duration(number)*time.Second {
					t.Errorf("token %d got the answer of %s (%v)", number, ttl, err)
				}
			}
		})
	}
	group.Wait()
}

// TestRedirect: a standby names the active node; that far and no further.
func TestRedirect(t *testing.T) {
	var asked []string
	loop := false
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		asked = append(asked, request.URL.Path)
		if loop || request.URL.Path == "/v1/"+lookupPath {
			http.Redirect(writer, request, "/v1/active", http.StatusTemporaryRedirect)
			return
		}
		if request.Header.Get("X-Vault-Token") != "mine" {
			t.Error("the token was lost on the way")
		}
		reply(t, writer, object{"data": object{"ttl": 60}})
	})
	if err := client.LookupToken(t.Context(), secret.New("mine")); err != nil || len(asked) != 2 {
		t.Errorf("asked %q (%v)", asked, err)
	}
	loop, asked = true, nil
	if got := failure.Of(client.LookupToken(t.Context(), secret.New("mine"))); got == nil || got.Class != failure.Transient || len(asked) != 2 {
		t.Errorf("asked %q: %+v", asked, got)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"cut short": `{"auth":{"client_token":"` + canary, "no JSON": "<html>" + canary, "endless": `{"data":{"a":"` + strings.Repeat("a", 2*mostAnswer),
	} {
		client := serve(t, func(writer http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(writer, body) })
		got := failure.Of(client.LookupToken(t.Context(), secret.New("mine")))
		if got == nil || got.Class != failure.Transient || strings.Contains(got.Error(), canary) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, body := range map[string]string{"empty": "", "null": "null", "other": `{"data":{}}`} {
		client := serve(t, func(writer http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(writer, body) })
		for kind, attempt := range attempts {
			if err := attempt(t.Context(), client); err == nil && kind != lookingUp && kind != revoking {
				t.Errorf("%s: %s succeeded", name, kind)
			}
		}
	}
}

// listener serves TLS with a certificate valid from..to for a name.
func listener(t *testing.T, name string, from, to time.Time) (address, roots string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestUnreachable(t *testing.T) {
	now, year := time.Now(), 365*24*time.Hour
	good, goodRoots := listener(t, "127.0.0.1", now.Add(-year), now.Add(year))
	_, otherRoots := listener(t, "127.0.0.1", now.Add(-year), now.Add(year))
	named, namedRoots := listener(t, "vault.example.com", now.Add(-year), now.Add(year))
	expired, expiredRoots := listener(t, "127.0.0.1", now.Add(-2*year), now.Add(-year))
	future, futureRoots := listener(t, "127.0.0.1", now.Add(year), now.Add(2*year))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	tests := []struct {
		name, address, roots, resolver string
		class                          failure.Class
		remote                         failure.Remote
		words                          string
	}{
		{"it answers", good, goodRoots, "", failure.Config, failure.RemoteVault, "status 404"},
		{"nothing listens", "https://127.0.0.1:1", goodRoots, "", failure.Transient, failure.RemoteVault, "nothing listens"},
		{"silence", "https://" + silent.Addr().String(), goodRoots, "", failure.Transient, failure.RemoteVault, "no answer"},
		{"unknown CA", good, otherRoots, "", failure.Config, failure.RemoteVault, "not in the site file"},
		{"no CA at all", good, "", "", failure.Config, failure.RemoteVault, "not in the site file"},
		{"another's name", named, namedRoots, "", failure.Config, failure.RemoteVault, "for another name"},
		{"expired", expired, expiredRoots, "", failure.Config, failure.RemoteVault, "expired on"},
		{"not yet valid", future, futureRoots, "", failure.Local, failure.RemoteHost, "clock"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), goodRoots, "", failure.Config, failure.RemoteVault, "does not speak TLS"},
		{"no DNS", "https://vault.test.pawl:1", goodRoots, "127.0.0.1:1", failure.Transient, failure.RemoteVault, "resolve vault.test.pawl"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			with := constants(test.address, test.roots)
			with.Vault.Timeout, with.Resolver = 300*time.Millisecond, test.resolver
			client, err := New(with)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Login(t.Context(), secret.New(canaryJWT))
			got := failure.Of(err)
			if got == nil || got.Class != test.class || got.Remote != test.remote || !strings.Contains(got.Error(), test.words) {
				t.Errorf("got %+v", got)
			}
			if (got.Fix == "") != (got.Class == failure.Transient) {
				t.Errorf("class %s with fix %q", got.Class, got.Fix)
			}
		})
	}
}
