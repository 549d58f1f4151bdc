package fsm

import (
	"fmt"
	"maps"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// promises is all that a story can say must keep working. Where time is
// measured, it is from the last happening of the story, unless said otherwise.
var promises = map[string]struct {
	// bound is what stands after the name: nothing, a duration or a number.
	bound   string
	inspect func(*stage, promise) error
}{
	// Consul's catalogue had the node whenever Consul had not forgotten it by itself.
	"registration_kept": {"", func(s *stage, _ promise) error { return never(s.lostRegistration, "the registration was lost") }},
	// The embedded agent ran with some credentials all the time.
	"agent_kept": {"", func(s *stage, _ promise) error { return never(s.lostAgent, "the agent's credentials were taken away") }},
	// And with the same ones: nothing was installed.
	"agent_untouched": {"", func(s *stage, _ promise) error {
		return atMost("installs", s.world.installs-s.before.installs, 0)
	}},
	// The agent's Consul token was valid all the time.
	"valid_token_always": {"", func(s *stage, _ promise) error { return never(s.invalid, "the agent's Consul token was dead") }},
	"valid_token_within": {"duration", func(s *stage, p promise) error { return soon("a valid Consul token", s.last, s.validAt, p.within) }},
	// Measured from Vault's first answer after the last happening (law 3).
	"valid_token_after_vault_answers": {"duration", func(s *stage, p promise) error {
		return soon("a valid Consul token", s.world.answered[failure.RemoteVault], s.validAt, p.within)
	}},
	// In Serving, ready, and there until the end.
	"back_within": {"duration", func(s *stage, p promise) error {
		if snapshot := s.Snapshot(); snapshot.State != states.Serving && snapshot.State != states.Renewing || !snapshot.ReadyAt(time.Now()) {
			return fmt.Errorf("at the end in %s, ready %t, because %v", snapshot.State, snapshot.ReadyAt(time.Now()), reasonNames(snapshot))
		}
		return soon("Serving and ready", s.last, s.backAt, p.within)
	}},
	// Measured from the first happening.
	"not_ready_within": {"duration", func(s *stage, p promise) error { return soon("not ready", s.first, s.notReadyAt, p.within) }},
	// Not one moment out of Serving and Renewing.
	"not_noticed":    {"", func(s *stage, _ promise) error { return never(!s.noticedAt.IsZero(), "it left Serving") }},
	"noticed_within": {"duration", func(s *stage, p promise) error { return soon("out of Serving", s.first, s.noticedAt, p.within) }},
	"ready_always":   {"", func(s *stage, _ promise) error { return never(!s.notReadyAt.IsZero(), "it was not ready") }},

	// Counted from the first happening to the end.
	"max_vault_calls":    {"number", calls(failure.RemoteVault)},
	"max_consul_calls":   {"number", calls(failure.RemoteConsul)},
	"max_metadata_calls": {"number", calls(failure.RemoteMetadata)},
	"max_logins": {"number", func(s *stage, p promise) error {
		return atMost("logins", s.world.logins-s.before.logins, p.atMost)
	}},
	"max_consul_tokens": {"number", func(s *stage, p promise) error {
		return atMost("Consul tokens issued", len(s.world.issued)-s.before.issued, p.atMost)
	}},
	"max_log_lines": {"number", func(s *stage, p promise) error {
		return atMost("log lines", s.logLines()-s.before.lines, p.atMost)
	}},
}

// counts is what is counted from the first happening.
type counts struct {
	installs, logins, issued, lines int
	asked                           map[failure.Remote]int
}

func (s *stage) count() counts {
	return counts{installs: s.world.installs, logins: s.world.logins, issued: len(s.world.issued), lines: s.logLines(), asked: maps.Clone(s.world.asked)}
}

func calls(remote failure.Remote) func(*stage, promise) error {
	return func(s *stage, p promise) error {
		return atMost("calls to "+string(remote), s.world.asked[remote]-s.before.asked[remote], p.atMost)
	}
}

func never(happened bool, what string) error {
	if happened {
		return fmt.Errorf("%s", what)
	}
	return nil
}

func atMost(what string, got, limit int) error {
	if got > limit {
		return fmt.Errorf("%d %s, want at most %d", got, what, limit)
	}
	return nil
}

func soon(what string, from, at time.Time, within time.Duration) error {
	switch {
	case from.IsZero():
		return fmt.Errorf("%s: there is nothing to measure from", what)
	case at.IsZero():
		return fmt.Errorf("%s: never", what)
	case at.Sub(from) > within:
		return fmt.Errorf("%s after %s, want within %s", what, at.Sub(from), within)
	}
	return nil
}

func reasonNames(snapshot *Snapshot) []string {
	var names []string
	for _, reason := range snapshot.Reasons {
		names = append(names, reason.Name)
	}
	return names
}
