package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"pawl/internal/dial"
	"pawl/internal/failure"
)

// unreachable classifies a request that brought no answer.
func (c *Client) unreachable(ctx context.Context, call call, err error) *failure.Error {
	if failed := c.untrusted(call, err); failed != nil {
		return failed
	}
	fail := func(class failure.Class, words, fix string) *failure.Error {
		return c.failed(call, class, failure.RemoteVault, words).WithFix(fix)
	}
	var lookup *dial.LookupError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fail(failure.Local, "this machine forbids the connection to "+c.site.Address, "let pawl's user through routes and packet filter to "+c.site.Address)
	case errors.As(err, &lookup):
		return fail(failure.Transient, lookup.Error(), "")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(failure.Transient, "nothing listens at "+c.site.Address, "")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return fail(failure.Transient, "no route to "+c.site.Address, "")
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(err, context.Canceled):
		return fail(failure.Transient, "the attempt was given up", "")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fail(failure.Transient, fmt.Sprintf("no answer from %s within %s", c.site.Address, c.site.Timeout), "")
	case strings.Contains(err.Error(), "protocol downgrade"):
		return fail(failure.Config, "vault redirects to a URL without TLS", "set api_addr of vault's nodes to https")
	case strings.Contains(err.Error(), "non-printable characters"):
		return fail(failure.Bug, "the token is not printable", "")
	default:
		return fail(failure.Transient, innermost(err), "")
	}
}

// untrusted classifies what TLS refused; nil when it was not TLS.
func (c *Client) untrusted(call call, err error) *failure.Error {
	fail := func(class failure.Class, remote failure.Remote, words, fix string) *failure.Error {
		failed := c.failed(call, class, remote, words).WithFix(fix)
		failed.Stranger = true
		return failed
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && c.now().Before(invalid.Cert.NotBefore):
		return fail(failure.Local, failure.RemoteHost, "a certificate at "+c.site.Address+" is valid only from "+invalid.Cert.NotBefore.UTC().Format(time.RFC3339)+", which this machine's clock has not reached",
			"set this machine's clock (NTP)")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fail(failure.Config, failure.RemoteVault, "a certificate at "+c.site.Address+" expired on "+invalid.Cert.NotAfter.UTC().Format(time.RFC3339),
			"renew it, or set this machine's clock (NTP) where that date has not come")
	case errors.As(err, &unknown):
		return fail(failure.Config, failure.RemoteVault, "the certificate at "+c.site.Address+" is of a CA that is not in the site file",
			"put the CA's root into ca_roots of the site file and build anew")
	case errors.As(err, &name):
		return fail(failure.Config, failure.RemoteVault, "the certificate at "+c.site.Address+" is for another name",
			"give vault a certificate for the name in vault.address")
	case errors.As(err, &invalid):
		return fail(failure.Config, failure.RemoteVault, "the certificate at "+c.site.Address+" is no good: "+invalid.Error(), "give vault a server's certificate")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fail(failure.Config, failure.RemoteVault, "what answers at "+c.site.Address+" does not speak TLS", "give vault's listener a certificate, or correct vault.address")
	case errors.As(err, &alert):
		return fail(failure.Config, failure.RemoteVault, "vault's listener refuses our TLS: "+alert.Error(), "let the listener take TLS 1.2 or later without a client certificate")
	default:
		return nil
	}
}

// innermost is the text of an error's cause, without the request around it.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
