package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestReasonIsKept: the reason of exit 75 is there for the next process, and for
// each after it, until one is told to stop.
func TestReasonIsKept(t *testing.T) {
	folder := t.TempDir()
	told := func() string {
		var text strings.Builder
		tellReason(folder, slog.New(slog.NewTextHandler(&text, nil)))
		return text.String()
	}
	if got := told(); got != "" {
		t.Errorf("nobody gave up, and it says %s", got)
	}
	why := errors.Join(errors.New("service consul: agent died"), errors.New("twice"))
	if err := keepReason(folder, why, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := told(); !strings.Contains(got, `level=WARN msg="a process before gave up" error="2026-01-02T03:04:05Z service consul: agent died; twice"`) {
			t.Errorf("told %q", got)
		}
	}
	for range 2 {
		if err := forget(folder, gaveUpName); err != nil {
			t.Error(err)
		}
	}
	if got := told(); got != "" {
		t.Errorf("after a stop it says %s", got)
	}
	if err := keepReason(folder+"/gone", why, time.Now()); err == nil {
		t.Error("a folder that is not there keeps nothing")
	}
}
