package fleet

import (
	"math/rand/v2"
	"time"
)

// The patience of vault agent with a login that fails, and of its templates with
// a secret that cannot be read.
const (
	stockLogin         = time.Second
	stockLoginLimit    = 5 * time.Minute
	stockJitter        = 0.25
	stockTemplate      = 250 * time.Millisecond
	stockTemplateLimit = time.Minute
)

// stock is a VM with vault agent: it logs in, then has its templates read the
// gossip key, sign a certificate and issue a Consul token, each again until it
// succeeds. What it costs Vault is what pawl costs, less pawl's lookup-self.
type stock struct {
	sim   *simulation
	index int
	dice  *rand.Rand
	// wait is the last one after a failed login; zero after a success.
	wait time.Duration
	done bool
}

func (v *stock) serving() bool { return v.done }

func (v *stock) start() {
	if v.sim.scenario.Length == 0 {
		v.logIn()
		return
	}
	// It had its token renewed at some time in the last TTL, and tries to log in when it ends.
	v.sim.at(v.sim.scenario.From+time.Duration(v.dice.Float64()*float64(v.sim.scenario.TokenTTL)), v.logIn)
}

// ask makes one request and goes on when the answer is there, or nobody waits for it any more.
func (v *stock) ask(asked request, then func(error)) {
	until, failed := v.sim.vault.ask(v.sim.now, v.sim.vault.waits(), asked, clientTimeout)
	v.sim.at(until, func() {
		if failed != nil {
			then(failed)
			return
		}
		then(nil)
	})
}

func (v *stock) logIn() {
	v.ask(login, func(err error) {
		if err != nil {
			v.sim.at(v.sim.now+v.next(), v.logIn)
			return
		}
		v.wait = 0
		v.templates([]request{readKV, sign, issue}, stockTemplate)
	})
}

// next doubles the wait up to the limit and takes up to a quarter off, as its library does.
func (v *stock) next() time.Duration {
	v.wait = min(max(stockLogin, 2*v.wait), stockLoginLimit)
	v.wait = time.Duration(float64(v.wait) * (1 - stockJitter*v.dice.Float64()))
	return v.wait
}

// templates makes the requests one after the other.
func (v *stock) templates(left []request, wait time.Duration) {
	if len(left) == 0 {
		v.done = true
		v.sim.seen(v.index)
		return
	}
	v.ask(left[0], func(err error) {
		if err == nil {
			v.templates(left[1:], stockTemplate)
			return
		}
		v.sim.at(v.sim.now+wait, func() { v.templates(left, min(2*wait, stockTemplateLimit)) })
	})
}
