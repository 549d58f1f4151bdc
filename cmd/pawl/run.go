package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"pawl/fsm"
	"pawl/internal/clock"
	"pawl/internal/logs"
	"pawl/internal/metadata"
	"pawl/internal/service"
	"pawl/internal/site"
	"pawl/internal/status"
	"pawl/internal/vault"
	"pawl/states"
	"pawl/transitions"
)

// The one runtime setting (design.md 1).
const (
	registerFlag     = "register-node-exporter"
	registerVariable = "PAWL_REGISTER_NODE_EXPORTER"
)

// notifyVariable is where a service manager says where it listens.
const notifyVariable = "NOTIFY_SOCKET"

// environment is what every part is made from.
type environment struct {
	site      site.Site
	log       *slog.Logger
	registers bool
	// notify is the service manager's socket (sd_notify(3)), empty where there is none.
	notify string
}

func runCommand() *cobra.Command {
	var register bool
	command := &cobra.Command{
		Use: "run", Short: "Run the agent", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			registers, err := registerSetting(cmd.Flags().Changed(registerFlag), register, os.Getenv(registerVariable))
			if err != nil {
				return usage(err)
			}
			constants, err := site.Baked()
			if err != nil {
				return fmt.Errorf("read the baked site: %w", err)
			}
			level, err := logs.ParseLevel(constants.LogLevel)
			if err != nil {
				return err
			}
			log, err := newLog(level)
			if err != nil {
				return err
			}
			return run(environment{site: constants, log: log, registers: registers})
		},
	}
	command.Flags().BoolVar(&register, registerFlag, true, "register node_exporter in Consul (environment: "+registerVariable+")")
	return command
}

// registerSetting reads the one runtime setting: the flag wins over the variable.
func registerSetting(flagGiven, flag bool, variable string) (bool, error) {
	if flagGiven || variable == "" {
		return flag, nil
	}
	registers, err := strconv.ParseBool(variable)
	if err != nil {
		return false, fmt.Errorf("read %s: %q is neither true nor false", registerVariable, variable)
	}
	return registers, nil
}

// run wires everything, top to bottom, and runs it until SIGTERM.
func run(of environment) error {
	started := time.Now()
	received := listen()               // first of all
	executable, err := os.Executable() // now: an upgrade replaces the file that runs
	if err != nil {
		return fmt.Errorf("find our own executable: %w", err)
	}
	// Out of the environment: Consul would tell the service manager that it is ready.
	of.notify = os.Getenv(notifyVariable)
	_ = os.Unsetenv(notifyVariable)
	lock, err := hold(of.site.RuntimeFolder)
	if err != nil {
		of.log.Error("cannot run", "error", err)
		return exitCode(exitLocal)
	}
	defer lock.Close() // and so the lock lives as long as the process
	logs.RedirectStandard(of.log)
	seed := rand.Uint64()
	of.log.Debug("starting", "version", version, "site", of.site.Name, "site_hash", of.site.Hash(), "seed", seed)
	tellReason(of.site.RuntimeFolder, of.log)
	if os.Getenv(inheritance) != "" {
		lock.vanished = 0 // it executed us in its place, on purpose
	}
	crashes := tellCrashes(of.site.RuntimeFolder, lock.vanished, started, of.log)
	for _, warning := range of.site.Warnings(started) {
		of.log.Warn("site", "warning", warning)
	}

	vaultClient, err := vault.New(of.site)
	if err != nil {
		return fmt.Errorf("make the vault client: %w", err)
	}
	var machine *fsm.Machine
	var supervisor *service.Supervisor
	source := status.Source{
		About: status.About{Version: version, Site: of.site.Name, SiteHash: of.site.Hash(),
			PID: os.Getpid(), Started: started, Registers: of.registers, Crashes: crashes},
		Snapshot: func() *fsm.Snapshot { return machine.Snapshot() },
		Services: func() []service.Status { return supervisor.Status() },
		Now:      time.Now,
	}
	services := newServices(of, source)
	held, listener, leave := inherit(of)
	if leave {
		received.ends <- syscall.SIGTERM
	}
	if listener != nil {
		services.exporter.Inherit(listener)
	}

	metadataClient := metadata.NewClient(of.site.Metadata)
	corrected := &clock.Clock{}
	metadataClient.UseClock(corrected)
	vaultClient.UseClock(corrected)
	settings := transitions.Settings{FleetSize: of.site.FleetSize, ProbeInterval: of.site.ProbeInterval, Now: time.Now, Roll: newDice(seed), ClockAhead: corrected.Ahead}
	machine, err = fsm.New(fsm.Options{
		Arrows: transitions.Arrows(),
		Work: transitions.Table(transitions.Ports{
			Metadata: metadataClient, Vault: vaultClient,
			Consul: services.consul, Exporter: services.exporter,
		}, settings),
		Settings: settings,
		Held:     held,
		Log:      of.log,
		Refresh:  func(held states.Held) { supervisor.Refresh(held) },
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	supervisor, err = supervise(of.log, serviceTable(services), machine, ended)
	if err != nil {
		return err
	}

	return (&process{
		environment: of, executable: executable, lock: lock, machine: machine, supervisor: supervisor,
		services: services, tokens: vaultClient, source: source, signals: received, fatal: ended,
		restored: held.Current.Number > 0,
	}).live()
}

// supervise builds the supervisor of the service table and tells the machine what happens to the services.
func supervise(log *slog.Logger, table []serviceRow, machine *fsm.Machine, fatal chan<- error) (*service.Supervisor, error) {
	list := make([]service.Service, 0, len(table))
	rows := map[string]serviceRow{}
	for _, row := range table {
		list = append(list, row.service)
		rows[row.service.Name()] = row
	}
	return service.NewSupervisor(list, log, func(news service.News) {
		row := rows[news.Service]
		switch news.Kind {
		case service.Failed, service.Panicked, service.GaveUp:
			machine.Tell(row.stopped(fmt.Sprintf("%s %s: %v", news.Service, news.Kind, news.Err)))
		default:
			return
		}
		// The first failure is followed by restarts; it is those that are counted.
		if news.Kind == service.GaveUp || row.restarts > 0 && news.Recent > row.restarts {
			select {
			case fatal <- fmt.Errorf("service %s: %w", news.Service, news.Err):
			default: // one reason to end is enough
			}
		}
	})
}

// newDice returns dice that can be thrown again from the printed seed. Safe from
// any goroutine: an attempt that was given up may still throw.
func newDice(seed uint64) func() float64 {
	var lock sync.Mutex
	source := rand.New(rand.NewPCG(seed, 0))
	return func() float64 {
		lock.Lock()
		defer lock.Unlock()
		return source.Float64()
	}
}
