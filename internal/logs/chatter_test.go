package logs

import (
	"log/slog"
	"strings"
	"testing"
)

// TestChatterIsDebug: a library's small talk is not lost, but it is not info.
func TestChatterIsDebug(t *testing.T) {
	for _, row := range []struct {
		level         slog.Level
		say           func(*slog.Logger)
		want, written string
	}{
		{slog.LevelInfo, func(l *slog.Logger) { l.Info("serf: EventMemberJoin: vm-2") }, "", ""},
		{slog.LevelDebug, func(l *slog.Logger) { l.Info("serf: EventMemberJoin: vm-2") }, "EventMemberJoin", "level=DEBUG"},
		{slog.LevelInfo, func(l *slog.Logger) { l.Warn("serf: EventMemberFailed: vm-2") }, "EventMemberFailed", "level=WARN"},
		{slog.LevelInfo, func(l *slog.Logger) { l.With("component", "x").WithGroup("g").Info("Starting server") }, "", ""},
		{slog.LevelInfo, func(l *slog.Logger) { l.Info("moved") }, "moved", "level=INFO"},
	} {
		var text strings.Builder
		row.say(New(&text, Text, row.level))
		if row.want == "" && text.Len() > 0 || !strings.Contains(text.String(), row.want) || !strings.Contains(text.String(), row.written) {
			t.Errorf("at %s: wrote %q, want %q with %q", row.level, text.String(), row.want, row.written)
		}
	}
}
