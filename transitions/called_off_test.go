package transitions

import (
	"context"
	"testing"

	"pawl/states"
)

// stoppingWorld is a world in which the machine is stopped while the exporter is
// asked, and which counts what is registered after that.
type stoppingWorld struct {
	*world
	stop       context.CancelFunc
	registered int
}

func (w *stoppingWorld) Scrape(ctx context.Context) error {
	w.stop()
	return exporterDown
}

func (w *stoppingWorld) Register(context.Context, error) error {
	w.registered++
	return nil
}

// TestCalledOff: a scrape that the stop of the machine cut off is not told to the
// servers as a critical check, and not to the process that comes next as an
// exporter that is down: SIGHUP would show as a flap (law 2).
func TestCalledOff(t *testing.T) {
	for _, action := range []Action{Register, Scrape} {
		t.Run(string(action), func(t *testing.T) {
			c, err := readWords("jwt vault gossip certificate consul verified agent registration:unseen exporter:unseen installed")
			if err != nil {
				t.Fatal(err)
			}
			held := c.held(0)
			ctx, stop := context.WithCancel(t.Context())
			w := &stoppingWorld{world: &world{answers: map[string]error{}}, stop: stop}
			settings := Settings{ProbeInterval: searchProbe, Now: clock, Roll: func() float64 { return 0.5 }}
			for _, row := range Table(Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings) {
				if row.Action != action {
					continue
				}
				after, err := row.Attempt(ctx, held, clock)
				if err == nil {
					t.Error("an attempt that was called off succeeded")
				}
				if after.Exporter != held.Exporter || after.Exporter.Evidence == states.Dead {
					t.Errorf("the exporter was %+v, is %+v", held.Exporter, after.Exporter)
				}
			}
			if w.registered > 0 {
				t.Errorf("it registered %d times", w.registered)
			}
		})
	}
}
