// Package transitions owns the two tables that are the whole behaviour of the
// agent: the arrow table (event, from, to, why) and the work table (what is
// missing or due -> which action), with the actions, one a file, and the ports
// they need of the world.
//
// It must import neither the libraries behind the ports nor the machine that
// runs the tables. An action is one attempt: it takes what is held and returns
// what is now held and an error. It never sleeps, retries, or names a state or
// an event.
package transitions

import (
	"fmt"
	"time"

	"pawl/states"
)

// Event is a past fact that moved the machine.
type Event string

// The events (design.md 2).
const (
	Identified   Event = "identified"
	Restored     Event = "restored"
	LoggedIn     Event = "logged_in"
	Joined       Event = "joined"
	Registered   Event = "registered"
	Due          Event = "due"
	Renewed      Event = "renewed"
	Broke        Event = "broke"
	Recovered    Event = "recovered"
	IdentityDead Event = "identity_dead"
	VaultDead    Event = "vault_dead"
	ConsulDead   Event = "consul_dead"
	Unregistered Event = "unregistered"
)

// Arrow is one legal move.
type Arrow struct {
	Event    Event
	From, To states.State
	Why      string
}

// arrows is the arrow table: whatever is not here cannot happen.
var arrows = []Arrow{
	{Identified, states.NoIdentity, states.HasJWT, "our own JWT is held"},
	{Restored, states.NoIdentity, states.VaultAuthed, "a live Vault token without a JWT: handed over, or granted as the JWT ran out"},
	{LoggedIn, states.HasJWT, states.VaultAuthed, "a new epoch begins"},
	{Joined, states.VaultAuthed, states.ConsulReady, "the agent runs with this epoch's credentials and a server answered under our token"},
	{Registered, states.ConsulReady, states.Serving, "the registration was read back from a server"},
	{Due, states.Serving, states.Renewing, "a credential's RenewAt has passed"},
	{Renewed, states.Renewing, states.Serving, "nothing is due any more"},
	{Broke, states.ConsulReady, states.Degraded, "something is out of sight, down or overdue"},
	{Broke, states.Serving, states.Degraded, "something is out of sight, down, overdue or dead"},
	{Broke, states.Renewing, states.Degraded, "something is out of sight, down, overdue or dead"},
	{Recovered, states.Degraded, states.Serving, "all is seen again"},
	{IdentityDead, states.HasJWT, states.NoIdentity, "the JWT expired or was refused"},
	{IdentityDead, states.VaultAuthed, states.NoIdentity, "no live Vault token and no good JWT"},
	{IdentityDead, states.ConsulReady, states.NoIdentity, "no live Vault token and no good JWT"},
	{IdentityDead, states.Degraded, states.NoIdentity, "no live Vault token and no good JWT"},
	{VaultDead, states.VaultAuthed, states.HasJWT, "the Vault token is dead, the JWT is good"},
	{VaultDead, states.ConsulReady, states.HasJWT, "the Vault token is dead, the JWT is good"},
	{VaultDead, states.Degraded, states.HasJWT, "the Vault token is dead, the JWT is good"},
	{ConsulDead, states.ConsulReady, states.VaultAuthed, "a credential was refused, expired or is of a former epoch, or the agent is dead"},
	{ConsulDead, states.Degraded, states.VaultAuthed, "a credential was refused, expired or is of a former epoch, or the agent is dead"},
	{Unregistered, states.Degraded, states.ConsulReady, "a server answered: not there"},
}

// Arrows returns the arrow table. The caller owns the slice.
func Arrows() []Arrow { return append([]Arrow(nil), arrows...) }

// Events returns the events in the order of the table, each once.
func Events() []Event {
	var events []Event
	seen := map[Event]bool{}
	for _, arrow := range arrows {
		if !seen[arrow.Event] {
			seen[arrow.Event] = true
			events = append(events, arrow.Event)
		}
	}
	return events
}

// Validate refuses a table that looplab would take without a word (design.md 4):
// unknown states, self-arrows, and two arrows for one event from one state.
func Validate(table []Arrow) error {
	type key struct {
		event Event
		from  states.State
	}
	seen := map[key]bool{}
	for row, arrow := range table {
		switch {
		case arrow.Event == "" || arrow.Why == "":
			return fmt.Errorf("validate arrow %d: event and why must be written", row)
		case arrow.From.Height() < 0 || arrow.To.Height() < 0:
			return fmt.Errorf("validate arrow %d (%s): unknown state %q or %q", row, arrow.Event, arrow.From, arrow.To)
		case arrow.From == arrow.To:
			return fmt.Errorf("validate arrow %d (%s): leads from %s to itself", row, arrow.Event, arrow.From)
		case seen[key{arrow.Event, arrow.From}]:
			return fmt.Errorf("validate arrow %d: a second %s from %s", row, arrow.Event, arrow.From)
		}
		seen[key{arrow.Event, arrow.From}] = true
	}
	return nil
}

// Next returns the arrow to take from a state, given what is held, and false
// when the machine already stands where it belongs. It takes the shortest way
// through the table on which every landing's evidence holds. An error means that
// the table has no such way: a bug that the search in this package rules out.
func Next(table []Arrow, from states.State, held states.Held, now time.Time) (Arrow, bool, error) {
	target := states.Rung(held, now)
	if from == target {
		return Arrow{}, false, nil
	}
	// Breadth first: first[s] is the first arrow of the shortest way to s.
	first := map[states.State]Arrow{}
	for queue := []states.State{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, arrow := range table {
			if _, known := first[arrow.To]; arrow.From != at || arrow.To == from || known || !states.Holds(arrow.To, held, now) {
				continue
			}
			first[arrow.To] = arrow
			if at != from {
				first[arrow.To] = first[at]
			}
			if arrow.To == target {
				return first[target], true, nil
			}
			queue = append(queue, arrow.To)
		}
	}
	return Arrow{}, false, fmt.Errorf("find a way from %s to %s: the arrow table has none on which every landing holds", from, target)
}
