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

// lockName is the file in the runtime folder that the running agent holds. It says
// the agent's pid, and toldWord after that once it was told to end.
const (
	lockName = "pawl.lock"
	toldWord = "told"
)

// lock is that file, held until the process ends.
type lock struct {
	file *os.File
	// vanished is the pid of the last process that held it, if that one ended
	// without having been told to; else zero.
	vanished int
}

// folderFix is what to do where the runtime folder cannot be had.
const folderFix = "it is a constant of the site and must be writable for the user that runs pawl: systemd's RuntimeDirectory= makes it so, or make it by hand"

// hold makes sure that this is the only agent of the runtime folder, until the
// process ends: a second one would take the first one's hand-over for its own, and
// revoke at its end what the first one runs with. The error says who holds it, or
// why the folder cannot be had, and what to do about it.
func hold(folder string) (*lock, error) {
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
	pid, told := lastHolder(file)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: another pawl runs here (pid %d); stop it first, or ask it: pawl status", path, pid)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	held := &lock{file: file}
	if !told {
		held.vanished = pid
	}
	held.say(strconv.Itoa(os.Getpid()))
	return held, nil
}

// lastHolder returns who wrote into the file last, zero where nobody did, and
// whether that process was told to end.
func lastHolder(file *os.File) (pid int, told bool) {
	text, _ := io.ReadAll(io.LimitReader(file, 30)) // who it was is a courtesy
	first, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, _ = strconv.Atoi(first)
	return pid, rest == toldWord
}

// told writes down that this process was told to end: the next one shall not take it for a crash.
func (l *lock) told() { l.say(strconv.Itoa(os.Getpid()) + " " + toldWord) }

// say replaces what the file says. On a full disk it stays unsaid (faults.md F15).
func (l *lock) say(words string) {
	if l.file.Truncate(0) == nil {
		_, _ = l.file.WriteAt([]byte(words+"\n"), 0)
	}
}

// Close lets the next one have the folder.
func (l *lock) Close() error { return l.file.Close() }
