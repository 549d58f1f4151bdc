package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// agent is one run of bin/pawl. Its methods are for the test's goroutine.
type agent struct {
	t      *testing.T
	lab    *lab
	binary string
	pid    int
	began  time.Time
	log    *stream
	ended  chan struct{} // closed when it is reaped
	err    error         // how it ended; read it after ended only
	// crashes is how many lines the log had before the test made it crash; zero: it did not.
	crashes int
	// forgiven are errors of its own that the test provokes, by a part of their line.
	forgiven []string
}

// program is how an agent is started.
type program struct {
	binary      string // empty: bin/pawl
	arguments   []string
	environment []string
	// before is shell that runs first, in a mount namespace of its own, as root there.
	before string
	// ahead is how far its wall clock is ahead of the machine's, and clock where to set that later.
	ahead time.Duration
	clock *warp
}

// startAgent starts `pawl run`. It is ended, and its log checked for what must
// never be in one, when the test ends.
func startAgent(t *testing.T, l *lab, of program) *agent {
	t.Helper()
	if of.binary == "" {
		of.binary = l.binaries.pawl
	}
	a := &agent{t: t, lab: l, binary: of.binary, log: newStream(), ended: make(chan struct{})}
	command := exec.Command(of.binary, append([]string{"run"}, of.arguments...)...)
	if of.before != "" {
		command = exec.Command("/bin/sh", append([]string{"-c", of.before + ` && exec "$0" run "$@"`, of.binary}, of.arguments...)...)
		command.SysProcAttr = ownMounts()
	}
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, of.environment...)
	command.Stdout, command.Stderr = a.log, a.log
	command.WaitDelay = time.Second
	a.began = time.Now()
	if of.clock == nil {
		must(t, l.launcher.start(command, syscall.SIGKILL))
	} else {
		must(t, l.launcher.startPatched(command, syscall.SIGKILL, func(pid int) error { return of.clock.patch(pid, of.ahead) }))
	}
	a.pid = command.Process.Pid
	go func() {
		a.err = command.Wait()
		close(a.ended)
	}()
	t.Cleanup(a.cleanUp)
	return a
}

// ownMounts gives a process a mount namespace of its own, and where the tests are
// not root's, the user namespace that it takes.
func ownMounts() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}

// cleanUp ends an agent that still runs, and looks at what it wrote.
func (a *agent) cleanUp() {
	if a.running() {
		_ = syscall.Kill(a.pid, syscall.SIGTERM)
		timer := time.NewTimer(2 * stopBound)
		defer timer.Stop()
		select {
		case <-a.ended:
		case <-timer.C:
			a.t.Errorf("pawl was still there %s after SIGTERM; its log ends with:\n%s", 2*stopBound, a.log.tail(20))
			_ = syscall.Kill(a.pid, syscall.SIGKILL)
			<-a.ended
		}
	}
	a.checkLog()
	if a.t.Failed() {
		a.t.Logf("pawl's log ends with:\n%s", a.log.tail(40))
	}
}

// checkLog fails the test where pawl panicked or wrote an error of its own.
func (a *agent) checkLog() {
	lines, _ := a.log.since(0)
	if a.crashes > 0 {
		lines = lines[:a.crashes]
	}
	for _, each := range lines {
		if strings.Contains(strings.ToLower(each.text), "panic") || strings.HasPrefix(each.text, "fatal error:") {
			a.t.Errorf("pawl panicked: %s", each.text[:min(len(each.text), 2000)])
		} else if fields := each.fields(); fields["level"] == "ERROR" && fields["component"] == "" && !containsAny(each.text, a.forgiven) {
			a.t.Errorf("pawl wrote an error of its own: %s", each.text)
		}
	}
}

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// kill ends the process as a crash or the kernel would.
func (a *agent) kill() {
	a.t.Helper()
	a.signal(syscall.SIGKILL)
	<-a.ended
}

func (a *agent) running() bool {
	select {
	case <-a.ended:
		return false
	default:
		return true
	}
}

func (a *agent) fatalf(format string, arguments ...any) {
	a.t.Helper()
	a.t.Fatalf("pawl: %s; its log ends with:\n%s", fmt.Sprintf(format, arguments...), a.log.tail(30))
}

// awaitLine returns the first line after mark that match says yes to.
func (a *agent) awaitLine(mark int, what string, match func(line) bool) line {
	a.t.Helper()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for {
		lines, grown := a.log.since(mark)
		for _, each := range lines {
			if match(each) {
				return each
			}
		}
		select {
		case <-grown:
		case <-a.ended:
			a.fatalf("it ended (%v) before: %s", a.err, what)
		case <-timer.C:
			a.fatalf("waited %s for: %s", bound, what)
		}
	}
}

