package consulagent

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"pawl/internal/dial"
)

// TestVerifyWhileDNSIsSilent: a resolver that never answers took all the time that
// the servers had, so that in an outage of DNS no new epoch came to be (F35).
func TestVerifyWhileDNSIsSilent(t *testing.T) {
	lab := newLab(t)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	agent, _ := lab.agent(t, Options{})
	agent.dialer = dial.New(silent.LocalAddr().String())
	agent.dialer.Remember("consul.silent.test", netip.MustParseAddr(agent.site.Consul.Servers))
	agent.site.Consul.Servers = "consul.silent.test"
	within(t, 5*time.Second, func(ctx context.Context) error { return agent.Verify(ctx, self, lab.epoch(t)) })
}
