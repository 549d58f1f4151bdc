// Command pawl is the agent of a VM: it takes a bare VM to a registered,
// monitored, credentialed node and keeps it there.
//
// This package owns flags, signals and exit codes, the wiring of everything, and
// the service table. It must import neither looplab nor backoff, nor Vault's or
// Consul's own packages.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"pawl/internal/site"
	"pawl/transitions"
)

// The exit codes that are pawl's own; `pawl status` adds those of its verdict.
const (
	exitFailed  = 1
	exitUsage   = 64 // EX_USAGE
	exitLocal   = 73 // EX_CANTCREAT: the runtime folder cannot be had, or another agent has it
	exitRestart = 75 // EX_TEMPFAIL: a fresh process may do better (law 1)
)

// version is set by the linker; `make build` gives it the commit.
var version = "development"

// exitCode is an error that only says how to exit; what there was to say was said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func main() {
	os.Exit(exit(command().Execute()))
}

// exit turns what a command returned into an exit code, saying why on stderr.
func exit(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "pawl:", err)
		return exitUsage
	default:
		fmt.Fprintln(os.Stderr, "pawl:", err)
		return exitFailed
	}
}

// errUsage marks an error in how pawl was called.
var errUsage = errors.New("see pawl --help")

func usage(err error) error { return fmt.Errorf("%w: %w", err, errUsage) }

// command returns the commands there are.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "pawl",
		Short:         "The agent of a VM: Vault login, Consul agent, node_exporter, renewal for ever",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(runCommand(), statusCommand(), siteCommand(), graphCommand(), versionCommand())
	return root
}

// noArguments refuses what a command would otherwise silently ignore.
func noArguments(cmd *cobra.Command, arguments []string) error {
	if len(arguments) > 0 {
		return usage(fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), arguments[0]))
	}
	return nil
}

func siteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "site", Short: "Print the site file that is compiled into this binary", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(site.Text())
			return err
		},
	}
}

func graphCommand() *cobra.Command {
	var dot bool
	graph := &cobra.Command{
		Use: "graph", Short: "Print the state diagram, derived from the arrow table", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			draw := transitions.Mermaid
			if dot {
				draw = transitions.Dot
			}
			_, err := cmd.OutOrStdout().Write([]byte(draw(transitions.Arrows())))
			return err
		},
	}
	graph.Flags().BoolVar(&dot, "dot", false, "in Graphviz's language instead of Mermaid's")
	return graph
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the versions of pawl and of what it embeds", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			constants, err := site.Baked()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "pawl %s, site %s (%s)\n", version, constants.Name, constants.Hash())
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("read build information: there is none in this binary")
			}
			for _, module := range info.Deps {
				if embedded[module.Path] {
					fmt.Fprintf(out, "%s %s\n", module.Path, module.Version)
				}
			}
			return nil
		},
	}
}

// embedded are the modules whose versions matter to whoever runs pawl.
var embedded = map[string]bool{
	"github.com/hashicorp/consul": true, "github.com/prometheus/node_exporter": true,
	"github.com/hashicorp/vault/api": true, "github.com/looplab/fsm": true, "github.com/cenkalti/backoff/v4": true,
}
