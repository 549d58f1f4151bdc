package fsm

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// Options are what a machine is made of.
type Options struct {
	Arrows   []transitions.Arrow
	Work     []transitions.Work
	Settings transitions.Settings
	// Held is what a hand-over restored; the zero value is a bare start.
	Held states.Held
	Log  *slog.Logger
	// Refresh is told what is held after every turn. Called on the machine's
	// goroutine: it must not block. May be nil.
	Refresh func(states.Held)
}

// Machine is the agent's one state machine. All fields but the published
// snapshot and the news belong to the goroutine of Run.
type Machine struct {
	options Options
	referee *referee
	held    states.Held
	since   time.Time
	// turned is when the loop last turned, by both clocks.
	turned time.Time
	// served is when the machine last came to Serving or Renewing from elsewhere; zero elsewhere.
	served  time.Time
	moves   history
	moved   int
	retries *retries
	records map[transitions.Action]*Attempts

	flight  *flight
	results chan result
	// launch sends an attempt on its way: takeOff, but for Step.
	launch func(ctx context.Context, flight *flight, held states.Held)

	newsLock sync.Mutex
	news     []transitions.News
	rung     chan struct{} // rings when there is news

	snapshot atomic.Pointer[Snapshot]
}

// flight is the one attempt under way.
type flight struct {
	row    transitions.Work
	since  time.Time
	cancel context.CancelFunc
	// news came while it flew: the result knows nothing of it, so it is folded in again.
	news []transitions.News
}

// result is how an attempt ended. A result whose flight is not the machine's
// came after it was given up, and is dropped.
type result struct {
	flight *flight
	held   states.Held
	err    error
	took   time.Duration
}

// grace is how long an attempt may outlive its deadline before it is given up:
// some library calls ignore their context (design.md 5).
const grace = 2 * time.Second

const (
	// watchInterval is the longest the loop sleeps, so that a jump of the clock is
	// noticed within 15 s (issue 4).
	watchInterval = 12 * time.Second
	// landing is how long an attempt may go on when the machine is told to end.
	landing = 500 * time.Millisecond
	// jumpTolerance is how far the clocks may part between two turns: NTP slews far less.
	jumpTolerance = 2 * time.Second
)

// New compiles the tables into a machine that stands in NoIdentity.
func New(options Options) (*Machine, error) {
	referee, err := newReferee(states.NoIdentity, options.Arrows)
	if err != nil {
		return nil, err
	}
	if options.Refresh == nil {
		options.Refresh = func(states.Held) {}
	}
	m := &Machine{
		options: options, referee: referee, held: options.Held, since: options.Settings.Now(),
		retries: newRetries(), records: map[transitions.Action]*Attempts{},
		results: make(chan result, 1), rung: make(chan struct{}, 1),
	}
	m.retries.herd = herd(options.Settings.FleetSize)
	m.launch = m.takeOff
	m.publish(m.since)
	return m, nil
}

// Tell brings news from outside. It never blocks and loses nothing. Safe from any goroutine.
func (m *Machine) Tell(news transitions.News) {
	m.newsLock.Lock()
	m.news = append(m.news, news)
	m.newsLock.Unlock()
	select {
	case m.rung <- struct{}{}:
	default: // it rings already
	}
}

// Snapshot returns the last published snapshot. It never waits. Safe from any goroutine.
func (m *Machine) Snapshot() *Snapshot { return m.snapshot.Load() }

// Run turns the machine until ctx ends, then lands the attempt under way and
// returns what is held, so that the caller can give it back. It must be called
// once, and owns the machine.
func (m *Machine) Run(ctx context.Context) states.Held {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ended *result
		select {
		case <-ctx.Done():
			return m.land()
		case r := <-m.results:
			ended = &r
		case <-m.rung:
		case <-timer.C:
		}
		now := m.options.Settings.Now()
		if wake, any := m.turn(ctx, now, ended); any {
			timer.Reset(max(0, wake.Sub(now)))
		} else {
			timer.Stop()
		}
	}
}

