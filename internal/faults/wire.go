// Package faults owns the troubles that a network and a far end can make, as
// small servers between an agent and the real thing: Wire on the level of TCP,
// Gateway on that of HTTP over TLS. It is for the lab and its tests alone. It must
// import nothing but the standard library, and must never be linked into the agent.
package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Trouble is what a Wire does to its connections. The zero Trouble is none: it
// passes everything on.
type Trouble struct {
	// Reset breaks every connection off, those that are open and those to come, as
	// a host does that was restarted: the peer reads "connection reset".
	Reset bool
	// Mute takes connections and what is said on them, and never says anything:
	// half-open sockets, as behind a firewall that lost its state.
	Mute bool
	// Delay holds each piece of the answer back for so long.
	Delay time.Duration
	// CutAfter breaks a connection off when so many bytes of answer have gone
	// through it; zero: never.
	CutAfter int
}

// Wire is a proxy of TCP connections. Safe from any goroutine.
type Wire struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mutex    sync.Mutex
	trouble  Trouble
	changed  chan struct{} // closed and made anew with every Set
	open     map[*net.TCPConn]struct{}
	accepted int
	closed   bool
}

// ListenWire opens address and passes connections on to target. With an empty
// target it has nothing to pass on to, and breaks every connection off: a
// recorder of who came.
func ListenWire(address, target string) (*Wire, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open wire: %w", err)
	}
	w := &Wire{listener: listener, target: target, changed: make(chan struct{}), open: map[*net.TCPConn]struct{}{}}
	w.done.Go(w.accept)
	return w, nil
}

// Address is where it listens.
func (w *Wire) Address() string { return w.listener.Addr().String() }

// Accepted is how many connections came since it was opened.
func (w *Wire) Accepted() int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.accepted
}

// Set makes trouble from now on, on open connections too. What a muted wire has
// swallowed is lost: connections of that time are broken off when it ends.
func (w *Wire) Set(trouble Trouble) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if trouble.Reset || w.trouble.Mute && !trouble.Mute {
		w.breakOff()
	}
	w.trouble = trouble
	close(w.changed)
	w.changed = make(chan struct{})
}

// Close ends the listener and every connection, and returns when all is over.
func (w *Wire) Close() error {
	w.mutex.Lock()
	w.closed = true
	w.breakOff()
	w.mutex.Unlock()
	err := w.listener.Close()
	w.done.Wait()
	return err
}

// breakOff resets every open connection. Called under the mutex.
func (w *Wire) breakOff() {
	for connection := range w.open {
		reset(connection)
	}
}

// reset closes a connection so that its peer is told of a reset and not of an end.
func reset(connection *net.TCPConn) {
	_ = connection.SetLinger(0)
	_ = connection.Close()
}

func (w *Wire) accept() {
	for {
		connection, err := w.listener.Accept()
		if err != nil {
			return
		}
		front, is := connection.(*net.TCPConn)
		if is && w.keep(front, true) {
			w.done.Go(func() { w.pass(front) })
		}
	}
}

// keep notes an open connection, or resets it where none may be open.
func (w *Wire) keep(connection *net.TCPConn, counts bool) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if counts {
		w.accepted++
	}
	if w.closed || w.trouble.Reset || w.target == "" {
		reset(connection)
		return false
	}
	w.open[connection] = struct{}{}
	return true
}

func (w *Wire) drop(connection *net.TCPConn) {
	w.mutex.Lock()
	delete(w.open, connection)
	w.mutex.Unlock()
	_ = connection.Close()
}

// now returns the trouble, and what is closed when it changes.
func (w *Wire) now() (Trouble, <-chan struct{}) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.trouble, w.changed
}

// pass carries one connection, both ways, until either side ends it.
func (w *Wire) pass(front *net.TCPConn) {
	defer w.drop(front)
	made, err := new(net.Dialer).Dial("tcp", w.target)
	if err != nil {
		reset(front)
		return
	}
	back, is := made.(*net.TCPConn)
	if !is || !w.keep(back, false) {
		return
	}
	defer w.drop(back)
	var both sync.WaitGroup
	both.Go(func() { w.carry(back, front, false) })
	w.carry(front, back, true)
	both.Wait()
}

// carry copies one way, piece by piece, making the trouble of the moment.
func (w *Wire) carry(to, from *net.TCPConn, answer bool) {
	piece := make([]byte, 16<<10)
	sent := 0
	for {
		count, err := from.Read(piece)
		if count > 0 {
			trouble, changed := w.now()
			if answer && trouble.Delay > 0 && !trouble.Mute {
				wait(trouble.Delay, changed)
			}
			rest := piece[:count]
			cut := answer && trouble.CutAfter > 0 && sent+count >= trouble.CutAfter
			if cut {
				rest = rest[:max(0, trouble.CutAfter-sent)]
			}
			if !trouble.Mute {
				if _, err := to.Write(rest); err != nil {
					return
				}
				sent += len(rest)
			}
			if cut {
				reset(to)
				reset(from)
				return
			}
		}
		if trouble, _ := w.now(); err != nil && trouble.Mute {
			return // a silent firewall does not tell of an end either; Set breaks it off
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			reset(to)
			return
		}
	}
}

// wait returns after duration, or when changed is closed.
func wait(duration time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	}
}
