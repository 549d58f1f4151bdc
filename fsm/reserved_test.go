package fsm

import (
	"strings"
	"testing"
	"time"

	"pawl/states"
)

// TestReservedRests: the servers answer, and what they say is that our name is still
// another node's. The machine waits in ConsulReady for that to change. It took the
// answer for silence, and went to Degraded and back at each attempt.
func TestReservedRests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 9)
		r.reaches(states.Serving, time.Minute)
		r.pass(time.Hour)
		w.set(func(w *world) { w.reserved, w.registered = true, false })
		r.pass(2 * probe)
		before := len(r.walk())
		r.pass(20 * time.Minute)
		if state := r.Snapshot().State; state != states.ConsulReady {
			t.Errorf("it waits in %s", state)
		}
		if moved := strings.Fields(r.walk()[before:]); len(moved) > 0 {
			t.Errorf("and went to and fro: %s", moved)
		}
		w.set(func(w *world) { w.reserved = false })
		r.reaches(states.Serving, 15*time.Second)
	})
}
