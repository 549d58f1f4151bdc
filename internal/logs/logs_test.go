package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// lines decodes what was written as JSON, without the time.
func lines(t *testing.T, buffer *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for text := range strings.Lines(buffer.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("decode %q: %v", text, err)
		}
		if line["time"] == nil {
			t.Errorf("line without a time: %s", text)
		}
		delete(line, "time")
		all = append(all, line)
	}
	return all
}

func TestInterceptKeepsNameLevelAndFields(t *testing.T) {
	var buffer bytes.Buffer
	consul := Intercept(Component(New(&buffer, JSON, LevelTrace), "consul"))
	serf := consul.NamedIntercept("agent").With("dc", "dc1").Named("serf")
	serf.Warn("member left", "node", "a", "error", errors.New("gone"), "rtt", hclog.Fmt("%dms", 7))
	serf.Trace("detail")
	consul.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true}).Print("[ERR] memberlist: odd")
	consul.Info("dangling", "key")

	want := []map[string]any{
		{"level": "WARN", "msg": "member left", "component": "consul", "subsystem": "agent.serf", "dc": "dc1", "node": "a", "error": "gone", "rtt": "7ms"},
		{"level": "TRACE", "msg": "detail", "component": "consul", "subsystem": "agent.serf", "dc": "dc1"},
		{"level": "ERROR", "msg": "memberlist: odd", "component": "consul"},
		{"level": "INFO", "msg": "dangling", "component": "consul", "extra": "key"},
	}
	got := lines(t, &buffer)
	for i := range want {
		a, _ := json.Marshal(want[i])
		b, _ := json.Marshal(got[i])
		if !bytes.Equal(a, b) {
			t.Errorf("line %d:\n got %s\nwant %s", i, b, a)
		}
	}
}

func TestLevelIsTheRoots(t *testing.T) {
	for _, row := range []struct {
		root  slog.Level
		debug bool
		hclog hclog.Level
	}{{slog.LevelDebug, true, hclog.Debug}, {slog.LevelInfo, false, hclog.Info}, {slog.LevelWarn, false, hclog.Warn}, {slog.LevelError, false, hclog.Error}, {slog.LevelError + 1, false, hclog.Off}} {
		var buffer bytes.Buffer
		consul := Intercept(New(&buffer, Text, row.root)).Named("agent")
		consul.Debug("quiet please")
		if got := strings.Contains(buffer.String(), "quiet please"); got != row.debug {
			t.Errorf("root %s: debug line written: %t", row.root, got)
		}
		if got := consul.IsDebug(); got != row.debug {
			t.Errorf("root %s: IsDebug %t", row.root, got)
		}
		if got := consul.GetLevel(); got != row.hclog {
			t.Errorf("root %s: hclog level %s, want %s", row.root, got, row.hclog)
		}
	}
}

// collector is a further sink, as /v1/agent/monitor registers one.
type collector struct{ messages []string }

func (c *collector) Accept(_ string, _ hclog.Level, message string, _ ...any) {
	c.messages = append(c.messages, message)
}

func TestMonitorCanRegisterItsOwnSink(t *testing.T) {
	var buffer bytes.Buffer
	consul := Intercept(New(&buffer, Text, slog.LevelInfo))
	monitor := &collector{}
	consul.RegisterSink(monitor)
	consul.Named("sub").Debug("seen by the monitor alone")
	consul.DeregisterSink(monitor)
	consul.Info("seen by the stream alone")
	if len(monitor.messages) != 1 || monitor.messages[0] != "seen by the monitor alone" {
		t.Errorf("monitor saw %q", monitor.messages)
	}
	if text := buffer.String(); strings.Contains(text, "monitor alone") || !strings.Contains(text, "stream alone") {
		t.Errorf("stream: %s", text)
	}
}

func TestRedirectStandard(t *testing.T) {
	writer, flags, standard := log.Writer(), log.Flags(), slog.Default()
	t.Cleanup(func() { slog.SetDefault(standard); log.SetOutput(writer); log.SetFlags(flags) })
	var buffer bytes.Buffer
	RedirectStandard(New(&buffer, JSON, slog.LevelInfo))
	log.Print("[WARN] old habits")
	log.Print("plain")
	slog.Info("default")
	got := lines(t, &buffer)
	for i, want := range []string{"WARN old habits", "INFO plain", "INFO default"} {
		if text := got[i]["level"].(string) + " " + got[i]["msg"].(string); text != want || got[i]["component"] != "library" {
			t.Errorf("line %d: got %v, want %s", i, got[i], want)
		}
	}
}

func TestParseLevel(t *testing.T) {
	for name, want := range map[string]slog.Level{"trace": LevelTrace, "debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(name); err != nil || got != want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if _, err := ParseLevel("loud"); err == nil {
		t.Error("loud is no level")
	}
}
