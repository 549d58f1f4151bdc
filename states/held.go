package states

import (
	"fmt"
	"slices"
	"time"

	"pawl/internal/secret"
)

// Evidence is how good a thing is. Only Dead makes the machine fall (design 2).
type Evidence uint8

// The three grades. The zero value is Dead: what was never had is not there.
const (
	// Dead: never had, expired, refused, or answered "not there".
	Dead Evidence = iota
	// Unseen: had it, and its far end does not answer: neither good nor dead.
	Unseen
	// Good: seen at the far end, or unexpired and unrefused.
	Good
)

// String implements fmt.Stringer.
func (e Evidence) String() string {
	switch e {
	case Dead:
		return "dead"
	case Unseen:
		return "unseen"
	case Good:
		return "good"
	default:
		return "unknown"
	}
}

// MarshalText writes the word, for the dump.
func (e Evidence) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads the word back, for whoever reads a dump.
func (e *Evidence) UnmarshalText(text []byte) error {
	for _, grade := range []Evidence{Dead, Unseen, Good} {
		if grade.String() == string(text) {
			*e = grade
			return nil
		}
	}
	return fmt.Errorf("parse evidence %q: want dead, unseen or good", text)
}

// Sighting is what we know of a thing that lives at a far end.
type Sighting struct {
	Evidence Evidence
	// Of is the accessor it was seen under: a sighting under another token proves nothing.
	Of string
	// Seen is when it was last good; Since is when the present grade began.
	Seen, Since time.Time
	// Index is the far end's own index of the answer (Consul's raft index).
	Index uint64
	// Cause says in one line, without secrets, why it is not good.
	Cause string
}

// SeenGood returns the sighting after a good answer at now.
func (s Sighting) SeenGood(now time.Time, of string, index uint64) Sighting {
	since := s.Since
	if s.Evidence != Good || s.Of != of {
		since = now
	}
	return Sighting{Evidence: Good, Of: of, Seen: now, Since: since, Index: index}
}

// Lost returns the sighting after the far end did not answer. What was dead
// stays dead: one cannot lose sight of what was never there.
func (s Sighting) Lost(now time.Time, cause string) Sighting {
	if s.Evidence == Dead {
		s.Cause = cause
		return s
	}
	if s.Evidence != Unseen {
		s.Since = now
	}
	s.Evidence, s.Cause = Unseen, cause
	return s
}

// Down returns the sighting of something that was asked and did not answer, had
// it been good before or not.
func (s Sighting) Down(now time.Time, cause string) Sighting {
	if s.Evidence != Unseen {
		s.Since = now
	}
	s.Evidence, s.Cause = Unseen, cause
	return s
}

// Gone returns the sighting after the far end answered "not there", or after
// the thing itself was found dead.
func (s Sighting) Gone(now time.Time, cause string) Sighting {
	if s.Evidence != Dead {
		s.Since = now
	}
	s.Evidence, s.Cause = Dead, cause
	return s
}

// Identity is who this VM is, as its JWT says. It is fixed while the process runs.
type Identity struct {
	// Node is the node's name in Consul, NodeID its id there: the VM's uuid in lower case.
	Node, NodeID string
	// Subject is the JWT's sub.
	Subject string
}

// JWT is the token of the metadata service.
type JWT struct {
	Life
	Text secret.Secret
}

// VaultToken is a login's token.
type VaultToken struct {
	Life
	Token secret.Secret
	// Ends is when it cannot be renewed any more; zero where that is not known.
	Ends time.Time
	// ReattestAt is when a new epoch is wanted, well before the max TTL ends; zero: never.
	ReattestAt time.Time
	// ReattestFailed says that an epoch was tried since ReattestAt and failed.
	ReattestFailed bool
}

// ConsulToken is what consul/creds gave.
type ConsulToken struct {
	Life
	Token secret.Secret
	// Lease is the lease's id at Vault: public, but no use to a reader of a dump.
	Lease string
}

// Certificate is our client certificate with its key, which never leaves the process.
type Certificate struct {
	Life
	// Chain is the leaf and its intermediates, PEM.
	Chain string
	Key   secret.Secret
}

// GossipKey is Serf's encryption key, with its KV version as ID.
type GossipKey struct {
	Life
	Key secret.Secret
	// Previous is the version before, empty where there is none: while a key is
	// being rotated, KV and cluster may differ by one (faults.md F13).
	Previous secret.Secret
}

// Epoch is a Vault token and what was leased under it (law 3). A value, copied freely.
type Epoch struct {
	// Number counts logins of this process from 1; 0 is no epoch at all.
	Number      int
	Vault       VaultToken
	Gossip      GossipKey
	Certificate Certificate
	Consul      ConsulToken
	// Verified says that every server accepted this token and this certificate.
	Verified bool
	// Broken says why this epoch cannot be completed; a broken Next is revoked and dropped.
	Broken string
}

