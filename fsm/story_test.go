package fsm

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pawl/states"
	"pawl/transitions"
)

// TestStories plays every story of testdata/scenarios: the real machine, tables
// and policies, the behaving world, virtual time, the umpire at every turn.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("../testdata/scenarios/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			story, err := readStory(file)
			if err != nil {
				t.Fatal(err)
			}
			if number, _, _ := strings.Cut(filepath.Base(file), "_"); number != story.fault {
				t.Errorf("%s tells of %s", file, story.fault)
			}
			synctest.Test(t, func(t *testing.T) {
				for _, fault := range play(t, story) {
					t.Error(fault)
				}
			})
		})
	}
}

// stage is a story being played.
type stage struct {
	*running
	t     *testing.T
	world *world
	story *story
	seed  uint64

	umpire *umpire
	lock   sync.Mutex // of what the umpire is told from other goroutines
	told   []transitions.News
	came   map[transitions.Action]error
	walked []string // the states, one after the other
	moves  []Move
	lines  int // logged by machines that ended
	faults []error

	began, first, last time.Time
	before             counts

	forgotten, agentStopped                bool // by the story itself
	lostRegistration, lostAgent, invalid   bool
	wasRegistered, hadAgent                bool
	backAt, validAt, notReadyAt, noticedAt time.Time
}

// play plays a story in a bubble and returns what was not as it tells.
func play(t *testing.T, story *story) []error {
	s := &stage{t: t, world: newWorld(t), story: story, seed: max(1, *historySeed), came: map[transitions.Action]error{}}
	for thing, life := range story.lives {
		*map[string]*time.Duration{"vault token": &s.world.tokenTTL, "vault token at most": &s.world.maxTTL,
			"certificate": &s.world.certificateTTL, "jwt": &s.world.jwtTTL}[thing] = life
	}
	if story.bare {
		s.happenAtBoot()
		s.launch()
	} else {
		s.launch()
		s.reaches(states.Serving, time.Minute)
		s.pass(10 * time.Minute)
		s.lock.Lock()
		s.moves = nil
		s.walked = []string{string(states.Serving)}
		s.lock.Unlock()
	}
	s.began = time.Now()
	s.perform()
	if s.running != nil {
		s.end()
	}
	if s.umpire.broken != nil {
		s.faults = append(s.faults, s.umpire.broken)
	}
	return s.faults
}

// fault notes that something was not as the story tells.
func (s *stage) fault(line int, format string, args ...any) {
	s.faults = append(s.faults, fmt.Errorf("%s:%d: %s", s.story.file, line, fmt.Sprintf(format, args...)))
}

// happenAtBoot lets happen what happens at 0s before the machine starts.
func (s *stage) happenAtBoot() {
	for len(s.story.happens) > 0 && s.story.happens[0].at == 0 {
		s.began = time.Now()
		s.happen(s.story.happens[0])
		s.story.happens = s.story.happens[1:]
	}
}

// launch starts a machine with an umpire of its own.
func (s *stage) launch() {
	if s.umpire != nil && s.umpire.broken != nil {
		s.faults = append(s.faults, s.umpire.broken)
	}
	u := watch(time.Now)
	s.umpire = u
	s.walked = append(s.walked, string(states.NoIdentity))
	s.running = launchPlanted(s.t, s.world, s.seed, func(options *Options) {
		for i, row := range options.Work {
			options.Work[i] = row.WithAttempt(func(ctx context.Context, held states.Held) (states.Held, error) {
				after, err := row.Attempt(ctx, held, time.Now)
				s.lock.Lock()
				defer s.lock.Unlock()
				s.came[row.Action] = err
				return after, err
			})
		}
		options.Refresh = func(held states.Held) { s.turned(u, held) }
	}, func(m *Machine) { u.machine = m })
}

// turned tells the umpire what came of this turn. Called on the machine's goroutine.
func (s *stage) turned(u *umpire, held states.Held) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, item := range s.told {
		u.told(item)
	}
	s.told = nil
	if u.flight != nil && u.machine.flight != u.flight {
		action := u.flight.row.Action
		if record := u.machine.records[action]; record.Failed == 0 || record.LastAt == nil || !record.LastAt.Equal(time.Now()) {
			u.ended(u.flight.row, nil)
		} else if err := s.came[action]; err != nil {
			u.ended(u.flight.row, err)
		}
	}
	seen := len(u.moves)
	u.turned(held)
	for _, move := range u.moves[seen:] {
		s.moves = append(s.moves, move)
		s.walked = append(s.walked, string(move.To))
	}
}

// tell brings news to the machine and its umpire.
func (s *stage) tell(item transitions.News) {
	s.lock.Lock()
	s.told = append(s.told, item)
	s.lock.Unlock()
	s.Tell(item)
}

