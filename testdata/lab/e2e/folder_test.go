package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exitLocal is the exit code where the runtime folder cannot be had.
const exitLocal = 73

// testReadOnlyRoot: it needs to write to its runtime folder and to nothing else
// (faults.md F36), all the way to Serving, over a re-execution, and to its end.
func testReadOnlyRoot(t *testing.T, l *lab) {
	folder := l.binaries.site.folder(t)
	must(t, os.MkdirAll(folder, 0o700))
	// Every mount there is but the folder, /dev, /proc and /sys too.
	a := startAgent(t, l, program{before: fmt.Sprintf(`mount --make-rprivate / && mount --bind %[1]s %[1]s &&
		while read -r device place rest; do [ "$place" = %[1]s ] || mount -o remount,bind,ro "$place"; done < /proc/self/mounts 2>&- &&
		! touch /pawl-was-here 2>&- && ! touch %[1]s/../pawl-was-here 2>&-`, folder)})
	moved := a.awaitMove(0, "Serving")
	t.Logf("Serving %s after the start, on a read-only root", moved.at.Sub(a.began).Round(time.Millisecond))
	a.awaitServing()
	if information, err := os.Stat(filepath.Join(folder, handover)); err != nil || information.Size() == 0 {
		t.Errorf("no hand-over was kept: %v", err)
	}
	mark := a.log.mark()
	a.signal(syscall.SIGHUP)
	a.awaitMove(mark, "Serving")
	a.awaitServing()
	a.terminate(nil)
	l.awaitGone(t)
	l.awaitNoTokens(t)
	lines, _ := a.log.since(0)
	for _, each := range lines {
		if strings.Contains(each.text, "read-only file system") {
			t.Errorf("it wanted to write elsewhere: %s", each.text)
		}
	}
}

// testNoFolder: where the runtime folder cannot be had, one line says why and what
// to do, and the exit code says so too.
func testNoFolder(t *testing.T, l *lab) {
	folder := l.binaries.site.folder(t)
	for _, unfit := range []struct{ name, before, says, fix string }{
		{"cannot be made", "mount --bind %[2]s %[2]s && mount -o remount,bind,ro %[2]s", "read-only file system", "RuntimeDirectory="},
		{"cannot be written to", "mkdir -m 700 %[1]s && mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", "read-only file system", "RuntimeDirectory="},
		{"a file", "touch %[1]s", "not a directory", "RuntimeDirectory="},
	} {
		must(t, os.RemoveAll(folder))
		a := startAgent(t, l, program{before: fmt.Sprintf("mount --make-rprivate / && "+unfit.before, folder, filepath.Dir(folder))})
		a.forgiven = []string{`msg="cannot run"`}
		select {
		case <-a.ended:
		case <-t.Context().Done():
		}
		var ended *exec.ExitError
		if !errors.As(a.err, &ended) || ended.ExitCode() != exitLocal {
			t.Errorf("%s: it ended with %v, want exit %d", unfit.name, a.err, exitLocal)
		}
		lines, _ := a.log.since(0)
		if text := a.log.text(); len(lines) != 1 || !strings.Contains(text, folder) || !strings.Contains(text, unfit.says) || !strings.Contains(text, unfit.fix) {
			t.Errorf("%s: it says %q, want one line with %q and %q", unfit.name, text, unfit.says, unfit.fix)
		}
	}
	must(t, os.RemoveAll(folder))
}
