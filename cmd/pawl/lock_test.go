package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestHold: one agent a runtime folder. A second one took the hand-over of the
// first for its own, and at its end revoked what the first one ran with.
func TestHold(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "run")
	first, err := hold(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold(folder); err == nil || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second agent was told: %v", err)
	}
	_ = first.Close()
	again, err := hold(folder)
	if err != nil {
		t.Errorf("after the first one ended: %v", err)
	}
	_ = again.Close()
}

// TestVanished: who takes the folder knows whether the one before it was told to end.
func TestVanished(t *testing.T) {
	folder := t.TempDir()
	vanished := func(prepare func(*lock)) int {
		held, err := hold(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		prepare(held)
		return held.vanished
	}
	own := os.Getpid()
	for i, one := range []struct {
		want    int
		prepare func(*lock)
	}{
		{0, func(*lock) {}},                 // the first one ever; it ends by itself
		{own, (*lock).told},                 // this one is told to
		{0, func(*lock) {}},                 // so it is no crash
		{own, func(l *lock) { l.say("") }},  // nothing is known
		{0, func(l *lock) { l.say("odd") }}, // what is written there is nobody's pid
		{0, func(*lock) {}},
	} {
		if got := vanished(one.prepare); got != one.want {
			t.Errorf("%d: %d vanished, want %d", i, got, one.want)
		}
	}
}

// TestHoldRefuses: a folder that cannot be had is refused with its name, the reason
// and what to do (faults.md F36).
func TestHoldRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Root may give its folder away; nobody else owns the root folder.
	foreign := "/"
	if os.Geteuid() == 0 {
		foreign = t.TempDir()
		if err := os.Chown(foreign, 64646, -1); err != nil {
			t.Fatal(err)
		}
	}
	locked := t.TempDir()
	if err := os.Mkdir(filepath.Join(locked, lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct{ folder, why, fix string }{
		{filepath.Join(file, "run"), "not a directory", "RuntimeDirectory="},
		{file, "not a directory", "RuntimeDirectory="},
		{foreign, "belongs to uid", "as the folder's owner"},
		{locked, "is a directory", "RuntimeDirectory="},
	} {
		_, err := hold(one.folder)
		if err == nil || !strings.Contains(err.Error(), one.folder) || !strings.Contains(err.Error(), one.why) || !strings.Contains(err.Error(), one.fix) {
			t.Errorf("%s is refused with %v, want %q and %q", one.folder, err, one.why, one.fix)
		}
	}
	if entries, err := os.ReadDir(foreign); err == nil && foreign != "/" && len(entries) > 0 {
		t.Errorf("it left something in a foreign folder: %v", entries)
	}
}
