package transitions

import (
	"context"
	"errors"
	"sync"

	"pawl/internal/failure"
	"pawl/states"
)

// issue fetches what the candidate epoch lacks: gossip key and certificate side
// by side, and the Consul token last and only when both are there, since each
// one leaves a token behind in Consul. What was got stays, whatever else failed.
func (a *actions) issue(ctx context.Context, held states.Held) (states.Held, error) {
	epoch := candidate(held)
	token, now := epoch.Vault.Token, a.Now()
	epoch.Verified = false

	// Beside each other, the gossip key on a goroutine of its own: what it finds
	// it leaves in variables of its own, since the other one reads the epoch.
	var side sync.WaitGroup
	defer side.Wait() // whatever panics: an attempt that has ended runs on nowhere
	var gossip states.GossipKey
	var gossipErr, certificateErr error
	if !epoch.Gossip.Live(now) {
		side.Go(func() {
			defer recovered("read gossip key", &gossipErr)
			var grant GossipGrant
			if grant, gossipErr = a.Vault.ReadGossipKey(ctx, token); gossipErr == nil {
				gossip = states.GossipKey{Life: states.NewLife(grant.ID, now, 0, 0), Key: grant.Key, Previous: grant.Previous}
			}
		})
	}
	if !epoch.Certificate.Live(now) {
		var certificate states.Certificate
		if certificate, certificateErr = a.signCertificate(ctx, epoch, held.Identity.Node); certificateErr == nil {
			epoch.Certificate = certificate
		}
	}
	side.Wait()
	if gossip.Held() {
		epoch.Gossip = gossip
	}
	if err := worst(gossipErr, certificateErr); err != nil {
		return vaultFailed(held, epoch, err, a.Now()), err
	}
	if !epoch.Consul.Live(now) {
		grant, err := a.Vault.IssueConsulToken(ctx, token)
		if err != nil {
			return vaultFailed(held, epoch, err, a.Now()), err
		}
		epoch.Consul = states.ConsulToken{
			Life:  states.NewLife(grant.Accessor, a.Now(), grant.TTL, a.Roll()),
			Token: grant.Token, Lease: grant.Lease,
		}
	}
	return withCandidate(held, epoch), nil
}

// recovered makes a panic on a goroutine of an action's own a failure of class
// bug: nobody else could, and the process would die of it.
func recovered(doing string, err *error) {
	if panicked := recover(); panicked != nil {
		*err = failure.New(failure.Bug, failure.RemoteHost, "%s: panicked: %v", doing, panicked)
	}
}

// signCertificate returns a new certificate of the epoch.
func (a *actions) signCertificate(ctx context.Context, epoch states.Epoch, node string) (states.Certificate, error) {
	grant, err := a.Vault.SignCertificate(ctx, epoch.Vault.Token, node)
	if err != nil {
		return states.Certificate{}, err
	}
	return states.Certificate{
		Life:  states.NewLife(grant.Serial, a.Now(), grant.TTL, a.Roll()),
		Chain: grant.Chain, Key: grant.Key,
	}, nil
}

// worst returns the error to go by when two attempts ran side by side: a refusal
// says more than a silence. The other one is kept in the text.
func worst(first, second error) error {
	switch {
	case first == nil:
		return second
	case second == nil, first.Error() == second.Error():
		return first
	}
	chosen := failure.Of(first)
	if chosen.Class == failure.Transient {
		chosen = failure.Of(second)
	}
	joined := *chosen
	joined.Err = errors.Join(first, second)
	joined.RetryAfter = max(failure.Of(first).RetryAfter, failure.Of(second).RetryAfter)
	return &joined
}
