package vault

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// answer is one of testdata/answers.json: what a real Vault (from "lab") or its
// documentation says, and what we take it for.
type answer struct {
	Name   string
	Kind   kind
	Status int
	Body   string
	// Alive says that lookup-self with the same token succeeds.
	Alive  bool
	Class  failure.Class
	Remote failure.Remote
	Fix    bool
}

const (
	canary    = "hvs.CANARYCANARYCANARYCANARY"
	canaryJWT = "eyJjYW5hcnkiOjF9.eyJjYW5hcnkiOjF9.Y2FuYXJ5"
)

// attempts makes the one request of each kind.
var attempts = map[kind]func(context.Context, *Client) error{
	loggingIn: func(ctx context.Context, c *Client) error {
		_, err := c.Login(ctx, secret.New(canaryJWT))
		return err
	},
	readingGossip: func(ctx context.Context, c *Client) error {
		_, err := c.ReadGossipKey(ctx, secret.New(canary))
		return err
	},
	signing: func(ctx context.Context, c *Client) error {
		_, err := c.SignCertificate(ctx, secret.New(canary), "vm-1")
		return err
	},
	issuingConsul: func(ctx context.Context, c *Client) error {
		_, err := c.IssueConsulToken(ctx, secret.New(canary))
		return err
	},
	renewingToken: func(ctx context.Context, c *Client) error {
		_, err := c.RenewToken(ctx, secret.New(canary))
		return err
	},
	renewingLease: func(ctx context.Context, c *Client) error {
		_, err := c.RenewLease(ctx, secret.New(canary), "consul/creds/pawl/lease")
		return err
	},
	lookingUp: func(ctx context.Context, c *Client) error { return c.LookupToken(ctx, secret.New(canary)) },
	probing:   func(ctx context.Context, c *Client) error { return c.Healthy(ctx) },
	revoking:  func(ctx context.Context, c *Client) error { return c.RevokeToken(ctx, secret.New(canary)) },
}

func TestRecordedAnswers(t *testing.T) {
	text, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	if err := json.Unmarshal(text, &answers); err != nil || len(answers) < 50 {
		t.Fatalf("%d answers (%v)", len(answers), err)
	}
	for _, answer := range answers {
		t.Run(answer.Name, func(t *testing.T) {
			asked := 0
			client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
				if request.URL.Path == "/v1/"+lookupPath && answer.Kind != lookingUp {
					if !answer.Alive {
						http.Error(writer, `{"errors":["permission denied"]}`, http.StatusForbidden)
						return
					}
					_, _ = io.WriteString(writer, `{"data":{"ttl":60}}`)
					return
				}
				asked++
				writer.Header().Set("Retry-After", "3")
				writer.WriteHeader(answer.Status)
				// What came in goes out again, as the worst of servers would do it.
				_, _ = io.WriteString(writer, strings.Replace(answer.Body, `"]}`, " "+canary+" "+canaryJWT+`"]}`, 1))
			})
			err := attempts[answer.Kind](t.Context(), client)
			got := failure.Of(err)
			if err == nil || got.Class != answer.Class || got.Remote != answer.Remote || (got.Fix != "") != answer.Fix {
				t.Fatalf("got %+v\nwant %+v", got, answer)
			}
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			shown := got.Error() + got.Fix
			if strings.Contains(shown, canary) || strings.Contains(shown, canaryJWT) || strings.ContainsAny(shown, "\n\t{}") && !strings.Contains(answer.Body, "html") {
				t.Errorf("not fit for a log: %q", shown)
			}
			if !strings.HasPrefix(got.Error(), string(answer.Kind)+" (") {
				t.Errorf("it does not say what it was: %q", got.Error())
			}
			if answer.Status == 429 && got.RetryAfter != 3*time.Second {
				t.Errorf("retry after %s", got.RetryAfter)
			}
		})
	}
}

// TestBusyAtLookup: where the second question of a refusal is told to wait, so is
// the attempt.
func TestBusyAtLookup(t *testing.T) {
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/v1/"+lookupPath {
			http.Error(writer, `{"errors":["permission denied"]}`, http.StatusForbidden)
			return
		}
		writer.Header().Set("Retry-After", "7")
		http.Error(writer, `{"errors":["rate limit quota exceeded"]}`, http.StatusTooManyRequests)
	})
	_, err := client.RenewToken(t.Context(), secret.New(canary))
	if got := failure.Of(err); got == nil || got.Class != failure.Transient || got.RetryAfter != 7*time.Second {
		t.Errorf("got %v (%+v), want to wait for 7 s", got, got)
	}
}

// TestForeignRefusal: a firewall's or a gateway's own 403 says nothing of our token,
// which was once thrown away by it, and with it whatever was leased under it.
func TestForeignRefusal(t *testing.T) {
	for body, class := range map[string]failure.Class{
		"<html><h1>Forbidden</h1></html>":    failure.Transient,
		`{"message":"Forbidden"}`:            failure.Transient,
		"":                                   failure.Transient,
		`{"errors":[]}`:                      failure.AuthDead,
		`{"errors":["permission denied\n"]}`: failure.AuthDead,
	} {
		for kind, attempt := range attempts {
			if kind == loggingIn || kind == probing || kind == revoking {
				continue // no token, or one that is given up
			}
			client := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
				writer.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(writer, body)
			})
			if got := failure.Of(attempt(t.Context(), client)); got == nil || got.Class != class {
				t.Errorf("%s: 403 %q: %v (%+v), want %s", kind, body, got, got, class)
			}
		}
	}
}

// TestEveryKindWasRecorded: a kind of request without a recorded refusal is untested.
func TestEveryKindWasRecorded(t *testing.T) {
	text, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	for kind := range attempts {
		if kind != revoking && !strings.Contains(string(text), string(kind)) {
			t.Errorf("nothing recorded of %q", kind)
		}
	}
}

// TestRowsAreReachable: a row that an earlier one hides is a lie.
func TestRowsAreReachable(t *testing.T) {
	for i, row := range meanings {
		kinds, says := row.kinds, row.says
		if len(kinds) == 0 {
			for kind := range attempts {
				kinds = append(kinds, kind)
			}
		}
		if len(says) == 0 {
			says = []string{""}
		}
		reached := false
		for _, kind := range kinds {
			for status := row.from; status <= row.to; status++ {
				for _, said := range says {
					first := 0
					for !meanings[first].fits(kind, status, said) {
						first++
					}
					reached = reached || first == i
				}
			}
		}
		if !reached {
			t.Errorf("row %d (%v %d %q) is never reached", i, row.kinds, row.from, row.says)
		}
	}
}

func TestScrub(t *testing.T) {
	for text, want := range map[string]string{
		"token hvs." + strings.Repeat("a", 24) + " is bad":                  "token [redacted] is bad",
		"old s." + strings.Repeat("a", 24):                                  "old [redacted]",
		"jwt eyJhbGciOiJ9.e30.c2ln.":                                        "jwt [redacted]",
		"a\n\tb\x1b[31m":                                                    "a b [31m",
		"-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----": "[redacted]",
		"known opaque-secret here":                                          "known [redacted] here",
		"vault.lab.pawl":                                                    "vault.lab.pawl",
	} {
		if got := scrub(text, secret.New("opaque-secret"), secret.Secret{}); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := scrub(strings.Repeat("é", 1000)); len(got) > mostWords+3 {
		t.Errorf("%d bytes", len(got))
	}
}
