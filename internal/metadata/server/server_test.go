package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const inventoryText = `
machines:
  - uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427
    node: web-1
    address: 127.0.0.1
    site: lab
    dc: dc1
    role: web
`

// lines is a log that a test may read while the service writes.
type lines struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *lines) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// start runs the service on a real socket, with a clock that stands still.
func start(t *testing.T) (*Server, *httptest.Server, *lines) {
	t.Helper()
	key, err := LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := ParseInventory([]byte(inventoryText), "inventory")
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	service, err := New(Settings{
		Issuer: "https://metadata.test.pawl", Listen: "127.0.0.1:80", Audiences: []string{"vault", "consul"}, TTL: time.Minute, Key: key,
		Inventory: inventory, Log: slog.New(slog.NewTextHandler(log, nil)), Now: func() time.Time { return time.Unix(1_000_000, 500) },
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(service)
	t.Cleanup(web.Close)
	return service, web, log
}

func ask(t *testing.T, url string, change func(*http.Request)) (*http.Response, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+IdentityPath, strings.NewReader("audience=vault"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(GuardHeader, GuardValue)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(request)
	}
	response, err := http.DefaultTransport.RoundTrip(request) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil && request.Method != http.MethodHead {
		t.Fatalf("%s: the body is not JSON: %v", response.Status, err)
	}
	return response, body
}

func TestTokenVerifiesByThePublicDocuments(t *testing.T) {
	service, web, log := start(t)
	response, body := ask(t, web.URL, nil)
	if response.StatusCode != http.StatusOK || response.Header.Get("Cache-Control") != "no-store" || body["expires_in"] != 60.0 {
		t.Fatalf("%s %v %v", response.Status, response.Header, body)
	}
	text := body["jwt"].(string)

	discovery, err := http.Get(web.URL + DiscoveryPath)
	if err != nil {
		t.Fatal(err)
	}
	defer discovery.Body.Close()
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.NewDecoder(discovery.Body).Decode(&document); err != nil || document.Issuer != "https://metadata.test.pawl" || document.Keys != document.Issuer+KeysPath {
		t.Fatalf("discovery %+v (%v)", document, err)
	}
	published, err := http.Get(web.URL + KeysPath)
	if err != nil {
		t.Fatal(err)
	}
	defer published.Body.Close()
	raw, err := io.ReadAll(published.Body)
	if err != nil || strings.Contains(string(raw), `"d"`) {
		t.Fatalf("the key document holds the private part, or nothing (%v)", err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}

	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if kid := token.Headers[0].KeyID; kid != service.settings.Key.ID() || len(keys.Key(kid)) != 1 {
		t.Fatalf("kid %q is not published", kid)
	}
	var got map[string]any
	if err := token.Claims(keys.Keys[0].Key, &got); err != nil {
		t.Fatal(err)
	}
	id, _ := got["jti"].(string)
	delete(got, "jti")
	want := map[string]any{"iss": "https://metadata.test.pawl", "sub": "vm:1b4e28ba-2fa1-11d2-883f-0016d3cca427", "aud": "vault",
		"iat": 1e6, "nbf": 1e6 - 30, "exp": 1e6 + 60, "vm_uuid": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "node": "web-1", "site": "lab", "dc": "dc1", "role": "web"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("claim %s is %v, want %v", name, got[name], value)
		}
	}
	if len(got) != len(want) || len(id) < 26 {
		t.Errorf("claims %v, jti %q", got, id)
	}
	if _, second := ask(t, web.URL, nil); second["jwt"] == text {
		t.Error("two requests got the same token")
	}

	audit := log.String()
	if strings.Count(audit, "msg=issued") != 2 || !strings.Contains(audit, "jti="+id) {
		t.Errorf("audit:\n%s", audit)
	}
	for part := range strings.SplitSeq(text, ".") {
		if strings.Contains(audit, part) {
			t.Error("a part of the token is in the log")
		}
	}
}

func header(name, value string) func(*http.Request) {
	return func(request *http.Request) { request.Header[name] = append(request.Header[name], value) }
}

func form(text string) func(*http.Request) {
	return func(request *http.Request) {
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

func TestRefusals(t *testing.T) {
	_, web, log := start(t)
	tests := []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet; r.Body, r.ContentLength = nil, 0 }, 405},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, 405},
		{"odd method", func(r *http.Request) { r.Method = "STEAL" }, 405},
		{"other path", func(r *http.Request) { r.URL.Path = "/v1/identity/" }, 404},
		{"unclean path", func(r *http.Request) { r.URL.Path = "//v1/identity" }, 404},
		{"dots", func(r *http.Request) { r.URL.Path = "/v1/x/../identity" }, 404},
		{"no guard", func(r *http.Request) { r.Header.Del(GuardHeader) }, 403},
		{"wrong guard", func(r *http.Request) { r.Header.Set(GuardHeader, "true") }, 403},
		{"two guards", header(GuardHeader, "1"), 403},
		{"forwarded for", header("X-Forwarded-For", "127.0.0.1"), 403},
		{"forwarded, empty", header("X-Forwarded-For", ""), 403},
		{"forwarded, odd case", header("x-forwarded-HOST", "a"), 403},
		{"forwarded by RFC 7239", header("Forwarded", "for=127.0.0.1"), 403},
		{"via", header("Via", "1.1 proxy"), 403},
		{"origin", header("Origin", "http://evil.test"), 403},
		{"rebound name", func(r *http.Request) { r.Host = "evil.test" }, 421},
		{"right name, wrong port", func(r *http.Request) { r.Host = "127.0.0.1:1" }, 421},
		{"unknown audience", form("audience=consul-root"), 400},
		{"no audience", form(""), 400},
		{"empty audience", form("audience="), 400},
		{"case", form("audience=Vault"), 400},
		{"two audiences", form("audience=vault&audience=consul"), 400},
		{"one here, one there", func(r *http.Request) { r.URL.RawQuery = "audience=vault" }, 400},
		{"more than asked for", form("audience=vault&ttl=9999h"), 400},
		{"not a form", form("audience=%zz"), 400},
		{"semicolon", form("audience=vault;x=y"), 400},
		{"JSON", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json")
			form(`{"audience":"vault"}`)(r)
		}, 415},
		{"odd type", func(r *http.Request) { r.Header.Set("Content-Type", ";;;") }, 415},
		{"no type", func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		{"no type, query", func(r *http.Request) { r.Header.Del("Content-Type"); r.URL.RawQuery = "audience=vault" }, 415},
		{"large", form("audience=" + strings.Repeat("v", mostBody)), 413},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			response, body := ask(t, web.URL, test.change)
			if response.StatusCode != test.status {
				t.Errorf("%s %v, want %d", response.Status, body, test.status)
			}
			if body["error"] == "" || body["fix"] == "" || body["jwt"] != nil || len(body) != 2 {
				t.Errorf("body %v", body)
			}
		})
	}
	if strings.Contains(log.String(), "msg=issued") {
		t.Error("a token was issued")
	}
}

