package fleet

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// probeInterval is the site's, for the embedded agent, the registration and the exporter.
const probeInterval = time.Minute

// agent is a VM with pawl: the real machine over the real tables. Its attempts
// are coroutines: a port that asks Vault hands control back to the simulation
// until the answer is due, so that requests of all VMs reach Vault in order.
type agent struct {
	sim     *simulation
	index   int
	machine *fsm.Machine
	world   world

	// turn counts turns: a wake-up that was planned in an earlier one is void.
	turn uint64
	// yield hands control back until a moment.
	yield func(time.Duration) bool
	// until is when the answers are in that the attempt has got.
	until time.Duration
	// ahead is what Vault had to do when the attempt got control.
	ahead time.Duration
}

func newAgent(sim *simulation, index int, dice *rand.Rand) (*agent, error) {
	a := &agent{sim: sim, index: index}
	a.world = world{agent: a, name: fmt.Sprint("vm-", index)}
	settings := transitions.Settings{FleetSize: sim.scenario.FleetSize, ProbeInterval: probeInterval, Now: sim.clock, Roll: dice.Float64}
	machine, err := fsm.New(fsm.Options{
		Arrows:   transitions.Arrows(),
		Work:     transitions.Table(transitions.Ports{Metadata: &a.world, Vault: &a.world, Consul: &a.world, Exporter: &a.world}, settings),
		Settings: settings,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("make machine %d: %w", index, err)
	}
	a.machine = machine
	return a, nil
}

func (a *agent) start() { a.step(nil) }

func (a *agent) serving() bool {
	state := a.machine.Snapshot().State
	return state == states.Serving || state == states.Renewing
}

// step makes one turn of the machine, begins what it wants begun, and plans the next turn.
func (a *agent) step(ended *fsm.Pending) {
	a.turn++
	turn := a.turn
	pending, wake, any := a.machine.Step(a.sim.clock(), ended)
	a.sim.seen(a.index)
	if pending != nil {
		a.fly(pending)
	}
	if any {
		a.sim.at(wake.Sub(epoch()), func() {
			if a.turn == turn {
				a.step(nil)
			}
		})
	}
}

// deadline is a context that ends in virtual time; the ports ask for it.
type deadline struct {
	context.Context
	at time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }

// fly makes the attempt as a coroutine.
func (a *agent) fly(pending *fsm.Pending) {
	ctx := deadline{context.Background(), a.sim.clock().Add(pending.Work.Deadline)}
	a.until = a.sim.now
	resume, _ := iter.Pull(func(yield func(time.Duration) bool) {
		a.yield = yield
		pending.Make(ctx)
	})
	var advance func()
	advance = func() {
		a.ahead = a.sim.vault.waits()
		until, flying := resume()
		switch {
		case flying:
			a.sim.at(until, advance)
		case a.until > a.sim.now:
			a.sim.at(a.until, func() { a.step(pending) })
		default:
			a.step(pending)
		}
	}
	// Not at once: the turn that wanted this attempt is not over.
	a.sim.at(a.sim.now, advance)
}

// settle waits until the answers are in that were got so far.
func (a *agent) settle() {
	if a.until > a.sim.now {
		a.yield(a.until)
	}
}

// lapse lets a far end that is not modelled take its time.
func (a *agent) lapse(takes time.Duration) { a.until = max(a.until, a.sim.now) + takes }

// ask makes a request to Vault and waits for the answer.
func (a *agent) ask(ctx context.Context, asked request) error {
	a.settle()
	err := a.aside(ctx, asked)
	a.settle()
	return err
}

// clientTimeout bounds one request, as the site file does (vault.timeout).
const clientTimeout = 10 * time.Second

// aside makes a request to Vault and leaves its answer for settle to wait for.
// Two may be made side by side, on goroutines of their own: what they find is
// what was there when the attempt got control, whichever comes first.
func (a *agent) aside(ctx context.Context, asked request) error {
	patience := clientTimeout
	if at, bounded := ctx.Deadline(); bounded {
		patience = min(patience, at.Sub(a.sim.clock()))
	}
	if patience <= 0 {
		return failure.New(failure.Transient, failure.RemoteVault, "%s: no time left", asked.name)
	}
	until, err := a.sim.vault.ask(a.sim.now, a.ahead, asked, patience)
	a.world.lock.Lock()
	a.until = max(a.until, until)
	a.world.lock.Unlock()
	if err != nil {
		return err
	}
	return nil
}
