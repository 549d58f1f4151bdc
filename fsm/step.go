package fsm

import (
	"context"
	"time"

	"pawl/states"
	"pawl/transitions"
)

// Pending is an attempt that Step wants made.
type Pending struct {
	// Work is the row; its Deadline is for the driver to keep.
	Work transitions.Work

	machine *Machine
	flight  *flight
	held    states.Held
	result  result
}

// Make makes the attempt. Called by the driver of Step, on any goroutine.
func (p *Pending) Make(ctx context.Context) {
	p.result = p.machine.attempt(ctx, p.flight, p.held)
}

// Step makes one turn at now, the turn that Run makes, for a driver that keeps
// time itself: a simulation of ten thousand machines, whose loops, timers and
// goroutines would cost more than all they do. ended is the attempt that was made
// since the last turn, if any. Returned are the attempt to make, nil where there
// is none, and when to turn next if nothing happens before.
//
// A driver calls Step from one goroutine and never together with Run.
func (m *Machine) Step(now time.Time, ended *Pending) (pending *Pending, wake time.Time, any bool) {
	m.launch = func(_ context.Context, flight *flight, held states.Held) {
		pending = &Pending{Work: flight.row, machine: m, flight: flight, held: held}
	}
	var landed *result
	if ended != nil {
		landed = &ended.result
		landed.took = now.Sub(ended.flight.since)
	}
	wake, any = m.turn(context.Background(), now, landed)
	return pending, wake, any
}
