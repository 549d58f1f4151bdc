package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"pawl/internal/faults"
)

// Addresses of what stands between the agent and Vault, and of what else the
// faults need; the lab's servers have the lower ones.
const (
	gatewayIP  = "127.0.1.20"
	wireIP     = "127.0.1.21"
	strangerIP = "127.0.1.22"
	jwksWire   = "127.0.1.23:18169"
	recorderIP = "127.0.1.24"
)

// scene is one fault being made: lab, agent, and what stands between. Its methods
// are called on one goroutine.
type scene struct {
	fault
	lab       *lab
	program   agentProgram
	running   *agent
	log       *chronicle
	authority string
	result    *result

	gateway *faults.Gateway
	wire    *faults.Wire
	// jwks stands between Vault and the JWT service's keys, in the rows that put it there.
	jwks *faults.Wire
	// recorder counts who comes to the proxy of the environment.
	recorder *faults.Wire
	// taken is the port that another process has.
	taken net.Listener
	// chosen is the server that a fault took.
	chosen string
	// recording is the file in which the agent records its log.
	recording string
	// impostor is another agent with our name.
	impostor *process
	// saved is the state of Consul's servers.
	saved bytes.Buffer
	// ruled counts the routing rules of the fault.
	ruled int
	// closers undo what injections left.
	closers []func()

	// killed says that the agent does not run because the fault is that; fresh, that
	// it was started since, so that it has no former state to be back in.
	killed, fresh bool

	// injected and healed are when the fault began and ended, struck when making it
	// was done: some faults are many blows.
	injected, struck, healed time.Time
	// moved and logged are how many moves and lines there were before.
	moved, logged int
	// before is the agent's status before the fault.
	before chaosReport
}

// play makes the fault, from the agent's start to its end.
func (s *scene) play(ctx context.Context) error {
	if err := s.openWay(); err != nil {
		return err
	}
	if s.atBoot {
		if err := s.strike(ctx); err != nil {
			return err
		}
	}
	if err := s.start(); err != nil {
		return err
	}
	if !s.atBoot {
		if _, err := s.running.awaitServing(ctx, servingTimeout); err != nil {
			return err
		}
		if err := s.sleep(ctx, s.age); err != nil {
			return err
		}
		var err error
		if s.before, err = s.status(ctx); err != nil {
			return err
		}
	}
	watch := newWatcher(s)
	err := s.suffer(ctx)
	s.result.Seen = watch.end()
	s.result.Reaped = s.result.Seen.Absent > 0 && s.reaped()
	s.result.Moves, _ = s.running.log.since(s.moved)
	if err != nil && errors.Is(err, errAgentEnded) {
		return err
	}
	_, stopped := s.running.stop()
	return errors.Join(err, s.judge(), stopped)
}

// start runs the agent, and again after it was killed.
func (s *scene) start() (err error) {
	s.running, err = startAgent(s.lab.launcher, s.program, s.log)
	return err
}

// killAgent ends the agent with SIGKILL, if it runs, and waits until it has ended.
func (s *scene) killAgent() {
	select {
	case <-s.running.ended:
	default:
		_ = syscall.Kill(s.running.pid, syscall.SIGKILL)
		<-s.running.ended
	}
}

// openWay puts what the row wants between agent and Vault.
func (s *scene) openWay() error {
	switch s.way {
	case throughGateway:
		certificate, roots, err := s.certificate(gatewayIP)
		if err != nil {
			return err
		}
		if s.gateway, err = faults.ListenGateway(gatewayIP+":"+vaultPort, certificate, "https://"+vaultAddress, roots); err != nil {
			return err
		}
		s.closers = append(s.closers, func() { _ = s.gateway.Close() })
		return s.name(vaultName, gatewayIP)
	case wired:
		var err error
		if s.wire, err = faults.ListenWire(wireIP+":"+vaultPort, vaultAddress); err != nil {
			return err
		}
		s.closers = append(s.closers, func() { _ = s.wire.Close() })
		return s.name(vaultName, wireIP)
	}
	return nil
}

// certificate makes one for Vault's name, by the lab's CA.
func (s *scene) certificate(address string) (tls.Certificate, *x509.CertPool, error) {
	authorities, err := loadAuthorities(s.authority, time.Now())
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities.bundle())
	pair := s.lab.folder.pair("between")
	if err := authorities[0].issueServer(pair, vaultName, []string{address}, time.Now()); err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("certificate of the gateway: %w", err)
	}
	made, err := tls.LoadX509KeyPair(pair.certificate, pair.key)
	return made, roots, err
}

