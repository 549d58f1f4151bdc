package transitions

import (
	"context"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
)

// world is every port, with each answer a choice. The search replays an attempt
// with every sequence of choices.
type world struct {
	script []int // choices made before, to repeat
	widths []int // how many there were at each point
	// answers, where not nil, are written by hand: method -> failure, else success.
	answers map[string]error
}

func (w *world) choose(count int) int {
	at := len(w.widths)
	w.widths = append(w.widths, count)
	if at < len(w.script) {
		return w.script[at]
	}
	return 0
}

// next returns the script of the next sequence, and false when all were tried.
func (w *world) next() ([]int, bool) {
	script := make([]int, len(w.widths))
	copy(script, w.script)
	for at := len(script) - 1; at >= 0; at-- {
		if script[at]+1 < w.widths[at] {
			script[at]++
			return script[:at+1], true
		}
	}
	return nil, false
}

// outcome chooses nil (first, always: the willing world) or one of these failures;
// a world with written answers gives those.
func (w *world) outcome(method string, failures ...*failure.Error) error {
	if w.answers != nil {
		return w.answers[method]
	}
	if chosen := w.choose(len(failures) + 1); chosen > 0 {
		return failures[chosen-1]
	}
	return nil
}

func fails(class failure.Class, remote failure.Remote) *failure.Error {
	return failure.New(class, remote, "chosen %s of %s", class, remote)
}

var (
	metadataAway    = fails(failure.Transient, failure.RemoteMetadata)
	metadataRefuses = fails(failure.Config, failure.RemoteMetadata)
	exporterDown    = fails(failure.Local, failure.RemoteExporter)
	consulRefuses   = fails(failure.Config, failure.RemoteConsul)
	vaultAway       = fails(failure.Transient, failure.RemoteVault)
	vaultDead       = fails(failure.AuthDead, failure.RemoteVault)
	vaultConfig     = fails(failure.Config, failure.RemoteVault)
	consulAway      = fails(failure.Transient, failure.RemoteConsul)
	consulDead      = fails(failure.AuthDead, failure.RemoteConsul)
	gossipRefuses   = fails(failure.AuthDead, failure.RemoteGossip)
	vaultStranger   = func() *failure.Error {
		failed := fails(failure.Config, failure.RemoteVault)
		failed.Stranger = true
		return failed
	}()
	localFault = fails(failure.Local, failure.RemoteHost)
)

func (w *world) fresh(kind string) string { return kind + "-new" }

func (w *world) FetchJWT(context.Context) (JWTGrant, error) {
	err := w.outcome("FetchJWT", metadataAway, metadataRefuses)
	return JWTGrant{Text: secret.New("jwt"), ID: w.fresh("jwt"), TTL: time.Hour, Identity: states.Identity{Node: "vm-1", NodeID: "id-1"}}, err
}
func (w *world) Login(context.Context, secret.Secret) (VaultGrant, error) {
	err := w.outcome("Login", vaultAway, vaultDead, vaultConfig, vaultStranger)
	return VaultGrant{Token: secret.New("token"), Accessor: w.fresh("vault"), TTL: time.Hour, MaxTTL: 2 * time.Hour}, err
}
func (w *world) ReadGossipKey(context.Context, secret.Secret) (GossipGrant, error) {
	return GossipGrant{Key: secret.New("key"), ID: "v1"}, nil // its failures are those of the certificate, which runs beside it
}
func (w *world) SignCertificate(context.Context, secret.Secret, string) (CertificateGrant, error) {
	err := w.outcome("SignCertificate", vaultAway, vaultDead, vaultConfig)
	return CertificateGrant{Serial: w.fresh("serial"), TTL: time.Hour}, err
}
func (w *world) IssueConsulToken(context.Context, secret.Secret) (ConsulGrant, error) {
	err := w.outcome("IssueConsulToken", vaultAway, vaultDead, vaultConfig, consulAway)
	return ConsulGrant{Token: secret.New("token"), Accessor: w.fresh("consul"), TTL: time.Hour}, err
}
func (w *world) renew(method string) (time.Duration, error) {
	if err := w.outcome(method, vaultAway, vaultDead, vaultConfig); err != nil {
		return 0, err
	}
	// Renewed in full, or capped by the max TTL.
	return []time.Duration{2 * time.Hour, time.Minute}[w.choose(2)], nil
}
func (w *world) RenewToken(context.Context, secret.Secret) (time.Duration, error) {
	return w.renew("RenewToken")
}
func (w *world) RenewLease(context.Context, secret.Secret, string) (time.Duration, error) {
	return w.renew("RenewLease")
}
func (w *world) LookupToken(context.Context, secret.Secret) error {
	return w.outcome("LookupToken", vaultAway, vaultDead)
}
func (w *world) Healthy(context.Context) error {
	return w.outcome("Healthy", vaultAway, vaultConfig, vaultStranger)
}
func (w *world) RevokeToken(context.Context, secret.Secret) error {
	return w.outcome("RevokeToken", vaultAway, vaultConfig)
}
func (w *world) Verify(context.Context, states.Identity, states.Epoch) error {
	return w.outcome("Verify", consulAway, consulDead, consulRefuses, localFault)
}
func (w *world) Install(context.Context, states.Identity, states.Epoch) error {
	return w.outcome("Install", consulAway, localFault, gossipRefuses)
}
func (w *world) Prove(context.Context) (uint64, error) {
	return 1, w.outcome("Prove", consulAway, consulDead, gossipRefuses)
}
func (w *world) Register(context.Context, error) error {
	return w.outcome("Register", consulAway, consulDead)
}
func (w *world) ReadBack(context.Context) (uint64, bool, error) {
	if err := w.outcome("ReadBack", consulAway); err != nil {
		return 0, false, err
	}
	return 1, w.choose(2) == 0, nil
}
func (w *world) Scrape(context.Context) error {
	return w.outcome("Scrape", exporterDown)
}
