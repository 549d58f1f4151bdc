package consulagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// doorTimeout bounds a connection to ourselves.
	doorTimeout = 2 * time.Second
	// deadRefusals in a row, doubtInterval apart, are a death. One alone may be a
	// packet filter's that is being loaded anew, and a restart costs more than seconds.
	deadRefusals  = 3
	doubtInterval = time.Second
)

// door is one of the agent's own TCP listeners.
type door struct {
	what, address string
	// open says that it has answered since the agent started: what never did, as
	// behind a packet filter that refuses us, is no sign of death.
	open bool
	// refused counts the refusals since it answered last.
	refused int
}

// doors are the listeners of an instance. Gossip's is the one that Consul does
// not watch: when it is gone, its goroutine tries to accept for ever, and the
// cluster's full syncs with us fail without a word here (F16).
func (i *instance) doors() []*door {
	found := []*door{{what: "gossip", address: reachable(i.deps.RuntimeConfig.SerfBindAddrLAN)}}
	for _, each := range i.deps.RuntimeConfig.HTTPAddrs {
		if address, is := each.(*net.TCPAddr); is {
			found = append(found, &door{what: "API", address: reachable(address)})
		}
	}
	return found
}

// reachable is an address to connect to, for a listener that may be on every interface.
func reachable(listener *net.TCPAddr) string {
	address := *listener
	if address.IP.IsUnspecified() {
		loopback := net.IPv4(127, 0, 0, 1)
		if address.IP.To4() == nil {
			loopback = net.IPv6loopback
		}
		address.IP = loopback
	}
	return address.String()
}

// knock connects to each door. doubt says that one refuses which was open once, and
// should be asked again soon; err, that it has refused too often to be alive. Only
// a refusal counts: the kernel refuses where nobody listens. A timeout is what a
// loaded machine or a full queue gives, and is no answer. Not safe for two callers.
func knock(ctx context.Context, doors []*door) (doubt bool, err error) {
	for _, each := range doors {
		bounded, cancel := context.WithTimeout(ctx, doorTimeout)
		connection, dialled := new(net.Dialer).DialContext(bounded, "tcp", each.address)
		cancel()
		switch {
		case dialled == nil:
			each.open, each.refused = true, 0
			_ = connection.Close()
		case each.open && errors.Is(dialled, syscall.ECONNREFUSED):
			doubt = true
			if each.refused++; each.refused >= deadRefusals {
				err = errors.Join(err, fmt.Errorf("its %s listener is gone: %w", each.what, dialled))
			}
		}
	}
	return doubt, err
}
