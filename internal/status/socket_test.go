package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pawl/internal/service"
	"pawl/internal/site"
	"pawl/states"
)

var _ service.Service = (*Server)(nil)

// socketPath is short: a unix socket's path has about a hundred bytes at most.
func socketPath(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "pawl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return filepath.Join(folder, "run", "pawl.sock")
}

func newServer(path string, source Source) *Server {
	return NewServer(path, source, slog.New(slog.DiscardHandler))
}

// serve serves until the test ends; when it returns, the socket answers.
func serve(t *testing.T, path string, source Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- newServer(path, source).Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	limit, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	for { // a socket tells nobody that it was bound; it takes microseconds
		_, err := Fetch(limit, path)
		if err == nil {
			return stop
		}
		if limit.Err() != nil {
			t.Fatalf("the socket does not answer: %v", err)
		}
	}
}

func TestFetch(t *testing.T) {
	snapshot, now := machineOf(t, planted)
	source, path := sourceOf(snapshot, now), socketPath(t)
	serve(t, path, source)

	report, err := Fetch(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(source.Report())
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("fetched\n%s\nwant\n%s", got, want)
	}
	if report.Verdict != VerdictReady || report.State != states.Serving || report.PID != 42 {
		t.Errorf("fetched %+v", report)
	}
}

func TestFetchWithoutAnAgent(t *testing.T) {
	path := socketPath(t)
	if _, err := Fetch(t.Context(), path); !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v, want ErrNoAgent and the path", err)
	}
	stale(t, path)
	if _, err := Fetch(t.Context(), path); !errors.Is(err, ErrNoAgent) {
		t.Errorf("a socket left behind: %v, want ErrNoAgent", err)
	}
}

// What answers, but not as an agent does, is not the absence of one.
func TestFetchFromSomethingElse(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() { _ = server.Close(); <-done }()
	if _, err := Fetch(t.Context(), path); err == nil || errors.Is(err, ErrNoAgent) {
		t.Errorf("fetched from a stranger: %v", err)
	}
}

func TestFetchHonoursItsContext(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path) // accepts by its backlog, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Fetch(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fetched from an agent that hangs: %v", err)
	}
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	path := socketPath(t)
	snapshot, now := machineOf(t, bare)
	stop := serve(t, path, sourceOf(snapshot, now))
	for what, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, filepath.Dir(path): os.ModeDir | 0o700} {
		info, err := os.Stat(what)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", what, info.Mode(), err, want)
		}
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after the stop: %v", err)
	}
}

// stale leaves a socket behind, as a killed agent does.
func stale(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	stale(t, path)
	snapshot, now := machineOf(t, bare)
	serve(t, path, sourceOf(snapshot, now))
	report, err := Fetch(t.Context(), path)
	if err != nil || report.State != states.NoIdentity || report.Verdict != VerdictWaiting {
		t.Errorf("fetched %+v, %v", report.Verdict, err)
	}
}

func TestLiveSocketIsRefused(t *testing.T) {
	path := socketPath(t)
	snapshot, now := machineOf(t, bare)
	source := sourceOf(snapshot, now)
	serve(t, path, source)
	limit, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := newServer(path, source).Serve(limit); err == nil || !strings.Contains(err.Error(), "another agent answers there") {
		t.Errorf("a second agent on the socket: %v", err)
	}
	if _, err := Fetch(t.Context(), path); err != nil {
		t.Errorf("the refusal cost the first agent its socket: %v", err)
	}
}

func TestRoutes(t *testing.T) {
	serving, now := machineOf(t, planted)
	nothing, start := machineOf(t, bare)
	rows := []struct {
		name   string
		source Source
		route  string
		status int
		want   string
	}{
		{"alive, bare", sourceOf(nothing, start), "/livez", 200, "ok\n"},
		{"alive, stale: the process is", sourceOf(serving, now.Add(time.Hour)), "/livez", 200, "ok\n"},
		{"ready", sourceOf(serving, now), "/readyz", 200, `"verdict":"ready"`},
		{"not ready, bare", sourceOf(nothing, start), "/readyz", 503, `"state":"NoIdentity"`},
		{"not ready, stale", sourceOf(serving, now.Add(time.Hour)), "/readyz", 503, `"verdict":"broken"`},
		{"status", sourceOf(serving, now), "/status", 200, `"verdict":"ready"`},
		{"elsewhere", sourceOf(serving, now), "/else", 404, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := socketPath(t)
			serve(t, path, row.source)
			transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
			response, err := (&http.Client{Transport: transport}).Get("http://pawl" + row.route)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != row.status || !strings.Contains(string(body), row.want) {
				t.Errorf("%d %s (%v), want %d with %q", response.StatusCode, body, err, row.status, row.want)
			}
			if strings.Contains(string(body), canary) {
				t.Errorf("a secret came out: %s", body)
			}
		})
	}
}

func TestSocketPath(t *testing.T) {
	var of site.Site
	of.RuntimeFolder = "/run/pawl"
	if got := SocketPath(of); got != "/run/pawl/pawl.sock" {
		t.Errorf("socket at %s", got)
	}
	if got := newServer("x", Source{}).Name(); got != "status" {
		t.Errorf("named %s", got)
	}
}

// Only a socket that nobody answers on is removed; anything else is somebody's.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	limit, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	snapshot, now := machineOf(t, bare)
	if err := newServer(path, sourceOf(snapshot, now)).Serve(limit); err == nil {
		t.Error("served on a path that a file has")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file is %q, %v", text, err)
	}
}
