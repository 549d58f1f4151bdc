package logs

import (
	"context"
	"log/slog"
	"strings"
)

// chatter is what embedded libraries write at info on every start and every
// stop, and what says nothing to whoever is on call. It is written at debug.
// Everything else of theirs keeps its level.
var chatter = []string{
	// node_exporter
	"Parsed flag --",
	"TLS is disabled.",
	// consul
	"Registered resource endpoint",
	"Initializing LAN area manager",
	"Starting server",
	"Stopping server",
	"started state syncer",
	"(LAN) joining", // also by nobody, to find out whether Serf lives; "adding server" tells of a real one
	"(LAN) joined",
	"Requesting shutdown",
	"Waiting for endpoints to shut down",
	"Endpoints down",
	"shutting down", // the client, and the list of its servers when the last one has gone
	"consul client down",
	"serf: EventMember", // every VM of the fleet that comes or goes
	"serf: attempting reconnect",
	"memberlist: Suspect", // "Marking ... as failed" says what came of it
}

// quiet is a handler that moves chatter from info to debug.
type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	if record.Level == slog.LevelInfo && isChatter(record.Message) {
		if !q.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		record.Level = slog.LevelDebug
	}
	return q.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attributes []slog.Attr) slog.Handler {
	return quiet{q.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func isChatter(message string) bool {
	for _, prefix := range chatter {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}
