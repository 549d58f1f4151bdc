package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"pawl/internal/site"
	"pawl/internal/status"
)

// statusTimeout bounds the question: the agent answers from memory.
const statusTimeout = 5 * time.Second

func statusCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Say how the agent of this VM is",
		Long:  "Say how the agent of this VM is.\nExit code: 0 ready, 1 on the way up or Degraded, 2 broken (a person must act), 3 no agent.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			constants, err := site.Baked()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			report, err := status.Fetch(ctx, status.SocketPath(constants))
			if errors.Is(err, status.ErrNoAgent) {
				fmt.Fprintf(os.Stderr, "pawl: %v\npawl: start it with `pawl run`, or look whether you may read its socket\n", err)
				return exitCode(status.ExitNoAgent)
			}
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				err = encoder.Encode(report)
			} else {
				err = report.Human(cmd.OutOrStdout(), time.Now())
			}
			if err != nil {
				return fmt.Errorf("print status: %w", err)
			}
			if code := report.Verdict.Exit(); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "the whole report as JSON, as SIGUSR1 dumps it")
	return command
}
