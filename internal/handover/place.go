package handover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileName is the file in the runtime folder.
const fileName = "handover"

// longest bounds what is read: a document is a few kilobytes.
const longest = 1 << 20

// Now returns the stamp of this moment, on this machine, for this site.
func Now(site string) Stamp {
	stamp := Stamp{Wall: time.Now(), Site: site, BootID: firstLine("/proc/sys/kernel/random/boot_id")}
	// Root alone may read the first; which of them it is does not matter, only that it is the same.
	if stamp.Machine = firstLine("/sys/class/dmi/id/product_uuid"); stamp.Machine == "" {
		stamp.Machine = firstLine("/etc/machine-id")
	}
	var boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) == nil {
		stamp.Boot = time.Duration(boot.Nano())
	}
	return stamp
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// Save puts the document into the folder, whole or not at all: 0600, in a folder
// of ours that is 0700, and only where the file system lives in memory.
func Save(folder string, text []byte) error {
	if err := private(folder); err != nil {
		return err
	}
	temporary := filepath.Join(folder, fileName+".new")
	// A crash may have left one behind; O_EXCL, so that no link planted there is followed.
	_ = os.Remove(temporary)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save hand-over: %w", err)
	}
	_, err = file.Write(text)
	if closed := file.Close(); err == nil {
		err = closed
	}
	path := filepath.Join(folder, fileName)
	if err == nil {
		if there, found := os.Lstat(path); found == nil && there.IsDir() {
			_ = os.RemoveAll(path) // over a folder that somebody put there no file can be renamed
		}
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary) // half a document is worse than the one before
		return fmt.Errorf("save hand-over: %w", err)
	}
	return nil
}

// private refuses a folder in which a secret could reach a disk or a neighbour.
func private(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("save hand-over: %w", err)
	}
	var system unix.Statfs_t
	if err := unix.Statfs(folder, &system); err != nil {
		return fmt.Errorf("save hand-over: look at %s: %w", folder, err)
	}
	if kind := int64(system.Type); kind != unix.TMPFS_MAGIC && kind != unix.RAMFS_MAGIC {
		return fmt.Errorf("save hand-over: %s is not on tmpfs; put the site's runtime_folder there, or a crash costs a login", folder)
	}
	var status unix.Stat_t
	if err := unix.Lstat(folder, &status); err != nil {
		return fmt.Errorf("save hand-over: look at %s: %w", folder, err)
	}
	if status.Mode&unix.S_IFMT != unix.S_IFDIR || status.Mode&0o077 != 0 || int(status.Uid) != os.Geteuid() {
		return fmt.Errorf("save hand-over: %s must be a folder of our own with mode 0700", folder)
	}
	return nil
}

// Delete removes the document: a leave leaves nothing to hand over.
func Delete(folder string) error {
	err := os.Remove(filepath.Join(folder, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Load reads the document in the folder, ErrNone where there is none.
func Load(folder string) ([]byte, error) {
	file, err := os.OpenFile(filepath.Join(folder, fileName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("load hand-over: %w", err)
	}
	defer file.Close()
	return read(file)
}

// Memory puts the document into a memfd that an executed successor inherits, and
// returns its descriptor. The memory goes with the last process that holds it.
func Memory(text []byte) (int, error) {
	descriptor, err := unix.MemfdCreate("pawl-handover", 0)
	if err != nil {
		return 0, fmt.Errorf("make hand-over memory: %w", err)
	}
	for rest := text; len(rest) > 0; {
		written, err := unix.Write(descriptor, rest)
		if err != nil {
			_ = unix.Close(descriptor)
			return 0, fmt.Errorf("fill hand-over memory: %w", err)
		}
		rest = rest[written:]
	}
	if _, err := unix.Seek(descriptor, 0, io.SeekStart); err != nil {
		_ = unix.Close(descriptor)
		return 0, fmt.Errorf("rewind hand-over memory: %w", err)
	}
	return descriptor, nil
}

// FromMemory reads the document out of an inherited memfd and closes it.
func FromMemory(descriptor int) ([]byte, error) {
	file := os.NewFile(uintptr(descriptor), "pawl-handover")
	if file == nil {
		return nil, fmt.Errorf("load hand-over: %d is no descriptor", descriptor)
	}
	defer file.Close()
	return read(file)
}

func read(from io.Reader) ([]byte, error) {
	var text bytes.Buffer
	if _, err := io.Copy(&text, io.LimitReader(from, longest)); err != nil {
		return nil, fmt.Errorf("load hand-over: %w", err)
	}
	return text.Bytes(), nil
}
