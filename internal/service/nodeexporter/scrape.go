package nodeexporter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"pawl/internal/failure"
)

// newClient returns a client that asks as Consul's check asks: a connection of
// its own each time, never through a proxy.
func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Scrape makes one GET of our own metrics page over the socket. It returns nil
// only when we listen and the page came whole, with 200 and a body. The listener
// is asked for first, since somebody else's server on our port answers 200 too.
func (e *Exporter) Scrape(ctx context.Context) error {
	e.lock.Lock()
	address, cause := e.address, e.failure
	e.lock.Unlock()
	if address == nil {
		err := failure.New(failure.Local, failure.RemoteExporter, "scrape node_exporter: not listening on %s: %w", e.site.Listen, cause)
		if errors.Is(cause, syscall.EADDRINUSE) {
			return err.WithFix("stop what else listens on " + e.site.Listen + " on this VM, for instance a node_exporter of its own")
		}
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(address)+metricsPath, nil)
	if err != nil {
		return failure.New(failure.Bug, failure.RemoteExporter, "scrape node_exporter: %w", err)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return failure.New(classify(err), failure.RemoteExporter, "scrape node_exporter: %w", err)
	}
	defer response.Body.Close()
	length, err := io.Copy(io.Discard, response.Body)
	switch {
	case err != nil:
		return failure.New(classify(err), failure.RemoteExporter, "scrape node_exporter: read the page: %w", err)
	case response.StatusCode != http.StatusOK:
		return failure.New(failure.Local, failure.RemoteExporter, "scrape node_exporter: it answered %s", response.Status)
	case length == 0:
		return failure.New(failure.Local, failure.RemoteExporter, "scrape node_exporter: it answered an empty page")
	}
	return nil
}

// classify: slow may pass by itself; everything else is this machine's own trouble.
func classify(err error) failure.Class {
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() || errors.Is(err, context.Canceled) {
		return failure.Transient
	}
	return failure.Local
}

// reachable turns the address of a listener on every interface into one to connect to.
func reachable(address net.Addr) string {
	tcp, is := address.(*net.TCPAddr)
	if !is || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	copied := *tcp
	copied.IP = net.IPv6loopback
	if tcp.IP.To4() != nil {
		copied.IP = net.IPv4(127, 0, 0, 1)
	}
	return copied.String()
}