// Complete reports whether every credential is held.
func (e Epoch) Complete() bool {
	return e.Gossip.Held() && e.Certificate.Held() && e.Consul.Held()
}

// Credentials names what an epoch installs: these, together, identify it.
func (e Epoch) Credentials() Installed {
	return Installed{Accessor: e.Consul.ID, Serial: e.Certificate.ID, Gossip: e.Gossip.ID}
}

// Installed names the credentials that the embedded agent runs with. The gossip
// key is the one it was given: a running agent follows the cluster's keyring by itself.
type Installed struct{ Accessor, Serial, Gossip string }

// Clock is what is known of this machine's wall clock.
type Clock struct {
	// Ahead is how far it is ahead of the far ends' (negative: behind), zero where unknown.
	Ahead time.Duration
	// WrongSince is when it was found to be wrong by more than ClockTolerance; zero: it is not.
	WrongSince time.Time
}

// ClockTolerance is how wrong the wall clock may be before it is a reason: Vault's
// and the PKI's own leeways begin at half a minute (faults.md F9).
const ClockTolerance = 30 * time.Second

// Measured returns the clock after a measurement at now.
func (c Clock) Measured(ahead time.Duration, now time.Time) Clock {
	switch wrong := ahead.Abs() > ClockTolerance; {
	case !wrong:
		return Clock{Ahead: ahead}
	case c.WrongSince.IsZero():
		return Clock{Ahead: ahead, WrongSince: now}
	default:
		return Clock{Ahead: ahead, WrongSince: c.WrongSince}
	}
}

// Held is everything the machine holds: a value, copied freely, published
// without a lock. Former is replaced, never written in place.
type Held struct {
	Identity Identity
	JWT      JWT
	// Current is the epoch the machine stands on; Next the candidate to replace it, if any.
	Current, Next Epoch
	// Former holds Vault tokens to revoke, oldest first.
	Former []VaultToken
	// Installed is what the embedded agent runs with: it may be of a former epoch (law 2).
	Installed Installed

	// Metadata and Vault say whether these far ends answer us; Dead means never asked.
	Metadata, Vault Sighting
	// Agent: the embedded agent runs, and a server answered under our token.
	Agent Sighting
	// Registration: read back from a server.
	Registration Sighting
	// Clock is how this machine's wall clock compares with the far ends'.
	Clock Clock
	// Exporter: our own GET of it answered; Dead means never asked, Unseen down.
	Exporter Sighting
}

// Settled returns held after what follows without any attempt. A live Next takes
// the place of a Current whose Vault token is dead, since standing on a live token
// is better than mourning the planned order; a Next whose own token died is put
// away, and what it was made for is overdue. Either token is to be revoked: dead by
// our clocks is not gone. Of what is to be revoked, that stays which has not ended
// by itself.
func (h Held) Settled(now time.Time) Held {
	if h.Next.Number > 0 {
		h = h.withoutDead(now)
	}
	// By both clocks: where the wall clock was set ahead, Vault's has not moved. Nor
	// is one that was refused gone for sure.
	expired := func(token VaultToken) bool {
		return !token.Expires.After(now) && !token.Expires.Round(0).After(now.Round(0))
	}
	if slices.ContainsFunc(h.Former, expired) {
		h.Former = slices.DeleteFunc(slices.Clone(h.Former), expired)
	}
	return h
}

// withoutDead settles a current and a next epoch.
func (h Held) withoutDead(now time.Time) Held {
	ownToken := h.Next.Vault.ID != h.Current.Vault.ID
	switch {
	case !ownToken && !(h.Current.Consul.Live(now) && h.Current.Gossip.Live(now)):
		h.Next = Epoch{} // a new certificate beside a credential that died: the epoch wants more than that
	case !h.Next.Vault.Live(now):
		if ownToken {
			h = h.Retired(h.Next.Vault)
		}
		h.Next = Epoch{}
		h.Current.Vault.ReattestFailed = h.Current.Vault.ReattestFailed || ownToken
	case ownToken && !h.Current.Vault.Live(now):
		h = h.Retired(h.Current.Vault)
		h.Current, h.Next = h.Next, Epoch{}
	}
	return h
}

// Retired returns held with a token among those to be revoked; an empty one is
// none. Former is a new slice then: a published Held is never written in place.
func (h Held) Retired(token VaultToken) Held {
	if !token.Token.Empty() {
		h.Former = append(slices.Clone(h.Former), token)
	}
	return h
}
