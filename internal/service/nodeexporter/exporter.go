// Package nodeexporter owns the embedded node_exporter: the collectors of
// v1.12.1 in this process, with the metric families of the stock binary, served
// by exporter-toolkit on the site's port. It also asks itself what Consul's check
// will ask. It must never import fsm, transitions, Consul or Vault.
package nodeexporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"pawl/internal/site"
)

const (
	// metricsPath is what Prometheus and Consul's check ask for.
	metricsPath = "/metrics"
	// stopTimeout is how long a scrape that is under way may finish; the slowest
	// default collector takes far less.
	stopTimeout = time.Second
	// headerTimeout bounds a client that connects and says nothing.
	headerTimeout = 10 * time.Second
)

// Exporter is the service. It implements service.Service, service.Healther and
// the machine's Exporter port. Build it with New.
type Exporter struct {
	site    site.NodeExporter
	logger  *slog.Logger
	client  *http.Client
	ready   chan struct{}
	once    sync.Once
	lock    sync.Mutex
	address net.Addr // nil while we do not listen
	failure error    // why we do not listen
	// besides are further pages of the port, by path.
	besides map[string]http.Handler
	// listener is the one in use; inherited waits for the first Serve.
	listener, inherited net.Listener
}

// New returns an exporter for the site. It does nothing yet: Serve binds.
func New(of site.NodeExporter, logger *slog.Logger) *Exporter {
	return &Exporter{
		site:    of,
		logger:  logger,
		client:  newClient(of.CheckTimeout),
		ready:   make(chan struct{}),
		failure: errors.New("not started yet"),
	}
}

// Name implements service.Service.
func (e *Exporter) Name() string { return "node_exporter" }

// Ready is closed when the port was bound for the first time in this process.
func (e *Exporter) Ready() <-chan struct{} { return e.ready }

// Address is where it listens, nil while it does not. Safe from any goroutine.
func (e *Exporter) Address() net.Addr {
	e.lock.Lock()
	defer e.lock.Unlock()
	return e.address
}

// Besides serves another page on the exporter's port, such as the metrics of the
// process itself: /metrics stays what the stock binary's is. Call it before Serve.
func (e *Exporter) Besides(path string, page http.Handler) {
	if e.besides == nil {
		e.besides = map[string]http.Handler{}
	}
	e.besides[path] = page
}

// Inherit has the first Serve take over a listener that the process before this
// one left open, if it is one of the site's address: no scrape is refused between
// the two. Call it before Serve.
func (e *Exporter) Inherit(listener net.Listener) { e.inherited = listener }

// HandOver returns a descriptor of the listener for the process that comes next.
// What connects meanwhile waits in its queue. Safe from any goroutine.
func (e *Exporter) HandOver() (*os.File, error) {
	e.lock.Lock()
	defer e.lock.Unlock()
	listener, is := e.listener.(*net.TCPListener)
	if !is || e.address == nil {
		return nil, fmt.Errorf("hand over the listener: %w", e.failure)
	}
	return listener.File()
}

// listen binds the site's address, or takes over the listener that was left open.
func (e *Exporter) listen(ctx context.Context) (net.Listener, error) {
	inherited := e.inherited
	e.inherited = nil
	if inherited != nil {
		if same(inherited.Addr().String(), e.site.Listen) {
			return inherited, nil
		}
		_ = inherited.Close()
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", e.site.Listen)
}

// same reports whether a listener's address is what the site says, where an empty
// host means every address.
func same(address, wanted string) bool {
	host, port, err := net.SplitHostPort(wanted)
	if err != nil {
		return false
	}
	boundHost, boundPort, err := net.SplitHostPort(address)
	return err == nil && port == boundPort && (host == boundHost || host == "" && net.ParseIP(boundHost).IsUnspecified())
}

// Serve binds the site's port and answers scrapes until ctx is done. It returns
// an error when it cannot bind, or when its listener dies: the supervisor calls again.
func (e *Exporter) Serve(ctx context.Context) error {
	err := e.serve(ctx)
	e.lock.Lock()
	e.address, e.failure = nil, err
	if err == nil {
		e.failure = errors.New("stopped")
	}
	e.lock.Unlock()
	return err
}

func (e *Exporter) serve(ctx context.Context) error {
	handler, err := newHandler(e.site.Arguments, e.logger)
	if err != nil {
		return fmt.Errorf("build collectors: %w", err)
	}
	pages, err := newPages(handler, e.besides)
	if err != nil {
		return err
	}
	listener, err := e.listen(ctx)
	if err != nil {
		return fmt.Errorf("bind %s: %w", e.site.Listen, err)
	}
	e.lock.Lock()
	e.listener, e.address, e.failure = listener, listener.Addr(), nil
	e.lock.Unlock()
	e.once.Do(func() { close(e.ready) })

	accepted := newConnections()
	server := &http.Server{
		Handler:           pages,
		ConnState:         accepted.follow,
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(e.logger.Handler(), slog.LevelWarn),
	}
	noFile := "" // no TLS and no users: the site's network is the guard, as with the stock binary
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener, server, &web.FlagConfig{WebConfigFile: &noFile}, e.logger) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", e.site.Listen, err)
	case <-ctx.Done():
	}
	server.SetKeepAlivesEnabled(false) // an answer is the connection's last
	_ = listener.Close()
	<-served // from here on nobody is accepted
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	accepted.drain(stop)
	_ = server.Close() // what did not finish in time is cut off
	return nil
}

// Healthy implements service.Healther: nil while the port is bound.
func (e *Exporter) Healthy(context.Context) error {
	e.lock.Lock()
	defer e.lock.Unlock()
	if e.address == nil {
		return fmt.Errorf("not listening on %s: %w", e.site.Listen, e.failure)
	}
	return nil
}
