package states

import (
	"testing"
	"time"
)

// TestFormerTokensEnd: what is to be revoked and has expired meanwhile is no work
// any more, so that an outage of days in which nothing can be revoked does not
// gather tokens without end. One that was refused may live all the same.
func TestFormerTokensEnd(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	live := VaultToken{Life: NewLife("live", now, time.Hour, 0)}
	refused := VaultToken{Life: NewLife("refused", now, time.Hour, 0)}
	refused.Refused = true
	expired := VaultToken{Life: NewLife("expired", now.Add(-2*time.Hour), time.Hour, 0)}
	before := []VaultToken{expired, live, refused}
	after := Held{Former: before}.Settled(now)
	if len(after.Former) != 2 || after.Former[0].ID != "live" || after.Former[1].ID != "refused" {
		t.Errorf("left are %+v", after.Former)
	}
	if before[0].ID != "expired" {
		t.Error("a published slice was written in place")
	}
}
