package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// longForm names the variable that asks for the whole of TestSystemd, whatever its value.
const longForm = "PAWL_LONG"

// ordeal is what the unit is put through.
type ordeal struct {
	// crashes is how often the agent crashes in a row (faults.md F17).
	crashes int
	// atOnce of them come as soon as systemd calls the unit active, before the agent
	// has joined: that is a crash loop. The others leave it the time to serve again.
	atOnce int
	// watchdog is put in the place of the unit's WatchdogSec where an agent freezes, in systemd's words.
	// One that serves says every five seconds that all is well: the shipped 90 s are only longer.
	watchdog string
}

const shippedWatchdog = "1min 30s"

// TestSystemd boots a real systemd with the unit file that is shipped, unchanged
// but for the watchdog's patience in the short form, and lets it deal with an agent that
// crashes, hangs, is reloaded and is stopped (faults.md F17, F22, F36). Of the site
// the folder alone is another: the one that the unit makes.
func TestSystemd(t *testing.T) {
	if err := canBoot(); err != nil {
		t.Skipf("no systemd can be booted here, and nothing else can say what a unit file does: %v", err)
	}
	through := ordeal{crashes: 8, atOnce: 3, watchdog: "15s"}
	if _, long := os.LookupEnv(longForm); long {
		through = ordeal{crashes: 20, atOnce: 5, watchdog: shippedWatchdog}
	}
	found := findBinaries(t)
	lockMachine(t)
	pair := []string{"runtime_folder: " + found.site.folder(t), "runtime_folder: /run/pawl"}
	binary := found.buildWith(t, pair...)
	l := startLab(t, found)
	l.binaries.site = site(strings.NewReplacer(pair...).Replace(string(found.site)))
	m, err := boot(t, l, binary)
	if err != nil {
		t.Skipf("no systemd can be booted here: %v", err)
	}
	m.enable()
	a := m.attach(l)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pawl's log ends with:\n%s", a.log.tail(40))
			t.Logf("systemd says: %s", m.run("journalctl", "--lines=30", "--output=cat", "_PID=1"))
		}
	})
	t.Log(m.demand("systemctl", "--version"))
	a.awaitServing()
	testUnitReady(t, m)
	testUnitHardened(t, m, l)
	testUnitCrashes(t, m, l, a, through)
	testUnitReload(t, m, l, a)
	testUnitFrozen(t, m, l, a, through)
	testUnitStop(t, m, l)
	lines, _ := a.log.since(0)
	for _, each := range lines {
		if fields := each.fields(); fields["level"] == "ERROR" && fields["component"] == "" {
			t.Errorf("pawl wrote an error of its own: %s", each.text)
		}
	}
}

// testUnitReady: systemd knows that it is ready, and where it stands.
func testUnitReady(t *testing.T, m *machine) {
	eventually(t, "systemd was told of the state", func() (bool, string) {
		state := m.unitState()
		return strings.HasPrefix(state.Status, "Serving"), fmt.Sprintf("%+v", state)
	})
	if shipped := m.demand("systemctl", "show", unit, "--property=WatchdogUSec", "--value"); shipped != shippedWatchdog {
		t.Errorf("the unit's watchdog waits %s", shipped)
	}
	if state := m.unitState(); state.Active != "active" || state.Restarts != 0 {
		t.Errorf("after boot the unit is %+v", state)
	}
	// Its words are on stderr.
	if verified, err := m.try("sh", "-c", "systemd-analyze verify "+unitFolder+"/"+unit+" 2>&1"); err != nil || verified != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, verified)
	}
	table := strings.Split(m.demand("systemd-analyze", "security", "--no-pager", unit), "\n")
	t.Log(strings.TrimSpace(table[len(table)-1]))
}

