package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGossipKey: the key of gossip is rotated, in Vault and in the cluster, in any order.
func TestGossipKey(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found)
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"rotated under a running agent", testGossipRotated},
		{"booted amid a rotation", testGossipAmid},
		{"rotated while the agent is stopped", testGossipStopped},
		{"unfit key", testGossipUnfit},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l)
			l.awaitGone(t)
		})
	}
}

// newKey returns a gossip key, as `consul keygen` makes them.
func newKey(length int) string {
	raw := make([]byte, length)
	_, _ = rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// writeKey writes what Vault's KV says the key is, as a new version.
func (l *lab) writeKey(t *testing.T, key string) {
	t.Helper()
	_, err := l.vault.KVv2("kv").Put(t.Context(), "consul/gossip", map[string]any{"key": key})
	must(t, err)
}

// clusterKey makes the cluster use a key, and forget every other one unless told
// to keep them.
func (l *lab) clusterKey(t *testing.T, key string, keep bool) {
	t.Helper()
	operator := l.consul.Operator()
	must(t, operator.KeyringInstall(key, nil))
	must(t, operator.KeyringUse(key, nil))
	rings, err := operator.KeyringList(nil)
	must(t, err)
	for _, ring := range rings {
		for each := range ring.Keys {
			if each == key || keep || !ring.WAN { // installed in both pools: removing in one is removing in both
				continue
			}
			must(t, operator.KeyringRemove(each, nil))
		}
	}
}

// awaitKey waits until every member of the LAN has this key and no other.
func (l *lab) awaitKey(t *testing.T, key string, members int) {
	t.Helper()
	eventually(t, "every member has the new key alone", func() (bool, string) {
		rings, err := l.consul.Operator().KeyringList(nil)
		if err != nil {
			return false, err.Error()
		}
		for _, ring := range rings {
			if !ring.WAN {
				return len(ring.Keys) == 1 && ring.Keys[key] == members && ring.NumNodes == members,
					fmt.Sprintf("%d keys of %d members, %d of whom have ours", len(ring.Keys), ring.NumNodes, ring.Keys[key])
			}
		}
		return false, "no LAN keyring"
	})
}

// testGossipRotated: the running agent follows without a flap, and so do the
// processes after it, which take over the key of before.
func testGossipRotated(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	embedded, mark := l.embedded(t), l.auditMark(t)
	watching, present, scraping := l.watchHealth(t), l.watchPresence(t), l.scrape(t)
	key := newKey(32)
	l.writeKey(t, key)
	l.clusterKey(t, key, false)
	l.awaitKey(t, key, 2)
	a.lasts(3 * time.Second) // some rounds of gossip
	after := a.awaitServing()
	a.demandSame(before, after)
	if now := l.embedded(t); now != embedded {
		t.Errorf("the embedded agent was %s, is %s", embedded, now)
	}
	for _, one := range a.log.moves(0)[4:] {
		t.Errorf("it moved: %s", one)
	}

	// What is handed over is the key of before, which the cluster has forgotten.
	from := a.log.mark()
	hup := time.Now()
	a.signal(syscall.SIGHUP)
	moved := a.awaitMove(from, "Serving")
	t.Logf("re-executed with the old key: Serving %s after SIGHUP", moved.at.Sub(hup).Round(time.Millisecond))
	got := a.awaitServing()
	if got.evidence("gossip_key").ID == before.evidence("gossip_key").ID {
		t.Errorf("pawl still holds version %s of the key", got.evidence("gossip_key").ID)
	}
	watching.demandUnmoved(t)
	present.demandAlways(t)
	scraping.demandAll(t)
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) > 0 {
		t.Errorf("it logged in %d times", len(logins))
	}
	a.terminate(nil)
}

