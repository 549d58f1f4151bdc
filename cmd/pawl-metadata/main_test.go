package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"pawl/internal/metadata/server"
)

const one = "machines: [{uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427, node: web-1, address: %s}]"

// service is the real program in a process of its own.
type service struct {
	command *exec.Cmd
	lines   *bufio.Scanner
	seen    []string
}

// await reads the log until a line has text, and returns the line.
func (s *service) await(t *testing.T, text string) string {
	t.Helper()
	for s.lines.Scan() {
		s.seen = append(s.seen, s.lines.Text())
		if strings.Contains(s.lines.Text(), text) {
			return s.lines.Text()
		}
	}
	t.Fatalf("the log ended without %q:\n%s", text, strings.Join(s.seen, "\n"))
	return ""
}

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pawl-metadata")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func write(t *testing.T, path, address string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Replace(one, "%s", address, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProgram(t *testing.T) {
	program, folder := build(t), t.TempDir()
	inventory := filepath.Join(folder, "inventory.yaml")
	write(t, inventory, "127.0.0.9")
	running := &service{command: exec.CommandContext(t.Context(), program, "--listen", "127.0.0.1:0", "--issuer", "http://127.0.0.1:1",
		"--inventory", inventory, "--audience", "vault", "--audience", "consul", "--ttl", "10s", "--keys", filepath.Join(folder, "keys"))}
	errors, err := running.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	running.lines = bufio.NewScanner(errors)
	if err := running.command.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(running.await(t, "msg=listening"))[1]
	ask := func() int {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+server.IdentityPath+"?audience=consul", nil)
		request.Header.Set(server.GuardHeader, server.GuardValue)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	reload := func(want string) {
		if err := running.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		running.await(t, want)
	}

	if got := ask(); got != http.StatusForbidden {
		t.Errorf("not in the inventory: %d", got)
	}
	write(t, inventory, "127.0.0.1")
	reload("msg=\"inventory read\" machines=1")
	if got := ask(); got != http.StatusOK {
		t.Errorf("in the inventory: %d", got)
	}
	write(t, inventory, "not-an-address")
	reload("inventory refused, the former one stays")
	if got := ask(); got != http.StatusOK {
		t.Errorf("after a bad inventory: %d", got)
	}
	if err := running.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	running.await(t, "msg=ended")
	if err := running.command.Wait(); err != nil {
		t.Errorf("it did not end well: %v", err)
	}
}

func TestProgramRefuses(t *testing.T) {
	program, folder := build(t), t.TempDir()
	good, bad := filepath.Join(folder, "good.yaml"), filepath.Join(folder, "bad.yaml")
	write(t, good, "127.0.0.1")
	write(t, bad, "nowhere")
	base := func(inventory string, more ...string) []string {
		return append([]string{"--listen", "127.0.0.1:0", "--issuer", "http://a", "--inventory", inventory, "--keys", filepath.Join(folder, "keys")}, more...)
	}
	for _, test := range []struct {
		name, want string
		arguments  []string
		code       int
	}{
		{"no flags", "--listen is missing", nil, exitUsage},
		{"unknown flag", "not defined", base(good, "--insecure"), exitUsage},
		{"argument", "unexpected argument", base(good, "x"), exitUsage},
		{"bad ttl", "invalid value", base(good, "--audience", "vault", "--ttl", "5"), exitUsage},
		{"long ttl", "check the ttl", base(good, "--audience", "vault", "--ttl", "5h"), exitFailed},
		{"no audience", "check the audiences", base(good), exitFailed},
		{"bad inventory", "bad.yaml:1: address", base(bad, "--audience", "vault"), exitFailed},
		{"no inventory", "no such file", base(filepath.Join(folder, "none"), "--audience", "vault"), exitFailed},
	} {
		output, err := exec.CommandContext(t.Context(), program, test.arguments...).CombinedOutput()
		if err == nil || err.(*exec.ExitError).ExitCode() != test.code || !strings.Contains(string(output), test.want) {
			t.Errorf("%s: %v\n%s", test.name, err, output)
		}
	}
}
