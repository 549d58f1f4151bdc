package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// sideBySide makes the faults in children, a few at once: each child has a
// network namespace, where loopback is its own, and a mount namespace, where the
// agent's runtime folder is.
func (o chaosOptions) sideBySide(ctx context.Context, home folder, rows []fault) []result {
	results := make([]result, len(rows))
	next := make(chan int)
	var lanes sync.WaitGroup
	starter := newLauncher()
	for lane := range o.atOnce {
		lanes.Go(func() {
			for n := range next {
				results[n] = o.makeInChild(ctx, starter, home, lane, rows[n])
				if ctx.Err() == nil {
					fmt.Fprintf(o.up.stderr, "chaos: %s\n", results[n].line())
				}
			}
		})
	}
	for n := range rows {
		if ctx.Err() != nil {
			break
		}
		next <- n
	}
	close(next)
	lanes.Wait()
	return results
}

// makeInChild makes one fault in a child.
func (o chaosOptions) makeInChild(ctx context.Context, starter *launcher, home folder, lane int, row fault) (made result) {
	made.fault = row
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		made.fail(err)
		return made
	}
	own := home.path("chaos", "lane-"+strconv.Itoa(lane+1))
	found := filepath.Join(own, "result.json")
	_ = os.Remove(found)
	command := exec.Command("/proc/self/exe", "chaos", "--only", row.name, "--dir", own, "--ca", o.up.authority, "--results", found)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), namespaceVariable+"="+here)
	command.Stderr = o.up.stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Unshareflags: ownNamespaces,
	}
	if err := starter.start(command); err != nil {
		made.fail(fmt.Errorf("start a child in namespaces of its own: %w", err))
		return made
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Signal(syscall.SIGTERM) })
	ended := command.Wait()
	stop()
	text, err := os.ReadFile(found)
	if err == nil {
		err = json.Unmarshal(text, &made)
	}
	if err != nil {
		made.fail(fmt.Errorf("the child left no result: %w", errors.Join(ended, err)))
	}
	return made
}

// child makes its one fault, and leaves what it found.
func (o chaosOptions) child(ctx context.Context, home folder, rows []fault) error {
	if !ownNamespace() || len(rows) != 1 {
		return usageError{"--results is for the children of chaos"}
	}
	if err := buildNamespace(); err != nil {
		return err
	}
	// The runtime folder is baked into the agent: only by a mount can each have its own.
	shared := filepath.Dir(runtimeFolder())
	if err := syscall.Mount("tmpfs", shared, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("mount %s: %w", shared, err)
	}
	made := o.make(ctx, home, rows[0])
	text, err := json.Marshal(made)
	if err != nil {
		return err
	}
	return replaceFile(o.results, text, 0o600)
}
