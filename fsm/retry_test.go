package fsm

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

var retryNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func failedAs(class failure.Class) *failure.Error {
	return failure.New(class, failure.RemoteVault, "log in: no")
}

// waits of the middle roll, which moves nothing, over a run of failures of one class.
func TestBackoffDoublesToItsLimit(t *testing.T) {
	rows := map[failure.Class][]time.Duration{
		failure.Transient: {500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second},
		failure.AuthDead:  {200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, 30 * time.Second, 30 * time.Second},
		failure.Config:    {2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute},
		failure.Identity:  {5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute},
		failure.Local:     {time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second},
		failure.Bug:       {time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute},
	}
	for _, class := range failure.Classes() {
		if policies[class].why == "" {
			t.Errorf("the policy of %s does not say why", class)
		}
		var retry retry
		for attempt, want := range rows[class] {
			retry.failed(retryNow, failedAs(class), 0.5)
			if retry.wait != want || !retry.next.Equal(retryNow.Add(want)) || retry.attempts != attempt+1 {
				t.Errorf("%s, failure %d: waits %s until %s, attempts %d; want %s", class, attempt+1, retry.wait, retry.next, retry.attempts, want)
			}
		}
		if len(rows[class]) == 0 {
			t.Errorf("no row for class %s", class)
		}
	}
	if len(policies) != len(failure.Classes()) {
		t.Errorf("%d policies for %d classes", len(policies), len(failure.Classes()))
	}
	var odd retry
	if odd.failed(retryNow, failedAs("odd"), 0.5); odd.wait != policies[failure.Bug].initial {
		t.Errorf("a class nobody knows waits %s, want as a bug", odd.wait)
	}
}

func TestJitterIsAQuarterEitherWay(t *testing.T) {
	for _, class := range failure.Classes() {
		for roll, share := range map[float64]float64{0: 0.75, 0.25: 0.875, 0.5: 1, 0.75: 1.125, 1: 1.25} {
			var retry retry
			retry.failed(retryNow, failedAs(class), roll)
			if want := time.Duration(share * float64(policies[class].initial)); retry.wait != want {
				t.Errorf("%s with roll %.2f waits %s, want %s", class, roll, retry.wait, want)
			}
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	asked := failedAs(failure.Transient)
	asked.RetryAfter = 17 * time.Second
	var retry retry
	if retry.failed(retryNow, asked, 0); retry.wait != 17*time.Second {
		t.Errorf("waits %s, the far end asked for 17s", retry.wait)
	}
	// It asks for a least wait, not for impatience.
	asked.RetryAfter = time.Millisecond
	if retry.failed(retryNow, asked, 0.5); retry.wait != time.Second {
		t.Errorf("waits %s, want the policy's 1s", retry.wait)
	}
}

func TestClassChangeStartsItsOwnPolicy(t *testing.T) {
	var retry retry
	for range 5 {
		retry.failed(retryNow, failedAs(failure.Transient), 0.5)
	}
	retry.failed(retryNow, failedAs(failure.Config), 0.5)
	if retry.wait != policies[failure.Config].initial || retry.class != failure.Config {
		t.Errorf("after a change of class: waits %s as %s, want the first wait of config", retry.wait, retry.class)
	}
	if retry.attempts != 6 {
		t.Errorf("%d attempts, want 6: they count failures, whatever their class", retry.attempts)
	}
	// A far end that answers by turns as two classes was asked ten thousand times an hour.
	before := policies[failure.Transient].limit
	if retry.failed(retryNow, failedAs(failure.Transient), 0.5); retry.wait != before {
		t.Errorf("back to the first class: waits %s, want it to go on at %s", retry.wait, before)
	}
}

// Whatever comes in whatever order, a wait is never nothing, and never more than
// a quarter above its class's limit, or what the far end asked for.
func TestWaitsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var retry retry
		failures := rapid.IntRange(1, 60).Draw(t, "failures")
		for attempt := range failures {
			failed := failedAs(rapid.SampledFrom(failure.Classes()).Draw(t, "class"))
			failed.RetryAfter = time.Duration(rapid.SampledFrom([]int{0, 0, 0, 30, 600}).Draw(t, "retry after")) * time.Second
			now := retryNow.Add(time.Duration(attempt) * time.Hour)
			retry.failed(now, failed, rapid.Float64Range(0, 1).Draw(t, "roll"))
			p := policies[failed.Class]
			least, most := p.initial*3/4, max(p.limit*5/4, failed.RetryAfter)
			if retry.wait < max(least, failed.RetryAfter) || retry.wait > most || !retry.next.Equal(now.Add(retry.wait)) {
				t.Fatalf("failure %d (%s): waits %s, want %s to %s", attempt, failed.Class, retry.wait, least, most)
			}
		}
		if retry.attempts != failures {
			t.Fatalf("%d attempts after %d failures", retry.attempts, failures)
		}
	})
}

