package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// runState is what a part of the lab is doing.
type runState string

const (
	stateRunning runState = "running"
	statePaused  runState = "paused"
	stateStopped runState = "stopped"
	// stateDead: it ended and nobody had asked it to.
	stateDead runState = "dead"
)

const (
	// retryEvery is how often a process that cannot tell us when it is ready is asked.
	retryEvery = 15 * time.Millisecond
	// askTimeout bounds one such question.
	askTimeout = 3 * time.Second
	// readyTimeout bounds a start: beyond it something is wrong, and the log says what.
	readyTimeout = 60 * time.Second
	// stopTimeout bounds a SIGTERM.
	stopTimeout = 15 * time.Second
)

// component is one part of the lab. Each method returns only when the thing is
// really so, and at once when it was so already. Safe from any goroutine.
type component interface {
	start(context.Context) error
	stop(context.Context) error
	kill(context.Context) error
	pause(context.Context) error
	resume(context.Context) error
	report() processReport
}

// wantState is nil where a part is already what was wanted, else it says why it cannot be.
func wantState(name string, is, wanted runState) error {
	if is == wanted {
		return nil
	}
	return fmt.Errorf("%s is %s, so it cannot become %s", name, is, wanted)
}

// launcher starts children from one thread that lives as long as this process:
// the kernel's death signal is sent when the *thread* that forked ends.
type launcher struct{ requests chan func() }

func newLauncher() *launcher {
	l := &launcher{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for request := range l.requests {
			request()
		}
	}()
	return l
}

func (l *launcher) start(command *exec.Cmd) error {
	result := make(chan error)
	l.requests <- func() { result <- command.Start() }
	return <-result
}

// process is a component that is a child process.
type process struct {
	name, program string
	arguments     []string
	log           string
	launcher      *launcher
	// ready is one attempt to see that the process does its work; it may finish what a
	// start needs (unsealing). answers, where set, is asked instead after a resume.
	ready, answers func(context.Context) error
	// changed is told of an end that nobody asked for. Called on a goroutine of its own.
	changed func(string)

	// operation is held by the one command that is being carried out.
	operation sync.Mutex
	// mutex guards what follows.
	mutex    sync.Mutex
	state    runState
	since    time.Time
	pid      int
	ended    chan struct{} // closed when the present child is reaped
	expected bool
}

func (p *process) report() processReport {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return processReport{Name: p.name, State: p.state, PID: p.pid, Since: p.since, Log: p.log}
}

func (p *process) start(ctx context.Context) error {
	p.operation.Lock()
	defer p.operation.Unlock()
	if p.report().State == statePaused {
		return fmt.Errorf("start %s: it is paused; resume it", p.name)
	}
	if p.report().State != stateRunning {
		if err := p.launch(); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	if err := p.await(ctx, p.ready); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

func (p *process) launch() error {
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command(p.program, p.arguments...)
	command.Stdout, command.Stderr = output, output
	// A group of its own, so that Ctrl-C reaches the driver alone and it ends the children in order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.launcher.start(command); err != nil {
		return err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	ended := make(chan struct{})
	p.state, p.since, p.pid, p.ended, p.expected = stateRunning, time.Now(), command.Process.Pid, ended, false
	go p.reap(command, ended)
	return nil
}

func (p *process) reap(command *exec.Cmd, ended chan struct{}) {
	err := command.Wait()
	p.mutex.Lock()
	expected := p.expected
	p.state, p.since, p.pid = stateStopped, time.Now(), 0
	if !expected {
		p.state = stateDead
	}
	p.mutex.Unlock()
	close(ended)
	if !expected && p.changed != nil {
		p.changed(fmt.Sprintf("%s ended by itself (%v); its log: %s", p.name, describeEnd(err), p.log))
	}
}

func describeEnd(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// await asks until the answer is nil, the child ends, or readyTimeout passes.
func (p *process) await(ctx context.Context, attempt func(context.Context) error) error {
	p.mutex.Lock()
	ended := p.ended
	p.mutex.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := retry(ctx, ended, attempt)
	if errors.Is(err, errEnded) {
		return fmt.Errorf("it ended at once; its log %s ends with:\n%s", p.log, lastLines(p.log, 5))
	}
	return err
}

var errEnded = errors.New("the process has ended")

// retry asks until the answer is nil. It ends early with ctx or when ended is closed.
func retry(ctx context.Context, ended <-chan struct{}, attempt func(context.Context) error) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, askTimeout)
		err := attempt(bounded)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}

func (p *process) stop(ctx context.Context) error {
	return p.end(ctx, syscall.SIGTERM)
}

func (p *process) kill(ctx context.Context) error {
	return p.end(ctx, syscall.SIGKILL)
}

// end sends a signal and returns when the child is reaped.
func (p *process) end(ctx context.Context, signal syscall.Signal) error {
	if signal != syscall.SIGKILL { // a kill need not wait for a start that never gets ready
		p.operation.Lock()
		defer p.operation.Unlock()
	}
	p.mutex.Lock()
	pid, ended := p.pid, p.ended
	if pid == 0 {
		p.state = stateStopped
		p.mutex.Unlock()
		return nil
	}
	p.expected = true
	paused := p.state == statePaused
	err := syscall.Kill(pid, signal) // under the mutex: until reap takes it, the pid is still ours
	if paused && signal != syscall.SIGKILL {
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
	}
	p.mutex.Unlock()
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	bounded, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-bounded.Done():
		return fmt.Errorf("%s (pid %d) did not end on %s within %s; kill it", p.name, pid, signal, stopTimeout)
	}
}

func (p *process) pause(ctx context.Context) error {
	p.operation.Lock()
	defer p.operation.Unlock()
	pid, err := p.move(stateRunning, statePaused, syscall.SIGSTOP)
	if err != nil || pid == 0 {
		return err
	}
	if err := p.await(ctx, func(context.Context) error { return isStopped(pid) }); err != nil {
		return fmt.Errorf("pause %s: %w", p.name, err)
	}
	return nil
}

func (p *process) resume(ctx context.Context) error {
	p.operation.Lock()
	defer p.operation.Unlock()
	pid, err := p.move(statePaused, stateRunning, syscall.SIGCONT)
	if err != nil || pid == 0 {
		return err
	}
	attempt := p.ready
	if p.answers != nil {
		attempt = p.answers
	}
	if err := p.await(ctx, attempt); err != nil {
		return fmt.Errorf("resume %s: %w", p.name, err)
	}
	return nil
}

// move signals the child and notes its new state. pid is 0 where it was so already.
func (p *process) move(from, to runState, signal syscall.Signal) (pid int, err error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.state != from {
		return 0, wantState(p.name, p.state, to)
	}
	if err := syscall.Kill(p.pid, signal); err != nil {
		return 0, fmt.Errorf("signal %s: %w", p.name, err)
	}
	p.state, p.since = to, time.Now()
	return p.pid, nil
}

// isStopped asks the kernel whether a process has stopped.
func isStopped(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The state follows the command, which stands in parentheses and may hold anything.
	_, rest, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	if !found || !strings.HasPrefix(rest, "T") {
		return fmt.Errorf("process %d is not stopped yet", pid)
	}
	return nil
}

// lastLines returns the end of a log file, for an error.
func lastLines(path string, count int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
