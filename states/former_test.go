package states

import (
	"testing"
	"time"

	"pawl/internal/secret"
)

// TestFormerTokensEnd: what is to be revoked and has expired meanwhile is no work
// any more, so that an outage of days in which nothing can be revoked does not
// gather tokens without end. One that was refused may live all the same, and so
// does one that is over by a wall clock alone, which was set ahead.
func TestFormerTokensEnd(t *testing.T) {
	live := VaultToken{Life: NewLife("live", both, time.Hour, 0)}
	refused := VaultToken{Life: NewLife("refused", both, time.Hour, 0)}
	refused.Refused = true
	expired := VaultToken{Life: NewLife("expired", both.Add(-2*time.Hour), time.Hour, 0)}
	before := []VaultToken{expired, live, refused}
	for _, now := range []time.Time{both, withMonotonic(both.Add(24*time.Hour), -24*time.Hour+time.Minute)} {
		after := Held{Former: before}.Settled(now)
		if len(after.Former) != 2 || after.Former[0].ID != "live" || after.Former[1].ID != "refused" {
			t.Errorf("at %s there are left %+v", now, after.Former)
		}
	}
	if after := (Held{Former: before}).Settled(both.Add(time.Hour)); len(after.Former) != 0 {
		t.Errorf("an hour later there are left %+v", after.Former)
	}
	if before[0].ID != "expired" {
		t.Error("a published slice was written in place")
	}
}

// TestDeadTokensAreRevoked: the wall clock is set ahead, and a token is over by it
// while Vault's clock has not moved: what takes its place, or drops it, leaves it to
// be revoked. It was forgotten, and with it the Consul token under it.
func TestDeadTokensAreRevoked(t *testing.T) {
	token := func(id string, ttl time.Duration) VaultToken {
		return VaultToken{Life: NewLife(id, both, ttl, 0), Token: secret.New(id)}
	}
	ahead := withMonotonic(both.Add(2*time.Hour), -2*time.Hour+time.Minute)
	for _, row := range []struct {
		name          string
		current, next time.Duration
		stays, former string
	}{
		{"the candidate's is over", 24 * time.Hour, time.Hour, "current", "next"},
		{"the current one's is over", time.Hour, 24 * time.Hour, "next", "current"},
	} {
		held := Held{Current: Epoch{Number: 1, Vault: token("current", row.current)}, Next: Epoch{Number: 2, Vault: token("next", row.next)}}
		after := held.Settled(ahead)
		if after.Current.Vault.ID != row.stays || after.Next.Number != 0 || len(after.Former) != 1 || after.Former[0].ID != row.former {
			t.Errorf("%s: current %s, to be revoked %+v", row.name, after.Current.Vault.ID, after.Former)
		}
		if after = held.Settled(both.Add(2 * time.Hour)); len(after.Former) != 0 {
			t.Errorf("%s by both clocks: to be revoked %+v", row.name, after.Former)
		}
	}
}
