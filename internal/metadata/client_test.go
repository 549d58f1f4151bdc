package metadata

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/metadata/server"
	"pawl/internal/site"
	"pawl/states"
)

func constants(url string) site.Metadata {
	return site.Metadata{URL: url, Audience: "vault", Timeout: 2 * time.Second}
}

// TestWithTheRealService asks our own server over a real socket, with proxies
// in the environment that must see nothing (faults.md F24).
func TestWithTheRealService(t *testing.T) {
	var hits atomic.Int32
	recorder := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer recorder.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, recorder.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")

	// The environment's proxy is never used for loopback, so ask by an address of this machine that is not.
	address := outward(t)
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := server.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := server.ParseInventory(fmt.Appendf(nil, "machines: [{uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427, node: web-1, address: %q}]", address), "inventory")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	service, err := server.New(server.Settings{Issuer: url, Listen: listener.Addr().String(), Audiences: []string{"vault"}, TTL: 10 * time.Second,
		Key: key, Inventory: inventory, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Serve(ctx, listener) }()

	client := NewClient(constants(url))
	grant, err := client.FetchJWT(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := states.Identity{Node: "web-1", NodeID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Subject: "vm:1b4e28ba-2fa1-11d2-883f-0016d3cca427"}
	if grant.Identity != want || grant.TTL != 10*time.Second || grant.ID == "" || strings.Count(grant.Text.Reveal(), ".") != 2 {
		t.Errorf("got %+v", grant)
	}
	if skew := time.Since(grant.Date); skew < -2*time.Second || skew > 5*time.Second {
		t.Errorf("date %s", grant.Date)
	}

	other := constants(url)
	other.Audience = "consul"
	_, err = NewClient(other).FetchJWT(t.Context())
	expect(t, err, failure.Config, `audience "consul" is not on the list`)
	empty, _ := server.ParseInventory([]byte("machines: []"), "inventory")
	service.Replace(empty)
	_, err = client.FetchJWT(t.Context())
	expect(t, err, failure.Identity, "no machine has the address "+address)

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, err = client.FetchJWT(t.Context())
	expect(t, err, failure.Transient, "nothing listens there")
	if hits.Load() != 0 {
		t.Errorf("the proxy was asked %d times", hits.Load())
	}
}

// outward returns an address of this machine that is not loopback.
func outward(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() && network.IP.To4() != nil {
			return network.IP.String()
		}
	}
	return "127.0.0.1" // no network at all: the rest of the test still holds
}

// TestGuardsAreSameOnBothSides: client and server do not import each other.
func TestGuardsAreSameOnBothSides(t *testing.T) {
	if guardHeader != server.GuardHeader || guardValue != server.GuardValue || identityPath != server.IdentityPath {
		t.Error("client and server disagree")
	}
}

func expect(t *testing.T, err error, class failure.Class, words string) *failure.Error {
	t.Helper()
	got := failure.Of(err)
	if got == nil || got.Class != class || got.Remote != failure.RemoteMetadata || !strings.Contains(got.Error(), words) {
		t.Errorf("got %+v\nwant %s with %q", got, class, words)
		return &failure.Error{}
	}
	if (got.Fix == "") != (class == failure.Transient) {
		t.Errorf("class %s with fix %q", class, got.Fix)
	}
	return got
}

// serve answers every request with one handler.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	return NewClient(constants(web.URL))
}

func TestStatuses(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2ln"
	tests := []struct {
		status int
		body   string
		class  failure.Class
		words  string
	}{
		{301, "", failure.Config, "status 301"},
		{302, "", failure.Config, "status 302"},
		{204, "", failure.Config, "status 204"},
		{400, `{"error":"no such audience"}`, failure.Config, "no such audience"},
		{401, "", failure.Config, "status 401"},
		{403, `{"error":"no machine has the address 10.0.0.1"}`, failure.Identity, "10.0.0.1"},
		{403, `{"error":"the request was forwarded: it has \"Via\""}`, failure.Config, "forwarded"},
		{403, `<html>`, failure.Identity, "status 403"},
		{404, "", failure.Config, "status 404"},
		{405, "", failure.Config, "status 405"},
		{418, "", failure.Config, "status 418"},
		{421, "", failure.Config, "status 421"},
		{429, "", failure.Transient, "status 429"},
		{500, `{"error":"` + token + `\n\u001b[31m"}`, failure.Transient, "[redacted]"},
		{502, "", failure.Transient, "status 502"},
		{503, `{"error":7}`, failure.Transient, "status 503"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status, test.body), func(t *testing.T) {
			var asked atomic.Int32
			client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
				asked.Add(1)
				writer.Header().Set("Location", "/elsewhere")
				writer.Header().Set("Retry-After", "7")
				writer.WriteHeader(test.status)
				_, _ = io.WriteString(writer, test.body)
			})
			_, err := client.FetchJWT(t.Context())
			got := expect(t, err, test.class, test.words)
			if got.RetryAfter != 7*time.Second {
				t.Errorf("retry after %s", got.RetryAfter)
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
			if strings.Contains(got.Error(), token[:20]) || strings.ContainsAny(got.Error(), "\n\x1b") {
				t.Errorf("a stranger's words came through: %q", got.Error())
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "30": 30 * time.Second, "999999999999": mostWait,
		date.Add(20 * time.Second).Format(http.TimeFormat): 20 * time.Second,
		date.Add(-time.Hour).Format(http.TimeFormat):       0,
	} {
		response := &http.Response{Header: http.Header{"Retry-After": {value}, "Date": {date.Format(http.TimeFormat)}}}
		if got := retryAfter(response); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	for _, row := range weathers {
		client := NewClient(constants("http://127.0.0.1:1"))
		client.web.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: row.cause}
		}
		_, err := client.FetchJWT(t.Context())
		expect(t, err, row.class, row.words)
	}
	words := map[string]bool{}
	for _, row := range weathers {
		words[row.words] = true
	}
	if len(words) != len(weathers) {
		t.Error("two reasons have the same words")
	}

	// The real ones that any machine has: nothing listens, and a listener that never answers.
	_, err := NewClient(constants("http://127.0.0.1:1")).FetchJWT(t.Context())
	expect(t, err, failure.Transient, syscall.ECONNREFUSED.Error())
	release := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	slow.site.Timeout = 50 * time.Millisecond
	_, err = slow.FetchJWT(t.Context())
	expect(t, err, failure.Transient, "no answer within 50ms")
	close(release)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = slow.FetchJWT(cancelled)
	expect(t, err, failure.Transient, "given up")
	broken := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
		writer.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(writer, "{")
	})
	_, err = broken.FetchJWT(t.Context())
	expect(t, err, failure.Transient, "unexpected EOF")
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	_, err = NewClient(constants(secure.URL)).FetchJWT(t.Context())
	expect(t, err, failure.Config, "certificate")
}

