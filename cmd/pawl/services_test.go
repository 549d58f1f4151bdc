package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pawl/fsm"
	"pawl/internal/service"
	"pawl/internal/service/watchdog"
	"pawl/states"
	"pawl/transitions"
)

// shipper is a new embedded service, such as a log shipper would be: all that
// its package must hold. It also wants to know what the machine holds.
type shipper struct {
	fail chan error
	told chan states.Held
}

func (s shipper) Name() string { return "shipper" }

func (s shipper) Serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.fail:
		return err
	}
}

func (s shipper) Refresh(held states.Held) {
	select {
	case s.told <- held:
	default:
	}
}

// TestOnePackageOneRow: a new embedded service is one package and one row in the
// service table. Nothing else had to change for it to be started, told of what is
// held, restarted when it fails, shown in the status, and stopped.
func TestOnePackageOneRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := shipper{fail: make(chan error), told: make(chan states.Held, 1)}
		table := []serviceRow{{service: of, stopped: noRung("shipper")}} // the row
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		settings := transitions.Settings{ProbeInterval: time.Minute, Now: time.Now, Roll: func() float64 { return 0.5 }}
		var supervisor *service.Supervisor
		machine, err := fsm.New(fsm.Options{Arrows: transitions.Arrows(), Settings: settings, Log: log,
			Refresh: func(held states.Held) { supervisor.Refresh(held) }})
		if err != nil {
			t.Fatal(err)
		}
		supervisor, err = supervise(log, table, machine, make(chan error, 1))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped, landed := make(chan error, 1), make(chan states.Held, 1)
		go func() { stopped <- supervisor.Serve(ctx) }()
		go func() { landed <- machine.Run(ctx) }()
		<-of.told
		of.fail <- errors.New("planted")
		synctest.Wait()
		status := supervisor.Status()
		if len(status) != 1 || !status[0].Running || status[0].Restarts != 1 || status[0].LastError != "planted" {
			t.Errorf("status %+v", status)
		}
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		<-landed
	})
}

// TestExit75: the embedded agent's third failed restart within ten minutes ends
// the process, with the reason kept; that of a service without such a row never does.
func TestExit75(t *testing.T) {
	for _, row := range []struct {
		restarts int
		want     bool
	}{{3, true}, {0, false}} {
		synctest.Test(t, func(t *testing.T) {
			of := shipper{fail: make(chan error)}
			log := slog.New(slog.NewTextHandler(io.Discard, nil))
			machine, err := fsm.New(fsm.Options{Arrows: transitions.Arrows(), Log: log, Settings: transitions.Settings{Now: time.Now}})
			if err != nil {
				t.Fatal(err)
			}
			fatal := make(chan error, 1)
			supervisor, err := supervise(log, []serviceRow{{service: of, stopped: transitions.AgentStopped, restarts: row.restarts}}, machine, fatal)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			stopped := make(chan error, 1)
			go func() { stopped <- supervisor.Serve(ctx) }()
			for failures := 1; failures <= 4; failures++ {
				of.fail <- errors.New("planted")
				synctest.Wait()
				if got := len(fatal) > 0; got != (row.want && failures == 4) {
					t.Errorf("restarts %d: fatal %v after %d failures", row.restarts, got, failures)
				}
			}
			cancel()
			<-stopped
		})
	}
}

// TestServiceTable: the rungs' services have their news, and Consul stops first,
// since its check needs the exporter until the node has left.
func TestServiceTable(t *testing.T) {
	var names []string
	for _, row := range serviceTable(embeddedServices{}) {
		names = append(names, row.service.Name())
		if news := row.stopped("planted"); news.Cause != "planted" || news.Name == "" {
			t.Errorf("%s: news %+v", row.service.Name(), news)
		}
	}
	if !slices.Equal(names, []string{"watchdog", "handover", "status", "node_exporter", "consul"}) {
		t.Errorf("service table: %v", names)
	}
}

// TestRegisterSetting: the one runtime setting, flag before variable.
func TestRegisterSetting(t *testing.T) {
	for _, row := range []struct {
		given, flag bool
		variable    string
		want, fails bool
	}{
		{false, true, "", true, false},
		{false, true, "false", false, false},
		{false, true, "0", false, false},
		{true, true, "false", true, false},
		{true, false, "true", false, false},
		{false, true, "nein", false, true},
	} {
		got, err := registerSetting(row.given, row.flag, row.variable)
		if (err != nil) != row.fails || err == nil && got != row.want {
			t.Errorf("%+v: got %v, %v", row, got, err)
		}
	}
}

// TestMachineThatHangs: what the machine calls on its own goroutine never comes
// back, and a minute later the process is ended for another to take its place,
// while the other services still run (faults.md F22).
func TestMachineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stacks strings.Builder
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		dog := watchdog.New(log, &stacks, "")
		other := shipper{fail: make(chan error), told: make(chan states.Held, 1)}
		table := []serviceRow{{service: dog, stopped: noRung("watchdog")}, {service: other, stopped: noRung("shipper")}}
		settings := transitions.Settings{ProbeInterval: time.Minute, Now: time.Now, Roll: func() float64 { return 0.5 }}
		var supervisor *service.Supervisor
		hang := make(chan struct{})
		turns := 0
		machine, err := fsm.New(fsm.Options{Arrows: transitions.Arrows(), Settings: settings, Log: log, Refresh: func(held states.Held) {
			supervisor.Refresh(held)
			if turns++; turns > 3 {
				<-hang
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		fatal := make(chan error, 1)
		supervisor, err = supervise(log, table, machine, fatal)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped, landed := make(chan error, 1), make(chan states.Held, 1)
		began := time.Now()
		go func() { stopped <- supervisor.Serve(ctx) }()
		go func() { landed <- machine.Run(ctx) }()
		err = <-fatal
		// Three turns of at most 12 s, then the minute.
		if took := time.Since(began); !errors.Is(err, service.ErrFatal) || took < time.Minute || took > 2*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
		if !strings.Contains(stacks.String(), "TestMachineThatHangs") || !strings.Contains(stacks.String(), "(*Machine).turn") {
			t.Errorf("the stacks do not show where it hangs: %.300s", stacks.String())
		}
		if status := supervisor.Status(); status[0].Running || !status[1].Running {
			t.Errorf("status %+v", status)
		}
		close(hang)
		cancel()
		<-stopped
		<-landed
	})
}
