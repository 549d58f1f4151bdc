package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/internal/service"
	"pawl/internal/status"
	"pawl/states"
	"pawl/transitions"
)

const (
	// servicesTimeout: Consul's leave takes about four seconds, the rest next to nothing.
	servicesTimeout = 6 * time.Second
	// revokeTimeout bounds giving back what is held, after the leave.
	revokeTimeout = 2 * time.Second
	// joinTimeout bounds the wait for an agent that has a node to take out and has not joined yet.
	joinTimeout = time.Second
	// stopTimeout is the whole of SIGTERM: exit within ten seconds, whatever hangs.
	stopTimeout = 9500 * time.Millisecond
)

// process is everything that lives, from the first turn of the machine to the end.
type process struct {
	environment
	executable string
	lock       *lock
	machine    *fsm.Machine
	supervisor *service.Supervisor
	services   embeddedServices
	tokens     revoker
	source     status.Source
	signals    signals
	fatal      <-chan error
	// restored: a process before this one left the node registered.
	restored bool
}

// end is how a process ends.
type end int

const (
	endLeave   end = iota // SIGTERM: leave, revoke, exit 0
	endSucceed            // SIGHUP: execute the successor in our place
	endFatal              // a service that nothing in this process can repair: exit 75
)

// live runs machine and services until a signal or a fatal service ends them.
func (p *process) live() error {
	machineContext, stopMachine := context.WithCancel(context.Background())
	defer stopMachine()
	servicesContext, stopServices := context.WithCancel(context.Background())
	defer stopServices()

	landed := make(chan states.Held, 1)
	go func() { landed <- p.machine.Run(machineContext) }()
	stopped := make(chan error, 1)
	go func() { stopped <- p.supervisor.Serve(servicesContext) }()

	how, why := p.wait()
	if how == endLeave {
		p.lock.told() // now: even if the end is not reached, it was asked for
	}
	told := p.hurry(how)
	if how == endLeave && p.restored {
		p.awaitJoined()
	}

	if how == endFatal {
		// Now, since the machine itself may be what will not stop.
		p.log.Error("giving up", "error", errors.Join(why, keepReason(p.site.RuntimeFolder, why, time.Now())), "exit", exitRestart)
	}
	var socket *os.File
	if how != endLeave {
		// Who comes after us finds the node registered and what is held in the file:
		// nothing of it has become worse (law 2).
		p.services.consul.StayRegistered()
		p.services.handover.Keep()
	}
	if how == endSucceed {
		var err error
		if socket, err = p.services.exporter.HandOver(); err != nil {
			p.log.Warn("cannot hand over the exporter's listener", "error", err)
		}
	}
	stopMachine()
	held := <-landed
	stopServices()
	limit := time.NewTimer(servicesTimeout)
	defer limit.Stop()
	select {
	case err := <-stopped:
		if err != nil {
			p.log.Warn("services did not stop", "error", err)
		}
	case <-limit.C:
		p.log.Warn("services did not stop in time", "after", servicesTimeout)
	}
	switch how {
	case endSucceed:
		// It returns only when it failed; whoever starts us again finds the file.
		p.log.Error("cannot hand over", "error", succeed(p.environment, p.executable, held, socket, told), "exit", exitRestart)
		return exitCode(exitRestart)
	case endFatal:
		return exitCode(exitRestart)
	default:
		// Its service may not have come to that, where the leave took all the time.
		if err := p.services.handover.Forget(); err != nil {
			p.log.Warn("stopping", "error", err)
		}
		if doubt := doubted(p.machine.Snapshot()); doubt != "" {
			p.log.Warn("not revoking: another VM may work with the same tokens; they end by themselves", "error", doubt)
		} else {
			p.giveBack(held)
		}
		for _, name := range []string{gaveUpName, crashesName} {
			if err := forget(p.site.RuntimeFolder, name); err != nil {
				p.log.Warn("stopping", "error", err)
			}
		}
		return nil
	}
}

// awaitJoined waits for the embedded agent's first join: who has not joined cannot
// leave, and the servers would see the node that it took over as failed.
func (p *process) awaitJoined() {
	limit := time.NewTimer(joinTimeout)
	defer limit.Stop()
	select {
	case <-p.services.consul.Joined():
	case <-limit.C:
	}
}

// wait answers signals until one of them, or a fatal service, ends the process. A
// successor is tried beside that: one that hangs keeps no SIGTERM waiting.
func (p *process) wait() (end, error) {
	trial, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	tried := make(chan error, 1)
	trying, again := false, false
	for {
		if again && !trying {
			trying, again = true, false
			go func() { tried <- try(trial, p.executable) }()
		}
		select {
		case err := <-p.fatal:
			return endFatal, err
		case err := <-tried:
			trying = false
			if err == nil {
				p.log.Info("handing over", "to", p.executable)
				return endSucceed, nil
			}
			p.log.Error("will not hand over, this process goes on", "error", err)
		case received := <-p.signals.ends:
			p.log.Debug("stopping", "signal", received.String())
			return endLeave, nil
		case received := <-p.signals.asks:
			if received == syscall.SIGHUP {
				again = true // after the one that is being tried, should that fail
				continue
			}
			if err := p.source.Dump(os.Stderr); err != nil {
				p.log.Error("cannot dump", "error", err)
			}
		}
	}
}

// hurry ends the process when stopping takes too long, or at once at a second
// signal. While a successor is made, the first SIGTERM is for that one. Where
// another process is owed, the exit code still says so: the machine itself may be
// what hangs. The function returned ends the listening, and says whether there was
// a first SIGTERM until then.
func (p *process) hurry(how end) (told func() bool) {
	over, answer := make(chan struct{}), make(chan bool)
	go func() {
		limit := time.NewTimer(stopTimeout)
		defer limit.Stop()
		count := 0
		for {
			select {
			case <-p.signals.ends:
				if count++; how != endSucceed || count > 1 {
					os.Exit(exitFailed)
				}
			case <-limit.C:
				p.log.Warn("stopped without finishing", "after", stopTimeout)
				if how == endLeave {
					os.Exit(0)
				}
				os.Exit(exitRestart)
			case <-over:
				answer <- count+len(p.signals.ends) > 0
				return
			}
		}
	}()
	return func() bool {
		signal.Stop(p.signals.ends) // it returns when everything heard is in the channel
		close(over)
		return <-answer
	}
}

// doubted says why this VM may be a copy that was made while it ran, empty where
// nothing says so: what such a one holds is the original's (F7). A copy that is
// noticed when it verifies what it logged in for itself holds nothing else.
func doubted(snapshot *fsm.Snapshot) string {
	for _, each := range snapshot.Actions {
		if each.Standing && each.LastClass == failure.Identity && each.Action != transitions.Verify {
			return each.LastError
		}
	}
	return ""
}

// revoker is what giving back needs of Vault.
type revoker interface {
	RevokeToken(ctx context.Context, token secret.Secret) error
}

// giveBack revokes every Vault token that is held, and with each what was leased
// under it. Best effort: what cannot be given back expires.
func (p *process) giveBack(held states.Held) {
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	tokens := append([]states.VaultToken{held.Current.Vault}, held.Former...)
	if held.Next.Vault.ID != held.Current.Vault.ID {
		tokens = append(tokens, held.Next.Vault)
	}
	for _, token := range tokens {
		if token.Token.Empty() {
			continue
		}
		if err := p.tokens.RevokeToken(ctx, token.Token); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("cannot revoke", "accessor", token.ID, "error", err)
		}
	}
}
