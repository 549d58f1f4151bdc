// Package consulagent owns the embedded Consul client agent: its configuration,
// its life, its credentials, and what it says to the servers. It is the only
// importer of Consul's internals. It must never import fsm or transitions, though
// it does what transitions.Consul asks for.
//
// Credentials live in memory and are swapped in memory: Consul's own reload takes
// the services out before it reads the new key pair, and a bad pair would cost us
// the catalogue entry. The default token is never set, since any local process
// could act with it; neither is the DNS token, which would need to be a second,
// read-only one: local DNS answers what anonymous may read.
package consulagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"pawl/internal/dial"
	"pawl/internal/failure"
	"pawl/internal/logs"
	"pawl/internal/secret"
	"pawl/internal/site"
	"pawl/states"
)

const (
	// leaveTimeout bounds a graceful leave, which takes about four seconds: one to
	// spread the word, three that Serf waits for it to arrive.
	leaveTimeout = 5 * time.Second
	// shutdownTimeout bounds the hard stop after it: listeners and goroutines of this process.
	shutdownTimeout = 1500 * time.Millisecond
	// tendInterval is how often a lonely agent looks for servers by itself, whatever
	// the machine is doing; half of the 30 s in which a lost client must be back (F5).
	tendInterval = 15 * time.Second
)

// Options are what a site does not say.
type Options struct {
	// RegisterNodeExporter is the one runtime setting: false keeps the node and
	// takes the service out of the catalogue.
	RegisterNodeExporter bool
}

// Agent is the service. It implements service.Service, service.Healther and the
// machine's Consul port. The port's methods are called from the machine's one
// worker goroutine; Serve from the supervisor's; everything else is safe from any.
type Agent struct {
	site    site.Site
	options Options
	logger  *slog.Logger
	lines   hclog.InterceptLogger
	dialer  *dial.Dialer
	folder  string

	// demands carries Install's wish for a running agent to Serve's goroutine.
	demands chan demand
	stay    atomic.Bool
	// joined is closed at the first join of this process.
	joined     chan struct{}
	joinedOnce sync.Once

	lock     sync.Mutex
	current  *instance    // nil while no agent runs
	last     *credentials // what Install was given last: what a restart starts with
	exporter *exporterNews
	restarts int
}

// demand is Install waiting for a running agent.
type demand struct {
	with credentials
	// instead names a running agent that is to be replaced, for it cannot join; nil:
	// whatever runs will do.
	instead *instance
	reply   chan<- started
}

// started answers a demand.
type started struct {
	instance *instance
	// fresh: it was started for this demand, with the demand's credentials.
	fresh bool
	err   error
}

// credentials is what an epoch gives the agent, with the identity it acts for.
type credentials struct {
	identity states.Identity
	name     states.Installed
	token    secret.Secret
	gossip   secret.Secret
	previous secret.Secret // the gossip key before this one, empty where there is none
	chain    string
	key      secret.Secret
	issued   time.Time
}

// New returns an agent that waits for its first Install. dialer resolves the
// servers' name; logger gets Consul's own lines.
func New(of site.Site, dialer *dial.Dialer, logger *slog.Logger, options Options) *Agent {
	logger = logs.Component(logger, "consul")
	return &Agent{
		site:    of,
		options: options,
		logger:  logger,
		lines:   logs.Intercept(logger),
		dialer:  dialer,
		folder:  filepath.Join(of.RuntimeFolder, "consul"),
		demands: make(chan demand),
		joined:  make(chan struct{}),
	}
}

// Name implements service.Service.
func (a *Agent) Name() string { return "consul" }

// StayRegistered makes the next stop a hard one, without leaving the cluster: the
// process is about to be replaced by its successor. Call it before Serve's context ends.
func (a *Agent) StayRegistered() { a.stay.Store(true) }

// Joined is closed when the agent has joined the cluster for the first time in
// this process. Safe from any goroutine.
func (a *Agent) Joined() <-chan struct{} { return a.joined }

// Serve waits for the first Install and runs the agent until ctx is done, then
// leaves the cluster, in about four seconds. When the agent dies it returns an
// error, and when it is called again starts anew with the last credentials at
// once: the in-process restart.
func (a *Agent) Serve(ctx context.Context) error {
	running, err := a.begin(ctx)
	for running != nil {
		var wanted *demand
		if wanted, err = a.run(ctx, running); wanted == nil {
			return err
		}
		running, err = a.start(ctx, wanted.with)
		wanted.reply <- started{running, true, err}
	}
	return err
}

