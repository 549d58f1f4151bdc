package fsm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

const bootWalk = "NoIdentity HasJWT VaultAuthed ConsulReady Serving"

// bubble runs a test of the loop in virtual time.
func bubble(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

// TestBoot: the first attempts are immediate, so that boot costs only the answers.
func TestBoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 1)
		if took := r.reaches(states.Serving, time.Minute); took > 200*time.Millisecond {
			t.Errorf("boot took %s of virtual time, more than its answers", took)
		}
		if got := r.walk(); got != bootWalk {
			t.Errorf("walked %s", got)
		}
		if w.logins != 1 || !r.Snapshot().Ready {
			t.Errorf("%d logins, ready %v", w.logins, r.Snapshot().Ready)
		}
		held := r.end()
		if held.Current.Vault.Token.Reveal() != "vault-1" {
			t.Error("Run did not return what is held")
		}
	})
}

// TestFourDays: four days of Serving with the production TTLs. The machine logs in
// about once in sixteen hours, renews in between, never leaves the top rung and
// revokes every former epoch.
func TestFourDays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 2)
		r.reaches(states.Serving, time.Minute)
		for range 4 * 24 {
			r.pass(time.Hour)
			if state := r.Snapshot().State; state != states.Serving && state != states.Renewing {
				t.Fatalf("in %s", state)
			}
			if !w.live(w.consulTokens[w.agentToken()]) {
				t.Fatal("the agent runs with a dead Consul token")
			}
		}
		if w.logins < 6 || w.logins > 9 {
			t.Errorf("%d logins in 4 days, want one in 12 to 16 hours", w.logins)
		}
		if w.renewals < 10*w.logins {
			t.Errorf("%d renewals for %d logins", w.renewals, w.logins)
		}
		held := r.end()
		if len(held.Former) != 0 || w.revoked != w.logins-1 {
			t.Errorf("%d of %d logins revoked, %d waiting", w.revoked, w.logins, len(held.Former))
		}
	})
}

// outage takes something down for a while and demands that all comes back by
// itself while nothing that runs is touched.
type outage struct {
	name   string
	down   func(*world, bool)
	length time.Duration
	// passes names states that must be passed through while it lasts.
	passes []states.State
	// back is how soon the machine must be Serving again.
	back time.Duration
}

func TestOutages(t *testing.T) {
	vault := func(w *world, down bool) { w.vaultDown = down }
	for _, row := range []outage{
		{"vault, shorter than the TTL", vault, 20 * time.Minute, nil, 15 * time.Second},
		{"vault, longer than the TTL", vault, 3 * time.Hour, []states.State{states.Degraded, states.HasJWT}, 15 * time.Second},
		{"vault, a day", vault, 24 * time.Hour, []states.State{states.Degraded, states.HasJWT}, 15 * time.Second},
		{"consul, a minute", func(w *world, down bool) { w.consulDown = down }, time.Minute, []states.State{states.Degraded}, 15 * time.Second},
		{"consul, a day", func(w *world, down bool) { w.consulDown = down }, 24 * time.Hour, []states.State{states.Degraded}, 15 * time.Second},
		{"exporter", func(w *world, down bool) { w.exporterDown = down }, time.Hour, []states.State{states.Degraded}, 45 * time.Second},
		{"metadata, a day", func(w *world, down bool) { w.metadataDown = down }, 24 * time.Hour, []states.State{states.Degraded}, 15 * time.Second},
		{"everything, a day", func(w *world, down bool) {
			w.metadataDown, w.vaultDown, w.consulDown = down, down, down
		}, 24 * time.Hour, []states.State{states.Degraded, states.NoIdentity}, 30 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				r := launch(t, w, 3)
				r.reaches(states.Serving, time.Minute)
				r.pass(time.Hour)
				seen := map[states.State]bool{}
				w.set(func(w *world) { row.down(w, true) })
				for began := time.Now(); time.Since(began) < row.length; {
					r.pass(time.Second)
					snapshot := r.Snapshot()
					seen[snapshot.State] = true
					if snapshot.State == states.Degraded && len(states.Roots(snapshot.Reasons)) == 0 {
						t.Fatal("Degraded without a reason")
					}
				}
				for _, state := range row.passes {
					if !seen[state] {
						t.Errorf("did not pass through %s; saw %v", state, seen)
					}
				}
				if w.agentToken() == "" || !w.registered {
					t.Error("what ran was taken away")
				}
				w.set(func(w *world) { row.down(w, false) })
				took := r.reaches(states.Serving, row.back)
				t.Logf("back in %s", took)
				r.pass(10 * time.Minute)
				if r.Snapshot().State != states.Serving || !r.Snapshot().Ready {
					t.Errorf("ten minutes later in %s, ready %v", r.Snapshot().State, r.Snapshot().Ready)
				}
				if held := r.end(); len(held.Former) != 0 {
					t.Errorf("%d former tokens not revoked", len(held.Former))
				}
			})
		})
	}
}

