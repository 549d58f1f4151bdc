package logs

import (
	"context"
	"io"
	"log/slog"
)

// Recorded is New, but all that the logger is handed at its level is also written
// to raw, a JSON object a line, before anything is left out: what an outage really
// says, for a test to say it again. Safe from any goroutine.
func Recorded(writer io.Writer, format Format, level slog.Leveler, raw io.Writer) *slog.Logger {
	return slog.New(recorder{
		Handler: New(writer, format, level).Handler(),
		raw:     slog.NewJSONHandler(raw, &slog.HandlerOptions{Level: LevelTrace, ReplaceAttr: nameTrace}),
	})
}

// recorder is a handler that writes twice. The first decides what is said at all.
type recorder struct {
	slog.Handler
	raw slog.Handler
}

// Handle implements slog.Handler.
func (r recorder) Handle(ctx context.Context, record slog.Record) error {
	_ = r.raw.Handle(ctx, record.Clone()) // a recording that fails must not silence the log
	return r.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (r recorder) WithAttrs(attributes []slog.Attr) slog.Handler {
	return recorder{r.Handler.WithAttrs(attributes), r.raw.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (r recorder) WithGroup(name string) slog.Handler {
	return recorder{r.Handler.WithGroup(name), r.raw.WithGroup(name)}
}
