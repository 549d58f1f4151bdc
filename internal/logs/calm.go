package logs

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// An outage makes every library say the same thing again and again (faults.md
// F38). The first line of a kind is written at once, and then one in each
// summaryInterval, with how many were left out since.
const summaryInterval = 5 * time.Minute

// mostKinds bounds the memory of kinds; beyond it, all are forgotten, which
// costs a few lines and no more.
const mostKinds = 1000

// movedMessage is the machine's own line, one an arrow: never left out. An arrow
// of one of these events ends an outage: what is said after it is said anew.
const movedMessage = "moved"

var recoveries = map[string]bool{"recovered": true, "registered": true}

// stems are the beginnings of lines in which Consul's libraries tell of one thing,
// a connection that broke, in ever other words: they are one kind whatever follows.
// Whoever wanted the connection says what came of it, in a line of his own.
var stems = []struct{ begins, kind string }{
	{"yamux: ", "yamux"},
	{"[core][", "grpc"},
	{"RPC failed to server", "rpc"},
	{"Retrying RPC to server", "rpc"},
}

// calm is a handler that leaves out repetitions of warnings and errors, and of
// libraries' info. Time is the records' own.
type calm struct {
	slog.Handler
	// scope is the attributes that a line's kind depends on, given before the line.
	scope string
	kinds *kinds
}

// kinds is what all handlers of one stream remember together.
type kinds struct {
	lock sync.Mutex
	seen map[string]repetition
}

// repetition is when a kind was last written, and how often it was left out since.
type repetition struct {
	written time.Time
	left    int
}

func newCalm(handler slog.Handler) calm {
	return calm{Handler: handler, kinds: &kinds{seen: map[string]repetition{}}}
}

// Handle implements slog.Handler.
func (c calm) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == movedMessage && c.scope == "" {
		if recoveries[attribute(record, "event")] {
			c.kinds.forget()
		}
		return c.Handler.Handle(ctx, record)
	}
	if record.Level < slog.LevelInfo || record.Level < slog.LevelWarn && c.scope == "" {
		return c.Handler.Handle(ctx, record) // whoever asked for debug wants all of it; pawl's own info is rare
	}
	left, write := c.kinds.note(c.kind(record), record.Time)
	if !write {
		return nil
	}
	if left > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("left_out", left))
	}
	return c.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (c calm) WithAttrs(attributes []slog.Attr) slog.Handler {
	scope := c.scope
	for _, each := range attributes {
		if each.Key == componentKey || each.Key == subsystemKey {
			scope += each.Value.String() + " "
		}
	}
	return calm{c.Handler.WithAttrs(attributes), scope, c.kinds}
}

// WithGroup implements slog.Handler.
func (c calm) WithGroup(name string) slog.Handler {
	return calm{c.Handler.WithGroup(name), c.scope, c.kinds}
}

// kind is what makes two lines the same to a reader: whose they are, what they
// say, of which action or check, and what a person could do, whatever the numbers in them.
func (c calm) kind(record slog.Record) string {
	for _, stem := range stems {
		if c.scope != "" && strings.HasPrefix(record.Message, stem.begins) {
			return c.scope + stem.kind
		}
	}
	var text strings.Builder
	text.WriteString(c.scope)
	text.WriteString(record.Level.String())
	for _, part := range []string{record.Message, attribute(record, "action"), attribute(record, "class"), attribute(record, "fix"), attribute(record, "check"), attribute(record, "service")} {
		text.WriteByte(' ')
		text.WriteString(strings.Map(withoutDigits, part))
	}
	return text.String()
}

func withoutDigits(letter rune) rune {
	if letter >= '0' && letter <= '9' {
		return -1
	}
	return letter
}

func attribute(record slog.Record, key string) (value string) {
	record.Attrs(func(each slog.Attr) bool {
		if each.Key == key {
			value = each.Value.String()
		}
		return value == ""
	})
	return value
}

// note says whether a line of this kind is written now, and how many were not since the last one.
func (k *kinds) note(kind string, now time.Time) (left int, write bool) {
	k.lock.Lock()
	defer k.lock.Unlock()
	last, known := k.seen[kind]
	if known && now.Sub(last.written) < summaryInterval {
		last.left++
		k.seen[kind] = last
		return 0, false
	}
	if len(k.seen) >= mostKinds {
		clear(k.seen)
	}
	k.seen[kind] = repetition{written: now}
	return last.left, true
}

func (k *kinds) forget() {
	k.lock.Lock()
	defer k.lock.Unlock()
	clear(k.seen)
}
