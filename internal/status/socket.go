package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pawl/internal/site"
)

// socketName is the status socket in the site's runtime folder.
const socketName = "pawl.sock"

// ErrNoAgent says that nothing answers on the status socket.
var ErrNoAgent = errors.New("no agent answers")

// SocketPath returns where the agent of a site serves its status.
func SocketPath(of site.Site) string { return filepath.Join(of.RuntimeFolder, socketName) }

// Server is the status socket: a service. It answers before the first JWT is
// fetched, and whatever the machine is busy with (law 10).
type Server struct {
	path   string
	source Source
	logger *slog.Logger
}

// NewServer returns the server of the socket at path; Serve binds it.
func NewServer(path string, source Source, logger *slog.Logger) *Server {
	return &Server{path: path, source: source, logger: logger}
}

// Name implements service.Service.
func (s *Server) Name() string { return "status" }

// Serve implements service.Service. The socket is the owner's alone (0600, in a
// 0700 folder); one left behind by a dead agent is replaced, a live one is not.
func (s *Server) Serve(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.path, err)
	case <-ctx.Done():
		_ = server.Close()
		<-served
		return nil
	}
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, fmt.Errorf("make the runtime folder of the status socket: %w", err)
	}
	// A socket file outlives its process. Only one that nobody answers on is removed.
	if connection, err := net.Dial("unix", s.path); err == nil {
		_ = connection.Close()
		return nil, fmt.Errorf("bind %s: another agent answers there; stop it first", s.path)
	} else if left, _ := os.Lstat(s.path); errors.Is(err, syscall.ECONNREFUSED) && left != nil && left.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(s.path)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", s.path)
	if err != nil {
		return nil, fmt.Errorf("bind %s: %w", s.path, err)
	}
	if err := os.Chmod(s.path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("bind %s: %w", s.path, err)
	}
	return listener, nil
}

func (s *Server) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /status", func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		_ = s.source.Dump(response)
	})
	routes.Handle("GET "+MetricsPath, s.source.Metrics())
	routes.HandleFunc("GET /livez", func(response http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(response, "ok\n")
	})
	routes.HandleFunc("GET /readyz", func(response http.ResponseWriter, _ *http.Request) {
		report := s.source.Report()
		if report.Verdict != VerdictReady {
			response.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(response).Encode(map[string]any{"verdict": report.Verdict, "state": report.State, "reasons": report.Reasons})
	})
	return routes
}

// Fetch asks the agent behind the socket for its report. Where nothing answers
// the error is ErrNoAgent.
func Fetch(ctx context.Context, path string) (Report, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pawl/status", nil)
	if err != nil {
		return Report{}, fmt.Errorf("ask %s: %w", path, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return Report{}, fmt.Errorf("ask %s: %w: %w", path, ErrNoAgent, err)
	}
	defer response.Body.Close()
	var report Report
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return Report{}, fmt.Errorf("read the report of %s: %w", path, err)
	}
	return report, nil
}
