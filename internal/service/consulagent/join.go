package consulagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/consul/agent/structs"

	"pawl/internal/failure"
)

const (
	// leaderTimeout bounds the wait for a known server and a leader inside one
	// attempt; an election takes less, and the machine asks again.
	leaderTimeout = 5 * time.Second
	// serverPoll and leaderPoll are how often the two are looked at: neither tells by
	// itself. The first look is free; the second is an RPC.
	serverPoll = 2 * time.Millisecond
	leaderPoll = 50 * time.Millisecond
)

// errWrongKey marks a server that answers, and not with our gossip key.
var errWrongKey = errors.New("the gossip key is not the cluster's")

// undecipherable is what memberlist says of an answer under another key, ours
// being unknown to the server or its primary one to us.
const undecipherable = "No installed keys could decrypt the message"

// keyFix is for a key that stays wrong.
const keyFix = "if this stays, the gossip key in Vault is not the servers' key: compare it with consul keyring -list"

// join makes sure that a server is known and that a leader answers. It resolves
// the servers anew each time it must join: Consul's own retry_join ends at its
// first success and would stay lost if all servers were replaced later (F5).
func (a *Agent) join(ctx context.Context, running *instance) error {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout+a.site.Consul.RPCTimeout)
	defer cancel()
	unasked := running.unasked()
	if unasked {
		if err := a.alone(ctx, running); err != nil {
			return err
		}
	}
	if unasked || running.lonely() {
		if err := a.joinOne(ctx, running); err != nil {
			return err
		}
	}
	return a.awaitLeader(ctx, running)
}

// joinOne joins the first server whose Serf port answers: Serf would try one
// after the other and spend ten seconds on each that is dead. One that takes
// connections and says nothing, stopped or hung, is the quickest as well: who could
// not be joined last time is left to the end.
func (a *Agent) joinOne(ctx context.Context, running *instance) error {
	addresses, err := a.dialer.Lookup(ctx, a.site.Consul.Servers)
	if err != nil {
		return failure.New(failure.Transient, failure.RemoteConsul, "join: find servers: %w", err)
	}
	mute, _ := running.mute.Load().(netip.Addr)
	first, err := a.firstToAnswer(ctx, addresses, mute)
	if err != nil {
		return failure.New(failure.Transient, failure.RemoteConsul, "join: %w", err)
	}
	joined := make(chan error, 1)
	before := running.joining.Add(1) - 1
	go func() {
		defer running.joining.Add(-1)
		_, err := running.agent.JoinLAN([]string{first.String()}, nil)
		joined <- err
	}()
	select {
	case err = <-joined:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && before == 0 { // else it may have waited for the one before, which Serf makes one after the other
		running.mute.Store(first.Addr())
	}
	switch {
	case err == nil:
		running.joined.Store(true)
		a.joinedOnce.Do(func() { close(a.joined) })
		a.dialer.Remember(a.site.Consul.Servers, addresses...)
		return nil
	case serfStopped(err):
		running.kill(fmt.Errorf("serf stopped by itself: %w", err))
		return failure.New(failure.Local, failure.RemoteConsul, "join: %w", err).
			WithFix("look for another VM with the name " + running.credentials().identity.Node)
	case strings.Contains(err.Error(), undecipherable):
		return failure.New(failure.AuthDead, failure.RemoteGossip, "join %s: %w", first, errWrongKey).WithFix(keyFix)
	default:
		return failure.New(failure.Transient, failure.RemoteConsul, "join %s: %w", first, err)
	}
}

// serfStopped reports whether Serf refuses since it has stopped itself, as it does
// when it loses a vote about its name, without telling anybody.
func serfStopped(err error) bool {
	return err != nil && strings.Contains(err.Error(), "can't Join after Leave or Shutdown")
}

// askSerf finds out whether Serf still lives, by joining nobody, and reports its
// death: the process lives on, and no channel of Consul's tells.
func (i *instance) askSerf() {
	if _, err := i.agent.JoinLAN(nil, nil); serfStopped(err) {
		i.kill(fmt.Errorf("serf stopped by itself, as it does when another node has won our name: %w", err))
	}
}

// firstToAnswer connects to the Serf port of all addresses at once and returns the
// quickest, and last only where no other one answers.
func (a *Agent) firstToAnswer(ctx context.Context, addresses []netip.Addr, last netip.Addr) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, a.site.Consul.RPCTimeout)
	defer cancel()
	type answer struct {
		from netip.AddrPort
		err  error
	}
	answers := make(chan answer, len(addresses))
	for _, each := range addresses {
		to := netip.AddrPortFrom(each, uint16(a.site.Consul.SerfPort))
		go func() {
			connection, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
			if err == nil {
				_ = connection.Close()
			}
			answers <- answer{to, err}
		}()
	}
	var failed error
	var spare netip.AddrPort
	for range addresses {
		switch got := <-answers; {
		case got.err != nil:
			failed = got.err
		case got.from.Addr() == last:
			spare = got.from
		default:
			return got.from, nil
		}
	}
	if spare.IsValid() {
		return spare, nil
	}
	return netip.AddrPort{}, fmt.Errorf("none of %d servers answers: %w", len(addresses), failed)
}

// awaitLeader waits until gossip has told of a server and a server of a leader.
func (a *Agent) awaitLeader(ctx context.Context, running *instance) error {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	for running.lonely() {
		if !pause(ctx, serverPoll) {
			return failure.New(failure.Transient, failure.RemoteConsul, "join: gossip has told of no server")
		}
	}
	for {
		manager, asked := running.deps.Router.FindLANRoute()
		leader, err := call[string](ctx, running, "Status.Leader", &structs.DCSpecificRequest{Datacenter: a.site.Consul.Datacenter})
		if err == nil && *leader != "" {
			return nil
		}
		if err == nil && asked != nil {
			manager.NotifyFailedServer(asked) // it may be cut off; the next one may know
		}
		if !pause(ctx, leaderPoll) {
			if err == nil {
				err = structs.ErrNoLeader
			}
			return failure.New(failure.Transient, failure.RemoteConsul, "join: wait for a leader: %w", err)
		}
	}
}

// pause waits for duration and reports whether ctx is still good.
func pause(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
