package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// gaveUpName is the file in the runtime folder that keeps why a process gave up,
// until one was told to stop: whoever comes hours later, and finds a log that has
// been rotated away, still reads what the trouble was (faults.md F16).
const gaveUpName = "gave-up"

// keepReason writes why this process gives up for the next one, and for people.
func keepReason(folder string, why error, now time.Time) error {
	line := fmt.Sprintf("%s %s\n", now.UTC().Format(time.RFC3339), strings.ReplaceAll(fmt.Sprint(why), "\n", "; "))
	if err := os.WriteFile(filepath.Join(folder, gaveUpName), []byte(line), 0o600); err != nil {
		return fmt.Errorf("keep why we give up: %w", err)
	}
	return nil
}

// tellReason says why a process before this one gave up.
func tellReason(folder string, log *slog.Logger) {
	line, err := os.ReadFile(filepath.Join(folder, gaveUpName))
	switch {
	case err == nil:
		log.Warn("a process before gave up", "error", strings.TrimSpace(string(line)))
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("cannot read why a process before gave up", "error", err)
	}
}

// forget removes a file of the runtime folder that tells of processes before,
// which need not be there. It is for a process that was told to stop.
func forget(folder, name string) error {
	if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was before: %w", err)
	}
	return nil
}
