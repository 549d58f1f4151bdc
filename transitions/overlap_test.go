package transitions

import (
	"context"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
)

// Time stands still in the search; these are histories in which it does not:
// something runs out while an attempt is under way. Random histories found them.

// slowWorld is a world in which each answer of some methods takes its time.
type slowWorld struct {
	*world
	now   time.Time
	takes time.Duration
}

func (w *slowWorld) clock() time.Time { return w.now }

func (w *slowWorld) SignCertificate(ctx context.Context, of secret.Secret, node string) (CertificateGrant, error) {
	w.now = w.now.Add(w.takes)
	return w.world.SignCertificate(ctx, of, node)
}

func (w *slowWorld) Install(ctx context.Context, identity states.Identity, epoch states.Epoch) error {
	w.now = w.now.Add(w.takes)
	return w.world.Install(ctx, identity, epoch)
}

func (w *slowWorld) attempt(t *testing.T, action Action, held states.Held) (states.Held, error) {
	t.Helper()
	for _, row := range Table(Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, Settings{ProbeInterval: searchProbe, Now: w.clock, Roll: func() float64 { return 0.5 }}) {
		if row.Action == action {
			if !row.Needs(held, w.now) {
				t.Fatalf("%s is not needed", action)
			}
			after, err := row.Attempt(t.Context(), held, w.clock)
			return after.Settled(w.now), err
		}
	}
	t.Fatalf("no row for %s", action)
	return held, nil
}

// served is a machine that serves, with a next epoch begun.
func served(t *testing.T, next string) states.Held {
	t.Helper()
	c, err := readWords("jwt vault gossip certificate consul verified agent registration exporter installed reattest:due next:epoch " + next)
	if err != nil {
		t.Fatal(err)
	}
	return c.held(0)
}

// Current's Vault token runs out while the next epoch's credentials are fetched,
// and fetching fails for good: the next epoch is all there is, and becomes
// Current. It was dropped once, and a live token with it.
func TestCandidateStaysWhereCurrentDied(t *testing.T) {
	w := &slowWorld{world: &world{answers: map[string]error{"SignCertificate": fails(failure.Config, failure.RemoteVault)}}, now: searchNow, takes: 10 * time.Second}
	held := served(t, "")
	held.Current.Vault.Expires = searchNow.Add(5 * time.Second)
	next := held.Next.Vault.ID
	after, err := w.attempt(t, Issue, held)
	if err == nil {
		t.Fatal("nothing failed")
	}
	if after.Current.Vault.ID != next || after.Next.Number != 0 || len(after.Former) != 0 {
		t.Errorf("stands on %s, next %d, %d to revoke; want it to stand on %s", after.Current.Vault.ID, after.Next.Number, len(after.Former), next)
	}
	if rung := states.Rung(after, w.now); rung != states.VaultAuthed {
		t.Errorf("belongs in %s", rung)
	}
}

// The next epoch's Vault token runs out while the agent is being given its
// credentials: Current, which is alive, stays Current, and its credentials are
// installed again. Once it was put away to be revoked, for a dead one.
func TestCandidateThatDiedIsNotSwappedIn(t *testing.T) {
	w := &slowWorld{world: &world{answers: map[string]error{}}, now: searchNow, takes: 10 * time.Second}
	held := served(t, "next_gossip next_certificate next_consul next_verified")
	held.Next.Vault.Expires = searchNow.Add(5 * time.Second)
	current := held.Current.Vault.ID
	after, err := w.attempt(t, Install, held)
	if err == nil {
		t.Error("it went well")
	}
	if after.Current.Vault.ID != current || after.Next.Number != 0 || len(after.Former) != 0 {
		t.Errorf("stands on %s, next %d, %d to revoke; want %s to stay", after.Current.Vault.ID, after.Next.Number, len(after.Former), current)
	}
	w.takes = 0
	if after, err = w.attempt(t, Install, after); err != nil || after.Installed != after.Current.Credentials() {
		t.Errorf("installed %+v (%v), want Current's again", after.Installed, err)
	}
}

// panickyWorld panics where the gossip key is read: on a goroutine of its own.
type panickyWorld struct{ *world }

func (w *panickyWorld) ReadGossipKey(context.Context, secret.Secret) (GossipGrant, error) {
	panic("planted")
}

// A panic beside the certificate ended the process once.
func TestPanicBesideTheCertificate(t *testing.T) {
	w := &panickyWorld{&world{answers: map[string]error{}}}
	for _, row := range Table(Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, Settings{ProbeInterval: searchProbe, Now: clock, Roll: func() float64 { return 0.5 }}) {
		if row.Action != Issue {
			continue
		}
		c, err := readWords("jwt vault")
		if err != nil {
			t.Fatal(err)
		}
		after, err := row.Attempt(t.Context(), c.held(0), clock)
		if failure.Of(err).Class != failure.Bug || !after.Current.Certificate.Live(searchNow) {
			t.Errorf("failed with %v, certificate %t; want a bug, and the certificate kept", err, after.Current.Certificate.Live(searchNow))
		}
	}
}
