// Package logs owns the one log stream: the root slog logger on a writer, the
// adapter through which Consul's hclog lines join it, and the redirection of the
// standard library's log. It must import nothing of this project.
//
// Every line that is not pawl's own says whose it is in "component", and, where
// Consul says which part of it speaks, in "subsystem".
package logs

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// LevelTrace lies below slog's debug: what only a library's author wants to see.
const LevelTrace = slog.LevelDebug - 4

// componentKey and subsystemKey are the attributes that say whose a line is.
const (
	componentKey = "component"
	subsystemKey = "subsystem"
)

// Format is how a line is written.
type Format string

// The formats.
const (
	Text Format = "text" // key=value, for a terminal and for journald
	JSON Format = "json" // one object a line
)

// New returns the root logger. Level can be changed while it runs. Safe from any goroutine.
func New(writer io.Writer, format Format, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: nameTrace}
	if format == JSON {
		return slog.New(newCalm(quiet{slog.NewJSONHandler(writer, options)}))
	}
	return slog.New(newCalm(quiet{slog.NewTextHandler(writer, options)}))
}

// nameTrace writes TRACE where slog would write DEBUG-4.
func nameTrace(groups []string, attribute slog.Attr) slog.Attr {
	if len(groups) == 0 && attribute.Key == slog.LevelKey && attribute.Value.Any() == LevelTrace {
		return slog.String(slog.LevelKey, "TRACE")
	}
	return attribute
}

// ParseLevel returns the level of that name: trace, debug, info, warn, error.
func ParseLevel(name string) (slog.Level, error) {
	if strings.EqualFold(name, "trace") {
		return LevelTrace, nil
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("parse log level %q: want trace, debug, info, warn or error", name)
	}
	return level, nil
}

// Component returns logger with the component's name on every line.
func Component(logger *slog.Logger, name string) *slog.Logger {
	return logger.With(componentKey, name)
}

// RedirectStandard sends what libraries write with the standard library's log,
// and with slog's default logger, to logger. A prefix such as [WARN] becomes the
// level. It changes the process, as those two loggers are the process's: main
// calls it once.
func RedirectStandard(logger *slog.Logger) {
	standard := Component(logger, "library")
	slog.SetDefault(standard)
	log.SetFlags(0) // the stream has its own time
	log.SetPrefix("")
	log.SetOutput(Intercept(standard).StandardWriter(&hclog.StandardLoggerOptions{InferLevels: true}))
}
