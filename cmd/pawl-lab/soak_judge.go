package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// soakResult is all that a soak came to.
type soakResult struct {
	seed   uint64
	ttl    time.Duration
	wanted int
	// checkTimeout is what the exporter has to answer its check.
	checkTimeout time.Duration
	began, ended time.Time
	strikes      []struck
	seen         soakSeen
	// answers are Vault's, by its audit log; complaints what the agent's own log has
	// of errors of its own; unread is why they could not be read.
	answers    []audited
	complaints []string
	unread     error
	// current is the Consul token at the end, left what Consul has beside it, and
	// settled how long it took to come to that.
	current string
	left    []string
	settled time.Duration
}

const (
	// The first tenth begins after a part of the rotations, and some at the least:
	// until then the heap grows to what it needs. Consul's multiplexer holds a closed
	// connection for five minutes, and each rotation closes one.
	warmUpShare = 5
	warmUpLeast = 3
	// shares is how many parts the rest is divided into; the first is held against the last.
	shares = 10
	// tokenPromise is how soon after Vault answers the agent has a valid Consul token
	// again (law 3), and by how much our looking may be late.
	tokenPromise = 5*time.Second + soakEvery
)

// slowestToken returns the longest that the agent had no working Consul token
// after Vault answered again, over the outages of Vault alone: where Consul was
// away as well, Vault's answer is not enough. Nor do those count that ended while
// the machine was busy.
func (r soakResult) slowestToken() time.Duration {
	slowest := time.Duration(0)
	for _, each := range r.strikes {
		until := each.answered.Add(each.back + settled)
		if each.strike.what() == "Vault" && !each.answered.IsZero() && !r.busy(each.answered, until) {
			slowest = max(slowest, r.seen.tokenBack(each.answered, until))
		}
	}
	return slowest
}

// tolerance is by how much a figure may grow from the first tenth to the last:
// by a share of it and by so much beside. A collector's heap is never twice the
// same; one that leaks with every rotation is beyond this after two hundred.
type tolerance struct {
	series, name, unit string
	divide             float64
	share, beside      float64
	judged             bool
}

var tolerances = []tolerance{
	{series: seriesGoroutines, name: "goroutines", divide: 1, share: 0.05, beside: 5, judged: true},
	{series: seriesHeap, name: "heap", unit: " MiB", divide: 1 << 20, share: 0.10, beside: 2, judged: true},
	{series: seriesObjects, name: "objects", divide: 1},
	{series: seriesResident, name: "resident", unit: " MiB", divide: 1 << 20},
	{series: seriesFiles, name: "open files", divide: 1, share: 0.10, beside: 5, judged: true},
}

// growth is a figure in the first tenth and in the last.
type growth struct{ first, last float64 }

func (t tolerance) most(first float64) float64 { return first*(1+t.share) + t.beside*t.divide }

// compare returns the medians of a series over the first and the last tenth of
// the time from warm to ended, and false where a tenth has no sample. Only
// samples of a serving agent count: an outage has goroutines of its own.
func (r soakResult) compare(series string) (growth, bool) {
	if r.seen.warm.IsZero() {
		return growth{}, false
	}
	tenth := r.ended.Sub(r.seen.warm) / shares
	var first, last []float64
	for _, each := range r.seen.samples {
		switch {
		case !each.serving || each.at.Before(r.seen.warm):
		case each.at.Before(r.seen.warm.Add(tenth)):
			first = append(first, each.values[series])
		case !each.at.Before(r.ended.Add(-tenth)):
			last = append(last, each.values[series])
		}
	}
	return growth{median(first), median(last)}, len(first) > 0 && len(last) > 0
}

// given are the answers of Vault that gave a credential, by kind.
func (r soakResult) given() map[string]map[string]bool {
	all := map[string]map[string]bool{"vault_token": {}, "consul_token": {}, "certificate": {}}
	for _, each := range r.answers {
		switch {
		case each.Refused != "":
		case each.Path == loginPath:
			all["vault_token"][each.Login] = true
		case each.Path == issuePath:
			all["certificate"][each.Serial] = true
		case each.Path == leasePath:
			all["consul_token"][each.Consul] = true
		}
	}
	return all
}

