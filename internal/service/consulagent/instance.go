package consulagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/armon/go-metrics"
	"github.com/hashicorp/consul/agent"
	"github.com/hashicorp/consul/agent/config"
	"github.com/hashicorp/consul/agent/metadata"
	"github.com/hashicorp/consul/agent/token"
	"github.com/hashicorp/consul/lib"
	"github.com/hashicorp/serf/serf"

	"pawl/internal/failure"
	"pawl/internal/secret"
)

// instance is one run of the agent, from Start to Shutdown.
type instance struct {
	agent     *agent.Agent
	deps      agent.BaseDeps
	restarted bool
	since     time.Time
	key       secret.Secret // the gossip key it was started with
	dead      chan error    // of one, for deaths that Consul does not report itself
	joined    atomic.Bool
	proven    atomic.Value // the accessor, a string, that the leader knew last
	mute      atomic.Value // the netip.Addr of the server that could not be joined last
	joining   atomic.Int32 // joins under way, given up or not

	lock      sync.Mutex // guards what follows
	installed credentials

	registering sync.Mutex // one registration at a time: the worker's, or one after a restart
	registered  registration
	syncing     bool
}

// credentials returns what the agent runs with.
func (i *instance) credentials() credentials {
	i.lock.Lock()
	defer i.lock.Unlock()
	return i.installed
}

// start builds and starts an agent and makes it the current one. It needs no
// network. A data folder that Consul cannot start from is emptied once: everything
// in it can be had again (F15). Called on Serve's goroutine.
func (a *Agent) start(ctx context.Context, with credentials) (*instance, error) {
	running, err := a.try(ctx, with)
	if err != nil && !portTaken(err) {
		a.logger.Warn("start agent: emptying its data folder and trying once more", "error", err)
		if err := os.RemoveAll(a.folder); err != nil {
			return nil, failure.New(failure.Local, failure.RemoteConsul, "empty the agent's folder: %w", err).WithFix("make " + a.folder + " writable")
		}
		running, err = a.try(ctx, with)
	}
	if err != nil {
		return nil, startFailure(err)
	}
	running.restarted = a.lastCredentials() != nil
	a.lock.Lock()
	a.current = running
	a.last = &with
	a.lock.Unlock()
	return running, nil
}

// portTaken also reads the text, since Consul does not always keep the chain.
func portTaken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), syscall.EADDRINUSE.Error())
}

// startFailure says what a person could do.
func startFailure(err error) error {
	wrapped := failure.New(failure.Local, failure.RemoteConsul, "start agent: %w", err)
	if portTaken(err) {
		return wrapped.WithFix("stop what else listens on the agent's ports on this VM, for instance a consul of its own")
	}
	return wrapped
}

// try starts an agent once.
func (a *Agent) try(ctx context.Context, with credentials) (*instance, error) {
	if err := os.MkdirAll(a.folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's folder: %w", err)
	}
	runtime, warnings, err := a.runtimeConfig(with)
	if err != nil {
		return nil, err
	}
	// Consul loads twice, when it is built and when it starts. The second time it gets
	// a copy of the first, so that it starts with what secure writes into that below;
	// without the logger that was put in meanwhile, which its API could not show.
	loads := 0
	loader := func(config.Source) (config.LoadResult, error) {
		if loads++; loads == 1 {
			return config.LoadResult{RuntimeConfig: runtime, Warnings: warnings}, nil
		}
		copied := *runtime
		copied.Cache.Logger = nil
		return config.LoadResult{RuntimeConfig: &copied}, nil
	}
	deps, err := agent.NewBaseDeps(loader, nil, a.lines)
	if err != nil {
		return nil, fmt.Errorf("build agent: %w", err)
	}
	// Telemetry.Disable leaves nil, which shutdown and /v1/agent/metrics would call.
	deps.MetricsConfig = &lib.MetricsConfig{Handler: noMetrics{}}
	if err := a.secure(deps, with); err != nil {
		deps.Close()
		return nil, err
	}
	embedded, err := agent.New(deps)
	if err != nil {
		deps.Close()
		return nil, fmt.Errorf("build agent: %w", err)
	}
	running := &instance{agent: embedded, deps: deps, since: time.Now(), key: with.gossip, dead: make(chan error, 1), installed: with}
	running.setTokens(with)
	if err := embedded.Start(ctx); err != nil {
		running.shutdown(a.logger)
		return nil, err
	}
	return running, nil
}

// noMetrics answers /v1/agent/metrics: Consul keeps none here.
type noMetrics struct{}

// DisplayMetrics implements lib.MetricsHandler.
func (noMetrics) DisplayMetrics(http.ResponseWriter, *http.Request) (any, error) {
	return metrics.MetricsSummary{}, nil
}

// Stream implements lib.MetricsHandler: there is nothing to tell until the asker goes.
func (noMetrics) Stream(ctx context.Context, _ metrics.Encoder) { <-ctx.Done() }

// secure gives the agent the site's roots and its certificate, and then switches
// TLS on: without roots Consul would refuse it, and it takes them from a file or from here.
func (a *Agent) secure(deps agent.BaseDeps, with credentials) error {
	if err := deps.TLSConfigurator.UpdateAutoTLS([]string{a.site.CARoots}, nil, with.chain, with.key.Reveal(), true); err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	rpc := &deps.RuntimeConfig.TLS.InternalRPC
	rpc.VerifyOutgoing, rpc.VerifyServerHostname = true, true
	if err := deps.TLSConfigurator.Update(deps.RuntimeConfig.TLS); err != nil {
		return fmt.Errorf("switch TLS on: %w", err)
	}
	return nil
}

// setTokens installs the token for what the agent does itself and for what it
// registers; never as default.
func (i *instance) setTokens(with credentials) {
	text := with.token.Reveal()
	i.deps.Tokens.UpdateAgentToken(text, token.TokenSourceAPI)
	i.deps.Tokens.UpdateConfigFileRegistrationToken(text, token.TokenSourceAPI)
}

// servers returns the servers that gossip says are alive.
func (i *instance) servers() []*metadata.Server {
	var alive []*metadata.Server
	for _, member := range i.agent.LANMembersInAgentPartition() {
		if member.Status != serf.StatusAlive {
			continue
		}
		if is, server := metadata.IsConsulServer(member); is {
			alive = append(alive, server)
		}
	}
	return alive
}

// lonely reports whether the agent has no server to talk to.
func (i *instance) lonely() bool { return i.deps.Router.FindLANServer() == nil }

// unasked reports that the agent was started anew in this process and has not joined
// since, so that nobody has asked yet whether its name is still its own. A server
// that has not missed it may have talked to it already.
func (i *instance) unasked() bool { return i.restarted && !i.joined.Load() }

// kill reports a death that Consul does not report itself. Safe from any goroutine.
func (i *instance) kill(err error) {
	select {
	case i.dead <- err:
	default:
	}
}

// shutdown stops what is there of the agent, within shutdownTimeout, and says so when it could not.
func (i *instance) shutdown(logger *slog.Logger) {
	done := make(chan error, 1)
	go func() {
		err := i.agent.ShutdownAgent()
		i.agent.ShutdownEndpoints()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			logger.Warn("shut the agent down", "error", err)
		}
	case <-time.After(shutdownTimeout):
		logger.Warn("shut the agent down: not done in time; its ports may stay taken", "timeout", shutdownTimeout)
	}
}
