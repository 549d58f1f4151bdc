package consulagent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"pawl/internal/failure"
)

// TestReservedName: the servers keep a rebuilt VM's name for the old one while that
// looks healthy. That is an answer of theirs. When it was taken for their silence,
// the machine went from ConsulReady to Degraded and back at each attempt, two lines
// of log in eight seconds for as long as it lasted.
func TestReservedName(t *testing.T) {
	lab := newLab(t)
	_, err := lab.api.Catalog().Register(&api.CatalogRegistration{
		Node: nodeName, ID: "00000000-1111-2222-3333-444444444444", Address: "127.0.7.9",
		Check: &api.AgentCheck{Node: nodeName, CheckID: serfCheck, Name: "Serf Health Status", Status: api.HealthPassing},
	}, nil)
	must(t, err)
	agent, _ := lab.agent(t, Options{RegisterNodeExporter: true})
	agent.StayRegistered()
	within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
	got := failure.Of(agent.Register(t.Context(), nil))
	if got == nil || got.Class != failure.Transient || got.Remote != failure.RemoteHost || !strings.Contains(got.Fix, "force-leave") {
		t.Fatalf("register a name that is another's: %v (%+v)", got, got)
	}
	if _, err := agent.Prove(t.Context()); err != nil {
		t.Errorf("the servers answer: %v", err)
	}
	_, err = lab.api.Catalog().Deregister(&api.CatalogDeregistration{Node: nodeName}, nil)
	must(t, err)
	eventually(t, "the name to be ours", func() error { return agent.Register(t.Context(), nil) })
	within(t, 2*time.Second, found(agent))
}
