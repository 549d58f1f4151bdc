package e2e

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// TestProduction runs the agent in a lab with the TTLs of production.
func TestProduction(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found)
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"boot", testBoot},
		{"switched off by flag", func(t *testing.T, l *lab) {
			testSwitchedOff(t, l, program{arguments: []string{"--register-node-exporter=false"}})
		}},
		{"switched off by environment", func(t *testing.T, l *lab) {
			testSwitchedOff(t, l, program{environment: []string{"PAWL_REGISTER_NODE_EXPORTER=false"}})
		}},
		{"bad switch", testBadSwitch},
		{"read-only root", testReadOnlyRoot},
		{"no runtime folder", testNoFolder},
		{"anonymous", testAnonymous},
		{"dump", testDump},
		{"exporter's port taken", testPortTaken},
		{"vault down at boot", testVaultDownAtBoot},
		{"consul killed", testConsulKilled},
		{"SIGTERM in NoIdentity", testStopNoIdentity},
		{"SIGTERM in HasJWT", testStopHasJWT},
		{"SIGTERM in VaultAuthed", testStopVaultAuthed},
		{"SIGTERM in ConsulReady", testStopConsulReady},
		{"SIGTERM in Degraded, Consul dead", testStopConsulDead},
		{"second SIGTERM", testSecondSignal},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l)
		})
	}
}

// testBoot: the exact walk, the servers' view of it, and SIGTERM in Serving.
func testBoot(t *testing.T, l *lab) {
	if _, code := askStatus(t, l.binaries.pawl); code != exitNoAgent {
		t.Errorf("`pawl status` exits with %d where no agent runs, not with %d", code, exitNoAgent)
	}
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	serving := a.awaitMove(0, "Serving")
	// At once: what the log claims, the servers must say already.
	entries, _, err := l.consul.Health().Service(serviceName, "", false, consistent(0))
	must(t, err)
	if !isPassing(entries) {
		t.Errorf("pawl claims Serving, and the servers say: %s", describe(entries))
	}
	t.Logf("Serving %d ms after exec", serving.at.Sub(a.began).Milliseconds())
	var walk []string
	for _, one := range a.log.moves(0) {
		walk = append(walk, one.from+" "+one.event+" "+one.to)
	}
	want := []string{"NoIdentity identified HasJWT", "HasJWT logged_in VaultAuthed", "VaultAuthed joined ConsulReady", "ConsulReady registered Serving"}
	if strings.Join(walk, ", ") != strings.Join(want, ", ") {
		t.Errorf("pawl walked %q, want %q", walk, want)
	}
	got := a.awaitServing()
	testRegistration(t, l, got)
	testBootRequests(t, l.audit(t, mark), got)
	lines, _ := a.log.since(0)
	for _, each := range lines { // house style: one line an arrow, and no other
		if fields := each.fields(); fields["component"] == "" && fields["msg"] != "moved" {
			t.Errorf("pawl wrote more than its moves: %s", each.text)
		}
	}
	if _, code := a.status(); code != exitReady {
		t.Errorf("`pawl status` exits with %d when ready", code)
	}

	t.Logf("SIGTERM in Serving: exit 0 after %s", a.terminate(nil))
	l.awaitGone(t)
	if revoked := l.awaitRevoked(t, mark); revoked != 1 {
		t.Errorf("one boot made %d logins", revoked)
	}
	l.awaitNoTokens(t)
	if events := l.serfEvents(t); events["EventMemberLeave"] != 1 || events["EventMemberFailed"] != 0 {
		t.Errorf("gossip tells of the end as %v, want one graceful leave", events)
	}
	if _, code := askStatus(t, l.binaries.pawl); code != exitNoAgent {
		t.Errorf("`pawl status` exits with %d after the end", code)
	}
	if _, err := os.Stat(filepath.Join(l.binaries.site.folder(t), handover)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a hand-over is left after the end: %v", err)
	}
}

