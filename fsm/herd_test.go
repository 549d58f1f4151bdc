package fsm

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// The rows of the herd's tests: a far end with a probe, and one without.
var (
	probeRow  = transitions.Work{Action: transitions.Probe, Remote: failure.RemoteVault, Probe: true}
	loginRow  = transitions.Work{Action: transitions.Login, Remote: failure.RemoteVault}
	issueRow  = transitions.Work{Action: transitions.Issue, Remote: failure.RemoteVault}
	proveRow  = transitions.Work{Action: transitions.Prove, Remote: failure.RemoteConsul}
	herdTable = []transitions.Work{probeRow, loginRow, issueRow, proveRow}
)

func always(roll float64) func() float64 { return func() float64 { return roll } }

func TestHerdOfOneSpreadsNothing(t *testing.T) {
	for _, size := range []herd{-1, 0, 1} {
		for _, class := range failure.Classes() {
			if spread := size.retrying(class); spread != 0 {
				t.Errorf("a herd of %d spreads %s over %s", size, class, spread)
			}
		}
	}
	if got := herd(10001).over(returnsPerSecond); got != 40*time.Second {
		t.Errorf("10,001 VMs return over %s", got)
	}
}

// Every wait after a failure is spread, what the far end asked for included: ten
// thousand that were told "in one second" must not come in one second.
func TestHerdSpreadsRetries(t *testing.T) {
	asked := failedAs(failure.Transient)
	asked.RetryAfter = 10 * time.Second
	for _, row := range []struct {
		failed *failure.Error
		roll   float64
		want   time.Duration
	}{
		{failedAs(failure.Transient), 0.5, 500*time.Millisecond + 2500*time.Millisecond},
		{failedAs(failure.AuthDead), 0.5, 200*time.Millisecond + 20*time.Second},
		{asked, 0, 10 * time.Second},
		{asked, 0.5, 12500 * time.Millisecond},
	} {
		retry := retry{herd: 10001}
		if retry.failed(retryNow, row.failed, row.roll); retry.wait != row.want {
			t.Errorf("%s with roll %.1f waits %s, want %s", row.failed.Class, row.roll, retry.wait, row.want)
		}
	}
}

// A probe is asked twice as often as anything else.
func TestProbesArePatientForLess(t *testing.T) {
	retry := retry{probe: true}
	for range 10 {
		retry.failed(retryNow, failedAs(failure.Transient), 0.5)
	}
	if retry.wait != probing.limit || probing.limit >= policies[failure.Transient].limit {
		t.Errorf("a probe waits %s", retry.wait)
	}
}

// After a healthy answer each VM waits for its turn, with all its work for that
// far end and with nothing else.
func TestReturnIsSpread(t *testing.T) {
	retries := newRetries()
	retries.herd = 10001
	retries.answered(probeRow, retryNow, always(0.25))
	for _, row := range []struct {
		work transitions.Work
		wait time.Duration
	}{{loginRow, 10 * time.Second}, {issueRow, 10 * time.Second}, {proveRow, 0}, {probeRow, 0}} {
		if wait := max(0, retries.ready(row.work).Sub(retryNow)); wait != row.wait {
			t.Errorf("%s waits %s, want %s", row.work.Action, wait, row.wait)
		}
	}
	// The login succeeded: what follows it does not queue again.
	retries.answered(loginRow, retryNow, nil)
	if at := retries.ready(issueRow); at.After(retryNow) {
		t.Errorf("%s waits until %s", issueRow.Action, at)
	}
}

// A far end that answers the probe and then cannot bear the work is given more
// time, up to a limit, and less again once it can.
func TestOverloadWidensTheSpread(t *testing.T) {
	retries := newRetries()
	retries.herd = 10001
	window := func() time.Duration {
		retries.answered(probeRow, retryNow, always(1))
		return retries.ready(issueRow).Sub(retryNow)
	}
	overloaded := failedAs(failure.Transient)
	retries.get(loginRow.Action).failed(retryNow, overloaded, 0)
	retries.refused(loginRow, overloaded, herdTable) // the outage itself widens nothing
	for _, want := range []time.Duration{40, 80, 160, 160} {
		if got := window(); got != want*time.Second {
			t.Errorf("spread over %s, want %ds", got, want)
		}
		retries.refused(probeRow, overloaded, herdTable)                                                                       // nor does a probe
		retries.refused(issueRow, failure.New(failure.Transient, failure.RemoteConsul, "behind vault"), herdTable)             // nor what is behind
		retries.refused(loginRow, failure.New(failure.Config, failure.RemoteVault, "a person's mistake, not load"), herdTable) // nor what is no overload
		retries.refused(loginRow, overloaded, herdTable)
	}
	retries.answered(loginRow, retryNow, nil)
	if got := window(); got != 40*time.Second {
		t.Errorf("after a success it is spread over %s", got)
	}
}

