package consulagent

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"pawl/internal/dial"
	"pawl/internal/failure"
)

// muteIP is a server that is stopped or hung: its kernel takes connections, and
// nobody answers them.
const muteIP = "127.0.7.3"

// TestJoinPastMuteServer: of two servers the one that says nothing may be the
// quickest to take a connection, each time. Joined anew at every attempt it kept the
// agent out, with a good server beside it.
func TestJoinPastMuteServer(t *testing.T) {
	lab := newLab(t)
	mute, err := net.Listen("tcp", muteIP+":8301")
	must(t, err)
	defer mute.Close()
	lab.site.Consul.Servers = "servers.test.pawl"
	dialer := dial.New("127.0.0.1:1") // nobody: what is remembered counts
	dialer.Remember(lab.site.Consul.Servers, netip.MustParseAddr(muteIP))
	agent := New(lab.site, dialer, slog.New(slog.NewTextHandler(lab.log, nil)), Options{})
	agent.StayRegistered()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-done })

	epoch := lab.epoch(t)
	first, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if got := failure.Of(agent.Install(first, self, epoch)); got == nil || got.Class != failure.Transient {
		t.Fatalf("install with none but the mute server: %v", got)
	}
	running, err := agent.running()
	must(t, err)
	both := []netip.Addr{netip.MustParseAddr(muteIP), netip.MustParseAddr(serverIP)}
	for range 20 { // whoever is quicker
		chosen, err := agent.firstToAnswer(t.Context(), both, running.mute.Load().(netip.Addr))
		if err != nil || chosen.Addr() != both[1] {
			t.Fatalf("chose %s (%v)", chosen, err)
		}
	}
	if chosen, err := agent.firstToAnswer(t.Context(), both[:1], both[0]); err != nil || chosen.Addr() != both[0] {
		t.Errorf("with none but the mute server: chose %s (%v)", chosen, err)
	}
	dialer.Remember(lab.site.Consul.Servers, both...)
	eventually(t, "the join of the good server", func() error { // Serf ends the join of the mute one first
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return agent.Install(ctx, self, epoch)
	})
}
