package handover

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"pawl/states"
)

// TestNothingLivesLonger: whatever happened to the clocks between two processes,
// what is handed over lives no longer than it would have, by either clock, and
// what was refused or had ended stays so.
func TestNothingLivesLonger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := func(label string, from, to time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(int64(from), int64(to)).Draw(t, label))
		}
		received := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		encoded := received.Add(span("age", 0, 30*time.Hour))
		held := whole(received)
		held.Current.Consul.Refused = rapid.Bool().Draw(t, "refused")
		held.Current.Consul.RenewAt = received.Add(span("renewal", -time.Hour, 24*time.Hour))
		before := stampAt(encoded)
		text, err := Encode(held, before)
		if err != nil {
			t.Fatal(err)
		}
		// The boot clock goes on only; the wall clock may have been set anywhere.
		passed := span("passed", 0, 48*time.Hour)
		after := before
		after.Boot += passed
		after.Wall = encoded.Add(span("wall", -48*time.Hour, 48*time.Hour))
		got, err := Decode(text, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range []struct{ before, after states.Life }{
			{held.Current.Vault.Life, got.Current.Vault.Life},
			{held.Current.Consul.Life, got.Current.Consul.Life},
			{held.Current.Certificate.Life, got.Current.Certificate.Life},
			{held.JWT.Life, got.JWT.Life},
		} {
			left := states.Remaining(each.after.Expires, after.Wall)
			if most := states.Remaining(each.before.Expires, encoded) - passed; left > max(0, most) {
				t.Fatalf("%s: %s are left, and %s were before %s passed", each.before.ID, left, states.Remaining(each.before.Expires, encoded), passed)
			}
			if each.after.Live(after.Wall) && !each.before.Live(encoded) {
				t.Fatalf("%s came back to life", each.before.ID)
			}
			if each.before.Due(encoded) && !each.after.Due(after.Wall) {
				t.Fatalf("%s was due and is not any more", each.before.ID)
			}
			if each.after.Received.After(after.Wall) {
				t.Fatalf("%s was received in the future", each.before.ID)
			}
		}
	})
}
