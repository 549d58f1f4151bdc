package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	// shortTTL is the --ttl of the lab: a Vault token lives at most so long.
	shortTTL = 20 * time.Second
	// life is how long renewals are watched.
	life = 3 * time.Minute
	// leastSeen is how many accessors and serial numbers the servers must see in it.
	leastSeen = 8
)

// TestShort runs the agent in a lab where every TTL is short.
func TestShort(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	loud := found.buildAtTrace(t)
	l := startLab(t, found, "--ttl", shortTTL.String())
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"renewals", testRenewals},
		{"vault killed past the TTL", func(t *testing.T, l *lab) { testPastTTL(t, l, "vault") }},
		{"consul killed past the TTL", func(t *testing.T, l *lab) { testPastTTL(t, l, "consul-1") }},
		{"another VM's identity", testOtherIdentity},
		{"SIGTERM in Degraded", testStopDegraded},
		{"SIGTERM in Renewing", testStopRenewing},
		{"SIGTERM in Degraded, Vault dead", testStopVaultDead},
		{"secrets", func(t *testing.T, l *lab) { testSecrets(t, l, loud) }},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l)
		})
	}
}

// seen is what the servers had of us over a while.
type seen struct {
	// accessors: Consul listed these tokens. serials: these certificates' numbers
	// were in the memory of the Consul server, which has them from nobody but a
	// client that showed them in a TLS handshake.
	accessors, serials map[string]bool
	// installed are the serials that pawl said it runs with, late those of them
	// that the server's memory did not hold.
	installed, late map[string]bool
}

// testRenewals: three minutes of it, and nobody who uses the node notices.
func testRenewals(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	embedded, checks, events := l.embedded(t), l.nodeChecks(t), l.serfEvents(t)
	scraping, present := l.scrape(t), l.watchPresence(t)

	had := l.watchCredentials(t, a, life)

	scraping.demandAll(t)
	present.demandAlways(t)
	after := a.awaitServing()
	a.demandSame(before, after)
	if now := l.embedded(t); now != embedded {
		t.Errorf("the embedded agent was %s, is %s", embedded, now)
	}
	if now := l.serfEvents(t); !maps.Equal(now, events) {
		t.Errorf("gossip told of our node %v before and %v after", events, now)
	}
	if now := l.nodeChecks(t); now["serfHealth"].ModifyIndex != checks["serfHealth"].ModifyIndex || now["serfHealth"].Status != consul.HealthPassing {
		t.Errorf("serfHealth moved from index %d to %d (%s)", checks["serfHealth"].ModifyIndex, now["serfHealth"].ModifyIndex, now["serfHealth"].Status)
	}
	for _, one := range a.log.moves(0)[4:] {
		if !good(one.to) {
			t.Errorf("it left Serving: %s", one)
		}
	}
	if len(after.Moves) != min(64, after.MovesTotal) {
		t.Errorf("of %d moves the report has %d, want the last 64", after.MovesTotal, len(after.Moves))
	}
	l.demandSeen(t, had, l.audit(t, mark))
	l.demandNothingLeft(t, a)
	a.terminate(nil)
	l.awaitGone(t)
	t.Logf("%d Vault tokens, all revoked", l.awaitRevoked(t, mark))
	l.awaitNoTokens(t)
}

// watchCredentials looks at the servers twice a second for a while.
func (l *lab) watchCredentials(t *testing.T, a *agent, length time.Duration) seen {
	t.Helper()
	had := seen{accessors: map[string]bool{}, serials: map[string]bool{}, installed: map[string]bool{}, late: map[string]bool{}}
	server := l.pid(t, "consul-1")
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(length)
	defer over.Stop()
	for {
		accessors, err := l.tokens()
		must(t, err)
		for _, each := range accessors {
			had.accessors[each] = true
		}
		got, err := l.ask()
		must(t, err)
		// Good is what a server answered under; the connection is held until the next one.
		if serial := got.evidence("certificate").ID; got.evidence("agent").Grade == "good" && !had.serials[serial] {
			had.installed[serial] = true
			held := memoryHolds(t, server, map[string][]byte{serial: serialBytes(t, serial)})
			had.serials[serial] = held[serial]
			if held[serial] {
				delete(had.late, serial)
			} else {
				delete(had.serials, serial)
				had.late[serial] = true
			}
		}
		select {
		case <-tick.C:
		case <-a.ended:
			a.fatalf("it ended by itself: %v", a.err)
		case <-over.C:
			return had
		}
	}
}

// demandSeen compares what the servers saw with what Vault gave.
func (l *lab) demandSeen(t *testing.T, had seen, all []audited) {
	t.Helper()
	logins := succeeded(all, pathLogin)
	renewals := len(succeeded(all, pathRenew)) + len(succeeded(all, pathLease))
	signed, made := map[string]bool{}, map[string]bool{}
	for _, each := range succeeded(all, pathSign) {
		signed[each.Serial] = true
	}
	for _, each := range succeeded(all, pathCreds) {
		made[each.Consul] = true
	}
	t.Logf("Vault: %d logins, %d renewals (%d token, %d lease), %d certificates, %d Consul tokens, %d revocations",
		len(logins), renewals, len(succeeded(all, pathRenew)), len(succeeded(all, pathLease)), len(signed), len(made), len(succeeded(all, pathRevoke)))
	t.Logf("Consul server's errors: %v", l.serverErrors(t))
	t.Logf("the Consul server: %d tokens listed, %d of %d installed certificates found in its memory", len(had.accessors), len(had.serials), len(had.installed))
	if len(had.accessors) < leastSeen || len(had.serials) < leastSeen {
		t.Errorf("the Consul server saw %d accessors and %d serials, want %d of each", len(had.accessors), len(had.serials), leastSeen)
	}
	if renewals <= len(logins) {
		t.Errorf("%d renewals and %d logins", renewals, len(logins))
	}
	for each := range had.accessors {
		if !made[each] {
			t.Errorf("Consul has a token %s that no answer of Vault gave", each)
		}
	}
	for each := range had.serials {
		if !signed[each] {
			t.Errorf("the Consul server was shown certificate %s, which Vault did not sign for us", each)
		}
	}
	for _, each := range all {
		if each.Failure != "" {
			t.Errorf("Vault refused %s at %s: %s", each.Path, each.Time.Format(time.TimeOnly), each.Failure)
		}
	}
}

// demandNothingLeft: between two epochs Consul has our current token and no other.
func (l *lab) demandNothingLeft(t *testing.T, a *agent) {
	t.Helper()
	settled := func(r report) bool { return !r.Next && r.Former == 0 && good(r.State) }
	eventually(t, "Consul has our current token and no other", func() (bool, string) {
		before := a.awaitStatus("no epoch under way and none to revoke", settled)
		accessors, err := l.tokens()
		must(t, err)
		after, err := l.ask()
		must(t, err)
		own := before.evidence("consul_token").ID
		if !settled(after) || after.evidence("consul_token").ID != own {
			return false, "it moved on meanwhile"
		}
		slices.Sort(accessors)
		return slices.Equal(accessors, []string{own}), fmt.Sprintf("pawl holds %s, Consul has %q", own, accessors)
	})
}
