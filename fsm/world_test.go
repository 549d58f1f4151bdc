package fsm

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
	"pawl/transitions"
)

// world is the far ends with a behaviour of their own, in virtual time: a
// metadata service, a Vault that grants, expires and revokes, Consul servers that
// know the tokens Vault gave, an embedded agent and an exporter.
type world struct {
	t    *testing.T
	lock sync.Mutex

	metadataDown, vaultDown, consulDown, exporterDown, roleMissing bool
	// latency is how long each answer takes.
	latency time.Duration
	// panics makes the next login panic.
	panics bool

	tokenTTL, maxTTL, certificateTTL, jwtTTL time.Duration

	granted      int
	tokens       map[string]*vaultToken // by secret
	consulTokens map[string]*vaultToken // by secret: the Vault token it was leased under
	installed    string                 // secret of the Consul token that the agent runs with
	installs     int
	registered   bool
	logins       int
	renewals     int
	revoked      int
	certificates int
	calls        int
	node         string
}

type vaultToken struct {
	granted, expires, ends time.Time
	revoked                bool
}

func newWorld(t *testing.T) *world {
	return &world{t: t, tokenTTL: time.Hour, maxTTL: 24 * time.Hour, certificateTTL: 24 * time.Hour, jwtTTL: 5 * time.Minute,
		latency: 5 * time.Millisecond, tokens: map[string]*vaultToken{}, consulTokens: map[string]*vaultToken{}, node: "vm-1"}
}

// call is what every answer begins with: its time, and whether anybody is there.
func (w *world) call(ctx context.Context, remote failure.Remote, down *bool) error {
	w.lock.Lock()
	w.calls++
	latency := w.latency
	w.lock.Unlock()
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return failure.New(failure.Transient, remote, "ask %s: %w", remote, ctx.Err())
	case <-timer.C:
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if *down {
		return failure.New(failure.Transient, remote, "ask %s: connection refused", remote)
	}
	return nil
}

func (w *world) live(token *vaultToken) bool {
	return token != nil && !token.revoked && time.Now().Before(token.expires)
}

func (w *world) token(of secret.Secret) (*vaultToken, error) {
	token := w.tokens[of.Reveal()]
	if !w.live(token) {
		return nil, failure.New(failure.AuthDead, failure.RemoteVault, "ask vault: permission denied (403)")
	}
	return token, nil
}

