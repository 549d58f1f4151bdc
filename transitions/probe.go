package transitions

import (
	"context"
	"slices"
	"time"

	"pawl/states"
)

// probe asks Vault whether it serves. What it answers is judged as any answer
// is: nothing but the sighting of Vault changes.
func (a *actions) probe(ctx context.Context, held states.Held) (states.Held, error) {
	return held, a.Vault.Healthy(ctx)
}

// need is what a row's Needs is.
type need = func(held states.Held, now time.Time) bool

// vaultBusiness is what waits for a healthy answer while Vault is out of sight:
// the requests that cost Vault dearly, and that a fleet would make together when
// it comes back (faults.md F10). Revoking and looking up are not among them: few
// VMs do it at once, and neither would be blamed on a renewal, so that a Vault
// that is healthy but refuses just that stays out of sight, and is not sighted
// and lost again at every attempt.
var vaultBusiness = []need{tokenDue, leaseDue, certificateDue, loginMissing, credentialsMissing}

// inSight is the need of a row of vaultBusiness.
func inSight(needs need) need {
	return func(held states.Held, now time.Time) bool {
		return held.Vault.Evidence != states.Unseen && needs(held, now)
	}
}

// vaultMissed: Vault is out of sight, and something waits for it.
func vaultMissed(held states.Held, now time.Time) bool {
	return held.Vault.Evidence == states.Unseen &&
		slices.ContainsFunc(vaultBusiness, func(needs need) bool { return needs(held, now) })
}
