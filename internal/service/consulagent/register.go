package consulagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hashicorp/consul/agent"
	"github.com/hashicorp/consul/agent/structs"
	"github.com/hashicorp/consul/api"

	"pawl/internal/failure"
)

const (
	// serviceName is name and id of the service in the catalogue.
	serviceName = "node-exporter"
	// checkName is the id of its check, as Consul itself would name it.
	checkName = "service:" + serviceName
	// outputSize keeps the metrics page out of the catalogue: only the status line
	// remains, which does not change from check to check. A changing output would be
	// a write at the servers every few minutes, times the fleet.
	outputSize = 1
)

// exporterNews is the last that Register was told of the exporter.
type exporterNews struct{ err error }

// registration is what an instance has in its local state.
type registration struct {
	present bool
	passing bool
	output  string
	// full says that the servers must be compared with us before the next claim.
	full bool
}

// Register puts node and service into the catalogue. The check is passing at once
// when exporter is nil, since our own GET has just answered, and Consul's own
// check goes on from there; it is critical, with exporter's text and nobody to
// call it passing, when it is not: whoever answers on that port is not us. With
// the service toggled off, what may be left of it is taken out. When nothing has
// changed no server is asked. Called on the machine's worker goroutine.
func (a *Agent) Register(ctx context.Context, exporter error) error {
	running, err := a.running()
	if err != nil {
		return err
	}
	a.lock.Lock()
	a.exporter = &exporterNews{exporter}
	a.lock.Unlock()
	return a.registerOn(ctx, running, exporter)
}

func (a *Agent) lastExporter() *exporterNews {
	a.lock.Lock()
	defer a.lock.Unlock()
	return a.exporter
}

// registerOn registers on one instance, and starts Consul's own anti-entropy after
// the first success: before, it would take a predecessor's service out of the
// catalogue because we have not put it in yet.
func (a *Agent) registerOn(ctx context.Context, running *instance, exporter error) error {
	running.registering.Lock()
	defer running.registering.Unlock()
	if a.options.RegisterNodeExporter {
		if err := a.describe(running, exporter); err != nil {
			return failure.New(failure.Local, failure.RemoteConsul, "register: %w", err)
		}
	}
	if err := running.sync(ctx); err != nil {
		refused := classify(err, running.credentials().issued, "register")
		if refused.Class == failure.AuthDead {
			// Any server may have said so, one too that lags or is cut off: the leader
			// must say it as well.
			if _, err := a.Prove(ctx); err == nil || failure.Of(err).Class != failure.AuthDead {
				refused.Class = failure.Transient
			}
		}
		return refused
	}
	if !running.syncing {
		running.syncing = true
		running.agent.StartSync()
	}
	return nil
}

// describe writes service and check into the agent's local state, as needed.
func (a *Agent) describe(running *instance, exporter error) error {
	wanted := registration{present: true, passing: exporter == nil}
	if exporter != nil {
		wanted.output = exporter.Error()
	}
	now := running.registered
	now.full = false
	if now == wanted {
		return nil
	}
	// Between the two steps anti-entropy could tell of a service without a check,
	// which is one that passes.
	running.agent.PauseSync()
	defer running.agent.ResumeSync()
	if !now.present {
		if err := a.addService(running); err != nil {
			return err
		}
	}
	check := &structs.HealthCheck{
		Node: running.credentials().identity.Node, CheckID: checkName, Name: "node_exporter answers",
		ServiceID: serviceName, ServiceName: serviceName,
		Interval: a.site.NodeExporter.CheckInterval.String(), Timeout: a.site.NodeExporter.CheckTimeout.String(),
		Type: "http", Status: api.HealthCritical, Output: wanted.output,
		EnterpriseMeta: *structs.DefaultEnterpriseMetaInDefaultPartition(),
	}
	var prober *structs.CheckType // nobody asks while the exporter is not well
	if wanted.passing {
		check.Status = api.HealthPassing
		check.Output = "pawl's own GET answered"
		prober = &structs.CheckType{
			CheckID: checkName, HTTP: a.metricsURL(), Method: "GET",
			Interval: a.site.NodeExporter.CheckInterval, Timeout: a.site.NodeExporter.CheckTimeout,
			DisableRedirects: true, OutputMaxSize: outputSize,
		}
	}
	// Replaced as a whole: over an existing check Consul would keep the old status.
	if err := running.agent.RemoveCheck(check.CompoundCheckID(), false); err != nil {
		return fmt.Errorf("remove check: %w", err)
	}
	if err := running.agent.AddCheck(check, prober, false, "", agent.ConfigSourceLocal); err != nil {
		return fmt.Errorf("add check: %w", err)
	}
	wanted.full = running.registered.full || !now.present
	running.registered = wanted
	return nil
}