func (s *stage) end() {
	s.lines += strings.Count(s.running.logged(), "\n")
	s.running.end()
}

func (s *stage) logLines() int {
	if s.running == nil {
		return s.lines
	}
	return s.lines + strings.Count(s.running.logged(), "\n")
}

// perform lets happen what happens, sees what is to be seen, and inspects.
func (s *stage) perform() {
	happens, sees := s.story.happens, s.story.sees
	for {
		now := time.Since(s.began)
		for len(happens) > 0 && happens[0].at <= now {
			s.happen(happens[0])
			happens = happens[1:]
		}
		for len(sees) > 0 && sees[0].at <= now {
			s.see(sees[0])
			sees = sees[1:]
		}
		if now >= s.story.ends {
			break
		}
		next := s.story.ends
		if len(happens) > 0 {
			next = min(next, happens[0].at)
		}
		if len(sees) > 0 {
			next = min(next, sees[0].at)
		}
		s.wait(next - now)
	}
	if err := s.story.walk.Fits(s.walked); err != nil {
		s.fault(s.story.walkLine, "%v", err)
	}
	for _, promise := range s.story.keeps {
		if err := promise.inspect(s, promise); err != nil {
			s.fault(promise.line, "%s: %v", promise.name, err)
		}
	}
	if len(s.faults) > 0 {
		s.tellAll()
	}
}

func (s *stage) happen(event happening) {
	if s.running != nil {
		synctest.Wait()
	}
	if s.first.IsZero() {
		s.first, s.before = time.Now(), s.countNow()
	}
	s.last, s.backAt, s.validAt = time.Now(), time.Time{}, time.Time{}
	s.world.set(func(w *world) { clear(w.answered) })
	event.do(s, event.for_)
}

func (s *stage) countNow() counts {
	s.world.lock.Lock()
	defer s.world.lock.Unlock()
	return s.count()
}

// wait lets virtual time pass and looks on: often where something just happened.
func (s *stage) wait(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		look := time.Second
		if time.Since(s.last) < 2*time.Minute {
			look = 50 * time.Millisecond
		}
		look = min(look, time.Until(until))
		if s.running == nil {
			time.Sleep(look)
			continue
		}
		s.pass(look)
		s.observe()
	}
}

func (s *stage) observe() {
	snapshot, now := s.Snapshot(), time.Now()
	serving := snapshot.State == states.Serving || snapshot.State == states.Renewing
	ready := snapshot.ReadyAt(now)
	s.world.lock.Lock()
	defer s.world.lock.Unlock()
	w := s.world
	s.lostRegistration = s.lostRegistration || s.wasRegistered && !w.registered && !s.forgotten
	s.wasRegistered, s.forgotten = w.registered, s.forgotten && !w.registered
	s.lostAgent = s.lostAgent || s.hadAgent && w.installed == "" && !s.agentStopped
	s.hadAgent, s.agentStopped = w.installed != "", s.agentStopped && w.installed == ""
	valid := w.known(w.installed)
	mark := func(at *time.Time, is bool) {
		if is && at.IsZero() {
			*at = now
		}
	}
	if s.first.IsZero() {
		return
	}
	s.invalid = s.invalid || !valid
	mark(&s.validAt, valid)
	mark(&s.backAt, serving && ready)
	mark(&s.notReadyAt, !ready)
	mark(&s.noticedAt, !serving)
	if !serving {
		s.backAt = time.Time{} // it must stay
	}
}

func (s *stage) see(sight sight) {
	synctest.Wait()
	snapshot := s.Snapshot()
	if sight.state != "" && snapshot.State != sight.state {
		s.fault(sight.line, "at %s in %s, want %s; because %v", sight.at, snapshot.State, sight.state, reasonNames(snapshot))
	}
	for _, reason := range sight.reasons {
		if !slices.Contains(reasonNames(snapshot), reason) {
			s.fault(sight.line, "at %s because %v, want %s", sight.at, reasonNames(snapshot), reason)
		}
	}
	if ready := snapshot.ReadyAt(time.Now()); sight.ready != nil && ready != *sight.ready {
		s.fault(sight.line, "at %s ready is %t", sight.at, ready)
	}
	for _, fix := range sight.fixes {
		if !slices.ContainsFunc(snapshot.Standing(), func(standing Attempts) bool { return strings.Contains(standing.Fix, fix) }) {
			s.fault(sight.line, "at %s nothing says how to mend it with %q; standing %+v", sight.at, fix, snapshot.Standing())
		}
	}
}

// tellAll prints what happened, for whoever mends the story or the machine.
func (s *stage) tellAll() {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, move := range s.moves[max(0, len(s.moves)-40):] {
		s.t.Logf("%12s  %s --%s--> %s (%s)", move.At.Sub(s.began.Round(0)).Round(time.Millisecond), move.From, move.Event, move.To, move.Cause)
	}
}