// testGossipAmid: a booting agent finds Vault and the cluster one version apart,
// whichever is ahead.
func testGossipAmid(t *testing.T, l *lab) {
	old := newKey(32)
	l.clusterKey(t, old, false)
	l.writeKey(t, old)
	boot := func(what string) *agent {
		a := startAgent(t, l, program{})
		moved := a.awaitMove(0, "Serving")
		t.Logf("%s: Serving %s after the start", what, moved.at.Sub(a.began).Round(time.Millisecond))
		l.awaitPassing(t, "serfHealth")
		return a
	}
	newer := newKey(16) // and of another length
	l.writeKey(t, newer)
	a := boot("Vault is ahead")
	l.clusterKey(t, newer, false) // the cluster follows, and with it the agent
	l.awaitKey(t, newer, 2)
	a.awaitServing()
	a.terminate(nil)
	l.awaitGone(t)

	l.writeKey(t, old) // somebody took it back in Vault
	a = boot("Vault was put back")
	a.terminate(nil)
	l.awaitGone(t)

	// Vault has never heard of the cluster's key: nobody can join, and it says so.
	unheard := newKey(32)
	l.clusterKey(t, unheard, false)
	a = startAgent(t, l, program{})
	got := a.awaitStatus("two refused joins", func(r report) bool { return r.action("install_credentials").Failed >= 2 })
	failed := got.action("install_credentials")
	if got.State != "VaultAuthed" || !strings.Contains(failed.Fix, "gossip key") {
		t.Errorf("with a key that is not the cluster's pawl says %s", got)
	}
	l.writeKey(t, unheard)
	mended := time.Now()
	a.awaitServing()
	t.Logf("Serving %s after Vault had the cluster's key", time.Since(mended).Round(time.Millisecond))
	a.terminate(nil)
}

// testGossipStopped: the key is rotated while the agent cannot hear of it.
func testGossipStopped(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	l.awaitPassing(t, "serfHealth")
	a.signal(syscall.SIGSTOP)
	eventually(t, "the servers see that it does not answer", func() (bool, string) {
		check := l.nodeChecks(t)["serfHealth"]
		return check != nil && check.Status == "critical", fmt.Sprintf("%+v", check)
	})
	key := newKey(32)
	l.writeKey(t, key)
	l.clusterKey(t, key, false)
	from := a.log.mark()
	a.signal(syscall.SIGCONT)
	woken := time.Now()
	l.awaitPassing(t, "serfHealth")
	t.Logf("passing %s after it went on", time.Since(woken).Round(time.Millisecond))
	after := a.awaitServing()
	if after.PID != before.PID {
		t.Errorf("pid %d became %d", before.PID, after.PID)
	}
	for _, one := range a.log.moves(from) {
		t.Logf("  +%5.1f s %s", one.at.Sub(woken).Seconds(), one)
	}
	a.terminate(nil)
}

// testGossipUnfit: without a key of 16, 24 or 32 bytes no agent is started, since
// an empty one would start it unencrypted. The reason says what to write.
func testGossipUnfit(t *testing.T, l *lab) {
	good := newKey(32)
	l.clusterKey(t, good, false)
	serf := net.JoinHostPort(l.binaries.site.value(t, "consul.bind"), l.binaries.site.value(t, "consul.bind_serf_port"))
	refused := func(what, says string, last bool) {
		t.Helper()
		a := startAgent(t, l, program{})
		got := a.awaitStatus("a failed issue", func(r report) bool { return r.action("issue_credentials").Failed >= 1 })
		failed := got.action("issue_credentials")
		if got.State != "VaultAuthed" || failed.Class != "config" || !strings.Contains(failed.Error, says) || failed.Fix == "" {
			t.Errorf("%s: pawl says %s", what, got)
		}
		if !got.reason("credentials_dead") {
			t.Errorf("%s: no reason: %s", what, got)
		}
		if connection, err := net.DialTimeout("tcp", serf, time.Second); err == nil {
			_ = connection.Close()
			t.Errorf("%s: an agent listens for gossip at %s", what, serf)
		}
		l.writeKey(t, good)
		mended := time.Now()
		a.awaitServing()
		t.Logf("%s: Serving %s after it was mended", what, time.Since(mended).Round(time.Millisecond))
		if last {
			a.terminate(nil)
			return
		}
		a.kill() // quicker than a leave; the next one begins with nothing all the same
		must(t, os.Remove(filepath.Join(l.binaries.site.folder(t), handover)))
	}
	l.writeKey(t, newKey(10))
	refused("too short", "10 bytes", false)
	l.writeKey(t, "")
	refused("empty", "has no text", false)
	must(t, l.vault.KVv2("kv").Delete(t.Context(), "consul/gossip"))
	refused("deleted", "is deleted", false)
	must(t, l.vault.KVv2("kv").DeleteMetadata(t.Context(), "consul/gossip"))
	refused("never written", "there is nothing", true)
}
