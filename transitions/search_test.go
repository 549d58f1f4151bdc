package transitions

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pawl/states"
)

// The search walks every configuration that evidence, outcomes of attempts and
// outside news can lead to, breadth first until nothing new is found, and checks
// the laws after each step. Time stands still in it: "due", "expired" and
// "stale" are facts of a configuration, and their coming true is news.

// rest is a configuration that the machine can rest in.
type rest struct {
	configuration
	from    uint8 // bit of each state from which the machine has come here
	willing *rest // where the first attempt leads that is wanted, when it succeeds
	// distance is how many such attempts it takes to Serving; -1 is not counted yet.
	distance int
}

// shard is one part of what was found, with a lock of its own.
type shard struct {
	lock  sync.Mutex
	found map[configuration]*rest
}

// problem is one thing that evidence can ask of the arrow table: a way from a
// state to where this leads.
type problem struct {
	from states.State
	held states.Held
	what string
}

// problemKey is all that the laws of moving and Next can see of a problem.
type problemKey struct {
	from, target states.State
	holds, meant uint8
}

// search is one run over one arrow table.
type search struct {
	table []Arrow

	shards   [64]shard
	lock     sync.Mutex // of what follows
	fired    map[Arrow]bool
	asked    map[problemKey]bool
	problems []problem
	err      error

	longest int // attempts of a willing world to Serving
	steps   int
}

// worker is one goroutine of a search, with a world of its own.
type worker struct {
	*search
	world *world
	rows  []Work
	fresh []*rest
	steps int
}

func (s *search) worker() *worker {
	w := &worker{search: s, world: &world{}}
	w.rows = Table(Ports{Metadata: w.world, Vault: w.world, Consul: w.world, Exporter: w.world},
		Settings{ProbeInterval: searchProbe, Now: clock, Roll: func() float64 { return 0.5 }})
	return w
}

func (s *search) shard(c configuration) *shard {
	sum := int(c.vault) + 4*int(c.next) + 5*int(c.consul) + 7*int(c.certificate) + 11*int(c.agent) + 17*int(c.registration) + 23*int(c.exporter)
	return &s.shards[sum%len(s.shards)]
}

// land settles what is held, checks the laws of moving, and notes where it rests.
func (w *worker) land(from states.State, what fmt.Stringer, held states.Held) (*rest, error) {
	w.steps++
	held = held.Settled(searchNow)
	c := abstract("", held).folded()
	bit := uint8(1) << slices.Index(allStates, from)

	shard := w.shard(c)
	shard.lock.Lock()
	r, known := shard.found[c]
	if !known {
		r = &rest{configuration: c, distance: -1}
		r.state = states.Rung(held, searchNow)
		shard.found[c] = r
		w.fresh = append(w.fresh, r)
	}
	walked := r.from&bit != 0
	r.from |= bit
	shard.lock.Unlock()

	if !known {
		if again := states.Rung(r.held(0), searchNow); again != r.state {
			return nil, broken("the search sees what counts", "%s, %s: leads to %s, folded to %s", from, what, r.state, again)
		}
		if r.state == states.Degraded && len(states.Roots(states.Reasons(held, searchNow))) == 0 {
			return nil, broken("Degraded has a reason", "%s, %s: none", from, what)
		}
	}
	if walked {
		return r, nil // from there the evidence led here before
	}
	return r, w.ask(from, what, held)
}

var allStates = states.All()

