package transitions

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pawl/states"
)

// The laws, each in one place: the search checks them after every step, and the
// mutations say what each of them is worth.

var errLaw = errors.New("law broken")

func broken(law, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", errLaw, law, fmt.Sprintf(format, args...))
}

// laws are the laws of moving that can be switched off, to see what each is
// worth, and the way in which the next arrow is found.
type laws struct {
	ratchet, ladder, landing bool
	next                     func(table []Arrow, from states.State, held states.Held, now time.Time) (Arrow, bool, error)
}

// allLaws is what binds.
var allLaws = laws{ratchet: true, ladder: true, landing: true, next: Next}

// walk moves from a state to where the evidence leads, by the arrows of the
// table, and checks the laws of moving on the way. It returns where it rests and
// tells fired of each arrow taken.
func (l laws) walk(table []Arrow, from states.State, held states.Held, what fmt.Stringer, fired func(Arrow)) (states.State, error) {
	facts := abstract("", held)
	target := states.Rung(held, searchNow)
	visited := map[states.State]bool{from: true}
	state := from
	for moves := 0; ; moves++ {
		arrow, any, err := l.next(table, state, held, searchNow)
		switch {
		case err != nil:
			return "", broken("a wanted event has an arrow", "%s, %s: %v", from, what, err)
		case moves > 2*len(states.All()):
			return "", broken("every move ends", "%s, %s: still at %s", from, what, state)
		case !any && state != target:
			return "", broken("rests on Rung", "%s, %s: rests in %s, belongs in %s", from, what, state, target)
		case !any:
			return state, nil
		}
		climb := arrow.To.Height() - arrow.From.Height()
		switch {
		case l.ratchet && visited[arrow.To]:
			return "", broken("ratchet", "%s, %s: %s back to %s", from, what, arrow.Event, arrow.To)
		case l.ladder && climb > 1 && arrow.Event != Restored:
			return "", broken("ladder", "%s climbs %d rungs", arrow.Event, climb)
		case l.ladder && climb > 0 && arrow.To.Height() > target.Height():
			return "", broken("ladder", "%s, %s: %s climbs past %s", from, what, arrow.Event, target)
		case l.ladder && climb < 0 && arrow.To != target:
			return "", broken("ladder", "%s, %s: %s falls to %s and not at once to %s", from, what, arrow.Event, arrow.To, target)
		case l.landing && !facts.meant(arrow.To):
			return "", broken("landing", "%s, %s: %s lands in %s without its evidence", from, what, arrow.Event, arrow.To)
		}
		visited[arrow.To] = true
		fired(arrow)
		state = arrow.To
	}
}

// meant is what each state means (design.md 2), written out once more from the
// facts of a configuration: apart from states.Rung and states.Holds, which it
// checks, and from the arrow table, of which it knows nothing.
func (c configuration) meant(state states.State) bool {
	alive := func(grade int8) bool { return grade == lifeLive || grade == lifeDue || grade == lifeOverdue }
	consul := alive(c.vault) && c.gossip && alive(c.certificate) && alive(c.consul) &&
		c.installed == ofCurrent && c.agentOf == ofCurrent && c.agent != states.Dead
	overdue, due := c.reattest == lifeOverdue, c.reattest != lifeLive
	for _, grade := range []int8{c.vault, c.certificate, c.consul} {
		overdue, due = overdue || grade == lifeOverdue, due || grade == lifeDue || grade == lifeOverdue
	}
	serving := consul && !overdue && !c.vaultUnseen &&
		c.agent == states.Good && c.registration == states.Good && c.exporter == states.Good
	switch state {
	case states.NoIdentity:
		return !alive(c.vault) && !alive(c.jwt)
	case states.HasJWT:
		return !alive(c.vault) && alive(c.jwt)
	case states.VaultAuthed:
		return alive(c.vault)
	case states.ConsulReady:
		return consul
	case states.Serving:
		return serving
	case states.Renewing:
		return serving && due
	case states.Degraded: // something is wrong; also the doorway of every fall from the top
		return !serving
	}
	return false
}

// kept is law 2 and 3: no attempt drops what is unexpired and unrefused, but for
// an epoch's swap, whose old token must then wait to be revoked.
func kept(before, after states.Held, action Action) error {
	if before.Installed != (states.Installed{}) && after.Installed == (states.Installed{}) {
		return broken("what runs keeps running", "%s uninstalled the agent's credentials", action)
	}
	if action == Revoke && (before.Evidence(states.ThingAgent, searchNow) != states.Good || before.Evidence(states.ThingConsul, searchNow) != states.Good) {
		return broken("make before break", "revoked while the new epoch was not good")
	}
	if before.JWT.Live(searchNow) && after.JWT.ID != before.JWT.ID && action != FetchJWT {
		return broken("nothing good is dropped", "%s dropped a good JWT", action)
	}
	revoking := func(token states.VaultToken) bool {
		return slices.ContainsFunc(after.Former, func(former states.VaultToken) bool { return former.ID == token.ID })
	}
	if next := before.Next; next.Number > 0 && next.Vault.ID != before.Current.Vault.ID && next.Vault.Live(searchNow) &&
		after.Next.Vault.ID != next.Vault.ID && after.Current.Vault.ID != next.Vault.ID && !revoking(next.Vault) {
		return broken("make before break", "%s forgot the next epoch's Vault token without revoking it", action)
	}
	if !before.Current.Vault.Live(searchNow) {
		return nil // a new epoch begins where none is alive
	}
	swapped := before.Next.Number > 0 && after.Current.Credentials() == before.Next.Credentials() &&
		after.Current.Vault.ID == before.Next.Vault.ID && after.Installed == after.Current.Credentials()
	for _, credential := range []struct {
		name          string
		before, after states.Life
	}{
		{"Vault token", before.Current.Vault.Life, after.Current.Vault.Life},
		{"Consul token", before.Current.Consul.Life, after.Current.Consul.Life},
		{"certificate", before.Current.Certificate.Life, after.Current.Certificate.Life},
		{"gossip key", before.Current.Gossip.Life, after.Current.Gossip.Life},
	} {
		if credential.before.Live(searchNow) && credential.after.ID != credential.before.ID && !swapped {
			return broken("make before break", "%s replaced a live %s before its successor was installed", action, credential.name)
		}
	}
	if before.Current.Vault.ID != after.Current.Vault.ID && !revoking(before.Current.Vault) {
		return broken("make before break", "%s forgot a live Vault token without revoking it", action)
	}
	return nil
}
