package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a VM as far as systemd makes one: a real systemd is process 1 of
// namespaces of its own, on a root that is read-only, and has the lab's network.
type machine struct {
	t *testing.T
	// pid is systemd's, and root the machine's root folder, as this test sees them.
	pid   int
	root  string
	ended chan struct{} // closed when all of it is gone
}

const (
	systemd = "/usr/lib/systemd/systemd"
	// unitFolder is where the machine has its units.
	unitFolder = "/run/units"
	// dataFolders are those that anybody may write to, as far as the machine goes.
	dataFolders = "/home /root /tmp /var"
	// unitFile is the one that is tested, in the checkout.
	unitFile = "deploy/systemd/pawl.service"
	// unit is its name.
	unit = "pawl.service"
)

// outside puts what is below it into a cgroup of its own, and then into namespaces.
const outside = `set -eu
mount --make-rprivate /
mkdir cgroup
mount -t cgroup2 none cgroup
own="cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)"
group="$own/pawl-machine-$$"
mkdir -p "$group"
echo "$group" > cgroup-name
echo $$ > "$group/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --cgroup --ipc --uts --propagation private /bin/sh -c "$0"`

// inside makes the machine out of this one: the binary where the unit wants it, the
// user of the unit, units of ours alone, a root that nobody can write to, so that
// this systemd changes nothing of the real machine, and new folders where a VM has data.
const inside = `set -eu
mount -t proc proc /proc
# A mount that is hidden below another one confuses systemd.
sed -n 's,^[^ ]* \(/run\|/run/[^ ]*\|/sys/fs/cgroup\|/sys/fs/cgroup/[^ ]*\) .*,\1,p' /proc/self/mounts | tac |
	while read each; do umount "$each"; done
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /usr/local/bin
touch /usr/local/bin/pawl
mount --bind pawl /usr/local/bin/pawl
for each in passwd group machine-id; do mount --bind "$each" "/etc/$each"; done
mount -t tmpfs -o mode=755 tmpfs /run
cp -r units ` + unitFolder + `
mkdir -p /run/systemd/system.conf.d
cp system.conf /run/systemd/system.conf.d/
mount -o remount,bind,ro /
cd /
for each in ` + dataFolders + `; do mount -t tmpfs tmpfs "$each"; done
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=pawl-lab SYSTEMD_UNIT_PATH=` + unitFolder + ` \
	` + systemd + ` --system --unit=multi-user.target --log-target=journal --show-status=no`

// scaffold are the units that the machine has beside pawl's. Whatever else
// systemd's own units ask for is not there, which they take.
var scaffold = map[string]string{
	// The shipped one asks for more open files than a container may have.
	"systemd-journald.service": `[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket
After=systemd-journald.socket
[Service]
Type=notify
ExecStart=/usr/lib/systemd/systemd-journald
FileDescriptorStoreMax=100
Sockets=systemd-journald.socket
StandardOutput=null
`,
	"network-online.target": "[Unit]\nDescription=the network is there\n",
}

// strict is a systemd that lets a unit crash three times a day and no more, unless
// the unit says otherwise. Its own default would not notice a crash every two seconds.
const strict = "[Manager]\nDefaultStartLimitIntervalSec=1d\nDefaultStartLimitBurst=3\n"

// shipped are the units that are systemd's own.
var shipped = []string{"multi-user.target", "basic.target", "sysinit.target", "sockets.target", "shutdown.target",
	"slices.target", "umount.target", "systemd-journald.socket"}

// canBoot says why there can be no machine here: no systemd, not root, or a
// container that may not make namespaces.
func canBoot() error {
	if _, err := os.Stat(systemd); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("this is not root")
	}
	probe := exec.Command("unshare", "--pid", "--fork", "--mount", "--cgroup", "--ipc", "--uts", "mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")
	if text, err := probe.CombinedOutput(); err != nil {
		return fmt.Errorf("make namespaces: %w: %s", err, text)
	}
	return nil
}

// bootBound bounds the boot of a systemd with next to nothing in it, which takes a
// second: where one cannot be, it does not come at all.
const bootBound = 30 * time.Second