// testUnitHardened: what the unit asks for is in force for the process, so that it
// serves on a root that is read-only and can write to its folder alone.
func testUnitHardened(t *testing.T, m *machine, l *lab) {
	pid := m.unitState().PID
	status := m.demand("cat", "/proc/"+pid+"/status", "/proc/"+pid+"/limits")
	for _, want := range []string{"Uid:\t64646\t64646\t64646\t64646", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, "\n"+want+"\n") {
			t.Errorf("/proc/%s/status has no %q", pid, want)
		}
	}
	if limit := "Max core file size        0                    0 "; !strings.Contains(status, limit) {
		t.Errorf("/proc/%s/limits has no %q", pid, limit)
	}
	// As root, whom no permission stops, in the unit's own view of the files. For the
	// first ones the machine alone sees to it, for the others the unit.
	for i, folder := range append([]string{"/", "/etc", "/usr/local/bin"}, append(strings.Fields(dataFolders), "/run")...) {
		file := filepath.Join(folder, "pawl-was-here")
		if _, err := m.try("touch", file); (err == nil) != (i > 1) {
			t.Errorf("touch %s gives %v outside of the unit: this proves nothing", file, err)
		}
		said, err := m.try("nsenter", "--target", pid, "--mount", "--", "touch", file)
		if err == nil || !strings.Contains(said, "Read-only file system") {
			t.Errorf("the unit could write to %s: %v %s", folder, err, said)
		}
	}
	// Read-only is not hidden: of these too the exporter still says how full they are.
	_, metrics := (request{http.MethodGet, "/metrics", ""}).send(t, strings.TrimSuffix(l.binaries.site.metrics(t), "/metrics"))
	for _, folder := range []string{"/", "/home", "/root", "/tmp"} {
		row := regexp.MustCompile(`(?m)^node_filesystem_avail_bytes\{.*mountpoint="` + folder + `"\} [1-9]`)
		if !row.MatchString(metrics) {
			t.Errorf("no %s in the exporter's metrics", row)
		}
	}
	m.demand("nsenter", "--target", pid, "--mount", "--", "sh", "-c", "touch /run/pawl/probe && rm /run/pawl/probe")
	if owner := m.demand("stat", "--format=%U %a %F", "/run/pawl"); owner != "pawl 700 directory" {
		t.Errorf("the runtime folder is %q", owner)
	}
}

// testUnitCrashes: however often it crashes, systemd starts it again, nobody but
// it knows, and Vault is asked for nothing.
func testUnitCrashes(t *testing.T, m *machine, l *lab, a *agent, through ordeal) {
	began, mark := time.Now(), l.auditMark(t)
	before, events := a.awaitServing(), l.serfEvents(t)
	for _, id := range []string{"serfHealth", "service:" + serviceName} {
		l.awaitPassing(t, id)
	}
	present, health := l.watchPresence(t), l.watchHealth(t)
	var slowest time.Duration
	for restart := 1; restart <= through.crashes-through.atOnce; restart++ {
		line, killed := a.log.mark(), time.Now()
		pid := m.unitState().PID
		m.signal("SEGV")
		if now := m.awaitActive(restart); now.PID == pid {
			t.Fatalf("SIGSEGV did not end process %s", pid)
		}
		serving := a.awaitMove(line, "Serving")
		slowest = max(slowest, serving.at.Sub(killed))
	}
	health.demandUnmoved(t)
	if now := l.serfEvents(t); !maps.Equal(now, events) {
		t.Errorf("gossip told of our node %v before and %v after", events, now)
	}
	for restart := through.crashes - through.atOnce + 1; restart <= through.crashes; restart++ {
		m.signal("SEGV")
		m.awaitActive(restart)
	}
	after := a.awaitServing()
	present.demandAlways(t)
	l.awaitPassing(t, "serfHealth")
	for _, each := range l.audit(t, mark) {
		if each.Path == pathLogin || each.Path == pathCreds || each.Path == pathSign {
			t.Errorf("a crash cost %s at %s", each.Path, each.Time.Format(time.TimeOnly))
		}
	}
	for _, thing := range []string{"vault_token", "consul_token", "certificate"} {
		if before.evidence(thing).ID != after.evidence(thing).ID {
			t.Errorf("the %s is another one", thing)
		}
	}
	if len(after.Crashes) != through.crashes {
		t.Errorf("of %d crashes the report knows %d", through.crashes, len(after.Crashes))
	}
	if text := a.log.text(); strings.Count(text, "SIGSEGV: segmentation violation") != through.crashes || strings.Contains(text, "panic:") {
		t.Errorf("the journal does not tell of %d crashes", through.crashes)
	}
	t.Logf("%d x SIGSEGV in %s; Serving at most %s after one", through.crashes, time.Since(began).Round(time.Second), slowest.Round(time.Millisecond))
}

