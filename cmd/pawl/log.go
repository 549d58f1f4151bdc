//go:build !record

package main

import (
	"log/slog"
	"os"

	"pawl/internal/logs"
)

// newLog returns the one log stream.
func newLog(level slog.Level) (*slog.Logger, error) {
	return logs.New(os.Stderr, logs.Text, level), nil
}
