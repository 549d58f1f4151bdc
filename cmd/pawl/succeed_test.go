package main

import (
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pawl/internal/site"
	"pawl/states"
)

// role tells a copy of this test binary what it plays in TestImpatience.
const role = "PAWL_TEST_ROLE"

// TestImpatience: a SIGHUP that meets the successor before it listens is ignored,
// and does not end it. A SIGTERM on the heels of a SIGHUP is passed on.
func TestImpatience(t *testing.T) {
	of := environment{site: site.Site{RuntimeFolder: t.TempDir()}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	switch os.Getenv(role) {
	case "predecessor":
		t.Setenv(role, "successor")
		held := states.Held{Identity: states.Identity{Node: "vm-1"}, Current: states.Epoch{Number: 3}}
		t.Fatal(succeed(of, "/proc/self/exe", held, nil, func() bool { return true }))
	case "successor":
		if !signal.Ignored(syscall.SIGHUP) {
			t.Error("SIGHUP would have ended this process")
		}
		listen()
		if signal.Ignored(syscall.SIGHUP) {
			t.Error("SIGHUP stays ignored")
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

// TestToldWhileStopping: a SIGTERM that comes while a successor is made is heard
// until the listening ends, whatever else crowds in, and is never lost.
func TestToldWhileStopping(t *testing.T) {
	runtime.LockOSThread() // what is sent to one's own thread has come when the call returns
	defer runtime.UnlockOSThread()
	for range 200 {
		p := &process{environment: environment{log: slog.New(slog.DiscardHandler)}, signals: listen()}
		told := p.hurry(endSucceed)
		for len(p.signals.asks) < cap(p.signals.asks) {
			p.signals.asks <- syscall.SIGHUP
		}
		if err := unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !told() {
			t.Fatal("a SIGTERM was lost")
		}
		signal.Stop(p.signals.asks)
	}
	p := &process{environment: environment{log: slog.New(slog.DiscardHandler)}, signals: listen()}
	if p.hurry(endSucceed)() {
		t.Error("it heard a SIGTERM that nobody sent")
	}
	signal.Stop(p.signals.asks)
}

// TestListenerOfABadHandOver: what is handed over cannot be read, and the listener
// is taken all the same: nobody would ever accept on it, and its port stay taken.
func TestListenerOfABadHandOver(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	left, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	descriptor, err := syscall.Dup(int(left.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = left.Close(), listener.Close()
	_, taken, err := inherited("nonsense," + strconv.Itoa(descriptor))
	if err == nil || taken == nil {
		t.Fatalf("took %v, %v", taken, err)
	}
	if taken.Addr().String() != listener.Addr().String() {
		t.Errorf("took %s", taken.Addr())
	}
	if err := taken.Close(); err != nil {
		t.Error(err)
	}
	again, err := net.Listen("tcp", listener.Addr().String())
	if err != nil {
		t.Fatalf("the port stays taken: %v", err)
	}
	_ = again.Close()
}
