// Package fleet owns the simulation of a whole site: ten thousand of the real
// machines, with the real tables and policies, against a modelled Vault, in
// virtual time; and beside them the policy of vault agent. It answers what an
// outage's end does to Vault (faults.md F10, F19).
//
// It must never be linked into pawl, and imports no client and no service: the
// far ends are models. One goroutine drives everything, so that a seed decides
// the whole of a run.
package fleet

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Policy is whose patience is simulated.
type Policy string

// The policies.
const (
	Pawl Policy = "pawl"
	// VaultAgent waits 1 s after the first failure, then twice as long each time, up
	// to 5 min, each wait cut by up to a quarter at random.
	VaultAgent Policy = "vault agent"
)

// Scenario is one thing that happens to a site.
type Scenario struct {
	Name string
	Seed uint64
	// Agents is how many VMs there are; FleetSize what their site file says, zero: the same.
	Agents, FleetSize int
	// Boot is the time within which they all boot, each at a random moment of it.
	Boot time.Duration
	// From is when Vault goes away, counted from the first boot, and Length for how
	// long; with no Length it never does, and the boot is what is measured.
	From, Length time.Duration
	// Silent makes Vault swallow requests while it is away, instead of refusing them.
	Silent bool
	// TokenTTL is how long tokens and leases last.
	TokenTTL time.Duration
	// Vault is what Vault can bear.
	Vault Model
	// Limit is how long after Vault's return the simulation goes on at most; Watch
	// for how long it does although all are back.
	Limit, Watch time.Duration
}

// Result is what came of a scenario under a policy.
type Result struct {
	Policy   Policy
	Scenario Scenario
	// Back is how long after Vault's return (after its own boot, without an outage)
	// each VM had all it needs, sorted. Lost counts those that never did.
	Back []time.Duration
	Lost int
	// Load is what was asked of Vault in each second from the first boot on, in
	// returns' worth: what a VM needs to come back, from login to Consul token, is 1.
	Load []float64
	// Requests counts what was asked, by kind, after Vault's return.
	Requests map[string]int
	// Refused and Late count answers of overload, and answers nobody waited for any more.
	Refused, Late int
}

// Return is the second of Load in which Vault came back.
func (r Result) Return() int { return int((r.Scenario.From + r.Scenario.Length) / time.Second) }

// Peak is the highest load of any second since Vault went away, and which second that was.
func (r Result) Peak() (load float64, second int) {
	for at, value := range r.Load {
		if value > load && time.Duration(at)*time.Second >= r.Scenario.From {
			load, second = value, at
		}
	}
	return load, second
}

// Within is the time within which this share of the VMs was back; negative when it never was.
func (r Result) Within(share float64) time.Duration {
	at := int(share*float64(len(r.Back)+r.Lost)+0.999999) - 1
	if at >= len(r.Back) {
		return -1
	}
	return r.Back[max(0, at)]
}

// Merged is the result of many runs of one scenario, as if it were one: their
// returns together, their sums, and the load of the first.
func Merged(results []Result) Result {
	merged := results[0]
	merged.Back, merged.Requests, merged.Lost, merged.Refused, merged.Late = nil, map[string]int{}, 0, 0, 0
	merged.Scenario.Agents = 0
	for _, result := range results {
		merged.Scenario.Agents += result.Scenario.Agents
		merged.Back = append(merged.Back, result.Back...)
		merged.Lost, merged.Refused, merged.Late = merged.Lost+result.Lost, merged.Refused+result.Refused, merged.Late+result.Late
		for name, count := range result.Requests {
			merged.Requests[name] += count
		}
	}
	slices.Sort(merged.Back)
	return merged
}

// member is one VM, under either policy.
type member interface {
	// start boots it.
	start()
	// serving reports whether it has all it needs.
	serving() bool
}

// simulation is one run: a queue of events, a Vault, and the VMs.
type simulation struct {
	scenario Scenario
	events   events
	now      time.Duration // since the first boot
	vault    *vault
	members  []member
	booted   []time.Duration
	back     []time.Duration
	waiting  int
}

// epoch is when every simulation begins, a wall clock without a monotonic reading.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// clock is the virtual time as the machines see it.
func (s *simulation) clock() time.Time { return epoch().Add(s.now) }

// at plans something. What is planned for one moment happens in the order it was planned.
func (s *simulation) at(when time.Duration, do func()) { s.events.push(max(when, s.now), do) }

// ended is when Vault is there again, for good.
func (s *simulation) ended() time.Duration { return s.scenario.From + s.scenario.Length }

// Run simulates the scenario under the policy. Called on one goroutine; several
// may run side by side.
func Run(scenario Scenario, policy Policy) (Result, error) {
	if scenario.FleetSize == 0 {
		scenario.FleetSize = scenario.Agents
	}
	s := &simulation{scenario: scenario, waiting: scenario.Agents,
		booted: make([]time.Duration, scenario.Agents), back: make([]time.Duration, scenario.Agents)}
	s.vault = &vault{Model: scenario.Vault, from: scenario.From, until: s.ended(), silent: scenario.Silent, requests: map[string]int{}}
	dice := rand.New(rand.NewPCG(scenario.Seed, uint64(scenario.Agents)))
	for i := range scenario.Agents {
		s.back[i] = -1
		vm, err := s.member(policy, i)
		if err != nil {
			return Result{}, err
		}
		s.members = append(s.members, vm)
		s.booted[i] = time.Duration(dice.Float64() * float64(scenario.Boot))
		s.at(s.booted[i], vm.start)
	}
	if scenario.Length > 0 {
		s.at(s.ended(), func() {
			for i := range s.members {
				s.seen(i)
			}
		})
	}
	for s.waiting > 0 || s.now < s.ended()+scenario.Watch {
		when, do, any := s.events.pop()
		if !any || when > s.ended()+scenario.Limit {
			break
		}
		s.now = when
		do()
	}
	return s.result(policy), nil
}

func (s *simulation) member(policy Policy, i int) (member, error) {
	dice := rand.New(rand.NewPCG(s.scenario.Seed, uint64(i)+1<<32))
	if policy == VaultAgent {
		return &stock{sim: s, index: i, dice: dice}, nil
	}
	return newAgent(s, i, dice)
}

// seen notes when a VM is back; called whenever that may have changed.
func (s *simulation) seen(i int) {
	if s.back[i] >= 0 || s.now < s.ended() || !s.members[i].serving() {
		return
	}
	s.back[i] = s.now - max(s.ended(), s.booted[i])
	s.waiting--
}

func (s *simulation) result(policy Policy) Result {
	result := Result{Policy: policy, Scenario: s.scenario, Requests: s.vault.requests,
		Refused: s.vault.refused, Late: s.vault.late}
	for _, load := range s.vault.load {
		result.Load = append(result.Load, float64(load)/1000)
	}
	for _, back := range s.back {
		if back >= 0 {
			result.Back = append(result.Back, back)
		} else {
			result.Lost++
		}
	}
	slices.Sort(result.Back)
	return result
}
