package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// binaries is where what is tested lies.
type binaries struct {
	pawl, lab string
	// authority is the folder of the CA whose roots are baked into pawl.
	authority string
	// root is the checkout.
	root string
	site site
}

// variable names the folder of the binaries, where it is not bin/ of the checkout.
const variable = "PAWL_BIN"

// findBinaries fails the test where one is missing: there is nothing to skip.
func findBinaries(t *testing.T) binaries {
	t.Helper()
	here, err := os.Getwd() // go test runs in the package's folder
	must(t, err)
	root := filepath.Join(here, "..", "..", "..")
	folder := os.Getenv(variable)
	if folder == "" {
		folder = filepath.Join(root, "bin")
	}
	var missing []string
	for _, name := range []string{"pawl", "pawl-lab", "pawl-metadata", "consul", "lab-vault"} {
		if information, err := os.Stat(filepath.Join(folder, name)); err != nil || information.Mode()&0o111 == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.Fatalf("missing in %s: %s; `make build lab-binaries` makes them", folder, strings.Join(missing, ", "))
	}
	found := binaries{
		pawl: filepath.Join(folder, "pawl"), lab: filepath.Join(folder, "pawl-lab"),
		authority: filepath.Join(root, ".lab-ca"), root: root,
	}
	text, err := exec.Command(found.pawl, "site").Output()
	if err != nil {
		t.Fatalf("run %s site: %v; `make build` makes it", found.pawl, err)
	}
	found.site = site(text)
	if name := found.site.value(t, "name"); name != "lab" {
		t.Fatalf("%s is built for the site %q; `make build` builds it for the lab", found.pawl, name)
	}
	return found
}

// site is the text of a site file. Only what the lab's template writes is read.
type site string

// value returns the value of a key, "key" or "section.key".
func (s site) value(t *testing.T, key string) string {
	t.Helper()
	section, inner, nested := strings.Cut(key, ".")
	if !nested {
		section, inner = "", key
	}
	at := ""
	for line := range strings.Lines(string(s)) {
		name, value, found := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !found || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if !strings.HasPrefix(name, " ") {
			at = name
			if section == "" && name == inner {
				return strings.TrimSpace(value)
			}
			continue
		}
		if at == section && strings.TrimSpace(name) == inner {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in the site of bin/pawl; `make build` bakes the lab's", key)
	return ""
}

func (s site) metrics(t *testing.T) string {
	return "http://" + s.value(t, "node_exporter.listen") + "/metrics"
}
func (s site) folder(t *testing.T) string { return s.value(t, "runtime_folder") }
func (s site) socket(t *testing.T) string { return filepath.Join(s.folder(t), "pawl.sock") }

// buildAtTrace builds the agent once more with everything in its log, and returns its path.
func (b binaries) buildAtTrace(t *testing.T) string {
	t.Helper()
	return b.buildWith(t, "\nlog_level: info\n", "\nlog_level: trace\n")
}

// buildWith builds the agent once more for another site: pairs are what stands in
// the site of bin/pawl, and what stands there instead. It returns the path.
func (b binaries) buildWith(t *testing.T, pairs ...string) string {
	t.Helper()
	folder := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(b.site), pairs[i]) {
			t.Fatalf("no %q in the site of bin/pawl", pairs[i])
		}
	}
	other := strings.NewReplacer(pairs...).Replace(string(b.site))
	baked, overlay, binary := filepath.Join(folder, "site.yaml"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "pawl")
	must(t, os.WriteFile(baked, []byte(other), 0o600))
	replace := fmt.Sprintf(`{"Replace": {%q: %q}}`, filepath.Join(b.root, "internal", "site", "site.yaml"), baked)
	must(t, os.WriteFile(overlay, []byte(replace), 0o600))
	build := exec.Command("go", "build", "-overlay", overlay, "-ldflags", "-s -w", "-o", binary, "./cmd/pawl")
	build.Dir = b.root
	// The flags of the Makefile, so that Consul is in the cache already.
	if flags := os.Getenv("GOFLAGS"); !strings.Contains(flags, "-trimpath") {
		build.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(flags+" -trimpath"))
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pawl for another site: %v\n%s", err, out)
	}
	return binary
}

// lockMachine waits until no other lab test runs on this machine.
func lockMachine(t *testing.T) {
	t.Helper()
	path := filepath.Join(os.TempDir(), "pawl-lab.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return
	}
	t.Logf("waiting for who holds %s", path)
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		must(t, err)
		return
	}
}

// launcher starts processes from one thread that lives as long as they may:
// whoever is killed takes his children with him, and the kernel means the thread.
type launcher struct{ work chan func() }

func newLauncher(t *testing.T) *launcher {
	l := &launcher{work: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for work := range l.work {
			work()
		}
	}()
	t.Cleanup(func() { close(l.work) })
	return l
}

// start starts a command in a process group of its own, which gets signal when
// this test process dies without cleaning up.
func (l *launcher) start(command *exec.Cmd, signal syscall.Signal) error {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Setpgid, command.SysProcAttr.Pdeathsig = true, signal
	started := make(chan error, 1)
	l.work <- func() { started <- command.Start() }
	return <-started
}

// startPatched starts a command and has it patched before its first instruction.
func (l *launcher) startPatched(command *exec.Cmd, signal syscall.Signal, patch func(pid int) error) error {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: signal, Ptrace: true}
	started := make(chan error, 1)
	l.work <- func() { // the thread that starts is the one that traces
		err := command.Start()
		if err == nil {
			err = patch(command.Process.Pid)
		}
		started <- err
	}
	return <-started
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// output runs a command and returns what it wrote to stdout.
func output(path string, arguments ...string) (string, error) {
	text, err := exec.Command(path, arguments...).Output()
	return string(text), err
}
