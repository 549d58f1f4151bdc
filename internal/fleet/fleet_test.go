package fleet

import (
	"os/exec"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testSeed is printed by every test; another one must do as well.
const testSeed = 1

// scaled is how many to simulate: all, or a part under -short, which the run with
// the race detector is given.
func scaled(whole, part int) int {
	if testing.Short() {
		return part
	}
	return whole
}

func simulate(t *testing.T, scenario Scenario, policy Policy) Result {
	t.Helper()
	began := time.Now()
	result, err := Run(scenario, policy)
	if err != nil {
		t.Fatal(err)
	}
	if scenario.Agents > 1 {
		peak, at := result.Peak()
		t.Logf("seed %d, %s, %s, %d VMs: back within %s (median), %s (p99), %s (worst), %d never; peak %.2fx %d s after the return; %d logins, %d refused, %d late; simulated in %s",
			scenario.Seed, scenario.Name, policy, scenario.Agents, back(result.Within(0.5)), back(result.Within(0.99)), back(result.Within(1)), result.Lost,
			peak/scenario.Vault.Returns, at-result.Return(), result.Requests[login.name], result.Refused, result.Late, time.Since(began).Round(time.Millisecond))
	}
	return result
}

// TestAlone: fleet_size 1, an outage of 30 minutes that outlasts every token:
// Serving again within 5 s (median) and 15 s (worst) of Vault's return, over a
// thousand seeds, whether Vault refused connections meanwhile or swallowed them.
func TestAlone(t *testing.T) {
	for name, silent := range map[string]bool{"refusing": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			seeds := scaled(1000, 50)
			if silent {
				seeds /= 4
			}
			results := make([]Result, seeds)
			var workers sync.WaitGroup
			for half := range 2 {
				workers.Go(func() {
					for i := half; i < seeds; i += 2 {
						scenario := Alone(testSeed + uint64(i))
						scenario.Silent = silent
						results[i] = simulate(t, scenario, Pawl)
					}
				})
			}
			workers.Wait()
			merged := Merged(results)
			median, worst := merged.Within(0.5), merged.Within(1)
			t.Logf("seeds %d to %d: median %s, p99 %s, worst %s", testSeed, testSeed+seeds-1, median, merged.Within(0.99), worst)
			if merged.Lost > 0 || median > AloneMedian || worst > AloneWorst {
				t.Errorf("want %s and %s; %d never came back", AloneMedian, AloneWorst, merged.Lost)
			}
			// One probe is answered, and one login is made.
			if merged.Requests[login.name] != seeds || merged.Requests[health.name] != seeds {
				t.Errorf("asked %v", merged.Requests)
			}
		})
	}
}

// TestTogether: ten thousand VMs whose tokens all ended in the outage are back
// within 60 s, and never ask more than twice what Vault can serve.
func TestTogether(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	result := simulate(t, Together(scaled(10000, 1000), 2*time.Minute, testSeed), Pawl)
	if peak, at := result.Peak(); peak > MostLoad*result.Scenario.Vault.Returns {
		t.Errorf("%.0f VMs' worth asked in second %d", peak, at-result.Return())
	}
	if result.Lost > 0 || result.Within(1) > TogetherWorst {
		t.Errorf("worst %s, %d never came back; want %s", result.Within(1), result.Lost, TogetherWorst)
	}
	if logins := result.Requests[login.name]; logins != result.Scenario.Agents {
		t.Errorf("%d logins for %d VMs", logins, result.Scenario.Agents)
	}
}

// TestTogetherAtASlowVault: what Vault can bear is not known to the agents. A
// Vault of two fifths of what they reckon with refuses many, they spread wider, and it is never
// asked more than twice what it can serve.
func TestTogetherAtASlowVault(t *testing.T) {
	for _, quota := range []time.Duration{0, time.Second} {
		scenario := Together(scaled(1000, 500), 2*time.Minute, testSeed)
		scenario.FleetSize, scenario.Vault.Quota = 2000, quota
		scenario.Vault.Returns = float64(scenario.Agents) / 20
		result := simulate(t, scenario, Pawl)
		if peak, _ := result.Peak(); peak > MostLoad*scenario.Vault.Returns || result.Lost > 0 {
			t.Errorf("quota %s: peak %.0f, %d never came back", quota, peak, result.Lost)
		}
		// That is twenty seconds of work for it, which come within eight.
		if worst := result.Within(1); worst > 90*time.Second {
			t.Errorf("quota %s: the last came back after %s", quota, worst)
		}
	}
}

