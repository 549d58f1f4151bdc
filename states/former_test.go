package states

import (
	"testing"
	"time"
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
