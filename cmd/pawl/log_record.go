//go:build record

package main

import (
	"fmt"
	"log/slog"
	"os"

	"pawl/internal/logs"
)

// recordVariable names the file that the lab's variant of the agent, and no other,
// records its log in, with all that was left out of it.
const recordVariable = "PAWL_LAB_RECORD"

// newLog returns the one log stream, and has it recorded.
func newLog(level slog.Level) (*slog.Logger, error) {
	raw, err := os.OpenFile(os.Getenv(recordVariable), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file that %s names: %w", recordVariable, err)
	}
	return logs.Recorded(os.Stderr, logs.Text, level, raw), nil
}
