// Package fsm owns the machine: it compiles the arrow table into looplab/fsm,
// runs the one loop, and owns backoff, history and snapshot. It must import
// neither Vault nor Consul nor net/http: all it knows of the world are the rows
// of the two tables.
//
// One goroutine, Run's, owns everything in a Machine. Readers get immutable
// snapshots and never wait for it (law 7).
package fsm

import (
	"context"
	"fmt"

	"github.com/looplab/fsm"

	"pawl/states"
	"pawl/transitions"
)

// referee is looplab's machine behind the few calls that are safe (design.md 4):
// no callbacks, never SetState, one goroutine, a context that cannot be cancelled.
type referee struct{ machine *fsm.FSM }

// newReferee compiles the table. looplab takes any table without a word, so it
// is validated first.
func newReferee(initial states.State, table []transitions.Arrow) (*referee, error) {
	if err := transitions.Validate(table); err != nil {
		return nil, fmt.Errorf("compile arrow table: %w", err)
	}
	if initial.Height() < 0 {
		return nil, fmt.Errorf("compile arrow table: unknown initial state %q", initial)
	}
	events := make([]fsm.EventDesc, 0, len(table))
	for _, arrow := range table {
		events = append(events, fsm.EventDesc{Name: string(arrow.Event), Src: []string{string(arrow.From)}, Dst: string(arrow.To)})
	}
	return &referee{machine: fsm.NewFSM(string(initial), events, nil)}, nil
}

// state returns where the machine is.
func (r *referee) state() states.State { return states.State(r.machine.Current()) }

// can reports whether the event leads anywhere from here.
func (r *referee) can(event transitions.Event) bool { return r.machine.Can(string(event)) }

// fire moves the machine. A cancelled context would wedge looplab for good,
// hence one that cannot be.
func (r *referee) fire(ctx context.Context, event transitions.Event) error {
	if err := r.machine.Event(context.WithoutCancel(ctx), string(event)); err != nil {
		return fmt.Errorf("fire %s in %s: %w", event, r.state(), err)
	}
	return nil
}
