package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// crashesName is the file in the runtime folder that keeps when a process was
// started after one that had not been told to end, until one is: whoever looks at
// a crash loop, which systemd never gives up (faults.md F17), sees that it is one.
const crashesName = "crashes"

const (
	// crashesKept bounds the file and the report: what crashes more often crashes all the time.
	crashesKept = 100
	// crashesAge is when one is forgotten.
	crashesAge = 24 * time.Hour
)

// tellCrashes returns the crashes of late, oldest first, and one more where the
// process with the pid vanished ended unasked; zero: it did not. Best effort: a
// file that cannot be read or written is the same as none.
func tellCrashes(folder string, vanished int, now time.Time, log *slog.Logger) []time.Time {
	known := readCrashes(folder, now)
	if vanished == 0 {
		return known
	}
	known = append(known, now.UTC().Truncate(time.Second))
	known = known[max(0, len(known)-crashesKept):]
	log.Warn("the process before ended unasked", "pid", vanished, "crashes", len(known))
	var text strings.Builder
	for _, each := range known {
		text.WriteString(each.Format(time.RFC3339) + "\n")
	}
	if err := os.WriteFile(filepath.Join(folder, crashesName), []byte(text.String()), 0o600); err != nil {
		log.Warn("cannot keep when it ended", "error", err)
	}
	return known
}

// readCrashes returns what the file says, without what is no time of late.
func readCrashes(folder string, now time.Time) []time.Time {
	known := []time.Time{} // in the report an empty list, not null
	text, err := os.ReadFile(filepath.Join(folder, crashesName))
	if err != nil {
		return known
	}
	for line := range strings.Lines(string(text)) {
		if moment, err := time.Parse(time.RFC3339, strings.TrimSpace(line)); err == nil && now.Sub(moment) < crashesAge {
			known = append(known, moment)
		}
	}
	return known[max(0, len(known)-crashesKept):]
}