// What a far end asked for holds for its probe too.
func TestRetryAfterHoldsTheProbe(t *testing.T) {
	retries := newRetries()
	asked := failedAs(failure.Transient)
	asked.RetryAfter = 17 * time.Second
	retries.get(loginRow.Action).failed(retryNow, asked, 0)
	retries.refused(loginRow, asked, herdTable)
	if at := retries.ready(probeRow); !at.Equal(retryNow.Add(17 * time.Second)) {
		t.Errorf("the probe is ready at %s", at)
	}
	if at := retries.ready(proveRow); at.After(retryNow) {
		t.Errorf("another far end waits until %s", at)
	}
}

// The counters of earlier outages live for a minute. The soak met a Vault that
// was away for a second and of which nobody asked for ten: the token that was due
// expired meanwhile, and the node stood without one for eight seconds.
func TestProbeDoesNotWaitForTheWork(t *testing.T) {
	retries := newRetries()
	away := failedAs(failure.Transient)
	login := retries.get(loginRow.Action)
	for range 6 {
		login.failed(retryNow, away, 1)
	}
	if login.wait != 10*time.Second {
		t.Fatalf("the work waits %s", login.wait)
	}
	retries.refused(loginRow, away, herdTable)
	if wait := retries.ready(probeRow).Sub(retryNow); wait != probing.limit {
		t.Errorf("the probe waits %s", wait)
	}
	if wait := retries.ready(loginRow).Sub(retryNow); wait != login.wait {
		t.Errorf("the work waits %s", wait)
	}
	// Probes and their jitter leave time for a login within five seconds (law 3).
	if most := probing.limit + time.Duration(jitterShare*float64(probing.limit)); most > 4500*time.Millisecond {
		t.Errorf("a probe may wait %s", most)
	}
	// The herd's share is kept, and so is what was asked for.
	retries = newRetries()
	retries.herd = 10001
	asked := failedAs(failure.Transient)
	for range 6 {
		retries.get(loginRow.Action).failed(retryNow, away, 1)
	}
	retries.refused(loginRow, away, herdTable)
	if wait := retries.ready(probeRow).Sub(retryNow); wait != probing.limit+5*time.Second {
		t.Errorf("one of many waits %s for its probe", wait)
	}
	asked.RetryAfter = 7 * time.Second
	retries.get(loginRow.Action).failed(retryNow, asked, 0)
	retries.refused(loginRow, asked, herdTable)
	if wait := retries.ready(probeRow).Sub(retryNow); wait < 7*time.Second {
		t.Errorf("asked for 7 s, the probe waits %s", wait)
	}
	// Once the probe is answered the work waits no more, but for what was asked.
	for asks, want := range map[time.Duration]time.Duration{0: 0, 3 * time.Second: 2 * time.Second} {
		retries = newRetries()
		asked := failedAs(failure.Transient)
		for range 6 {
			retries.get(loginRow.Action).failed(retryNow, away, 1)
			retries.get(proveRow.Action).failed(retryNow, away, 1)
		}
		asked.RetryAfter = asks
		retries.get(loginRow.Action).failed(retryNow, asked, 1)
		retries.refused(loginRow, asked, herdTable)
		retries.answered(probeRow, retryNow.Add(time.Second), always(0))
		if wait := max(0, retries.ready(loginRow).Sub(retryNow.Add(time.Second))); wait != want {
			t.Errorf("asked for %s the work waits %s after the probe", asks, wait)
		}
		if wait := retries.ready(proveRow).Sub(retryNow); wait != 10*time.Second {
			t.Errorf("another far end's work waits %s", wait)
		}
	}
	// One that is up and cannot bear the work is left alone as long as the work.
	retries = newRetries()
	retries.answered(probeRow, retryNow, always(0))
	for range 6 {
		retries.get(loginRow.Action).failed(retryNow, away, 1)
	}
	retries.refused(loginRow, away, herdTable)
	if wait := retries.ready(probeRow).Sub(retryNow); wait != 10*time.Second {
		t.Errorf("a busy far end is probed after %s", wait)
	}
}

// One flight a remote: there is one worker for all of them, whatever is missing
// and whatever news comes in.
func TestOneFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var flying, most, made atomic.Int32
		attempt := func(_ context.Context, held states.Held) (states.Held, error) {
			most.Store(max(most.Load(), flying.Add(1)))
			timer := time.NewTimer(3 * time.Second)
			<-timer.C
			flying.Add(-1)
			made.Add(1)
			return held, failedAs(failure.Transient)
		}
		var table []transitions.Work
		for _, row := range []transitions.Work{loginRow, issueRow, proveRow} {
			row.Deadline, row.Needs = 10*time.Second, func(states.Held, time.Time) bool { return true }
			table = append(table, row.WithAttempt(attempt))
		}
		r := launchWith(t, newWorld(t), 1, table)
		for range 600 {
			r.Tell(transitions.ServiceNews("anything", "planted"))
			r.pass(100 * time.Millisecond)
		}
		r.end()
		if most.Load() != 1 || made.Load() < 10 {
			t.Errorf("%d attempts, up to %d at once", made.Load(), most.Load())
		}
	})
}
