package consulagent

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// TestLeaveThatNobodyHeard: a server that was restarted a second before had not met
// the node again when it left, and kept it as failed. What the node sees after its
// leave is looked at, and mended; what is another's stays.
func TestLeaveThatNobodyHeard(t *testing.T) {
	lab := newLab(t)
	agent, stop := lab.agent(t, Options{RegisterNodeExporter: true})
	within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
	within(t, 2*time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
	running, err := agent.running()
	must(t, err)
	listed := func() *api.CatalogNode {
		node, _, err := lab.api.Catalog().Node(nodeName, nil)
		must(t, err)
		return node
	}

	running.agent.PauseSync()
	must(t, agent.farewell(running)())
	if node := listed(); node != nil {
		t.Errorf("our node is still there: %+v", node.Node)
	}

	// The same name, of another VM: by its id, and by its address.
	ours := running.agent.AgentLocalMember().Addr.String()
	for _, other := range []api.CatalogRegistration{
		{Node: nodeName, ID: "00000000-1111-2222-3333-444444444444", Address: ours},
		{Node: nodeName, ID: nodeID, Address: "127.0.7.9"},
	} {
		_, err := lab.api.Catalog().Register(&other, nil)
		must(t, err)
		must(t, agent.farewell(running)())
		if listed() == nil {
			t.Errorf("another's node was taken out: %+v", other)
		}
		_, err = lab.api.Catalog().Deregister(&api.CatalogDeregistration{Node: nodeName}, nil)
		must(t, err)
	}
	running.agent.ResumeSync()
	t.Logf("stop %s", stop())
}

// TestFarewellIsShort: a server that does not answer holds up no stop.
func TestFarewellIsShort(t *testing.T) {
	lab := newLab(t)
	agent, _ := lab.agent(t, Options{})
	agent.StayRegistered()
	within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
	running, err := agent.running()
	must(t, err)
	must(t, lab.server.Process.Signal(syscall.SIGSTOP))
	began := time.Now()
	if err := agent.farewell(running)(); err == nil {
		t.Error("a stopped server answered")
	}
	if took := time.Since(began); took > 2*farewellTimeout {
		t.Errorf("it took %s", took)
	}
}
