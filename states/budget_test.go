package states

import (
	"testing"
	"time"
)

// budgeted is an epoch whose Vault token ends for good after 20 hours.
func budgeted() Held {
	vault := VaultToken{Life: NewLife("vault", both, time.Hour, 0), Ends: both.Add(20 * time.Hour)}
	return Held{Current: Epoch{
		Number: 1, Vault: vault,
		Gossip:      GossipKey{Life: NewLife("v1", both, 0, 0)},
		Certificate: Certificate{Life: NewLife("serial", both, 24*time.Hour, 0)},
		Consul:      ConsulToken{Life: NewLife("accessor", both, 50*time.Minute, 0)},
	}}
}

// TestBudget: how long the agent survives with Vault gone is the first end of what
// only Vault renews; with Consul gone it renews on, until what only a server can be
// shown a successor of ends for good.
func TestBudget(t *testing.T) {
	rows := []struct {
		name          string
		change        func(*Held)
		now           time.Time
		vault, consul time.Duration
	}{
		{"fresh", func(*Held) {}, both, 50 * time.Minute, 20 * time.Hour},
		{"half an hour later", func(*Held) {}, both.Add(30 * time.Minute), 20 * time.Minute, 19*time.Hour + 30*time.Minute},
		{"past the first end", func(*Held) {}, both.Add(55 * time.Minute), 0, 19*time.Hour + 5*time.Minute},
		{"the certificate ends first", func(h *Held) { h.Current.Certificate.Life = NewLife("serial", both, time.Minute, 0) }, both, time.Minute, time.Minute},
		{"no end of the Vault token is known", func(h *Held) { h.Current.Vault.Ends = time.Time{} }, both, 50 * time.Minute, time.Hour},
		{"the lease has met its maximum", func(h *Held) { h.Current.Consul.RenewAt = time.Time{} }, both, 50 * time.Minute, 50 * time.Minute},
		{"nothing is held", func(h *Held) { *h = Held{} }, both, 0, 0},
		{"a candidate is no comfort", func(h *Held) { h.Next, h.Current = h.Current, Epoch{} }, both, 0, 0},
		{"not all of it is held", func(h *Held) { h.Current.Gossip = GossipKey{} }, both, 0, 0},
		{"the Vault token was refused", func(h *Held) { h.Current.Vault.Refused = true }, both, 0, 0},
		{"the Consul token was refused", func(h *Held) { h.Current.Consul.Refused = true }, both, 0, 0},
		{"the certificate was refused", func(h *Held) { h.Current.Certificate.Refused = true }, both, 0, 0},
		// The certificate is of before the sleep, all else of after it: by the monotonic
		// clock it seems to last longest.
		{"slept for 23.5 hours, then renewed", func(h *Held) {
			awake := withMonotonic(both.Add(23*time.Hour+30*time.Minute), -23*time.Hour-30*time.Minute)
			h.Current.Vault = VaultToken{Life: NewLife("vault", awake, time.Hour, 0), Ends: awake.Add(20 * time.Hour)}
			h.Current.Consul.Life = NewLife("accessor", awake, 50*time.Minute, 0)
		}, withMonotonic(both.Add(23*time.Hour+30*time.Minute), -23*time.Hour-30*time.Minute), 30 * time.Minute, 30 * time.Minute},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			held := budgeted()
			row.change(&held)
			if vault, consul := held.Budget(row.now); vault != row.vault || consul != row.consul {
				t.Errorf("with Vault gone %s, with Consul gone %s; want %s and %s", vault, consul, row.vault, row.consul)
			}
		})
	}
}
