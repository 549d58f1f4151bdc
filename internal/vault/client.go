// Package vault owns the client of the site's Vault: one method an attempt, and
// the one table that says what each of Vault's answers means. It is the only
// importer of hashicorp/vault/api and must import neither the machine nor
// another client.
//
// The library is kept on a short leash: no retries (the machine backs off), no
// LifetimeWatcher, no environment, no proxy, and only the site's CA roots.
package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"pawl/internal/clock"
	"pawl/internal/dial"
	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/internal/site"
	"pawl/transitions"
)

const (
	// mostAnswer bounds what is read of an answer; the longest, a certificate with
	// its chain, has a few KiB.
	mostAnswer = 1 << 20
	// youth is how long after its login a token that is refused may merely be
	// unknown to the node that was asked (faults.md F18). Replication takes
	// milliseconds; longer would hide a revocation.
	youth = 2 * time.Second
	// redirected is what we say of a redirect that led to another one.
	redirected = "redirected twice: no active node"
)

// Client implements transitions.Vault. Safe from any goroutine.
type Client struct {
	site site.Vault
	// domain is what follows a node's name in its certificate: node.<dc>.<domain>.
	domain string
	api    *api.Client
	web    *http.Client
	tls    *tls.Config
	now    func() time.Time
	// youngest is the last login.
	youngest atomic.Pointer[birth]
}

type birth struct {
	token secret.Secret
	at    time.Time
}

var _ transitions.Vault = (*Client)(nil)

// New returns a client of the site's Vault. It connects to nothing yet. Call it
// once, before other goroutines read the environment.
func New(constants site.Site) (*Client, error) {
	roots := x509.NewCertPool()
	for _, certificate := range constants.Roots() {
		roots.AddCert(certificate)
	}
	secured := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	web := &http.Client{
		Transport: &bounded{&http.Transport{
			Proxy:               nil,
			DialContext:         dial.New(constants.Resolver).DialContext,
			TLSClientConfig:     secured,
			TLSHandshakeTimeout: 5 * time.Second,
			// HTTP/1.1: a lost HTTP/2 connection would take every request under way with
			// it. Two idle ones serve the two requests made side by side.
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
			MaxIdleConnsPerHost: 2,
			IdleConnTimeout:     30 * time.Second,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var library *api.Client
	err := withoutEnvironment("VAULT_", func() (err error) {
		library, err = api.NewClient(&api.Config{
			Address:        constants.Vault.Address,
			HttpClient:     web,
			MaxRetries:     0,
			CheckRetry:     func(context.Context, *http.Response, error) (bool, error) { return false, nil },
			ReadYourWrites: true,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of vault at %s: %w", constants.Vault.Address, err)
	}
	// The library's default looks into the environment at every request.
	library.SetWrappingLookupFunc(func(string, string) string { return "" })
	if constants.Vault.Namespace != "" {
		library.SetNamespace(constants.Vault.Namespace)
	}
	return &Client{
		site: constants.Vault, domain: "node." + constants.Consul.Datacenter + "." + constants.Consul.Domain,
		api: library, web: web, tls: secured, now: time.Now,
	}, nil
}

// UseClock has Vault's certificate judged by the corrected time, and the clock
// told what time Vault has. Call it before the first attempt.
func (c *Client) UseClock(of *clock.Clock) {
	c.tls.Time = of.Now
	c.web.Transport = of.Watch(c.web.Transport)
}

// Close gives idle connections back.
func (c *Client) Close() { c.web.CloseIdleConnections() }

// withoutEnvironment runs do while no variable with that prefix is set: the
// library reads many and fails on a malformed one, and here none counts.
func withoutEnvironment(prefix string, do func() error) error {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, prefix) && os.Unsetenv(name) == nil {
			defer os.Setenv(name, value)
		}
	}
	return do()
}

// bounded cuts answers off at mostAnswer: the library would read any length.
type bounded struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, mostAnswer), response.Body}
	}
	return response, err
}

// CloseIdleConnections lets http.Client reach the transport.
func (b *bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// call is one request.
type call struct {
	kind kind
	path string
	// token authorises; empty for a login.
	token secret.Secret
	// version of a secret in KV v2; empty is the newest.
	version string
	// body is sent by PUT; nil is a GET.
	body map[string]any
	// hidden is whatever else no error text may hold.
	hidden []secret.Secret
}

// ask makes one request and returns Vault's answer, nil where it is empty, with
// the time by Vault's clock. A 404 with an answer in it, which only KV gives (the
// version is deleted), is an answer. Errors are *failure.Error.
func (c *Client) ask(ctx context.Context, call call) (*api.Secret, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, c.site.Timeout)
	defer cancel()
	response, err := c.send(ctx, call)
	if response != nil && response.Body != nil {
		defer response.Body.Close()
	}
	deleted := err != nil && call.kind == readingGossip && response != nil && response.StatusCode == http.StatusNotFound
	if err != nil && !deleted {
		return nil, time.Time{}, c.classify(ctx, call, response, err)
	}
	if response.StatusCode < http.StatusBadRequest && response.StatusCode >= http.StatusMultipleChoices {
		return nil, time.Time{}, c.classify(ctx, call, response, &api.ResponseError{StatusCode: response.StatusCode, Errors: []string{redirected}})
	}
	date, _ := http.ParseTime(response.Header.Get("Date"))
	err404 := err
	answer, err := api.ParseSecret(response.Body)
	if err != nil {
		if ctx.Err() != nil {
			return nil, time.Time{}, c.classify(ctx, call, nil, ctx.Err())
		}
		// The decoder's error may quote the answer, which holds a secret.
		return nil, time.Time{}, c.failed(call, failure.Transient, failure.RemoteVault, "the answer was cut short or is not JSON")
	}
	if deleted && (answer == nil || answer.Data["metadata"] == nil) {
		if said := new(api.ResponseError); errors.As(err404, &said) && len(said.Errors) == 0 {
			return nil, date, nil // a path of KV where nothing was ever written
		}
		return nil, time.Time{}, c.classify(ctx, call, response, err404)
	}
	return answer, date, nil
}

// send hands the request to the library. Every request carries its own token:
// the library's client has none.
func (c *Client) send(ctx context.Context, call call) (*api.Response, error) {
	client := c.api.WithRequestCallbacks(func(request *api.Request) { request.ClientToken = call.token.Reveal() })
	if call.body == nil {
		var query map[string][]string
		if call.version != "" {
			query = map[string][]string{"version": {call.version}}
		}
		return client.Logical().ReadRawWithDataWithContext(ctx, call.path, query)
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(call.body); err != nil {
		return nil, err
	}
	return client.Logical().WriteRawWithContext(ctx, call.path, body.Bytes())
}

// failed builds a failure of the call.
func (c *Client) failed(call call, class failure.Class, remote failure.Remote, text string) *failure.Error {
	return failure.New(class, remote, "%s: %s", call, scrub(text, append(call.hidden, call.token)...))
}

// String says what the call does, as errors begin.
func (c call) String() string { return fmt.Sprintf("%s (%s)", c.kind, c.path) }

// lacking is the failure of an answer without what it must have.
func (c *Client) lacking(call call, what, fix string) *failure.Error {
	return c.failed(call, failure.Config, failure.RemoteVault, what).WithFix(fix)
}
