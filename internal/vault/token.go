package vault

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/transitions"
)

const lookupPath = "auth/token/lookup-self"

// Login exchanges the JWT for a Vault token.
//
// A login's answer does not say when the token must end at the latest, and no
// request tells what a role's token_max_ttl is without further rights. A role's
// token_explicit_max_ttl, however, is written on the token itself, and the
// lookup-self that our policy has anyway reads it: one more request. With only
// token_max_ttl (or a mount's limit), MaxTTL is zero and the end shows later:
// renewals then bring less and less time.
func (c *Client) Login(ctx context.Context, jwt secret.Secret) (transitions.VaultGrant, error) {
	login := call{kind: loggingIn, path: "auth/" + c.site.JWTMount + "/login", hidden: []secret.Secret{jwt},
		body: map[string]any{"role": c.site.JWTRole, "jwt": jwt.Reveal()}}
	answer, _, err := c.ask(ctx, login)
	if err != nil {
		return transitions.VaultGrant{}, err
	}
	switch {
	case answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "":
		return transitions.VaultGrant{}, c.lacking(login, "the answer has no token in it", "take away what asks for more than a JWT at this mount, such as login MFA")
	case answer.Auth.Accessor == "":
		return transitions.VaultGrant{}, c.lacking(login, "the token has no accessor", "set token_type=service at "+c.rolePath())
	case answer.Auth.LeaseDuration <= 0:
		return transitions.VaultGrant{}, c.lacking(login, "the token has no TTL", "set token_ttl at "+c.rolePath())
	}
	grant := transitions.VaultGrant{
		Token:    secret.New(answer.Auth.ClientToken),
		Accessor: answer.Auth.Accessor,
		TTL:      time.Duration(answer.Auth.LeaseDuration) * time.Second,
	}
	c.youngest.Store(&birth{grant.Token, c.now()})

	found, _, err := c.ask(ctx, call{kind: lookingUp, path: lookupPath, token: grant.Token})
	if err == nil {
		grant.MaxTTL = secondsOf(found, "explicit_max_ttl")
		return grant, nil
	}
	if failed := failure.Of(err); failed.Class == failure.Config {
		// Without lookup-self a missing policy could not be told from a dead token
		// later on, and each would cause a login. Better to say so now, and leave nothing.
		_ = c.RevokeToken(ctx, grant.Token)
		return transitions.VaultGrant{}, failed
	}
	return grant, nil // the token is good; only its end is not known
}

func (c *Client) rolePath() string { return "auth/" + c.site.JWTMount + "/role/" + c.site.JWTRole }

// RenewToken renews the token and returns its new TTL, which is the remaining
// one where Vault will not renew it any more.
func (c *Client) RenewToken(ctx context.Context, token secret.Secret) (time.Duration, error) {
	renew := call{kind: renewingToken, path: "auth/token/renew-self", token: token, body: map[string]any{}}
	answer, _, err := c.ask(ctx, renew)
	if err != nil && atItsEnd(err) {
		found, _, err := c.ask(ctx, call{kind: lookingUp, path: lookupPath, token: token})
		if err != nil {
			return 0, err
		}
		if left := secondsOf(found, "ttl"); left > 0 {
			return left, nil
		}
		return 0, c.failed(renew, failure.AuthDead, failure.RemoteVault, "the token has no time left")
	}
	if err != nil {
		return 0, err
	}
	if answer == nil || answer.Auth == nil || answer.Auth.LeaseDuration <= 0 {
		return 0, c.failed(renew, failure.Transient, failure.RemoteVault, "the answer has no TTL in it")
	}
	return time.Duration(answer.Auth.LeaseDuration) * time.Second, nil
}

// atItsEnd: Vault would renew, but the token is not renewable or has reached its max TTL.
func atItsEnd(err error) bool {
	text := err.Error()
	return strings.Contains(text, "not renewable") || strings.Contains(text, "past the max TTL")
}

// LookupToken returns nil while the token lives, AuthDead when Vault refuses it.
func (c *Client) LookupToken(ctx context.Context, token secret.Secret) error {
	_, _, err := c.ask(ctx, call{kind: lookingUp, path: lookupPath, token: token})
	return err
}

// RevokeToken revokes the token and everything leased under it. A token that is
// gone already is no error.
func (c *Client) RevokeToken(ctx context.Context, token secret.Secret) error {
	_, _, err := c.ask(ctx, call{kind: revoking, path: "auth/token/revoke-self", token: token, body: map[string]any{}})
	if err != nil && failure.Of(err).Class != failure.AuthDead {
		return err
	}
	if born := c.youngest.Load(); born.is(token) {
		c.youngest.CompareAndSwap(born, nil) // from here on a refusal is what it says
	}
	return nil
}

// young reports whether the token is of a login that a node of Vault may not have heard of.
func (c *Client) young(token secret.Secret) bool {
	born := c.youngest.Load()
	return born.is(token) && c.now().Sub(born.at) < youth
}

// is reports whether this was that token's login. A nil birth is nobody's.
func (b *birth) is(token secret.Secret) bool {
	return b != nil && b.token.Reveal() == token.Reveal()
}

// secondsOf reads a number of seconds out of an answer's data, zero where there is none.
func secondsOf(answer *api.Secret, field string) time.Duration {
	if answer == nil {
		return 0
	}
	number, ok := answer.Data[field].(json.Number)
	if !ok {
		return 0
	}
	seconds, err := number.Int64()
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