// testUnitReload: the same process goes on, and nobody notices.
func testUnitReload(t *testing.T, m *machine, l *lab, a *agent) {
	before, mark := m.unitState(), l.auditMark(t)
	health, scraping, line := l.watchHealth(t), l.scrape(t), a.log.mark()
	m.demand("systemctl", "reload", unit)
	a.awaitMove(line, "Serving")
	if got := a.awaitServing(); len(got.Crashes) != before.Restarts {
		t.Errorf("the report took a reload for a crash: %v", got.Crashes)
	}
	if after := m.awaitActive(before.Restarts); after.PID != before.PID {
		t.Errorf("after a reload the main process is %s, not %s", after.PID, before.PID)
	}
	health.demandUnmoved(t)
	scraping.demandAll(t)
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) > 0 {
		t.Errorf("a reload cost %d logins", len(logins))
	}
}

// testUnitFrozen: one that does nothing any more is ended by systemd's watchdog, and
// the next one takes over what it held.
func testUnitFrozen(t *testing.T, m *machine, l *lab, a *agent, through ordeal) {
	restarts := m.unitState().Restarts
	if through.watchdog != shippedWatchdog {
		m.override("watchdog", "[Service]\nWatchdogSec="+through.watchdog+"\n")
		m.demand("systemctl", "daemon-reload")
		line := a.log.mark()
		m.signal("SEGV") // a changed watchdog is for the next process
		restarts++
		m.awaitActive(restarts)
		a.awaitMove(line, "Serving")
		a.awaitServing()
	}
	mark := l.auditMark(t)
	began, line := time.Now(), a.log.mark()
	m.signal("STOP")
	patience, err := time.ParseDuration(strings.ReplaceAll(through.watchdog, "min ", "m"))
	must(t, err)
	a.lasts(patience / 2)
	if state := m.unitState(); state.Active != "active" || state.Restarts != restarts {
		t.Errorf("after half of the watchdog's patience the unit is %+v", state)
	}
	m.awaitActive(restarts + 1)
	again := time.Since(began)
	a.awaitMove(line, "Serving")
	if got := a.awaitServing(); len(got.Crashes) != restarts+1 {
		t.Errorf("of %d restarts the report knows %d", restarts+1, len(got.Crashes))
	}
	l.awaitHealth(t, "registered and passing", isPassing)
	l.awaitPassing(t, "serfHealth")
	t.Logf("frozen: active again after %s, registered and passing after %s", again.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if said := m.run("journalctl", "--output=cat", "_PID=1", "--grep=Watchdog timeout"); !strings.Contains(said, unit+": Watchdog timeout (limit "+through.watchdog+")") {
		t.Errorf("systemd does not say that it was the watchdog: %s", said)
	}
	if text := a.log.text(); !strings.Contains(text, "SIGABRT: abort") || !strings.Contains(text, "goroutine ") {
		t.Error("the journal has no stacks of the one that hung")
	}
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) > 0 {
		t.Errorf("the watchdog cost %d logins", len(logins))
	}
}

// testUnitStop: the node leaves, and nothing is left.
func testUnitStop(t *testing.T, m *machine, l *lab) {
	began := time.Now()
	m.demand("systemctl", "stop", unit)
	took := time.Since(began)
	state := m.unitState()
	code := m.demand("systemctl", "show", unit, "--property=ExecMainStatus", "--value")
	if state.Active != "inactive" || state.Result != "success" || code != "0" || took > stopBound {
		t.Errorf("after %s of systemctl stop the unit is %+v, exit code %s", took, state, code)
	}
	l.awaitGone(t)
	l.awaitNoTokens(t)
	if _, err := os.Stat(filepath.Join(m.root, "run/pawl")); err == nil {
		t.Error("the runtime folder is left")
	}
	t.Logf("systemctl stop took %s", took.Round(time.Millisecond))
}
