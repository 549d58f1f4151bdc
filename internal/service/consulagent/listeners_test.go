package consulagent

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKnock: a listener that was there and refuses again and again is a death. One
// that never answered is not, nor is one that refuses for a moment, nor one that is
// too busy to answer: a loaded machine must not cost us the agent.
func TestKnock(t *testing.T) {
	never := listen(t, "127.0.0.1:0")
	_ = never.Close()
	listener := listen(t, "127.0.0.1:0")
	address := listener.Addr().String()
	closed, gossip := &door{what: "API", address: never.Addr().String()}, &door{what: "gossip", address: address}
	doors := []*door{closed, gossip}
	look := func(wantDoubt bool, wantError string) {
		t.Helper()
		doubt, err := knock(t.Context(), doors)
		if doubt != wantDoubt || (err == nil) != (wantError == "") || err != nil && !strings.Contains(err.Error(), wantError) {
			t.Errorf("doubt %v, error %v; want %v, %q", doubt, err, wantDoubt, wantError)
		}
	}
	look(false, "")
	if closed.open || !gossip.open {
		t.Errorf("open: %v and %v", closed.open, gossip.open)
	}
	_ = listener.Close()
	for range deadRefusals - 1 {
		look(true, "")
	}
	listener = listen(t, address)
	look(false, "") // and begins to count anew
	_ = listener.Close()
	for range deadRefusals - 1 {
		look(true, "")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := knock(ended, doors); err != nil || gossip.refused != deadRefusals-1 {
		t.Errorf("a dial that was given up counts as a refusal: %d, %v", gossip.refused, err)
	}
	look(true, "gossip listener is gone")
}

// TestKnockAtAFullQueue: a listener whose owner has no time to accept lets a dial
// run into its timeout. However often, that is no death.
func TestKnockAtAFullQueue(t *testing.T) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Close(socket) })
	must(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(socket, 0))
	name, err := syscall.Getsockname(socket)
	must(t, err)
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	for full := false; !full; { // nobody accepts
		connection, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			t.Cleanup(func() { _ = connection.Close() })
		}
	}
	busy := &door{what: "gossip", address: address, open: true}
	for range deadRefusals {
		bounded, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		doubt, err := knock(bounded, []*door{busy})
		cancel()
		if doubt || err != nil {
			t.Errorf("doubt %v, error %v", doubt, err)
		}
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestReachable(t *testing.T) {
	for bound, wanted := range map[string]string{
		"10.0.0.7:8301": "10.0.0.7:8301", "0.0.0.0:8301": "127.0.0.1:8301", "[::]:8301": "[::1]:8301",
	} {
		address, err := net.ResolveTCPAddr("tcp", bound)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(address); got != wanted {
			t.Errorf("%s: got %s, want %s", bound, got, wanted)
		}
	}
}
