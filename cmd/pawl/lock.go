package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file in the runtime folder that the running agent holds.
const lockName = "pawl.lock"

// hold makes sure that this is the only agent of the runtime folder, until the
// process ends: a second one would take the first one's hand-over for its own, and
// revoke at its end what the first one runs with. The error says who holds it.
func hold(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the runtime folder: %w; it is a constant of the site: systemd's RuntimeDirectory= makes it, or make it by hand", err)
	}
	path := filepath.Join(folder, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the runtime folder: %w; it must belong to the user that runs pawl", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(file, 20)) // who holds it is a courtesy
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: another pawl runs here (pid %s); stop it first, or ask it: pawl status", path, strings.TrimSpace(string(holder)))
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The pid is for whoever finds the lock taken; on a full disk it stays unsaid (faults.md F15).
	if file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return file, nil
}
