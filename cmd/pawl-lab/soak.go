package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// soakOptions are the flags of `soak`.
type soakOptions struct {
	up upOptions
	// rotations is how often each credential must be replaced; zero: what length allows.
	rotations int
	// seed decides what is struck and when; zero: any.
	seed uint64
	// length ends the soak after a while instead of after so many rotations.
	length time.Duration
}

const (
	// soakTTL and soakRotations are what a soak is for (issue 4).
	soakTTL       = 16 * time.Second
	soakRotations = 200
	// settleTimeout bounds the wait for the last leftovers to go. Vault tries a
	// revocation that failed again after 10 s, 20 s, 40 s and so on.
	settleTimeout = 5 * time.Minute
	// most is how many TTLs a rotation may take on average, outages included: it is
	// due after half of one to two thirds.
	most = 4
)

func (o soakOptions) filled() soakOptions {
	if o.up.ttl == 0 {
		o.up.ttl = soakTTL
	}
	if o.seed == 0 {
		o.seed = uint64(rand.Uint32N(1_000_000)) + 1
	}
	switch {
	case o.rotations == 0 && o.length == 0:
		o.rotations = soakRotations
	case o.rotations == 0:
		o.rotations = max(1, int(o.length/(2*o.up.ttl)))
	}
	return o
}

func (o soakOptions) check() error {
	switch {
	case o.rotations < 0:
		return usageError{fmt.Sprintf("--rotations %d: at least 1", o.rotations)}
	case o.length < 0:
		return usageError{fmt.Sprintf("--for %s is negative", o.length)}
	}
	return o.up.check()
}

// soak has the agent replace its credentials over and over while what it needs is
// struck, and judges what became of it.
func soak(ctx context.Context, o soakOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	o = o.filled()
	return withAgent(ctx, o.up, func(ctx context.Context, l *lab, program agentProgram) error {
		l.tell("soak: seed %d, TTL %s, %d rotations of each credential", o.seed, o.up.ttl, o.rotations)
		kept, err := os.OpenFile(l.folder.log("pawl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("keep pawl's log: %w", err)
		}
		defer kept.Close()
		running, err := startAgent(l.launcher, program, kept)
		if err != nil {
			return err
		}
		result, err := l.suffers(ctx, o, running)
		if !errors.Is(err, errAgentEnded) {
			_, stopErr := running.stop()
			err = errors.Join(err, stopErr)
		}
		err = errors.Join(err, result.print(o.up.stdout))
		if err != nil { // what was not lived through is not judged
			return err
		}
		return result.judge()
	})
}

// suffers follows the agent through the whole soak. The result holds what there
// was until an error.
func (l *lab) suffers(ctx context.Context, o soakOptions, running *agent) (result soakResult, err error) {
	result = soakResult{seed: o.seed, ttl: o.up.ttl, wanted: o.rotations, checkTimeout: running.program.site.NodeExporter.CheckTimeout}
	if _, err := running.awaitServing(ctx, servingTimeout); err != nil {
		return result, err
	}
	watching := newSoakWatch(l, running, o.rotations)
	result.began = time.Now()
	defer func() {
		result.ended = time.Now()
		result.seen = watching.end()
		var auditErr, logErr error
		result.answers, _, auditErr = readAudit(l.folder.auditLog(), 0)
		result.complaints, logErr = readComplaints(l.folder.log("pawl"))
		result.unread = errors.Join(auditErr, logErr)
	}()
	err = l.strikeOut(ctx, o, running, watching, &result)
	if err == nil {
		l.tell("no more outages; waiting until Consul has no token of ours but the current one")
		began := time.Now()
		result.current, result.left, err = watching.settle(ctx, settleTimeout)
		result.settled = time.Since(began)
	}
	return result, err
}

// strikeOut strikes until there were enough rotations, or for as long as was asked.
func (l *lab) strikeOut(ctx context.Context, o soakOptions, running *agent, watching *soakWatch, result *soakResult) error {
	plan := newPlanner(o.seed, o.up.ttl, l.record.Consul.Names)
	began := time.Now()
	enough := func() bool {
		if o.length > 0 {
			return time.Since(began) >= o.length
		}
		return watching.rotations() >= o.rotations
	}
	limit := most * o.up.ttl * time.Duration(o.rotations)
	if o.length > 0 {
		limit = 2*o.length + servingTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for n := 1; ; n++ {
		next := plan.next()
		if err := running.serveFor(bounded, next, o.up.ttl); err != nil {
			return cmp.Or(expired(ctx, bounded, limit, watching), err)
		}
		if enough() {
			return nil
		}
		one, err := l.strike(bounded, next, running, watching)
		result.strikes = append(result.strikes, one)
		l.tell("%3d. %s after %s: %s; %d rotations", n, next, short(time.Since(began)), one, watching.rotations())
		if err != nil {
			return cmp.Or(expired(ctx, bounded, limit, watching), fmt.Errorf("outage %d, %s: %w", n, next, err))
		}
	}
}

// expired is the error of a soak that took too long, nil where it did not.
func expired(ctx, bounded context.Context, limit time.Duration, watching *soakWatch) error {
	if ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("only %d rotations in %s", watching.rotations(), limit)
	}
	return nil
}

// serveFor returns when the agent has served for as long as the strike wants.
func (a *agent) serveFor(ctx context.Context, next strike, ttl time.Duration) error {
	if err := a.lasts(ctx, next.after); err != nil || !next.atRenewal {
		return err
	}
	from := a.log.count()
	// Something is due at least once in half a TTL; the servers are all there.
	err := a.await(ctx, from, ttl, renewing, func(moves []move) bool {
		return slices.ContainsFunc(moves, func(one move) bool { return one.To == renewing })
	})
	if err != nil {
		return err
	}
	return a.lasts(ctx, next.lag)
}

// lasts waits, and fails when the agent ends or ctx does.
func (a *agent) lasts(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	case <-a.ended:
		return a.died()
	}
}

