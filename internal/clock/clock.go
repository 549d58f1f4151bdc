// Package clock owns what we know of the time that others have: how far this
// machine's wall clock is from the far ends', by the Date of their answers. It
// must import nothing of this project.
//
// A VM may boot with a clock that is wrong by years (faults.md F9). Its login does
// not depend on it, as long as Vault's certificate is judged by the corrected time.
package clock

import (
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the corrected clock. The zero value has measured nothing and corrects
// nothing. Safe from any goroutine.
type Clock struct{ measured atomic.Pointer[measurement] }

// measurement is how far the wall clock was ahead at a moment of two clocks. The
// boot clock cannot be set and counts the time asleep: a step of the wall clock since
// then is known without another answer, which a wrong correction could keep us from.
type measurement struct {
	ahead time.Duration
	wall  time.Time
	boot  time.Duration
}

// at returns how far the wall clock is ahead when it and the boot clock say this. A
// second is below what HTTP's Date tells, and far above the time between two looks.
func (m measurement) at(wall time.Time, boot time.Duration) time.Duration {
	step := wall.Round(0).Sub(m.wall) - (boot - m.boot)
	if step.Abs() < time.Second {
		return m.ahead
	}
	return m.ahead + step
}

// sinceBoot reads the boot clock; it fails on no Linux there is.
func sinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}

// Ahead returns how far this machine's wall clock is ahead of the far ends'
// (negative: behind), and false while nothing was measured. HTTP tells whole
// seconds only: less than two of them mean nothing.
func (c *Clock) Ahead() (time.Duration, bool) {
	measured := c.measured.Load()
	if measured == nil {
		return 0, false
	}
	return measured.at(time.Now(), sinceBoot()), true
}

// Now returns the corrected time.
func (c *Clock) Now() time.Time {
	ahead, _ := c.Ahead()
	return time.Now().Add(-ahead)
}

// Observe notes that a far end said date at some moment between asked and
// answered, which is now. A zero date is none.
func (c *Clock) Observe(date, asked, answered time.Time) {
	if date.IsZero() {
		return
	}
	// The second that was cut off and the way of the answer are halved: the error is below one second.
	middle := asked.Add(answered.Sub(asked) / 2).Round(0)
	ahead := middle.Sub(date.Add(500 * time.Millisecond))
	c.measured.Store(&measurement{ahead, answered.Round(0), sinceBoot()})
}

// Watch returns a transport that observes the Date of every answer of base.
func (c *Clock) Watch(base http.RoundTripper) http.RoundTripper { return watched{c, base} }

type watched struct {
	clock *Clock
	base  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w watched) RoundTrip(request *http.Request) (*http.Response, error) {
	asked := time.Now()
	response, err := w.base.RoundTrip(request)
	if err == nil {
		date, _ := http.ParseTime(response.Header.Get("Date")) // no date is a zero date
		w.clock.Observe(date, asked, time.Now())
	}
	return response, err
}

// CloseIdleConnections lets http.Client reach base.
func (w watched) CloseIdleConnections() {
	if closer, is := w.base.(interface{ CloseIdleConnections() }); is {
		closer.CloseIdleConnections()
	}
}
