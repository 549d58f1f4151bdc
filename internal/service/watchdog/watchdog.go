// Package watchdog owns the last line of defence: it notices that the machine
// does not turn any more, and keeps systemd told that it does (faults.md F22).
//
// It must never import the machine: that is what it distrusts. All it knows is
// that a machine that lives says what it holds after every turn.
package watchdog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"pawl/internal/service"
	"pawl/states"
)

const (
	// interval is short against the unit's WatchdogSec, 90 s, which is longer than
	// our own patience: ours says what hangs.
	interval = 5 * time.Second
	// patience is how many looks in a row must have seen no turn. A minute is five
	// times the longest pause between two turns. It is looks that are counted, not
	// time: a process that was stopped or a VM that slept looked at nothing.
	patience = 12
	// tellTimeout bounds one word to the service manager: one that does not read
	// must not keep us from looking.
	tellTimeout = time.Second
	// stackRoom holds the stacks of some thousand goroutines.
	stackRoom = 8 << 20
)

// Watchdog is the service. Make it with New.
type Watchdog struct {
	log *slog.Logger
	// stacks gets every goroutine's stack before the process is given up.
	stacks io.Writer
	// tell passes words on to the service manager.
	tell  func(words string) error
	turns atomic.Uint64
	state atomic.Pointer[string]
}

// New returns a watchdog that writes all stacks to stacks when it gives up, and
// tells the service manager at this socket; empty: there is none.
func New(log *slog.Logger, stacks io.Writer, socket string) *Watchdog {
	return &Watchdog{log: log, stacks: stacks, tell: teller(socket)}
}

// Name implements service.Service.
func (w *Watchdog) Name() string { return "watchdog" }

// Refresh implements service.Refresher: the machine has turned.
func (w *Watchdog) Refresh(held states.Held) {
	now := time.Now()
	state := string(states.Rung(held, now))
	if roots := states.Roots(states.Reasons(held, now)); len(roots) > 0 {
		state += ": " + roots[0].Name
	}
	w.state.Store(&state)
	w.turns.Add(1)
}

// Serve implements service.Service. It ends with service.ErrFatal when the machine
// has not turned for a minute: nothing in this process can mend that.
func (w *Watchdog) Serve(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var seen uint64
	var said string
	for missed := 0; ; {
		if turns := w.turns.Load(); turns != seen {
			seen, missed = turns, 0
			said = w.report(said)
		} else {
			missed++
		}
		if missed >= patience {
			w.dump()
			return fmt.Errorf("the machine has not turned in %s; every goroutine's stack is above: %w", patience*interval, service.ErrFatal)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// report tells the service manager that all is well, and where the machine stands
// if it did not stand there before.
func (w *Watchdog) report(said string) string {
	words, state := "READY=1\nWATCHDOG=1", *w.state.Load()
	if state != said {
		words += "\nSTATUS=" + state
	}
	if err := w.tell(words); err != nil {
		w.log.Debug("cannot notify the service manager", "error", err)
		return said
	}
	return state
}

// dump writes every goroutine's stack. It shows addresses, never what is there.
func (w *Watchdog) dump() {
	text := make([]byte, stackRoom)
	text = text[:runtime.Stack(text, true)]
	_, _ = fmt.Fprintf(w.stacks, "the machine does not turn; all goroutines:\n%s\n", text)
}

// teller returns how to tell the service manager something: not at all without a
// socket. An address that begins with @ is an abstract one.
func teller(socket string) func(string) error {
	if socket == "" {
		return func(string) error { return nil }
	}
	address := &net.UnixAddr{Name: socket, Net: "unixgram"}
	return func(words string) error {
		connection, err := net.DialUnix(address.Net, nil, address)
		if err != nil {
			return err
		}
		defer connection.Close()
		_ = connection.SetWriteDeadline(time.Now().Add(tellTimeout))
		_, err = connection.Write([]byte(strings.TrimSpace(words)))
		return err
	}
}
