package fsm

import (
	"fmt"
	"slices"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// umpire watches a machine from turn to turn and says which law it broke first.
// It reads the machine's own fields, so it is called on the machine's goroutine:
// as Options.Refresh, after what came was taken and before the next wait.
type umpire struct {
	machine *Machine
	now     func() time.Time

	held    states.Held // as it was after the turn before
	state   states.State
	moved   int
	stopped bool // the embedded agent was said to have stopped, since or while the attempt flew
	landed  bool // an attempt came home in this turn
	refused bool // and Vault refused the token it was made with
	// installed: it was an install, begun with a candidate that may have been put away since.
	installed bool
	flight    *flight
	patience  map[transitions.Action]*patience
	renewed   time.Time // when the last renewal ended
	serving   time.Time // since when, without a break
	starts    []time.Time
	news      []time.Time

	moves  []Move
	busy   int // the most attempts begun in any minute
	broken error
}

// patience is what the umpire knows of one action's failures: a model of law 5
// apart from the one in retry.go.
type patience struct {
	class    failure.Class
	running  int // failures of the class since the counters may have been cleared
	standing bool
	least    time.Time // not to be tried before
	asked    time.Time // the far end's own wish, which a calm does not end
	away     failure.Remote
}

// What no history may exceed. A boot takes a dozen attempts; a far end that is
// away is asked a dozen times in its first minute, and there are four of them;
// each piece of news may cost an install and a round of probes.
const (
	attemptsAMinute     = 60
	attemptsForEachNews = 6
)

// watch makes an umpire. The machine is set once it is made.
func watch(now func() time.Time) *umpire {
	return &umpire{now: now, state: states.NoIdentity, patience: map[transitions.Action]*patience{}}
}

func (u *umpire) fault(law, format string, args ...any) {
	if u.broken == nil {
		u.broken = fmt.Errorf("law broken: %s: %s", law, fmt.Sprintf(format, args...))
	}
}

// told notes news that the machine was told, before its next turn.
func (u *umpire) told(news transitions.News) {
	u.stopped = u.stopped || news.Name == transitions.AgentStopped("").Name
	u.news = append(u.news, u.now())
}

// jumped notes that the clocks parted: no wait goes on but those that were asked for.
func (u *umpire) jumped() {
	u.news = append(u.news, u.now())
	for _, p := range u.patience {
		p.least = time.Time{}
	}
}

// ended notes how the attempt under way ended, before the turn that takes it.
func (u *umpire) ended(row transitions.Work, err error) {
	p, now := u.of(row.Action), u.now()
	u.landed, u.installed = true, row.Action == transitions.Install
	if row.Renewal {
		u.renewed = now
	}
	p.standing = err != nil
	if err == nil {
		for _, each := range u.patience {
			if row.Probe && each.away == row.Remote {
				each.least = time.Time{} // it is there again
			}
		}
		return
	}
	failed := failure.Of(err)
	p.away = ""
	if failed.Class == failure.Transient && !row.Probe && (failed.Remote == row.Remote || failed.Remote == failure.RemoteHost) {
		p.away = row.Remote
	}
	u.refused = failed.Class == failure.AuthDead && failed.Remote == failure.RemoteVault
	if p.class != failed.Class {
		p.class, p.running = failed.Class, 0
	}
	policy := policies[failed.Class]
	if row.Probe && failed.Class == failure.Transient {
		policy = probing
	}
	wait := policy.initial
	for range p.running {
		wait = min(2*wait, policy.limit)
	}
	p.running++
	p.least = now.Add(wait - wait/4) // a quarter is jitter's
	p.asked = now.Add(failed.RetryAfter)
}

func (u *umpire) of(action transitions.Action) *patience {
	if u.patience[action] == nil {
		u.patience[action] = &patience{}
	}
	return u.patience[action]
}

// turned checks all laws after a turn.
func (u *umpire) turned(held states.Held) {
	now := u.now()
	u.checkMoves()
	u.checkKept(held, now)
	u.checkRest(held, now)
	u.checkFlight(now)
	u.held = held
	u.stopped = u.stopped && u.machine.flight != nil && !u.landed
	u.landed, u.refused, u.installed = false, false, false
}

// checkMoves: law 1, each move is an arrow, from where the one before led.
func (u *umpire) checkMoves() {
	moves := u.machine.moves[max(0, len(u.machine.moves)-(u.machine.moved-u.moved)):]
	u.moved = u.machine.moved
	var way []states.State
	for _, move := range moves {
		if move.From != u.state {
			u.fault("legal moves", "%s from %s, but it stood in %s", move.Event, move.From, u.state)
		}
		if !slices.ContainsFunc(transitions.Arrows(), func(arrow transitions.Arrow) bool {
			return arrow.Event == move.Event && arrow.From == move.From && arrow.To == move.To
		}) {
			u.fault("legal moves", "no arrow %s from %s to %s", move.Event, move.From, move.To)
		}
		if slices.Contains(way, move.To) {
			u.fault("ratchet", "%s takes back what this turn did: %v", move.Event, way)
		}
		if climb := move.To.Height() - move.From.Height(); climb > 1 && move.Event != transitions.Restored {
			u.fault("ladder", "%s climbs %d rungs", move.Event, climb)
		}
		way = append(way, move.From)
		u.state = move.To
	}
	u.moves = append(u.moves, moves...)
	if state := u.machine.referee.state(); state != u.state {
		u.fault("legal moves", "stands in %s without a move from %s", state, u.state)
	}
}

// checkRest: landing, law 6, and what Serving means to the counters.
func (u *umpire) checkRest(held states.Held, now time.Time) {
	if rung := states.Rung(held, now); rung != u.state {
		u.fault("landing", "rests in %s, belongs in %s", u.state, rung)
	}
	if !states.Holds(u.state, held, now) {
		u.fault("landing", "rests in %s without its evidence", u.state)
	}
	if u.state == states.Degraded && len(states.Roots(states.Reasons(held, now))) == 0 {
		u.fault("Degraded has a reason", "none")
	}
	for _, row := range u.machine.options.Work {
		if p := u.patience[row.Action]; p != nil && p.standing && !row.Needs(held, now) {
			p.standing = false // nothing is left of it to fail
		}
	}
	if u.state != states.Serving && u.state != states.Renewing {
		u.serving = time.Time{}
		return
	}
	if u.serving.IsZero() {
		u.serving = now
	}
	if states.Passed(u.serving.Add(calm), now) { // a minute asleep in Serving is one, too
		for _, p := range u.patience {
			if !p.standing {
				*p = patience{asked: p.asked}
			}
		}
	}
}

// checkKept: laws 2 and 3. What was live before this turn, and is not known to
// be refused now, is still there, or was swapped for what is installed.
func (u *umpire) checkKept(after states.Held, now time.Time) {
	before := u.held
	if before.Installed != (states.Installed{}) && after.Installed == (states.Installed{}) && !u.stopped {
		u.fault("what runs keeps running", "the agent's credentials were uninstalled")
	}
	if before.Identity.NodeID != "" && after.Identity != before.Identity {
		u.fault("identity is fixed", "%v became %v", before.Identity, after.Identity)
	}
	if before.JWT.Live(now) && after.JWT.ID != before.JWT.ID && (u.flight == nil || u.flight.row.Action != transitions.FetchJWT) {
		u.fault("nothing good is dropped", "a good JWT was")
	}
	if u.refused {
		return // which one it was is the attempt's to say
	}
	inHand := func(token states.VaultToken) bool {
		return token.ID == after.Current.Vault.ID || token.ID == after.Next.Vault.ID ||
			slices.ContainsFunc(after.Former, func(former states.VaultToken) bool { return former.ID == token.ID }) ||
			u.flight != nil && u.flight.row.Action == transitions.Revoke // the world keeps that account
	}
	for _, token := range append([]states.VaultToken{before.Current.Vault, before.Next.Vault}, before.Former...) {
		if token.Live(now) && !inHand(token) {
			u.fault("nothing good is dropped", "the live Vault token %s was forgotten and not revoked", token.ID)
		}
	}
	if !before.Current.Vault.Live(now) {
		return // a new epoch may begin where none is alive
	}
	if before.Current.Vault.ID == after.Next.Vault.ID {
		return // it took the place of one whose renewal was under way and succeeded: that one is back, and it is next again
	}
	swapped := (after.Installed == after.Current.Credentials() || u.stopped) && (u.installed ||
		before.Next.Number > 0 && after.Current.Vault.ID == before.Next.Vault.ID && after.Current.Credentials() == before.Next.Credentials())
	for _, credential := range []struct {
		name          string
		before, after states.Life
	}{
		{"Vault token", before.Current.Vault.Life, after.Current.Vault.Life},
		{"Consul token", before.Current.Consul.Life, after.Current.Consul.Life},
		{"certificate", before.Current.Certificate.Life, after.Current.Certificate.Life},
		{"gossip key", before.Current.Gossip.Life, after.Current.Gossip.Life},
	} {
		if credential.before.Live(now) && credential.after.ID != credential.before.ID && !swapped {
			u.fault("make before break", "the live %s %s was replaced by %q before its successor was installed", credential.name, credential.before.ID, credential.after.ID)
		}
	}
}

// checkFlight: law 5. No action is begun sooner than its patience allows, no
// renewal within a second of another, nothing when there is no need, and never
// more of it than a far end can bear.
func (u *umpire) checkFlight(now time.Time) {
	flight := u.machine.flight
	if flight == u.flight {
		return
	}
	u.flight = flight
	if flight == nil {
		return
	}
	row := flight.row
	if p := u.of(row.Action); now.Before(p.least) || now.Before(p.asked) {
		u.fault("patience", "%s is tried %s too early", row.Action, max(p.least.Sub(now), p.asked.Sub(now)))
	}
	if row.Renewal && !u.renewed.IsZero() && now.Sub(u.renewed) < time.Second {
		u.fault("patience", "%s is tried %s after a renewal", row.Action, now.Sub(u.renewed))
	}
	if !row.Needs(u.machine.held, now) {
		u.fault("no idle attempts", "%s is not needed", row.Action)
	}
	u.starts = append(within(u.starts, now), now)
	u.news = within(u.news, now)
	u.busy = max(u.busy, len(u.starts)-attemptsForEachNews*len(u.news))
	if len(u.starts) > attemptsAMinute+attemptsForEachNews*len(u.news) {
		u.fault("no spin", "%d attempts in a minute with %d pieces of news; the last is %s", len(u.starts), len(u.news), row.Action)
	}
}

// within keeps the moments of the last minute.
func within(moments []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(moments, func(moment time.Time) bool { return now.Sub(moment) > time.Minute })
}
