package transitions

import (
	"context"
	"time"

	"pawl/internal/secret"
	"pawl/states"
)

// The ports are what the actions need of the world, one small interface a far
// end. Every method is one attempt: it never sleeps, never retries, honours its
// context, and returns a *failure.Error whose class was decided from the far
// end's own answer. All are called from the one worker goroutine, except that
// Vault's ReadGossipKey and SignCertificate are called side by side.

// Metadata is the VM's metadata service.
type Metadata interface {
	// FetchJWT returns a fresh JWT and the identity in its claims.
	FetchJWT(ctx context.Context) (JWTGrant, error)
}

// JWTGrant is a fetched JWT, its claims read and not verified: Vault verifies.
type JWTGrant struct {
	Text     secret.Secret
	ID       string // jti
	TTL      time.Duration
	Identity states.Identity
	// Date is the service's clock as it answered, to measure our skew by; zero when it did not say.
	Date time.Time
}

// Vault is the one Vault of the site.
type Vault interface {
	// Healthy asks, without any token and at next to no cost to Vault, whether it
	// serves: nil from an active node and from a standby that passes requests on.
	Healthy(ctx context.Context) error
	Login(ctx context.Context, jwt secret.Secret) (VaultGrant, error)
	ReadGossipKey(ctx context.Context, token secret.Secret) (GossipGrant, error)
	// SignCertificate makes a key and a CSR here and has the CSR signed for node.
	SignCertificate(ctx context.Context, token secret.Secret, node string) (CertificateGrant, error)
	IssueConsulToken(ctx context.Context, token secret.Secret) (ConsulGrant, error)
	// RenewToken renews the token itself and returns its new TTL.
	RenewToken(ctx context.Context, token secret.Secret) (time.Duration, error)
	RenewLease(ctx context.Context, token secret.Secret, lease string) (time.Duration, error)
	// LookupToken returns nil while the token lives, AuthDead when Vault refuses it.
	LookupToken(ctx context.Context, token secret.Secret) error
	// RevokeToken revokes the token and what was leased under it; a token that is gone already is no error.
	RevokeToken(ctx context.Context, token secret.Secret) error
}

// VaultGrant is a login's answer. MaxTTL is zero when the token has none.
type VaultGrant struct {
	Token       secret.Secret
	Accessor    string
	TTL, MaxTTL time.Duration
}

// GossipGrant is the gossip key, already checked for length (faults.md F39).
type GossipGrant struct {
	Key secret.Secret
	ID  string // the KV version
	// Previous is the version before, empty where there is none or it cannot be had.
	Previous secret.Secret
}

// CertificateGrant is a signed certificate with the key made here.
type CertificateGrant struct {
	Chain  string
	Key    secret.Secret
	Serial string
	TTL    time.Duration
}

// ConsulGrant is a Consul token. MaxTTL is zero when the lease has none that we know.
type ConsulGrant struct {
	Token    secret.Secret
	Accessor string
	Lease    string
	TTL      time.Duration
}

// Consul is the embedded agent and, through it, the servers.
type Consul interface {
	// Verify presents the epoch's token and certificate to every server, on connections of its own.
	Verify(ctx context.Context, identity states.Identity, epoch states.Epoch) error
	// Install starts the agent with the epoch's credentials, or swaps them in memory into the running one.
	Install(ctx context.Context, identity states.Identity, epoch states.Epoch) error
	// Prove reads our own token at a server through the running agent and returns the answer's index.
	Prove(ctx context.Context) (index uint64, err error)
	// Register puts node and service into the catalogue, the check passing or critical as the exporter is.
	Register(ctx context.Context, exporter error) error
	// ReadBack reads the registration from a server, non-stale and with a known leader.
	ReadBack(ctx context.Context) (index uint64, found bool, err error)
}

// Exporter is the embedded node_exporter, asked as Consul's check would ask it.
type Exporter interface {
	// Scrape makes one GET of the metrics page; nil means that it answered 200.
	Scrape(ctx context.Context) error
}

// Ports are all of them.
type Ports struct {
	Metadata Metadata
	Vault    Vault
	Consul   Consul
	Exporter Exporter
}
