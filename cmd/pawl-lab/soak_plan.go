package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// strike is one outage of a soak: what is taken down, how, when and for how long.
type strike struct {
	// after is how long the agent has served before it.
	after time.Duration
	// atRenewal waits, after that, for the next renewal to begin, and then for lag:
	// so the blow falls in the middle of the work and not in the long pauses.
	atRenewal bool
	lag       time.Duration
	// verb is kill (SIGKILL) or stop (SIGTERM).
	verb string
	// parts are struck together; each comes back by itself.
	parts []part
}

// part is something that goes down in a strike, and comes back after length.
type part struct {
	what   string
	names  []string
	length time.Duration
}

// length is how long a strike lasts: until its last part comes back.
func (s strike) length() time.Duration {
	longest := time.Duration(0)
	for _, one := range s.parts {
		longest = max(longest, one.length)
	}
	return longest
}

// what names what goes down.
func (s strike) what() string {
	var all []string
	for _, one := range s.parts {
		all = append(all, one.what)
	}
	return strings.Join(all, " and ")
}

func (s strike) String() string {
	var all []string
	for _, one := range s.parts {
		all = append(all, one.what+" for "+short(one.length))
	}
	how := map[string]string{"kill": "killing", "stop": "stopping"}[s.verb]
	when := ""
	if s.atRenewal {
		when = fmt.Sprintf(", %s into a renewal", short(s.lag))
	}
	return how + " " + strings.Join(all, " and ") + when
}

// planner invents the strikes of a soak. The same seed, TTL and servers give the
// same strikes, however the agent fares. For one goroutine.
type planner struct {
	dice    *rand.Rand
	ttl     time.Duration
	servers []string
	deck    []string
}

// The targets of a strike, as a deck holds them.
const (
	strikeVault  = "Vault"
	strikeConsul = "Consul"
	strikeBoth   = "both"
	strikeOne    = "one Consul server"
)

func newPlanner(seed uint64, ttl time.Duration, servers []string) *planner {
	return &planner{dice: rand.New(rand.NewPCG(seed, 0)), ttl: ttl, servers: servers}
}

// next invents the next strike.
func (p *planner) next() strike {
	one := strike{
		after:     p.between(p.ttl/4, 2*p.ttl),
		atRenewal: p.dice.IntN(2) == 0,
		lag:       p.between(0, longestLag),
		verb:      []string{"kill", "kill", "stop"}[p.dice.IntN(3)],
	}
	vault := part{"Vault", []string{"vault"}, p.lasting()}
	consul := part{"Consul", p.servers, p.lasting()}
	switch p.draw() {
	case strikeVault:
		one.parts = []part{vault}
	case strikeConsul:
		one.parts = []part{consul}
	case strikeBoth:
		one.parts = []part{vault, consul}
	case strikeOne:
		name := p.servers[p.dice.IntN(len(p.servers))]
		one.parts = []part{{name, []string{name}, consul.length}}
	}
	return one
}

// longestLag is about twice what a whole rotation takes on an idle machine.
const longestLag = 100 * time.Millisecond

// draw takes a target from a shuffled deck, so that even a short soak meets each.
func (p *planner) draw() string {
	if len(p.deck) == 0 {
		p.deck = []string{strikeVault, strikeConsul, strikeBoth}
		if len(p.servers) > 1 {
			p.deck = append(p.deck, strikeOne)
		}
		p.dice.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	last := len(p.deck) - 1
	drawn := p.deck[last]
	p.deck = slices.Delete(p.deck, last, last+1)
	return drawn
}

// lasting is how long something stays away: mostly short, so that rotations go
// on, sometimes past a renewal, and one time in ten past every TTL.
func (p *planner) lasting() time.Duration {
	switch dice := p.dice.IntN(10); {
	case dice == 0:
		return p.between(p.ttl+p.ttl/16, p.ttl+p.ttl/2)
	case dice < 4:
		return p.between(p.ttl/4, p.ttl)
	default:
		return p.between(p.ttl/80, p.ttl/4)
	}
}

// between is a moment of the half-open interval, to the millisecond, for people.
func (p *planner) between(from, to time.Duration) time.Duration {
	return (from + time.Duration(p.dice.Int64N(int64(to-from)))).Truncate(time.Millisecond)
}
