package nodeexporter

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// askTimeout is how long who has just connected may take to ask, when we stop: a
// request follows its connection after one round trip.
const askTimeout = 200 * time.Millisecond

// connections knows which connections are owed an answer. The library's Shutdown
// cuts off who was accepted and not read yet, and a hand-over would lose that scrape.
type connections struct {
	lock    sync.Mutex
	owed    map[net.Conn]http.ConnState
	changed chan struct{} // rings when one was answered or has gone
}

func newConnections() *connections {
	return &connections{owed: map[net.Conn]http.ConnState{}, changed: make(chan struct{}, 1)}
}

// follow is the server's ConnState.
func (c *connections) follow(connection net.Conn, state http.ConnState) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if state == http.StateNew || state == http.StateActive {
		c.owed[connection] = state
	} else {
		delete(c.owed, connection)
	}
	select {
	case c.changed <- struct{}{}:
	default: // it rings already
	}
}

// count returns how many have connected and not asked yet, and how many have asked.
func (c *connections) count() (silent, asking int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, state := range c.owed {
		if state == http.StateNew {
			silent++
		} else {
			asking++
		}
	}
	return silent, asking
}

// drain waits until everyone who was accepted is answered, until ctx is done; who
// says nothing is waited for no longer than askTimeout. Nobody may be accepted any more.
func (c *connections) drain(ctx context.Context) {
	patience := time.NewTimer(askTimeout)
	defer patience.Stop()
	patient := true
	for {
		silent, asking := c.count()
		if asking == 0 && (silent == 0 || !patient) {
			return
		}
		select {
		case <-c.changed:
		case <-patience.C:
			patient = false
		case <-ctx.Done():
			return
		}
	}
}