// land waits for what the attempt under way brings home, and cancels it where that
// takes longer than a healthy far end does: a token that Vault grants to who has
// hung up is nobody's to revoke.
func (m *Machine) land() states.Held {
	if m.flight == nil {
		return m.held
	}
	timer := time.NewTimer(landing)
	defer timer.Stop()
	select {
	case r := <-m.results:
		return r.held
	case <-timer.C:
	}
	m.flight.cancel()
	timer.Reset(grace)
	select {
	case r := <-m.results:
		return r.held
	case <-timer.C:
		return m.held
	}
}

// turn is one turn of the loop: take what came, move to where the evidence
// leads, start the first attempt that is due or missing, publish. It never
// blocks. It returns when to turn next if nothing happens before.
func (m *Machine) turn(ctx context.Context, now time.Time, ended *result) (time.Time, bool) {
	m.readClocks(now)
	cause := m.takeNews(now)
	if ended != nil && ended.flight == m.flight {
		cause = m.take(now, *ended)
	}
	if m.options.Settings.ClockAhead != nil { // after take: the attempt knows an older measurement
		if ahead, known := m.options.Settings.ClockAhead(); known {
			m.held.Clock = m.held.Clock.Measured(ahead, now)
		}
	}
	m.held = m.held.Settled(now)
	m.move(ctx, now, cause)
	if !m.served.IsZero() && states.Passed(m.served.Add(calm), now) {
		m.forgive()
	}
	m.absolve(now)
	m.start(ctx, now)
	m.options.Refresh(m.held)
	m.publish(now)
	return m.wake(now)
}

// readClocks notices when the wall clock and the monotonic one went apart since
// the last turn. Whatever waited for its next attempt need not: it may have failed by the clock.
func (m *Machine) readClocks(now time.Time) {
	if !m.turned.IsZero() {
		wall, monotonic := now.Round(0).Sub(m.turned.Round(0)), now.Sub(m.turned)
		if jump := wall - monotonic; jump.Abs() > jumpTolerance {
			m.Tell(transitions.ClockJumped(fmt.Sprintf("the wall clock moved by %s in %s", wall.Round(time.Millisecond), monotonic.Round(time.Millisecond))))
			m.retries.jumped(now)
		}
	}
	m.turned = now
}

// takeNews folds all news into what is held and returns its names as a cause.
func (m *Machine) takeNews(now time.Time) string {
	m.newsLock.Lock()
	news := m.news
	m.news = nil
	m.newsLock.Unlock()
	cause := "time passed"
	for i, item := range news {
		m.held = item.Fold(m.held, now)
		if m.flight != nil {
			m.flight.news = append(m.flight.news, item)
		}
		if i == 0 {
			cause = "news " + item.Name
		} else {
			cause += ", " + item.Name
		}
		m.options.Log.Debug("news", "name", item.Name, "cause", item.Cause)
	}
	return cause
}

// take folds an attempt's result in and returns it as a cause.
func (m *Machine) take(now time.Time, ended result) string {
	row, news := ended.flight.row, ended.flight.news
	m.flight = nil
	m.held = ended.held
	for _, item := range news {
		m.held = item.Fold(m.held, now)
	}
	record := m.record(row.Action)
	if row.Renewal {
		m.retries.renewed = now
	}
	if ended.err == nil {
		if record.Standing {
			m.options.Log.Debug("succeeded", "action", row.Action, "after_failures", record.Running)
		}
		record.Standing, record.NextAttempt, record.Took = false, nil, ended.took.Seconds()
		m.retries.answered(row, now, m.options.Settings.Roll)
		if row.Needs(m.held, now) {
			m.retries.get(row.Action).spaced(now)
		}
		return string(row.Action)
	}
	failed := failure.Of(ended.err)
	retry := m.retries.get(row.Action)
	retry.probe = row.Probe
	retry.failed(now, failed, m.options.Settings.Roll())
	m.retries.refused(row, failed, m.options.Work)
	another := failed.Fix != "" && failed.Fix != record.told
	if another {
		record.told = failed.Fix
	}
	record.Failed++
	record.Running = retry.attempts
	record.LastClass, record.LastError, record.Fix = failed.Class, ended.err.Error(), failed.Fix
	record.LastAt, record.Backoff, record.NextAttempt = moment(now), retry.wait.Seconds(), moment(retry.next)
	record.Standing = true
	m.logFailure(row, retry, failed, ended.err, another)
	return fmt.Sprintf("%s failed (%s): %v", row.Action, failed.Class, ended.err)
}

