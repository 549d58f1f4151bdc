package status

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pawl/fsm"
	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/internal/service"
	"pawl/states"
	"pawl/transitions"
)

const (
	probe  = 30 * time.Second
	canary = "cAnArY-"
)

// planted is a machine that serves, with a canary in every secret of it.
func planted(now time.Time) states.Held {
	planted := 0
	hide := func() secret.Secret { planted++; return secret.New(fmt.Sprintf("%s%d", canary, planted)) }
	life := func(id string) states.Life { return states.NewLife(id, now, time.Hour, 0) }
	epoch := func(number int, name string) states.Epoch {
		return states.Epoch{
			Number:      number,
			Vault:       states.VaultToken{Life: life("accessor-" + name), Token: hide(), ReattestAt: now.Add(24 * time.Hour)},
			Gossip:      states.GossipKey{Life: states.NewLife("3", now, 0, 0), Key: hide(), Previous: hide()},
			Certificate: states.Certificate{Life: life("serial-" + name), Chain: "chain", Key: hide()},
			Consul:      states.ConsulToken{Life: life("consul-" + name), Token: hide(), Lease: "lease"},
			Verified:    true,
		}
	}
	current := epoch(1, "1")
	seen := states.Sighting{}.SeenGood(now, "", 7)
	return states.Held{
		Identity: states.Identity{Node: "vm-1", NodeID: "id-1", Subject: "vm:id-1"},
		JWT:      states.JWT{Life: life("jti"), Text: hide()},
		Current:  current, Next: epoch(2, "2"), Former: []states.VaultToken{{Life: life("accessor-0"), Token: hide()}},
		Installed: current.Credentials(),
		Metadata:  seen, Vault: seen, Registration: seen, Exporter: seen, Agent: seen.SeenGood(now, current.Consul.ID, 7),
	}
}

// machineOf runs the house's machine over what is held, with no work to do,
// until it rests, and returns its snapshot and the moment of it.
func machineOf(t *testing.T, held func(now time.Time) states.Held) (snapshot *fsm.Snapshot, now time.Time) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		now = time.Now()
		machine, err := fsm.New(fsm.Options{
			Arrows: transitions.Arrows(), Held: held(now), Log: slog.New(slog.DiscardHandler),
			Settings: transitions.Settings{ProbeInterval: probe, Now: time.Now, Roll: func() float64 { return 0 }},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { machine.Run(ctx); close(done) }()
		synctest.Wait()
		snapshot = machine.Snapshot()
		cancel()
		<-done
	})
	return snapshot, now
}

func bare(time.Time) states.Held { return states.Held{} }

// sourceOf makes reports of one snapshot, as of a moment after it.
func sourceOf(snapshot *fsm.Snapshot, now time.Time) Source {
	return Source{
		About:    About{Version: "v1", Site: "lab", SiteHash: "abc", PID: 42, Started: now, Registers: true},
		Snapshot: func() *fsm.Snapshot { return snapshot },
		Services: func() []service.Status {
			return []service.Status{
				{Name: "node_exporter", Running: true, Since: now},
				{Name: "consul", Since: now, Restarts: 2, LastError: "serf: no route"},
			}
		},
		Now: func() time.Time { return now },
	}
}