// busyAround is how far from a scrape that took too long the machine may have been
// too busy for others as well: a check is made every five seconds, and fails two later.
const busyAround = 10 * time.Second

// busy says that the machine was too busy at a time for a check to pass or for a
// server to answer, whatever the agent did: a scrape of ours, then or near it, took
// longer than a check may. What was lost or missing counts all the same.
func (r soakResult) busy(from, to time.Time) bool {
	return slices.ContainsFunc(r.seen.slow, func(each window) bool {
		return each.touches(from.Add(-busyAround), to.Add(busyAround))
	})
}

// late returns how many looks at a server found it late, or a check that does not
// pass, while the machine was not busy.
func (r soakResult) late(c catalogue) (looks int) {
	for _, each := range c.late {
		if !r.busy(each.from, each.to) {
			looks++
		}
	}
	return looks
}

// some are the first of many, for an error.
func some(all []string) string { return strings.Join(all[:min(len(all), 5)], "; ") }

// judge holds what was seen against what is promised. The error names all that
// was broken.
func (r soakResult) judge() error {
	broken := []error{r.unread}
	wrong := func(format string, values ...any) { broken = append(broken, fmt.Errorf(format, values...)) }
	if made := r.seen.rotations(); made < r.wanted {
		wrong("%d rotations of each credential, not %d", made, r.wanted)
	}
	given := r.given()
	for kind, ids := range given {
		for id := range r.seen.kinds[kind] {
			if !ids[id] {
				wrong("the agent worked with %s %s, which no answer of Vault gave it", kind, id)
			}
		}
	}
	if len(r.seen.lost) > 0 {
		wrong("%d of %d scrapes were lost: %s", len(r.seen.lost), r.seen.scrapes, some(r.seen.lost))
	}
	for n, c := range r.seen.servers {
		if c.absent > 0 || r.late(c) > 0 || c.looks == c.silent {
			wrong("%s: of %d looks %d found nothing, %d found a check that does not pass, and it was silent for %s for no known reason: %s",
				consulNode(n+1), c.looks, c.absent, c.failing, short(c.unexplained), some(r.seen.gaps))
		}
	}
	if slowest := r.slowestToken(); slowest > tokenPromise {
		wrong("the agent had no working Consul token for %s after Vault answered again", short(slowest))
	}
	for _, each := range tolerances {
		if got, any := r.compare(each.series); each.judged && !any {
			wrong("no samples of %s to compare", each.name)
		} else if each.judged && got.last > each.most(got.first) {
			wrong("%s grew from %.1f%s to %.1f%s", each.name, got.first/each.divide, each.unit, got.last/each.divide, each.unit)
		}
	}
	switch {
	case r.current == "":
		wrong("the agent has no Consul token at the end")
	case len(r.left) > 0:
		wrong("Consul still has, beside the current token %s, %s", r.current, some(r.describe(r.left)))
	}
	if len(r.seen.pids) != 1 || r.seen.restarts > 0 {
		wrong("the agent had %d process ids and %d restarts of its services", len(r.seen.pids), r.seen.restarts)
	}
	if len(r.complaints) > 0 {
		wrong("the agent wrote %d errors of its own: %s", len(r.complaints), some(r.complaints))
	}
	return errors.Join(broken...)
}

// describe says of each Consul token whether an agent can have had it: a Vault that
// is killed between making one and answering leaves it to nobody.
func (r soakResult) describe(tokens []string) []string {
	given := r.given()["consul_token"]
	var all []string
	for _, each := range tokens {
		if !given[each] {
			each += " (no answer of Vault gave it to anybody)"
		}
		all = append(all, each)
	}
	return all
}

// readComplaints returns the lines of the agent's log that no agent may write:
// errors of its own and panics. Those of the libraries in it are their business.
func readComplaints(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read pawl's log: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		fields := attributes(line)
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || fields["level"] == "ERROR" && fields["component"] == "" {
			found = append(found, line)
		}
	}
	return found, nil
}