// addService adds the service, as one from a configuration file: those are
// registered with the registration token and not with the default one.
func (a *Agent) addService(running *instance) error {
	listen, err := splitAddress(a.site.NodeExporter.Listen)
	if err != nil {
		return fmt.Errorf("site node_exporter.listen: %w", err)
	}
	err = running.agent.AddService(agent.AddServiceRequest{
		Service: &structs.NodeService{
			ID: serviceName, Service: serviceName, Address: a.site.NodeExporter.Address, Port: listen.port,
			Weights:        &structs.Weights{Passing: 1, Warning: 1},
			EnterpriseMeta: *structs.DefaultEnterpriseMetaInDefaultPartition(),
		},
		Source: agent.ConfigSourceLocal,
	})
	if err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	return nil
}

// metricsURL is what Consul's check asks for, on this machine.
func (a *Agent) metricsURL() string {
	host, port, _ := net.SplitHostPort(a.site.NodeExporter.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port) + "/metrics"
}

// sync brings the catalogue in line with the local state: fully at first and after
// a read-back that found something missing, else only what has changed, which is
// mostly nothing and asks nobody.
func (i *instance) sync(ctx context.Context) error {
	full := !i.syncing || i.registered.full
	done := make(chan error, 1)
	go func() {
		if full {
			done <- i.agent.LocalState().SyncFull()
			return
		}
		done <- i.agent.LocalState().SyncChanges()
	}()
	select {
	case err := <-done:
		if err == nil {
			i.registered.full = false
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("sync catalogue: %w", ctx.Err())
	}
}

// ReadBack asks the leader for our node, and reports whether node, service and
// check are in the catalogue as they should be, with the answer's index. Not found
// is an answer, not an error. Called on the machine's worker goroutine.
func (a *Agent) ReadBack(ctx context.Context) (uint64, bool, error) {
	running, err := a.running()
	if err != nil {
		return 0, false, err
	}
	with := running.credentials()
	answer, err := call[structs.IndexedNodeDump](ctx, running, "Internal.NodeInfo", &structs.NodeSpecificRequest{
		Datacenter:     a.site.Consul.Datacenter,
		Node:           with.identity.Node,
		EnterpriseMeta: *structs.DefaultEnterpriseMetaInDefaultPartition(),
		QueryOptions:   structs.QueryOptions{Token: with.token.Reveal()},
	})
	if err != nil {
		return 0, false, classify(err, with.issued, "read registration back")
	}
	if !answer.KnownLeader {
		return 0, false, classify(structs.ErrNoLeader, with.issued, "read registration back")
	}
	if err := a.missing(answer.Dump, with); err != nil {
		running.registering.Lock()
		running.registered.full = true
		running.registering.Unlock()
		a.logger.Debug("read registration back", "index", answer.Index, "error", err)
		if answer.ResultsFilteredByACLs {
			return 0, false, failure.New(failure.Config, failure.RemoteConsul, "read registration back: the token may not read it: %w", err).
				WithFix("give the policies of the Consul role node write and service write; see deploy/")
		}
		return answer.Index, false, nil
	}
	return answer.Index, true, nil
}

// missing says what of our registration is not in the servers' answer.
func (a *Agent) missing(dump structs.NodeDump, with credentials) error {
	if len(dump) == 0 {
		return errors.New("the node is not there")
	}
	node := dump[0]
	if !strings.EqualFold(string(node.ID), with.identity.NodeID) {
		return fmt.Errorf("the node has id %s, not ours", node.ID)
	}
	service, check := false, false
	for _, each := range node.Services {
		service = service || each.ID == serviceName
	}
	for _, each := range node.Checks {
		check = check || each.CheckID == checkName && each.ServiceID == serviceName
	}
	switch wanted := a.options.RegisterNodeExporter; {
	case wanted && !service:
		return errors.New("the service is not there")
	case wanted && !check:
		return errors.New("the service's check is not there")
	case !wanted && service:
		return errors.New("the service is there and is switched off")
	}
	return nil
}
