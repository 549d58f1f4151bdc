package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Intercept returns an hclog logger whose lines go to logger. It is hclog's own
// intercept logger, which writes nothing itself and has one sink: everything that
// Consul asks of a logger works, further sinks for /v1/agent/monitor included.
// The level is logger's at this moment. Safe from any goroutine.
func Intercept(logger *slog.Logger) hclog.InterceptLogger {
	intercept := hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Level:  HclogLevel(logger),
		Output: io.Discard,
		// Without this it would format every line only to throw it away.
		Exclude: func(hclog.Level, string, ...any) bool { return true },
	})
	intercept.RegisterSink(&sink{handler: logger.Handler()})
	return intercept
}

// levels maps hclog's levels to slog's. NoLevel is what hclog gives to lines that claim none.
var levels = map[hclog.Level]slog.Level{
	hclog.Trace:   LevelTrace,
	hclog.Debug:   slog.LevelDebug,
	hclog.NoLevel: slog.LevelInfo,
	hclog.Info:    slog.LevelInfo,
	hclog.Warn:    slog.LevelWarn,
	hclog.Error:   slog.LevelError,
}

// HclogLevel returns the lowest hclog level that logger writes.
func HclogLevel(logger *slog.Logger) hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if logger.Enabled(context.Background(), levels[level]) {
			return level
		}
	}
	return hclog.Off
}

// sink hands hclog's lines to a slog handler.
type sink struct{ handler slog.Handler }

// Accept implements hclog.SinkAdapter. It sees lines of every level.
func (s *sink) Accept(name string, level hclog.Level, message string, args ...any) {
	ctx, target := context.Background(), levels[level]
	if !s.handler.Enabled(ctx, target) {
		return
	}
	record := slog.NewRecord(time.Now(), target, hide(message), 0)
	if name != "" {
		record.AddAttrs(slog.String(subsystemKey, name))
	}
	for i := 0; i < len(args); i += 2 {
		if i+1 == len(args) {
			record.AddAttrs(slog.Any("extra", plain(args[i])))
			break
		}
		record.AddAttrs(slog.Any(fmt.Sprint(args[i]), plain(args[i+1])))
	}
	_ = s.handler.Handle(ctx, record) // a log that cannot be written has nowhere to complain
}

// tokenInURL is how careless people pass a Consul token. Consul hides it in some
// of its lines, and at debug not in all.
var tokenInURL = regexp.MustCompile(`([?&]token=)[^&\s"]+`)

func hide(text string) string {
	if !strings.Contains(text, "token=") { // nearly every text ends here
		return text
	}
	return tokenInURL.ReplaceAllString(text, "${1}<hidden>")
}

// plain turns hclog's own value types into ordinary ones, and hides tokens in URLs.
func plain(value any) any {
	switch value := value.(type) {
	case string:
		return hide(value)
	case *url.URL:
		return hide(value.String())
	case error:
		return hide(value.Error())
	case hclog.Format:
		if len(value) == 0 {
			return ""
		}
		return hide(fmt.Sprintf(fmt.Sprint(value[0]), value[1:]...))
	case hclog.CapturedStacktrace:
		return string(value)
	default:
		return value
	}
}
