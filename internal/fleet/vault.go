package fleet

import (
	"sync"
	"time"

	"pawl/internal/failure"
)

// Model is what the modelled Vault can bear. It serves in the order of arrival,
// one request after the other.
type Model struct {
	// Returns is how many VMs a second it can bring back, each from its login to its
	// Consul token.
	Returns float64
	// Queue is how much work may wait; what comes on top is refused as overload.
	Queue time.Duration
	// Quota makes the refusal a rate limit's 429 with this Retry-After, instead of a 503 without one.
	Quota time.Duration
	// Latency is the time of the network and of an idle Vault, for one request.
	Latency time.Duration
}

// Standard is the Vault of the project's promise: 500 a second, and a queue of
// two seconds.
func Standard() Model {
	return Model{Returns: 500, Queue: 2 * time.Second, Latency: 5 * time.Millisecond}
}

// request is one kind of request with what it costs, in thousandths of a whole
// return: whole numbers, so that their sum is the same in any order.
type request struct {
	name string
	cost int
}

// The requests. Their costs are shares measured on the lab's Vault with its
// Consul (eight clients, two cores, storage on disk), rounded: login 1.2 ms,
// lookup-self and KV 0.55 ms, signing 2.0 ms, a Consul token 1.8 ms, renewals 0.7
// to 0.9 ms, sys/health 0.09 ms. Those of a return add up to 1000. The probe is made
// dearer than measured, so that 500 returns are 20,000 probes.
var (
	login      = request{"login", 200}
	lookup     = request{"lookup-self", 90}
	readKV     = request{"read KV", 90}
	sign       = request{"sign certificate", 320}
	issue      = request{"issue Consul token", 300}
	renewToken = request{"renew token", 140}
	renewLease = request{"renew lease", 120}
	revoke     = request{"revoke token", 120}
	health     = request{"health", 25}
)

// turnedAway is what a refusal costs, in thousandths of a return: as much as a probe.
const turnedAway = 25

// vault is the modelled Vault and its books.
type vault struct {
	Model
	// It is away from..until, and answers nothing then when silent.
	from, until time.Duration
	silent      bool

	// lock: an action may make two requests side by side, on goroutines of its own.
	lock sync.Mutex
	// busy is until when it has work.
	busy          time.Duration
	load          []int
	requests      map[string]int
	refused, late int
}

// waits is until when the work takes that is there now.
func (v *vault) waits() time.Duration {
	v.lock.Lock()
	defer v.lock.Unlock()
	return v.busy
}

// ask makes a request at now. ahead is until when the work takes that it finds
// there; a client waits no longer than patience. It returns when the client
// knows, and what.
//
// A request whose client went away is served all the same, and in vain: Vault
// has no way to know it before it is done.
func (v *vault) ask(now, ahead time.Duration, asked request, patience time.Duration) (time.Duration, *failure.Error) {
	v.lock.Lock()
	defer v.lock.Unlock()
	second := int(now / time.Second)
	for len(v.load) <= second {
		v.load = append(v.load, 0)
	}
	v.load[second] += asked.cost
	if now >= v.until {
		v.requests[asked.name]++
	}
	if now >= v.from && now < v.until {
		if v.silent {
			return now + patience, failure.New(failure.Transient, failure.RemoteVault, "%s: no answer", asked.name)
		}
		return now + v.Latency, failure.New(failure.Transient, failure.RemoteVault, "%s: nothing listens", asked.name)
	}
	ahead = max(now, ahead)
	if ahead-now > v.Queue && asked.name != health.name {
		v.refused++
		v.busy = max(now, v.busy) + v.takes(turnedAway)
		overload := failure.New(failure.Transient, failure.RemoteVault, "%s: overloaded (503)", asked.name)
		if v.Quota > 0 {
			overload = failure.New(failure.Transient, failure.RemoteVault, "%s: rate limit quota exceeded (429)", asked.name)
			overload.RetryAfter = v.Quota
		}
		return now + v.Latency, overload
	}
	v.busy = max(now, v.busy) + v.takes(asked.cost)
	if asked.name == health.name { // it waits for nothing: neither storage nor locks
		return now + v.Latency, nil
	}
	done := max(v.busy, ahead+v.takes(asked.cost)) + v.Latency
	if ahead+v.takes(asked.cost)+v.Latency-now > patience {
		v.late++
		return now + patience, failure.New(failure.Transient, failure.RemoteVault, "%s: no answer", asked.name)
	}
	return done, nil
}

func (v *vault) takes(cost int) time.Duration {
	return time.Duration(float64(cost) / 1000 / v.Returns * float64(time.Second))
}
