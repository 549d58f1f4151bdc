package states

import (
	"fmt"
	"time"
)

// Reason is one named thing that is wrong, or still missing, with a since.
type Reason struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	// Detail says what happened in one line, without secrets.
	Detail string `json:"detail,omitempty"`
	// Under names the reason that causes this one: an echo, muted in logs and in short reports (law 6).
	Under string `json:"under,omitempty"`
}

// reasonRow is one row of the reason table: when it stands, since when, under what.
type reasonRow struct {
	name   string
	under  []string
	stands func(h Held, now time.Time) (bool, time.Time, string)
}

// reasons is ordered from cause to effect: a reason can only be muted by one above it.
var reasons = []reasonRow{
	{"clock_wrong", nil, func(h Held, _ time.Time) (bool, time.Time, string) {
		word, by := "ahead", h.Clock.Ahead
		if by < 0 {
			word, by = "behind", -by
		}
		return !h.Clock.WrongSince.IsZero(), h.Clock.WrongSince, fmt.Sprintf("this machine's clock is %s %s", by.Round(time.Second), word)
	}},
	{"metadata_unreachable", nil, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Metadata.Evidence == Unseen, h.Metadata.Since, h.Metadata.Cause
	}},
	{"vault_unreachable", nil, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Vault.Evidence == Unseen, h.Vault.Since, h.Vault.Cause
	}},
	{"no_identity", []string{"metadata_unreachable", "vault_unreachable"}, func(h Held, now time.Time) (bool, time.Time, string) {
		return h.Evidence(ThingVault, now) == Dead && h.Evidence(ThingJWT, now) == Dead, h.JWT.ended(now), h.JWT.ending(now, "jwt")
	}},
	{"vault_token_dead", []string{"vault_unreachable", "no_identity"}, func(h Held, now time.Time) (bool, time.Time, string) {
		return h.Evidence(ThingVault, now) == Dead, h.Current.Vault.ended(now), h.Current.Vault.ending(now, "vault token")
	}},
	{"agent_down", []string{"clock_wrong"}, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Agent.Evidence == Dead && h.Agent.Cause != "", h.Agent.Since, h.Agent.Cause
	}},
	{"consul_unreachable", []string{"clock_wrong"}, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Agent.Evidence == Unseen, h.Agent.Since, h.Agent.Cause
	}},
	{"credentials_dead", []string{"vault_token_dead", "vault_unreachable"}, func(h Held, now time.Time) (bool, time.Time, string) {
		for _, life := range []struct {
			name  string
			life  Life
			thing Thing
		}{
			{"consul token", h.Current.Consul.Life, ThingConsul},
			{"certificate", h.Current.Certificate.Life, ThingCertificate},
			{"gossip key", h.Current.Gossip.Life, ThingGossip},
		} {
			if h.Evidence(life.thing, now) == Dead {
				return true, life.life.ended(now), life.life.ending(now, life.name)
			}
		}
		return false, time.Time{}, ""
	}},
	{"not_installed", []string{"credentials_dead", "vault_token_dead", "agent_down", "consul_unreachable", "clock_wrong"}, func(h Held, now time.Time) (bool, time.Time, string) {
		return h.Evidence(ThingAgent, now) == Dead, h.Agent.Since, "the agent does not yet run with these credentials"
	}},
	{"exporter_down", nil, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Exporter.Evidence == Unseen, h.Exporter.Since, h.Exporter.Cause
	}},
	{"registration_unseen", []string{"consul_unreachable", "agent_down"}, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Registration.Evidence == Unseen, h.Registration.Since, h.Registration.Cause
	}},
	{"not_registered", []string{"not_installed", "credentials_dead", "vault_token_dead", "consul_unreachable", "agent_down"}, func(h Held, _ time.Time) (bool, time.Time, string) {
		return h.Registration.Evidence == Dead, h.Registration.Since, h.Registration.Cause
	}},
	{"renewal_overdue", []string{"vault_unreachable", "consul_unreachable"}, func(h Held, now time.Time) (bool, time.Time, string) {
		for _, due := range h.Renewals(now) {
			if due.Overdue {
				return true, due.Since, due.What + " could not be renewed"
			}
		}
		return false, time.Time{}, ""
	}},
}

// ReasonNames lists every reason there can be, in the order of the table.
func ReasonNames() []string {
	names := make([]string, 0, len(reasons))
	for _, row := range reasons {
		names = append(names, row.name)
	}
	return names
}

// Reasons returns what is wrong or still missing, causes before effects. It is
// pure; the caller owns the slice.
func Reasons(h Held, now time.Time) []Reason {
	var found []Reason
	standing := map[string]bool{}
	for _, row := range reasons {
		stands, since, detail := row.stands(h, now)
		if !stands {
			continue
		}
		standing[row.name] = true
		reason := Reason{Name: row.name, Since: since, Detail: detail}
		for _, root := range row.under {
			if standing[root] {
				reason.Under = root
				break
			}
		}
		found = append(found, reason)
	}
	return found
}

// Roots returns the reasons that no other one explains.
func Roots(all []Reason) []Reason {
	var roots []Reason
	for _, reason := range all {
		if reason.Under == "" {
			roots = append(roots, reason)
		}
	}
	return roots
}

// Budget returns how long, from now, what is held carries on by itself: while
// Vault does not answer, until the first credential that only Vault can renew ends;
// while Consul does not answer, until an epoch or a certificate ends that no server
// could be shown a successor of. Zero where nothing is held, or something was refused.
func (h Held) Budget(now time.Time) (vaultGone, consulGone time.Duration) {
	current := h.Current
	if !current.Complete() || current.Vault.Refused || current.Consul.Refused || current.Certificate.Refused {
		return 0, 0
	}
	last := []time.Time{current.Vault.Ends, current.Certificate.Expires}
	if current.Vault.Ends.IsZero() {
		last = append(last, current.Vault.Expires)
	}
	if current.Consul.RenewAt.IsZero() {
		last = append(last, current.Consul.Expires) // its lease has met its maximum
	}
	return least(now, current.Vault.Expires, current.Consul.Expires, current.Certificate.Expires), least(now, last...)
}

// least is the time from now to the first of the moments, of which a zero one never
// comes. Which is the first depends on the clock, where a machine slept.
func least(now time.Time, moments ...time.Time) time.Duration {
	first, found := time.Duration(0), false
	for _, moment := range moments {
		if moment.IsZero() {
			continue
		}
		if left := Remaining(moment, now); !found || left < first {
			first, found = left, true
		}
	}
	return first
}

// ended is when the credential stopped being good, as far as is known.
func (l Life) ended(now time.Time) time.Time {
	if Passed(l.Expires, now) {
		return l.Expires
	}
	return time.Time{}
}

func (l Life) ending(now time.Time, name string) string {
	switch {
	case !l.Held():
		return "no " + name + " yet"
	case l.Refused:
		return name + " was refused"
	case Passed(l.Expires, now):
		return name + " expired"
	default:
		return ""
	}
}

// Ready reports whether this node can be relied on now: its registration was
// read back within two probes, its exporter answers, and a server answered under
// its token. It is a field of its own, not a state's name (law 4).
func (h Held) Ready(now time.Time, probe time.Duration) bool {
	return h.Evidence(ThingAgent, now) == Good &&
		h.Evidence(ThingExporter, now) == Good &&
		h.Evidence(ThingRegistration, now) == Good &&
		!Passed(h.Registration.Seen.Add(2*probe), now)
}
