package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// soakLength is that of the short form of `make soak`.
	soakLength = 2 * time.Minute
	// soakBound is for the lab's start, the last outage, the settling and the end.
	soakBound = soakLength + 8*time.Minute
	// leastRotations of each credential are made in it by the slowest machine. An
	// idle one makes ten.
	leastRotations = 4
)

// TestSoak runs two minutes of `pawl-lab soak`, which judges itself: whatever is
// lost, missing, leaking or left makes it fail. This test sees to it that there was
// something to judge.
func TestSoak(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	folder := filepath.Join(t.TempDir(), "lab")
	var table, log bytes.Buffer
	command := exec.Command(found.lab, "soak", "--for", soakLength.String(), "--dir", folder, "--ca", found.authority)
	command.Stdout, command.Stderr = &table, &log
	must(t, newLauncher(t).start(command, syscall.SIGTERM)) // it takes its children with it
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	timer := time.NewTimer(soakBound)
	defer timer.Stop()
	var err error
	select {
	case err = <-ended:
	case <-timer.C:
		_ = syscall.Kill(command.Process.Pid, syscall.SIGTERM)
		err = <-ended
		t.Errorf("it did not end within %s", soakBound)
	}
	t.Logf("%s%s", log.String(), table.String())
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(folder, "logs", "pawl.log"))
		t.Fatalf("pawl-lab soak: %v; pawl's log ends with:\n%s", err, text[max(0, len(text)-20000):])
	}
	number := func(row, pattern string) int {
		matched := regexp.MustCompile(`(?m)^` + row + `  +` + pattern).FindStringSubmatch(table.String())
		if matched == nil {
			t.Fatalf("no row %q with %q", row, pattern)
		}
		value, err := strconv.Atoi(matched[1])
		must(t, err)
		return value
	}
	if made := number("rotations", `(\d+) of each`); made < leastRotations {
		t.Errorf("%d rotations, want %d", made, leastRotations)
	}
	if outages := number("outages", `(\d+);`); outages < 2 {
		t.Errorf("%d outages", outages)
	}
	if scrapes := number("scrapes", `(\d+), 0 lost`); scrapes < int(soakLength/time.Second) {
		t.Errorf("%d scrapes", scrapes)
	}
	if number("tokens left in Consul", `(\d+) beside the current one`) != 0 {
		t.Error("tokens were left and it ended well")
	}
	if !strings.Contains(table.String(), "out of the catalogue 0 ms") {
		t.Error("nobody looked at the catalogue")
	}
}
