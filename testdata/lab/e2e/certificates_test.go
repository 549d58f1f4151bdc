package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// shortLife is the --ttl of this lab: a certificate is replaced every seven seconds.
	shortLife = 12 * time.Second
	// rotations are how many certificates are waited for.
	rotations = 3
	// retiring is how long connections of an old certificate may stay open: calls
	// under way finish on them.
	retiring = 3 * time.Second
)

// TestCertificates: ours and the servers', each replaced under a running agent.
func TestCertificates(t *testing.T) {
	found := findBinaries(t)
	lockMachine(t)
	l := startLab(t, found, "--ttl", shortLife.String())
	between := l.startRelay(t)
	for _, one := range []struct {
		name string
		run  func(*testing.T, *lab, *relay)
	}{
		{"new connections show new certificates", testShown},
		{"stopped for longer than every TTL", testAsleep},
		{"the servers move to the other root", testMoved},
		{"unknown CA", testUnknown},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.run(t, l, between)
			l.awaitGone(t)
		})
	}
}

// testShown: each certificate that pawl says it runs with is shown, on a
// connection of the running agent's own, soon after; and none before it is.
func testShown(t *testing.T, l *lab, between *relay) {
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	embedded := l.embedded(t)
	watching := l.watchHealth(t)
	serial, server := before.evidence("certificate").ID, printed(l.pair(t, "consul-1").Leaf)
	for range rotations {
		old := serial
		a.awaitStatus("another certificate", func(r report) bool {
			serial = r.evidence("certificate").ID
			return serial != old && r.evidence("agent").Grade == "good"
		})
		installed := time.Now()
		var open map[string]int
		took := eventually(t, "the agent's connections show the new certificate and no other", func() (bool, string) {
			open = map[string]int{}
			for _, each := range between.since(a.began) {
				if each.running && each.end.IsZero() && each.serial != server { // the server talks to itself, too
					open[each.serial]++
				}
			}
			return len(open) == 1 && open[serial] > 0, fmt.Sprintf("open connections %v, want of %s", open, serial)
		})
		if took > retiring {
			t.Errorf("%s after the swap a connection still showed the old certificate", took)
		}
		t.Logf("certificate %s: shown on %d connections, the last old one closed %s after it was seen installed",
			serial[:11], open[serial], time.Since(installed).Round(time.Millisecond))
	}
	watching.demandUnmoved(t)
	a.demandSame(before, a.awaitServing())
	if now := l.embedded(t); now != embedded {
		t.Errorf("the embedded agent was %s, is %s", embedded, now)
	}
	for _, one := range a.log.moves(0)[4:] {
		if !good(one.to) {
			t.Errorf("it left Serving: %s", one)
		}
	}
	a.terminate(nil)
}

// testAsleep: SIGSTOP for longer than any credential lives, certificate and JWT
// included, with the servers up. It comes back by itself.
func testAsleep(t *testing.T, l *lab, _ *relay) {
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	a.signal(syscall.SIGSTOP)
	a.lasts(shortLife + 3*time.Second)
	from := a.log.mark()
	a.signal(syscall.SIGCONT)
	woken := time.Now()
	after := a.awaitStatus("Serving with other credentials", func(r report) bool {
		return good(r.State) && r.Ready && r.evidence("vault_token").ID != before.evidence("vault_token").ID
	})
	took := time.Since(woken)
	t.Logf("Serving %s after SIGCONT", took.Round(time.Millisecond))
	for _, one := range a.log.moves(from) {
		t.Logf("  +%5.1f s %s", one.at.Sub(woken).Seconds(), one)
	}
	if took > noticed {
		t.Errorf("it took %s after SIGCONT", took)
	}
	a.demandSame(before, after)
	for _, id := range []string{"serfHealth", "service:" + serviceName} {
		l.awaitPassing(t, id)
	}
	l.demandNothingLeft(t, a)
	a.terminate(nil)
}

// testMoved: Vault, its intermediate and Consul move from the first baked root to
// the second, one after the other, while the agent runs.
func testMoved(t *testing.T, l *lab, between *relay) {
	other := l.root(t, "root-b")
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	present, scraping := l.watchPresence(t), l.scrape(t)
	renewed := func(what string) {
		t.Helper()
		began := time.Now()
		now, err := l.ask()
		must(t, err)
		a.awaitStatus("a new epoch after "+what, func(r report) bool {
			return r.Epoch > now.Epoch && good(r.State) && r.Ready
		})
		t.Logf("%s: a new epoch %s later", what, time.Since(began).Round(time.Millisecond))
	}

	l.install(t, "vault", other.issue(t, l.pair(t, "vault")))
	l.control(t, "kill", "vault")
	l.control(t, "start", "vault")
	renewed("Vault's listener moved")

	l.moveIntermediate(t, other)
	renewed("Vault's intermediate moved")

	moved := time.Now()
	between.show(other.issue(t, l.pair(t, "consul-1")))
	renewed("Consul moved")
	made := 0
	for _, each := range between.since(moved) {
		if each.running && each.serial != "" {
			made++
		}
	}
	if made == 0 {
		t.Error("no connection of the agent's own was made to the server of the other root")
	}
	present.demandAlways(t)
	scraping.demandAll(t)
	a.demandSame(before, a.awaitServing())
	a.terminate(nil)
	between.show(between.own)
}

