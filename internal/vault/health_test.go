package vault

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"pawl/internal/failure"
)

// TestHealthy: the active node and the standbys that pass requests on (faults.md F18).
func TestHealthy(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
	}{
		"active":              {200, `{"initialized":true,"sealed":false,"standby":false}`},
		"standby":             {429, `{"initialized":true,"sealed":false,"standby":true}`},
		"performance standby": {473, `{"initialized":true,"sealed":false,"standby":true,"performance_standby":true}`},
	} {
		asked := 0
		client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
			asked++
			if request.Method != http.MethodGet || request.URL.Path != "/v1/sys/health" || request.Header.Get("X-Vault-Token") != "" {
				t.Errorf("%s: asked %s %s with token %q", name, request.Method, request.URL.Path, request.Header.Get("X-Vault-Token"))
			}
			writer.WriteHeader(row.status)
			_, _ = io.WriteString(writer, row.body)
		})
		if err := client.Healthy(t.Context()); err != nil || asked != 1 {
			t.Errorf("%s: asked %d times, %v", name, asked, err)
		}
	}
}

// TestHealthHasNoNamespace: sys/health answers in the root namespace only.
func TestHealthHasNoNamespace(t *testing.T) {
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		if namespace := request.Header.Get("X-Vault-Namespace"); namespace != "" {
			t.Errorf("namespace %q", namespace)
		}
		_, _ = io.WriteString(writer, `{"initialized":true}`)
	})
	client.api.SetNamespace("team-a")
	if err := client.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	if got := client.api.Headers().Get("X-Vault-Namespace"); got != "team-a" {
		t.Errorf("the probe changed everybody's namespace to %q", got)
	}
}

// TestSilentHealth: a Vault that takes the connection and says nothing.
func TestSilentHealth(t *testing.T) {
	release := make(chan struct{})
	client := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got := failure.Of(client.Healthy(ctx)); got == nil || got.Class != failure.Transient || got.Remote != failure.RemoteVault {
		t.Errorf("got %+v", got)
	}
}