func (w *world) FetchJWT(ctx context.Context) (transitions.JWTGrant, error) {
	if err := w.call(ctx, failure.RemoteMetadata, &w.metadataDown); err != nil {
		return transitions.JWTGrant{}, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	w.granted++
	return transitions.JWTGrant{Text: secret.New(fmt.Sprint("jwt-", w.granted)), ID: fmt.Sprint("jti-", w.granted), TTL: w.jwtTTL,
		Identity: states.Identity{Node: w.node, NodeID: "uuid-" + w.node}}, nil
}

func (w *world) Login(ctx context.Context, _ secret.Secret) (transitions.VaultGrant, error) {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return transitions.VaultGrant{}, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.panics {
		w.panics = false
		panic("planted")
	}
	if w.roleMissing {
		return transitions.VaultGrant{}, failure.New(failure.Config, failure.RemoteVault, "log in: role missing").WithFix("write the role")
	}
	w.logins++
	now := time.Now()
	name := fmt.Sprint("vault-", w.logins)
	w.tokens[name] = &vaultToken{granted: now, expires: now.Add(w.tokenTTL), ends: now.Add(w.maxTTL)}
	return transitions.VaultGrant{Token: secret.New(name), Accessor: "accessor-" + name, TTL: w.tokenTTL, MaxTTL: w.maxTTL}, nil
}

func (w *world) ReadGossipKey(ctx context.Context, token secret.Secret) (transitions.GossipGrant, error) {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return transitions.GossipGrant{}, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	_, err := w.token(token)
	return transitions.GossipGrant{Key: secret.New("gossip"), ID: "v1"}, err
}

func (w *world) SignCertificate(ctx context.Context, token secret.Secret, _ string) (transitions.CertificateGrant, error) {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return transitions.CertificateGrant{}, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	w.certificates++
	_, err := w.token(token)
	return transitions.CertificateGrant{Serial: fmt.Sprint("serial-", w.certificates), TTL: w.certificateTTL}, err
}

func (w *world) IssueConsulToken(ctx context.Context, token secret.Secret) (transitions.ConsulGrant, error) {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return transitions.ConsulGrant{}, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	under, err := w.token(token)
	if err != nil {
		return transitions.ConsulGrant{}, err
	}
	if w.consulDown {
		return transitions.ConsulGrant{}, failure.New(failure.Transient, failure.RemoteConsul, "issue: consul is down behind vault (400)")
	}
	name := fmt.Sprint("consul-", len(w.consulTokens)+1)
	w.consulTokens[name] = under
	return transitions.ConsulGrant{Token: secret.New(name), Accessor: "accessor-" + name, Lease: "lease-" + name, TTL: w.tokenTTL}, nil
}

func (w *world) renew(ctx context.Context, of secret.Secret) (time.Duration, error) {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return 0, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	token, err := w.token(of)
	if err != nil {
		return 0, err
	}
	w.renewals++
	now := time.Now()
	token.expires = now.Add(w.tokenTTL)
	if token.expires.After(token.ends) {
		token.expires = token.ends
	}
	return token.expires.Sub(now), nil
}

func (w *world) RenewToken(ctx context.Context, of secret.Secret) (time.Duration, error) {
	return w.renew(ctx, of)
}

func (w *world) RenewLease(ctx context.Context, of secret.Secret, _ string) (time.Duration, error) {
	return w.renew(ctx, of)
}

func (w *world) LookupToken(ctx context.Context, of secret.Secret) error {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	_, err := w.token(of)
	return err
}

func (w *world) Healthy(ctx context.Context) error {
	return w.call(ctx, failure.RemoteVault, &w.vaultDown)
}

func (w *world) RevokeToken(ctx context.Context, of secret.Secret) error {
	if err := w.call(ctx, failure.RemoteVault, &w.vaultDown); err != nil {
		return err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if token := w.tokens[of.Reveal()]; w.live(token) {
		if w.consulTokens[w.installed] == token {
			w.t.Errorf("revoked the token under which the agent runs")
		}
		token.revoked = true
		w.revoked++
	}
	return nil
}

func (w *world) Verify(ctx context.Context, _ states.Identity, epoch states.Epoch) error {
	return w.consul(ctx, epoch.Consul.Token.Reveal())
}

// consul answers whether the servers know a token.
func (w *world) consul(ctx context.Context, token string) error {
	if err := w.call(ctx, failure.RemoteConsul, &w.consulDown); err != nil {
		return err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if !w.live(w.consulTokens[token]) {
		return failure.New(failure.AuthDead, failure.RemoteConsul, "read token: ACL not found")
	}
	return nil
}

func (w *world) Install(_ context.Context, _ states.Identity, epoch states.Epoch) error {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.installs++
	w.installed = epoch.Consul.Token.Reveal()
	return nil
}

func (w *world) agentToken() string {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.installed
}

func (w *world) Prove(ctx context.Context) (uint64, error) { return 1, w.consul(ctx, w.agentToken()) }

func (w *world) Register(ctx context.Context, _ error) error {
	if err := w.consul(ctx, w.agentToken()); err != nil {
		return err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	w.registered = true
	return nil
}

func (w *world) ReadBack(ctx context.Context) (uint64, bool, error) {
	if err := w.consul(ctx, w.agentToken()); err != nil {
		return 0, false, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	return 7, w.registered, nil
}

func (w *world) Scrape(ctx context.Context) error {
	err := w.call(ctx, failure.RemoteExporter, &w.exporterDown)
	if err != nil {
		return failure.New(failure.Local, failure.RemoteExporter, "scrape: %w", err)
	}
	return nil
}

// set changes the world.
func (w *world) set(change func(*world)) {
	w.lock.Lock()
	defer w.lock.Unlock()
	change(w)
}

// running is a machine in a world, inside a bubble.
type running struct {
	*Machine
	t      *testing.T
	world  *world
	log    *lockedWriter
	stop   context.CancelFunc
	landed chan states.Held
}

// probe is the probe interval of the tests.
const probe = 30 * time.Second

// launch starts a machine with the real work table; call it in a synctest bubble.
func launch(t *testing.T, w *world, seed uint64) *running { return launchWith(t, w, seed, nil) }

// launchWith starts a machine with the rows given, or with the real table.
func launchWith(t *testing.T, w *world, seed uint64, work []transitions.Work) *running {
	t.Helper()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	var lock sync.Mutex
	settings := transitions.Settings{ProbeInterval: probe, Now: time.Now, Roll: func() float64 {
		lock.Lock()
		defer lock.Unlock()
		return dice.Float64()
	}}
	if work == nil {
		work = transitions.Table(transitions.Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings)
	}
	log := &lockedWriter{}
	m, err := New(Options{
		Arrows:   transitions.Arrows(),
		Work:     work,
		Settings: settings,
		Log:      slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Machine: m, t: t, world: w, log: log, stop: stop, landed: make(chan states.Held, 1)}
	go func() { r.landed <- m.Run(ctx) }()
	return r
}

// lockedWriter lets the log be read while it is written.
type lockedWriter struct {
	lock sync.Mutex
	to   strings.Builder
}

func (w *lockedWriter) Write(text []byte) (int, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.to.Write(text)
}

// logged is what was logged so far.
func (r *running) logged() string {
	r.log.lock.Lock()
	defer r.log.lock.Unlock()
	return r.log.to.String()
}

// sleep lets virtual time pass. What the test read of the world before is
// ordered before what others write after: a timer alone does not say so to the
// race detector.
func (r *running) sleep(d time.Duration) {
	r.world.set(func(*world) {})
	time.Sleep(d)
}

// end stops the machine and returns what it held.
func (r *running) end() states.Held {
	r.stop()
	return <-r.landed
}

// pass lets virtual time pass.
func (r *running) pass(d time.Duration) {
	r.sleep(d)
	synctest.Wait()
}

// reaches waits until the machine is in the state, and returns how long that
// took; it fails after limit of virtual time.
func (r *running) reaches(want states.State, limit time.Duration) time.Duration {
	r.t.Helper()
	began := time.Now()
	for time.Since(began) < limit {
		synctest.Wait()
		if r.Snapshot().State == want {
			return time.Since(began)
		}
		r.sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("not in %s after %s; in %s, reasons %+v, standing %+v", want, limit, r.Snapshot().State, r.Snapshot().Reasons, r.Snapshot().Standing())
	return 0
}

// walk is the states passed through, as one text.
func (r *running) walk() string {
	moves := r.Snapshot().Moves
	if len(moves) == 0 {
		return ""
	}
	walk := []string{string(moves[0].From)}
	for _, move := range moves {
		walk = append(walk, string(move.To))
	}
	return strings.Join(walk, " ")
}