// answerOf is the service's answer with these claims.
func answerOf(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return `{"jwt":"eyJ9.` + base64.RawURLEncoding.EncodeToString(payload) + `.c2ln","expires_in":60}`
}

func TestClaims(t *testing.T) {
	good := func() map[string]any {
		return map[string]any{"iss": "https://a", "sub": "vm:x", "aud": "vault", "iat": 1000, "nbf": 970, "exp": 1060, "jti": "id",
			"vm_uuid": "1B4E28BA-2fa1-11d2-883f-0016d3cca427", "node": "web-1"}
	}
	with := func(name string, value any) string {
		claims := good()
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
		return answerOf(t, claims)
	}
	tests := []struct{ name, body, words string }{
		{"good", with("x", 1), ""},
		{"list of one", with("aud", []string{"vault"}), ""},
		{"other audience", with("aud", "consul"), "AUDIENCE"},
		{"two audiences", with("aud", []string{"vault", "consul"}), "AUDIENCE"},
		{"no audience", with("aud", nil), "AUDIENCE"},
		{"odd audience", with("aud", 7), "AUDIENCE"},
		{"no issuer", with("iss", nil), "no text as iss"},
		{"empty issuer", with("iss", ""), "iss is malformed"},
		{"no subject", with("sub", nil), "no text as sub"},
		{"line in subject", with("sub", "a\nb"), "sub is malformed"},
		{"no id", with("jti", nil), "no text as jti"},
		{"no node", with("node", nil), "no text as node"},
		{"upper-case node", with("node", "Web"), "node is malformed"},
		{"node with a dot", with("node", "a.b"), "node is malformed"},
		{"node is a number", with("node", 1), "no text as node"},
		{"node's twin", func() string { c := good(); delete(c, "node"); c["Node"] = "evil"; return answerOf(t, c) }(), "no text as node"},
		{"no uuid", with("vm_uuid", nil), "no text as vm_uuid"},
		{"odd uuid", with("vm_uuid", "1b4e28ba"), "vm_uuid is malformed"},
		{"no exp", with("exp", nil), "no iat or no exp"},
		{"exp is a text", with("exp", "soon"), "no iat or no exp"},
		{"expired at birth", with("exp", 1000), "lasts 0 seconds"},
		{"for ever", with("exp", 1e300), "lasts 1"},
		{"not JSON", "jwt", "not JSON"},
		{"no jwt", "{}", "not JSON with a jwt"},
		{"not a JWT", `{"jwt":"abc"}`, "three parts"},
		{"not base64", `{"jwt":"a.!.c"}`, "not base64"},
		{"claims no JSON", `{"jwt":"a.YQ.c"}`, "not JSON"},
		{"claims null", `{"jwt":"a.bnVsbA.c"}`, "not JSON"},
		{"unsigned", `{"jwt":"a.e30."}`, "three parts"},
		{"large", `{"jwt":"` + strings.Repeat("a", mostAnswer) + `"}`, "larger than 64 KiB"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
				if request.Method != http.MethodPost || request.Header.Get(guardHeader) != guardValue || request.FormValue("audience") != "vault" {
					t.Errorf("asked %s %v", request.Method, request.Header)
				}
				writer.Header()["Date"] = nil
				_, _ = io.WriteString(writer, test.body)
			})
			grant, err := client.FetchJWT(t.Context())
			switch test.words {
			case "":
				if err != nil || grant.Identity.NodeID != "1b4e28ba-2fa1-11d2-883f-0016d3cca427" || grant.TTL != time.Minute || grant.ID != "id" || !grant.Date.IsZero() {
					t.Errorf("%+v (%v)", grant, err)
				}
			case "AUDIENCE":
				expect(t, err, failure.Identity, "it is for the audience")
			default:
				expect(t, err, failure.Config, test.words)
			}
			if err != nil && !grant.Text.Empty() {
				t.Error("an error and a token at once")
			}
		})
	}
}