func TestAccepted(t *testing.T) {
	_, web, _ := start(t)
	for name, change := range map[string]func(*http.Request){
		"by query": func(r *http.Request) {
			r.Body, r.ContentLength, r.URL.RawQuery = nil, 0, "audience=consul"
			r.Header.Del("Content-Type")
		},
		"charset": func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		},
		"issuer's host":     func(r *http.Request) { r.Host = "metadata.test.pawl" },
		"listening address": func(r *http.Request) { r.Host = "127.0.0.1" }, // --listen has :80, which clients leave out
	} {
		if response, body := ask(t, web.URL, change); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %v", name, response.Status, body)
		}
	}
}

// TestOnlyTheSourceAddressDecides: each VM gets itself, another address nothing.
func TestOnlyTheSourceAddressDecides(t *testing.T) {
	service, web, _ := start(t)
	from := func(address string) (*http.Response, map[string]any) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		transport := &http.Transport{DialContext: dialer.DialContext}
		defer transport.CloseIdleConnections()
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+IdentityPath+"?audience=vault", nil)
		request.Header.Set(GuardHeader, GuardValue)
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body map[string]any
		_ = json.NewDecoder(response.Body).Decode(&body)
		return response, body
	}
	if response, body := from("127.0.0.2"); response.StatusCode != 403 || !strings.Contains(body["error"].(string), "127.0.0.2") {
		t.Errorf("%s %v", response.Status, body)
	}
	added, err := ParseInventory([]byte(inventoryText+"  - {uuid: 2b4e28ba-2fa1-11d2-883f-0016d3cca427, node: web-2, address: '::ffff:127.0.0.2'}\n"), "inventory")
	if err != nil {
		t.Fatal(err)
	}
	service.Replace(added)
	response, body := from("127.0.0.2")
	if response.StatusCode != 200 {
		t.Fatalf("%s %v", response.Status, body)
	}
	token, err := jwt.ParseSigned(body["jwt"].(string), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var got claims
	if err := token.UnsafeClaimsWithoutVerification(&got); err != nil || got.Node != "web-2" {
		t.Errorf("got %+v (%v)", got, err)
	}
	if _, found := added.Find(netip.MustParseAddr("::ffff:127.0.0.1")); !found {
		t.Error("an IPv4 address in IPv6 is another address")
	}
}

