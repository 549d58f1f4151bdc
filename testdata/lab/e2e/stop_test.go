package e2e

import (
	"syscall"
	"time"
)

// stopBound is what the agent promises for SIGTERM.
const stopBound = 10 * time.Second

func (a *agent) signal(signal syscall.Signal) {
	a.t.Helper()
	must(a.t, syscall.Kill(a.pid, signal))
}

// terminate sends SIGTERM and demands exit 0 within the promise. It returns how
// long it took. meanwhile, where there is one, runs after the signal.
func (a *agent) terminate(meanwhile func()) time.Duration {
	a.t.Helper()
	began := time.Now()
	a.signal(syscall.SIGTERM)
	if meanwhile != nil {
		meanwhile()
	}
	timer := time.NewTimer(time.Until(began.Add(stopBound)))
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		a.fatalf("it was still there %s after SIGTERM", stopBound)
	}
	took := time.Since(began)
	if a.err != nil {
		a.fatalf("SIGTERM ended it with %v, not with exit 0", a.err)
	}
	return took
}
