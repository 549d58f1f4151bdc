package fsm

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
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
	critical     bool // the check, as it was registered last
	logins       int
	renewals     int
	revoked      int
	certificates int
	calls        int
	node         string

	// troubles is what a far end answers instead; hanging ones never answer.
	troubles map[failure.Remote]*failure.Error
	hanging  map[failure.Remote]bool
	// answered is when each far end first answered in earnest, since a story cleared it.
	answered map[failure.Remote]time.Time
	asked    map[failure.Remote]int

	gossipTrouble *failure.Error
	loginTrouble  *failure.Error
	gossipPanics  bool
	// key is the metadata service's signing key: JWTs signed with a former one are refused.
	key int
	// vaultBehind and consulBehind are how long a new token is unknown to a node that lags.
	vaultBehind, consulBehind time.Duration
	// reserved says that Consul keeps our name for an older node.
	reserved bool
	issued   map[string]time.Time // Consul tokens, by secret
	deleted  map[string]bool
}

type vaultToken struct {
	granted, expires, ends time.Time
	revoked                bool
}

func newWorld(t *testing.T) *world {
	return &world{t: t, tokenTTL: time.Hour, maxTTL: 24 * time.Hour, certificateTTL: 24 * time.Hour, jwtTTL: 5 * time.Minute,
		latency: 5 * time.Millisecond, tokens: map[string]*vaultToken{}, consulTokens: map[string]*vaultToken{}, node: "vm-1",
		troubles: map[failure.Remote]*failure.Error{}, hanging: map[failure.Remote]bool{},
		answered: map[failure.Remote]time.Time{}, asked: map[failure.Remote]int{},
		issued: map[string]time.Time{}, deleted: map[string]bool{}}
}

// call is what every answer begins with: its time, and whether anybody is there.
func (w *world) call(ctx context.Context, remote failure.Remote, down *bool) error {
	w.lock.Lock()
	w.calls++
	w.asked[remote]++
	latency := w.latency
	if w.hanging[remote] {
		latency = 1000 * time.Hour
	}
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
	if trouble := w.troubles[remote]; trouble != nil {
		return trouble
	}
	if w.answered[remote].IsZero() {
		w.answered[remote] = time.Now()
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
	if time.Since(token.granted) < w.vaultBehind {
		return nil, failure.New(failure.Transient, failure.RemoteVault, "ask vault: required index state not present (412)")
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
	return transitions.JWTGrant{Text: secret.New(fmt.Sprintf("jwt-%d/%d", w.granted, w.key)), ID: fmt.Sprint("jti-", w.granted), TTL: w.jwtTTL,
		Identity: states.Identity{Node: w.node, NodeID: "uuid-" + w.node}}, nil
}

func (w *world) Login(ctx context.Context, jwt secret.Secret) (transitions.VaultGrant, error) {
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
	if w.loginTrouble != nil {
		return transitions.VaultGrant{}, w.loginTrouble
	}
	if !strings.HasSuffix(jwt.Reveal(), fmt.Sprint("/", w.key)) {
		return transitions.VaultGrant{}, failure.New(failure.AuthDead, failure.RemoteVault, "log in: error verifying token signature (400)")
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
	if w.gossipPanics {
		w.gossipPanics = false
		panic("planted beside the certificate")
	}
	_, err := w.token(token)
	if err == nil && w.gossipTrouble != nil {
		return transitions.GossipGrant{}, w.gossipTrouble
	}
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
	if w.consulDown || w.troubles[failure.RemoteConsul] != nil || w.hanging[failure.RemoteConsul] {
		return transitions.ConsulGrant{}, failure.New(failure.Transient, failure.RemoteConsul, "issue: consul is down behind vault (400)")
	}
	name := fmt.Sprint("consul-", len(w.consulTokens)+1)
	w.consulTokens[name], w.issued[name] = under, time.Now()
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
	if !w.known(token) {
		return failure.New(failure.AuthDead, failure.RemoteConsul, "read token: ACL not found")
	}
	if age := time.Since(w.issued[token]); age < w.consulBehind {
		return failure.New(failure.Transient, failure.RemoteConsul, "read token: ACL not found at a server that lags; the token is %s old", age.Round(time.Second))
	}
	return nil
}

// known reports whether Consul's servers know the token: until somebody deletes
// it there, or Vault is there to take it back when its lease ends.
func (w *world) known(token string) bool {
	under := w.consulTokens[token]
	if under == nil || under.revoked || w.deleted[token] {
		return false
	}
	return w.live(under) || w.vaultDown || w.hanging[failure.RemoteVault] || w.troubles[failure.RemoteVault] != nil
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

func (w *world) Register(ctx context.Context, exporter error) error {
	if err := w.consul(ctx, w.agentToken()); err != nil {
		return err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.reserved {
		return failure.New(failure.Transient, failure.RemoteHost, "register: node name vm-1 is reserved by node of another id")
	}
	w.registered, w.critical = true, exporter != nil
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
