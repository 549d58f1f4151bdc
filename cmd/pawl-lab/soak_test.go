package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSoakOptions(t *testing.T) {
	full := soakOptions{}.filled()
	if full.up.ttl != soakTTL || full.rotations != soakRotations || full.seed == 0 {
		t.Errorf("nothing asked for: %+v", full)
	}
	if got := (soakOptions{length: 2 * time.Minute}).filled(); got.rotations != 3 {
		t.Errorf("two minutes of TTLs of %s demand %d rotations", got.up.ttl, got.rotations)
	}
	if got := (soakOptions{length: time.Second, seed: 5}).filled(); got.rotations != 1 || got.seed != 5 {
		t.Errorf("a second: %+v", got)
	}
	if got := (soakOptions{rotations: 7, length: time.Hour}).filled(); got.rotations != 7 {
		t.Errorf("what is asked for counts: %+v", got)
	}
}

func TestParseSeries(t *testing.T) {
	var page strings.Builder
	page.WriteString("# HELP go_goroutines Number.\ngo_goroutines_total 5\nnode_load1 0.5\n")
	for n, name := range sampled {
		fmt.Fprintf(&page, "%s %d.5e+01\n", name, n+1)
	}
	found, err := parseSeries(strings.NewReader(page.String()))
	if err != nil || len(found) != len(sampled) || found[sampled[1]] != 25 {
		t.Errorf("got %v, %v", found, err)
	}
	for _, bad := range []string{"", "go_goroutines x\n"} {
		if _, err := parseSeries(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestNote: a credential counts when a server answered the agent under the token
// that it has, and a first one has replaced nothing.
func TestNote(t *testing.T) {
	now := time.Unix(1000, 0)
	answer := func(generation int, grade, under string) soakStatus {
		var s soakStatus
		s.PID = 7
		for _, each := range []struct{ thing, grade, id, under string }{
			{"jwt", "good", fmt.Sprintf("jwt-%d", generation), ""},
			{"vault_token", "good", fmt.Sprintf("vault-%d", generation), ""},
			{"consul_token", "good", fmt.Sprintf("consul-%d", generation), ""},
			{"certificate", "good", fmt.Sprintf("serial-%d", generation), ""},
			{"agent", grade, "", under},
		} {
			s.Evidence = append(s.Evidence, struct {
				Thing string `json:"thing"`
				Grade string `json:"grade"`
				ID    string `json:"id"`
				Under string `json:"under"`
			}{each.thing, each.grade, each.id, each.under})
		}
		return s
	}
	seen := newSoakSeen(1, 4)
	for generation := range 5 {
		seen.listed[fmt.Sprintf("consul-%d", generation)] = true
	}
	for _, one := range []struct {
		answer soakStatus
		want   int
	}{
		{soakStatus{PID: 7}, 0},
		{answer(1, "good", "consul-1"), 0},
		{answer(2, "good", "consul-1"), 0}, // seen under the former token
		{answer(2, "unseen", "consul-2"), 0},
		{answer(2, "good", "consul-2"), 1},
		{answer(2, "good", "consul-2"), 1},
		{answer(3, "good", "consul-3"), 2},
	} {
		seen.note(one.answer, now)
		if got := seen.rotations(); got != one.want {
			t.Errorf("%d rotations, want %d, after %+v", got, one.want, one.answer)
		}
	}
	if !seen.warm.IsZero() {
		t.Error("warm too soon")
	}
	if long := newSoakSeen(1, 200); long.warmUp != 40 {
		t.Errorf("of 200 rotations %d are the warm-up", long.warmUp)
	}
	seen.note(answer(4, "good", "consul-4"), now)
	if !seen.warm.Equal(now) || len(seen.pids) != 1 {
		t.Errorf("after %d rotations: %+v", seen.rotations(), seen)
	}
	// A token that Consul does not list is none.
	if seen.note(answer(5, "good", "consul-5"), now); seen.rotations() != 3 {
		t.Errorf("%d rotations with a token that Consul never had", seen.rotations())
	}
	seen.listed["consul-5"] = true
	if seen.rotations() != 4 {
		t.Errorf("%d rotations", seen.rotations())
	}
	// A certificate that stayed is one that was not rotated.
	seen.listed["consul-6"] = true
	stayed := answer(6, "good", "consul-6")
	stayed.Evidence[3].ID = "serial-5"
	if seen.note(stayed, now); seen.rotations() != 4 {
		t.Errorf("%d rotations although a certificate stayed", seen.rotations())
	}
}

func TestTokenBack(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1000+int64(seconds), 0) }
	seen := newSoakSeen(1, 4)
	for second, works := range []bool{true, true, false, false, true, true, true, false, true, false} {
		seen.hasToken(works, at(second))
	}
	for _, one := range []struct {
		from, until int
		want        time.Duration
	}{
		{0, 1, 0}, // never without
		{3, 5, time.Second},
		{5, 6, 0},                 // had it all the while
		{3, 8, 5 * time.Second},   // and lost it again
		{8, 20, 12 * time.Second}, // and has it no more
	} {
		if got := seen.tokenBack(at(one.from), at(one.until)); got != one.want {
			t.Errorf("from %d to %d: %s, want %s", one.from, one.until, got, one.want)
		}
	}
}

func TestAccount(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	silent := errors.New("connection refused")
	seen := newSoakSeen(1, 4)
	seen.down = []window{{at(10), at(20)}, {from: at(40)}}
	for _, one := range []look{
		{from: at(0), present: true, passing: true},
		{from: at(2), present: true}, // ill for three seconds
		{from: at(5)},                // out for two
		{from: at(7), present: true, passing: true},
		{from: at(9), to: at(11), err: silent}, // began before the kill
		{from: at(15), err: silent},
		{from: at(20), err: silent},
		{from: at(22), to: at(25), err: silent}, // three seconds that nobody made
		{from: at(26), present: true, passing: true},
		{from: at(41), err: silent},
	} {
		if one.to.IsZero() {
			one.to = one.from
		}
		seen.account(0, one)
	}
	c := seen.servers[0]
	if c.looks != 10 || c.absent != 1 || c.failing != 1 || c.silent != 5 || c.out != 2*time.Second || c.ill != 3*time.Second || c.unexplained != 3*time.Second || len(c.late) != 2 {
		t.Errorf("got %+v", c)
	}
	if len(seen.gaps) != 3 || !strings.Contains(seen.gaps[1], "consul-1: not in the catalogue") {
		t.Errorf("got %q", seen.gaps)
	}
}

// well is the result of a soak without fault: five rotations in a hundred seconds.
func well() soakResult {
	began := time.Unix(1000, 0)
	r := soakResult{
		seed: 7, ttl: soakTTL, wanted: 4, began: began, ended: began.Add(110 * time.Second),
		checkTimeout: 2 * time.Second, seen: newSoakSeen(1, 4), current: "consul-4", settled: time.Second,
	}
	r.seen.warm = began.Add(10 * time.Second)
	for generation := range 5 {
		login, serial, token := fmt.Sprintf("vault-%d", generation), fmt.Sprintf("serial-%d", generation), fmt.Sprintf("consul-%d", generation)
		r.answers = append(r.answers, audited{Path: loginPath, Login: login}, audited{Path: issuePath, Serial: serial}, audited{Path: leasePath, Consul: token})
		r.seen.kinds["jwt"][fmt.Sprint(generation)] = true
		r.seen.kinds["vault_token"][login], r.seen.kinds["certificate"][serial], r.seen.kinds["consul_token"][token] = true, true, true
		r.seen.listed[token] = true
	}
	for second := range 110 {
		values := map[string]float64{seriesGoroutines: 60, seriesHeap: 20 << 20, seriesObjects: 1000, seriesResident: 100 << 20, seriesFiles: 20}
		r.seen.samples = append(r.seen.samples, sample{at: began.Add(time.Duration(second) * time.Second), serving: true, values: values})
	}
	r.seen.scrapes, r.seen.pids[7] = 110, true
	r.seen.servers[0] = catalogue{looks: 100, silent: 20}
	r.strikes = []struck{{strike: plan(7, soakTTL, 1, 1)[0], away: time.Second, back: 300 * ms, moves: []move{{From: serving, To: "Degraded"}}}}
	return r
}

// late changes a series of the samples of the last tenth.
func late(r *soakResult, series string, factor float64) {
	for _, each := range r.seen.samples[100:] {
		each.values[series] *= factor
	}
}

func TestCompare(t *testing.T) {
	r := well()
	late(&r, seriesGoroutines, 2)
	r.seen.samples[5].values[seriesGoroutines] = 1e6 // before the warm-up
	r.seen.samples[12].values[seriesGoroutines] = 1e6
	for n := 102; n < 110; n++ {
		r.seen.samples[n].serving = false
		r.seen.samples[n].values[seriesGoroutines] = 1e6
	}
	if got, any := r.compare(seriesGoroutines); !any || got != (growth{60, 120}) {
		t.Errorf("got %+v, %t", got, any)
	}
	r.seen.samples = r.seen.samples[:99]
	if _, any := r.compare(seriesGoroutines); any {
		t.Error("a last tenth without samples was compared")
	}
	r.seen.warm = time.Time{}
	if _, any := r.compare(seriesGoroutines); any {
		t.Error("a soak that never was warm was compared")
	}
}

// flap has a look find a check that does not pass.
func flap(r *soakResult, at time.Time) {
	r.seen.account(0, look{from: at, to: at, present: true})
}

func TestSoakJudge(t *testing.T) {
	if err := well().judge(); err != nil {
		t.Fatalf("a soak without fault: %v", err)
	}
	within := well()
	late(&within, seriesGoroutines, 1.1)
	late(&within, seriesHeap, 1.15)
	// Where a scrape takes that long, a check near it may fail and a server be late.
	slow := within.began.Add(20 * time.Second)
	within.seen.slow = []window{{slow, slow.Add(2 * time.Second)}}
	flap(&within, slow.Add(-busyAround))
	flap(&within, slow.Add(2*time.Second+busyAround))
	if err := within.judge(); err != nil {
		t.Errorf("within what is tolerated: %v", err)
	}
	further := within
	further.seen.servers = slices.Clone(within.seen.servers)
	flap(&further, slow.Add(3*time.Second+busyAround))
	if err := further.judge(); err == nil {
		t.Error("one slow scrape excused a check that failed long after it")
	}
	within.seen.lost = []string{"refused"}
	if err := within.judge(); err == nil {
		t.Error("a slow machine excused a lost scrape")
	}
	for _, one := range []struct {
		what, want string
		spoil      func(*soakResult)
	}{
		{"too few rotations", "4 rotations of each credential, not 5", func(r *soakResult) { r.wanted = 5 }},
		{"one JWT for two logins", "3 rotations", func(r *soakResult) { delete(r.seen.kinds["jwt"], "1") }},
		{"a Vault token out of nowhere", "vault_token vault-2, which no answer", func(r *soakResult) { r.answers[6].Refused = "permission denied" }},
		{"a certificate out of nowhere", "certificate serial-2, which no answer", func(r *soakResult) { r.answers[7].Path = "elsewhere" }},
		{"a Consul token that Consul had not", "3 rotations", func(r *soakResult) { delete(r.seen.listed, "consul-2") }},
		{"a lost scrape", "1 of 110 scrapes were lost", func(r *soakResult) { r.seen.lost = []string{"refused"} }},
		{"a look at an empty catalogue", "1 found nothing", func(r *soakResult) { r.seen.servers[0].absent = 1 }},
		{"a check that flapped", "1 found a check", func(r *soakResult) { flap(r, r.began) }},
		{"a server that nobody had killed", "silent for 2.0 s", func(r *soakResult) {
			r.seen.account(0, look{from: r.began, to: r.began.Add(2 * time.Second), err: errors.New("timeout")})
		}},
		{"a server that never answered", "of 100 looks", func(r *soakResult) { r.seen.servers[0].silent = 100 }},
		{"late after Vault", "no working Consul token for 7.0 s", func(r *soakResult) {
			answered := r.began.Add(time.Minute)
			r.strikes = []struck{{strike: strike{parts: []part{{what: "Vault"}}}, answered: answered, back: 8 * time.Second}}
			r.seen.without = []window{{answered.Add(-time.Second), answered.Add(7 * time.Second)}}
		}},
		{"goroutines leak", "goroutines grew from 60.0 to 120.0", func(r *soakResult) { late(r, seriesGoroutines, 2) }},
		{"the heap grows", "heap grew from 20.0 MiB to 26.0 MiB", func(r *soakResult) { late(r, seriesHeap, 1.3) }},
		{"files stay open", "open files grew from 20.0 to 40.0", func(r *soakResult) { late(r, seriesFiles, 2) }},
		{"nothing to compare", "no samples of goroutines", func(r *soakResult) { r.seen.samples = nil }},
		{"a token is left", "consul-2;", func(r *soakResult) { r.left = []string{"consul-2", "consul-3"} }},
		{"a token that nobody had", "stray (no answer", func(r *soakResult) { r.left = []string{"stray"} }},
		{"nobody knows what is left", "no Consul token at the end", func(r *soakResult) { r.current = "" }},
		{"another process", "2 process ids", func(r *soakResult) { r.seen.pids[8] = true }},
		{"a service restarted", "1 restarts", func(r *soakResult) { r.seen.restarts = 1 }},
		{"an error of the agent's own", "cannot move", func(r *soakResult) { r.complaints = []string{"msg=\"cannot move\""} }},
		{"no audit log", "no such file", func(r *soakResult) { r.unread = errors.New("no such file") }},
	} {
		r := well()
		one.spoil(&r)
		if err := r.judge(); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: judged %v, want %q in it", one.what, err, one.want)
		}
	}
}