// testRegistration compares the catalogue with the inventory and the agent's own report.
func testRegistration(t *testing.T, l *lab, got report) {
	t.Helper()
	entries, _, err := l.consul.Health().Service(serviceName, "", false, consistent(0))
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("the catalogue has %d instances of %s", len(entries), serviceName)
	}
	one := entries[0]
	if one.Node.Node != l.vm().Name || one.Node.ID != l.vm().ID {
		t.Errorf("the node is %s (%s), not %+v of the inventory", one.Node.Node, one.Node.ID, l.vm())
	}
	host, port, err := net.SplitHostPort(l.binaries.site.value(t, "node_exporter.listen"))
	must(t, err)
	number, err := net.LookupPort("tcp", port)
	must(t, err)
	if one.Service.Address != host || one.Service.Port != number {
		t.Errorf("the service is at %s:%d, not %s:%s", one.Service.Address, one.Service.Port, host, port)
	}
	for _, id := range []string{"serfHealth", "service:" + serviceName} {
		l.awaitPassing(t, id)
	}
	if got.Node != l.vm() {
		t.Errorf("pawl says it is %+v, the inventory says %+v", got.Node, l.vm())
	}
	tokens, err := l.tokens()
	must(t, err)
	own := got.evidence("consul_token").ID
	if len(tokens) != 1 || tokens[0] != own {
		t.Errorf("Consul has the tokens %q, pawl holds %s", tokens, own)
	}
	if seen := got.evidence("registration"); seen.Grade != "good" || seen.Index == 0 || seen.Under != own {
		t.Errorf("the read-back is %+v, want one under %s with an index", seen, own)
	}
}

// testBootRequests: one of each, and the Consul token last, since each leaves one behind.
func testBootRequests(t *testing.T, all []audited, got report) {
	t.Helper()
	var last audited
	for _, path := range []string{pathLogin, pathGossip, pathSign, pathCreds} {
		if done := succeeded(all, path); len(done) != 1 {
			t.Errorf("%d answers of %s, want one", len(done), path)
		}
	}
	for _, each := range all {
		if each.Path == pathGossip || each.Path == pathSign || each.Path == pathCreds {
			last = each
		}
	}
	if last.Path != pathCreds || last.Consul != got.evidence("consul_token").ID || last.Accessor != got.evidence("vault_token").ID {
		t.Errorf("the last credential was %+v, want the Consul token that pawl holds", last)
	}
}

// testSwitchedOff: the node joins, the exporter serves, and there is no service.
func testSwitchedOff(t *testing.T, l *lab, of program) {
	a := startAgent(t, l, of)
	got := a.awaitServing()
	if got.Registers {
		t.Error("the report says that node_exporter is registered")
	}
	if len(got.Crashes) != 0 {
		t.Errorf("the one before was told to stop, and the report has crashes: %v", got.Crashes)
	}
	found := l.awaitCatalogue(t, "the node is there", func(found *consul.CatalogNode) bool { return found != nil })
	if found.Services[serviceName] != nil || len(found.Services) != 0 {
		t.Errorf("services are in the catalogue: %+v", found.Services)
	}
	l.awaitPassing(t, "serfHealth")
	l.awaitMetrics(t)
	a.terminate(nil)
	l.awaitGone(t)
}

// testBadSwitch: what is neither true nor false ends pawl before it does anything.
func testBadSwitch(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	for _, of := range []program{
		{environment: []string{"PAWL_REGISTER_NODE_EXPORTER=perhaps"}},
		{arguments: []string{"--register-node-exporter=perhaps"}},
		{arguments: []string{"--no-such-flag"}},
		{arguments: []string{"argument"}},
	} {
		a := startAgent(t, l, of)
		select {
		case <-a.ended:
		case <-t.Context().Done():
		}
		var ended *exec.ExitError
		if !errors.As(a.err, &ended) || ended.ExitCode() != exitUsage {
			t.Errorf("%+v ended with %v, want exit %d", of, a.err, exitUsage)
		}
		if text := a.log.text(); !strings.Contains(text, "perhaps") && !strings.Contains(text, "argument") && !strings.Contains(text, "no-such-flag") {
			t.Errorf("%+v: it does not say what was wrong: %s", of, text)
		}
	}
	if all := l.audit(t, mark); len(succeeded(all, pathLogin)) > 0 {
		t.Error("an agent that was called wrongly logged in")
	}
}

