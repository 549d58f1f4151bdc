package fsm

import (
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/transitions"
)

// TestEndBringsHome: who is told to end while a login is under way takes along the
// token that is about to be granted; it was hung up on, and nobody could revoke what
// it got. A far end that does not answer holds up the end for a moment only.
func TestEndBringsHome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, hangs := range []bool{false, true} {
			w := newWorld(t)
			w.latency, w.hanging[failure.RemoteVault] = 200*time.Millisecond, hangs
			r := launch(t, w, 1)
			r.pass(300 * time.Millisecond)
			if under := r.Snapshot().InFlight; under == nil || under.Action != transitions.Login {
				t.Fatalf("under way is %+v", under)
			}
			told := time.Now()
			held := r.end()
			if took := time.Since(told); took > landing+grace || held.Current.Vault.Token.Empty() != hangs {
				t.Errorf("Vault hangs: %t; the end took %s, and the token held is %q", hangs, took, held.Current.Vault.ID)
			}
		}
	})
}
