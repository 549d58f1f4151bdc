package fsm

import (
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// TestExporterTold: what the exporter does is told to Consul while it is so, and is
// blamed on nobody else. One that took connections and never answered used up the
// time of the registration, and Consul was named as out of sight; and one that was
// back was passing for us, and critical in the catalogue for a probe_interval more.
func TestExporterTold(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(w *world, down bool)
	}{
		{"down", func(w *world, down bool) { w.exporterDown = down }},
		{"hangs", func(w *world, down bool) { w.hanging[failure.RemoteExporter] = down }},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				r := launch(t, w, 5)
				r.reaches(states.Serving, time.Minute)
				r.pass(time.Hour)
				w.set(func(w *world) { row.change(w, true) })
				r.pass(time.Minute)
				if !w.critical {
					t.Error("the catalogue was not told within a minute")
				}
				for range 10 * 60 {
					r.pass(time.Second)
					for _, reason := range r.Snapshot().Reasons {
						if reason.Name != "exporter_down" {
							t.Fatalf("%s is named too: %s", reason.Name, reason.Detail)
						}
					}
				}
				w.set(func(w *world) { row.change(w, false) })
				for range 60 * 10 {
					r.pass(100 * time.Millisecond)
					if r.Snapshot().ReadyAt(time.Now()) && w.critical {
						t.Fatal("ready, and critical in the catalogue")
					}
				}
				if !r.Snapshot().ReadyAt(time.Now()) {
					t.Error("not ready a minute after it was back")
				}
			})
		})
	}
}
