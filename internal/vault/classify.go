package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// kind is what a request is for; its text begins the error.
type kind string

const (
	loggingIn     kind = "log in to vault"
	readingGossip kind = "read the gossip key from vault"
	signing       kind = "have vault sign a certificate"
	issuingConsul kind = "issue a consul token from vault"
	renewingToken kind = "renew the vault token"
	renewingLease kind = "renew the consul token's lease at vault"
	lookingUp     kind = "look up the vault token"
	revoking      kind = "revoke the vault token"
	probing       kind = "ask vault whether it serves"
)

// mostWait bounds the Retry-After that we believe.
const mostWait = 10 * time.Minute

// classify decides what a failed request means (law 5).
func (c *Client) classify(ctx context.Context, call call, response *api.Response, err error) *failure.Error {
	var answered *api.ResponseError
	if !errors.As(err, &answered) {
		return c.unreachable(ctx, call, err)
	}
	said := plain(strings.TrimSpace(strings.Join(answered.Errors, "; ")))
	text := "status " + strconv.Itoa(answered.StatusCode)
	if said != "" {
		text += ": " + said
	}
	// A 403 says the same for a dead token and for a missing policy.
	if answered.StatusCode == http.StatusForbidden && !call.token.Empty() {
		if answered.RawError || answered.Errors == nil {
			// Vault never refuses without a word of its own: a firewall's page must not
			// cost a credential that is good (law 2).
			return c.failed(call, failure.Transient, failure.RemoteVault, text+"; these are not vault's words").
				WithFix("look at what stands between this machine and vault: it refuses in vault's place")
		}
		return c.refused(ctx, call, text)
	}
	for _, row := range meanings {
		if row.fits(call.kind, answered.StatusCode, said) {
			failed := c.failed(call, row.class, row.remote, text).WithFix(c.fill(row.fix, call))
			failed.RetryAfter = retryAfter(response)
			return failed
		}
	}
	return c.failed(call, failure.Transient, failure.RemoteVault, text)
}

// shown is how Vault words what an engine says to the renewal of a lease: as Go
// prints a struct, with the engine's own words somewhere in it.
var shown = regexp.MustCompile(`(?s)resp: &logical\.Response\{.*?"error":("(?:[^"\\]|\\.)*").*`)

// plain leaves of that the engine's own words.
func plain(said string) string {
	found := shown.FindStringSubmatchIndex(said)
	if found == nil {
		return said
	}
	words, err := strconv.Unquote(said[found[2]:found[3]])
	if err != nil {
		return said
	}
	return said[:found[0]] + words
}

// refused asks Vault about the token itself, with the same token: refused too,
// it is dead; alive, it is the policy that lacks something.
func (c *Client) refused(ctx context.Context, call call, text string) *failure.Error {
	dead := c.failed(call, failure.AuthDead, failure.RemoteVault, text)
	if call.kind != lookingUp {
		_, _, err := c.ask(ctx, lookup(call.token))
		if err == nil {
			return c.failed(call, failure.Config, failure.RemoteVault, text+"; the token is good").
				WithFix("let the policy of " + c.rolePath() + " " + capability(call) + " " + call.path + ", or correct the path in the site file")
		}
		if looked := failure.Of(err); looked.Class != failure.AuthDead {
			unknown := c.failed(call, failure.Transient, failure.RemoteVault, text+"; whether the token lives is not known")
			unknown.RetryAfter = looked.RetryAfter
			return unknown
		}
		return dead
	}
	if c.young(call.token) {
		if !strings.Contains(text, "token") {
			return c.failed(call, failure.Config, failure.RemoteVault, text+", with a token just issued").
				WithFix("let the policy of " + c.rolePath() + " read " + lookupPath + ", as vault's default policy does")
		}
		return c.failed(call, failure.Transient, failure.RemoteVault, text+"; the token is so young that this node may not know it yet")
	}
	return dead
}

func lookup(token secret.Secret) call { return call{kind: lookingUp, path: lookupPath, token: token} }

// capability is the word of a Vault policy for a call.
func capability(call call) string {
	if call.body == nil {
		return "read"
	}
	return "update"
}

// meaning is one row of the table: what an answer means. The first that fits counts.
type meaning struct {
	// kinds that the row is for; none: all.
	kinds    []kind
	from, to int
	// says holds fragments of which Vault's words must have one; none: any words.
	says   []string
	class  failure.Class
	remote failure.Remote
	// fix may hold {auth}, {role}, {pki}, {pkirole}, {consul}, {consulrole}, {namespace}, {path}.
	fix string
}

func (m meaning) fits(kind kind, status int, said string) bool {
	return status >= m.from && status <= m.to &&
		(len(m.kinds) == 0 || slices.Contains(m.kinds, kind)) &&
		(len(m.says) == 0 || slices.ContainsFunc(m.says, func(fragment string) bool {
			return strings.Contains(strings.ToLower(said), fragment)
		}))
}

// away are words of a network behind Vault: not Vault, but what it asks is down.
var away = []string{
	"connection refused", "connection reset", "no such host", "server misbehaving", "no route to host", "network is unreachable",
	"i/o timeout", "timeout awaiting", "timeout exceeded", "handshake timeout", "context deadline exceeded", "context canceled",
	"eof", "broken pipe", "no cluster leader", "no servers available", "no known consul servers", "rpc error making call: eof",
	"get keys failed", "bad gateway", "service unavailable", "gateway timeout",
}

var (
	logins   = []kind{loggingIn}
	renewals = []kind{renewingToken}
	consuls  = []kind{issuingConsul, renewingLease}
	leases   = []kind{renewingLease}
	signs    = []kind{signing}
	probes   = []kind{probing}
)

// fill puts the site's paths into a fix.
func (c *Client) fill(fix string, call call) string {
	return strings.NewReplacer(
		"{auth}", "auth/"+c.site.JWTMount, "{role}", c.rolePath(),
		"{pki}", c.site.PKIMount, "{pkirole}", c.site.PKIMount+"/roles/"+c.site.PKIRole,
		"{consul}", c.site.ConsulMount, "{consulrole}", c.site.ConsulMount+"/roles/"+c.site.ConsulRole,
		"{namespace}", fmt.Sprintf("%q", c.site.Namespace), "{path}", call.path,
	).Replace(fix)
}

// retryAfter reads the wait that Vault asked for, in seconds as it writes it.
func retryAfter(response *api.Response) time.Duration {
	if response == nil || response.Response == nil {
		return 0
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return min(max(0, time.Duration(min(seconds, 1e6))*time.Second), mostWait)
}

// secretPatterns match what could be a secret in a stranger's words: Vault's
// tokens, JWTs, private keys. What the call itself knows is taken out by value.
var secretPatterns = regexp.MustCompile(`\b(hv[sbr]|[sbr])\.[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?`)

// mostWords bounds an error's text: a load balancer may answer with a page.
const mostWords = 400

// scrub makes Vault's words fit for a log: no secret, one line, not endless.
func scrub(text string, known ...secret.Secret) string {
	for _, one := range known {
		if !one.Empty() {
			text = strings.ReplaceAll(text, one.Reveal(), secret.Redacted)
		}
	}
	text = secretPatterns.ReplaceAllString(text, secret.Redacted)
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)), " ")
	if len(text) > mostWords {
		text = strings.ToValidUTF8(text[:mostWords], "") + "..."
	}
	return text
}
