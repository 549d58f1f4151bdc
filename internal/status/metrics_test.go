package status

import (
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/fsm"
	"pawl/internal/service"
	"pawl/transitions"
)

// TestMetrics: every series is there from the first scrape on, before any JWT was
// fetched (law 10); the golden lists them, so that no dashboard breaks unnoticed.
// After a wanted change: UPDATE=1 go test ./internal/status
func TestMetrics(t *testing.T) {
	machine, err := fsm.New(fsm.Options{Arrows: transitions.Arrows(), Settings: transitions.Settings{Now: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	source := Source{
		About: About{Version: "v", Site: "s", SiteHash: "h", Crashes: []time.Time{time.Now(), time.Now()}}, Snapshot: machine.Snapshot, Now: time.Now,
		Services: func() []service.Status { return []service.Status{{Name: "consul", Running: true}} },
	}
	recorder := httptest.NewRecorder()
	source.Metrics().ServeHTTP(recorder, httptest.NewRequest("GET", MetricsPath, nil))
	text, err := io.ReadAll(recorder.Body)
	if err != nil || recorder.Code != 200 {
		t.Fatalf("code %d, %v: %s", recorder.Code, err, text)
	}
	var series []string
	for line := range strings.Lines(string(text)) {
		if name, _, found := strings.Cut(strings.TrimSpace(line), " "); found && !strings.HasPrefix(line, "#") {
			series = append(series, name)
		}
	}
	slices.Sort(series)
	got := []byte(strings.Join(series, "\n") + "\n")
	const golden = "../../testdata/metrics.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the series are not those of %s (%v); got:\n%s", golden, err, got)
	}
	if !strings.Contains(string(text), `pawl_state{state="NoIdentity"} 1`) || !strings.Contains(string(text), `pawl_state{state="Serving"} 0`) || !strings.Contains(string(text), "pawl_recent_crashes 2\n") {
		t.Errorf("a bare machine says:\n%s", text)
	}
}
