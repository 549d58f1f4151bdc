package fsm

import (
	"strings"
	"testing"
	"time"

	"pawl/states"
	"pawl/transitions"
)

// TestNotOverdueBefore: a machine that woke up asks who it is, and the metadata
// service was away for a minute. When a new epoch was due, hours later, it was
// called overdue before anybody had tried.
func TestNotOverdueBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 7)
		r.reaches(states.Serving, time.Minute)
		r.pass(time.Hour)
		w.set(func(w *world) { w.metadataDown = true })
		r.Tell(transitions.ClockJumped("planted"))
		r.pass(time.Minute)
		w.set(func(w *world) { w.metadataDown = false })
		r.pass(20 * time.Hour)
		if w.logins < 2 {
			t.Fatal("no new epoch in 20 hours")
		}
		if strings.Contains(r.logged(), "to=Degraded") {
			t.Errorf("nothing failed that was due:\n%s", r.logged())
		}
	})
}
