package transitions

import (
	"context"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// extended is the life after a renewal. One that gives less than the first grant
// has met the max TTL: capped says that only a new epoch helps, soon.
func (a *actions) extended(life states.Life, ttl time.Duration) (extended states.Life, capped bool) {
	extended = life.Extended(a.Now(), ttl, a.Roll())
	capped = life.TTL > 0 && ttl < life.TTL-time.Second
	if !extended.Expires.IsZero() && extended.Expires.Before(life.Expires.Add(time.Second)) {
		extended.RenewAt = time.Time{} // another renewal would give nothing at all
		capped = true
	}
	return extended, capped
}

// renewToken renews the Vault token itself.
func (a *actions) renewToken(ctx context.Context, held states.Held) (states.Held, error) {
	ttl, err := a.Vault.RenewToken(ctx, held.Current.Vault.Token)
	if err != nil {
		held.Current.Vault.Refused = refusedBy(err, failure.RemoteVault)
		return held, err
	}
	life, capped := a.extended(held.Current.Vault.Life, ttl)
	held.Current.Vault.Life = life
	if capped {
		held.Current.Vault.Ends = life.Expires
		held = a.reattestBefore(held, life)
	}
	return held, nil
}

// renewLease renews the lease that keeps the Consul token alive.
func (a *actions) renewLease(ctx context.Context, held states.Held) (states.Held, error) {
	ttl, err := a.Vault.RenewLease(ctx, held.Current.Vault.Token, held.Current.Consul.Lease)
	if err != nil {
		held.Current.Vault.Refused = refusedBy(err, failure.RemoteVault)
		held.Current.Consul.Refused = refusedBy(err, failure.RemoteConsul)
		return held, err
	}
	life, capped := a.extended(held.Current.Consul.Life, ttl)
	held.Current.Consul.Life = life
	if capped {
		held = a.reattestBefore(held, life)
	}
	return held, nil
}

// reattestBefore brings the next epoch forward, to well before life ends.
func (a *actions) reattestBefore(held states.Held, life states.Life) states.Held {
	now := a.Now()
	at := states.RenewAt(now, states.Remaining(life.Expires, now), a.Roll())
	held.Current.Vault.ReattestAt = states.Sooner(held.Current.Vault.ReattestAt, at)
	return held
}

// renewCertificate makes a candidate of the current epoch with a new certificate:
// it is shown to every server before it replaces the one that works (law 3).
func (a *actions) renewCertificate(ctx context.Context, held states.Held) (states.Held, error) {
	certificate, err := a.signCertificate(ctx, held.Current, held.Identity.Node)
	if err != nil {
		held.Current.Vault.Refused = refusedBy(err, failure.RemoteVault)
		return held, err
	}
	held.Next = held.Current
	held.Next.Certificate, held.Next.Verified = certificate, false
	return held, nil
}

// refusedBy reports whether this far end refused the credential itself.
func refusedBy(err error, remote failure.Remote) bool {
	failed := failure.Of(err)
	return failed.Class == failure.AuthDead && failed.Remote == remote
}

// revoke revokes the oldest former Vault token, and with it what was leased under it.
func (a *actions) revoke(ctx context.Context, held states.Held) (states.Held, error) {
	if err := a.Vault.RevokeToken(ctx, held.Former[0].Token); err != nil && !refusedBy(err, failure.RemoteVault) {
		return held, err
	}
	held.Former = append([]states.VaultToken(nil), held.Former[1:]...)
	return held, nil
}

// lookUp asks Vault whether our token lives.
func (a *actions) lookUp(ctx context.Context, held states.Held) (states.Held, error) {
	err := a.Vault.LookupToken(ctx, held.Current.Vault.Token)
	if err != nil {
		held.Current.Vault.Refused = refusedBy(err, failure.RemoteVault)
	}
	return held, err
}
