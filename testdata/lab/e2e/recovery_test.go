package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

const (
	// again is how soon after Vault answers there must be a good Consul token (law 3).
	again = 5 * time.Second
	// losses are how many times it is taken away.
	losses = 10
)

// takes are the ways in which credentials are taken from an agent.
var takes = []struct {
	name string
	take func(*testing.T, *lab, report)
}{
	{"Vault token revoked", func(t *testing.T, l *lab, held report) { l.revoke(t, held) }},
	{"Consul token deleted", func(t *testing.T, l *lab, held report) { l.deleteToken(t, held) }},
	{"both", func(t *testing.T, l *lab, held report) { l.deleteToken(t, held); l.revoke(t, held) }},
}

// TestRecovery: what the agent holds is taken from it, at one moment after
// another between two of its probes, and it has a good Consul token again. Each
// time it is another process, since ten losses within a minute are no accident,
// and met with patience (law 5).
func TestRecovery(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	watching, present := l.watchHealth(t), l.watchPresence(t)
	var all []time.Duration
	for round := range losses {
		a.lasts(time.Duration(round) * 400 * time.Millisecond) // another moment each time
		held := a.awaitServing()
		way := takes[round%len(takes)]
		way.take(t, l, held)
		taken := time.Now()
		a.awaitStatus("a server has answered under another token", func(r report) bool {
			return r.evidence("consul_token").ID != held.evidence("consul_token").ID && r.evidence("agent").Grade == "good" && good(r.State)
		})
		took := time.Since(taken).Round(10 * time.Millisecond)
		t.Logf("%s: a good Consul token again after %s", way.name, took)
		if took > again {
			t.Errorf("%s: it took %s, want %s", way.name, took, again)
		}
		all = append(all, took)
		from := a.log.mark()
		a.signal(syscall.SIGHUP)
		a.awaitMove(from, "Serving")
	}
	slices.Sort(all)
	t.Logf("all of them: %v", all)
	watching.demandUnmoved(t)
	present.demandAlways(t)
	if after := a.awaitServing(); after.PID != before.PID {
		t.Errorf("pid %d became %d", before.PID, after.PID)
	}
	l.demandNothingLeft(t, a)
	a.terminate(nil)
	l.awaitGone(t)
}

// revoke ends the agent's Vault token, and what was leased under it, as a person would.
func (l *lab) revoke(t *testing.T, held report) {
	t.Helper()
	must(t, l.vault.Auth().Token().RevokeAccessor(held.evidence("vault_token").ID))
}

// deleteToken takes the agent's Consul token away at Consul, where Vault does not hear of it.
func (l *lab) deleteToken(t *testing.T, held report) {
	t.Helper()
	_, err := l.consul.ACL().TokenDelete(held.evidence("consul_token").ID, nil)
	must(t, err)
}
