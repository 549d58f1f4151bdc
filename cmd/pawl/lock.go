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

// folderFix is what to do where the runtime folder cannot be had.
const folderFix = "it is a constant of the site and must be writable for the user that runs pawl: systemd's RuntimeDirectory= makes it so, or make it by hand"

// hold makes sure that this is the only agent of the runtime folder, until the
// process ends: a second one would take the first one's hand-over for its own, and
// revoke at its end what the first one runs with. The error says who holds it, or
// why the folder cannot be had, and what to do about it.
func hold(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the runtime folder %s: %w; %s", folder, err, folderFix)
	}
	var status unix.Stat_t
	if err := unix.Stat(folder, &status); err != nil {
		return nil, fmt.Errorf("look at the runtime folder %s: %w; %s", folder, err, folderFix)
	}
	// Whoever else owns it could put another hand-over there; and root, who is let
	// in everywhere, would leave files there that the owner's own pawl cannot open.
	if owner, own := int(status.Uid), os.Geteuid(); owner != own {
		return nil, fmt.Errorf("take the runtime folder %s: it belongs to uid %d, and this is uid %d; run pawl as the folder's owner, or remove the folder", folder, owner, own)
	}
	path := filepath.Join(folder, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the runtime folder: %w; %s", err, folderFix)
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