// logFailure logs the first failure and then every doubling (models.md, house
// style), and one that a person can mend in another way than the one before.
func (m *Machine) logFailure(row transitions.Work, retry *retry, failed *failure.Error, err error, another bool) {
	level := slog.LevelWarn
	switch {
	case failed.Class == failure.Bug:
		level = slog.LevelError
	case !another && retry.attempts&(retry.attempts-1) != 0:
		level = slog.LevelDebug
	}
	attributes := []any{"action", row.Action, "class", failed.Class, "error", err, "attempt", retry.attempts, "next_in", retry.wait.Round(time.Millisecond)}
	if failed.Fix != "" {
		attributes = append(attributes, "fix", failed.Fix)
	}
	m.options.Log.Log(context.Background(), level, "failed", attributes...)
}

// move fires arrows until the machine stands where the evidence says. The bound
// is far above the longest way, which the search in transitions measures.
func (m *Machine) move(ctx context.Context, now time.Time, cause string) {
	for range 2 * len(states.All()) {
		from := m.referee.state()
		arrow, any, err := transitions.Next(m.options.Arrows, from, m.held, now)
		if err == nil && any {
			err = m.referee.fire(ctx, arrow.Event)
		}
		if err != nil {
			m.options.Log.Error("cannot move", "error", err)
			return
		}
		if !any {
			return
		}
		m.moved++
		if arrow.Event == transitions.Due {
			cause = due(m.held, now)
		}
		m.moves = m.moves.with(Move{At: now.Round(0), From: from, Event: arrow.Event, To: arrow.To, Cause: cause})
		m.since = now
		serving := arrow.To == states.Serving || arrow.To == states.Renewing
		switch {
		case !serving:
			m.served = time.Time{}
		case m.served.IsZero():
			m.served = now
		}
		level := slog.LevelInfo
		if arrow.To == states.Degraded {
			level = slog.LevelWarn
		}
		m.options.Log.Log(ctx, level, "moved", "from", from, "event", arrow.Event, "to", arrow.To, "cause", cause)
	}
	m.options.Log.Error("cannot move", "error", "the tables lead round in a circle")
}

// due names what is due, as the cause of going to Renewing.
func due(held states.Held, now time.Time) string {
	var names []string
	for _, renewal := range held.Renewals(now) {
		names = append(names, renewal.What)
	}
	return "due: " + strings.Join(names, ", ")
}

// forgive clears the attempt counters after a minute of Serving, but not of an
// action that still fails: it would be asked again at once, for ever.
func (m *Machine) forgive() {
	for action, record := range m.records {
		if !record.Standing {
			m.retries.clear(action)
			record.Running, record.LastClass, record.LastError, record.Fix, record.told = 0, "", "", "", ""
			record.LastAt, record.Backoff, record.NextAttempt = nil, 0, nil
		}
	}
}

// absolve takes failures of what nobody needs any more out of those that stand:
// a renewal that a new login made needless is nothing to mend. It waits until the
// next attempt would have been made: between two of them a need can come and go,
// as that of a candidate's credentials does with each candidate that is dropped.
func (m *Machine) absolve(now time.Time) {
	for _, row := range m.options.Work {
		record := m.records[row.Action]
		if record != nil && record.Standing && !m.retries.ready(row).After(now) && !row.Needs(m.held, now) {
			record.Standing, record.NextAttempt = false, nil
		}
	}
}

// start begins the first attempt that is due or missing and not backing off.
func (m *Machine) start(ctx context.Context, now time.Time) {
	if m.flight != nil || ctx.Err() != nil {
		return
	}
	for _, row := range m.options.Work {
		if !row.Needs(m.held, now) || m.retries.ready(row).After(now) {
			continue
		}
		m.record(row.Action).Total++
		m.flight = &flight{row: row, since: now}
		m.launch(ctx, m.flight, m.held)
		return
	}
}

