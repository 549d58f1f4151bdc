package transitions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/states"
)

// The mutations say whether the laws are worth their name: each arrow removed,
// led to every other state, and begun in every other state. A mutant must break a
// law of the search, or tell a row of testdata/states.yaml wrongly; no copy of
// the arrow table is asked.

// mutant is the arrow table with one slip of the pen.
type mutant struct {
	name, kind string
	table      []Arrow
}

func mutants() []mutant {
	var all []mutant
	for i, arrow := range Arrows() {
		title := fmt.Sprintf("%s, %s to %s", arrow.Event, arrow.From, arrow.To)
		all = append(all, mutant{title + ": removed", "removed", slices.Delete(Arrows(), i, i+1)})
		for _, state := range states.All() {
			if state != arrow.To {
				table := Arrows()
				table[i].To = state
				all = append(all, mutant{fmt.Sprintf("%s: led to %s", title, state), "redirected", table})
			}
			if state != arrow.From {
				table := Arrows()
				table[i].From = state
				all = append(all, mutant{fmt.Sprintf("%s: begun in %s", title, state), "begun elsewhere", table})
			}
		}
	}
	return all
}

// judge poses a table the problems that the search found. They are the same for
// every table: a search in which no law is broken rests on Rung, whichever
// arrows led there, so that what it meets next does not depend on them.
func (l laws) judge(table []Arrow, problems []problem) error {
	fired := map[Arrow]bool{}
	for _, problem := range problems {
		what := named{name: problem.what}
		if _, err := l.walk(table, problem.from, problem.held, what, func(arrow Arrow) { fired[arrow] = true }); err != nil {
			return err
		}
	}
	return unfired(table, fired)
}

// anyWay is Next for a machine that trusts its arrows: the shortest way, whether
// or not a landing's evidence holds. It shows what the laws catch when the code
// does not keep them by itself.
func anyWay(table []Arrow, from states.State, held states.Held, now time.Time) (Arrow, bool, error) {
	target := states.Rung(held, now)
	type way struct {
		at    states.State
		first Arrow
	}
	seen := map[states.State]bool{from: true}
	for queue := []way{{at: from}}; len(queue) > 0; queue = queue[1:] {
		if queue[0].at == target {
			return queue[0].first, target != from, nil
		}
		for _, arrow := range table {
			if arrow.From != queue[0].at || seen[arrow.To] {
				continue
			}
			seen[arrow.To] = true
			next := way{arrow.To, queue[0].first}
			if queue[0].at == from {
				next.first = arrow
			}
			queue = append(queue, next)
		}
	}
	return Arrow{}, false, fmt.Errorf("find a way from %s to %s: the arrow table has none", from, target)
}

// TestMutations: every mutant is caught, and what each law contributes.
func TestMutations(t *testing.T) {
	whole, err := searched()
	if err != nil {
		t.Fatal(err)
	}
	all := mutants()

	of, caught, byLaw := map[string]int{}, map[string]int{}, map[string]int{}
	verdict := map[string]error{}
	var survivors []string
	for _, mutant := range all {
		of[mutant.kind]++
		err := allLaws.judge(mutant.table, whole.problems)
		verdict[mutant.name] = err
		if err == nil {
			survivors = append(survivors, mutant.name)
			continue
		}
		caught[mutant.kind]++
		byLaw[lawOf(err)]++
	}
	sum := 0
	for _, kind := range []string{"removed", "redirected", "begun elsewhere"} {
		t.Logf("%-16s caught %d of %d", kind, caught[kind], of[kind])
		sum += caught[kind]
	}
	t.Logf("caught %d of %d by the laws of the search alone; first law broken: %v", sum, len(all), byLaw)
	for _, survivor := range survivors {
		t.Errorf("survives: %s", survivor)
	}

	t.Run("rows", func(t *testing.T) {
		count := 0
		leadsTo := map[string]states.Held{}
		rows := readRows(t)
		for _, row := range rows {
			leadsTo[row.Name] = row.lead(t)
		}
		for _, mutant := range all {
			if slices.ContainsFunc(rows, func(row stateRow) bool {
				moves, to, err := leads(mutant.table, row.State, leadsTo[row.Name])
				return err != nil || moves != row.Moves || to != row.To
			}) {
				count++
			}
		}
		t.Logf("the %d rows of testdata/states.yaml alone: caught %d of %d", len(rows), count, len(all))
	})

	t.Run("worth", func(t *testing.T) {
		for _, row := range []struct {
			name string
			off  func(*laws)
		}{
			{"all laws", func(*laws) {}},
			{"without ratchet", func(l *laws) { l.ratchet = false }},
			{"without ladder", func(l *laws) { l.ladder = false }},
			{"without landing", func(l *laws) { l.landing = false }},
			{"without all three", func(l *laws) { l.ratchet, l.ladder, l.landing = false, false, false }},
		} {
			var scores []int
			for _, next := range []func([]Arrow, states.State, states.Held, time.Time) (Arrow, bool, error){Next, anyWay} {
				l := allLaws
				l.next = next
				row.off(&l)
				if err := l.judge(Arrows(), whole.problems); err != nil {
					t.Errorf("%s: the house's own table: %v", row.name, err)
				}
				score := 0
				for _, mutant := range all {
					if l.judge(mutant.table, whole.problems) != nil {
						score++
					}
				}
				scores = append(scores, score)
			}
			t.Logf("%-18s caught %d of %d; by a machine that takes any arrow it has: %d", row.name, scores[0], len(all), scores[1])
		}
	})

	// The shortcut is checked against whole searches of some mutants.
	t.Run("shortcut", func(t *testing.T) {
		if testing.Short() {
			t.Skip("whole searches of mutants take seconds")
		}
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		dice := rand.New(rand.NewPCG(seed, 0))
		for range 12 {
			mutant := all[dice.IntN(len(all))]
			s := &search{table: mutant.table}
			began := time.Now()
			err := s.closure()
			t.Logf("%s: after %s: %v", mutant.name, time.Since(began).Round(time.Millisecond), err)
			if (err == nil) != (verdict[mutant.name] == nil) {
				t.Errorf("%s: a whole search says %v, the shortcut %v", mutant.name, err, verdict[mutant.name])
			}
		}
	})
}

// lawOf is the name of the law that was broken first.
func lawOf(err error) string {
	if !errors.Is(err, errLaw) {
		return err.Error()
	}
	parts := strings.SplitN(err.Error(), ": ", 3)
	return parts[1]
}
