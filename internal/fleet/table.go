package fleet

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// spoken writes a duration without its empty units.
func spoken(d time.Duration) string {
	return strings.TrimSpace(strings.NewReplacer("m0s", " min", "h0 min", " h").Replace(d.String()))
}

// WriteTable writes one line a result.
func WriteTable(to io.Writer, results []Result) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "what happens\tpolicy\tVMs\tback: median\tp99\tworst\tpeak load\tseconds above 2x\tlogins\trefused\ttoo late")
	last := ""
	for _, r := range results {
		name := r.Scenario.Name
		if name == last {
			name = ""
		}
		last = r.Scenario.Name
		peak, _ := r.Peak()
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%.2fx\t%d\t%d\t%d\t%d\n", name, r.Policy, r.Scenario.Agents,
			back(r.Within(0.5)), back(r.Within(0.99)), back(r.Within(1)),
			peak/r.Scenario.Vault.Returns, r.Above(MostLoad), r.Requests[login.name], r.Refused, r.Late)
	}
	return table.Flush()
}

// back writes how long a return took.
func back(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Above counts the seconds since Vault went away in which more was asked than so
// many times what it can serve.
func (r Result) Above(times float64) (seconds int) {
	for at, load := range r.Load {
		if load > times*r.Scenario.Vault.Returns && time.Duration(at)*time.Second >= r.Scenario.From {
			seconds++
		}
	}
	return seconds
}
