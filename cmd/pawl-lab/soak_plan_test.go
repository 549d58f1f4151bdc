package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// plan returns the first strikes of a seed.
func plan(seed uint64, ttl time.Duration, servers, count int) []strike {
	var names []string
	for n := range servers {
		names = append(names, consulNode(n+1))
	}
	from := newPlanner(seed, ttl, names)
	var all []strike
	for range count {
		all = append(all, from.next())
	}
	return all
}

func TestPlanFollowsItsSeed(t *testing.T) {
	if a, b := plan(7, soakTTL, 1, 50), plan(7, soakTTL, 1, 50); !reflect.DeepEqual(a, b) {
		t.Error("the same seed gave other strikes")
	}
	if a, b := plan(7, soakTTL, 1, 5), plan(8, soakTTL, 1, 5); reflect.DeepEqual(a, b) {
		t.Error("another seed gave the same strikes")
	}
}

func TestPlanMeetsEverything(t *testing.T) {
	for servers, targets := range map[int][]string{
		1: {"Vault", "Consul", "Vault and Consul"},
		3: {"Vault", "Consul", "Vault and Consul", "one"},
	} {
		all := plan(1, soakTTL, servers, 1200)
		kind := func(one strike) string {
			if len(one.parts) == 1 && strings.HasPrefix(one.what(), "consul-") {
				return "one"
			}
			return one.what()
		}
		// Every target is met before one is met again.
		for round := range slices.Chunk(all, len(targets)) {
			var met []string
			for _, one := range round {
				met = append(met, kind(one))
			}
			slices.Sort(met)
			if want := slices.Sorted(slices.Values(targets)); !slices.Equal(met, want) {
				t.Fatalf("%d servers: a round met %q, want %q", servers, met, want)
			}
		}
		verbs, lengths := map[string]int{}, map[string]int{}
		struck := map[string]bool{}
		for _, one := range all {
			verbs[one.verb]++
			verbs[fmt.Sprint(one.atRenewal)]++
			if one.after < soakTTL/4 || one.after >= 2*soakTTL || one.lag < 0 || one.lag >= longestLag {
				t.Errorf("a strike after %s and %s", one.after, one.lag)
			}
			for _, each := range one.parts {
				for _, name := range each.names {
					struck[name] = true
				}
				switch {
				case each.length <= 0 || each.length > soakTTL+soakTTL/2:
					t.Errorf("an outage of %s", each.length)
				case each.length < soakTTL/4:
					lengths["short"]++
				case each.length <= soakTTL:
					lengths["middle"]++
				default:
					lengths["past the TTL"]++
				}
			}
		}
		if len(struck) != servers+1 {
			t.Errorf("%d servers: struck %v", servers, struck)
		}
		parts := lengths["short"] + lengths["middle"] + lengths["past the TTL"]
		if verbs["kill"] < 700 || verbs["stop"] < 300 || verbs["true"] < 500 || verbs["false"] < 500 ||
			2*lengths["short"] < parts || 20*lengths["past the TTL"] < parts {
			t.Errorf("%d servers: the mixture is %v, %v", servers, verbs, lengths)
		}
	}
}

func TestStrikeInWords(t *testing.T) {
	one := strike{verb: "kill", parts: []part{{"Vault", []string{"vault"}, 1500 * ms}, {"Consul", []string{"consul-1"}, 300 * ms}}, atRenewal: true, lag: 20 * ms}
	if got, want := one.String(), "killing Vault for 1.5 s and Consul for 300 ms, 20 ms into a renewal"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if one.length() != 1500*ms {
		t.Errorf("it lasts %s", one.length())
	}
}
