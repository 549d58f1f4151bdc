package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestRecorded: what is left out of the log, and what is small talk in it, is in
// the recording; what is below the level is in neither.
func TestRecorded(t *testing.T) {
	var written, raw bytes.Buffer
	logger := Recorded(&written, JSON, slog.LevelInfo, &raw)
	consul := Component(logger, "consul")
	for range 3 {
		consul.With("subsystem", "serf").Warn("the same", "attempt", 7)
	}
	consul.Info("Starting server")
	consul.Debug("below")
	if got := lines(t, &written); len(got) != 1 {
		t.Errorf("written: %v", got)
	}
	text := raw.String()
	recorded := lines(t, &raw)
	if len(recorded) != 4 || strings.Contains(text, "below") {
		t.Fatalf("recorded: %s", text)
	}
	if one := recorded[2]; one["component"] != "consul" || one["subsystem"] != "serf" || one["level"] != "WARN" || one["attempt"] != 7.0 {
		t.Errorf("recorded: %v", one)
	}
}
