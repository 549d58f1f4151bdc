package e2e

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// TestClone: a second VM has the identity of the first, as a clone has that was
// started beside its original. It stays out and says why; the original never notices.
func TestClone(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	// The same VM at another address of the same network.
	own := found.site.value(t, "consul.bind")
	elsewhere := found.buildWith(t, "bind: "+own, "bind: 127.0.2.9", "127.0.0.1:18500", "127.0.2.9:18500",
		found.site.folder(t), t.TempDir()+"/run", found.site.value(t, "node_exporter.listen"), "127.0.2.9:19100")
	l := startLab(t, found)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	checks, events, embedded, mark := l.nodeChecks(t), l.serfEvents(t), l.embedded(t), l.auditMark(t)
	watching, present, scraping := l.watchHealth(t), l.watchPresence(t), l.scrape(t)

	clone := startAgent(t, l, program{binary: elsewhere})
	var got report
	eventually(t, "the clone is told that it is one", func() (bool, string) {
		now, code := clone.status()
		got = now
		return now.action("verify_credentials").Failed >= 2 && code == exitBroken, now.String()
	})
	failed := got.action("verify_credentials")
	if failed.Class != "identity" || !strings.Contains(failed.Error, own) || !strings.Contains(failed.Fix, "clone") || got.State != "VaultAuthed" {
		t.Errorf("the clone says %s", got)
	}
	t.Logf("the clone says: %s; fix: %s", failed.Error, failed.Fix)
	clone.lasts(5 * time.Second) // some rounds of gossip, had it joined
	clone.terminate(nil)

	watching.demandUnmoved(t)
	present.demandAlways(t)
	scraping.demandAll(t)
	if now := l.nodeChecks(t)["serfHealth"]; now.ModifyIndex != checks["serfHealth"].ModifyIndex {
		t.Errorf("the original's serfHealth moved from index %d to %d", checks["serfHealth"].ModifyIndex, now.ModifyIndex)
	}
	if now := l.serfEvents(t); !maps.Equal(now, events) {
		t.Errorf("gossip told of the node %v before and %v after", events, now)
	}
	if now := l.embedded(t); now != embedded {
		t.Errorf("the original's agent was %s, is %s", embedded, now)
	}
	a.demandSame(before, a.awaitServing())
	if moves := a.log.moves(0); len(moves) != 4 {
		t.Errorf("the original moved: %v", moves)
	}
	if logins := len(succeeded(l.audit(t, mark), pathLogin)); logins != 1 {
		t.Errorf("the clone logged in %d times", logins)
	}
	l.demandNothingLeft(t, a) // nothing of the clone's is left at Consul
	a.terminate(nil)
	l.awaitGone(t)

	// With the original gone, the name is free.
	free := startAgent(t, l, program{binary: elsewhere})
	free.awaitMove(0, "Serving")
	free.terminate(nil)
}
