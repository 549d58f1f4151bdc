package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pawl/internal/handover"
	"pawl/states"
)

// inheritance is the variable in which a process tells the one that it executes
// in its own place which descriptors it left: the memory with what is held, and
// the exporter's listener. It is no setting: it holds no more than two numbers, and
// leaveWord where the process that left them was told to end meanwhile.
const inheritance = "PAWL_INHERITANCE"

const leaveWord = ",leave"

const (
	// trialTimeout bounds the trial run of a new binary.
	trialTimeout = 10 * time.Second
	// outputTimeout bounds the wait for the output of a trial that has ended: a child
	// of its own may hold that open for ever.
	outputTimeout = time.Second
)

// inherit returns what the process before this one left, from its memory or, after
// a crash, from the file. What cannot be used is the same as nothing, said once.
// leave says that the process before this one was told to end.
func inherit(of environment) (held states.Held, listener net.Listener, leave bool) {
	value, leave := strings.CutSuffix(os.Getenv(inheritance), leaveWord)
	_ = os.Unsetenv(inheritance)
	text, listener, err := inherited(value)
	if errors.Is(err, handover.ErrNone) {
		text, err = handover.Load(of.site.RuntimeFolder)
	}
	if err == nil {
		held, err = handover.Decode(text, handover.Now(of.site.Hash()))
	}
	switch {
	case err == nil:
		of.log.Info("handed over", "node", held.Identity.Node, "epoch", held.Current.Number)
	case !errors.Is(err, handover.ErrNone):
		of.log.Warn("no hand-over", "error", err)
	}
	return held, listener, leave
}

// inherited takes the descriptors named by the variable. The listener is taken
// whatever becomes of the rest: left open it would keep the port from us.
func inherited(value string) ([]byte, net.Listener, error) {
	if value == "" {
		return nil, nil, handover.ErrNone
	}
	memory, socket, _ := strings.Cut(value, ",")
	listener := inheritedListener(socket)
	descriptor, err := strconv.Atoi(memory)
	if err != nil || descriptor < 3 {
		return nil, listener, fmt.Errorf("read %s: %q names no descriptor", inheritance, value)
	}
	text, err := handover.FromMemory(descriptor)
	return text, listener, err
}

// inheritedListener returns nil where no listener was left: this process binds its own.
func inheritedListener(socket string) net.Listener {
	descriptor, err := strconv.Atoi(socket)
	if err != nil || descriptor < 3 {
		return nil
	}
	file := os.NewFile(uintptr(descriptor), "exporter")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	return listener
}

// try runs the binary that would succeed this process, as far as its version: one
// that does not even start must not take the place of one that works (faults.md F45).
func try(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, path, "version")
	command.WaitDelay = outputTimeout
	if text, err := command.CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("try %s: %w: %s", path, err, line)
	}
	return nil
}

// succeed executes path in the place of this process, with what is held in memory
// that only the successor inherits. told ends the listening for SIGTERM and says
// whether it was heard until then: it is the successor that leaves. One that comes
// after that, and before the successor listens, ends it without a leave: the
// runtime lifts every mask that could make it wait. It returns only when exec failed.
func succeed(of environment, path string, held states.Held, socket *os.File, told func() bool) error {
	text, err := handover.Encode(held, handover.Now(of.site.Hash()))
	if err != nil {
		return err
	}
	memory, err := handover.Memory(text)
	if err != nil {
		return err
	}
	value := strconv.Itoa(memory)
	if socket != nil {
		// The runtime closes descriptors on exec unless told otherwise.
		if _, _, number := syscall.Syscall(syscall.SYS_FCNTL, socket.Fd(), syscall.F_SETFD, 0); number != 0 {
			of.log.Warn("cannot hand over the exporter's listener", "error", number)
		} else {
			value += "," + strconv.Itoa(int(socket.Fd()))
		}
	}
	// What is ignored stays so across exec until the successor asks for it. Otherwise
	// a second SIGHUP would end it while its libraries begin, which takes a tenth of a second.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	if told() {
		value += leaveWord
	}
	environ := append(os.Environ(), inheritance+"="+value)
	if of.notify != "" {
		environ = append(environ, notifyVariable+"="+of.notify)
	}
	if err := syscall.Exec(path, os.Args, environ); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}
