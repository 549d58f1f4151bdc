package states

import (
	"slices"
	"time"
)

// Thing names one piece of evidence, as the dump prints it.
type Thing string

// The things, in the order in which they are won.
const (
	ThingJWT          Thing = "jwt"
	ThingVault        Thing = "vault_token"
	ThingGossip       Thing = "gossip_key"
	ThingCertificate  Thing = "certificate"
	ThingConsul       Thing = "consul_token"
	ThingAgent        Thing = "agent"
	ThingRegistration Thing = "registration"
	ThingExporter     Thing = "exporter"
)

// Things lists every thing, in the order in which they are won.
func Things() []Thing {
	return []Thing{ThingJWT, ThingVault, ThingGossip, ThingCertificate, ThingConsul, ThingAgent, ThingRegistration, ThingExporter}
}

// Evidence grades one thing at now. It is pure and the only place that grades.
func (h Held) Evidence(thing Thing, now time.Time) Evidence {
	switch thing {
	case ThingJWT:
		return grade(h.JWT.Life, now)
	case ThingVault:
		if !h.Current.Vault.Live(now) {
			return Dead
		}
		if h.Vault.Evidence == Unseen {
			return Unseen
		}
		return Good
	case ThingGossip:
		return grade(h.Current.Gossip.Life, now)
	case ThingCertificate:
		return grade(h.Current.Certificate.Life, now)
	case ThingConsul:
		// A Consul token ends with its lease or with its Vault token (law 3).
		if !h.Current.Vault.Live(now) {
			return Dead
		}
		return grade(h.Current.Consul.Life, now)
	case ThingAgent:
		// A sighting under other credentials proves nothing about these.
		if h.Installed != h.Current.Credentials() || h.Agent.Of != h.Current.Consul.ID {
			return Dead
		}
		return h.Agent.Evidence
	case ThingRegistration:
		return h.Registration.Evidence
	case ThingExporter:
		return h.Exporter.Evidence
	default:
		return Dead
	}
}

func grade(life Life, now time.Time) Evidence {
	if life.Live(now) {
		return Good
	}
	return Dead
}

// Rung decides where the machine belongs, and is the only thing that does. It
// reads facts and returns a state; it touches nothing.
func Rung(h Held, now time.Time) State {
	is := func(thing Thing) Evidence { return h.Evidence(thing, now) }
	switch {
	case is(ThingVault) == Dead && is(ThingJWT) == Dead:
		return NoIdentity
	case is(ThingVault) == Dead:
		return HasJWT
	case !consulHeld(h, now):
		return VaultAuthed
	case troubled(h, now):
		return Degraded
	case is(ThingRegistration) == Dead, is(ThingExporter) == Dead:
		return ConsulReady
	case h.Due(now):
		return Renewing
	default:
		return Serving
	}
}

// consulHeld: no Consul credential is dead, and neither is the agent under them.
func consulHeld(h Held, now time.Time) bool {
	for _, thing := range []Thing{ThingVault, ThingGossip, ThingCertificate, ThingConsul, ThingAgent} {
		if h.Evidence(thing, now) == Dead {
			return false
		}
	}
	return true
}

// troubled: something is out of sight, the exporter is down, or a renewal is overdue.
func troubled(h Held, now time.Time) bool {
	return h.Evidence(ThingVault, now) == Unseen ||
		h.Evidence(ThingAgent, now) == Unseen ||
		h.Evidence(ThingRegistration, now) == Unseen ||
		h.Evidence(ThingExporter, now) == Unseen ||
		h.Overdue(now)
}

// Holds reports whether state's own evidence is there: the landing law. Serving
// tolerates what is merely due, since Renewing is Serving with something due and
// is reached through it.
func Holds(state State, h Held, now time.Time) bool {
	switch state {
	case NoIdentity:
		return h.Evidence(ThingVault, now) == Dead && h.Evidence(ThingJWT, now) == Dead
	case HasJWT:
		return h.Evidence(ThingJWT, now) != Dead && h.Evidence(ThingVault, now) == Dead
	case VaultAuthed:
		return h.Evidence(ThingVault, now) != Dead
	case ConsulReady:
		return consulHeld(h, now)
	case Serving:
		return consulHeld(h, now) && !troubled(h, now) &&
			h.Evidence(ThingRegistration, now) == Good && h.Evidence(ThingExporter, now) == Good
	case Renewing:
		return Holds(Serving, h, now) && h.Due(now)
	case Degraded:
		return !Holds(Serving, h, now)
	default:
		return false
	}
}

// Reattest reports whether a new epoch is wanted before the max TTL ends.
func (h Held) Reattest(now time.Time) bool {
	return h.Current.Vault.Live(now) && Passed(h.Current.Vault.ReattestAt, now)
}

// Renewal is one thing of the current epoch that wants a successor.
type Renewal struct {
	// What names it: epoch, vault_token, consul_token or certificate.
	What  string
	Since time.Time
	// Overdue: an attempt since then failed.
	Overdue bool
}

// Renewals returns what is due, the most far-reaching first. A lease or token
// that a new epoch will replace anyway is still due: if the epoch cannot be had,
// the renewal keeps us alive a little longer.
func (h Held) Renewals(now time.Time) []Renewal {
	var due []Renewal
	if h.Reattest(now) {
		due = append(due, Renewal{"epoch", h.Current.Vault.ReattestAt, h.Current.Vault.ReattestFailed})
	}
	for _, item := range []struct {
		what string
		life Life
	}{
		{string(ThingVault), h.Current.Vault.Life},
		{string(ThingConsul), h.Current.Consul.Life},
		{string(ThingCertificate), h.Current.Certificate.Life},
	} {
		if item.life.Due(now) {
			due = append(due, Renewal{item.what, item.life.RenewAt, item.life.Failed})
		}
	}
	return due
}

// Due reports whether anything of the current epoch wants a successor.
func (h Held) Due(now time.Time) bool { return len(h.Renewals(now)) > 0 }

// Overdue reports whether a renewal was tried since it was due, and failed.
func (h Held) Overdue(now time.Time) bool {
	return slices.ContainsFunc(h.Renewals(now), func(due Renewal) bool { return due.Overdue })
}

// Moments returns every moment at which the grade of something held can change
// by the mere passing of time. The machine wakes at the next of them.
func (h Held) Moments() []time.Time {
	moments := make([]time.Time, 0, 24)
	for _, life := range []Life{
		h.JWT.Life, h.Current.Vault.Life, h.Current.Gossip.Life, h.Current.Certificate.Life, h.Current.Consul.Life,
		h.Next.Vault.Life, h.Next.Certificate.Life, h.Next.Consul.Life,
	} {
		for _, moment := range []time.Time{life.RenewAt, life.Expires} {
			if !moment.IsZero() {
				moments = append(moments, moment)
			}
		}
	}
	if at := h.Current.Vault.ReattestAt; !at.IsZero() {
		moments = append(moments, at)
	}
	return moments
}
