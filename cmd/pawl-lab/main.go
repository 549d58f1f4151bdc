// Command pawl-lab drives the lab: the real Vault, the stock Consul, the JWT
// service and a small DNS server, on loopback, as an ordinary user and without
// Docker. It owns the lab's folder and its processes. It must never import
// hashicorp/consul itself, looplab/fsm or any room of the machine: the servers
// are processes of their own, as they are at a real site.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes, the same for every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64
)

const usage = `usage:
  pawl-lab up [--dir DIR] [--ca DIR] [--ttl 20s] [--servers 1|3] [--vms N]
                              run the lab in the foreground; Ctrl-C ends it
  pawl-lab demo [--until-serving] [the flags of up]
                              lab and agent together, until Ctrl-C or until it serves
  pawl-lab demo --outage [--outage-length D] [the flags of up]
                              then Vault down past a TTL and back, then Consul
  pawl-lab bench-boot [--boots 10] [the flags of up]
                              boot the agent over and over: exec to passing at Consul
  pawl-lab chaos [--only NAME[,NAME]] [--long] [--at-once N] [--list] [--ca DIR]
                              make every fault of a table for a running agent, and
                              print how it came through; as root N at once. --long:
                              those too that last for five and for ten minutes
  pawl-lab soak [--rotations 200] [--for DURATION] [--seed N] [the flags of up]
                              rotate and rotate while Vault and Consul are killed
  pawl-lab start NAME...      start what was stopped or killed; it has its data
  pawl-lab stop NAME...       SIGTERM, and wait for the end
  pawl-lab kill NAME...       SIGKILL, and wait for the end
  pawl-lab pause NAME...      SIGSTOP: it holds its sockets and answers nobody
  pawl-lab resume NAME...     SIGCONT, and wait until it answers
  pawl-lab seal | unseal      seal or unseal Vault
  pawl-lab dns NAME ADDR[,ADDR] | dns NAME none
                              change what the lab's DNS server answers
  pawl-lab status [--json]    what runs
  pawl-lab site --out FILE [--dir DIR]
                              write the lab's site file; make its CA in DIR (.lab-ca) once
NAME: vault, consul (the same as consul-1), consul-2, consul-3, metadata, dns
Every command but site takes --dir DIR, the lab's folder (.lab).
`

// defaultFolder is the lab's, where --dir says nothing.
const defaultFolder = ".lab"

// usageError is a mistake in the command line, not in the lab.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func main() {
	cleanEnvironment()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole command line. It returns the exit code.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, arguments, stdout, stderr)
	var mistake usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &mistake):
		fmt.Fprintf(stderr, "pawl-lab: %s\n%s", mistake.text, usage)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "pawl-lab: %v\n", err)
		return exitFailed
	}
}

func dispatch(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	if len(arguments) == 0 {
		return usageError{"a command is missing"}
	}
	command, rest := arguments[0], arguments[1:]
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	folder := defaultFolder
	if command == "site" {
		folder = ".lab-ca"
	}
	flags.StringVar(&folder, "dir", folder, "")
	switch command {
	case "up":
		o := newUpOptions(flags, stdout, stderr)
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		o.folder = folder
		if err := o.check(); err != nil {
			return err
		}
		return up(ctx, *o)
	case "demo":
		var o demoOptions
		lab := newUpOptions(flags, stdout, stderr)
		flags.BoolVar(&o.untilServing, "until-serving", false, "")
		flags.BoolVar(&o.outage, "outage", false, "")
		flags.DurationVar(&o.outageLength, "outage-length", 0, "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		lab.folder = folder
		o.up = *lab
		if err := o.check(); err != nil {
			return err
		}
		return demo(ctx, o)
	case "bench-boot":
		var o benchOptions
		lab := newUpOptions(flags, stdout, stderr)
		flags.IntVar(&o.boots, "boots", 10, "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		lab.folder = folder
		o.up = *lab
		if err := o.check(); err != nil {
			return err
		}
		return bench(ctx, o)
	case "chaos":
		o := chaosOptions{up: upOptions{stdout: stdout, stderr: stderr}}
		only := flags.String("only", "", "")
		flags.StringVar(&o.up.authority, "ca", ".lab-ca", "")
		flags.IntVar(&o.atOnce, "at-once", defaultAtOnce, "")
		flags.StringVar(&o.results, "results", "", "")
		flags.BoolVar(&o.list, "list", false, "")
		flags.BoolVar(&o.long, "long", false, "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		if *only != "" {
			o.only = strings.Split(*only, ",")
		}
		o.up.folder = folder
		return chaos(ctx, o)
	case "soak":
		var o soakOptions
		lab := newUpOptions(flags, stdout, stderr)
		flags.IntVar(&o.rotations, "rotations", 0, "")
		flags.DurationVar(&o.length, "for", 0, "")
		flags.Uint64Var(&o.seed, "seed", 0, "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		lab.folder = folder
		o.up = *lab
		return soak(ctx, o)
	case "site":
		out := flags.String("out", "", "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		if *out == "" {
			return usageError{"site needs --out FILE"}
		}
		return writeSite(*out, folder, time.Now())
	case "status":
		asJSON := flags.Bool("json", false, "")
		if err := parseNoNames(flags, rest); err != nil {
			return err
		}
		return printStatus(ctx, folder, *asJSON, stdout)
	case "start", "stop", "kill", "pause", "resume", "seal", "unseal", "dns":
		names, err := parse(flags, rest)
		if err != nil {
			return err
		}
		if wants := (command != "seal" && command != "unseal"); wants != (len(names) > 0) || command == "dns" && len(names) != 2 {
			return usageError{fmt.Sprintf("%s with %d names", command, len(names))}
		}
		return ask(ctx, folder, order{Command: command, Names: names})
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	default:
		return usageError{fmt.Sprintf("no command %q", command)}
	}
}

// newUpOptions declares the flags of `up`, which every command that runs a lab
// has; they are filled in when flags is parsed.
func newUpOptions(flags *flag.FlagSet, stdout, stderr io.Writer) *upOptions {
	o := &upOptions{stdout: stdout, stderr: stderr}
	flags.StringVar(&o.authority, "ca", ".lab-ca", "")
	flags.DurationVar(&o.ttl, "ttl", 0, "")
	flags.IntVar(&o.servers, "servers", 1, "")
	flags.IntVar(&o.vms, "vms", 1, "")
	return o
}

// parse reads flags before, between and after the names.
func parse(flags *flag.FlagSet, arguments []string) ([]string, error) {
	var names []string
	for {
		if err := flags.Parse(arguments); err != nil {
			return nil, usageError{err.Error()}
		}
		if flags.NArg() == 0 {
			return names, nil
		}
		names = append(names, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
}

func parseNoNames(flags *flag.FlagSet, arguments []string) error {
	names, err := parse(flags, arguments)
	if err == nil && len(names) > 0 {
		return usageError{fmt.Sprintf("%s takes no %q", flags.Name(), names[0])}
	}
	return err
}

// cleanEnvironment forgets what would turn the clients of Vault and Consul away
// from the lab: another site's address, token or proxy.
func cleanEnvironment() {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		upper := strings.ToUpper(name)
		if strings.HasPrefix(upper, "VAULT_") || strings.HasPrefix(upper, "CONSUL_") || strings.HasSuffix(upper, "_PROXY") {
			_ = os.Unsetenv(name)
		}
	}
}
