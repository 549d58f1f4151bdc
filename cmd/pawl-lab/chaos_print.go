package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what became of a fault. It travels as JSON from the process that made it.
type result struct {
	fault fault

	Took    time.Duration
	Skipped string
	// Failed is why the row did not come out as it says; empty: it did. Crashed: the
	// agent ended unasked.
	Failed  string
	Crashed bool
	// Log is the file with all that agent and lab said.
	Log string

	Moves []move
	Seen  sightings
	// Reaped says that Consul itself took the node out of its catalogue.
	Reaped bool
	// Back says that Serving was reached again; ToServing how long after the fault's end.
	Back      bool
	ToServing time.Duration
	Note      string
}

// fail notes an error, nil or not.
func (r *result) fail(err error) {
	if err != nil {
		r.Failed = err.Error()
		r.Crashed = errors.Is(err, errAgentEnded)
	}
}

// verdict is the word for the table.
func (r result) verdict() string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.Failed != "":
		return "FAILED"
	}
	return "ok"
}

// serves says in a word how long the way back took.
func (r result) serves() string {
	switch {
	case !r.Back:
		return "-"
	case !r.fault.atBoot && !left(r.Moves):
		return "never left"
	}
	return fmt.Sprintf("%.1f", r.ToServing.Seconds())
}

// left says whether a walk leads away from the whole work.
func left(moves []move) bool {
	for _, one := range moves {
		if !good(one.To) {
			return true
		}
	}
	return false
}

// registration says in a word what became of it.
func (r result) registration() string {
	switch {
	case r.Seen.Absent > 0 && (r.fault.consulForgets || r.Reaped):
		return "by Consul"
	case r.Seen.Absent > 0:
		return "LOST"
	case r.Seen.Present == 0:
		return "-"
	}
	return "no"
}

func (r result) line() string {
	text := fmt.Sprintf("%s %s: %s", r.fault.number, r.fault.name, r.verdict())
	switch {
	case r.Skipped != "":
		return text + ", " + r.Skipped
	case r.Failed != "":
		return text + " after " + short(r.Took) + ": " + r.Failed
	}
	return fmt.Sprintf("%s after %s; %s", text, short(r.Took), walk(r.Moves))
}

// printChaos prints the table.
func printChaos(out io.Writer, results []result, took time.Duration) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nfault\t\thow injected\tto Serving after its end, s\tscrapes lost\tregistration lost\twalk\tnote")
	count := map[string]int{}
	for _, one := range results {
		count[one.verdict()]++
		scrapes := fmt.Sprintf("%d of %d", one.Seen.Lost, one.Seen.Scrapes)
		if one.fault.exporterHit {
			scrapes += " (exporter hit)"
		}
		way, note := walk(one.Moves), one.Note
		if one.verdict() != "ok" {
			note = one.verdict()
		}
		if one.Skipped != "" {
			way, scrapes, note = "-", "-", "skipped: "+one.Skipped
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.fault.number, one.fault.name, one.fault.how, one.serves(), scrapes, one.registration(), way, note)
	}
	_ = table.Flush()
	fmt.Fprintf(&text, "\n%d faults in %s: %d ok, %d failed, %d skipped; crashes: %d\n", len(results), took.Round(time.Second), count["ok"], count["FAILED"], count["skipped"], crashes(results))
	_, err := io.WriteString(out, text.String())
	return err
}

// crashes counts the agents that ended unasked.
func crashes(results []result) int {
	count := 0
	for _, one := range results {
		if one.Crashed {
			count++
		}
	}
	return count
}

// judgeChaos is an error where a fault did not come out as its row says.
func judgeChaos(results []result) error {
	var all []error
	for _, one := range results {
		if one.Failed != "" {
			all = append(all, fmt.Errorf("%s %s: %s; all of its log: %s", one.fault.number, one.fault.name, one.Failed, one.Log))
		}
	}
	return errors.Join(all...)
}

// listFaults prints what chaos would make.
func listFaults(out io.Writer, rows []fault) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tname\thow injected\tkeeps working")
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", row.number, row.name, row.how, row.keeps)
	}
	_ = table.Flush()
	_, err := io.WriteString(out, text.String())
	return err
}
