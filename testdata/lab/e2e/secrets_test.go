package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// patterns match secrets whose text we do not know.
var patterns = map[string]*regexp.Regexp{
	"a Vault token": regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{20,}`),
	"a JWT":         regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{40,}`),
	"a private key": regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\sA-Za-z0-9+/=]{40,}`),
}

// canaries are the secrets of a run that we know, by what they are.
type canaries map[string]string

// learn adds what can be known now: the gossip key from lab.json, the Consul
// tokens from Consul itself, and Vault tokens, JWTs and private keys out of the
// agent's own memory, where they must be.
func (c canaries) learn(t *testing.T, l *lab, a *agent) {
	t.Helper()
	c[l.record.Consul.GossipKey] = "the gossip key"
	c[l.record.Consul.ManagementToken] = "the management token" // as a careless person passes it, in a URL
	accessors, err := l.tokens()
	must(t, err)
	for _, each := range accessors {
		token, _, err := l.consul.ACL().TokenRead(each, consistent(0))
		if err == nil { // it may have been revoked meanwhile
			c[token.SecretID] = "the Consul token " + each
		}
	}
	readMemory(t, a.pid, func(piece []byte) {
		for name, pattern := range patterns {
			for _, found := range pattern.FindAll(piece, -1) {
				if name != "a private key" {
					c[string(found)] = name
					continue
				}
				for _, each := range strings.Fields(string(found)) {
					if len(each) >= 40 {
						c[each] = name
					}
				}
			}
		}
	})
}

// telltale is how much of a secret gives it away.
const telltale = 20

// find returns what a text holds of secrets or of their beginnings, each with
// what stands before it, and never with the secret.
func (c canaries) find(text string) []string {
	var found []string
	note := func(name string, at int) {
		start := max(strings.LastIndexByte(text[:at], '\n')+1, at-120)
		found = append(found, name+", after: "+text[start:at])
	}
	for secret, name := range c {
		if at := strings.Index(text, secret[:min(len(secret), telltale)]); at >= 0 {
			note(name, at)
		}
	}
	for name, pattern := range patterns {
		if at := pattern.FindStringIndex(text); at != nil {
			note(name, at[0])
		}
	}
	return found
}

// scan fails the test where a place holds a secret.
func (c canaries) scan(t *testing.T, place, text string) {
	t.Helper()
	for _, each := range c.find(text) {
		t.Errorf("%s holds %s", place, each)
	}
}

func TestFind(t *testing.T) {
	known := canaries{"0123456789abcdefghijklmnopqrstuvwxyz": "a known secret"}
	for text, want := range map[string]int{
		"nothing here": 0,
		"the secret 0123456789abcdefghijklmnopqrstuvwxyz":                                                            1,
		"cut short: 0123456789abcdefghij...":                                                                         1,
		"hvs.CAESIJ1234567890abcdefghijklmn":                                                                         1,
		"hvs.short, and evidence of eyJ":                                                                             0,
		"jwt=eyJhbGciOiJFUzI1NiIsImtp.eyJpc3MiOiJodHRwOi8vMT." + strings.Repeat("x", 86):                             1,
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIKy0mC6YbQm1fDqGkQm3hYp8l7vG0yq8Yw3x\n-----END EC PRIVATE KEY-----": 1,
	} {
		if found := known.find(text); len(found) != want {
			t.Errorf("%q: found %q, want %d", text, found, want)
		}
	}
}

// testSecrets: no secret of the run is to be found where it does not belong, with
// everything in the log that there is to log.
func testSecrets(t *testing.T, l *lab, loud string) {
	known := canaries{}
	a := startAgent(t, l, program{binary: loud})
	first := a.awaitServing().Epoch
	known.learn(t, l, a)
	// Another epoch, so that every kind of request was made and logged.
	a.awaitStatus("another epoch", func(r report) bool { return good(r.State) && r.Epoch >= first+1 })
	known.learn(t, l, a)
	provoke(t, l, a)
	known.learn(t, l, a)
	a.awaitServing()
	known.demandKinds(t)

	mark := a.log.mark()
	a.signal(syscall.SIGUSR1)
	a.awaitLine(mark, "the dump", func(each line) bool { return strings.HasPrefix(each.text, "{") })
	known.scanAround(t, l, a)

	// The runtime's own crash text, with every goroutine in it.
	mark = a.log.mark()
	a.crashes = mark
	a.signal(syscall.SIGQUIT)
	<-a.ended
	if lines, _ := a.log.since(mark); len(lines) < 100 || !strings.Contains(a.log.text(), "SIGQUIT: quit") {
		a.fatalf("SIGQUIT left no crash text, only %d lines", len(lines))
	}
	known.scan(t, "the log, at trace level and with a crash in it", a.log.text())
	for _, level := range []string{"TRACE", "DEBUG"} {
		if !strings.Contains(a.log.text(), "level="+level) {
			t.Errorf("there is no %s line in the log: this run proves little", level)
		}
	}
	known.scanFiles(t, l.binaries.site.folder(t))
	lines, _ := a.log.since(0)
	t.Logf("%d lines of log searched for %d secrets", len(lines), len(known))
}

// provoke makes failures that have something to say: a token deleted at Consul,
// and Vault gone and back.
func provoke(t *testing.T, l *lab, a *agent) {
	t.Helper()
	from := a.log.mark()
	_, err := l.consul.ACL().TokenDelete(a.awaitServing().evidence("consul_token").ID, nil)
	must(t, err)
	l.control(t, "kill", "vault")
	a.awaitMove(from, "Degraded", "VaultAuthed")
	l.control(t, "start", "vault")
	back := time.Now()
	a.awaitServing()
	t.Logf("Serving %s after Vault answered, with its Consul token deleted meanwhile", time.Since(back).Round(time.Millisecond))
}

// demandKinds: a search that looked for nothing would find nothing.
func (c canaries) demandKinds(t *testing.T) {
	t.Helper()
	counts := map[string]int{}
	for _, name := range c {
		counts[strings.Join(strings.Fields(name)[:min(3, len(strings.Fields(name)))], " ")]++
	}
	for kind, least := range map[string]int{"a Vault token": 2, "a JWT": 2, "a private key": 2, "the gossip key": 1, "the management token": 1, "the Consul token": 2} {
		if counts[kind] < least {
			t.Errorf("only %d secrets of the kind %q are known, want %d: this run proves little", counts[kind], kind, least)
		}
	}
	t.Logf("secrets known: %v", counts)
}

// scanAround looks at everything that a running agent shows.
func (c canaries) scanAround(t *testing.T, l *lab, a *agent) {
	t.Helper()
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", a.pid, name))
		must(t, err)
		c.scan(t, name, string(text))
	}
	base := "http://" + l.binaries.site.value(t, "consul.http")
	for _, path := range []string{"/v1/agent/self", "/v1/agent/metrics", "/v1/agent/services", "/v1/agent/checks", "/v1/agent/members"} {
		code, body := request{"GET", path + "?token=" + l.record.Consul.ManagementToken, ""}.send(t, base)
		if code != 200 || len(body) < 2 {
			t.Errorf("GET %s is answered %d", path, code)
		}
		c.scan(t, path, body)
	}
	entries, _, err := l.consul.Health().Node(l.vm().Name, consistent(0))
	must(t, err)
	c.scan(t, "the catalogue", fmt.Sprintf("%+v", describe([]*consul.ServiceEntry{{Node: &consul.Node{}, Checks: entries}})))
	for _, command := range [][]string{{"status", "--json"}, {"status"}} {
		text, err := output(a.binary, command...)
		if err != nil && len(text) == 0 {
			t.Fatal(err)
		}
		c.scan(t, "pawl "+strings.Join(command, " "), text)
	}
	code, body := request{"GET", "/metrics", ""}.send(t, strings.TrimSuffix(l.binaries.site.metrics(t), "/metrics"))
	if code != 200 {
		t.Errorf("GET /metrics is answered %d", code)
	}
	c.scan(t, "/metrics", body)
	c.scanFiles(t, l.binaries.site.folder(t))
}

// handover is the one file that may hold secrets (law 8): for a successor after a
// crash, in memory only, and only ours.
const handover = "handover"

// demandPrivate checks the place and the modes of a hand-over.
func demandPrivate(t *testing.T, path string) {
	t.Helper()
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var system syscall.Statfs_t
	must(t, syscall.Statfs(path, &system))
	if kind := int64(system.Type); kind != tmpfs && kind != ramfs {
		t.Errorf("%s is on a file system of type %#x, which is not in memory", path, kind)
	}
	for place, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		information, err := os.Stat(place)
		must(t, err)
		if information.Mode().Perm() != want {
			t.Errorf("%s has mode %s, want %s", place, information.Mode().Perm(), want)
		}
	}
}

// scanFiles reads every file below a folder.
func (c canaries) scanFiles(t *testing.T, folder string) {
	t.Helper()
	files := 0
	must(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.Type().IsRegular() {
			return nil
		}
		if err == nil && (entry.Name() == handover || entry.Name() == handover+".new") {
			demandPrivate(t, path)
			return nil
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(path)
		}
		if os.IsNotExist(err) {
			return nil // Consul replaces its files as it goes
		}
		files++
		c.scan(t, path, string(text))
		return err
	}))
	t.Logf("%d files below %s searched", files, folder)
}