// boot starts the machine with this binary as its /usr/local/bin/pawl, and returns
// when systemd has done what it does at boot, all but the unit: an error says that
// no systemd can live here, with what it said. It ends with the test.
func boot(t *testing.T, l *lab, binary string) (*machine, error) {
	t.Helper()
	folder := t.TempDir()
	m := &machine{t: t, ended: make(chan struct{})}
	m.furnish(folder, l.binaries.root, binary)
	var said bytes.Buffer
	command := exec.Command("/bin/sh", "-c", outside, inside)
	command.Dir, command.Stdout, command.Stderr = folder, &said, &said
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	must(t, l.launcher.start(command, syscall.SIGKILL))
	go func() {
		_ = command.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		if m.pid > 0 {
			_ = syscall.Kill(m.pid, syscall.SIGKILL) // and with process 1 all of its namespace
		} else {
			_ = command.Process.Kill()
		}
		<-m.ended
		m.removeGroup(filepath.Join(folder, "cgroup-name"))
	})
	began, tick := time.Now(), time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		state, err := m.booted(command.Process.Pid)
		if err == nil {
			return m, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("the machine ended: %s", said.String())
		case <-tick.C:
		}
		if time.Since(began) > bootBound {
			return nil, fmt.Errorf("after %s the machine is %s: %w: %s", bootBound, state, err, said.String())
		}
	}
}

// booted says whether systemd, the one child of that process, has booted; and else
// in words of systemd's how far it has come.
func (m *machine) booted(parent int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil {
		return "", err
	}
	if m.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return "", err
	}
	m.root = fmt.Sprintf("/proc/%d/root", m.pid)
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid)); err != nil || string(name) != "systemd\n" {
		return "", fmt.Errorf("process 1 is %q (%v)", name, err)
	}
	return m.try("systemctl", "is-system-running") // it fails where that is not "running"
}

// enable has the unit started as at every boot from now on, and starts it. It is
// ready when this returns: the unit notifies.
func (m *machine) enable() {
	m.t.Helper()
	must(m.t, os.Symlink(filepath.Join("..", unit), filepath.Join(m.root, unitFolder, "multi-user.target.wants", unit)))
	m.demand("systemctl", "daemon-reload")
	m.demand("systemctl", "start", "multi-user.target", unit)
}

// furnish writes what the machine is made of.
func (m *machine) furnish(folder, root, binary string) {
	units := filepath.Join(folder, "units")
	must(m.t, os.Mkdir(units, 0o755))
	for name, text := range scaffold {
		must(m.t, os.WriteFile(filepath.Join(units, name), []byte(text), 0o644))
	}
	for _, name := range shipped {
		must(m.t, os.Symlink(filepath.Join("/usr/lib/systemd/system", name), filepath.Join(units, name)))
	}
	text, err := os.ReadFile(filepath.Join(root, unitFile))
	must(m.t, err)
	must(m.t, os.WriteFile(filepath.Join(units, unit), text, 0o644))
	for _, target := range []string{"multi-user.target", "sysinit.target"} {
		must(m.t, os.Mkdir(filepath.Join(units, target+".wants"), 0o755))
	}
	journal := "systemd-journald.service"
	must(m.t, os.Symlink(filepath.Join("..", journal), filepath.Join(units, "sysinit.target.wants", journal)))
	// What useradd --system would make.
	for name, row := range map[string]string{"passwd": "pawl:x:64646:64646::/nonexistent:/usr/sbin/nologin\n", "group": "pawl:x:64646:\n"} {
		known, err := os.ReadFile(filepath.Join("/etc", name))
		must(m.t, err)
		must(m.t, os.WriteFile(filepath.Join(folder, name), append(known, row...), 0o644))
	}
	must(m.t, os.WriteFile(filepath.Join(folder, "machine-id"), []byte("0123456789abcdef0123456789abcdef\n"), 0o444))
	must(m.t, os.WriteFile(filepath.Join(folder, "system.conf"), []byte(strict), 0o644))
	must(m.t, os.Symlink(binary, filepath.Join(folder, "pawl")))
}

