package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// noticed is how soon a step of the clock must be noticed.
const noticed = 15 * time.Second

// TestClock: the VM's wall clock is wrong, at boot or from some moment on. The
// servers' clocks, and this machine's, are right all the while.
func TestClock(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found)
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"an hour ahead at boot", testClockTolerable},
		{"a day behind at boot", func(t *testing.T, l *lab) { testClockWrong(t, l, -24*time.Hour) }},
		{"two years ahead at boot", func(t *testing.T, l *lab) { testClockWrong(t, l, 2*365*24*time.Hour) }},
		{"stepped while serving", testClockStepped},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l)
			l.awaitGone(t)
		})
	}
}

// near says whether the report has measured the clock to be so far ahead.
func (r report) near(ahead time.Duration) bool {
	return math.Abs(r.Clock.Ahead-ahead.Seconds()) < 3
}

// testClockTolerable: nothing refuses a clock that is wrong by an hour; it is a
// reason all the same.
func testClockTolerable(t *testing.T, l *lab) {
	clock := &warp{}
	a := startAgent(t, l, program{ahead: time.Hour, clock: clock})
	got := a.awaitServing()
	if !got.near(time.Hour) || !got.reason("clock_wrong") {
		t.Errorf("an hour ahead pawl says %.1f s, %s", got.Clock.Ahead, got)
	}
	clock.set(t, 0)
	set := time.Now()
	a.awaitStatus("the clock is right", func(r report) bool { return r.near(0) && !r.reason("clock_wrong") && r.Ready })
	if took := time.Since(set); took > noticed {
		t.Errorf("it took %s to notice that the clock was set right", took)
	}
	a.terminate(nil)
}

// testClockWrong: by this clock no certificate of any server is valid. The login
// works, Consul's own TLS does not, and the reason is the clock.
func testClockWrong(t *testing.T, l *lab, ahead time.Duration) {
	mark := l.auditMark(t)
	clock := &warp{}
	a := startAgent(t, l, program{ahead: ahead, clock: clock})
	got := a.awaitStatus("Consul's TLS refuses", func(r report) bool { return r.action("verify_credentials").Failed >= 2 })
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) != 1 || got.State != "VaultAuthed" {
		t.Errorf("with a clock %s ahead there were %d logins, and pawl says %s", ahead, len(logins), got)
	}
	if !got.near(ahead) || !got.reason("clock_wrong") {
		t.Errorf("with a clock %s ahead pawl measures %.1f s: %s", ahead, got.Clock.Ahead, got)
	}
	failed := got.action("verify_credentials")
	if !strings.Contains(failed.Error+failed.Fix, "clock") {
		t.Errorf("the failure does not speak of the clock: %q, fix %q", failed.Error, failed.Fix)
	}
	for _, reason := range got.Reasons {
		t.Logf("%s (under %q): %s", reason.Name, reason.Under, reason.Detail)
	}
	clock.set(t, 0)
	set := time.Now()
	a.awaitServing()
	t.Logf("Serving %s after the clock was set right", time.Since(set).Round(time.Millisecond))
	if took := time.Since(set); took > noticed+5*time.Second {
		t.Errorf("it took %s to be Serving after the clock was set right", took)
	}
	if got := a.awaitStatus("the clock is right", func(r report) bool { return r.near(0) }); got.reason("clock_wrong") {
		t.Errorf("the reason stays: %s", got)
	}
	a.terminate(nil)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testClockStepped: a step past every TTL ends what is held, by the sooner clock,
// and a fresh JWT and epoch follow; a step back ends nothing. The node stays.
func testClockStepped(t *testing.T, l *lab) {
	clock := &warp{}
	a := startAgent(t, l, program{clock: clock})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	watching, present, scraping := l.watchHealth(t), l.watchPresence(t), l.scrape(t)
	const step = 60 * 24 * time.Hour // longer than any credential lives, shorter than a server's certificate
	for _, ahead := range []time.Duration{step, 0, -20 * time.Second, 0} {
		from, mark := a.log.mark(), l.auditMark(t)
		clock.set(t, ahead)
		stepped := time.Now()
		got := a.awaitStatus(fmt.Sprintf("it measured %s and serves", ahead), func(r report) bool { return r.near(ahead) && r.Ready && good(r.State) })
		took := time.Since(stepped)
		logins := len(succeeded(l.audit(t, mark), pathLogin))
		t.Logf("stepped to %s ahead: noticed, and Serving, %s later; %d logins, %d moves", ahead, took.Round(time.Millisecond), logins, len(a.log.moves(from)))
		if took > noticed {
			t.Errorf("a step to %s ahead took %s to be lived with", ahead, took)
		}
		if wanted := ahead == step; wanted != (logins > 0) {
			t.Errorf("a step to %s ahead made %d logins", ahead, logins)
		}
		if got.reason("clock_wrong") != (ahead == step) {
			t.Errorf("stepped to %s ahead pawl says %s", ahead, got)
		}
	}
	scraping.demandAll(t)
	present.demandAlways(t)
	watching.demandUnmoved(t)
	a.demandSame(before, a.awaitServing())
	a.terminate(nil)
}