// TestBootIsImmediate: law 10. A fleet that boots no faster than Vault serves
// waits for nothing, whatever fleet_size says.
func TestBootIsImmediate(t *testing.T) {
	scenario := Reboot(scaled(4000, 400), testSeed)
	scenario.Boot, scenario.FleetSize = time.Duration(scenario.Agents)*time.Second/400, 10000
	result := simulate(t, scenario, Pawl)
	if worst := result.Within(1); worst > time.Second || result.Requests[health.name] > 0 {
		t.Errorf("worst %s, %d probes", worst, result.Requests[health.name])
	}
}

// TestReboot: all boot within a second, which is more than Vault can bear before
// any policy has a say (law 10). From then on the herd must spread: five seconds
// later, and ever after, no more than Vault can serve.
func TestReboot(t *testing.T) {
	scenario := Reboot(10000, testSeed)
	if testing.Short() {
		scenario = Reboot(1000, testSeed)
		scenario.FleetSize, scenario.Vault.Returns = 10000, 50
	}
	result := simulate(t, scenario, Pawl)
	stock := simulate(t, scenario, VaultAgent)
	for second, load := range result.Load {
		if second > 5 && load > scenario.Vault.Returns {
			t.Errorf("%.0f VMs' worth in second %d", load, second)
		}
	}
	if result.Lost > 0 || result.Within(0.99) > TogetherWorst || result.Within(1) > 2*TogetherWorst {
		t.Errorf("p99 %s, worst %s, %d never came back", result.Within(0.99), result.Within(1), result.Lost)
	}
	if result.Refused > stock.Refused/2 || result.Above(1) > stock.Above(1)/2 {
		t.Errorf("refused %d, %d seconds of overload; vault agent's policy %d and %d", result.Refused, result.Above(1), stock.Refused, stock.Above(1))
	}
}

// TestNoSecondWave: those who came back together do not renew together.
func TestNoSecondWave(t *testing.T) {
	scenario := Together(scaled(400, 200), 5*time.Minute, testSeed)
	scenario.TokenTTL, scenario.FleetSize, scenario.Watch = 4*time.Minute, 10000, 10*time.Minute
	result := simulate(t, scenario, Pawl)
	first, later := 0.0, 0.0
	for second, load := range result.Load {
		switch after := second - result.Return(); {
		case after >= 0 && after < 60:
			first = max(first, load)
		case after >= 60:
			later = max(later, load)
		}
	}
	t.Logf("busiest second of the return %.2f VMs' worth, of the ten minutes after it %.2f", first, later)
	if later > first/2 {
		t.Errorf("a second wave of %.2f after one of %.2f", later, first)
	}
	if renewals := result.Requests[renewToken.name]; renewals < 3*scenario.Agents {
		t.Errorf("%d renewals: that was not long enough to see a wave", renewals)
	}
}

// TestSeedDecides: a run can be had again from its seed, and another seed is another run.
func TestSeedDecides(t *testing.T) {
	run := func(seed uint64, policy Policy) Result {
		scenario := Reboot(400, seed)
		scenario.Vault.Returns = 50
		return simulate(t, scenario, policy)
	}
	for _, policy := range []Policy{Pawl, VaultAgent} {
		first, again, other := run(1, policy), run(1, policy), run(2, policy)
		if !reflect.DeepEqual(first, again) {
			t.Errorf("%s: two runs of one seed differ", policy)
		}
		if slices.Equal(first.Back, other.Back) {
			t.Errorf("%s: two seeds make one run", policy)
		}
	}
}

// TestVaultAgentsPolicy: 1 s, doubling to 5 min, each up to a quarter less.
func TestVaultAgentsPolicy(t *testing.T) {
	vm, _ := (&simulation{scenario: Alone(testSeed)}).member(VaultAgent, 0)
	last := 500 * time.Millisecond
	for range 30 {
		wait := vm.(*stock).next()
		most := min(2*last, 5*time.Minute)
		if wait > most || wait < most*3/4-time.Millisecond {
			t.Fatalf("after %s it waits %s", last, wait)
		}
		last = wait
	}
	if last < 225*time.Second {
		t.Errorf("after thirty failures it waits %s", last)
	}
}

// TestCostsAddUp: what a VM asks to come back is one return's worth.
func TestCostsAddUp(t *testing.T) {
	sum := 0
	for _, asked := range []request{login, lookup, readKV, sign, issue} {
		sum += asked.cost
	}
	if sum != 1000 {
		t.Errorf("%d thousandths", sum)
	}
}

// TestNotInPawl: the simulation is no part of the agent.
func TestNotInPawl(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", "pawl/cmd/pawl").Output()
	if err != nil {
		t.Fatal(err)
	}
	if linked := strings.Fields(string(output)); slices.Contains(linked, "pawl/internal/fleet") || !slices.Contains(linked, "pawl/fsm") {
		t.Error("pawl links the simulation, or nothing was listed")
	}
}