// ask poses the arrow table the problem of moving from a state to where the
// evidence leads, once.
func (s *search) ask(from states.State, what fmt.Stringer, held states.Held) error {
	key := problemKey{from: from, target: states.Rung(held, searchNow)}
	facts := abstract("", held)
	for i, state := range allStates {
		if states.Holds(state, held, searchNow) {
			key.holds |= 1 << i
		}
		if facts.meant(state) {
			key.meant |= 1 << i
		}
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.asked[key] {
		return nil
	}
	s.asked[key] = true
	s.problems = append(s.problems, problem{from: from, held: held, what: what.String()})
	_, err := allLaws.walk(s.table, from, held, what, func(arrow Arrow) { s.fired[arrow] = true })
	return err
}

// named says what led to a configuration, put into words only when a law breaks.
type named struct {
	name   string
	script []int
	err    error
}

func (n named) String() string {
	if n.script == nil && n.err == nil {
		return n.name
	}
	return fmt.Sprintf("%s %v (%v)", n.name, n.script, n.err)
}

// attempts makes every attempt that is needed, with every outcome.
func (w *worker) attempts(r *rest) error {
	held := r.held(2 * searchProbe)
	for _, row := range w.rows {
		if !row.Needs(held, searchNow) {
			continue
		}
		for script, more := []int(nil), true; more; script, more = w.world.next() {
			w.world.script, w.world.widths = script, w.world.widths[:0]
			after, err := row.Attempt(context.Background(), held, clock)
			if law := kept(held, after, row.Action); law != nil {
				return law
			}
			if _, err := w.land(r.state, named{string(row.Action), script, err}, after); err != nil {
				return err
			}
		}
	}
	return nil
}

// news makes every outside change that a configuration admits.
func (w *worker) news(r *rest) error {
	for _, change := range changes {
		if !change.when(r.configuration) {
			continue
		}
		after := r.configuration
		change.make(&after)
		if _, err := w.land(r.state, named{name: change.name}, after.held(0)); err != nil {
			return err
		}
	}
	for _, news := range outside {
		if _, err := w.land(r.state, named{name: news.Name}, news.Fold(r.held(0), searchNow)); err != nil {
			return err
		}
	}
	return nil
}

// will makes the first attempt that is wanted, with success.
func (w *worker) will(r *rest) error {
	if r.state == states.Serving {
		r.distance = 0
		return nil
	}
	held := r.held(0)
	for _, row := range w.rows {
		if !row.Needs(held, searchNow) {
			continue
		}
		w.world.script, w.world.widths = nil, w.world.widths[:0]
		after, err := row.Attempt(context.Background(), held, clock)
		if err != nil {
			return broken("a willing world lets all succeed", "%s: %v", row.Action, err)
		}
		r.willing, err = w.land(r.state, named{"willing " + string(row.Action), nil, nil}, after)
		return err
	}
	return broken("every rest has work", "%+v", r.configuration)
}

// distances counts the attempts of a willing world from everywhere to Serving.
func (s *search) distances() error {
	for i := range s.shards {
		for _, r := range s.shards[i].found {
			var way []*rest
			at := r
			for at.distance < 0 {
				if len(way) > 40 {
					return broken("a willing world reaches Serving", "not from %+v; last at %+v", r.configuration, at.configuration)
				}
				way, at = append(way, at), at.willing
			}
			for i, passed := range slices.Backward(way) {
				passed.distance = at.distance + len(way) - i
				s.longest = max(s.longest, passed.distance)
			}
		}
	}
	return nil
}

// run searches to closure and returns the first law broken.
func (s *search) run() error {
	if err := Validate(s.table); err != nil {
		return fmt.Errorf("%w: %w", errLaw, err)
	}
	return s.closure()
}

// closure is the search itself. It leans on nothing that Validate promises.
func (s *search) closure() error {
	s.fired, s.asked = map[Arrow]bool{}, map[problemKey]bool{}
	for i := range s.shards {
		s.shards[i].found = map[configuration]*rest{}
	}
	bare := abstract(states.NoIdentity, states.Held{})
	restored := bare
	restored.vault, restored.reattest = lifeLive, lifeLive
	whole := restored
	whole.gossip, whole.verified, whole.certificate, whole.consul, whole.jwt = true, true, lifeLive, lifeLive, lifeLive
	workers := make([]*worker, runtime.GOMAXPROCS(0))
	for i := range workers {
		workers[i] = s.worker()
	}
	for _, start := range []configuration{bare, restored, whole} {
		if _, err := workers[0].land(start.state, named{name: "start"}, start.held(0)); err != nil {
			return err
		}
	}
	for {
		var level []*rest
		for _, w := range workers {
			level, w.fresh, s.steps = append(level, w.fresh...), nil, s.steps+w.steps
			w.steps = 0
		}
		if len(level) == 0 {
			break
		}
		var at atomic.Int64
		var group sync.WaitGroup
		for _, w := range workers {
			group.Go(func() { w.search.note(w.work(level, &at)) })
		}
		group.Wait()
		if s.err != nil {
			return s.err
		}
	}
	if err := s.distances(); err != nil {
		return err
	}
	return unfired(s.table, s.fired)
}

// work takes configurations of this level until there are no more, or a law broke.
func (w *worker) work(level []*rest, at *atomic.Int64) error {
	for {
		next := int(at.Add(1)) - 1
		if next >= len(level) {
			return nil
		}
		for _, step := range []func(*rest) error{w.attempts, w.news, w.will} {
			if err := step(level[next]); err != nil {
				at.Store(int64(len(level)))
				return err
			}
		}
	}
}

func (s *search) note(err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.err = errors.Join(s.err, err)
}

func unfired(table []Arrow, fired map[Arrow]bool) error {
	for _, arrow := range table {
		if !fired[arrow] {
			return broken("every arrow can fire", "%s from %s never did", arrow.Event, arrow.From)
		}
	}
	return nil
}

func (s *search) size() int {
	size := 0
	for i := range s.shards {
		size += len(s.shards[i].found)
	}
	return size
}

// searched is the search over the house's own table, made once for all tests.
var searched = sync.OnceValues(func() (*search, error) {
	s := &search{table: Arrows()}
	return s, s.run()
})

// TestSearch: laws 1 to 4 and 6, over every configuration there is.
func TestSearch(t *testing.T) {
	s, err := searched()
	if err != nil {
		t.Fatal(err)
	}
	ways := 0
	for i := range s.shards {
		for _, r := range s.shards[i].found {
			ways += bits.OnesCount8(r.from)
		}
	}
	t.Logf("closed: %d configurations, %d steps, %d ways to rest, %d problems to the arrow table, longest way of a willing world to Serving %d attempts",
		s.size(), s.steps, ways, len(s.problems), s.longest)

	// After a suspend many things come at once, so that the machine may stand
	// anywhere when it learns of any evidence: a lawful way leads there from every state.
	t.Run("at once", func(t *testing.T) {
		for _, problem := range s.problems {
			for _, from := range states.All() {
				if _, err := allLaws.walk(s.table, from, problem.held, named{name: problem.what + ", all at once"}, func(Arrow) {}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
