// Package metadata owns the client of the VM's metadata service: one POST, one
// JWT, its claims read and not verified (Vault verifies). It must import neither
// the machine nor another client, nor its own server.
//
// The client never uses a proxy and never follows a redirect: whoever answered
// there would be told apart from the VM's own service by nothing (faults.md F24).
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pawl/internal/clock"
	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/internal/site"
	"pawl/transitions"
)

const (
	// guardHeader tells the service that the asker knows what it does.
	guardHeader  = "X-Pawl-Metadata"
	guardValue   = "1"
	identityPath = "/v1/identity"
	// mostAnswer bounds what we read of an answer; a JWT has about one KiB.
	mostAnswer = 64 << 10
)

// Client implements transitions.Metadata. Safe from any goroutine.
type Client struct {
	site site.Metadata
	web  *http.Client
}

var _ transitions.Metadata = (*Client)(nil)

// NewClient returns a client for the service of the site.
func NewClient(constants site.Metadata) *Client {
	return &Client{
		site: constants,
		web: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // and so no HTTP_PROXY of the environment
				DialContext:            (&net.Dialer{Timeout: constants.Timeout}).DialContext,
				DisableKeepAlives:      true, // minutes lie between two attempts, and a resumed VM has no old connections
				DisableCompression:     true,
				MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// UseClock has the client tell the clock what time the service has. Call it
// before the first attempt.
func (c *Client) UseClock(of *clock.Clock) { c.web.Transport = of.Watch(c.web.Transport) }

// FetchJWT makes one attempt within the site's timeout. Its errors are all
// *failure.Error.
func (c *Client) FetchJWT(ctx context.Context) (transitions.JWTGrant, error) {
	ctx, cancel := context.WithTimeout(ctx, c.site.Timeout)
	defer cancel()
	form := url.Values{"audience": {c.site.Audience}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.site.URL+identityPath, strings.NewReader(form))
	if err != nil {
		return transitions.JWTGrant{}, failure.New(failure.Config, failure.RemoteMetadata, "ask %s for a JWT: %w", c.site.URL, err).
			WithFix("correct metadata.url in the site file and build anew")
	}
	request.Header.Set(guardHeader, guardValue)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")

	response, err := c.web.Do(request)
	if err != nil {
		return transitions.JWTGrant{}, c.unreachable(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer+1))
	if err != nil {
		return transitions.JWTGrant{}, c.unreachable(err)
	}
	if response.StatusCode != http.StatusOK {
		return transitions.JWTGrant{}, c.refused(response, body)
	}
	var answer struct {
		JWT string `json:"jwt"`
	}
	if len(body) > mostAnswer {
		return transitions.JWTGrant{}, c.odd("the answer is larger than 64 KiB")
	}
	// The decoder's error may quote the body, so it goes no further.
	if json.Unmarshal(body, &answer) != nil || answer.JWT == "" {
		return transitions.JWTGrant{}, c.odd("the answer is not JSON with a jwt in it")
	}
	identity, id, ttl, err := c.read(answer.JWT)
	if err != nil {
		return transitions.JWTGrant{}, err
	}
	return transitions.JWTGrant{Text: secret.New(answer.JWT), ID: id, TTL: ttl, Identity: identity, Date: dateOf(response)}, nil
}

// dateOf is the service's clock by its answer, zero when it does not say.
func dateOf(response *http.Response) time.Time {
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

// odd is the failure of an answer that no metadata service of ours gives.
func (c *Client) odd(what string) *failure.Error {
	return failure.New(failure.Config, failure.RemoteMetadata, "ask %s for a JWT: %w", c.site.URL, errors.New(what)).
		WithFix("make sure that pawl-metadata, and nothing else, answers at " + c.site.URL)
}
