package metadata

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pawl/internal/failure"
)

// mostWait bounds the Retry-After that we believe.
const mostWait = 10 * time.Minute

// weather is one row of what can keep us from the service: all different, since
// at boot the difference tells a slow network from a missing one (faults.md F8).
type weather struct {
	cause error
	class failure.Class
	words string
	fix   string
}

var weathers = []weather{
	{syscall.ENETUNREACH, failure.Transient, "no route to it yet", ""},
	{syscall.EHOSTUNREACH, failure.Transient, "its host does not answer on the network", ""},
	{syscall.ECONNREFUSED, failure.Transient, "nothing listens there", ""},
	{syscall.ECONNRESET, failure.Transient, "it broke the connection off", ""},
	{syscall.EADDRNOTAVAIL, failure.Transient, "this machine has no address yet to ask from", ""},
	{syscall.EACCES, failure.Local, "this machine forbids it (a prohibit route)", "let pawl through: systemd-imdsd's locked mode puts a prohibit route there, so unlock it, or give pawl's unit the route's mark"},
	{syscall.EPERM, failure.Local, "this machine forbids it (a packet filter)", "let pawl's user through the packet filter"},
	{context.Canceled, failure.Transient, "the attempt was given up", ""},
}

// unreachable classifies an attempt that brought no whole answer.
func (c *Client) unreachable(err error) *failure.Error {
	for _, row := range weathers {
		if errors.Is(err, row.cause) {
			return failure.New(row.class, failure.RemoteMetadata, "ask %s for a JWT: %s: %w", c.site.URL, row.words, row.cause).WithFix(row.fix)
		}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return failure.New(failure.Transient, failure.RemoteMetadata, "ask %s for a JWT: no answer within %s", c.site.URL, c.site.Timeout)
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return failure.New(failure.Config, failure.RemoteMetadata, "ask %s for a JWT: %w", c.site.URL, certificate).
			WithFix("use http on a link that is the VM's own, or a certificate that this machine trusts")
	}
	return failure.New(failure.Transient, failure.RemoteMetadata, "ask %s for a JWT: %s", c.site.URL, printable(rootOf(err)))
}

// answer is one row of the statuses. The first row that fits counts.
type answer struct {
	from, to int
	// says is what the answer's error must contain; empty: anything.
	says  string
	class failure.Class
	fix   string
}

var answers = []answer{
	{300, 399, "", failure.Config, "let the service itself answer at metadata.url: redirects are never followed"},
	{400, 400, "", failure.Config, "start the service with --audience and the site's metadata.audience"},
	{403, 403, "forwarded", failure.Config, "take the proxy away between this VM and the service"},
	{403, 403, "guard header", failure.Config, "take away what strips headers between this VM and the service"},
	{403, 403, "", failure.Identity, "add this VM's address, uuid and node name to the service's inventory and send it SIGHUP"},
	{404, 405, "", failure.Config, "make metadata.url the base URL of pawl-metadata"},
	{408, 408, "", failure.Transient, ""},
	{421, 421, "", failure.Config, "start the service with the --listen or --issuer address that metadata.url names"},
	{425, 425, "", failure.Transient, ""},
	{429, 429, "", failure.Transient, ""},
	{500, 599, "", failure.Transient, ""},
	{0, 999, "", failure.Config, "make sure that pawl-metadata, and nothing else, answers at metadata.url"},
}

// refused classifies an answer that is not 200.
func (c *Client) refused(response *http.Response, body []byte) *failure.Error {
	var said struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &said) // whoever does not speak JSON said nothing
	for _, row := range answers {
		if response.StatusCode < row.from || response.StatusCode > row.to || !strings.Contains(said.Error, row.says) {
			continue
		}
		text := fmt.Sprintf("status %d", response.StatusCode)
		if said.Error != "" {
			text += ": " + printable(said.Error)
		}
		refused := failure.New(row.class, failure.RemoteMetadata, "ask %s for a JWT: %s", c.site.URL, text).WithFix(row.fix)
		refused.RetryAfter = retryAfter(response)
		return refused
	}
	return c.odd(fmt.Sprintf("status %d", response.StatusCode))
}

// retryAfter reads the wait that the service asked for: seconds, or a date by its own clock.
func retryAfter(response *http.Response) time.Duration {
	value := response.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(max(0, time.Duration(min(seconds, 1e6))*time.Second), mostWait)
	}
	until, err := http.ParseTime(value)
	if date := dateOf(response); err == nil && !date.IsZero() {
		return min(max(0, until.Sub(date)), mostWait)
	}
	return 0
}

// tokenPattern matches what could be a JWT: an error text never carries one.
var tokenPattern = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`)

// printable makes a stranger's words fit for a log line: short, plain, without tokens.
func printable(text string) string {
	text = tokenPattern.ReplaceAllString(text, "[redacted]")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	return text[:min(len(text), 200)]
}

// rootOf is the innermost text of a network error, without the URL twice over.
func rootOf(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
