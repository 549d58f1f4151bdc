// Package status owns what a person or a program sees of a running agent: the
// report (the dump), its short form for people, the unix socket that serves it,
// and the metrics. It reads snapshots only; it must import neither actions nor
// clients, and it never waits for the machine (law 7).
package status

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/internal/service"
	"pawl/states"
)

// Verdict is what a report comes to, in the words and numbers that Nagios,
// Consul's script checks and shells share.
type Verdict string

// The verdicts; Exit gives each its exit code.
const (
	// VerdictReady: the node can be relied on.
	VerdictReady Verdict = "ready"
	// VerdictWaiting: on the way up, or Degraded: it comes back by itself.
	VerdictWaiting Verdict = "waiting"
	// VerdictBroken: a person must act, or the loop stopped turning.
	VerdictBroken Verdict = "broken"
)

// ExitNoAgent is the exit code where no agent answers.
const ExitNoAgent = 3

// Exit returns the exit code of the verdict (issue 2).
func (v Verdict) Exit() int {
	switch v {
	case VerdictReady:
		return 0
	case VerdictWaiting:
		return 1
	default:
		return 2
	}
}

// About says which program this is; it does not change while it runs.
type About struct {
	Version  string    `json:"version"`
	Site     string    `json:"site"`
	SiteHash string    `json:"site_hash"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	// Registers says whether node_exporter is registered: the one runtime setting.
	Registers bool `json:"register_node_exporter"`
	// Crashes are the moments, oldest first, at which a process was started after
	// one that nobody had told to end, since one was told so.
	Crashes []time.Time `json:"crashes"`
}

// crashesLately bounds what the short form and the metric count.
const crashesLately = 24 * time.Hour

// crashed returns how many crashes there were lately, and when the last one was.
func (a About) crashed(now time.Time) (count int, last time.Time) {
	for _, each := range a.Crashes {
		if now.Sub(each) < crashesLately {
			count, last = count+1, each
		}
	}
	return count, last
}

// Report is the whole dump, one JSON document.
type Report struct {
	About
	Verdict Verdict `json:"verdict"`
	*fsm.Snapshot
	Services []service.Status `json:"services"`
}

// Source makes reports. All its parts are safe from any goroutine and never wait.
type Source struct {
	About    About
	Snapshot func() *fsm.Snapshot
	Services func() []service.Status
	Now      func() time.Time
}

// Report returns the report as of now.
func (s Source) Report() Report {
	now := s.Now()
	snapshot := *s.Snapshot()
	snapshot.Ready = snapshot.ReadyAt(now)
	return Report{About: s.About, Verdict: verdict(&snapshot), Snapshot: &snapshot, Services: s.Services()}
}

// verdict folds a snapshot into one word.
func verdict(snapshot *fsm.Snapshot) Verdict {
	serving := snapshot.State == states.Serving || snapshot.State == states.Renewing
	switch {
	case serving && snapshot.Ready:
		return VerdictReady
	case serving:
		return VerdictBroken // Serving without a fresh read-back: the loop does not turn
	}
	if snapshot.Ready {
		return VerdictWaiting
	}
	for _, action := range snapshot.Standing() {
		switch action.LastClass {
		case failure.Config, failure.Identity, failure.Local, failure.Bug:
			return VerdictBroken
		}
	}
	return VerdictWaiting
}

// Dump writes the report as one line of JSON and nothing else.
func (s Source) Dump(to io.Writer) error {
	text, err := json.Marshal(s.Report())
	if err != nil {
		return fmt.Errorf("write dump: %w", err)
	}
	_, err = to.Write(append(text, '\n'))
	return err
}

// Human writes what a person at 3 a.m. wants first: the state, what is wrong and
// why, what is tried next; what is well takes one line each.
func (r Report) Human(to io.Writer, now time.Time) error {
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	line("%s: %s for %s (%s)", orUnknown(r.Node.Name), r.State, short(now.Sub(r.Since)), r.Verdict)
	if count, last := r.crashed(now); count > 0 {
		line("  crashed %d times within a day, last %s ago", count, short(max(0, now.Sub(last))))
	}
	for _, reason := range states.Roots(r.Reasons) {
		line("  reason  %s%s%s", reason.Name, since(reason.Since, now), colon(reason.Detail))
	}
	for _, action := range r.Standing() {
		next := ""
		if action.NextAttempt != nil && action.NextAttempt.After(now) {
			next = fmt.Sprintf(", again in %s", short(action.NextAttempt.Sub(now)))
		}
		line("  failing %s (%s, %d times%s): %s", action.Action, action.LastClass, action.Running, next, action.LastError)
		if action.Fix != "" {
			line("  fix     %s", action.Fix)
		}
	}
	for _, item := range r.Evidence {
		detail := ""
		if item.Expires != nil {
			detail = ", expires in " + short(item.Expires.Sub(now))
		}
		if item.Seen != nil {
			detail += fmt.Sprintf(", seen %s ago", short(now.Sub(*item.Seen)))
		}
		line("  %-6s  %s%s", item.Grade, item.Thing, detail)
	}
	for _, each := range r.Services {
		word := "down"
		if each.Running {
			word = "up"
		}
		line("  %-6s  service %s%s", word, each.Name, colon(each.LastError))
	}
	_, err := io.WriteString(to, text.String())
	return err
}

func orUnknown(name string) string {
	if name == "" {
		return "(no identity yet)"
	}
	return name
}

func colon(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

func since(moment, now time.Time) string {
	if moment.IsZero() {
		return ""
	}
	return " for " + short(now.Sub(moment))
}

// short is a duration a person can read: tenths below a minute, seconds above.
func short(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
