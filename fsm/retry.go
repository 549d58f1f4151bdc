package fsm

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"pawl/internal/failure"
	"pawl/transitions"
)

// policy is how patiently one class of failure is asked again.
type policy struct {
	initial, limit time.Duration
	why            string
}

// policies has a row for each class. The limits decide how soon after an outage
// the machine is back; herd.go adds what a fleet needs to come back in good order.
var policies = map[failure.Class]policy{
	failure.Transient: {500 * time.Millisecond, 8 * time.Second, "back within seconds of the far end's return"},
	failure.AuthDead:  {200 * time.Millisecond, 30 * time.Second, "a new credential is asked for at once; a second refusal is no accident"},
	failure.Config:    {2 * time.Second, time.Minute, "a person must act: ask slowly, but notice the mend within a minute"},
	failure.Identity:  {5 * time.Second, 5 * time.Minute, "somebody else's identity does not become ours by asking"},
	failure.Local:     {time.Second, 30 * time.Second, "disks are emptied and ports freed by hand"},
	failure.Bug:       {time.Second, time.Minute, "ours to mend; the rest goes on"},
}

// probing is how patiently a probe row asks a far end that is away: its request
// costs next to nothing, so it is made twice as often as another. With its jitter it
// leaves a second of the five after which a Consul token must be good again (law 3),
// for a login and what follows it.
var probing = policy{500 * time.Millisecond, 3200 * time.Millisecond, "an outage's end is noticed within seconds, whatever the work that waits for it costs"}

const (
	// calm is how long the machine must have served before attempt counters are cleared (law 5).
	calm = 60 * time.Second
	// renewalSpacing is the least time between two renewals (law 5), and before an
	// action that succeeded and is needed all the same is made again.
	renewalSpacing = time.Second
	// jitterShare is how far a wait is moved either way, by dice of our own whose
	// seed is printed; the library's are global and cannot be replayed.
	jitterShare = 0.25
)

// retry is the patience with one action.
type retry struct {
	class failure.Class // of the last failure
	// backoffs are one for each class that was met: failures that take turns must not
	// begin anew each time.
	backoffs map[failure.Class]*backoff.ExponentialBackOff
	attempts int
	// next is when the action may be tried again; wait is how long that was from the
	// failure, and spread the herd's share in it.
	next         time.Time
	wait, spread time.Duration
	// away is the far end that the last failure found away; empty where it was not that.
	away failure.Remote
	// asked is until when the far end asked us to wait, or law 5 does between two
	// attempts that succeed; forgiving does not shorten that.
	asked time.Time
	// probe says that this is a probe row's; herd how many VMs' dice are thrown
	// beside ours.
	probe bool
	herd  herd
}

// newBackOff is the one constructor of backoffs, every field written out.
func newBackOff(p policy) *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval:     p.initial,
		RandomizationFactor: 0,
		Multiplier:          2,
		MaxInterval:         p.limit,
		MaxElapsedTime:      0, // never give up; the default is a quarter of an hour
		Stop:                backoff.Stop,
		Clock:               backoff.SystemClock,
	}
	b.Reset()
	return b
}

// failed notes a failed attempt at now. Counters live on through successes: only
// calm clears them, so that no chain of attempts between two states can spin.
func (r *retry) failed(now time.Time, failed *failure.Error, roll float64) {
	r.class = failed.Class
	if r.backoffs[r.class] == nil {
		p, known := policies[failed.Class]
		if !known {
			p = policies[failure.Bug]
		}
		if r.probe && failed.Class == failure.Transient {
			p = probing
		}
		if r.backoffs == nil {
			r.backoffs = map[failure.Class]*backoff.ExponentialBackOff{}
		}
		r.backoffs[r.class] = newBackOff(p)
	}
	r.attempts++
	r.away = ""
	wait := r.backoffs[r.class].NextBackOff()
	wait += time.Duration((2*roll - 1) * jitterShare * float64(wait))
	r.spread = time.Duration(roll * float64(r.herd.retrying(failed.Class)))
	r.wait = max(wait, failed.RetryAfter) + r.spread
	r.next, r.asked = now.Add(r.wait), now.Add(failed.RetryAfter)
}

// spaced notes that the action succeeded at now and is needed all the same.
func (r *retry) spaced(now time.Time) {
	r.next = now.Add(renewalSpacing)
	if r.asked.Before(r.next) {
		r.asked = r.next
	}
}

// retries is the patience with every action.
type retries struct {
	of map[transitions.Action]*retry
	// renewed is when the last renewal was tried.
	renewed time.Time
	herd    herd
	// returns is what is known of far ends that were away.
	returns map[failure.Remote]comeback
}

func newRetries() *retries {
	return &retries{of: map[transitions.Action]*retry{}, returns: map[failure.Remote]comeback{}}
}

// get returns the action's retry, made on first use.
func (r *retries) get(action transitions.Action) *retry {
	if r.of[action] == nil {
		r.of[action] = &retry{herd: r.herd}
	}
	return r.of[action]
}

// ready returns when the row may be tried, which is not after now when at once.
func (r *retries) ready(row transitions.Work) time.Time {
	next := r.get(row.Action).next
	if opens := r.returns[row.Remote].opens; !row.Probe && opens.After(next) {
		next = opens
	}
	if row.Renewal && !r.renewed.IsZero() {
		if spaced := r.renewed.Add(renewalSpacing); spaced.After(next) {
			next = spaced
		}
	}
	return next
}

// jumped ends every wait, but for what a far end asked for: a clock was set, or the
// machine slept. Counters stay, so that a clock that jumps for ever spins nothing.
func (r *retries) jumped(now time.Time) {
	for _, each := range r.of {
		if each.next.After(now) {
			each.next = now
			if each.asked.After(now) {
				each.next = each.asked
			}
		}
	}
}

// clear forgets the action's failures, but not until when a far end asked us to wait.
func (r *retries) clear(action transitions.Action) {
	if asked := r.get(action).asked; !asked.IsZero() {
		r.of[action] = &retry{herd: r.herd, next: asked, asked: asked}
		return
	}
	delete(r.of, action)
}
