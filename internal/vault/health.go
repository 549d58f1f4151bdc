package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/hashicorp/vault/api"

	"pawl/internal/failure"
)

const healthPath = "sys/health"

// Answers of sys/health that no RFC knows.
const statusPerformanceStandby = 473

// Healthy asks sys/health, without a token and outside every namespace, whether
// Vault serves. No quota of Vault's counts it and hardly any work is done for
// it, so that a whole fleet may ask.
//
// Its 429 is a standby's (faults.md F18), not a quota's: like a performance
// standby's 473 it means yes, since standbys pass requests on to the active
// node. The body must say so too: a proxy's own 429 means what it always means.
func (c *Client) Healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.site.Timeout)
	defer cancel()
	probe := call{kind: probing, path: healthPath}
	response, err := c.api.WithNamespace("").Logical().ReadRawWithContext(ctx, healthPath)
	if response == nil || response.Body == nil {
		return c.classify(ctx, probe, response, err)
	}
	defer response.Body.Close()
	if response.StatusCode < http.StatusBadRequest && response.StatusCode >= http.StatusMultipleChoices {
		return c.classify(ctx, probe, response, &api.ResponseError{StatusCode: response.StatusCode, Errors: []string{redirected}})
	}
	var health api.HealthResponse
	understood := json.NewDecoder(response.Body).Decode(&health) == nil
	serves := understood && health.Initialized && !health.Sealed
	standby := serves && (health.Standby || health.PerformanceStandby)
	switch status := response.StatusCode; {
	case status == http.StatusOK && serves,
		(status == http.StatusTooManyRequests || status == statusPerformanceStandby) && standby:
		return nil
	case status == http.StatusOK:
		return c.failed(probe, failure.Transient, failure.RemoteVault, "the answer is not that of a Vault that serves")
	}
	// The library takes every 429 of this path for a standby's, and finds no words
	// of error in the body of a Vault that is sealed.
	said := new(api.ResponseError)
	if !errors.As(err, &said) {
		said.StatusCode = response.StatusCode
	}
	if understood && health.Initialized && health.Sealed {
		said.Errors = []string{"Vault is sealed"}
	}
	return c.classify(ctx, probe, response, said)
}