// The library's default gives up after a quarter of an hour (design.md 4).
func TestBackoffNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var retry retry
		for range 100 {
			retry.failed(time.Now(), failedAs(failure.Transient), 0.5)
			time.Sleep(24 * time.Hour)
		}
		if retry.wait != policies[failure.Transient].limit {
			t.Errorf("after 100 days of failures it waits %s", retry.wait)
		}
	})
}

// Law 5: a success between two failures clears nothing; a minute of Serving does.
func TestCountersSurviveSuccess(t *testing.T) {
	settings := transitions.Settings{ProbeInterval: time.Minute, Now: func() time.Time { return retryNow }, Roll: func() float64 { return 0.5 }}
	work := transitions.Table(transitions.Ports{}, settings)
	machine, err := New(Options{Arrows: transitions.Arrows(), Work: work, Log: slog.New(slog.DiscardHandler), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	row := work[slices.IndexFunc(work, func(row transitions.Work) bool { return row.Action == transitions.Login })]
	end := func(err error) Attempts {
		machine.flight = &flight{row: row}
		machine.take(retryNow, result{flight: machine.flight, err: err})
		return *machine.record(row.Action)
	}
	no := fmt.Errorf("attempt: %w", failedAs(failure.Transient))
	end(no)
	if got := end(no); got.Running != 2 || got.Backoff != 1 || !got.Standing || got.LastClass != failure.Transient || got.LastError != no.Error() {
		t.Errorf("after two failures: %+v", got)
	}
	if got := end(nil); got.Standing || got.NextAttempt != nil || got.Running != 2 || got.LastError == "" {
		t.Errorf("after a success: %+v; want nothing standing, the counters as they were", got)
	}
	if got := end(no); got.Running != 3 || got.Backoff != 2 || got.Failed != 3 {
		t.Errorf("after a third failure: %+v; want the backoff to go on from where it was", got)
	}
	machine.forgive()
	if got := *machine.record(row.Action); got.Running != 3 || !machine.retries.ready(row).After(retryNow) {
		t.Errorf("a failure that stands was forgiven: %+v", got)
	}
	end(nil)
	machine.forgive()
	if got := *machine.record(row.Action); got.Running != 0 || got.LastError != "" || got.LastClass != "" || got.LastAt != nil || got.Backoff != 0 || got.Failed != 3 {
		t.Errorf("forgiven: %+v; want only the totals to stay", got)
	}
	if got := end(errors.New("odd")); got.Running != 1 || got.Backoff != policies[failure.Bug].initial.Seconds() || got.LastClass != failure.Bug {
		t.Errorf("after the calm, an unclassified failure: %+v; want the first wait of a bug", got)
	}
	if got := states.Rung(machine.held, retryNow); got != states.NoIdentity {
		t.Errorf("counters moved the machine to %s", got)
	}
}

// Law 5: at least a second between renewals, whichever they are.
func TestRenewalsAreSpaced(t *testing.T) {
	renewal, other := transitions.Work{Action: transitions.RenewLease, Renewal: true}, transitions.Work{Action: transitions.Login}
	retries := newRetries()
	if at := retries.ready(renewal); at.After(retryNow) {
		t.Errorf("the first renewal waits until %s", at)
	}
	retries.renewed = retryNow // by another renewal
	if at := retries.ready(renewal); !at.Equal(retryNow.Add(time.Second)) {
		t.Errorf("ready at %s, want a second after the last renewal", at)
	}
	if at := retries.ready(other); at.After(retryNow) {
		t.Errorf("what is no renewal waits until %s", at)
	}
	retries.get(renewal.Action).failed(retryNow, failedAs(failure.Transient), 0) // 375 ms
	if at := retries.ready(renewal); !at.Equal(retryNow.Add(time.Second)) {
		t.Errorf("ready at %s: its own backoff is the shorter wait", at)
	}
	retries.get(renewal.Action).failed(retryNow, failedAs(failure.Config), 0.5) // 2 s
	if at := retries.ready(renewal); !at.Equal(retryNow.Add(2 * time.Second)) {
		t.Errorf("ready at %s: its own backoff is the longer wait", at)
	}
	retries.clear(renewal.Action)
	if at := retries.ready(renewal); !at.Equal(retryNow.Add(time.Second)) {
		t.Errorf("ready at %s: forgiving clears no spacing", at)
	}
}
