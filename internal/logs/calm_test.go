package logs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// stream writes records with times of their own to a new root logger.
type stream struct {
	text   strings.Builder
	logger *slog.Logger
	now    time.Time
}

func newStream() *stream {
	s := &stream{now: time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)}
	s.logger = New(&s.text, Text, slog.LevelInfo)
	return s
}

func (s *stream) say(logger *slog.Logger, level slog.Level, message string, attributes ...any) {
	record := slog.NewRecord(s.now, level, message, 0)
	record.Add(attributes...)
	_ = logger.Handler().Handle(context.Background(), record)
}

func (s *stream) lines() []string { return strings.Split(strings.TrimSpace(s.text.String()), "\n") }

// TestCalm: an hour of both servers away, as pawl and Consul's agent tell it,
// stays below a hundred lines, with the first cause and the recovery among them;
// and the next outage is told anew.
func TestCalm(t *testing.T) {
	s := newStream()
	consul := Component(s.logger, "consul")
	hour := func() {
		s.say(s.logger, slog.LevelWarn, "moved", "from", "Serving", "event", "broke", "to", "Degraded", "cause", "first cause")
		for second := range 3600 {
			s.now = s.now.Add(time.Second)
			switch {
			case second%8 == 0:
				s.say(s.logger, slog.LevelWarn, "failed", "action", "prove_token", "class", "transient", "error", fmt.Sprint("timeout ", second))
				s.say(s.logger, slog.LevelWarn, "failed", "action", "probe_vault", "class", "transient", "error", "refused")
				fallthrough
			case second%3 == 0:
				s.say(consul, slog.LevelError, "RPC failed to server", "method", "Coordinate.Update", "server", fmt.Sprint("10.0.0.", second%3))
				s.say(consul.With("subsystem", "router.manager"), slog.LevelWarn, "No servers available")
				s.say(consul, slog.LevelInfo, fmt.Sprintf("memberlist: Suspect consul-%d has failed, no acks received", second%3))
			}
		}
		s.say(s.logger, slog.LevelInfo, "moved", "from", "Degraded", "event", "recovered", "to", "Serving", "cause", "register")
	}
	hour()
	first := s.lines()
	if len(first) > 100 || !strings.Contains(first[0], "first cause") || !strings.Contains(first[len(first)-1], "event=recovered") {
		t.Errorf("an hour's outage wrote %d lines, from %s to %s", len(first), first[0], first[len(first)-1])
	}
	if !strings.Contains(first[1], "prove_token") || !strings.Contains(strings.Join(first, "\n"), "left_out=37") {
		t.Errorf("the causes are not told at once, or the rest is not counted:\n%s", strings.Join(first, "\n"))
	}
	s.text.Reset()
	hour()
	if second := s.lines(); len(second) != len(first) || !strings.Contains(second[1], "prove_token") {
		t.Errorf("the second outage wrote %d lines, the first %d", len(second), len(first))
	}
	t.Logf("%d lines for about %d said", len(first), 3600/8*2+3600/3*3)
}

// TestAnotherFix: a Vault that was away and came back sealed is of one class, and
// the line that says what a person must do now is not a repetition.
func TestAnotherFix(t *testing.T) {
	s := newStream()
	for _, fix := range []string{"", "unseal vault", "", "unseal vault"} {
		attributes := []any{"action", "probe_vault", "class", "transient"}
		if fix != "" {
			attributes = append(attributes, "fix", fix)
		}
		s.say(s.logger, slog.LevelWarn, "failed", attributes...)
	}
	if lines := s.lines(); len(lines) != 2 || !strings.Contains(lines[1], "unseal") {
		t.Errorf("wrote %q", lines)
	}
}

// TestNotCalm: arrows are never left out, nor is anything that whoever debugs asked for.
func TestNotCalm(t *testing.T) {
	var text strings.Builder
	logger := New(&text, Text, slog.LevelDebug)
	for range 50 {
		logger.Info("moved", "from", "Serving", "event", "due", "to", "Renewing")
		Component(logger, "consul").Debug("the same")
		logger.Info("handing over")
	}
	if lines := strings.Count(text.String(), "\n"); lines != 150 {
		t.Errorf("wrote %d lines of 150", lines)
	}
}

// TestOneThingInManyWords: what Consul's libraries say of connections that break,
// word for word from an outage, is one line for each of them; and what follows is counted.
func TestOneThingInManyWords(t *testing.T) {
	s := newStream()
	consul := Component(s.logger, "consul")
	client := consul.With("subsystem", "client")
	s.say(client, slog.LevelWarn, "Retrying RPC to server", "method", "Catalog.NodeServiceList", "error", "rpc error making call: stream closed")
	s.say(client, slog.LevelError, "RPC failed to server", "method", "Catalog.NodeServiceList", "error", "connection refused")
	s.say(consul, slog.LevelError, "failed to sync remote state", "error", "connection refused")
	s.say(consul, slog.LevelError, "yamux: Failed to read header: remote error: tls: expired certificate")
	s.say(consul, slog.LevelError, "yamux: Failed to write header: write tcp 127.0.2.1:52531->127.0.1.3:8300: write: broken pipe")
	s.say(consul, slog.LevelError, "yamux: Failed to write header: use of closed network connection")
	s.say(consul, slog.LevelWarn, "[core][Channel #1 SubChannel #5] grpc: addrConn.createTransport failed to connect to {Addr}. Err: error reading server preface")
	s.say(consul, slog.LevelWarn, "[core][Channel #1 SubChannel #7] grpc: addrConn.createTransport failed to connect to {Addr}. Err: operation was canceled")
	s.say(s.logger, slog.LevelError, "yamux: said by nobody's library")
	s.say(s.logger, slog.LevelError, "yamux: and by another")
	if lines := s.lines(); len(lines) != 6 {
		t.Errorf("wrote %d lines of 10:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	s.now = s.now.Add(summaryInterval)
	s.text.Reset()
	s.say(consul, slog.LevelError, "yamux: Failed to write header: use of closed network connection")
	if !strings.Contains(s.text.String(), "left_out=2") {
		t.Errorf("what was left out is not counted: %s", s.text.String())
	}
}