// takeOff makes the attempt on a goroutine of its own, with its deadline.
func (m *Machine) takeOff(ctx context.Context, flight *flight, held states.Held) {
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), flight.row.Deadline) // land cancels it
	flight.cancel = cancel
	go m.fly(attempt, cancel, flight, held)
}

// fly makes the attempt, on a goroutine of its own, and sends its result: its
// own, or that it was given up.
func (m *Machine) fly(ctx context.Context, cancel context.CancelFunc, flight *flight, held states.Held) {
	defer cancel()
	made := make(chan result, 1)
	began := m.options.Settings.Now()
	go func() { made <- m.attempt(ctx, flight, held) }()
	var ended result
	select {
	case ended = <-made:
	case <-ctx.Done():
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case ended = <-made:
		case <-timer.C:
			err := failure.New(failure.Transient, flight.row.Remote, "%s: no answer within %s", flight.row.Action, flight.row.Deadline+grace)
			ended = result{flight: flight, held: flight.row.GivenUp(held, err, m.options.Settings.Now()), err: err}
		}
	}
	ended.took = m.options.Settings.Now().Sub(began)
	m.results <- ended
}

// attempt calls the row's action; a panic in it is a bug of ours, and no more.
func (m *Machine) attempt(ctx context.Context, flight *flight, held states.Held) (ended result) {
	defer func() {
		if panicked := recover(); panicked != nil {
			m.options.Log.Debug("panicked", "action", flight.row.Action, "stack", string(debug.Stack()))
			ended = result{flight: flight, held: held, err: failure.New(failure.Bug, failure.RemoteHost, "%s: panicked: %v", flight.row.Action, panicked)}
		}
	}()
	after, err := flight.row.Attempt(ctx, held, m.options.Settings.Now)
	return result{flight: flight, held: after, err: err}
}

// wake returns when to turn next if nothing happens before.
func (m *Machine) wake(now time.Time) (time.Time, bool) {
	next, _ := m.options.Settings.Wake(m.held, now)
	if m.flight == nil {
		for _, row := range m.options.Work {
			if row.Needs(m.held, now) {
				next = states.Sooner(next, m.retries.ready(row))
			}
		}
	}
	if !m.served.IsZero() && !states.Passed(m.served.Add(calm), now) {
		next = states.Sooner(next, m.served.Add(calm))
	}
	return states.Sooner(next, now.Add(watchInterval)), true
}

func (m *Machine) record(action transitions.Action) *Attempts {
	if m.records[action] == nil {
		m.records[action] = &Attempts{Action: action}
	}
	return m.records[action]
}

// publish makes the snapshot. Everything in it is copied or never written again.
func (m *Machine) publish(now time.Time) {
	vaultGone, consulGone := m.held.Budget(now)
	snapshot := &Snapshot{
		Clock:  ClockReport{Ahead: m.held.Clock.Ahead.Seconds(), WrongSince: moment(m.held.Clock.WrongSince)},
		Budget: Budget{Vault: vaultGone.Seconds(), Consul: consulGone.Seconds()},
		At:     now.Round(0), State: m.referee.state(), Since: m.since.Round(0),
		Ready: m.held.Ready(now, m.options.Settings.ProbeInterval),
		Node:  Node{Name: m.held.Identity.Node, ID: m.held.Identity.NodeID},
		Epoch: m.held.Current.Number, Next: m.held.Next.Number > 0, Former: len(m.held.Former),
		Evidence: evidence(m.held, now), Reasons: append([]states.Reason{}, states.Reasons(m.held, now)...),
		Moves: m.moves, MovesTotal: m.moved,
		held: m.held, probe: m.options.Settings.ProbeInterval,
	}
	for _, row := range m.options.Work {
		if record := m.records[row.Action]; record != nil {
			snapshot.Actions = append(snapshot.Actions, *record)
		}
	}
	if m.flight != nil {
		snapshot.InFlight = &InFlight{Action: m.flight.row.Action, Since: m.flight.since.Round(0)}
	}
	m.snapshot.Store(snapshot)
}