// print prints the figures as a table.
func (r soakResult) print(out io.Writer) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(what, format string, values ...any) {
		fmt.Fprintf(table, "%s\t%s\n", what, fmt.Sprintf(format, values...))
	}
	fmt.Fprintln(&text)
	row("seed", "%d (the same outages again: --seed %d --ttl %s --servers %d)", r.seed, r.seed, r.ttl, len(r.seen.servers))
	row("length", "%s", r.ended.Sub(r.began).Round(time.Second))
	r.printStrikes(row)
	given := r.given()
	row("rotations", "%d of each credential, of %d", r.seen.rotations(), r.wanted)
	for _, each := range []struct{ kind, name string }{{"jwt", "JWTs"}, {"vault_token", "Vault tokens"}, {"consul_token", "Consul tokens"}, {"certificate", "certificates"}} {
		switch used := len(r.seen.kinds[each.kind]); each.kind {
		case "jwt":
			row("  "+each.name, "%d used", used)
		case "consul_token":
			row("  "+each.name, "%d used; Vault gave %d, Consul listed %d", used, len(given[each.kind]), len(r.seen.listed))
		default:
			row("  "+each.name, "%d used; Vault gave %d", used, len(given[each.kind]))
		}
	}
	row("scrapes", "%d, %d lost, slowest %s", r.seen.scrapes, len(r.seen.lost), short(r.seen.slowest))
	for n, c := range r.seen.servers {
		row(consulNode(n+1), "%d looks, %d while it was down; out of the catalogue %s, not passing %s, silent for no reason %s",
			c.looks, c.silent, short(c.out), short(c.ill), short(c.unexplained))
		if excused := len(c.late) - r.late(c); excused > 0 {
			row("", "(%d of those looks prove nothing: this machine was too busy, and a scrape took longer than a check may, %s)", excused, short(r.checkTimeout))
		}
	}
	if !r.seen.warm.IsZero() {
		row("first and last tenth", "medians while Serving, of %s each, after a warm-up of %s", short(r.ended.Sub(r.seen.warm)/shares), short(r.seen.warm.Sub(r.began)))
	}
	for _, each := range tolerances {
		got, any := r.compare(each.series)
		if !any {
			continue
		}
		allowed := ""
		if each.judged {
			allowed = fmt.Sprintf(" (at most %.1f%s)", each.most(got.first)/each.divide, each.unit)
		}
		row("  "+each.name, "%.1f%s, %.1f%s%s", got.first/each.divide, each.unit, got.last/each.divide, each.unit, allowed)
	}
	row("restarts", "%d of services", r.seen.restarts)
	if r.current != "" {
		row("tokens left in Consul", "%d beside the current one, after %s", len(r.left), short(r.settled))
	}
	_ = table.Flush()
	_, err := io.WriteString(out, text.String())
	return err
}

// printStrikes prints what was struck how often.
func (r soakResult) printStrikes(row func(string, string, ...any)) {
	var order []string
	count, away := map[string]int{}, map[string]time.Duration{}
	slowest := time.Duration(0)
	left, past := 0, 0
	for _, each := range r.strikes {
		what := each.strike.what()
		if count[what] == 0 {
			order = append(order, what)
		}
		count[what]++
		away[what] += each.away
		slowest = max(slowest, each.back)
		if slices.ContainsFunc(each.moves, func(one move) bool { return !good(one.To) }) {
			left++
		}
		if each.strike.length() > r.ttl {
			past++
		}
	}
	row("outages", "%d; %d longer than the TTL; the agent left Serving in %d and was back %s after the answer at the latest", len(r.strikes), past, left, short(slowest))
	row("  no valid token", "for %s after Vault answered again, at the longest", short(r.slowestToken()))
	slices.Sort(order)
	for _, what := range order {
		row("  "+what, "%d times, away for %s in all", count[what], away[what].Round(100*time.Millisecond))
	}
}
