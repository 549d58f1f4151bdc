package e2e

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// testStopNoIdentity: nothing is held, and yet metrics and status answer.
func testStopNoIdentity(t *testing.T, l *lab) {
	l.control(t, "stop", "metadata")
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	got := a.awaitStatus("a failed fetch", func(r report) bool { return r.action("fetch_jwt").Failed >= 1 })
	if got.State != "NoIdentity" || !got.reason("metadata_unreachable") {
		t.Errorf("without the JWT service pawl says %s", got)
	}
	l.awaitMetrics(t)
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.control(t, "start", "metadata")
	if logins := succeeded(l.audit(t, mark), pathLogin); len(logins) > 0 {
		t.Errorf("it logged in %d times", len(logins))
	}
}

func testStopHasJWT(t *testing.T, l *lab) {
	l.control(t, "stop", "vault")
	a := startAgent(t, l, program{})
	a.awaitStatus("a failed login", func(r report) bool { return r.State == "HasJWT" && r.action("log_in").Failed >= 1 })
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.control(t, "start", "vault")
}

// testStopVaultAuthed: a Vault token is held and nothing of Consul's.
func testStopVaultAuthed(t *testing.T, l *lab) {
	l.control(t, "stop", "consul-1")
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	got := a.awaitStatus("a failed issue", func(r report) bool { return r.State == "VaultAuthed" && r.action("issue_credentials").Failed >= 1 })
	if class := got.action("issue_credentials").Class; class != "transient" {
		t.Errorf("Vault cannot reach Consul, and pawl calls that %s: %s", class, got)
	}
	t.Logf("exit 0 after %s", a.terminate(nil))
	if revoked := l.awaitRevoked(t, mark); revoked != 1 {
		t.Errorf("%d logins", revoked)
	}
	l.control(t, "start", "consul-1")
	l.awaitNoTokens(t)
}

// testStopConsulReady: the policy refuses the service, so that the node joins and
// the read-back does not find what it should. Mended, pawl comes up by itself.
func testStopConsulReady(t *testing.T, l *lab) {
	policy, _, err := l.consul.ACL().PolicyReadByName("pawl", nil)
	must(t, err)
	whole := policy.Rules
	setRules := func(rules string) {
		policy.Rules = rules
		_, _, err := l.consul.ACL().PolicyUpdate(policy, nil)
		must(t, err)
	}
	t.Cleanup(func() { setRules(whole) })
	setRules(`node_prefix "" { policy = "write" }`)

	stopped := func() (*agent, int64) {
		mark := l.auditMark(t)
		a := startAgent(t, l, program{})
		got := a.awaitStatus("a failed registration", func(r report) bool { return r.State == "ConsulReady" && r.action("register").Failed >= 1 })
		if fix := got.action("register").Fix; fix == "" {
			t.Errorf("a policy is missing, and pawl names no fix: %s", got)
		}
		l.awaitCatalogue(t, "the node is there", func(found *consul.CatalogNode) bool { return found != nil })
		return a, mark
	}
	a, mark := stopped()
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.awaitGone(t)
	if revoked := l.awaitRevoked(t, mark); revoked != 1 {
		t.Errorf("%d logins", revoked)
	}
	l.awaitNoTokens(t)

	a, _ = stopped()
	setRules(whole)
	mended := time.Now()
	a.awaitServing()
	t.Logf("Serving %s after the policy was mended", time.Since(mended).Round(time.Millisecond))
	l.awaitHealth(t, "passing", isPassing)
	a.terminate(nil)
	l.awaitGone(t)
}

// testStopConsulDead: nobody hears the leave, and the token is revoked all the same.
func testStopConsulDead(t *testing.T, l *lab) {
	mark := l.auditMark(t)
	a := startAgent(t, l, program{})
	a.awaitServing()
	from := a.log.mark()
	l.control(t, "kill", "consul-1")
	a.awaitMove(from, "Degraded")
	t.Logf("exit 0 after %s", a.terminate(nil))
	l.awaitRevoked(t, mark)
	l.control(t, "start", "consul-1")
	l.awaitNoTokens(t) // Vault tries again by itself
}

// testSecondSignal: the second SIGTERM does not wait for what the first began.
func testSecondSignal(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	a.awaitServing()
	a.signal(syscall.SIGTERM)
	// The servers have heard that the node leaves; the agent waits three seconds
	// more for the word to spread.
	l.awaitGone(t)
	if !a.running() {
		a.fatalf("it ended before the second signal could be sent")
	}
	second := time.Now()
	a.signal(syscall.SIGTERM)
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		a.fatalf("two signals did not end it within %s", bound)
	}
	took := time.Since(second)
	var ended *exec.ExitError
	if !errors.As(a.err, &ended) || ended.ExitCode() < 1 {
		t.Errorf("the second SIGTERM ended pawl with %v, want an exit code of failure", a.err)
	}
	if took > time.Second {
		t.Errorf("the second SIGTERM took %s", took)
	}
	t.Logf("the second SIGTERM took %s (%v)", took.Round(time.Millisecond), a.err)
}
