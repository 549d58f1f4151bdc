package nodeexporter

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/site"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testSite(listen string) site.NodeExporter {
	return site.NodeExporter{Listen: listen, CheckTimeout: 10 * time.Second}
}

// start serves an exporter until the test ends and waits until it has bound.
func start(t *testing.T, listen string) *Exporter {
	t.Helper()
	exporter := New(testSite(listen), quiet())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- exporter.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	select {
	case <-exporter.Ready():
	case err := <-done:
		t.Fatalf("serve: %v", err)
	}
	return exporter
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// families returns "name type" for each family of a metrics page, and the collectors that ran.
func families(page string) (names, ran []string) {
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if rest, is := strings.CutPrefix(line, "# TYPE "); is {
			names = append(names, rest)
		}
		if rest, is := strings.CutPrefix(line, `node_scrape_collector_success{collector="`); is {
			ran = append(ran, rest) // with its value: the same collectors must succeed
		}
	}
	slices.Sort(names)
	slices.Sort(ran)
	return names, ran
}

// The stock binary of the same version, on the same machine, must show the same
// metric families with the same types, from the same collectors.
func TestSameFamiliesAsTheStockBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "node_exporter")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/prometheus/node_exporter").CombinedOutput(); err != nil {
		t.Fatalf("build the stock node_exporter: %v\n%s", err, out)
	}
	stock := exec.Command(binary, "--web.listen-address=127.0.0.1:0", "--log.format=json")
	stderr, err := stock.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stock.Process.Kill(); _ = stock.Wait() })
	address, lines := "", bufio.NewScanner(stderr)
	for listening := regexp.MustCompile(`"Listening on","address":"([^"]+)"`); address == "" && lines.Scan(); {
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			address = match[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()

	ours := start(t, "127.0.0.1:0")
	// Once before it counts: promhttp shows some of its own series only from the second scrape on.
	get(t, "http://"+address+"/metrics")
	get(t, "http://"+ours.Address().String()+"/metrics")
	_, stockPage := get(t, "http://"+address+"/metrics")
	_, ourPage := get(t, "http://"+ours.Address().String()+"/metrics")
	stockNames, stockRan := families(stockPage)
	ourNames, ourRan := families(ourPage)
	if len(stockRan) < 30 || len(stockNames) < 150 {
		t.Fatalf("the stock binary shows %d collectors and %d families: is this page whole?", len(stockRan), len(stockNames))
	}
	for _, each := range []struct {
		what       string
		stock, our []string
	}{{"families", stockNames, ourNames}, {"collectors", stockRan, ourRan}} {
		for _, name := range each.stock {
			if !slices.Contains(each.our, name) {
				t.Errorf("%s: stock has %s, we have not", each.what, name)
			}
		}
		for _, name := range each.our {
			if !slices.Contains(each.stock, name) {
				t.Errorf("%s: we have %s, stock has not", each.what, name)
			}
		}
	}
	t.Logf("%d families, %d collectors, the same in both", len(ourNames), len(ourRan))
}

func TestScrapeAndPages(t *testing.T) {
	exporter := start(t, "127.0.0.1:0")
	if err := exporter.Scrape(t.Context()); err != nil {
		t.Errorf("scrape: %v", err)
	}
	if err := exporter.Healthy(t.Context()); err != nil {
		t.Errorf("healthy: %v", err)
	}
	base := "http://" + exporter.Address().String()
	for _, row := range []struct {
		path     string
		status   int
		has, not string
	}{
		{"/", 200, "Metrics", "node_load1 "},
		{"/metrics", 200, "node_exporter_build_info", ""},
		{"/metrics?collect[]=loadavg", 200, "node_load1 ", "node_memory_MemTotal_bytes "},
		{"/metrics?exclude[]=loadavg", 200, "node_memory_MemTotal_bytes ", "node_load1 "},
		{"/metrics?collect[]=nonsense", 400, "missing collector", ""},
		{"/metrics?collect[]=loadavg&exclude[]=cpu", 400, "not for both", ""},
		{"/elsewhere", 404, "", ""},
	} {
		status, body := get(t, base+row.path)
		if status != row.status || !strings.Contains(body, row.has) || row.not != "" && strings.Contains(body, row.not) {
			t.Errorf("%s: got %d, want %d with %q and without %q", row.path, status, row.status, row.has, row.not)
		}
	}
}

// Somebody else's server on our port answers 200: that is not our exporter.
func TestTakenPortIsNeverWell(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	exporter := New(testSite(listener.Addr().String()), quiet())
	if err := exporter.Serve(t.Context()); err == nil {
		t.Fatal("serve on a taken port: want an error")
	}
	got := failure.Of(exporter.Scrape(t.Context()))
	if got == nil || got.Class != failure.Local || got.Remote != failure.RemoteExporter || !strings.Contains(got.Fix, listener.Addr().String()) {
		t.Errorf("scrape: got %+v, want a local failure with a fix that names the port", got)
	}
	if exporter.Healthy(t.Context()) == nil {
		t.Error("healthy without a listener")
	}
}

// What our listener answers must be a whole page with 200.
func TestBadAnswersAreLocalFailures(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"500":        func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) },
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"empty page": func(http.ResponseWriter, *http.Request) {},
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "up")
		},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: answer}
		go func() { _ = server.Serve(listener) }()
		exporter := New(testSite(listener.Addr().String()), quiet())
		exporter.address, exporter.failure = listener.Addr(), nil // as if it were ours
		if got := failure.Of(exporter.Scrape(t.Context())); got == nil || got.Class != failure.Local || got.Remote != failure.RemoteExporter {
			t.Errorf("%s: got %v", what, got)
		}
		_ = server.Close()
		if got := failure.Of(exporter.Scrape(t.Context())); got == nil || got.Class != failure.Local {
			t.Errorf("%s, then refused: got %v", what, got)
		}
	}
}

// The supervisor calls Serve again: the port is bound anew, and the metrics are the same.
func TestServesAgainAfterAStop(t *testing.T) {
	exporter := New(testSite("127.0.0.1:0"), quiet())
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- exporter.Serve(ctx) }()
		for exporter.Address() == nil && ctx.Err() == nil {
			select {
			case err := <-done:
				t.Fatal(err)
			case <-time.After(time.Millisecond): // no event tells of a second bind
			}
		}
		if err := exporter.Scrape(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := failure.Of(exporter.Scrape(t.Context())); got == nil || got.Class != failure.Local {
			t.Errorf("scrape after the stop: %v", got)
		}
	}
}

// Other arguments in the same process cannot work: the collectors' switches are global.
func TestArgumentsAreParsedOnce(t *testing.T) {
	if _, err := newHandler(nil, quiet()); err != nil {
		t.Fatal(err)
	}
	if _, err := newHandler([]string{"--no-collector.cpu"}, quiet()); err == nil {
		t.Error("other arguments were taken")
	}
}
