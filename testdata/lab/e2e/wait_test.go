package e2e

import (
	"testing"
	"time"
)

// bound is the one bound of every wait: generous, for a machine that builds
// something beside us. What comes later than this does not come.
const bound = 90 * time.Second

// askEvery is how often a server is asked for what it cannot tell by itself.
const askEvery = 50 * time.Millisecond

// eventually asks until the answer is yes, and returns how long that took. check
// says in words what it saw, for a failure's text.
func eventually(t *testing.T, what string, check func() (bool, string)) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		is, seen := check()
		if is {
			return time.Since(began)
		}
		if time.Since(began) > bound {
			t.Fatalf("waited %s for: %s; last seen: %s", bound, what, seen)
		}
		<-tick.C
	}
}

// lasts is how long an outage is made to last: the time itself is what is
// tested. It ends early, with a failure, when the agent ends.
func (a *agent) lasts(length time.Duration) {
	a.t.Helper()
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.ended:
		a.fatalf("it ended by itself")
	}
}