func TestSoakTable(t *testing.T) {
	var out bytes.Buffer
	r := well()
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--seed 7 --ttl 16s --servers 1", "4 of each credential, of 4", "110, 0 lost", "out of the catalogue 0 ms", "60.0, 60.0 (at most 68.0)", "20.0 MiB, 20.0 MiB (at most 24.0 MiB)", "0 beside the current one"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := (soakResult{seed: 9}).print(&out); err != nil || !strings.Contains(out.String(), "--seed 9") {
		t.Errorf("a soak that was interrupted at once: %v\n%s", err, out.String())
	}
}

func TestReadComplaints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.log")
	text := "time=x level=INFO msg=moved\ntime=x level=ERROR msg=\"lost leader\" component=consul\n" +
		"time=x level=ERROR msg=\"cannot move\"\npanic: runtime error\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := readComplaints(path)
	if want := []string{"time=x level=ERROR msg=\"cannot move\"", "panic: runtime error"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("got %q, %v", found, err)
	}
}

func TestReadAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	former := `{"type":"response","request":{"path":"auth/jwt/login"}}` + "\n"
	text := former + `{"type":"request","request":{"path":"auth/jwt/login"}}
{"type":"response","request":{"path":"auth/jwt/login"},"response":{"auth":{"accessor":"a"}}}
{"type":"response","request":{"path":"pki/sign/pawl"},"response":{"data":{"serial_number":"01:02"}}}
{"type":"resp
{"type":"response","error":"permission denied","request":{"path":"consul/creds/pawl"}}
{"type":"response","request":{"path":"consul/creds/pawl"},"response":{"data":{"accessor":"c"}}}
{"type":"response","request":{"path":"under way"}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, damaged, err := readAudit(path, int64(len(former)))
	want := []audited{{Path: loginPath, Login: "a"}, {Path: issuePath, Serial: "01:02"}, {Path: leasePath, Refused: "permission denied"}, {Path: leasePath, Consul: "c"}}
	if err != nil || damaged != 1 || !slices.Equal(got, want) {
		t.Errorf("got %+v, %d, %v", got, damaged, err)
	}
}