// name has the lab's DNS answer with these addresses.
func (s *scene) name(name, addresses string) error {
	return s.lab.obey(context.Background(), order{Command: "dns", Names: []string{name, addresses}})
}

// strike injects the fault. What comes after is of it.
func (s *scene) strike(ctx context.Context) error {
	s.injected = time.Now()
	defer func() { s.struck = time.Now() }()
	s.logged = s.log.count()
	if s.running != nil {
		s.moved = s.running.log.count()
	}
	if s.inject == nil {
		return nil
	}
	if err := s.inject(ctx, s); err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	return nil
}

// suffer injects, waits until the fault is noticed, takes it away and waits for Serving.
func (s *scene) suffer(ctx context.Context) error {
	if !s.atBoot {
		if err := s.strike(ctx); err != nil {
			return err
		}
	}
	for _, line := range s.until {
		if err := s.log.await(ctx, s.running.ended, s.logged, noticed, line); err != nil {
			return s.told("notice", err)
		}
	}
	if err := s.sleep(ctx, s.hold); err != nil {
		return err
	}
	if s.during != nil {
		if err := s.during(ctx, s); err != nil {
			return fmt.Errorf("during the fault: %w", err)
		}
	}
	if s.heal != nil {
		if err := s.heal(ctx, s); err != nil {
			return fmt.Errorf("end the fault: %w", err)
		}
	}
	s.healed = time.Now()
	if s.heal == nil {
		s.healed = s.struck // it was over as soon as it was made
	}
	within := s.within
	if within == 0 {
		within = soon
	}
	if s.atBoot || s.fresh {
		if _, err := s.running.awaitServing(ctx, within+settled); err != nil {
			return s.told("come back", err)
		}
	}
	back, err := s.running.awaitReturn(ctx, s.moved, within+settled)
	if err != nil {
		return s.told("come back", err)
	}
	s.result.Back = true
	if moves, _ := s.running.log.since(s.moved); s.atBoot || s.fresh || left(moves) {
		s.result.ToServing = max(0, back.Sub(s.healed))
	}
	if s.result.ToServing > within {
		return fmt.Errorf("it came to %s %s after the fault's end, not within %s", serving, short(s.result.ToServing), within)
	}
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	if err := s.awaitAlive(ctx); err != nil {
		return err
	}
	if s.check != nil {
		if s.result.Note, err = s.check(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// told names the part of the row that failed; an agent that ended says so itself.
func (s *scene) told(what string, err error) error {
	if errors.Is(err, errAgentEnded) || errors.Is(err, errInterrupted) {
		return err
	}
	return fmt.Errorf("%s: %w; the log ends with:\n%s", what, err, s.running.log.tail())
}

// sleep lets the fault last. It ends early, with an error, when the agent ends unasked.
func (s *scene) sleep(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	ended := s.running.ended
	if s.killed {
		ended = nil
	}
	select {
	case <-timer.C:
		return nil
	case <-ended:
		return s.running.died()
	case <-ctx.Done():
		return errInterrupted
	}
}

// readyTime is how long after Serving `pawl status` may still not say ready:
// with short TTLs a renewal may be under way just then.
const readyTime = 10 * time.Second

// awaitReady waits until the agent itself calls the node ready.
func (s *scene) awaitReady(ctx context.Context) error {
	var last chaosReport
	bounded, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	err := retry(bounded, s.running.ended, func(ctx context.Context) (err error) {
		if last, err = s.status(ctx); err == nil && !last.Ready {
			err = fmt.Errorf("pawl status says %s, not ready", last.Verdict)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("back in %s, but: %w", serving, err)
	}
	return nil
}

// aliveTime is how long after Serving gossip may take to tell a server that the
// node lives: a suspicion must be refuted, which takes a round of probes.
const aliveTime = 15 * time.Second

// awaitAlive waits until a server counts the node among the living, and has it and
// its service in the catalogue, whatever the agent says of itself.
func (s *scene) awaitAlive(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	err := retry(bounded, s.running.ended, func(ctx context.Context) error {
		if err := s.member("alive", s.program.site.Consul.Bind); err != nil {
			return fmt.Errorf("in gossip %w", err)
		}
		listed, err := s.lab.named().stillLists(ctx, s.lab.record.Metadata.VMs[0].Name)
		if err == nil && !listed {
			err = errors.New("it is not in the catalogue")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("back in %s, but: %w", serving, err)
	}
	return nil
}

// end undoes what was put between. The lab itself is ended by its owner.
func (s *scene) end() {
	if s.running != nil {
		s.killAgent()
	}
	for _, undo := range slices.Backward(s.closers) {
		undo()
	}
}