// TestBootInOutage: nothing is up when the machine boots; each far end that
// comes takes it one rung further, and no call is made oftener than backoff allows.
func TestBootInOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.metadataDown, w.vaultDown, w.consulDown = true, true, true
		r := launch(t, w, 4)
		r.pass(30 * time.Minute)
		if state := r.Snapshot().State; state != states.NoIdentity {
			t.Fatalf("in %s", state)
		}
		if w.calls > 30*60/5+20 {
			t.Errorf("%d calls in half an hour: it spins", w.calls)
		}
		w.set(func(w *world) { w.metadataDown = false })
		r.reaches(states.HasJWT, 15*time.Second)
		w.set(func(w *world) { w.vaultDown = false })
		r.reaches(states.VaultAuthed, 15*time.Second)
		w.set(func(w *world) { w.consulDown = false })
		r.reaches(states.Serving, 30*time.Second)
		r.end()
	})
}

// TestConfigIsSlow: what a person must mend is asked slowly, said once with its
// fix, and noticed within the limit once mended.
func TestConfigIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.roleMissing = true
		r := launch(t, w, 5)
		r.pass(time.Hour)
		standing := r.Snapshot().Standing()
		if len(standing) != 1 || standing[0].LastClass != failure.Config || standing[0].Fix != "write the role" {
			t.Fatalf("standing failures %+v", standing)
		}
		if standing[0].Failed > 90 {
			t.Errorf("%d attempts in an hour", standing[0].Failed)
		}
		if lines := strings.Count(r.logged(), "role missing"); lines > 12 {
			t.Errorf("%d log lines for one cause", lines)
		}
		w.set(func(w *world) { w.roleMissing = false })
		r.reaches(states.Serving, 80*time.Second)
		r.end()
	})
}

// TestRevokedOutside: somebody revokes our Vault token and with it the Consul
// token. It is noticed within a probe, and replaced at once; the agent is never
// stopped.
func TestRevokedOutside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 6)
		r.reaches(states.Serving, time.Minute)
		r.pass(10 * time.Minute)
		w.set(func(w *world) { w.tokens["vault-1"].revoked = true })
		began := time.Now()
		for !w.live(w.consulTokens[w.agentToken()]) {
			r.pass(100 * time.Millisecond)
			if time.Since(began) > probe+5*time.Second {
				t.Fatalf("no valid Consul token after %s", time.Since(began))
			}
		}
		r.reaches(states.Serving, 5*time.Second)
		if !slices.ContainsFunc(r.Snapshot().Moves, func(m Move) bool { return m.Event == transitions.ConsulDead }) {
			t.Errorf("walked %s", r.walk())
		}
		r.end()
	})
}

// TestOtherIdentity: a later JWT that names another VM is refused as class identity.
func TestOtherIdentity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 7)
		r.reaches(states.Serving, time.Minute)
		w.set(func(w *world) { w.node = "vm-2" })
		r.pass(17 * time.Hour)
		standing := r.Snapshot().Standing()
		if len(standing) != 1 || standing[0].LastClass != failure.Identity {
			t.Fatalf("standing failures %+v", standing)
		}
		if r.Snapshot().Node.Name != "vm-1" || !r.Snapshot().Ready {
			t.Errorf("is %+v, ready %v: the identity changed under a running agent", r.Snapshot().Node, r.Snapshot().Ready)
		}
		r.end()
	})
}

// TestGivenUp: the result of an attempt that was given up is a transient failure
// of its far end, and a late answer changes nothing.
func TestGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		row := transitions.Work{Action: "wait", Remote: failure.RemoteVault, Deadline: time.Second,
			Needs: func(states.Held, time.Time) bool { return true }}
		calls := 0
		row = row.WithAttempt(func(_ context.Context, held states.Held) (states.Held, error) {
			if calls++; calls > 1 {
				return held, failure.New(failure.Config, failure.RemoteVault, "not again")
			}
			<-release
			return states.Held{Identity: states.Identity{Node: "late"}}, nil
		})
		r := launchWith(t, newWorld(t), 1, []transitions.Work{row})
		r.pass(500 * time.Millisecond)
		if flight := r.Snapshot().InFlight; flight == nil || flight.Action != "wait" {
			t.Errorf("in flight: %+v", flight)
		}
		r.pass(2700 * time.Millisecond)
		action := r.Snapshot().Actions[0]
		if action.Failed != 1 || action.LastClass != failure.Transient || !strings.Contains(action.LastError, "no answer within") {
			t.Errorf("the attempt came to %+v", action)
		}
		close(release)
		synctest.Wait()
		if r.Snapshot().Node.Name == "late" {
			t.Error("a late answer was taken")
		}
		r.end()
	})
}

