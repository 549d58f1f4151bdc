package service

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// slow takes its time to stop and writes down when it did.
type slow struct {
	name string
	end  func(string)
}

func (s slow) Name() string { return s.name }

func (s slow) Serve(ctx context.Context) error {
	<-ctx.Done()
	time.Sleep(4 * time.Second) // virtual: Consul's leave takes as long
	s.end(s.name)
	return nil
}

// TestStopOrder: the last service stops first, and the one before it serves until
// then. Stopped side by side, the exporter went away while Consul was still
// leaving, and the node's check turned critical at every reboot.
func TestStopOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []string
		end := func(name string) { ended = append(ended, name) }
		supervisor, err := NewSupervisor([]Service{slow{"first", end}, slow{"second", end}}, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- supervisor.Serve(ctx) }()
		synctest.Wait()
		cancel()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if status := supervisor.Status(); !status[0].Running || status[1].Running {
			t.Errorf("after five seconds: %+v", status)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if !slices.Equal(ended, []string{"second", "first"}) {
			t.Errorf("stopped in the order %v", ended)
		}
	})
}
