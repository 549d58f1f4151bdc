package logs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recording is a real outage as the handler was handed it: testdata/outage.jsonl,
// whose first line says how it was collected.
type recording struct {
	injected, healed time.Time
	said             []saying
}

// saying is one line that somebody wanted to write.
type saying struct {
	at        time.Time
	level     slog.Level
	message   string
	component string
	rest      []slog.Attr
}

func readRecording(t *testing.T) recording {
	t.Helper()
	file, err := os.Open("testdata/outage.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var read recording
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	moment := func(fields map[string]any, name string) time.Time {
		t.Helper()
		text, _ := fields[name].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for lines.Scan() {
		var fields map[string]any
		if err := json.Unmarshal(lines.Bytes(), &fields); err != nil {
			t.Fatal(err)
		}
		if read.injected.IsZero() {
			read.injected, read.healed = moment(fields, "injected"), moment(fields, "healed")
			continue
		}
		one := saying{at: moment(fields, "time")}
		if err := one.level.UnmarshalText([]byte(fields["level"].(string))); err != nil {
			t.Fatal(err)
		}
		one.message, _ = fields["msg"].(string)
		one.component, _ = fields[componentKey].(string)
		for _, taken := range []string{"time", "level", "msg", componentKey} {
			delete(fields, taken)
		}
		for key, value := range fields {
			one.rest = append(one.rest, slog.Any(key, value))
		}
		read.said = append(read.said, one)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return read
}

// between returns what was said from one moment to another.
func (r recording) between(from, to time.Time) []saying {
	return slices.DeleteFunc(slices.Clone(r.said), func(one saying) bool { return one.at.Before(from) || !one.at.Before(to) })
}

// lasting returns the recording with an outage that lasts for so long: what was
// said from its third minute on, when all is as it stays, is said again and again.
func (r recording) lasting(length time.Duration) recording {
	steady := r.injected.Add(2 * time.Minute)
	longer := recording{injected: r.injected, healed: r.injected.Add(length), said: r.between(r.injected, steady)}
	again, period := r.between(steady, r.healed), r.healed.Sub(steady)
	for later := time.Duration(0); steady.Add(later).Before(longer.healed); later += period {
		for _, one := range again {
			if one.at = one.at.Add(later); one.at.Before(longer.healed) {
				longer.said = append(longer.said, one)
			}
		}
	}
	for _, one := range r.between(r.healed, r.healed.Add(time.Hour)) {
		one.at = one.at.Add(longer.healed.Sub(r.healed))
		longer.said = append(longer.said, one)
	}
	return longer
}

// play says it all again to a new log, at its own pace, and returns what was written.
func (r recording) play(t *testing.T) (written []string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var text bytes.Buffer
		root := New(&text, Text, slog.LevelInfo)
		began := time.Now()
		for _, one := range r.said {
			time.Sleep(one.at.Sub(r.injected) - time.Since(began))
			logger := root
			if one.component != "" {
				logger = Component(root, one.component)
			}
			record := slog.NewRecord(time.Now(), one.level, one.message, 0)
			record.AddAttrs(one.rest...)
			_ = logger.Handler().Handle(context.Background(), record)
		}
		written = strings.Split(strings.TrimSpace(text.String()), "\n")
	})
	return written
}

// TestRecordedOutage: what Vault and Consul being away for ten minutes really made
// pawl, and Consul in it, say, comes to 30 lines at most; and an hour of it to 100.
// The first cause and the recovery are always among them.
func TestRecordedOutage(t *testing.T) {
	collected := readRecording(t)
	if lasted := collected.healed.Sub(collected.injected); lasted < 10*time.Minute {
		t.Fatalf("the recorded outage lasted for %s", lasted)
	}
	for _, row := range []struct {
		length time.Duration
		most   int
	}{{collected.healed.Sub(collected.injected), 30}, {time.Hour, 100}} {
		played := collected.lasting(row.length)
		written := played.play(t)
		t.Logf("%s of outage: %d lines written of %d", row.length.Round(time.Second), len(written), len(played.said))
		if len(written) > row.most {
			t.Errorf("%s wrote %d lines, not at most %d:\n%s", row.length, len(written), row.most, strings.Join(written, "\n"))
		}
		cause, back := first(played.said, "broke"), first(played.said, "recovered", "registered")
		for what, line := range map[string]saying{"first cause": cause, "recovery": back} {
			wanted := []string{"msg=moved", "time=" + bubble(line.at.Sub(collected.injected)), "event=" + line.attribute("event")}
			if !slices.ContainsFunc(written, func(line string) bool {
				return !slices.ContainsFunc(wanted, func(word string) bool { return !strings.Contains(line, word) })
			}) {
				t.Errorf("%s: the %s is not among\n%s", row.length, what, strings.Join(written, "\n"))
			}
		}
		if back.at.Before(played.healed) || cause.at.After(played.injected.Add(time.Minute)) {
			t.Errorf("%s: the cause came after %s, the recovery %s before the end", row.length, cause.at.Sub(played.injected), played.healed.Sub(back.at))
		}
		for _, line := range written {
			if strings.Contains(line, "event=broke") && !strings.Contains(line, "cause=") {
				t.Errorf("no cause in %s", line)
			}
		}
	}
}

// first returns the first move by one of the events.
func first(said []saying, events ...string) saying {
	for _, one := range said {
		if one.message == movedMessage && slices.Contains(events, one.attribute("event")) {
			return one
		}
	}
	return saying{}
}

func (s saying) attribute(key string) string {
	for _, each := range s.rest {
		if each.Key == key {
			return each.Value.String()
		}
	}
	return ""
}

// bubble is how the log writes the time so long after the beginning of a bubble.
func bubble(after time.Duration) string {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(after).Format("2006-01-02T15:04:05.000")
}
