package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// testPortTaken: somebody else answers on the exporter's port, with 200 even.
// The service is never passing, the reason is shown, and freeing the port mends it.
func testPortTaken(t *testing.T, l *lab) {
	listener, err := net.Listen("tcp", l.binaries.site.value(t, "node_exporter.listen"))
	must(t, err)
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })}
	go func() { _ = other.Serve(listener) }()
	t.Cleanup(func() { _ = other.Close() })

	a := startAgent(t, l, program{})
	// Critical is what it must come to, and passing what it must not be on the way.
	never := func(entries []*consul.ServiceEntry) bool {
		if isPassing(entries) {
			t.Fatalf("somebody else's exporter is passing: %s", describe(entries))
		}
		return len(entries) == 1 && entries[0].Checks.AggregatedStatus() == consul.HealthCritical
	}
	l.awaitHealth(t, "critical", never)
	got := a.awaitStatus("three failed attempts", func(r report) bool {
		l.awaitHealth(t, "critical", never)
		return r.action("register").Failed+r.action("scrape_exporter").Failed >= 3
	})
	failing := got.action("register")
	if !failing.Standing {
		failing = got.action("scrape_exporter")
	}
	if !got.reason("exporter_down") || good(got.State) || failing.Class != "local" || !strings.Contains(failing.Fix, "stop what else listens") {
		t.Errorf("the report gives no reason and no fix: %s", got)
	}
	if _, code := a.status(); code != exitBroken {
		t.Errorf("`pawl status` exits with %d where a person must free a port, not with %d", code, exitBroken)
	}
	must(t, other.Close())
	freed := time.Now()
	l.awaitHealth(t, "passing", isPassing)
	a.awaitServing()
	t.Logf("Serving %s after the port was freed", time.Since(freed).Round(time.Millisecond))
	a.terminate(nil)
	l.awaitGone(t)
}

// testVaultDownAtBoot: the agent waits, visible, and comes up when Vault does.
func testVaultDownAtBoot(t *testing.T, l *lab) {
	l.control(t, "stop", "vault")
	a := startAgent(t, l, program{})
	// After the first refusal it may look whether Vault is there before it logs in again.
	got := a.awaitStatus("two failures at Vault", func(r report) bool { return r.action("log_in").Failed+r.action("probe_vault").Failed >= 2 })
	if got.State != "HasJWT" || !got.reason("vault_unreachable") || got.action("log_in").Class != "transient" {
		t.Errorf("without Vault pawl says %s", got)
	}
	if _, code := a.status(); code != exitWaiting {
		t.Errorf("`pawl status` exits with %d on the way up, not with %d", code, exitWaiting)
	}
	l.awaitMetrics(t)
	l.control(t, "start", "vault")
	back := time.Now()
	a.awaitServing()
	l.awaitHealth(t, "passing", isPassing)
	t.Logf("Serving %s after Vault answered", time.Since(back).Round(time.Millisecond))
	a.terminate(nil)
	l.awaitGone(t)
}

// testConsulKilled: the only Consul server dies while Serving, and comes back.
func testConsulKilled(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitWritten(t, "consul-1")
	scraping := l.scrape(t)
	from := a.log.mark()
	l.control(t, "kill", "consul-1")
	fall := a.awaitMove(from, "Degraded")
	got := a.awaitStatus("a reason", func(r report) bool { return r.reason("consul_unreachable") })
	if got.State != "Degraded" {
		t.Errorf("without Consul pawl is in %s", got.State)
	}
	l.control(t, "start", "consul-1")
	back := time.Now()
	a.awaitMove(from, "Serving")
	after := a.awaitServing()
	t.Logf("noticed with %q; Serving %s after Consul answered", fall.cause, time.Since(back).Round(time.Millisecond))
	l.awaitHealth(t, "passing", isPassing)
	scraping.demandAll(t)
	a.demandSame(before, after)
	for _, thing := range []string{"vault_token", "consul_token", "certificate"} {
		if before.evidence(thing).ID != after.evidence(thing).ID {
			t.Errorf("the %s was dropped over an outage that it outlived", thing)
		}
	}
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) != 1 {
		t.Errorf("an outage of Consul made %d logins of one", len(logins))
	}
	a.terminate(nil)
	l.awaitGone(t)
}

// demandSame fails the test unless the same process and the same embedded agent
// and exporter run as before.
func (a *agent) demandSame(before, after report) {
	a.t.Helper()
	if before.PID != a.pid || after.PID != a.pid {
		a.t.Errorf("pid %d became %d", before.PID, after.PID)
	}
	for i, service := range before.Services {
		now := after.Services[i]
		if now.Name != service.Name || !now.Running || !now.Since.Equal(service.Since) || now.Restarts != service.Restarts {
			a.t.Errorf("service %s was %+v and is %+v", service.Name, service, now)
		}
	}
}

// embedded is what the embedded agent says of itself that a restart, a leave or
// a join would change.
func (l *lab) embedded(t *testing.T) string {
	t.Helper()
	local, err := consul.NewClient(&consul.Config{
		Address: "http://" + l.binaries.site.value(t, "consul.http"), Token: l.record.Consul.ManagementToken,
	})
	must(t, err)
	self, err := local.Agent().Self()
	must(t, err)
	serf, _ := self["Stats"]["serf_lan"].(map[string]any)
	return fmt.Sprintf("node id %v, member time %v, members %v, failed %v, left %v",
		self["Config"]["NodeID"], serf["member_time"], serf["members"], serf["failed"], serf["left"])
}
