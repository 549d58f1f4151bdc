package fsm

import (
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// TestFixIsTold: Vault is killed, and comes back sealed. The line that says so was
// the hundredth of its kind, and not written for minutes, while the VM waited for a
// person who read of a Vault that does not listen.
func TestFixIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 6)
		r.reaches(states.Serving, time.Minute)
		w.set(func(w *world) { w.vaultDown = true })
		r.pass(4 * time.Hour)
		sealed := failure.New(failure.Transient, failure.RemoteVault, "status 503: Vault is sealed").WithFix("unseal vault: vault operator unseal")
		w.set(func(w *world) { w.vaultDown, w.troubles[failure.RemoteVault] = false, sealed })
		r.pass(15 * time.Second)
		if told := strings.Count(r.logged(), "operator unseal"); told != 1 {
			t.Errorf("told %d times within 15 s", told)
		}
		before := strings.Count(r.logged(), "\n")
		r.pass(time.Hour)
		if lines := strings.Count(r.logged(), "\n") - before; lines > 30 { // the JWT, of five minutes, is fetched anew
			t.Errorf("%d lines in the hour after", lines)
		}
	})
}
