package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUsageErrorsExit64(t *testing.T) {
	for _, line := range []string{
		"", "nonsense", "up --ttl 1s", "up --servers 2", "up --vms 0", "up extra", "up --nonsense",
		"demo --outage --until-serving", "demo --outage-length 5s", "demo --outage --outage-length -1s", "demo x", "bench-boot --boots 0", "bench-boot --ttl 1s",
		"soak --rotations -1", "soak --for -1s", "soak --seed x", "soak --ttl 1s", "soak x",
		"kill", "seal vault", "dns vault.lab.pawl", "dns a b c", "site", "status vault",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), &stdout, &stderr); code != exitUsage {
			t.Errorf("%q: exit %d, %s", line, code, stderr.String())
		}
	}
}

func TestNoLabRuns(t *testing.T) {
	directory := t.TempDir()
	for _, line := range []string{"kill vault --dir " + directory, "kill --dir " + directory + " vault", "status --json --dir " + directory} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(line), &stdout, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "pawl-lab up --dir "+directory) {
			t.Errorf("%q: exit %d, %q", line, code, stderr.String())
		}
	}
}

func TestUpTouchesNoForeignFolder(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "thesis.txt")
	if err := os.WriteFile(file, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(directory); err == nil || !strings.Contains(err.Error(), "not a lab's folder") {
		t.Errorf("a folder with other files: %v", err)
	}
	home, err := openFolder(filepath.Join(directory, "lab"))
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := home.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := home.lock(); err == nil {
		t.Error("two labs in one folder")
	}
	unlock()
	kept := home.path("notes.txt")
	for _, path := range []string{kept, home.record()} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openFolder(string(home)); err != nil {
		t.Errorf("a lab's own folder: %v", err)
	}
	if err := home.clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("a file that is not the lab's was removed")
	}
	if _, err := os.Stat(home.record()); err == nil {
		t.Error("the former lab.json is still there")
	}
}

func TestSocketPathIsShort(t *testing.T) {
	long := folder("/" + strings.Repeat("x", 120))
	if got := long.socket(); len(got) > longestSocket || got == folder("/"+strings.Repeat("y", 120)).socket() {
		t.Errorf("socket %q", got)
	}
	if got := folder("/a/.lab").socket(); got != "/a/.lab/lab.sock" {
		t.Errorf("socket %q", got)
	}
}

// TestProcessLife runs a real child through every order.
func TestProcessLife(t *testing.T) {
	directory := t.TempDir()
	notes := make(chan string, 1)
	answered := func(context.Context) error { return nil }
	child := &process{
		name: "sleeper", program: "/bin/sleep", arguments: []string{"1000"}, log: filepath.Join(directory, "log"),
		launcher: newLauncher(), ready: answered, changed: func(text string) { notes <- text }, state: stateStopped,
	}
	home, err := openFolder(filepath.Join(directory, "lab"))
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{folder: home, names: newNameServer(testResolver, 1), components: map[string]component{}, stderr: os.Stderr}
	l.add("sleeper", child)
	listener, err := listenControl(home.socket())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: l.handler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	defer func() { _ = child.kill(context.Background()) }()

	order := func(command string, want runState) int {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{command, "sleeper", "--dir", string(home)}, &stdout, &stderr); code != exitOK {
			t.Fatalf("%s: exit %d: %s", command, code, stderr.String())
		}
		now := child.report()
		if now.State != want || (now.PID != 0) != (want == stateRunning || want == statePaused) {
			t.Fatalf("after %s: %+v, want %s", command, now, want)
		}
		return now.PID
	}
	first := order("start", stateRunning)
	if again := order("start", stateRunning); again != first {
		t.Errorf("start of what runs made another process: %d, %d", first, again)
	}
	order("pause", statePaused)
	if err := isStopped(first); err != nil {
		t.Error(err)
	}
	order("resume", stateRunning)
	order("pause", statePaused)
	order("stop", stateStopped) // SIGTERM reaches what is paused
	second := order("start", stateRunning)
	order("kill", stateStopped)
	if first == second {
		t.Error("the same process twice")
	}
	order("stop", stateStopped)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"pause", "sleeper", "--dir", string(home)}, &stdout, &stderr); code != exitFailed {
		t.Errorf("pause of what is stopped: exit %d", code)
	}
	if code := run(t.Context(), []string{"kill", "nobody", "--dir", string(home)}, &stdout, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "it has sleeper") {
		t.Errorf("an unknown name: exit %d: %s", code, stderr.String())
	}

	third := order("start", stateRunning)
	if self, err := os.FindProcess(third); err != nil || self.Kill() != nil {
		t.Fatal("cannot kill the child behind the lab's back")
	}
	if note := <-notes; !strings.Contains(note, "sleeper ended by itself (signal: killed)") {
		t.Errorf("note %q", note)
	}
	if got := child.report().State; got != stateDead {
		t.Errorf("state %s, want %s", got, stateDead)
	}
	order("start", stateRunning)
}

func TestAChildThatEndsAtOnceIsAnErrorWithItsLog(t *testing.T) {
	child := &process{
		name: "broken", program: "/bin/sh", arguments: []string{"-c", "echo the reason; exit 3"}, log: filepath.Join(t.TempDir(), "log"),
		launcher: newLauncher(), state: stateStopped,
		ready: func(context.Context) error { return os.ErrDeadlineExceeded },
	}
	if err := child.start(t.Context()); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
}

func TestRecordIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lab.json")
	made := record{Vault: vaultRecord{RootToken: "r"}, Metadata: metadataRecord{VMs: makeMachines(3)}}
	if err := made.write(path); err != nil {
		t.Fatal(err)
	}
	information, err := os.Stat(path)
	if err != nil || information.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", information.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read record
	if err := json.Unmarshal(text, &read); err != nil || read.Vault.RootToken != "r" || len(read.Metadata.VMs) != 3 {
		t.Errorf("%+v %v", read, err)
	}
	if vms := read.Metadata.VMs; vms[0].Address != "127.0.0.1" || vms[2].Address != "127.0.3.3" || vms[0].UUID == vms[1].UUID {
		t.Errorf("%+v", vms)
	}
}
