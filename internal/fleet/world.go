package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
	"pawl/transitions"
)

// world is every port of one VM. Vault is the modelled one that all share; the
// metadata service is the VM's own; Consul, where a VM is as good as its Vault
// token, takes its time and never fails.
type world struct {
	*agent
	name string
	lock sync.Mutex
	// granted counts logins; expires is when the last token does.
	granted int
	expires time.Time
	// installed is which login's Consul token the embedded agent runs with.
	installed string
}

const (
	jwtTTL         = 5 * time.Minute
	maxTTL         = 24 * time.Hour
	certificateTTL = 24 * time.Hour
)

func (w *world) FetchJWT(context.Context) (transitions.JWTGrant, error) {
	w.lapse(5 * time.Millisecond)
	return transitions.JWTGrant{Text: secret.New("jwt"), ID: "jwt", TTL: jwtTTL, Identity: states.Identity{Node: w.name, NodeID: w.name}}, nil
}

func (w *world) Healthy(ctx context.Context) error { return w.ask(ctx, health) }

// Login is the client's: a login, and then lookup-self for the token's end.
func (w *world) Login(ctx context.Context, _ secret.Secret) (transitions.VaultGrant, error) {
	if err := w.ask(ctx, login); err != nil {
		return transitions.VaultGrant{}, err
	}
	w.granted++
	w.expires = w.sim.clock().Add(w.sim.scenario.TokenTTL)
	token := fmt.Sprint("token-", w.granted)
	grant := transitions.VaultGrant{Token: secret.New(token), Accessor: token, TTL: w.sim.scenario.TokenTTL}
	if err := w.ask(ctx, lookup); err == nil {
		grant.MaxTTL = maxTTL
	}
	return grant, nil
}

// dead is the refusal of a token that is not the last login's, or is past its end.
func (w *world) dead(token secret.Secret) error {
	if token.Reveal() == fmt.Sprint("token-", w.granted) && w.sim.clock().Before(w.expires) {
		return nil
	}
	return failure.New(failure.AuthDead, failure.RemoteVault, "permission denied")
}

// authorised makes a request under a token.
func (w *world) authorised(ctx context.Context, asked request, token secret.Secret) error {
	if err := w.ask(ctx, asked); err != nil {
		return err
	}
	return w.dead(token)
}

// beside is authorised, for what may be asked side by side with another.
func (w *world) beside(ctx context.Context, asked request, token secret.Secret) error {
	if err := w.aside(ctx, asked); err != nil {
		return err
	}
	return w.dead(token)
}

func (w *world) ReadGossipKey(ctx context.Context, token secret.Secret) (transitions.GossipGrant, error) {
	return transitions.GossipGrant{Key: secret.New("gossip"), ID: "1"}, w.beside(ctx, readKV, token)
}

func (w *world) SignCertificate(ctx context.Context, token secret.Secret, _ string) (transitions.CertificateGrant, error) {
	serial := fmt.Sprint("serial-", w.granted)
	return transitions.CertificateGrant{Chain: serial, Serial: serial, TTL: certificateTTL}, w.beside(ctx, sign, token)
}

func (w *world) IssueConsulToken(ctx context.Context, token secret.Secret) (transitions.ConsulGrant, error) {
	if err := w.authorised(ctx, issue, token); err != nil {
		return transitions.ConsulGrant{}, err
	}
	name := "consul-" + token.Reveal()
	return transitions.ConsulGrant{Token: secret.New(name), Accessor: name, Lease: name, TTL: w.sim.scenario.TokenTTL}, nil
}

func (w *world) RenewToken(ctx context.Context, token secret.Secret) (time.Duration, error) {
	if err := w.authorised(ctx, renewToken, token); err != nil {
		return 0, err
	}
	w.expires = w.sim.clock().Add(w.sim.scenario.TokenTTL)
	return w.sim.scenario.TokenTTL, nil
}

func (w *world) RenewLease(ctx context.Context, token secret.Secret, _ string) (time.Duration, error) {
	return w.sim.scenario.TokenTTL, w.authorised(ctx, renewLease, token)
}

func (w *world) LookupToken(ctx context.Context, token secret.Secret) error {
	return w.authorised(ctx, lookup, token)
}

// RevokeToken is the client's: a token that is refused is looked up, and if it is gone, all is well.
func (w *world) RevokeToken(ctx context.Context, token secret.Secret) error {
	if err := w.ask(ctx, revoke); err != nil {
		return err
	}
	if w.dead(token) != nil {
		_ = w.ask(ctx, lookup)
	}
	return nil
}

func (w *world) Verify(context.Context, states.Identity, states.Epoch) error {
	w.lapse(20 * time.Millisecond)
	return nil
}

func (w *world) Install(_ context.Context, _ states.Identity, epoch states.Epoch) error {
	w.lapse(100 * time.Millisecond)
	w.installed = epoch.Vault.Token.Reveal()
	return nil
}

// known answers whether Consul's servers know the installed token, which ends with its Vault token.
func (w *world) known() error {
	w.lapse(10 * time.Millisecond)
	if w.dead(secret.New(w.installed)) != nil {
		return failure.New(failure.AuthDead, failure.RemoteConsul, "ACL not found")
	}
	return nil
}

func (w *world) Prove(context.Context) (uint64, error)          { return 1, w.known() }
func (w *world) Register(context.Context, error) error          { return w.known() }
func (w *world) ReadBack(context.Context) (uint64, bool, error) { return 1, true, w.known() }

func (w *world) Scrape(context.Context) error {
	w.lapse(20 * time.Millisecond)
	return nil
}
