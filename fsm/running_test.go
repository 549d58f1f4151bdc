package fsm

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pawl/states"
	"pawl/transitions"
)

// running is a machine in a world, inside a bubble.
type running struct {
	*Machine
	t      *testing.T
	world  *world
	log    *lockedWriter
	stop   context.CancelFunc
	landed chan states.Held
}

// probe is the probe interval of the tests.
const probe = 30 * time.Second

// launch starts a machine with the real work table; call it in a synctest bubble.
func launch(t *testing.T, w *world, seed uint64) *running { return launchWith(t, w, seed, nil) }

// launchWith starts a machine with the rows given, or with the real table.
func launchWith(t *testing.T, w *world, seed uint64, work []transitions.Work) *running {
	t.Helper()
	return launchPlanted(t, w, seed, func(options *Options) {
		if work != nil {
			options.Work = work
		}
	}, func(*Machine) {})
}

// launchPlanted starts a machine made of other things, and shows it before it runs.
func launchPlanted(t *testing.T, w *world, seed uint64, plant func(*Options), show func(*Machine)) *running {
	t.Helper()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	var lock sync.Mutex
	settings := transitions.Settings{ProbeInterval: probe, Now: time.Now, Roll: func() float64 {
		lock.Lock()
		defer lock.Unlock()
		return dice.Float64()
	}}
	log := &lockedWriter{}
	options := Options{
		Arrows:   transitions.Arrows(),
		Work:     transitions.Table(transitions.Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings),
		Settings: settings,
		Log:      slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	plant(&options)
	m, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	show(m)
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Machine: m, t: t, world: w, log: log, stop: stop, landed: make(chan states.Held, 1)}
	go func() { r.landed <- m.Run(ctx) }()
	return r
}

// lockedWriter lets the log be read while it is written.
type lockedWriter struct {
	lock sync.Mutex
	to   strings.Builder
}

func (w *lockedWriter) Write(text []byte) (int, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.to.Write(text)
}

// logged is what was logged so far.
func (r *running) logged() string {
	r.log.lock.Lock()
	defer r.log.lock.Unlock()
	return r.log.to.String()
}

// sleep lets virtual time pass. What the test read of the world before is
// ordered before what others write after: a timer alone does not say so to the
// race detector.
func (r *running) sleep(d time.Duration) {
	r.world.set(func(*world) {})
	time.Sleep(d)
}

// end stops the machine and returns what it held.
func (r *running) end() states.Held {
	r.stop()
	return <-r.landed
}

// pass lets virtual time pass.
func (r *running) pass(d time.Duration) {
	r.sleep(d)
	synctest.Wait()
}

// reaches waits until the machine is in the state, and returns how long that
// took; it fails after limit of virtual time.
func (r *running) reaches(want states.State, limit time.Duration) time.Duration {
	r.t.Helper()
	began := time.Now()
	for time.Since(began) < limit {
		synctest.Wait()
		if r.Snapshot().State == want {
			return time.Since(began)
		}
		r.sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("not in %s after %s; in %s, reasons %+v, standing %+v", want, limit, r.Snapshot().State, r.Snapshot().Reasons, r.Snapshot().Standing())
	return 0
}

// walk is the states passed through, as one text.
func (r *running) walk() string {
	moves := r.Snapshot().Moves
	if len(moves) == 0 {
		return ""
	}
	walk := []string{string(moves[0].From)}
	for _, move := range moves {
		walk = append(walk, string(move.To))
	}
	return strings.Join(walk, " ")
}
