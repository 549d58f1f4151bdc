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
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hold(filepath.Join(file, "run")); err == nil || !strings.Contains(err.Error(), "RuntimeDirectory") {
		t.Errorf("an impossible folder gave: %v", err)
	}
}