// removeGroup removes the machine's cgroups.
func (m *machine) removeGroup(record string) {
	named, err := os.ReadFile(record)
	if err != nil {
		return // it did not come so far
	}
	_, below, _ := strings.Cut(strings.TrimSpace(string(named)), "/")
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(m.t, err)
	for mount := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(mount); fields[2] == "cgroup2" {
			group := filepath.Join(fields[1], below)
			eventually(m.t, group+" is removed", func() (bool, string) {
				text, err := exec.Command("find", group, "-depth", "-type", "d", "-delete").CombinedOutput()
				return err == nil, string(text)
			})
			return
		}
	}
}

// enter returns a command that runs in the machine, as root there.
func (m *machine) enter(arguments ...string) *exec.Cmd {
	command := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--"}, arguments...)...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "LANG=C.UTF-8"}
	return command
}

// try runs a command in the machine and returns what it printed, complaints too
// where it failed.
func (m *machine) try(arguments ...string) (string, error) {
	var complaint bytes.Buffer
	command := m.enter(arguments...)
	command.Stderr = &complaint
	text, err := command.Output()
	if err != nil {
		text = append(text, complaint.Bytes()...)
	}
	return strings.TrimSpace(string(text)), err
}

// run is try where the exit code is no matter.
func (m *machine) run(arguments ...string) string {
	text, _ := m.try(arguments...)
	return text
}

// demand is try where it must succeed.
func (m *machine) demand(arguments ...string) string {
	m.t.Helper()
	text, err := m.try(arguments...)
	if err != nil {
		m.t.Fatalf("%s: %v: %s", strings.Join(arguments, " "), err, text)
	}
	return text
}

// follow returns pawl's lines in the journal, as they come.
func (m *machine) follow() *stream {
	journal := newStream()
	command := m.enter("journalctl", "--follow", "--lines=all", "--output=cat", "--unit="+unit, "_SYSTEMD_UNIT="+unit)
	command.Stdout, command.Stderr = journal, journal
	// nsenter's child is journalctl, which is what has to be killed.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(m.t, command.Start())
	m.t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
	})
	return journal
}

// attach makes an agent of what the unit runs, for the helpers of one.
func (m *machine) attach(l *lab) *agent {
	socket := filepath.Join(m.root, l.binaries.site.socket(m.t))
	l.status = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
	return &agent{t: m.t, lab: l, began: time.Now(), log: m.follow(), ended: m.ended}
}

// unitState is what systemd says of the unit.
type unitState struct {
	Active, Sub, Result, Status string
	Restarts                    int
	PID                         string // in the machine
}

func (m *machine) unitState() unitState {
	m.t.Helper()
	found := map[string]string{}
	for row := range strings.Lines(m.demand("systemctl", "show", unit, "--property=ActiveState,SubState,Result,StatusText,NRestarts,MainPID")) {
		name, value, _ := strings.Cut(strings.TrimSpace(row), "=")
		found[name] = value
	}
	restarts, err := strconv.Atoi(found["NRestarts"])
	must(m.t, err)
	state := unitState{Active: found["ActiveState"], Sub: found["SubState"], Result: found["Result"],
		Status: found["StatusText"], Restarts: restarts, PID: found["MainPID"]}
	if state.Active == "failed" || state.Result == "start-limit-hit" {
		m.t.Fatalf("the unit has failed for good: %+v", state)
	}
	return state
}

// awaitActive waits until the unit was restarted so often in all, and is ready.
func (m *machine) awaitActive(restarts int) unitState {
	m.t.Helper()
	var state unitState
	eventually(m.t, fmt.Sprintf("%s is active after %d restarts", unit, restarts), func() (bool, string) {
		state = m.unitState()
		return state.Active == "active" && state.Sub == "running" && state.Restarts == restarts, fmt.Sprintf("%+v", state)
	})
	return state
}

// override is a drop-in for pawl's unit, which systemd has yet to read.
func (m *machine) override(name, text string) {
	m.t.Helper()
	folder := filepath.Join(m.root, unitFolder, unit+".d")
	must(m.t, os.MkdirAll(folder, 0o755))
	must(m.t, os.WriteFile(filepath.Join(folder, name+".conf"), []byte(text), 0o644))
}

// signal sends one to pawl's main process, as `systemctl kill` does.
func (m *machine) signal(name string) {
	m.t.Helper()
	m.demand("systemctl", "kill", "--kill-whom=main", "--signal="+name, unit)
}
