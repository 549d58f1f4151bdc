package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// judge checks walk, words, scrapes and registration.
func (s *scene) judge() error {
	var wrong []error
	if !s.result.Reaped { // no story tells of that
		wrong = append(wrong, s.toldWalk())
	}
	visited := map[string]bool{}
	for _, one := range s.result.Moves {
		visited[one.To] = true
	}
	for _, state := range s.must {
		if !visited[state] {
			wrong = append(wrong, fmt.Errorf("the walk has no %s", state))
		}
	}
	for _, state := range s.mustNot {
		if visited[state] && (state != consulReady || !s.result.Reaped) {
			wrong = append(wrong, fmt.Errorf("the walk has %s", state))
		}
	}
	if rounds := spins(s.result.Moves); rounds > mostRounds {
		wrong = append(wrong, fmt.Errorf("it went in and out of %s %d times in a row without serving", degraded, rounds))
	}
	for _, line := range s.says {
		if _, found := s.log.find(s.logged, line); !found {
			wrong = append(wrong, fmt.Errorf("no line of the log has %q", line))
		}
	}
	if s.result.Seen.Lost > 0 && !s.exporterHit {
		wrong = append(wrong, fmt.Errorf("%d of %d scrapes lost, the first after %s: %s", s.result.Seen.Lost, s.result.Seen.Scrapes, short(s.result.Seen.FirstLost.Sub(s.injected)), s.result.Seen.Why))
	}
	if s.result.Seen.Absent > 0 && !s.consulForgets && !s.result.Reaped {
		wrong = append(wrong, fmt.Errorf("the catalogue had lost the node at %d of %d looks", s.result.Seen.Absent, s.result.Seen.Absent+s.result.Seen.Present))
	}
	return errors.Join(wrong...)
}

// reaped says whether a server tells in its log that it took the node out of the
// catalogue on its own: one that was killed and leads again, and that Serf's snapshot
// tells nothing of the node, since a line of that waits in memory for the next one.
func (s *scene) reaped() bool {
	for _, name := range slices.Concat(s.lab.record.Consul.Names, s.lab.spares) {
		text, err := os.ReadFile(s.lab.folder.log(name))
		if err == nil && tellsOfReaping(string(text), s.lab.record.Metadata.VMs[0].Name) {
			return true
		}
	}
	return false
}

func tellsOfReaping(log, node string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "deregistering member: member="+node+" ") && strings.Contains(line, "reason=reaped") {
			return true
		}
	}
	return false
}

// mostRounds is how often an agent in trouble may go to and fro: no chain of
// attempts between two states can spin (law 5).
const mostRounds = 3

// spins counts the longest run of moves into Degraded with no Serving between.
func spins(moves []move) int {
	most, now := 0, 0
	for _, one := range moves {
		switch {
		case good(one.To):
			now = 0
		case one.To == degraded:
			now++
			most = max(most, now)
		}
	}
	return most
}

// chaosReport is what the faults read of `pawl status --json`.
type chaosReport struct {
	agentReport
	Ready    bool `json:"ready"`
	Epoch    int  `json:"epoch"`
	Evidence []struct {
		Thing string `json:"thing"`
		Grade string `json:"grade"`
		ID    string `json:"id"`
	} `json:"evidence"`
	Reasons []struct {
		Name string `json:"name"`
	} `json:"reasons"`
	Services []struct {
		Name     string `json:"name"`
		Restarts int    `json:"restarts"`
	} `json:"services"`
}

// id returns the public name of what is held of a thing.
func (r chaosReport) id(thing string) string {
	for _, one := range r.Evidence {
		if one.Thing == thing {
			return one.ID
		}
	}
	return ""
}

// because says whether a reason stands.
func (r chaosReport) because(name string) bool {
	for _, one := range r.Reasons {
		if one.Name == name {
			return true
		}
	}
	return false
}

// status asks `pawl status --json`.
func (s *scene) status(ctx context.Context) (chaosReport, error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := exec.CommandContext(bounded, s.program.path, "status", "--json").Output()
	var answer chaosReport
	if decoding := json.Unmarshal(text, &answer); decoding != nil {
		return chaosReport{}, fmt.Errorf("read pawl's status: %w", errors.Join(err, decoding))
	}
	return answer, nil
}
