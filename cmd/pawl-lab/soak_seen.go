package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soakSeen is all that a soak has seen of an agent and of its far ends. For one
// goroutine at a time.
type soakSeen struct {
	scrapes int
	lost    []string
	slowest time.Duration
	// slow are the scrapes that took longer than a check may.
	slow    []window
	samples []sample
	// warm is when the first rotations were done, as many as warmUp.
	warmUp int
	warm   time.Time
	// servers are Consul's, in their order. down are the times for which they were
	// taken down; the last may have no end yet.
	servers []catalogue
	down    []window
	gaps    []string
	// without are the times for which the agent had no Consul token that a server had
	// answered it under; the last may have no end yet.
	without []window
	// kinds are the credentials that the agent worked with: kind, then id.
	kinds map[string]map[string]bool
	// listed are the Consul tokens of agents that Consul had.
	listed   map[string]bool
	pids     map[int]bool
	restarts int
}

func newSoakSeen(servers, wanted int) soakSeen {
	s := soakSeen{
		warmUp: max(warmUpLeast, wanted/warmUpShare), servers: make([]catalogue, servers),
		kinds: map[string]map[string]bool{}, listed: map[string]bool{}, pids: map[int]bool{},
	}
	for _, kind := range soakKinds {
		s.kinds[kind] = map[string]bool{}
	}
	return s
}

// soakKinds are the credentials whose rotations are counted, as the report names them.
var soakKinds = []string{"jwt", "vault_token", "consul_token", "certificate"}

// sample is what one scrape said of the agent's own process.
type sample struct {
	at time.Time
	// serving says whether the agent did its whole work then.
	serving bool
	values  map[string]float64
}

// The series that a sample keeps.
const (
	seriesGoroutines = "go_goroutines"
	seriesHeap       = "go_memstats_heap_alloc_bytes"
	seriesObjects    = "go_memstats_heap_objects"
	seriesResident   = "process_resident_memory_bytes"
	seriesFiles      = "process_open_fds"
)

var sampled = []string{seriesGoroutines, seriesHeap, seriesObjects, seriesResident, seriesFiles}

// parseSeries picks the series that a sample keeps out of a whole page of metrics.
func parseSeries(page io.Reader) (map[string]float64, error) {
	found := map[string]float64{}
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if !slices.Contains(sampled, name) {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		found[name] = value
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(found) != len(sampled) {
		return nil, fmt.Errorf("the page has %d of the %d series that every page has", len(found), len(sampled))
	}
	return found, nil
}

// soakStatus is what a soak reads of the agent's report.
type soakStatus struct {
	PID      int    `json:"pid"`
	State    string `json:"state"`
	Ready    bool   `json:"ready"`
	Next     bool   `json:"next_epoch_under_way"`
	Former   int    `json:"former_tokens_to_revoke"`
	Evidence []struct {
		Thing string `json:"thing"`
		Grade string `json:"grade"`
		ID    string `json:"id"`
		Under string `json:"under"`
	} `json:"evidence"`
	Services []struct {
		Restarts int `json:"restarts"`
	} `json:"services"`
}

// holds returns the id of a thing that is good, else "". Of what lives at a far
// end it is the accessor under which that was seen.
func (s soakStatus) holds(thing string) string {
	for _, each := range s.Evidence {
		if each.Thing == thing && each.Grade == "good" {
			return each.ID + each.Under // one of them is empty
		}
	}
	return ""
}

// rested says whether no epoch is being made or unmade.
func (s soakStatus) rested() bool { return good(s.State) && s.Ready && !s.Next && s.Former == 0 }

// note takes in a report. A credential counts once a server has answered the
// agent under the Consul token that belongs to it.
func (s *soakSeen) note(answer soakStatus, now time.Time) {
	s.pids[answer.PID] = true
	restarts := 0
	for _, each := range answer.Services {
		restarts += each.Restarts
	}
	s.restarts = max(s.restarts, restarts)
	token := answer.holds("consul_token")
	proven := token != "" && answer.holds("agent") == token
	s.hasToken(proven, now)
	if !proven || answer.Next {
		return
	}
	for _, kind := range soakKinds {
		if id := answer.holds(kind); id != "" {
			s.kinds[kind][id] = true
		}
	}
	if s.warm.IsZero() && s.rotations() >= s.warmUp {
		s.warm = now
	}
}

// hasToken notes whether the agent has a Consul token that works.
func (s *soakSeen) hasToken(works bool, now time.Time) {
	last := len(s.without) - 1
	open := last >= 0 && s.without[last].to.IsZero()
	switch {
	case !works && !open:
		s.without = append(s.without, window{from: now})
	case works && open:
		s.without[last].to = now
	}
}

// tokenBack returns how long after a moment the agent had a working Consul token
// again, zero where it had one. What it is without later is not of this moment.
func (s *soakSeen) tokenBack(from, until time.Time) time.Duration {
	back := time.Duration(0)
	for _, each := range s.without {
		switch {
		case !each.touches(from, until):
		case each.to.IsZero():
			return until.Sub(from)
		default:
			back = max(back, each.to.Sub(from))
		}
	}
	return back
}

// rotations returns how often the credential was replaced that was replaced least
// often. Of Consul tokens those count that Consul's own list had as well.
func (s *soakSeen) rotations() int {
	least := 0
	for id := range s.kinds["consul_token"] {
		if s.listed[id] {
			least++
		}
	}
	for _, kind := range soakKinds {
		least = min(least, len(s.kinds[kind]))
	}
	return max(0, least-1) // the first replaced nothing
}

// catalogue is what one Consul server said of our node over the whole time.
type catalogue struct {
	looks, absent, failing, silent int
	// out and ill are for how long node or service were missing, or a check of theirs
	// was not passing, while the server answered; unexplained is for how long it was
	// silent although nobody had taken Consul down.
	out, ill, unexplained time.Duration
	// late are the looks of failing and of unexplained.
	late []look
	last look
}

// look is one question to one server, and its answer.
type look struct {
	from, to         time.Time
	err              error
	present, passing bool
}

// window is a time; without an end it goes on.
type window struct{ from, to time.Time }

// touches says whether it has anything in common with another time.
func (w window) touches(from, to time.Time) bool {
	return !w.from.After(to) && (w.to.IsZero() || !w.to.Before(from))
}

// account takes in a look at a server. What was seen lasts until the next look.
func (s *soakSeen) account(server int, now look) {
	c := &s.servers[server]
	gap := func(format string, values ...any) {
		s.gaps = append(s.gaps, now.from.Format(time.TimeOnly)+" "+consulNode(server+1)+": "+fmt.Sprintf(format, values...))
	}
	c.looks++
	switch {
	case now.err != nil:
		c.silent++
		if !slices.ContainsFunc(s.down, func(each window) bool { return each.touches(now.from, now.to) }) {
			c.unexplained += max(now.to.Sub(now.from), soakEvery)
			c.late = append(c.late, now)
			gap("%v", now.err)
		}
	case !now.present:
		c.absent++
		gap("not in the catalogue")
	case !now.passing:
		c.failing++
		c.late = append(c.late, now)
		gap("not passing")
	}
	if last := c.last; !last.from.IsZero() && last.err == nil {
		switch lasted := now.from.Sub(last.from); {
		case !last.present:
			c.out += lasted
		case !last.passing:
			c.ill += lasted
		}
	}
	c.last = now
}