func TestVerdict(t *testing.T) {
	rows := []struct {
		name     string
		state    states.State
		ready    bool
		standing []failure.Class
		want     Verdict
		exit     int
	}{
		{"serving", states.Serving, true, nil, VerdictReady, 0},
		{"renewing", states.Renewing, true, nil, VerdictReady, 0},
		{"serving, something fails beside it", states.Serving, true, []failure.Class{failure.Config}, VerdictReady, 0},
		{"serving, the read-back is stale: the loop does not turn", states.Serving, false, nil, VerdictBroken, 2},
		{"renewing, the read-back is stale", states.Renewing, false, nil, VerdictBroken, 2},
		{"bare", states.NoIdentity, false, nil, VerdictWaiting, 1},
		{"on the way up", states.VaultAuthed, false, nil, VerdictWaiting, 1},
		{"on the way up, Vault is down", states.HasJWT, false, []failure.Class{failure.Transient}, VerdictWaiting, 1},
		{"on the way up, refused once", states.HasJWT, false, []failure.Class{failure.AuthDead}, VerdictWaiting, 1},
		{"the role is missing", states.HasJWT, false, []failure.Class{failure.Transient, failure.Config}, VerdictBroken, 2},
		{"another VM's identity", states.NoIdentity, false, []failure.Class{failure.Identity}, VerdictBroken, 2},
		{"a port is taken", states.ConsulReady, false, []failure.Class{failure.Local}, VerdictBroken, 2},
		{"a bug of ours", states.ConsulReady, false, []failure.Class{failure.Bug}, VerdictBroken, 2},
		{"degraded, and still to be relied on", states.Degraded, true, nil, VerdictWaiting, 1},
		{"degraded, to be relied on, a role is missing", states.Degraded, true, []failure.Class{failure.Config}, VerdictWaiting, 1},
		{"degraded", states.Degraded, false, []failure.Class{failure.Transient}, VerdictWaiting, 1},
		{"degraded, somebody must act", states.Degraded, false, []failure.Class{failure.Config}, VerdictBroken, 2},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			snapshot := &fsm.Snapshot{State: row.state, Ready: row.ready, Actions: []fsm.Attempts{
				// Failures that do not stand any more count for nothing.
				{Action: transitions.Verify, LastClass: failure.Bug},
			}}
			for _, class := range row.standing {
				snapshot.Actions = append(snapshot.Actions, fsm.Attempts{Action: transitions.Login, LastClass: class, Standing: true})
			}
			got := verdict(snapshot)
			if got != row.want || got.Exit() != row.exit {
				t.Errorf("verdict %s, exit %d; want %s, %d", got, got.Exit(), row.want, row.exit)
			}
		})
	}
	if ExitNoAgent != 3 || Verdict("odd").Exit() != 2 {
		t.Error("no agent is 3, and what nobody knows is broken")
	}
}

// A report is ready by the moment it is asked for, not by that of the snapshot.
func TestReportGrowsStale(t *testing.T) {
	snapshot, now := machineOf(t, planted)
	if snapshot.State != states.Serving {
		t.Fatalf("the machine rests in %s: %+v", snapshot.State, snapshot.Reasons)
	}
	for after, want := range map[time.Duration]Verdict{0: VerdictReady, 2*probe - 1: VerdictReady, 2 * probe: VerdictBroken, time.Hour: VerdictBroken} {
		report := sourceOf(snapshot, now.Add(after)).Report()
		if report.Verdict != want || report.Ready != (want == VerdictReady) {
			t.Errorf("%s later: %s, ready %t; want %s", after, report.Verdict, report.Ready, want)
		}
	}
	if !snapshot.Ready {
		t.Error("a report wrote into the snapshot that all readers share")
	}
}

func TestDumpIsOneLineOfJSON(t *testing.T) {
	for name, held := range map[string]func(time.Time) states.Held{"bare": bare, "serving": planted} {
		snapshot, now := machineOf(t, held)
		source := sourceOf(snapshot, now)
		var out bytes.Buffer
		if err := source.Dump(&out); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.HasSuffix(text, "}\n") || strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "{") {
			t.Errorf("%s: the dump is not one line: %q", name, text)
		}
		var back Report
		decoder := json.NewDecoder(&out)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again)+"\n" != text {
			t.Errorf("%s: read back and written again it says\n%s, %v\nand not\n%s", name, again, err, text)
		}
		if back.Site != "lab" || back.State != snapshot.State || len(back.Evidence) != len(states.Things()) || len(back.Services) != 2 {
			t.Errorf("%s: %+v", name, back)
		}
	}
}