// request is one that anybody on the VM may try.
type request struct{ method, path, body string }

// testAnonymous: whoever asks the local Consul without a token changes nothing
// and sees nothing.
func testAnonymous(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	a.awaitServing()
	base := "http://" + l.binaries.site.value(t, "consul.http")
	for _, try := range []request{
		{"PUT", "/v1/agent/service/register", `{"Name": "intruder", "Port": 1}`},
		{"PUT", "/v1/agent/service/deregister/" + serviceName, ""},
		{"PUT", "/v1/agent/service/maintenance/" + serviceName + "?enable=true", ""},
		{"PUT", "/v1/agent/check/register", `{"Name": "intruder", "TTL": "1h"}`},
		{"PUT", "/v1/agent/check/deregister/service:" + serviceName, ""},
		{"PUT", "/v1/agent/maintenance?enable=true", ""},
		{"PUT", "/v1/agent/leave", ""},
		{"PUT", "/v1/agent/force-leave/consul-1", ""},
		{"PUT", "/v1/agent/reload", ""},
		{"PUT", "/v1/agent/token/default", `{"Token": "00000000-0000-0000-0000-000000000001"}`},
		{"PUT", "/v1/catalog/register", `{"Node": "intruder", "Address": "127.0.0.1"}`},
		{"PUT", "/v1/catalog/deregister", `{"Node": "` + l.vm().Name + `"}`},
		{"PUT", "/v1/kv/intruder", "x"},
		{"PUT", "/v1/session/create", `{}`},
		{"PUT", "/v1/event/fire/intruder", ""},
		{"PUT", "/v1/acl/token", `{"Description": "intruder"}`},
		{"PUT", "/v1/acl/bootstrap", ""},
		{"GET", "/v1/agent/self", ""},
		{"GET", "/v1/agent/metrics", ""},
		{"GET", "/v1/kv/intruder", ""},
		{"GET", "/v1/acl/tokens", ""},
		{"GET", "/v1/operator/keyring", ""},
	} {
		if code, body := try.send(t, base); code != http.StatusForbidden {
			t.Errorf("%s %s is answered %d: %s", try.method, try.path, code, body)
		}
	}
	// What has a list to show shows an empty one.
	empty := regexp.MustCompile(`^\s*(\[\]|\{\}|null)\s*$`)
	for _, path := range []string{"/v1/catalog/services", "/v1/catalog/nodes", "/v1/agent/services", "/v1/agent/checks",
		"/v1/agent/members", "/v1/health/service/" + serviceName, "/v1/health/node/" + l.vm().Name, "/v1/session/list", "/v1/coordinate/nodes"} {
		if code, body := (request{"GET", path, ""}).send(t, base); code != http.StatusOK || !empty.MatchString(body) {
			t.Errorf("GET %s is answered %d: %.200s", path, code, body)
		}
	}
	nodes, _, err := l.consul.Catalog().Nodes(consistent(0))
	must(t, err)
	services, _, err := l.consul.Catalog().Services(consistent(0))
	must(t, err)
	keys, _, err := l.consul.KV().Keys("", "", consistent(0))
	must(t, err)
	if len(nodes) != 2 || len(services) != 2 || len(keys) != 0 {
		t.Errorf("after that the servers have %d nodes, services %v, keys %v; want two nodes, consul and ours", len(nodes), services, keys)
	}
	if check := l.nodeChecks(t)["service:"+serviceName]; check == nil || check.Status != consul.HealthPassing {
		t.Errorf("after that the check is %+v", check)
	}
	if got := a.awaitServing(); got.action("register").Failed > 0 {
		t.Errorf("after that pawl had to register anew: %+v", got.action("register"))
	}
	a.terminate(nil)
	l.awaitGone(t)
}

// send makes the request and returns the answer's status and text.
func (r request) send(t *testing.T, base string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scrapeBound)
	defer cancel()
	asked, err := http.NewRequestWithContext(ctx, r.method, base+r.path, strings.NewReader(r.body))
	must(t, err)
	response, err := http.DefaultClient.Do(asked)
	must(t, err)
	return read(t, response)
}
