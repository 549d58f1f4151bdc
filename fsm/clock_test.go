package fsm

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// TestClockMeasuredByAnAttempt: what an attempt measured is in the snapshot of the
// very turn that takes its result. It was overwritten by what the attempt had taken
// along, so that a VM whose clock was wrong reached Serving without a reason.
func TestClockMeasuredByAnAttempt(t *testing.T) {
	now := time.Now()
	var ahead time.Duration
	row := transitions.Work{Action: "measure", Remote: failure.RemoteHost, Deadline: time.Second,
		Needs: func(states.Held, time.Time) bool { return true }}
	machine, err := New(Options{
		Arrows: transitions.Arrows(), Log: slog.New(slog.DiscardHandler),
		Settings: transitions.Settings{Now: func() time.Time { return now }, Roll: func() float64 { return 0 },
			ClockAhead: func() (time.Duration, bool) { return ahead, ahead != 0 }},
		Work: []transitions.Work{row.WithAttempt(func(_ context.Context, held states.Held) (states.Held, error) {
			ahead = time.Hour
			return held, nil
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	pending, _, _ := machine.Step(now, nil)
	pending.Make(t.Context())
	machine.Step(now, pending)
	if got := machine.Snapshot().Clock; got.Ahead != 3600 || got.WrongSince == nil {
		t.Errorf("the snapshot says %+v", got)
	}
}

// TestJumpEndsWaits: what failed by a clock that was wrong is tried again as soon
// as the clock jumps, but no sooner than a far end asked for.
func TestJumpEndsWaits(t *testing.T) {
	all := newRetries()
	all.get("verify").failed(retryNow, failedAs(failure.Local), 0.5)
	asked := failedAs(failure.Transient)
	asked.RetryAfter = time.Minute
	all.get("log in").failed(retryNow, asked, 0.5)
	all.jumped(retryNow)
	if next := all.get("verify").next; !next.Equal(retryNow) {
		t.Errorf("after a jump it waits until %s", next)
	}
	if next := all.get("log in").next; !next.Equal(retryNow.Add(time.Minute)) {
		t.Errorf("it was asked to wait a minute, and waits until %s", next)
	}
	if all.get("verify").attempts != 1 {
		t.Error("a jump forgot a failure")
	}
}

// TestJumpAsksWhoWeAre: a VM that wakes up may be a copy of one that lives. After a
// jump the metadata service is asked anew although no login is due; where it names
// another VM, that is said with what to do, and what works goes on (F7).
func TestJumpAsksWhoWeAre(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 1)
		r.reaches(states.Serving, time.Minute)
		granted := w.granted
		r.Tell(transitions.ClockJumped("planted"))
		r.pass(10 * time.Second)
		if r.Snapshot().State != states.Serving || w.granted != granted+1 || w.logins != 1 {
			t.Errorf("after a jump in %s, %d JWTs more, %d logins", r.Snapshot().State, w.granted-granted, w.logins)
		}
		w.set(func(w *world) { w.node = "vm-2" })
		r.Tell(transitions.ClockJumped("planted"))
		r.pass(10 * time.Second)
		standing := r.Snapshot().Standing()
		if len(standing) != 1 || standing[0].Action != transitions.FetchJWT || standing[0].LastClass != failure.Identity || standing[0].Fix == "" {
			t.Errorf("standing %+v", standing)
		}
		if held := r.end(); held.Identity.Node != "vm-1" || !held.Current.Vault.Live(time.Now()) || held.Installed != held.Current.Credentials() {
			t.Errorf("the copy holds %+v", held.Identity)
		}
	})
}