// awaitMove returns the first move after mark to one of these states.
func (a *agent) awaitMove(mark int, to ...string) move {
	a.t.Helper()
	found := a.awaitLine(mark, "a move to "+strings.Join(to, " or "), func(each line) bool {
		one, is := each.moved()
		return is && slices.Contains(to, one.to)
	})
	one, _ := found.moved()
	return one
}

// report is what the tests read of the agent's report.
type report struct {
	Verdict   string      `json:"verdict"`
	PID       int         `json:"pid"`
	Registers bool        `json:"register_node_exporter"`
	Crashes   []time.Time `json:"crashes"`
	State     string      `json:"state"`
	Since     time.Time   `json:"since"`
	Ready     bool        `json:"ready"`
	Clock     struct {
		Ahead float64 `json:"ahead_seconds"`
	} `json:"clock"`
	Node     node       `json:"node"`
	Epoch    int        `json:"epoch"`
	Next     bool       `json:"next_epoch_under_way"`
	Former   int        `json:"former_tokens_to_revoke"`
	Evidence []evidence `json:"evidence"`
	Reasons  []struct {
		Name   string `json:"name"`
		Detail string `json:"detail"`
		Under  string `json:"under"`
	} `json:"reasons"`
	Actions    []action         `json:"actions"`
	Moves      []map[string]any `json:"moves"`
	MovesTotal int              `json:"moves_total"`
	Services   []struct {
		Name     string    `json:"name"`
		Running  bool      `json:"running"`
		Since    time.Time `json:"since"`
		Restarts int       `json:"restarts"`
	} `json:"services"`
}

type node struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

type evidence struct {
	Thing   string     `json:"thing"`
	Grade   string     `json:"grade"`
	ID      string     `json:"id"`
	Under   string     `json:"under"`
	Index   uint64     `json:"index"`
	Expires *time.Time `json:"expires"`
}

type action struct {
	Action   string `json:"action"`
	Total    int    `json:"attempts_total"`
	Failed   int    `json:"failed_total"`
	Class    string `json:"last_class"`
	Error    string `json:"last_error"`
	Fix      string `json:"fix"`
	Standing bool   `json:"standing"`
}

func (r report) evidence(thing string) evidence {
	for _, each := range r.Evidence {
		if each.Thing == thing {
			return each
		}
	}
	return evidence{}
}

func (r report) action(name string) action {
	for _, each := range r.Actions {
		if each.Action == name {
			return each
		}
	}
	return action{}
}

func (r report) reason(name string) bool {
	for _, each := range r.Reasons {
		if each.Name == name {
			return true
		}
	}
	return false
}

func (r report) String() string {
	return fmt.Sprintf("%s (%s) %v, actions %+v", r.State, r.Verdict, r.Reasons, r.Actions)
}

// status runs `pawl status --json` and returns its report and exit code. Where no
// agent answers the report is empty.
func (a *agent) status() (report, int) {
	a.t.Helper()
	return askStatus(a.t, a.binary)
}

func askStatus(t *testing.T, binary string) (report, int) {
	t.Helper()
	var complaint bytes.Buffer
	command := exec.Command(binary, "status", "--json")
	command.Stderr = &complaint
	text, err := command.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	var answer report
	code := command.ProcessState.ExitCode()
	if code != exitNoAgent {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("read `pawl status --json` (exit %d, %q): %v", code, complaint.String(), err)
		}
	}
	return answer, code
}

// Exit codes of `pawl status`, and of `pawl run` called wrongly.
const (
	exitReady   = 0
	exitWaiting = 1
	exitBroken  = 2
	exitNoAgent = 3
	exitUsage   = 64
)

// awaitStatus asks until the report is as wanted.
func (a *agent) awaitStatus(what string, wanted func(report) bool) report {
	a.t.Helper()
	var last report
	eventually(a.t, what, func() (bool, string) {
		if !a.running() {
			a.fatalf("it ended (%v) before: %s", a.err, what)
		}
		answer, err := a.lab.ask()
		if err != nil {
			return false, err.Error()
		}
		last = answer
		return wanted(last), last.String()
	})
	return last
}

// awaitServing waits until the agent serves and says that it is ready.
func (a *agent) awaitServing() report {
	a.t.Helper()
	return a.awaitStatus("Serving and ready", func(r report) bool { return good(r.State) && r.Ready })
}

// good says whether the agent does its whole work in a state.
func good(state string) bool { return state == "Serving" || state == "Renewing" }
