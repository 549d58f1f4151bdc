package fsm

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unsafe"

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

// asleep returns t as a machine's clocks tell it that slept for d since it booted:
// the wall clock went on, the monotonic one did not. No public call makes such a
// time, so the reading is moved in place, as in the tests of states.
func asleep(t time.Time, d time.Duration) time.Time {
	t = t.Add(d)
	reading := (*struct {
		wall      uint64
		monotonic int64
		location  *time.Location
	})(unsafe.Pointer(&t))
	reading.monotonic -= int64(d)
	return t
}

// stepper drives a machine by Step, with a clock of its own: a bubble's time has no
// monotonic reading.
type stepper struct {
	*world
	machine *Machine
	now     time.Time
	ended   *Pending
}

// stepped returns a machine with one more row than the real table's, if any.
func stepped(t *testing.T, w *world, more ...transitions.Work) *stepper {
	t.Helper()
	w.latency = 0
	s := &stepper{world: w, now: time.Now()}
	settings := transitions.Settings{ProbeInterval: time.Hour, Now: func() time.Time { return s.now }, Roll: func() float64 { return 0.5 }}
	machine, err := New(Options{Arrows: transitions.Arrows(), Settings: settings, Log: slog.New(slog.DiscardHandler),
		Work: append(transitions.Table(transitions.Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings), more...)})
	if err != nil {
		t.Fatal(err)
	}
	s.machine = machine
	return s
}

// live lives for length; an attempt takes ten milliseconds.
func (s *stepper) live(length time.Duration) {
	for until := s.now.Add(length); s.now.Before(until); {
		pending, wake, _ := s.machine.Step(s.now, s.ended)
		if s.ended = pending; pending != nil {
			pending.Make(context.Background())
			s.now = s.now.Add(10 * time.Millisecond)
		} else {
			s.now = s.now.Add(max(time.Millisecond, wake.Sub(s.now)))
		}
	}
}

// TestSleptOverReattest: a VM sleeps from before a new epoch is due until after. The
// JWT that is fetched on waking up is fresh, though by the monotonic clock the
// epoch is not due for hours: it was taken for stale, fetched anew without a pause,
// and no login followed until that clock had come so far.
func TestSleptOverReattest(t *testing.T) {
	w := newWorld(t)
	w.tokenTTL = w.maxTTL // it cannot be renewed; a new epoch is due after twelve to sixteen hours
	s := stepped(t, w)
	s.live(11 * time.Hour)
	logins, granted := w.logins, w.granted
	s.now = asleep(s.now, 6*time.Hour)
	s.live(time.Minute)
	if w.logins != logins+1 || w.granted != granted+1 || s.machine.Snapshot().State != states.Serving {
		t.Errorf("a minute after the sleep: %d logins and %d JWTs more, in %s; want one each", w.logins-logins, w.granted-granted, s.machine.Snapshot().State)
	}
}

// TestSuccessesAreSpaced: what succeeds and is needed all the same is made again
// after a second, in Serving too. There the clearing of the counters took the pause
// away, and the loop spun.
func TestSuccessesAreSpaced(t *testing.T) {
	made := 0
	greedy := transitions.Work{Action: "never_enough", Remote: failure.RemoteHost, Deadline: time.Second, Needs: func(states.Held, time.Time) bool { return true }}
	s := stepped(t, newWorld(t), greedy.WithAttempt(func(_ context.Context, held states.Held) (states.Held, error) {
		made++
		return held, nil
	}))
	for _, when := range []string{"before the counters are cleared", "after"} {
		before := made
		s.live(calm)
		if got := made - before; got < 55 || got > 65 {
			t.Errorf("%s: %d attempts in %s, want one a second", when, got, calm)
		}
	}
}

// TestJumpWithoutMetadata: a JWT that could not be had after a jump, long before an
// epoch is due, is no failed renewal: when the epoch became due it was overdue at
// once, and a planned change went by way of Degraded.
func TestJumpWithoutMetadata(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 1)
		r.reaches(states.Serving, time.Minute)
		w.set(func(w *world) { w.metadataDown = true })
		r.Tell(transitions.ClockJumped("planted"))
		r.pass(time.Minute)
		w.set(func(w *world) { w.metadataDown = false })
		r.pass(20 * time.Hour)
		if w.logins != 2 || strings.Contains(r.walk(), string(states.Degraded)) {
			t.Errorf("%d logins, by way of %s", w.logins, r.walk())
		}
		r.end()
	})
}
