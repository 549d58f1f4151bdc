package main

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"pawl/internal/site"
	"pawl/states"
)

// role tells a copy of this test binary what it plays in TestImpatience.
const role = "PAWL_TEST_ROLE"

// TestImpatience: a SIGHUP that met the successor before it could ask for its
// signals ended it, and a SIGTERM on the heels of a SIGHUP ended pawl without a
// leave. Now the one is ignored, and the other is passed on.
func TestImpatience(t *testing.T) {
	of := environment{site: site.Site{RuntimeFolder: t.TempDir()}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	switch os.Getenv(role) {
	case "predecessor":
		t.Setenv(role, "successor")
		held := states.Held{Identity: states.Identity{Node: "vm-1"}, Current: states.Epoch{Number: 3}}
		t.Fatal(succeed(of, "/proc/self/exe", held, nil, func() bool { return true }))
	case "successor": // SIGUSR1 is harmless as soon as Go runs
		for _, each := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
			if !signal.Ignored(each) {
				t.Errorf("%s would have ended this process", each)
			}
			signal.Notify(make(chan os.Signal, 1), each)
			if signal.Ignored(each) {
				t.Errorf("%s stays ignored", each)
			}
		}
		held, _, leave := inherit(of)
		if !leave || held.Identity.Node != "vm-1" || held.Current.Number != 3 {
			t.Errorf("it was told to leave: %t, with %+v", leave, held.Identity)
		}
		if os.Getenv(inheritance) != "" {
			t.Error("the variable is left for its children")
		}
		return
	}
	command := exec.Command("/proc/self/exe", "-test.run", "^TestImpatience$", "-test.timeout", "30s")
	command.Env = append(os.Environ(), role+"=predecessor")
	if text, err := command.CombinedOutput(); err != nil || !strings.Contains(string(text), "PASS") {
		t.Errorf("%v: %s", err, text)
	}
}
