package fsm

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// FuzzMachine lives histories whose tapes the fuzzer writes. Go saves a failing
// one in testdata/fuzz/FuzzMachine, where it is a test from then on:
//
//	go test ./fsm -run '^$' -fuzz FuzzMachine -fuzztime 5m
//
// The files there now are a boot, outages, and histories that broke a law once.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		came := runHistory(bytes, false)
		if came.broken != nil {
			t.Errorf("%v\n%s", came.broken, strings.Join(runHistory(bytes, true).notes, "\n"))
		}
	})
}

// TestUmpireSees: each fault planted in the machine is seen by the law that
// forbids it, in a few hundred histories. An umpire that sees nothing proves nothing.
func TestUmpireSees(t *testing.T) {
	wrap := func(action transitions.Action, spoil func(states.Held) states.Held) func(*Options, *umpire) {
		return func(o *Options, _ *umpire) {
			for i, row := range o.Work {
				if row.Action == action {
					o.Work[i] = row.WithAttempt(func(ctx context.Context, held states.Held) (states.Held, error) {
						after, err := row.Attempt(ctx, held, o.Settings.Now)
						return spoil(after), err
					})
				}
			}
		}
	}
	for _, row := range []struct {
		name, law string
		plant     func(*Options, *umpire)
	}{
		{"an attempt uninstalls the agent's credentials", "what runs keeps running",
			wrap(transitions.Prove, func(h states.Held) states.Held { h.Installed = states.Installed{}; return h })},
		{"an attempt throws a live Vault token away", "nothing good is dropped",
			wrap(transitions.Scrape, func(h states.Held) states.Held { h.Current, h.Next = states.Epoch{}, states.Epoch{}; return h })},
		{"an attempt throws the certificate away", "make before break",
			wrap(transitions.Register, func(h states.Held) states.Held { h.Current.Certificate = states.Certificate{}; return h })},
		{"an attempt forgets whom to revoke", "nothing good is",
			wrap(transitions.Install, func(h states.Held) states.Held { h.Former = nil; return h })},
		{"an attempt throws the JWT away", "nothing good is dropped",
			wrap(transitions.Verify, func(h states.Held) states.Held { h.JWT = states.JWT{}; return h })},
		{"an attempt changes who we are", "identity is fixed",
			wrap(transitions.Register, func(h states.Held) states.Held { h.Identity.NodeID += "x"; return h })},
		{"no failure is remembered", "patience", func(o *Options, u *umpire) {
			turned := o.Refresh
			o.Refresh = func(h states.Held) {
				turned(h)
				clear(u.machine.retries.of)
			}
		}},
		{"an arrow is missing", "landing", func(o *Options, _ *umpire) {
			o.Arrows = slices.DeleteFunc(o.Arrows, func(arrow transitions.Arrow) bool {
				return arrow.Event == transitions.ConsulDead && arrow.From == states.Degraded
			})
		}},
		{"a need is never met by its success", "no spin", func(o *Options, _ *umpire) {
			row := transitions.Work{Action: "useless", Deadline: time.Second, Needs: func(states.Held, time.Time) bool { return true }}
			o.Work = append([]transitions.Work{row.WithAttempt(func(_ context.Context, h states.Held) (states.Held, error) { return h, nil })}, o.Work...)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for number := range uint64(3000) {
				if came := runPlanted(randomTape(1, number), false, row.plant); came.broken != nil {
					if !strings.Contains(came.broken.Error(), row.law) {
						t.Errorf("seen as %v, want it as %q", came.broken, row.law)
					}
					return
				}
			}
			t.Error("not seen in 3,000 histories")
		})
	}
}

// A far end's Retry-After outlives the minute of Serving that clears counters: it
// was forgotten once, where the work had become needless meanwhile.
func TestCalmKeepsRetryAfter(t *testing.T) {
	asked := failure.New(failure.Transient, failure.RemoteVault, "busy (429)")
	asked.RetryAfter = 2 * time.Minute
	retries, row := newRetries(), transitions.Work{Action: transitions.RenewLease}
	retries.get(row.Action).failed(historyBegins, asked, 0.5)
	retries.clear(row.Action)
	if at := retries.ready(row); !at.Equal(historyBegins.Add(2 * time.Minute)) {
		t.Errorf("after a calm it is tried at %s, want when the far end asked for", at.Sub(historyBegins))
	}
	if attempts := retries.get(row.Action).attempts; attempts != 0 {
		t.Errorf("%d attempts are still counted", attempts)
	}
}
