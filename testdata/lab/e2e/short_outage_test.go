package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// testPastTTL: a server is away for longer than any credential lives. What runs
// keeps running, and everything comes back unattended.
func testPastTTL(t *testing.T, l *lab, server string) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	embedded := l.embedded(t)
	if server != "vault" {
		l.awaitWritten(t, server)
	}
	scraping, present := l.scrape(t), l.watchPresence(t)
	from := a.log.mark()
	l.control(t, "kill", server)
	down := time.Now()
	a.awaitMove(from, "Degraded")
	if server == "vault" {
		// The Vault token is dead by its own TTL, and a JWT lives half as long.
		a.awaitMove(from, "HasJWT", "NoIdentity", "VaultAuthed")
	}
	a.lasts(time.Until(down.Add(shortTTL + 5*time.Second)))
	fell, err := l.ask()
	must(t, err)
	t.Logf("after %s pawl stands in %s", time.Since(down).Round(time.Second), fell.State)
	if good(fell.State) || fell.Ready && server != "vault" {
		t.Errorf("without %s past every TTL pawl says %s", server, fell)
	}
	l.control(t, "start", server)
	back := time.Now()
	a.awaitStatus("Serving again", func(r report) bool { return good(r.State) && r.Ready })
	took := time.Since(back)
	t.Logf("%s was down for %s; Serving %s after it answered", server, back.Sub(down).Round(time.Second), took.Round(time.Millisecond))
	if server == "vault" && took > again {
		t.Errorf("it took %s after Vault answered, want %s", took, again)
	}
	l.awaitHealth(t, "passing", isPassing)
	after := a.awaitServing()
	scraping.demandAll(t)
	present.demandAlways(t)
	a.demandSame(before, after)
	if server == "vault" { // gossip was never in doubt
		if now := l.embedded(t); now != embedded {
			t.Errorf("the embedded agent was %s, is %s", embedded, now)
		}
	}
	for _, one := range a.log.moves(from) {
		t.Logf("  +%5.1f s %s", one.at.Sub(down).Seconds(), one)
	}
	l.demandNothingLeft(t, a)
	a.terminate(nil)
	l.awaitGone(t)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testOtherIdentity: the JWT service says that this machine is another VM while
// pawl runs. It refuses to become that one, says so, and goes on.
func testOtherIdentity(t *testing.T, l *lab) {
	own := l.vm()
	other := node{Name: "intruder", ID: "11111111-2222-4333-8444-555555555555"}
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	scraping, present := l.scrape(t), l.watchPresence(t)
	t.Cleanup(func() { l.becomes(t, own) })
	l.becomes(t, other)
	got := a.awaitStatus("the other VM's JWT is refused", func(r report) bool { return r.action("fetch_jwt").Class == "identity" })
	failed := got.action("fetch_jwt")
	for _, part := range []string{own.Name, own.ID, other.Name, other.ID} {
		if !strings.Contains(failed.Error, part) {
			t.Errorf("the refusal does not name %s: %s", part, failed.Error)
		}
	}
	if failed.Fix == "" || got.Node != own {
		t.Errorf("a person is told %q to do, and the node is %+v", failed.Fix, got.Node)
	}
	// The epoch cannot be replaced; what it gave ends, and the node stays.
	a.awaitStatus("the Vault token has ended", func(r report) bool { return r.State == "NoIdentity" })
	// Until the servers refuse the old Consul token the node can still be relied on.
	eventually(t, "`pawl status` says that a person must act", func() (bool, string) {
		now, code := a.status()
		return code == exitBroken, now.String()
	})
	l.awaitMetrics(t)
	l.becomes(t, own)
	mended := time.Now()
	after := a.awaitServing()
	t.Logf("Serving %s after the inventory was mended", time.Since(mended).Round(time.Millisecond))
	scraping.demandAll(t)
	present.demandAlways(t)
	a.demandSame(before, after)
	nodes, _, err := l.consul.Catalog().Nodes(consistent(0))
	must(t, err)
	if slices.ContainsFunc(nodes, func(each *consul.Node) bool { return each.Node == other.Name }) {
		t.Errorf("the other VM is in the catalogue")
	}
	a.terminate(nil)
	l.awaitGone(t)
	l.awaitRevoked(t, mark)
}

// testStopDegraded: without the JWT service no new epoch can be had, while Vault
// and Consul are there to see the end.
func testStopDegraded(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	a.awaitServing()
	from := a.log.mark()
	l.control(t, "stop", "metadata")
	a.awaitMove(from, "Degraded")
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.control(t, "start", "metadata")
	l.awaitGone(t)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testStopRenewing: Vault holds its sockets and answers nobody, so that a renewal
// hangs; by the time the leave is over it answers again.
func testStopRenewing(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	a.awaitServing()
	l.control(t, "pause", "vault")
	a.awaitStatus("a renewal that hangs", func(r report) bool { return r.State == "Renewing" })
	t.Logf("exit 0 after %s", a.terminate(func() { l.control(t, "resume", "vault") }))
	l.awaitGone(t)
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}

// testStopVaultDead: the leave is graceful, and what cannot be revoked expires.
func testStopVaultDead(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	a.awaitServing()
	from := a.log.mark()
	l.control(t, "kill", "vault")
	a.awaitMove(from, "Degraded")
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.awaitGone(t)
	l.control(t, "start", "vault")
	l.awaitRevoked(t, mark)
	l.awaitNoTokens(t)
}
