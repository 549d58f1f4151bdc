package fsm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// A history is one life of the real machine, its tables and its policies in a
// world that a tape of bytes decides: each answer and its latency, how long
// things last, what happens outside, how time passes. The umpire checks the laws
// after every turn; when the tape has run out all goes well, and the machine must
// come to Serving and stay there.

// historyBegins has a monotonic reading, so that the two clocks can part.
var historyBegins = time.Now()

// What a history may take once all goes well: the longest patience there is is
// Identity's 5 minutes and a quarter, and the least wait a far end may ask for is
// 90 s; a fleet of 10,000 spreads over 160 s.
const (
	backWithin = 15 * time.Minute
	// steady is how long it must then stay: past the minute that clears the counters.
	steady = 65 * time.Second
	// longestTape keeps one run of the fuzz target short.
	longestTape = 400
)

type driver struct {
	*tapeWorld
	machine *Machine
	umpire  *umpire
	pending *Pending
	landsAt time.Time // when the attempt under way comes home
	stale   *Pending  // an attempt that was given up, and comes home late
	wake    time.Time
	turns   int
	stays   time.Duration // how long it must stay in Serving; one history in four is told to the end
}

// outcomeOfHistory is what a history came to.
type outcomeOfHistory struct {
	broken error
	turns  int
	busy   int
	notes  []string
}

// runHistory lives one.
func runHistory(bytes []byte, trace bool) outcomeOfHistory {
	return runPlanted(bytes, trace, func(*Options, *umpire) {})
}

// runPlanted lives one with a fault planted in what the machine is made of.
func runPlanted(bytes []byte, trace bool, plant func(*Options, *umpire)) outcomeOfHistory {
	if len(bytes) > longestTape {
		bytes = bytes[:longestTape]
	}
	w := &tapeWorld{tape: &tape{bytes: bytes}, now: historyBegins, alive: map[string]time.Time{}, trace: trace}
	d := &driver{tapeWorld: w}
	first := w.tape.next()
	dice := uint32(first)*2654435761 + 1
	if first%4 == 0 {
		d.stays = steady
	}
	w.usual = pick(first/4, time.Hour, 40*time.Second, 2*time.Minute, 25*time.Second)
	settings := transitions.Settings{ProbeInterval: probe, Now: w.clock, FleetSize: pick(w.tape.next(), 1, 10_000, 1, 1), Roll: func() float64 {
		dice = dice*1664525 + 1013904223
		return float64(dice>>8) / (1 << 24)
	}}
	d.umpire = watch(w.clock)
	options := Options{
		Arrows: transitions.Arrows(), Settings: settings, Log: slog.New(slog.DiscardHandler), Refresh: d.umpire.turned,
		Work: transitions.Table(transitions.Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings),
	}
	plant(&options, d.umpire)
	machine, err := New(options)
	if err != nil {
		return outcomeOfHistory{broken: err}
	}
	d.machine, d.umpire.machine = machine, machine
	d.turn(nil)
	for d.umpire.broken == nil && !w.tape.ended() {
		d.happen()
	}
	d.comeBack()
	return outcomeOfHistory{d.umpire.broken, d.turns, d.umpire.busy, w.notes}
}

// turn makes one turn of the machine now, and the attempt that it begins.
func (d *driver) turn(ended *Pending) {
	d.turns++
	began := d.umpire.moved
	pending, wake, _ := d.machine.Step(d.now, ended)
	d.wake = wake
	for _, move := range d.umpire.moves[began:] {
		d.note("%s --%s--> %s (%s)", move.From, move.Event, move.To, move.Cause)
	}
	if pending == nil {
		return
	}
	if d.pending != nil {
		d.umpire.fault("one attempt at a time", "%s beside %s", pending.Work.Action, d.pending.Work.Action)
	}
	d.note("  %s", pending.Work.Action)
	d.named = d.machine.held.Identity.NodeID != ""
	d.begin(pending.Work)
	known := maps.Clone(d.alive)
	pending.Make(context.Background())
	d.pending, d.landsAt = pending, d.clock()
	if d.deaf && d.spent > d.deadline+grace {
		// The loop gives it up; what it brings home later nobody takes.
		late := *pending
		d.stale = &late
		for token := range d.alive {
			// What a login or a renewal granted that was given up is lost: it expires.
			if until, granted := known[token]; granted {
				d.alive[token] = until
			} else {
				delete(d.alive, token)
			}
		}
		d.landsAt = d.now.Add(d.deadline + grace)
		err := failure.New(failure.Transient, pending.Work.Remote, "%s: no answer", pending.Work.Action)
		pending.result = result{flight: pending.flight, held: pending.Work.GivenUp(pending.held, err, d.landsAt), err: err}
	}
	d.spent = 0
}

// next lets time pass to what comes next: the landing of the attempt under way,
// or what the machine wants to be woken for.
func (d *driver) next() {
	if d.pending != nil && (!d.wake.Before(d.landsAt) || d.wake.Before(d.now)) {
		d.land()
		return
	}
	if !d.wake.After(d.now) {
		if d.pending == nil {
			d.umpire.fault("no spin", "wants to be woken at once, and had nothing to do")
		}
		d.wake = d.now.Add(time.Millisecond)
	}
	d.advance(d.wake)
	d.turn(nil)
}

