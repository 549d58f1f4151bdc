package transitions

import (
	"time"

	"pawl/internal/secret"
	"pawl/states"
)

// grades of a life, as the search sees it. Never had and refused are one grade
// here, as they are to the tables; what expired by our clock may still be asked for.
const (
	lifeDead    = iota
	lifeLive    // live, not due
	lifeDue     // live, RenewAt passed
	lifeOverdue // live, due, and a renewal failed
	lifeExpired
)

// whose credentials are installed, or were sighted.
const (
	ofNothing = iota
	ofCurrent
	ofOther
)

// kinds of Next.
const (
	nextNone = iota
	nextCertificate
	nextEpoch
)

// configuration is Held as the search sees it: comparable, finite. What only
// decides whether a probe is due is left out: probes are tried everywhere.
type configuration struct {
	state states.State

	jwt      int8
	jwtFresh bool // fetched since ReattestAt

	vault, certificate, consul int8
	gossip, verified           bool
	reattest                   int8 // lifeLive, lifeDue, lifeOverdue

	next                                 int8
	nextCertificateLife, nextConsul      int8
	nextGossip, nextVerified, nextExpiry bool

	installed, agentOf            int8
	agent, registration, exporter states.Evidence
	vaultUnseen                   bool
}

var (
	searchNow   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	searchProbe = 30 * time.Second
	past        = searchNow.Add(-time.Minute)
	future      = searchNow.Add(time.Hour)
	searchToken = secret.New("token")
)

func clock() time.Time { return searchNow }

func concreteLife(id string, grade int8) states.Life {
	life := states.Life{ID: id, Received: searchNow.Add(-time.Hour), Expires: future, RenewAt: future.Add(-time.Minute)}
	switch grade {
	case lifeDead:
		life.Refused = true
	case lifeExpired:
		life.Expires = past
	case lifeDue:
		life.RenewAt = past
	case lifeOverdue:
		life.RenewAt, life.Failed = past, true
	}
	return life
}

func abstractLife(life states.Life) int8 {
	switch {
	case life.Held() && !life.Refused && !life.Live(searchNow):
		return lifeExpired
	case !life.Live(searchNow):
		return lifeDead
	case life.Overdue(searchNow):
		return lifeOverdue
	case life.Due(searchNow):
		return lifeDue
	default:
		return lifeLive
	}
}

func concreteSighting(grade states.Evidence, of string, seen time.Time) states.Sighting {
	return states.Sighting{Evidence: grade, Of: of, Seen: seen, Since: past, Cause: "searched"}
}

// held makes the concrete thing of a configuration, its sightings of the age given.
func (c configuration) held(age time.Duration) states.Held {
	seen := searchNow.Add(-age)
	var h states.Held
	h.Identity = states.Identity{Node: "vm-1", NodeID: "id-1"}
	h.JWT = states.JWT{Life: concreteLife("jwt", c.jwt)}
	if c.jwtFresh {
		h.JWT.Received = searchNow
	}
	h.Current = states.Epoch{Number: 1, Verified: c.verified}
	h.Current.Vault = states.VaultToken{Life: concreteLife("vault-1", c.vault), Token: searchToken, ReattestAt: future}
	if c.reattest != lifeLive {
		h.Current.Vault.ReattestAt = past
		h.Current.Vault.ReattestFailed = c.reattest == lifeOverdue
	}
	h.Current.Certificate.Life = concreteLife("serial-1", c.certificate)
	h.Current.Consul = states.ConsulToken{Life: concreteLife("consul-1", c.consul), Token: searchToken}
	h.Current.Gossip = states.GossipKey{Life: states.Life{ID: "v1", Refused: !c.gossip}, Key: searchToken}
	if c.next != nextNone {
		h.Next = h.Current
		h.Next.Verified = c.nextVerified
		h.Next.Certificate.Life = concreteLife("serial-2", c.nextCertificateLife)
		if c.next == nextEpoch {
			h.Next.Number = 2
			h.Next.Vault = states.VaultToken{Life: concreteLife("vault-2", lifeLive), Token: searchToken, ReattestAt: future}
			if c.nextExpiry {
				h.Next.Vault.Expires = past
			}
			h.Next.Consul = states.ConsulToken{Life: concreteLife("consul-2", c.nextConsul), Token: searchToken}
			h.Next.Gossip = states.GossipKey{}
			if c.nextGossip {
				h.Next.Gossip = states.GossipKey{Life: states.Life{ID: "v1"}, Key: searchToken}
			}
		}
	}
	credentials := [...]states.Installed{ofNothing: {}, ofCurrent: h.Current.Credentials(), ofOther: {Accessor: "consul-0", Serial: "serial-0"}}
	h.Installed = credentials[c.installed]
	h.Agent = concreteSighting(c.agent, credentials[c.agentOf].Accessor, seen)
	h.Registration = concreteSighting(c.registration, "", seen)
	h.Exporter = concreteSighting(c.exporter, "", seen)
	h.Vault = concreteSighting(states.Good, "", seen)
	if c.vaultUnseen {
		h.Vault.Evidence = states.Unseen
	}
	if age > searchProbe { // where probes are tried, so are revocation and what follows a jump of the clock
		h.Vault.Seen = time.Time{}
		h.Former = []states.VaultToken{{Life: concreteLife("vault-0", lifeLive), Token: searchToken}}
	}
	return h
}

