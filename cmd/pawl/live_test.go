package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/transitions"
)

// script writes a program that a SIGHUP would hand over to.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// waiting returns what a process hears that would hand over to path, and how it ends.
func waiting(path string) (signals, <-chan end) {
	heard := signals{ends: make(chan os.Signal, 2), asks: make(chan os.Signal, 8)}
	p := &process{environment: environment{log: slog.New(slog.DiscardHandler)}, executable: path, signals: heard}
	ended := make(chan end, 1)
	go func() {
		how, _ := p.wait()
		ended <- how
	}()
	return heard, ended
}

// TestStopDuringTrial: SIGTERM is answered at once while a successor is tried that
// hangs. It waited for the end of the trial, up to ten seconds of the ten it has.
func TestStopDuringTrial(t *testing.T) {
	folder := t.TempDir()
	path, began := filepath.Join(folder, "pawl"), filepath.Join(folder, "began")
	script(t, path, "mkfifo "+began+".fifo; : > "+began+"; read line < "+began+".fifo")
	heard, ended := waiting(path)
	heard.asks <- syscall.SIGHUP
	awaitFile(t, began)
	heard.ends <- syscall.SIGTERM
	select {
	case how := <-ended:
		if how != endLeave {
			t.Errorf("it ended by %d, want a leave", how)
		}
	case <-time.After(trialTimeout / 2):
		t.Error("SIGTERM waits for the trial")
	}
}

// TestTrialAgain: a SIGHUP that comes while a bad successor is tried is for the good
// one that has taken its place meanwhile.
func TestTrialAgain(t *testing.T) {
	folder := t.TempDir()
	path, began := filepath.Join(folder, "pawl"), filepath.Join(folder, "began")
	script(t, path, "mkfifo "+began+".fifo; : > "+began+"; read line < "+began+".fifo; exit 1")
	heard, ended := waiting(path)
	heard.asks <- syscall.SIGHUP
	awaitFile(t, began)
	script(t, path, "exit 0")
	heard.asks <- syscall.SIGHUP
	if err := os.WriteFile(began+".fifo", []byte("go on\n"), 0); err != nil {
		t.Fatal(err)
	}
	select {
	case how := <-ended:
		if how != endSucceed {
			t.Errorf("it ended by %d, want a hand-over", how)
		}
	case <-time.After(trialTimeout):
		t.Error("the second SIGHUP was lost")
	}
}

// TestTrialLeavesAChild: a trial is over although a child of its own holds its
// output open. It was waited for as long as that lived.
func TestTrialLeavesAChild(t *testing.T) {
	folder := t.TempDir()
	path, began := filepath.Join(folder, "pawl"), filepath.Join(folder, "began")
	script(t, path, "mkfifo "+began+".fifo; (read line < "+began+".fifo) & : > "+began+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	tried := make(chan error, 1)
	go func() { tried <- try(ctx, path) }()
	awaitFile(t, began)
	cancel()
	select {
	case err := <-tried:
		if err == nil {
			t.Error("a trial that was given up is no success")
		}
	case <-time.After(5 * outputTimeout):
		t.Error("it waits for the child")
	}
	_ = os.WriteFile(began+".fifo", []byte("end\n"), 0) // and so the child ends
}

// awaitFile waits until there is such a file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("%s never came", path)
		}
	}
}

// TestDoubted: only an identity that is another's now keeps a process from revoking
// what it holds: not one that was in doubt, and not any other failure.
func TestDoubted(t *testing.T) {
	identity := fsm.Attempts{Action: transitions.FetchJWT, Standing: true, LastClass: failure.Identity, LastError: "another uuid"}
	over, other, own := identity, identity, identity
	over.Standing, other.LastClass, own.Action = false, failure.Config, transitions.Verify
	for _, row := range []struct {
		actions []fsm.Attempts
		want    string
	}{
		{nil, ""},
		{[]fsm.Attempts{over, other, own}, ""},
		{[]fsm.Attempts{other, identity}, "another uuid"},
	} {
		if got := doubted(&fsm.Snapshot{Actions: row.actions}); got != row.want {
			t.Errorf("after %+v it doubts with %q, want %q", row.actions, got, row.want)
		}
	}
}