func TestSettings(t *testing.T) {
	key, err := LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Settings){
		"issuer no URL":  func(s *Settings) { s.Issuer = "metadata" },
		"issuer path":    func(s *Settings) { s.Issuer = "https://a/b" },
		"issuer slash":   func(s *Settings) { s.Issuer = "https://a/" },
		"no audience":    func(s *Settings) { s.Audiences = nil },
		"empty audience": func(s *Settings) { s.Audiences = []string{""} },
		"short":          func(s *Settings) { s.TTL = 0 },
		"long":           func(s *Settings) { s.TTL = 2 * time.Hour },
		"fraction":       func(s *Settings) { s.TTL = 1500 * time.Millisecond },
	} {
		settings := Settings{Issuer: "https://a", Audiences: []string{"vault"}, TTL: time.Minute, Key: key}
		spoil(&settings)
		if _, err := New(settings); err == nil || !strings.Contains(err.Error(), "; fix: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKey(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	first, err := LoadKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(folder)
	if err != nil || again.ID() != first.ID() || len(first.ID()) != 43 {
		t.Fatalf("kid %q, then %q (%v)", first.ID(), again.ID(), err)
	}
	path := filepath.Join(folder, keyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v)", info.Mode(), err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v (%v)", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(folder); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("a readable key was taken: %v", err)
	}
	for _, garbage := range []string{"", "garbage", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(folder); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%q: %v", garbage, err)
		}
	}
}

// FuzzIdentity: whatever comes, the answer is JSON, and a token only for the
// one right question.
func FuzzIdentity(f *testing.F) {
	key, err := LoadKey(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	inventory, err := ParseInventory([]byte(inventoryText), "inventory")
	if err != nil {
		f.Fatal(err)
	}
	service, err := New(Settings{Issuer: "http://h", Listen: "127.0.0.1:80", Audiences: []string{"vault"}, TTL: time.Minute, Key: key, Inventory: inventory, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("POST", "/v1/identity", "", "h", "127.0.0.1:1", "1", "application/x-www-form-urlencoded", "Accept", "audience=vault")
	f.Add("POST", "/v1/identity", "audience=vault", "h", "[::1%eth0]:1", "1", "", "Via", "")
	f.Fuzz(func(t *testing.T, method, path, query, host, remote, guard, kind, extra, body string) {
		request := httptest.NewRequest(http.MethodPost, "http://h/", strings.NewReader(body))
		request.Method, request.URL.Path, request.URL.RawQuery, request.Host, request.RemoteAddr = method, path, query, host, remote
		request.Header = http.Header{GuardHeader: {guard}, "Content-Type": {kind}}
		request.Header.Add(extra, "x")
		recorder := httptest.NewRecorder()
		service.ServeHTTP(recorder, request)
		var answer map[string]any
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%d: not JSON: %v", recorder.Code, err)
		}
		right := method == http.MethodPost && path == IdentityPath && (strings.HasPrefix(remote, "127.0.0.1:") || strings.HasPrefix(remote, "[::"))
		if answer["jwt"] != nil && (!right || guard != GuardValue || recorder.Code != http.StatusOK) {
			t.Errorf("a token for %q %q from %q", method, path, remote)
		}
		if recorder.Code >= 500 || recorder.Code >= 300 && recorder.Code < 400 {
			t.Errorf("status %d", recorder.Code)
		}
	})
}