func (d *driver) land() {
	if d.landsAt.After(d.now) {
		d.advance(d.landsAt)
	}
	ended := d.pending
	d.pending = nil
	if err := ended.result.err; err != nil {
		d.note("  %s failed: %v", ended.Work.Action, err)
	}
	d.umpire.ended(ended.Work, ended.result.err)
	d.turn(ended)
}

// happen takes a byte and lets something happen.
func (d *driver) happen() {
	b := d.tape.next()
	switch {
	case b < 176: // nothing but the next thing
		d.next()
	case b < 192:
		d.tell(pick(b, transitions.AgentStopped("planted"), transitions.ExporterStopped("planted"),
			transitions.ClockJumped("planted"), transitions.ServiceNews("dns", "planted")))
	case b < 200:
		if d.stale != nil && d.stale.flight != d.machine.flight {
			d.note("  %s comes home late", d.stale.Work.Action)
			stale := d.stale
			d.stale = nil
			d.turn(stale)
		}
	case b < 224: // a while in which the machine turns as it wants
		d.pass(d.now.Add(pick(b, time.Minute, 3*time.Second, 90*time.Second, 40*time.Second)))
	case b < 240: // to the end of something that is held
		d.expire(int(b))
	case b < 248: // busy elsewhere: no turn is made for as long
		d.sleep(d.now.Add(pick(b, time.Minute, time.Hour, 10*time.Second, 25*time.Hour)))
	default: // the whole machine is asleep, and its monotonic clock with it
		length := pick(b, time.Minute, time.Hour, 10*time.Second, 25*time.Hour)
		d.now = asleep(d.now, length)
		d.umpire.jumped()
		d.note("suspended for %s", length)
		d.sleep(d.now)
	}
}

func (d *driver) tell(news transitions.News) {
	d.note("news %s", news.Name)
	d.machine.Tell(news)
	d.umpire.told(news)
	d.turn(nil)
}

// expire lets time pass to the end of something that is held.
func (d *driver) expire(which int) {
	held := d.machine.held
	until := pick(byte(which), held.Current.Vault.Expires, held.JWT.Expires, held.Current.Consul.Expires, held.Current.Certificate.Expires, held.Next.Vault.Expires, held.Current.Vault.ReattestAt)
	if until.Sub(d.now) > 30*time.Hour {
		return
	}
	d.pass(until)
}

// pass lets time pass, with the machine's own turns while they are few; the rest
// of a longer while it sleeps.
func (d *driver) pass(until time.Time) {
	for turns := 0; d.now.Before(until) && turns < 12 && d.umpire.broken == nil; turns++ {
		if d.pending == nil && d.wake.After(until) {
			break
		}
		d.next()
	}
	if d.now.Before(until) && d.umpire.broken == nil {
		d.sleep(until)
	}
}

// advance moves both clocks alike; the moment may be of before they parted.
func (d *driver) advance(to time.Time) { d.now = d.now.Add(to.Sub(d.now)) }

// sleep lets time pass without a turn.
func (d *driver) sleep(until time.Time) {
	d.advance(until)
	d.note("slept")
	if d.pending != nil {
		d.land()
	} else {
		d.turn(nil)
	}
}

// comeBack lets all go well, and demands that the machine comes back and stays.
func (d *driver) comeBack() {
	if d.pending != nil && d.umpire.broken == nil {
		d.land() // the tape decided it
	}
	// What the tape granted may still run out, so that it may take a second run.
	limit, steadySince := d.now.Add(backWithin), d.now
	for d.umpire.broken == nil {
		snapshot := d.machine.Snapshot()
		if snapshot.State == states.Serving && d.now.Sub(steadySince) >= d.stays && (snapshot.Ready || d.stays == 0) {
			break
		}
		if snapshot.State != states.Serving && snapshot.State != states.Renewing {
			steadySince = d.now
		}
		if d.now.After(limit) {
			d.umpire.fault("a willing world reaches Serving, and stays", "after %s in %s, ready %t, reasons %+v, standing %+v",
				backWithin, snapshot.State, snapshot.Ready, snapshot.Reasons, snapshot.Standing())
		}
		d.next()
	}
	for accessor, expires := range d.alive {
		if d.umpire.broken == nil && expires.After(d.now) && !d.inHand(accessor) {
			d.umpire.fault("nothing good is forgotten", "nobody will revoke the Vault token %s, which lives for %s", accessor, expires.Sub(d.now))
		}
	}
}

// inHand: the token is held, or was lost with an attempt that was given up.
func (d *driver) inHand(accessor string) bool {
	held := d.machine.held
	for _, token := range append([]states.VaultToken{held.Current.Vault, held.Next.Vault}, held.Former...) {
		if token.ID == accessor {
			return true
		}
	}
	return false
}

func (o outcomeOfHistory) String() string {
	return fmt.Sprintf("%v after %d turns", o.broken, o.turns)
}