func TestDumpFailsLoudly(t *testing.T) {
	snapshot, now := machineOf(t, bare)
	if err := sourceOf(snapshot, now).Dump(brokenWriter{}); err == nil {
		t.Error("a dump that could not be written is no error")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, context.Canceled }

// Law 8: what is held goes through here on its way to people, and no secret of it comes out.
func TestNoSecretInAnyReport(t *testing.T) {
	snapshot, now := machineOf(t, planted)
	source := sourceOf(snapshot, now)
	report := source.Report()
	texts := map[string]string{}
	var out bytes.Buffer
	if err := source.Dump(&out); err != nil {
		t.Fatal(err)
	}
	texts["dump"] = out.String()
	out.Reset()
	if err := report.Human(&out, now); err != nil {
		t.Fatal(err)
	}
	texts["human"] = out.String()
	out.Reset()
	slog.New(slog.NewJSONHandler(&out, nil)).Info("report", "report", report, "snapshot", snapshot, "held", planted(now))
	slog.New(slog.NewTextHandler(&out, nil)).Info("report", "report", report, "snapshot", *snapshot, "held", planted(now))
	texts["logs"] = out.String()
	texts["formatted"] = fmt.Sprintf("%v %+v %#v %+v %+v", report, report, report, *snapshot, source)
	for how, text := range texts {
		if strings.Contains(text, canary) {
			t.Errorf("the %s holds a secret: %s", how, text)
		}
	}
	// The canaries were there to be found, and their public names are.
	if secrets := countSecrets(reflect.ValueOf(planted(now))); secrets != 12 {
		t.Errorf("%d secrets planted, want 12: plant one in each new field", secrets)
	}
	for _, public := range []string{"accessor-1", "serial-1", "consul-1", "jti"} {
		if !strings.Contains(texts["dump"], public) {
			t.Errorf("the dump does not name %s", public)
		}
	}
}

// countSecrets counts the planted secrets within v; one that was forgotten makes the count absurd.
func countSecrets(v reflect.Value) int {
	if held, is := v.Interface().(secret.Secret); is {
		if strings.Contains(held.Reveal(), canary) {
			return 1
		}
		return -1000
	}
	total := 0
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for _, field := range v.Fields() {
			total += countSecrets(field)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			total += countSecrets(v.Index(i))
		}
	}
	return total
}

func TestHuman(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { moment := now.Add(d); return &moment }
	// The first crash is too old to count; the clock was set back after the last one.
	crashes := []time.Time{*at(-25 * time.Hour), *at(-2 * time.Hour), *at(time.Second)}
	report := Report{About: About{Crashes: crashes}, Verdict: VerdictBroken, Snapshot: &fsm.Snapshot{
		State: states.Degraded, Since: now.Add(-90 * time.Second), Node: fsm.Node{Name: "vm-1"},
		Reasons: []states.Reason{
			{Name: "vault_unreachable", Since: now.Add(-75 * time.Second), Detail: "log in: no route"},
			{Name: "renewal_overdue", Since: now.Add(-time.Second), Under: "vault_unreachable"},
			{Name: "exporter_down"},
		},
		Actions: []fsm.Attempts{
			{Action: transitions.Login, LastClass: failure.Config, LastError: "log in: no role pawl", Fix: "make the role", Running: 4, Standing: true, NextAttempt: at(2500 * time.Millisecond)},
			{Action: transitions.Scrape, LastClass: failure.Local, LastError: "scrape: 500", Running: 1, Standing: true, NextAttempt: at(-time.Second)},
			{Action: transitions.Verify, LastClass: failure.Transient, LastError: "verify: was away once"},
		},
		Evidence: []fsm.Evidence{
			{Thing: states.ThingVault, Grade: states.Unseen, Expires: at(10 * time.Minute), Seen: at(-2 * time.Minute)},
			{Thing: states.ThingRegistration, Grade: states.Good, Seen: at(-300 * time.Millisecond)},
			{Thing: states.ThingJWT, Grade: states.Dead},
		},
	}, Services: []service.Status{{Name: "node_exporter", Running: true}, {Name: "consul", LastError: "bind: taken"}}}
	want := `vm-1: Degraded for 1m30s (broken)
  crashed 2 times within a day, last 0s ago
  reason  vault_unreachable for 1m15s: log in: no route
  reason  exporter_down
  failing log_in (config, 4 times, again in 2.5s): log in: no role pawl
  fix     make the role
  failing scrape_exporter (local, 1 times): scrape: 500
  unseen  vault_token, expires in 10m0s, seen 2m0s ago
  good    registration, seen 300ms ago
  dead    jwt
  up      service node_exporter
  down    service consul: bind: taken
`
	var out bytes.Buffer
	if err := report.Human(&out, now); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	snapshot, start := machineOf(t, bare)
	out.Reset()
	if err := sourceOf(snapshot, start).Report().Human(&out, start); err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(out.String(), "\n"); first != "(no identity yet): NoIdentity for 0s (waiting)" {
		t.Errorf("a bare machine says %q", first)
	}
	if err := report.Human(brokenWriter{}, now); err == nil {
		t.Error("a report that could not be written is no error")
	}
}
