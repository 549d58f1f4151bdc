// Package server owns the JWT service: who a VM is by the inventory, the token
// that says so, and the public documents by which Vault verifies it. It must
// import neither the machine nor any client, and knows nothing of Vault.
//
// The address a request comes from is the VM's identity, so everything that
// could speak in another's name is refused: a request without our guard header
// (a browser or a server tricked into a plain GET), one that was forwarded, one
// for a host that is not us (DNS rebinding). Nothing is ever redirected.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// GuardHeader must be on every identity request with the value GuardValue: a
// request forged through a careless program cannot set it.
const (
	GuardHeader = "X-Pawl-Metadata"
	GuardValue  = "1"
)

// The routes.
const (
	IdentityPath  = "/v1/identity"
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/.well-known/jwks.json"
	HealthPath    = "/healthz"
)

// The bounds of --ttl. A token that outlives an hour is a password.
const (
	shortestTTL = time.Second
	longestTTL  = time.Hour
)

// Settings is what a Server needs. Every field but Now must be set.
type Settings struct {
	// Issuer is the iss of every token and the base URL of the public documents.
	Issuer string
	// Listen is the address we are asked at, host:port, as far as it is known.
	Listen string
	// Audiences is the allow-list.
	Audiences []string
	TTL       time.Duration
	Key       *Key
	Inventory *Inventory
	Log       *slog.Logger
	// Now is the clock; nil for the real one.
	Now func() time.Time
}

// Server answers. Safe from any goroutine.
type Server struct {
	settings   Settings
	issuerHost string
	signer     jose.Signer
	inventory  atomic.Pointer[Inventory]
	routes     []route
}

// route is one row of the route table.
type route struct {
	path    string
	methods []string
	answer  func(http.ResponseWriter, *http.Request)
}

// New checks the settings and returns a Server.
func New(settings Settings) (*Server, error) {
	issuer, err := url.Parse(settings.Issuer)
	switch {
	case err != nil || issuer.Hostname() == "" || issuer.Scheme != "http" && issuer.Scheme != "https":
		return nil, fmt.Errorf("check the issuer: %q is not a URL; fix: write --issuer https://name", settings.Issuer)
	case issuer.Path != "" || issuer.RawQuery != "" || issuer.Fragment != "" || issuer.User != nil:
		return nil, fmt.Errorf("check the issuer: %q has more than a host and a port; fix: write --issuer https://name", settings.Issuer)
	case len(settings.Audiences) == 0 || slices.Contains(settings.Audiences, ""):
		return nil, errors.New("check the audiences: none, or an empty one; fix: write --audience vault")
	case settings.TTL < shortestTTL || settings.TTL > longestTTL || settings.TTL%time.Second != 0:
		return nil, fmt.Errorf("check the ttl: %s is not whole seconds from %s to %s; fix: write --ttl 5m", settings.TTL, shortestTTL, longestTTL)
	}
	if settings.Now == nil {
		settings.Now = time.Now
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: settings.Key.private}, options)
	if err != nil {
		return nil, fmt.Errorf("make a signer: %w", err)
	}
	server := &Server{settings: settings, issuerHost: issuer.Host, signer: signer}
	server.inventory.Store(settings.Inventory)
	read := []string{http.MethodGet, http.MethodHead}
	server.routes = []route{
		{IdentityPath, []string{http.MethodPost}, server.identity},
		{DiscoveryPath, read, server.discovery},
		{KeysPath, read, server.keys},
		{HealthPath, read, server.health},
	}
	return server, nil
}

// Replace puts another inventory in place; requests under way keep theirs.
func (s *Server) Replace(inventory *Inventory) { s.inventory.Store(inventory) }

// ServeHTTP implements http.Handler. The path must match as it stands: nothing
// is cleaned and redirected.
func (s *Server) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	at := slices.IndexFunc(s.routes, func(route route) bool { return route.path == request.URL.Path })
	if at < 0 {
		s.refuse(writer, request, &refusal{http.StatusNotFound, "there is nothing at " + quote(request.URL.Path), "ask POST " + IdentityPath})
		return
	}
	if methods := s.routes[at].methods; !slices.Contains(methods, request.Method) {
		writer.Header().Set("Allow", strings.Join(methods, ", "))
		s.refuse(writer, request, &refusal{http.StatusMethodNotAllowed, "method " + quote(request.Method) + " is not for " + request.URL.Path, "use " + methods[0]})
		return
	}
	s.routes[at].answer(writer, request)
}

// Serve answers on listener until ctx ends, then lets requests under way finish
// within five seconds. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	web := &http.Server{
		Handler: s,
		// Every bound is far above what a VM needs and far below what a slow attacker wants.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.settings.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := web.Shutdown(finish)
	<-ended
	if err != nil {
		return errors.Join(fmt.Errorf("stop serving: %w", err), web.Close())
	}
	return nil
}
