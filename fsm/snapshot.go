package fsm

import (
	"time"

	"pawl/internal/failure"
	"pawl/states"
	"pawl/transitions"
)

// Snapshot is all that a reader may know of the machine: an immutable value
// without secrets. Its JSON is the dump.
type Snapshot struct {
	At    time.Time    `json:"at"`
	State states.State `json:"state"`
	Since time.Time    `json:"since"`
	// Ready is computed at At; readers ask ReadyAt, since read-backs grow stale.
	Ready bool `json:"ready"`
	Node  Node `json:"node"`
	// Epoch counts the logins of this process that took hold; Next says that another is being built.
	Epoch  int  `json:"epoch"`
	Next   bool `json:"next_epoch_under_way"`
	Former int  `json:"former_tokens_to_revoke"`
	// Clock is this machine's wall clock against the far ends'.
	Clock ClockReport `json:"clock"`
	// Budget is how long what is held carries on by itself in an outage.
	Budget   Budget          `json:"outage_budget"`
	Evidence []Evidence      `json:"evidence"`
	Reasons  []states.Reason `json:"reasons"`
	Actions  []Attempts      `json:"actions"`
	InFlight *InFlight       `json:"in_flight,omitempty"`
	// Moves are the last ones, oldest first.
	Moves []Move `json:"moves"`
	// MovesTotal counts every move since the process began.
	MovesTotal int `json:"moves_total"`

	held  states.Held
	probe time.Duration
}

// ClockReport is how far the wall clock is ahead (negative: behind), and since
// when that is too far.
type ClockReport struct {
	Ahead      float64    `json:"ahead_seconds"`
	WrongSince *time.Time `json:"wrong_since,omitempty"`
}

// Budget is how long, from the snapshot's moment, the agent survives with Vault
// gone and with Consul gone, in seconds.
type Budget struct {
	Vault  float64 `json:"vault_gone_seconds"`
	Consul float64 `json:"consul_gone_seconds"`
}

// Node is who this VM is in Consul, empty until a JWT said so.
type Node struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Evidence is one thing of the ladder.
type Evidence struct {
	Thing   states.Thing    `json:"thing"`
	Grade   states.Evidence `json:"grade"`
	ID      string          `json:"id,omitempty"`
	Expires *time.Time      `json:"expires,omitempty"`
	RenewAt *time.Time      `json:"renew_at,omitempty"`
	// Seen is when the far end last answered, Index its index of that answer, Under the accessor asked with.
	Seen  *time.Time `json:"seen,omitempty"`
	Index uint64     `json:"index,omitempty"`
	Under string     `json:"under,omitempty"`
	Cause string     `json:"cause,omitempty"`
}

// Attempts is what became of one action.
type Attempts struct {
	Action transitions.Action `json:"action"`
	// Total and Failed count since the process began; Running counts failures since the counters were cleared.
	Total   int `json:"attempts_total"`
	Failed  int `json:"failed_total"`
	Running int `json:"failed_in_a_row_uncleared"`
	// The last failure, kept until the counters are cleared.
	LastClass failure.Class `json:"last_class,omitempty"`
	LastError string        `json:"last_error,omitempty"`
	Fix       string        `json:"fix,omitempty"`
	LastAt    *time.Time    `json:"last_failed_at,omitempty"`
	// Backoff is the wait chosen after it, in seconds; NextAttempt when it ends.
	Backoff     float64    `json:"backoff_seconds,omitempty"`
	NextAttempt *time.Time `json:"next_attempt,omitempty"`
	// Standing says that the last attempt failed: nothing has succeeded since.
	Standing bool `json:"standing"`
	// Took is how long the last attempt that succeeded took, in seconds.
	Took float64 `json:"last_success_took_seconds,omitempty"`
	// told is the last fix that was logged.
	told string
}

// InFlight is the attempt under way.
type InFlight struct {
	Action transitions.Action `json:"action"`
	Since  time.Time          `json:"since"`
}

// ReadyAt reports whether the node can be relied on at now, by a snapshot that
// may be older: a loop that stopped turning does not stay ready (faults.md F14).
func (s *Snapshot) ReadyAt(now time.Time) bool { return s.held.Ready(now, s.probe) }

// Standing returns the failures that stand: actions whose last attempt failed.
func (s *Snapshot) Standing() []Attempts {
	var standing []Attempts
	for _, action := range s.Actions {
		if action.Standing {
			standing = append(standing, action)
		}
	}
	return standing
}

// evidence renders what is held, without any secret.
func evidence(h states.Held, now time.Time) []Evidence {
	things := [...]struct {
		name     states.Thing
		life     states.Life
		sighting states.Sighting
	}{
		{states.ThingJWT, h.JWT.Life, states.Sighting{}},
		{states.ThingVault, h.Current.Vault.Life, h.Vault},
		{states.ThingGossip, h.Current.Gossip.Life, states.Sighting{}},
		{states.ThingCertificate, h.Current.Certificate.Life, states.Sighting{}},
		{states.ThingConsul, h.Current.Consul.Life, states.Sighting{}},
		{states.ThingAgent, states.Life{}, h.Agent},
		{states.ThingRegistration, states.Life{}, h.Registration},
		{states.ThingExporter, states.Life{}, h.Exporter},
	}
	rows := make([]Evidence, 0, len(things))
	for _, thing := range things {
		life, sighting := thing.life, thing.sighting
		rows = append(rows, Evidence{
			Thing: thing.name, Grade: h.Evidence(thing.name, now),
			ID: life.ID, Expires: moment(life.Expires), RenewAt: moment(life.RenewAt),
			Seen: moment(sighting.Seen), Index: sighting.Index, Under: sighting.Of, Cause: sighting.Cause,
		})
	}
	return rows
}

// moment is a time for the dump: nil when there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Round(0)
	return &t
}
