package fsm

import (
	"context"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
	"pawl/transitions"
)

// cutOffVault is a Vault that cannot reach Consul, while we can.
type cutOffVault struct {
	*world
	from time.Time
}

func (v cutOffVault) RenewLease(ctx context.Context, of secret.Secret, lease string) (time.Duration, error) {
	if !v.from.IsZero() && time.Now().After(v.from) {
		return 0, failure.New(failure.Transient, failure.RemoteConsul, "renew the lease: status 400: connection refused")
	}
	return v.world.RenewLease(ctx, of, lease)
}

// TestConsulBehindVault: that Vault does not reach Consul says nothing of our own
// way there: the node is registered and read back, and stays ready.
func TestConsulBehindVault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		vault := cutOffVault{w, time.Now().Add(time.Minute)}
		r := launchPlanted(t, w, 8, func(o *Options) {
			o.Work = transitions.Table(transitions.Ports{Metadata: w, Vault: vault, Consul: w, Exporter: w}, o.Settings)
		}, func(*Machine) {})
		r.reaches(states.Serving, time.Minute)
		overdue := false
		for range 40 * 60 * 10 { // the lease lasts an hour
			r.pass(100 * time.Millisecond)
			snapshot := r.Snapshot()
			overdue = overdue || snapshot.State == states.Degraded
			if !snapshot.ReadyAt(time.Now()) {
				t.Fatalf("not ready in %s: %v", snapshot.State, snapshot.Reasons)
			}
		}
		if !overdue {
			t.Error("nothing was overdue")
		}
	})
}
