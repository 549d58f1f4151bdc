// Package states owns what the seven states are and what evidence each needs:
// what the machine holds, how good each thing is at a given moment, and the one
// pure function, Rung, that decides where the machine belongs.
//
// It must import nothing but the standard library and internal/secret: it knows
// no client, no table, no machine, and reads no clock. `now` is an argument.
package states

import "fmt"

// State is where the machine is. Its text is the word in the log, the metric
// label, the dump and the looplab table, so nothing can be renumbered.
type State string

// The seven states, lowest first. Degraded and Renewing stand on the same rung
// as Serving: they are Serving with something wrong, or with something to do.
const (
	// NoIdentity: no live Vault token and no JWT of our own.
	NoIdentity State = "NoIdentity"
	// HasJWT: our own unexpired JWT, no live Vault token.
	HasJWT State = "HasJWT"
	// VaultAuthed: a live Vault token; Consul's credentials missing or not yet proven.
	VaultAuthed State = "VaultAuthed"
	// ConsulReady: the embedded agent runs with this epoch's credentials and a server answered under our token.
	ConsulReady State = "ConsulReady"
	// Serving: the registration was read back from a server and the exporter answers.
	Serving State = "Serving"
	// Renewing: as Serving, and something is due.
	Renewing State = "Renewing"
	// Degraded: the credentials are good, but something is out of sight, down or overdue.
	Degraded State = "Degraded"
)

// all is the one ordered table of the states; everything else is derived from it.
var all = [...]State{NoIdentity, HasJWT, VaultAuthed, ConsulReady, Serving, Renewing, Degraded}

// All returns the states, lowest rung first. The caller owns the slice.
func All() []State { return append([]State(nil), all[:]...) }

// Parse returns the state of that name.
func Parse(name string) (State, error) {
	for _, state := range all {
		if string(state) == name {
			return state, nil
		}
	}
	return "", fmt.Errorf("parse state %q: want one of %v", name, all)
}

// Height is the rung a state stands on, from 0. Serving, Renewing and Degraded
// share the highest; an unknown state has -1.
func (s State) Height() int {
	for i, state := range all {
		if state == s {
			return min(i, 4)
		}
	}
	return -1
}