// TestSuccessDoesNotSpin: an action that succeeds and is still needed is not
// made again at once, or one wrong row would burn a processor and a Vault.
func TestSuccessDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		row := transitions.Work{Action: "useless", Remote: failure.RemoteVault, Deadline: time.Second,
			Needs: func(states.Held, time.Time) bool { return true }}
		row = row.WithAttempt(func(_ context.Context, held states.Held) (states.Held, error) { calls++; return held, nil })
		r := launchWith(t, newWorld(t), 1, []transitions.Work{row})
		r.pass(time.Minute)
		r.end()
		if calls > 61 {
			t.Errorf("%d attempts in a minute", calls)
		}
	})
}

// TestPanic: a panic in an action is a failure of class bug, and the machine goes on.
func TestPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.panics = true
		r := launch(t, w, 8)
		r.reaches(states.Serving, time.Minute)
		if !strings.Contains(r.logged(), "class=bug") || !strings.Contains(r.logged(), "planted") {
			t.Errorf("log: %s", r.logged())
		}
		r.end()
	})
}

// TestNewsInFlight: news that comes while an attempt is under way is not undone
// by the attempt's older view.
func TestNewsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 9)
		r.reaches(states.Serving, time.Minute)
		w.set(func(w *world) { w.latency, w.exporterDown = time.Second, true })
		r.pass(probe + 500*time.Millisecond) // a probe is on its way, and knows of a good exporter
		if r.Snapshot().InFlight == nil {
			t.Fatal("no probe in flight")
		}
		r.Tell(transitions.ExporterStopped("planted"))
		synctest.Wait()
		if state := r.Snapshot().State; state != states.Degraded {
			t.Fatalf("in %s", state)
		}
		r.pass(700 * time.Millisecond) // the probe of the token is back
		if state := r.Snapshot().State; state != states.Degraded {
			t.Errorf("in %s: the result undid the news", state)
		}
		r.end()
	})
}

// TestStopInFlight: a login that is under way at SIGTERM comes home, so that its token can be revoked.
func TestStopInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.latency = 100 * time.Millisecond
		r := launch(t, w, 10)
		r.reaches(states.HasJWT, time.Minute)
		r.stop()
		held := <-r.landed
		if w.logins == 1 && held.Current.Vault.Token.Empty() {
			t.Error("a granted token was lost")
		}
	})
}

// TestReadersNeverWait: readers and news from many goroutines, under the race detector.
func TestReadersNeverWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := launch(t, w, 11)
		var readers sync.WaitGroup
		for i := range 8 {
			readers.Go(func() {
				for j := range 50 {
					r.Tell(transitions.ServiceNews(fmt.Sprint("news-", i), "planted"))
					if _, err := json.Marshal(r.Snapshot()); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(j) * time.Millisecond)
				}
			})
		}
		readers.Wait()
		r.reaches(states.Serving, time.Minute)
		r.end()
	})
}

// TestHistory: the last 64 moves are kept, in order, and the count of all.
func TestHistory(t *testing.T) {
	var h history
	for i := range 200 {
		h = h.with(Move{Cause: fmt.Sprint(i)})
	}
	if len(h) != historyLength || h[0].Cause != "136" || h[63].Cause != "199" {
		t.Errorf("kept %d, from %s to %s", len(h), h[0].Cause, h[len(h)-1].Cause)
	}
}

// TestMovedOnce: one line an arrow, with from, event, to and cause.
func TestMovedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := launch(t, newWorld(t), 12)
		r.reaches(states.Serving, time.Minute)
		r.end()
		lines := strings.Split(strings.TrimSpace(r.logged()), "\n")
		if len(lines) != 4 {
			t.Fatalf("a boot wrote %d lines:\n%s", len(lines), r.logged())
		}
		for i, want := range []string{
			"msg=moved from=NoIdentity event=identified to=HasJWT cause=fetch_jwt",
			"msg=moved from=HasJWT event=logged_in to=VaultAuthed cause=log_in",
			"msg=moved from=VaultAuthed event=joined to=ConsulReady cause=install_credentials",
			"msg=moved from=ConsulReady event=registered to=Serving cause=register",
		} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d: %s\n  want %s", i, lines[i], want)
			}
		}
	})
}
