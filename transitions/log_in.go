package transitions

import (
	"context"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// logIn begins an epoch: as Next while Current still lives, else in its place,
// with what is installed left running as it is (law 2).
func (a *actions) logIn(ctx context.Context, held states.Held) (states.Held, error) {
	grant, err := a.Vault.Login(ctx, held.JWT.Text)
	if err != nil {
		held.JWT.Refused = failure.Of(err).Class == failure.AuthDead
		return held, err
	}
	now := a.Now()
	token := states.VaultToken{Life: states.NewLife(grant.Accessor, now, grant.TTL, a.Roll()), Token: grant.Token}
	if grant.MaxTTL > 0 {
		token.Ends = now.Add(grant.MaxTTL)
		token.ReattestAt = states.RenewAt(now, grant.MaxTTL, a.Roll())
	}
	if grant.MaxTTL > 0 && grant.TTL >= grant.MaxTTL {
		token.RenewAt = time.Time{} // it cannot be renewed, only replaced
	}
	epoch := states.Epoch{Number: max(held.Current.Number, held.Next.Number) + 1, Vault: token}
	if held.Current.Vault.Live(now) {
		held.Next = epoch
		return held, nil
	}
	held = held.Retired(held.Current.Vault)
	held.Current, held.Next = epoch, states.Epoch{}
	return held, nil
}