// struck is what became of a strike.
type struck struct {
	strike strike
	// answered is when the last part answered again; zero where it never did.
	answered time.Time
	// away is how long it was until the last part answered again.
	away time.Duration
	// back is how long after that the agent served again to stay.
	back  time.Duration
	moves []move
}

func (s struck) String() string {
	text := fmt.Sprintf("pawl %s", walk(s.moves))
	if s.back > 0 {
		text += fmt.Sprintf(", back %s after it answered", short(s.back))
	}
	return text
}

// strike takes things down and brings each back in its time, and waits until the
// agent serves again to stay.
func (l *lab) strike(ctx context.Context, next strike, running *agent, watching *soakWatch) (one struck, err error) {
	one = struck{strike: next}
	before := running.log.count()
	defer func() { one.moves, _ = running.log.since(before) }()
	consuls := slices.ContainsFunc(next.parts, func(each part) bool { return each.names[0] != "vault" })
	began := time.Now()
	if consuls {
		watching.consulDown(began)
	}
	var names []string
	for _, each := range next.parts {
		names = append(names, each.names...)
	}
	if err := l.obey(ctx, order{Command: next.verb, Names: names}); err != nil {
		return one, err
	}
	down := time.Now()
	err = together(next.parts, func(each part) error {
		if err := running.lasts(ctx, time.Until(down.Add(each.length))); err != nil {
			return err
		}
		if err := l.obey(ctx, order{Command: "start", Names: each.names}); err != nil {
			return err
		}
		if each.names[0] != "vault" {
			watching.consulUp(time.Now())
		}
		return nil
	})
	if err != nil {
		return one, err
	}
	one.answered = time.Now()
	one.away = one.answered.Sub(began)
	at, err := running.awaitReturn(ctx, before, servingTimeout)
	if !at.IsZero() {
		one.back = max(0, at.Sub(one.answered))
	}
	return one, err
}

// settle waits until Consul knows no token of agents but the one that our agent
// works with, and returns that one. What is left at the limit is left.
func (w *soakWatch) settle(ctx context.Context, limit time.Duration) (current string, left []string, err error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(soakEvery)
	defer tick.Stop()
	for {
		before, err := w.ask(bounded)
		listed, listErr := w.lab.consul.agentTokens(bounded)
		after, askErr := w.ask(bounded)
		if errors.Join(err, listErr, askErr) == nil {
			current = before.holds("consul_token")
			left = slices.DeleteFunc(slices.Clone(listed), func(each string) bool { return each == current })
			if before.rested() && after.rested() && after.holds("consul_token") == current && len(left) == 0 && len(listed) == 1 {
				return current, nil, nil
			}
		}
		select {
		case <-tick.C:
		case <-w.running.ended:
			return current, left, w.running.died()
		case <-bounded.Done():
			if ctx.Err() != nil {
				return current, left, errInterrupted
			}
			return current, left, nil
		}
	}
}
