package e2e

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// succession is how soon a process is back that takes over from the one before it.
	succession = 2 * time.Second
	// loadEvery is how often a re-execution is asked for metrics, each time on a new connection.
	loadEvery = 100 * time.Millisecond
)

// TestSuccession: one process of pawl follows another, and nobody notices.
func TestSuccession(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found)
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"upgraded under load", testUpgrade},
		{"signals during a re-execution", testImpatient},
		{"killed with Vault down", testKilledVaultDown},
		{"unfit hand-overs", testUnfit},
		{"data folder truncated", testTruncated},
		{"disk full", testDiskFull},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l)
			l.awaitGone(t)
		})
	}
}

// copyFile copies a program, with something after its end that makes it another.
func copyFile(t *testing.T, from, to, tail string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to+".new", append(text, tail...), 0o755))
	must(t, os.Rename(to+".new", to)) // as install does: the running file is not touched
}

// testUpgrade: SIGHUP executes what lies in the place of the binary now, three
// times over, while the metrics are asked for on new connections.
func testUpgrade(t *testing.T, l *lab) {
	path := filepath.Join(t.TempDir(), "pawl")
	copyFile(t, l.binaries.pawl, path, "")
	a := startAgent(t, l, program{binary: path})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	checks, events, mark := l.nodeChecks(t), l.serfEvents(t), l.auditMark(t)
	scraping := l.scrapeBy(t, loadEvery, &http.Transport{DisableKeepAlives: true})
	watching, present := l.watchHealth(t), l.watchPresence(t)
	for round := 1; round <= 3; round++ {
		copyFile(t, l.binaries.pawl, path, fmt.Sprintf("upgrade %d", round))
		wanted, err := os.Stat(path)
		must(t, err)
		from := a.log.mark()
		began := time.Now()
		a.signal(syscall.SIGHUP)
		moved := a.awaitMove(from, "Serving")
		t.Logf("upgrade %d: Serving %s after SIGHUP", round, moved.at.Sub(began).Round(time.Millisecond))
		if running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", a.pid)); err != nil || !os.SameFile(running, wanted) {
			t.Errorf("process %d does not run the new binary: %v", a.pid, err)
		}
		after := a.awaitServing()
		if after.PID != a.pid || after.Node != before.Node {
			t.Errorf("pid %d, node %+v became %d, %+v", a.pid, before.Node, after.PID, after.Node)
		}
		for _, thing := range []string{"vault_token", "consul_token", "certificate", "gossip_key"} {
			if before.evidence(thing).ID != after.evidence(thing).ID {
				t.Errorf("the %s was not taken over", thing)
			}
		}
	}

	// One that does not even start never takes the place of one that works.
	a.forgiven = []string{"will not hand over, this process goes on"}
	must(t, os.WriteFile(path+".new", []byte("#!/bin/sh\necho broken by hand; exit 3\n"), 0o755))
	must(t, os.Rename(path+".new", path))
	from := a.log.mark()
	a.signal(syscall.SIGHUP)
	refusal := a.awaitLine(from, "a refusal", func(each line) bool { return containsAny(each.text, a.forgiven) })
	if !strings.Contains(refusal.text, "broken by hand") {
		t.Errorf("the refusal does not say what the binary said: %s", refusal.text)
	}
	a.awaitServing()

	scraping.demandAll(t)
	watching.demandUnmoved(t)
	present.demandAlways(t)
	if now := l.nodeChecks(t)["serfHealth"]; now.ModifyIndex != checks["serfHealth"].ModifyIndex {
		t.Errorf("serfHealth moved from index %d to %d", checks["serfHealth"].ModifyIndex, now.ModifyIndex)
	}
	if now := l.serfEvents(t); now["EventMemberLeave"] != events["EventMemberLeave"] || now["EventMemberFailed"] != events["EventMemberFailed"] {
		t.Errorf("gossip told of our node %v before and %v after", events, now)
	}
	all := l.audit(t, mark)
	if logins, made := succeeded(all, pathLogin), succeeded(all, pathCreds); len(logins)+len(made) > 0 {
		t.Errorf("three upgrades made %d logins and %d Consul tokens", len(logins), len(made))
	}
	a.terminate(nil)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testImpatient: what a person sends while one process becomes the next is not
