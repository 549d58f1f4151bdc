package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/testdata/scenarios"
)

// TestFaultTable: what a row lacks would be found only minutes into a run.
func TestFaultTable(t *testing.T) {
	names := map[string]bool{}
	known := map[string]bool{noIdentity: true, hasJWT: true, vaultAuthed: true, consulReady: true, degraded: true, serving: true, renewing: true}
	for _, row := range faultTable() {
		switch {
		case names[row.name]:
			t.Errorf("%s is there twice", row.name)
		case row.number == "" || row.name == "" || row.how == "" || row.keeps == "" || row.inject == nil:
			t.Errorf("%s %s is not complete", row.number, row.name)
		case row.ttl != 0 && row.ttl < shortestTTL:
			t.Errorf("%s: no lab has a TTL of %s", row.name, row.ttl)
		case row.heal == nil && len(row.until) == 0 && row.hold == 0 && row.within == 0:
			t.Errorf("%s ends before anybody could notice it", row.name)
		}
		names[row.name] = true
		for _, state := range append(append([]string{}, row.must...), row.mustNot...) {
			if !known[state] {
				t.Errorf("%s: no state %q", row.name, state)
			}
		}
	}
	// Issue 3 names these; each has a row or, as said where the catalogue is, a test elsewhere.
	for _, number := range []string{"F2", "F3", "F4", "F5", "F8", "F10", "F11", "F14", "F16", "F18", "F19", "F20", "F21", "F22", "F23", "F24", "F28", "F29", "F30", "F35", "F39"} {
		if rows, err := (chaosOptions{atOnce: 1, only: []string{number}}).chosen(); err != nil || len(rows) == 0 {
			t.Errorf("%s: %d rows, %v", number, len(rows), err)
		}
	}
}

