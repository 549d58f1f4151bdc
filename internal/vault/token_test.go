package vault

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// loginAnswer is a login's answer by a real Vault, shortened.
const loginAnswer = `{"auth":{"client_token":"` + canary + `","accessor":"acc","lease_duration":3600,"renewable":true,"token_type":"service"}}`

func TestLogin(t *testing.T) {
	tests := []struct {
		name, login string
		status      int
		lookup      string
		class       failure.Class // empty: success
		most        time.Duration
		revoked     bool
	}{
		{"explicit max ttl", loginAnswer, 200, `{"data":{"explicit_max_ttl":86400,"ttl":3599}}`, "", 24 * time.Hour, false},
		{"none", loginAnswer, 200, `{"data":{"explicit_max_ttl":0,"ttl":3599}}`, "", 0, false},
		{"lookup fails", loginAnswer, 503, `{"errors":["Vault is sealed"]}`, "", 0, false},
		{"node has not heard of it", loginAnswer, 403, `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`, "", 0, false},
		{"policy lacks lookup-self", loginAnswer, 403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, failure.Config, 0, true},
		{"batch token", strings.Replace(loginAnswer, `"acc"`, `""`, 1), 200, "", failure.Config, 0, false},
		{"no ttl", strings.Replace(loginAnswer, "3600", "0", 1), 200, "", failure.Config, 0, false},
		{"second factor wanted", `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"x"}}}`, 200, "", failure.Config, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			revoked := false
			client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
				switch request.URL.Path {
				case "/v1/auth/jwt/login":
					var body map[string]string
					if err := json.NewDecoder(request.Body).Decode(&body); err != nil || body["jwt"] != canaryJWT || body["role"] != "pawl" || request.Header.Get("X-Vault-Token") != "" {
						t.Errorf("login with %v", request.Header)
					}
					_, _ = io.WriteString(writer, test.login)
				case "/v1/" + lookupPath:
					writer.WriteHeader(test.status)
					_, _ = io.WriteString(writer, test.lookup)
				case "/v1/auth/token/revoke-self":
					revoked = true
					writer.WriteHeader(http.StatusNoContent)
				}
			})
			grant, err := client.Login(t.Context(), secret.New(canaryJWT))
			if revoked != test.revoked {
				t.Errorf("revoked: %t", revoked)
			}
			if test.class != "" {
				if got := failure.Of(err); got == nil || got.Class != test.class || got.Fix == "" || !grant.Token.Empty() {
					t.Errorf("%+v", got)
				}
				return
			}
			if err != nil || grant.Token.Reveal() != canary || grant.Accessor != "acc" || grant.TTL != time.Hour || grant.MaxTTL != test.most {
				t.Errorf("%+v (%v)", grant, err)
			}
		})
	}
}

// TestYoungToken: right after its login a refusal may be the ignorance of one
// node; later it is the end.
func TestYoungToken(t *testing.T) {
	client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/v1/auth/jwt/login" {
			_, _ = io.WriteString(writer, loginAnswer)
			return
		}
		writer.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(writer, `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`)
	})
	now := time.Now()
	client.now = func() time.Time { return now }
	grant, err := client.Login(t.Context(), secret.New(canaryJWT))
	if err != nil {
		t.Fatal(err)
	}
	classes := func(token secret.Secret) (lookup, gossip failure.Class) {
		_, err := client.ReadGossipKey(t.Context(), token)
		return failure.Of(client.LookupToken(t.Context(), token)).Class, failure.Of(err).Class
	}
	if lookup, gossip := classes(grant.Token); lookup != failure.Transient || gossip != failure.Transient {
		t.Errorf("young: %s, %s", lookup, gossip)
	}
	if lookup, gossip := classes(secret.New("another")); lookup != failure.AuthDead || gossip != failure.AuthDead {
		t.Errorf("another: %s, %s", lookup, gossip)
	}
	now = now.Add(youth)
	if lookup, gossip := classes(grant.Token); lookup != failure.AuthDead || gossip != failure.AuthDead {
		t.Errorf("older: %s, %s", lookup, gossip)
	}
	if err := client.RevokeToken(t.Context(), grant.Token); err != nil {
		t.Errorf("a token that is gone: %v", err)
	}
}

func TestRenewAtTheEnd(t *testing.T) {
	for said, want := range map[string]time.Duration{"lease is not renewable": 42 * time.Second, "past the max TTL, cannot renew": 42 * time.Second, "the moon is full": 0} {
		client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
			if request.URL.Path == "/v1/"+lookupPath {
				reply(t, writer, object{"data": object{"ttl": 42}})
				return
			}
			writer.WriteHeader(http.StatusBadRequest)
			reply(t, writer, object{"errors": []string{said}})
		})
		if ttl, err := client.RenewToken(t.Context(), secret.New(canary)); ttl != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %s (%v)", said, ttl, err)
		}
	}
}

func TestRevoke(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		alive  bool
		class  failure.Class
	}{
		"done": {204, true, ""}, "gone already": {403, false, ""}, "policy lacks it": {403, true, failure.Config}, "sealed": {503, true, failure.Transient},
	} {
		client := serve(t, func(writer http.ResponseWriter, request *http.Request) {
			if request.URL.Path == "/v1/"+lookupPath && test.alive {
				reply(t, writer, object{"data": object{"ttl": 42}})
				return
			}
			writer.WriteHeader(test.status)
			if test.status >= 400 {
				reply(t, writer, object{"errors": []string{"permission denied"}})
			}
		})
		err := client.RevokeToken(t.Context(), secret.New(canary))
		if got := failure.Of(err); (got == nil) != (test.class == "") || got != nil && got.Class != test.class {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