// run tends an instance until ctx is done, or it dies, or a demand wants another in its place.
func (a *Agent) run(ctx context.Context, running *instance) (*demand, error) {
	tending, stopTending := context.WithCancel(ctx)
	var tended sync.WaitGroup
	tended.Go(func() { a.tend(tending, running) })
	wanted, err := a.watch(ctx, running)
	stopTending()
	a.forget(running)
	if wanted == nil && err == nil && !a.stay.Load() {
		a.leave(running)
	}
	running.shutdown(a.logger)
	tended.Wait()
	return wanted, err
}

// begin returns a running instance: with the last credentials if there were any,
// else with those of the first demand. It returns nil and nil when ctx is done.
func (a *Agent) begin(ctx context.Context) (*instance, error) {
	if last := a.lastCredentials(); last != nil {
		a.forgetMembers()
		running, err := a.start(ctx, *last)
		if err != nil {
			return nil, fmt.Errorf("restart agent: %w", err)
		}
		a.lock.Lock()
		a.restarts++
		a.lock.Unlock()
		return running, nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case wanted := <-a.demands:
			running, err := a.start(ctx, wanted.with)
			wanted.reply <- started{running, true, err}
			if err == nil {
				return running, nil
			}
		}
	}
}

// forgetMembers deletes Serf's own memory of whom it knew: with that, an agent that
// is started anew would be back in the cluster before anybody has asked whether its
// name is still its own.
func (a *Agent) forgetMembers() {
	err := os.Remove(filepath.Join(a.folder, "serf", "local.snapshot"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.logger.Warn("restart agent: it may join before it is asked whose name it has", "error", err)
	}
}

// watch returns nothing when ctx is done, or why the agent died, or who wants another in its place.
func (a *Agent) watch(ctx context.Context, running *instance) (*demand, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case wanted := <-a.demands:
			if wanted.instead == running {
				return &wanted, nil
			}
			wanted.reply <- started{running, false, nil} // it was restarted while Install waited
		case <-running.agent.Failed():
			return nil, errors.New("agent died: one of its API listeners failed")
		case <-running.agent.ShutdownCh():
			return nil, errors.New("agent died: it shut itself down")
		case err := <-running.dead:
			return nil, fmt.Errorf("agent died: %w", err)
		}
	}
}

// tend keeps a running agent in the cluster without the machine: it joins when it
// was restarted, and when no server is known any more; and looks for the deaths
// that Consul does not report.
func (a *Agent) tend(ctx context.Context, running *instance) {
	ticker := time.NewTicker(tendInterval)
	defer ticker.Stop()
	back := !running.restarted // at first it is Install that joins
	doors := running.doors()
	_, _ = knock(ctx, doors) // which of them answer at all
	for {
		if !back {
			err := a.rejoin(ctx, running)
			if back = err == nil; !back && ctx.Err() == nil {
				a.logger.Debug("rejoin", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			back = back && !running.lonely()
			running.askSerf()
			next := tendInterval
			switch doubt, err := knock(ctx, doors); {
			case err != nil:
				running.kill(err)
			case doubt:
				next = doubtInterval
			}
			ticker.Reset(next)
		}
	}
}

// rejoin brings an agent and its registration back after a restart.
func (a *Agent) rejoin(ctx context.Context, running *instance) error {
	ctx, cancel := context.WithTimeout(ctx, tendInterval)
	defer cancel()
	if err := a.join(ctx, running); err != nil {
		return err
	}
	if last := a.lastExporter(); last != nil {
		return a.registerOn(ctx, running, last.err)
	}
	return nil
}

// Healthy implements service.Healther: nil while the agent runs and knows a server.
func (a *Agent) Healthy(context.Context) error {
	running, err := a.running()
	switch {
	case err != nil:
		return err
	case running.lonely():
		return errors.New("no Consul server is known to the agent")
	default:
		return nil
	}
}

// running returns the running instance, or a local failure when there is none.
func (a *Agent) running() (*instance, error) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.current == nil {
		return nil, failure.New(failure.Local, failure.RemoteConsul, "embedded agent is not running")
	}
	return a.current, nil
}

func (a *Agent) lastCredentials() *credentials {
	a.lock.Lock()
	defer a.lock.Unlock()
	return a.last
}

// forget takes a dead or stopping instance out of sight.
func (a *Agent) forget(running *instance) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.current == running {
		a.current = nil
	}
}