func TestChosenFaults(t *testing.T) {
	rows, err := chaosOptions{atOnce: 1, only: []string{"vault-killed", "f39"}}.chosen()
	if err != nil || len(rows) != 5 || rows[0].name != "vault-killed" {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	long, err := chaosOptions{atOnce: 1, only: []string{"F38", "vault-down-5m"}, long: true}.chosen()
	if err != nil || len(long) != 4 {
		t.Errorf("%d long rows, %v", len(long), err)
	}
	for _, only := range [][]string{nil, {"F38"}, {"vault-down-5m"}} {
		rows, err := chaosOptions{atOnce: 1, only: only}.chosen()
		last := 0
		for _, row := range rows {
			if row.long {
				last++
			}
		}
		if want := strings.Count(strings.Join(only, ""), "vault-down-5m"); err != nil || last != want {
			t.Errorf("%v: %d long rows without --long, not %d; %v", only, last, want, err)
		}
	}
	var mistake usageError
	for _, o := range []chaosOptions{{atOnce: 1, only: []string{"vault-killed", "nonsense"}}, {atOnce: 0}} {
		if _, err := o.chosen(); !errors.As(err, &mistake) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestChronicle(t *testing.T) {
	var out bytes.Buffer
	log := newChronicle(&out)
	_, _ = log.Write([]byte("msg=failed class=config\nmsg=moved to=Degraded\n"))
	if _, found := log.find(0, into(degraded)); !found || log.count() != 2 || out.String() != "msg=failed class=config\nmsg=moved to=Degraded\n" {
		t.Errorf("found %t of %d lines, passed on %q", found, log.count(), out.String())
	}
	if _, found := log.find(0, words{"msg=failed", "Degraded"}); found {
		t.Error("words of two lines are found in one")
	}
	if _, found := log.find(2, into(degraded)); found {
		t.Error("what was before counts")
	}
	ended := make(chan struct{})
	awaited := make(chan error)
	go func() { awaited <- log.await(t.Context(), ended, 2, time.Minute, words{"later"}) }()
	_, _ = log.Write([]byte("and later\n"))
	if err := <-awaited; err != nil {
		t.Errorf("await: %v", err)
	}
	if err := log.await(t.Context(), ended, 0, time.Millisecond, words{"never"}); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("await in vain: %v", err)
	}
	close(ended)
	if err := log.await(t.Context(), ended, 0, time.Minute, words{"never"}); !errors.Is(err, errAgentEnded) {
		t.Errorf("await of the dead: %v", err)
	}
}

func TestJudgeOfAScene(t *testing.T) {
	row := fault{must: []string{degraded}, mustNot: fallen, says: []words{{"fix="}}}
	tests := []struct {
		name   string
		change func(*scene)
		wrong  string
	}{
		{"as wanted", func(*scene) {}, ""},
		{"a state is missing", func(s *scene) { s.result.Moves = nil }, "no Degraded"},
		{"a state too many", func(s *scene) { s.result.Moves = append(s.result.Moves, move{To: noIdentity}) }, "has NoIdentity"},
		{"to and fro", func(s *scene) {
			for range mostRounds {
				s.result.Moves = append(s.result.Moves, move{From: serving, To: renewing}, move{From: renewing, To: degraded})
			}
		}, ""},
		{"it spins", func(s *scene) {
			s.result.Moves = slices.Repeat([]move{{To: degraded}, {To: "Elsewhere"}}, mostRounds+1)
		}, "in and out of Degraded 4 times"},
		{"not said", func(s *scene) { s.logged = 1 }, "fix="},
		{"scrapes lost", func(s *scene) { s.result.Seen = sightings{Scrapes: 9, Lost: 2, Why: "refused"} }, "2 of 9 scrapes lost"},
		{"scrapes lost where the exporter was hit", func(s *scene) { s.result.Seen.Lost, s.exporterHit = 2, true }, ""},
		{"registration lost", func(s *scene) { s.result.Seen.Absent = 1 }, "had lost the node"},
		{"registration reaped", func(s *scene) {
			s.result.Seen.Absent, s.result.Reaped = 1, true
			s.result.Moves = append(s.result.Moves, move{To: consulReady}, move{To: serving})
		}, ""},
		{"registration lost by Consul", func(s *scene) { s.result.Seen.Absent, s.consulForgets = 1, true }, ""},
	}
	for _, one := range tests {
		t.Run(one.name, func(t *testing.T) {
			s := &scene{fault: row, log: newChronicle(new(bytes.Buffer)), result: &result{Moves: []move{{To: degraded}, {To: serving}}}}
			_, _ = s.log.Write([]byte("fix=this\n"))
			one.change(s)
			err := s.judge()
			if (err == nil) != (one.wrong == "") || err != nil && !strings.Contains(err.Error(), one.wrong) {
				t.Errorf("got %v, want %q", err, one.wrong)
			}
		})
	}
}

// TestChaosTable: a result is the same after its way out of a child.
func TestChaosTable(t *testing.T) {
	row := fault{number: "F3", name: "vault-killed", how: "SIGKILL"}
	made := result{Took: time.Minute, Moves: []move{{From: serving, To: degraded}, {From: degraded, To: serving}},
		Seen: sightings{Scrapes: 90, Present: 30}, Back: true, ToServing: 300 * time.Millisecond, Note: "a note"}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	read := result{fault: row}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	crashed := result{fault: fault{number: "F23", name: "other"}, Log: "a.log"}
	crashed.fail(fmt.Errorf("notice: %w", errAgentEnded))
	skipped := result{fault: fault{number: "F29", name: "third"}, Skipped: needsNamespace}
	var out bytes.Buffer
	if err := printChaos(&out, []result{read, crashed, skipped}, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Serving > Degraded > Serving", "0.3", "0 of 90", "a note", "FAILED", "skipped: " + needsNamespace, "3 faults in 1m0s: 1 ok, 1 failed, 1 skipped; crashes: 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	if err := judgeChaos([]result{read, skipped}); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
	if err := judgeChaos([]result{read, crashed}); err == nil || !strings.Contains(err.Error(), "a.log") {
		t.Errorf("one failed: %v", err)
	}
}

func TestReapingInALog(t *testing.T) {
	const log = "2026-01-01T00:00:00.000Z [INFO]  agent.server: deregistering member: member=vm-1 partition=default reason=reaped\n"
	for _, row := range []struct {
		log, node string
		want      bool
	}{{log, "vm-1", true}, {log, "vm-11", false}, {log, "vm", false}, {strings.Replace(log, "reaped", "left", 1), "vm-1", false}} {
		if got := tellsOfReaping("first\n"+row.log, row.node); got != row.want {
			t.Errorf("%s in %q: %v", row.node, row.log, got)
		}
	}
}

// TestManyBlows: a fault of many blows is over with the last of them. Timed from the
// first, an agent that was back at once was late, by the time that the blows took.
func TestManyBlows(t *testing.T) {
	var last time.Time
	s := &scene{fault: fault{inject: func(context.Context, *scene) error { last = time.Now(); return nil }}, log: newChronicle(new(bytes.Buffer))}
	if err := s.strike(t.Context()); err != nil || s.injected.After(last) || s.struck.Before(last) {
		t.Errorf("began %s, last blow %s, over %s (%v)", s.injected, last, s.struck, err)
	}
}

func TestInOrderStopsAtAnError(t *testing.T) {
	did := ""
	step := func(name string, err error) deed {
		return func(context.Context, *scene) error { did += name; return err }
	}
	broken := errors.New("broken")
	if err := inOrder(step("a", nil), step("b", broken), step("c", nil))(t.Context(), nil); !errors.Is(err, broken) || did != "ab" {
		t.Errorf("did %s, %v", did, err)
	}
}

// TestStoriesHaveTheirFaults: what a story says plays it again is in the table,
// starts as the story does, and there are stories to play.
func TestStoriesHaveTheirFaults(t *testing.T) {
	stories, err := scenarios.Lab()
	if err != nil || len(stories) < 15 {
		t.Fatalf("%d stories, %v", len(stories), err)
	}
	for _, story := range stories {
		if !slices.ContainsFunc(faultTable(), func(row fault) bool { return row.name == story.Fault }) {
			t.Errorf("%s is to be played by the fault %q, which is not there", story.File, story.Fault)
		}
	}
	s := &scene{fault: fault{name: "vault-paused"}, result: &result{Moves: []move{{From: serving, To: degraded}, {From: degraded, To: serving}, {From: serving, To: renewing}, {From: renewing, To: serving}}}}
	if err := s.toldWalk(); err != nil {
		t.Error(err)
	}
	s.result.Moves = s.result.Moves[:1]
	if err := s.toldWalk(); err == nil || !strings.Contains(err.Error(), "F14_vault_hangs.yaml: walked Serving Degraded") {
		t.Errorf("another walk: %v", err)
	}
}
