package fleet

import "time"

// Promises of the project (issue 3), kept by the tests.
const (
	// AloneMedian and AloneWorst bound the return of a site of one VM.
	AloneMedian, AloneWorst = 5 * time.Second, 15 * time.Second
	// TogetherWorst bounds the return of ten thousand.
	TogetherWorst = time.Minute
	// MostLoad bounds the load at any second, in times of what Vault can serve.
	MostLoad = 2.0
)

// Alone is an outage of 30 minutes at a site of one VM, past the end of every
// token, at a moment that the seed decides.
func Alone(seed uint64) Scenario {
	return Scenario{Name: "outage of 30 min, one VM", Seed: seed, Agents: 1, Boot: 10 * time.Second,
		From: 3 * time.Minute, Length: 30 * time.Minute, TokenTTL: 20 * time.Minute, Vault: Standard(), Limit: time.Hour}
}

// Together is an outage that outlasts every token, so that each VM must log in again.
func Together(agents int, length time.Duration, seed uint64) Scenario {
	return Scenario{Name: "outage", Seed: seed, Agents: agents, Boot: 30 * time.Second,
		From: 40 * time.Second, Length: length, TokenTTL: length * 2 / 3, Vault: Standard(), Limit: time.Hour}
}

// Reboot is every VM booting within a second, as after a power cut. The first
// attempt at boot is immediate (law 10), so that no policy can keep the load of
// that second down; what counts is what follows.
func Reboot(agents int, seed uint64) Scenario {
	return Scenario{Name: "all boot within 1 s", Seed: seed, Agents: agents, Boot: time.Second,
		TokenTTL: time.Hour, Vault: Standard(), Limit: time.Hour}
}

// named returns the scenario under another name, changed.
func (s Scenario) named(name string, change func(*Scenario)) Scenario {
	s.Name = name
	change(&s)
	return s
}

// Report is what `make fleet` runs: the two that are drawn, and those that show
// where the limits are.
func Report(agents int, length time.Duration, seed uint64) []Scenario {
	const short = 5 * time.Minute // long enough for every wait to have reached its limit
	brief, reboot := Together(agents, short, seed), Reboot(agents, seed)
	half := func(s *Scenario) { s.Vault.Returns /= 2 }
	return []Scenario{
		Together(agents, length, seed).named("outage of "+spoken(length), func(*Scenario) {}),
		reboot,
		brief.named("outage of 5 min, silent", func(s *Scenario) { s.Silent = true }),
		brief.named("outage of 5 min, Vault half as fast", half),
		brief.named("outage of 5 min, Vault a fifth as fast", func(s *Scenario) { s.Vault.Returns /= 5 }),
		brief.named("outage of 5 min, fleet_size left at 1", func(s *Scenario) { s.FleetSize = 1 }),
		reboot.named("all boot within 1 s, quota with 429", func(s *Scenario) { s.Vault.Quota = time.Second }),
		reboot.named("all boot within 1 s, Vault half as fast, no limit to its queue", func(s *Scenario) { half(s); s.Vault.Queue = time.Hour }),
	}
}