// abstract is the way back.
func abstract(state states.State, h states.Held) configuration {
	c := configuration{
		state: state,
		jwt:   abstractLife(h.JWT.Life), vault: abstractLife(h.Current.Vault.Life),
		certificate: abstractLife(h.Current.Certificate.Life), consul: abstractLife(h.Current.Consul.Life),
		gossip: h.Current.Gossip.Live(searchNow), verified: h.Current.Verified, reattest: lifeLive,
		agent: h.Agent.Evidence, registration: h.Registration.Evidence, exporter: h.Exporter.Evidence,
		vaultUnseen: h.Vault.Evidence == states.Unseen,
	}
	if h.Reattest(searchNow) {
		c.reattest = lifeDue
		if h.Current.Vault.ReattestFailed {
			c.reattest = lifeOverdue
		}
	}
	c.jwtFresh = c.reattest != lifeLive && h.JWT.Live(searchNow) && !h.JWT.Received.Before(h.Current.Vault.ReattestAt)
	if h.Next.Number > 0 {
		c.next = nextEpoch
		if h.Next.Vault.ID == h.Current.Vault.ID {
			c.next = nextCertificate
		}
		c.nextCertificateLife, c.nextVerified = abstractLife(h.Next.Certificate.Life), h.Next.Verified
		if c.next == nextEpoch {
			c.nextConsul, c.nextGossip = abstractLife(h.Next.Consul.Life), h.Next.Gossip.Held()
			c.nextExpiry = !h.Next.Vault.Live(searchNow)
		}
	}
	of := func(installed bool, nothing bool) int8 {
		switch {
		case nothing:
			return ofNothing
		case installed:
			return ofCurrent
		default:
			return ofOther
		}
	}
	c.installed = of(h.Installed == h.Current.Credentials(), h.Installed == states.Installed{})
	c.agentOf = of(h.Agent.Of == h.Current.Consul.ID, h.Agent.Of == "" || h.Agent.Evidence == states.Dead)
	return c
}

// folded forgets what can no longer matter, so that configurations that behave
// alike are one. Each line says why what it forgets is read by nobody.
func (c configuration) folded() configuration {
	alive := func(grade int8) bool { return grade == lifeLive || grade == lifeDue || grade == lifeOverdue }
	expired := func(grade *int8) {
		if *grade == lifeExpired {
			*grade = lifeDead // of these only Consul's token is still asked for
		}
	}
	expired(&c.jwt)
	expired(&c.vault)
	expired(&c.certificate)
	expired(&c.nextCertificateLife)
	expired(&c.nextConsul)
	if c.vault == lifeDead {
		// The next login replaces the epoch whole: of its credentials only whether
		// the agent may run with them until then still counts.
		c.reattest, c.jwtFresh, c.certificate = lifeLive, false, lifeDead
		if c.consul != lifeDead {
			c.consul = lifeExpired
		}
		if !c.gossip || !c.verified || c.consul == lifeDead {
			c.gossip, c.verified = false, false // never to be installed where nothing runs
			if c.installed != ofCurrent {
				c.consul = lifeDead // nor asked for
			}
		}
		if c.consul == lifeDead {
			if c.installed == ofCurrent {
				c.installed = ofOther
			}
			if c.agentOf == ofCurrent {
				c.agentOf = ofOther
			}
		}
	}
	if !c.gossip || c.consul == lifeDead {
		c.verified = false // what is fetched for it must be verified anew
	}
	if !alive(c.nextCertificateLife) || c.next == nextEpoch && !(alive(c.nextConsul) && c.nextGossip) {
		c.nextVerified = false // the same
	}
	return c
}
