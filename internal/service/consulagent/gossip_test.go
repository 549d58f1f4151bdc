package consulagent

import (
	"context"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// TestGossipKeyBehindOrAhead: while the gossip key is being rotated, Vault may be
// one version ahead of the cluster; the agent then joins with the version before.
// With two wrong keys it says what to look at, and comes in as soon as one is right.
func TestGossipKeyBehindOrAhead(t *testing.T) {
	lab := newLab(t)
	agent, _ := lab.agent(t, Options{})
	agent.StayRegistered()
	right := secret.New(lab.gossip)
	wrong := secret.New("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	other := secret.New("BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=")

	epoch := lab.epoch(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	epoch.Gossip.Key = secret.Secret{} // it got lost: no agent is started that would speak in the clear
	if got := failure.Of(agent.Install(ctx, self, epoch)); got == nil || got.Class != failure.AuthDead || got.Remote != failure.RemoteGossip {
		t.Fatalf("without a key: %v", got)
	}
	if running, err := agent.running(); err == nil {
		t.Fatalf("without a key an agent runs: %v", running.since)
	}
	epoch.Gossip.Key, epoch.Gossip.Previous = wrong, other
	got := failure.Of(agent.Install(ctx, self, epoch))
	if got == nil || got.Class != failure.AuthDead || got.Remote != failure.RemoteGossip || !strings.Contains(got.Fix, "gossip key") {
		t.Fatalf("with two wrong keys: %v", got)
	}
	epoch.Gossip.Previous = right
	within(t, 30*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, epoch) })
	if _, err := agent.Prove(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSerfStopsItself: gossip that shut itself down while the process lives is
// noticed without any join that had to be made, and the agent is restarted.
func TestSerfStopsItself(t *testing.T) {
	lab := newLab(t)
	agent, _ := lab.agent(t, Options{})
	agent.StayRegistered()
	within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
	running, err := agent.running()
	must(t, err)
	running.askSerf()
	if len(running.dead) != 0 {
		t.Fatal("a living Serf was taken for dead")
	}
	must(t, running.agent.Leave()) // as far as Serf tells the outside, the same as losing its name
	running.askSerf()
	eventually(t, "another agent in its place", func() error {
		now, err := agent.running()
		if err == nil && now == running {
			return errWrongKey
		}
		return err
	})
	eventually(t, "a server to answer again", func() error { _, err := agent.Prove(t.Context()); return err })
}
