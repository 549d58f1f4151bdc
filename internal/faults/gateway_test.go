package faults

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

const truth = `{"data":"what the far end says to everything"}`

// gateway is one before a far end that knows only the truth, and a client of it.
func gateway(t *testing.T) (*Gateway, func(path string) (status int, header http.Header, body string, err error)) {
	t.Helper()
	farEnd := httptest.NewTLSServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(writer, truth) }))
	t.Cleanup(farEnd.Close)
	roots := x509.NewCertPool()
	roots.AddCert(farEnd.Certificate())
	made, err := ListenGateway("127.0.0.1:0", farEnd.TLS.Certificates[0], farEnd.URL, roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: enough,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return made, func(path string) (int, http.Header, string, error) {
		response, err := client.Get("https://" + made.Address() + path)
		if err != nil {
			return 0, nil, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		return response.StatusCode, response.Header, string(body), err
	}
}

func TestGatewayPassesOn(t *testing.T) {
	made, get := gateway(t)
	if status, _, body, err := get("/v1/a"); status != http.StatusOK || body != truth || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if visits := made.Visits(); len(visits) != 1 || visits[0].Path != "/v1/a" || visits[0].Troubled {
		t.Errorf("visits %+v", visits)
	}
}

func TestGatewayAnswers(t *testing.T) {
	made, get := gateway(t)
	made.Set(Answer{Paths: []string{"/v1/"}, But: []string{"/v1/sys/health"}, Status: 429, Header: map[string]string{"Retry-After": "7"}, Body: "later"})
	if status, header, body, err := get("/v1/a"); status != 429 || header.Get("Retry-After") != "7" || body != "later" || err != nil {
		t.Errorf("%d %v %q %v", status, header, body, err)
	}
	for _, path := range []string{"/v1/sys/health", "/v2"} {
		if status, _, body, err := get(path); status != http.StatusOK || body != truth || err != nil {
			t.Errorf("%s: %d %q %v", path, status, body, err)
		}
	}
	if visits := made.Visits(); !visits[0].Troubled || visits[1].Troubled {
		t.Errorf("visits %+v", visits)
	}
	made.Set(Answer{})
	if status, _, _, err := get("/v1/a"); status != http.StatusOK || err != nil {
		t.Errorf("afterwards: %d %v", status, err)
	}
}

func TestGatewaySpoils(t *testing.T) {
	made, get := gateway(t)
	made.Set(Answer{Cut: true})
	if status, _, body, err := get("/"); status != http.StatusOK || body == truth || !strings.HasPrefix(truth, body) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %d %q %v", status, body, err)
	}
	made.Set(Answer{Garbage: true})
	if status, _, body, err := get("/"); status != http.StatusOK || len(body) != len(truth) || body == truth || err != nil {
		t.Errorf("garbage: %d %q %v", status, body, err)
	}
	made.Set(Answer{Endless: true})
	if _, _, body, _ := get("/"); len(body) != 1<<20 {
		t.Errorf("endless: it ended after %d bytes", len(body))
	}
}

func TestGatewayDelays(t *testing.T) {
	made, get := gateway(t)
	made.Set(Answer{Delay: short})
	began := time.Now()
	if _, _, body, err := get("/"); body != truth || err != nil || time.Since(began) < short {
		t.Errorf("%q after %s, %v", body, time.Since(began), err)
	}
	made.Set(Answer{Delay: time.Hour})
	answered := make(chan error, 1)
	go func() {
		_, _, _, err := get("/")
		answered <- err
	}()
	for len(made.Visits()) < 2 {
		runtime.Gosched()
	}
	made.Set(Answer{})
	if err := <-answered; err != nil {
		t.Errorf("let go: %v", err)
	}
}
