package consulagent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"pawl/internal/failure"
)

// TestClone: a second VM with the same identity stays out while the first one is
// alive, is told why, and the first one's entry does not move; when the first one
// is gone, the second one comes in.
func TestClone(t *testing.T) {
	lab := newLab(t)
	original, stop := lab.agent(t, Options{RegisterNodeExporter: true})
	within(t, 10*time.Second, func(ctx context.Context) error { return original.Install(ctx, self, lab.epoch(t)) })
	within(t, 2*time.Second, func(ctx context.Context) error { return original.Register(ctx, nil) })
	within(t, 2*time.Second, found(original))
	before := lab.check(t, serfCheck)

	lab.site.Consul.Bind, lab.site.Consul.HTTP, lab.site.RuntimeFolder = "127.0.7.3", "127.0.7.3:8500", t.TempDir()
	clone, _ := lab.agent(t, Options{RegisterNodeExporter: true})
	got := failure.Of(clone.Verify(t.Context(), self, lab.epoch(t)))
	if got == nil || got.Class != failure.Identity || got.Fix == "" {
		t.Fatalf("the clone was told %v (%+v)", got, got)
	}
	t.Log(got, "; fix:", got.Fix)
	if after := lab.check(t, serfCheck); before == nil || after == nil || after.ModifyIndex != before.ModifyIndex {
		t.Errorf("the original's entry moved from %+v to %+v", before, after)
	}
	// The original may verify its next epoch: it is the node that is alive.
	must(t, original.Verify(t.Context(), self, lab.epoch(t)))

	stop()
	within(t, 10*time.Second, func(ctx context.Context) error { return clone.Verify(ctx, self, lab.epoch(t)) })
	within(t, 10*time.Second, func(ctx context.Context) error { return clone.Install(ctx, self, lab.epoch(t)) })
}

// TestCloneAfterRestart: an agent that Serf's vote ended, since another VM has won
// its name, is started anew in this process. It stays out and says why, and comes
// in when the other one is gone. It joined at once, and wrote its own address over the winner's.
func TestCloneAfterRestart(t *testing.T) {
	lab := newLab(t)
	agent, _ := lab.agent(t, Options{RegisterNodeExporter: true})
	within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
	eventually(t, "the leader to have written that the node is here", func() error {
		if lab.check(t, serfCheck) == nil {
			return errors.New("not yet")
		}
		return nil
	})
	// It registers nothing itself: a sync of its own under way would write over what follows.
	before, err := agent.running()
	must(t, err)
	const winner = "127.0.7.9"
	_, err = lab.api.Catalog().Register(&api.CatalogRegistration{
		Node: nodeName, ID: self.NodeID, Address: winner,
		Check: &api.AgentCheck{Node: nodeName, CheckID: serfCheck, Name: "Serf Health Status", Status: api.HealthPassing},
	}, nil)
	must(t, err)
	before.kill(errors.New("serf lost the vote"))
	eventually(t, "the agent to be started anew", func() error {
		if now, err := agent.running(); err != nil || now == before {
			return fmt.Errorf("not yet: %w", err)
		}
		return nil
	})
	_, err = agent.Prove(t.Context())
	if got := failure.Of(err); got == nil || got.Class != failure.Identity || got.Fix == "" {
		t.Fatalf("the one that lost the vote was told %v", got)
	}
	node, _, err := lab.api.Catalog().Node(nodeName, nil)
	must(t, err)
	if node.Node.Address != winner {
		t.Errorf("the winner's entry is at %s", node.Node.Address)
	}
	_, err = lab.api.Catalog().Deregister(&api.CatalogDeregistration{Node: nodeName}, nil)
	must(t, err)
	eventually(t, "a server under our token", func() error {
		_, err := agent.Prove(t.Context())
		return err
	})
}