// lost, and ends nobody who should go on: five SIGHUPs and a SIGUSR1 in a row, eight
// times over, so that a hand-over meets whatever its predecessor had begun; nobody
// sees a flap or misses a scrape. Then a SIGTERM on the heels of a SIGHUP: whoever
// hears it leaves, as after any SIGTERM.
func testImpatient(t *testing.T, l *lab) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	scraping := l.scrapeBy(t, loadEvery, &http.Transport{DisableKeepAlives: true})
	watching, present := l.watchHealth(t), l.watchPresence(t)
	for range 8 {
		from := a.log.mark()
		for range 5 {
			a.signal(syscall.SIGHUP)
			a.signal(syscall.SIGUSR1)
			a.lasts(time.Duration(dice.IntN(60)) * time.Millisecond)
		}
		a.awaitMove(from, "Serving")
	}
	a.awaitServing()
	scraping.demandAll(t)
	watching.demandUnmoved(t)
	present.demandAlways(t)
	a.signal(syscall.SIGHUP) // it tries the binary first, which takes longer than the next signal
	t.Logf("exit 0 after %s", a.terminate(nil))
	if events := l.serfEvents(t); events["EventMemberFailed"] != 0 {
		t.Errorf("gossip tells of the end as %v, want a graceful leave", events)
	}
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testKilledVaultDown: kill -9, and the next start finds no Vault.
func testKilledVaultDown(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	events, mark := l.serfEvents(t), l.auditMark(t)
	watching, present := l.watchHealth(t), l.watchPresence(t)
	l.control(t, "stop", "vault")
	a.kill()

	b := startAgent(t, l, program{})
	serving := b.awaitMove(0, "Serving")
	took := serving.at.Sub(b.began)
	t.Logf("Serving %s after the restart", took.Round(time.Millisecond))
	if took > succession {
		t.Errorf("Serving %s after the restart, want %s", took, succession)
	}
	for _, id := range []string{"serfHealth", "service:" + serviceName} {
		l.awaitPassing(t, id)
	}
	after := b.awaitServing()
	if read := after.evidence("registration"); read.Grade != "good" || read.Under != before.evidence("consul_token").ID {
		t.Errorf("the read-back is %+v, want one under the token of the process before", read)
	}
	// It stays so: nothing is due, and so nobody need ask Vault.
	b.lasts(3 * time.Second)
	for _, one := range b.log.moves(0) {
		if one.at.After(serving.at) {
			t.Errorf("it left Serving, though nothing was due: %s", one)
		}
	}
	watching.demandUnmoved(t)
	present.demandAlways(t)
	if now := l.serfEvents(t); !maps.Equal(now, events) {
		t.Errorf("gossip told of our node %v before and %v after", events, now)
	}
	l.control(t, "start", "vault")
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) > 0 {
		t.Errorf("it logged in %d times", len(logins))
	}
	b.terminate(nil)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testTruncated: Consul's data folder is disposable, whatever a power cut left of it.
func testTruncated(t *testing.T, l *lab) {
	folder := filepath.Join(l.binaries.site.folder(t), "consul")
	files := func() []string {
		var all []string
		must(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				all = append(all, path)
			}
			return err
		}))
		return all
	}
	a := startAgent(t, l, program{})
	a.awaitServing()
	whole := files()
	t.Logf("the data folder holds %q", whole)
	if len(whole) == 0 {
		t.Fatal("the data folder holds nothing: this test proves nothing")
	}
	// One by one, then all of them, then all of them with nonsense inside.
	rounds := map[string]func(){
		"all truncated": func() { l.spoil(t, whole, "") },
		"all nonsense":  func() { l.spoil(t, whole, "\x00\xff{nonsense") },
		"files where folders were": func() {
			must(t, os.RemoveAll(filepath.Join(folder, "serf")))
			l.spoil(t, []string{filepath.Join(folder, "serf")}, "")
		},
	}
	for _, each := range whole {
		rounds["truncated "+filepath.Base(each)] = func() { l.spoil(t, []string{each}, "") }
	}
	for name, spoil := range rounds {
		a.kill()
		spoil()
		a = startAgent(t, l, program{})
		moved := a.awaitMove(0, "Serving")
		t.Logf("%s: Serving %s after the start", name, moved.at.Sub(a.began).Round(time.Millisecond))
	}
	a.awaitServing()
	a.terminate(nil)
}

func (l *lab) spoil(t *testing.T, paths []string, text string) {
	t.Helper()
	for _, each := range paths {
		must(t, os.WriteFile(each, []byte(text), 0o600))
	}
}

// testDiskFull: the runtime folder is full to the last byte before the agent
// starts. It comes up, says once that it cannot keep a hand-over, and keeps one
// when there is room again.
func testDiskFull(t *testing.T, l *lab) {
	folder := l.binaries.site.folder(t)
	// A file system of its own, seen by this agent alone.
	must(t, os.MkdirAll(folder, 0o700))
	a := startAgent(t, l, program{before: fmt.Sprintf(`mount --make-rprivate / && mount -t tmpfs -o size=256k,mode=0700 pawl %[1]s && { cat /dev/zero > %[1]s/ballast 2>/dev/null || true; }`, folder)})
	moved := a.awaitMove(0, "Serving")
	t.Logf("Serving %s after the start, on a full disk", moved.at.Sub(a.began).Round(time.Millisecond))
	for _, id := range []string{"serfHealth", "service:" + serviceName} {
		l.awaitPassing(t, id)
	}
	told := func() int {
		lines, _ := a.log.since(0)
		count := 0
		for _, each := range lines {
			if each.fields()["msg"] == "no hand-over" {
				count++
			}
		}
		return count
	}
	if told() != 1 {
		t.Errorf("%d lines say that there is no hand-over, want one:\n%s", told(), a.log.tail(20))
	}
	inside := fmt.Sprintf("/proc/%d/root%s", a.pid, folder)
	must(t, os.Remove(filepath.Join(inside, "ballast")))
	eventually(t, "a hand-over is kept once there is room", func() (bool, string) {
		file, err := os.Open(filepath.Join(inside, handover))
		if err != nil {
			return false, err.Error()
		}
		defer file.Close()
		text, err := io.ReadAll(file)
		return len(text) > 0, fmt.Sprint(len(text), err)
	})
	a.terminate(nil)
}
