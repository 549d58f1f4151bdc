package faults

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Answer is what a Gateway says in place of the far end, or makes of what the
// far end says. The zero Answer passes everything on.
type Answer struct {
	// Paths are the beginnings of the paths it is for; none: every path. But are
	// beginnings that are passed on all the same.
	Paths, But []string
	// Status, where not zero, is answered at once, with Header and Body; the far end is not asked.
	Status int
	Header map[string]string
	Body   string
	// Delay is waited for before the far end is asked, or Status is answered.
	Delay time.Duration
	// Cut passes the head and half of the body on and then breaks the connection off.
	Cut bool
	// Garbage puts noise of the same length in the place of the body.
	Garbage bool
	// Endless never stops to send a body.
	Endless bool
}

// troubles says whether it makes anything of an answer for this path.
func (a Answer) troubles(path string) bool {
	if a.Status == 0 && a.Delay == 0 && !a.Cut && !a.Garbage && !a.Endless {
		return false
	}
	begins := func(with string) bool { return strings.HasPrefix(path, with) }
	return (len(a.Paths) == 0 || slices.ContainsFunc(a.Paths, begins)) && !slices.ContainsFunc(a.But, begins)
}

// Visit is one request that came to a Gateway.
type Visit struct {
	At   time.Time
	Path string
	// Troubled says that it did not get the far end's own answer.
	Troubled bool
}

// Gateway is a proxy of HTTP that ends TLS as the far end would. Safe from any goroutine.
type Gateway struct {
	server  *http.Server
	proxy   *httputil.ReverseProxy
	address string

	mutex   sync.Mutex
	answer  Answer
	changed chan struct{} // closed and made anew with every Set
	visits  []Visit
}

// ListenGateway opens address with a certificate, and passes requests on to the
// far end at target (https), whose certificate must be by one of roots.
func ListenGateway(address string, certificate tls.Certificate, target string, roots *x509.CertPool) (*Gateway, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("open gateway: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open gateway: %w", err)
	}
	silent := log.New(io.Discard, "", 0)
	g := &Gateway{address: listener.Addr().String(), changed: make(chan struct{}), proxy: &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(to) },
		// A connection for each request: what the far end does to its connections is
		// not hidden behind ours.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		ErrorLog:  silent,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // the far end is away: so are we
		},
	}}
	g.server = &http.Server{Handler: g, ErrorLog: silent, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}}
	go func() { _ = g.server.ServeTLS(listener, "", "") }()
	return g, nil
}

// Address is where it listens.
func (g *Gateway) Address() string { return g.address }

// Set answers so from now on. Requests that are held back are let go.
func (g *Gateway) Set(answer Answer) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.answer = answer
	close(g.changed)
	g.changed = make(chan struct{})
}

// Visits returns the requests that came, in their order.
func (g *Gateway) Visits() []Visit {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return slices.Clone(g.visits)
}

// Close ends the listener and every connection.
func (g *Gateway) Close() error {
	g.Set(Answer{})
	return g.server.Close()
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	g.mutex.Lock()
	answer, changed := g.answer, g.changed
	troubled := answer.troubles(request.URL.Path)
	g.visits = append(g.visits, Visit{At: time.Now(), Path: request.URL.Path, Troubled: troubled})
	g.mutex.Unlock()
	if !troubled {
		g.proxy.ServeHTTP(writer, request)
		return
	}
	if answer.Delay > 0 {
		wait(answer.Delay, changed)
	}
	switch {
	case answer.Endless:
		for noise := bytes.Repeat([]byte(" "), 1<<16); ; {
			if _, err := writer.Write(noise); err != nil {
				return
			}
		}
	case answer.Status != 0:
		for name, value := range answer.Header {
			writer.Header().Set(name, value)
		}
		writer.WriteHeader(answer.Status)
		_, _ = io.WriteString(writer, answer.Body)
	case answer.Cut, answer.Garbage:
		g.spoil(writer, request, answer)
	default:
		g.proxy.ServeHTTP(writer, request)
	}
}

// spoil has the far end do what was asked, and spoils what it says to that.
func (g *Gateway) spoil(writer http.ResponseWriter, request *http.Request, answer Answer) {
	said := &recorded{header: http.Header{}, status: http.StatusOK}
	g.proxy.ServeHTTP(said, request)
	body := said.body.Bytes()
	maps.Copy(writer.Header(), said.header)
	writer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if answer.Garbage {
		_, _ = rand.Read(body) // never fails: it crashes the program instead
	}
	writer.WriteHeader(said.status)
	if !answer.Cut {
		_, _ = writer.Write(body)
		return
	}
	_, _ = writer.Write(body[:len(body)/2])
	_ = http.NewResponseController(writer).Flush()
	panic(http.ErrAbortHandler)
}

// recorded takes an answer whole.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header             { return r.header }
func (r *recorded) WriteHeader(status int)          { r.status = status }
func (r *recorded) Write(piece []byte) (int, error) { return r.body.Write(piece) }