// moveIntermediate has Vault's PKI sign by a new intermediate of this root.
func (l *lab) moveIntermediate(t *testing.T, root issuer) {
	t.Helper()
	answer, err := l.vault.Logical().Write("pki/intermediate/generate/internal", map[string]any{"common_name": "pawl lab moved", "key_type": "ec"})
	must(t, err)
	block, _ := pem.Decode([]byte(answer.Data["csr"].(string)))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	made := root.sign(t, &x509.Certificate{Subject: request.Subject, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, request.PublicKey)
	answer, err = l.vault.Logical().Write("pki/intermediate/set-signed", map[string]any{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw}))})
	must(t, err)
	imported := answer.Data["imported_issuers"].([]any)
	_, err = l.vault.Logical().Write("pki/config/issuers", map[string]any{"default": imported[0]})
	must(t, err)
}

// testUnknown: what answers in a server's place is of a CA that is not baked in,
// though it bears the name of one that is. It is told nothing, the reason is
// named, and all heals when the right one is back.
func testUnknown(t *testing.T, l *lab, between *relay) {
	unknown := unknownRoot(t)
	a := startAgent(t, l, program{})
	before := a.awaitServing()
	present, scraping := l.watchPresence(t), l.scrape(t)

	// Consul's RPC port.
	from, moved := a.log.mark(), time.Now()
	between.show(unknown.issue(t, l.pair(t, "consul-1")))
	got := a.awaitStatus("the agent sees an unknown CA at Consul", func(r report) bool {
		return r.State == "Degraded" && strings.Contains(fmt.Sprint(r.Reasons), "unknown authority")
	})
	if !got.reason("consul_unreachable") {
		t.Errorf("an unknown CA at Consul, and pawl says %s", got)
	}
	for _, each := range between.since(moved) {
		if each.serial != "" {
			t.Errorf("a connection was made to a server of an unknown CA (by the running agent: %t)", each.running)
		}
	}
	between.show(between.own)
	back := time.Now()
	a.awaitMove(from, "Serving")
	a.awaitServing()
	t.Logf("Serving %s after Consul's CA was right again", time.Since(back).Round(time.Millisecond))

	// Vault.
	l.control(t, "kill", "vault")
	pair := unknown.issue(t, l.pair(t, "vault"))
	impostor, err := tls.Listen("tcp", l.record.Vault.Address, &tls.Config{Certificates: []tls.Certificate{pair}})
	must(t, err)
	t.Cleanup(func() { _ = impostor.Close() })
	var told, tried atomic.Int64
	go func() {
		for {
			connection, err := impostor.Accept()
			if err != nil {
				return
			}
			go func(connection net.Conn) {
				defer connection.Close()
				tried.Add(1)
				if connection.(*tls.Conn).Handshake() == nil {
					told.Add(1)
				}
			}(connection)
		}
	}()
	got = a.awaitStatus("the agent sees an unknown CA at Vault", func(r report) bool {
		return strings.Contains(fmt.Sprint(r.Actions), "of a CA that is not in the site file") && r.State != "Serving"
	})
	for _, reason := range got.Reasons {
		t.Logf("%s (under %q): %s", reason.Name, reason.Under, reason.Detail)
	}
	if !strings.Contains(fmt.Sprint(got.Actions), "ca_roots") {
		t.Errorf("no fix speaks of ca_roots: %s", got)
	}
	if !got.reason("vault_unreachable") || !strings.Contains(fmt.Sprint(got.Reasons), "of a CA that is not in the site file") {
		t.Errorf("no reason names the unknown CA: %s", got)
	}
	must(t, impostor.Close())
	l.control(t, "start", "vault")
	back = time.Now()
	after := a.awaitServing()
	t.Logf("Serving %s after Vault's CA was right again; the impostor was tried %d times and told nothing", time.Since(back).Round(time.Millisecond), tried.Load())
	if told.Load() > 0 {
		t.Errorf("%d handshakes with a Vault of an unknown CA were finished", told.Load())
	}
	present.demandAlways(t)
	scraping.demandAll(t)
	a.demandSame(before, after)
	a.terminate(nil)
}
