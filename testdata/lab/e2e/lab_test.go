package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"
)

// lab is one run of `pawl-lab up`, with clients that may do everything at its servers.
type lab struct {
	binaries binaries
	launcher *launcher
	folder   string
	record   labRecord
	consul   *consul.Client
	vault    *vault.Client
	// status asks the socket of whatever agent runs.
	status *http.Client
}

// labRecord is what the tests read of lab.json.
type labRecord struct {
	Vault struct {
		Address   string `json:"address"`
		RootToken string `json:"root_token"`
		AuditLog  string `json:"audit_log"`
		CAFile    string `json:"ca_file"`
	} `json:"vault"`
	Consul struct {
		ManagementToken string   `json:"management_token"`
		GossipKey       string   `json:"gossip_key"`
		Servers         []string `json:"servers"`
	} `json:"consul"`
	Metadata struct {
		URL       string `json:"url"`
		Audience  string `json:"audience"`
		Inventory string `json:"inventory"`
		VMs       []struct {
			Name string `json:"name"`
			UUID string `json:"uuid"`
		} `json:"vms"`
	} `json:"metadata"`
	Processes []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
		Log  string `json:"log"`
	} `json:"processes"`
}

// startLab starts a lab and returns when it is up. It is ended with the test.
func startLab(t *testing.T, found binaries, arguments ...string) *lab {
	t.Helper()
	l := &lab{binaries: found, launcher: newLauncher(t), folder: filepath.Join(t.TempDir(), "lab")}
	// No agent begins with what one of another lab has left.
	if _, code := askStatus(t, found.pawl); code != exitNoAgent {
		t.Fatal("an agent of the lab's site runs on this machine already: end it first")
	}
	forget := func() { must(t, os.RemoveAll(found.site.folder(t))) }
	forget()
	t.Cleanup(forget)
	output, ended := newStream(), make(chan struct{})
	command := exec.Command(found.lab, append([]string{"up", "--dir", l.folder, "--ca", found.authority}, arguments...)...)
	command.Stdout, command.Stderr = output, output
	began := time.Now()
	must(t, l.launcher.start(command, syscall.SIGTERM)) // it takes its children with it
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		l.showLogs(t)
		_ = syscall.Kill(command.Process.Pid, syscall.SIGTERM)
		timer := time.NewTimer(bound)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			t.Errorf("pawl-lab did not end within %s of SIGTERM:\n%s", bound, output.tail(20))
			_ = syscall.Kill(command.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if code := command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("pawl-lab ended with %d:\n%s", code, output.tail(20))
		}
	})
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for up := false; !up; {
		lines, grown := output.since(0)
		for _, each := range lines {
			up = up || each.text == "lab is up"
		}
		if up {
			break
		}
		select {
		case <-grown:
		case <-ended:
			t.Fatalf("pawl-lab ended before its lab was up:\n%s", output.tail(20))
		case <-timer.C:
			t.Fatalf("no lab within %s:\n%s", bound, output.tail(20))
		}
	}
	t.Logf("the lab took %s to come up", time.Since(began).Round(time.Millisecond))
	l.connect(t)
	return l
}

// showLogs prints the ends of the servers' logs after a failure.
func (l *lab) showLogs(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, each := range l.record.Processes {
		if text, err := os.ReadFile(each.Log); err == nil {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			t.Logf("%s ends with:\n  %s", each.Name, strings.Join(lines[max(0, len(lines)-8):], "\n  "))
		}
	}
}

// connect reads lab.json and makes the clients.
func (l *lab) connect(t *testing.T) {
	t.Helper()
	l.refresh(t)
	var err error
	l.consul, err = consul.NewClient(&consul.Config{Address: l.record.Consul.Servers[0], Token: l.record.Consul.ManagementToken})
	must(t, err)
	settings := vault.DefaultConfig()
	settings.Address, settings.MaxRetries = "https://"+l.record.Vault.Address, 0
	must(t, settings.ConfigureTLS(&vault.TLSConfig{CACert: l.record.Vault.CAFile}))
	l.vault, err = vault.NewClient(settings)
	must(t, err)
	l.vault.SetToken(l.record.Vault.RootToken)
	socket := l.binaries.site.socket(t)
	l.status = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
}

// refresh reads lab.json anew: pids change.
func (l *lab) refresh(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.folder, "lab.json"))
	must(t, err)
	var record labRecord
	must(t, json.Unmarshal(text, &record))
	l.record = record
}

// ask asks the agent's status socket.
func (l *lab) ask() (report, error) {
	response, err := l.status.Get("http://pawl/status")
	if err != nil {
		return report{}, err
	}
	defer response.Body.Close()
	var answer report
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return report{}, fmt.Errorf("read the status: %w", err)
	}
	return answer, nil
}

// undo says what ends the state that a command of pawl-lab begins.
var undo = map[string]string{"stop": "start", "kill": "start", "pause": "resume"}

// control runs a command of pawl-lab, which returns when it is so. What it took
// away is given back with the end of the test, where the test has not done so.
func (l *lab) control(t *testing.T, command ...string) {
	t.Helper()
	if back, taken := undo[command[0]]; taken {
		t.Cleanup(func() { l.control(t, append([]string{back}, command[1:]...)...) })
	}
	var output bytes.Buffer
	asked := exec.Command(l.binaries.lab, append(command, "--dir", l.folder)...)
	asked.Stdout, asked.Stderr = &output, &output
	if err := asked.Run(); err != nil {
		t.Fatalf("pawl-lab %s: %v\n%s", strings.Join(command, " "), err, output.String())
	}
	l.refresh(t)
}

// pid is the process of a server.
func (l *lab) pid(t *testing.T, name string) int {
	t.Helper()
	for _, each := range l.record.Processes {
		if each.Name == name && each.PID > 0 {
			return each.PID
		}
	}
	t.Fatalf("%s does not run", name)
	return 0
}

// serverLog is what a server has written until now.
func (l *lab) serverLog(t *testing.T, name string) string {
	t.Helper()
	for _, each := range l.record.Processes {
		if each.Name == name {
			text, err := os.ReadFile(each.Log)
			must(t, err)
			return string(text)
		}
	}
	t.Fatalf("no %s in the lab", name)
	return ""
}

// vm is who the agent on this machine is.
func (l *lab) vm() node {
	return node{Name: l.record.Metadata.VMs[0].Name, ID: l.record.Metadata.VMs[0].UUID}
}

// becomes makes the JWT service say that this machine is another VM.
func (l *lab) becomes(t *testing.T, who node) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"machines": []map[string]string{
		{"uuid": who.ID, "node": who.Name, "address": "127.0.0.1", "site": "lab", "dc": "dc1"},
	}})
	must(t, err)
	must(t, os.WriteFile(l.record.Metadata.Inventory, text, 0o600))
	before := strings.Count(l.serverLog(t, "metadata"), "inventory read")
	must(t, syscall.Kill(l.pid(t, "metadata"), syscall.SIGHUP))
	eventually(t, "the JWT service has read its inventory", func() (bool, string) {
		log := l.serverLog(t, "metadata")
		return strings.Count(log, "inventory read") > before, log[max(0, len(log)-300):]
	})
}
