package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pawl/internal/handover"
	"pawl/states"
)

// inheritance is the variable in which a process tells the one that it executes
// in its own place which descriptors it left: the memory with what is held, and
// the exporter's listener. It is no setting: it holds no more than two numbers.
const inheritance = "PAWL_INHERITANCE"

// trialTimeout bounds the trial run of a new binary.
const trialTimeout = 10 * time.Second

// inherit returns what the process before this one left, from its memory or, after
// a crash, from the file. What cannot be used is the same as nothing, said once.
func inherit(of environment) (states.Held, net.Listener) {
	text, listener, err := inherited(os.Getenv(inheritance))
	_ = os.Unsetenv(inheritance)
	if errors.Is(err, handover.ErrNone) {
		text, err = handover.Load(of.site.RuntimeFolder)
	}
	var held states.Held
	if err == nil {
		held, err = handover.Decode(text, handover.Now(of.site.Hash()))
	}
	switch {
	case err == nil:
		of.log.Info("handed over", "node", held.Identity.Node, "epoch", held.Current.Number)
	case !errors.Is(err, handover.ErrNone):
		of.log.Warn("no hand-over", "error", err)
	}
	return held, listener
}

// inherited takes the descriptors named by the variable.
func inherited(value string) ([]byte, net.Listener, error) {
	if value == "" {
		return nil, nil, handover.ErrNone
	}
	memory, socket, _ := strings.Cut(value, ",")
	descriptor, err := strconv.Atoi(memory)
	if err != nil || descriptor < 3 {
		return nil, nil, fmt.Errorf("read %s: %q names no descriptor", inheritance, value)
	}
	text, err := handover.FromMemory(descriptor)
	if err != nil {
		return nil, nil, err
	}
	descriptor, err = strconv.Atoi(socket)
	if err != nil || descriptor < 3 {
		return text, nil, nil // no listener was left: this process binds its own
	}
	file := os.NewFile(uintptr(descriptor), "exporter")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return text, nil, nil
	}
	return text, listener, nil
}

// try runs the binary that would succeed this process, as far as its version: one
// that does not even start must not take the place of one that works (faults.md F45).
func try(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), trialTimeout)
	defer cancel()
	if text, err := exec.CommandContext(ctx, path, "version").CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("try %s: %w: %s", path, err, line)
	}
	return nil
}

// succeed executes path in the place of this process, with what is held in memory
// that only the successor inherits. It returns only when that failed.
func succeed(log *slog.Logger, path, site string, held states.Held, socket *os.File) error {
	text, err := handover.Encode(held, handover.Now(site))
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
			log.Warn("cannot hand over the exporter's listener", "error", number)
		} else {
			value += "," + strconv.Itoa(int(socket.Fd()))
		}
	}
	if err := syscall.Exec(path, os.Args, append(os.Environ(), inheritance+"="+value)); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}
