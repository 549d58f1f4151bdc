package transitions

import (
	"context"
	"errors"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// verify shows the candidate's token and certificate to every server.
func (a *actions) verify(ctx context.Context, held states.Held) (states.Held, error) {
	epoch := candidate(held)
	if err := a.Consul.Verify(ctx, held.Identity, epoch); err != nil {
		if refusedBy(err, failure.RemoteConsul) {
			epoch.Consul.Refused = true
		}
		return vaultFailed(held, epoch, err, a.Now()), err
	}
	epoch.Verified = true
	return withCandidate(held, epoch), nil
}

// install starts the agent with the candidate, or swaps the candidate into the
// running one; from then on the candidate is Current, and the epoch it replaced
// waits to be revoked. Then a server must answer under the new token.
func (a *actions) install(ctx context.Context, held states.Held) (states.Held, error) {
	epoch, _ := installable(held, a.Now())
	next := held.Next.Number > 0 && epoch.Credentials() == held.Next.Credentials()
	if err := a.Consul.Install(ctx, held.Identity, epoch); err != nil {
		held.Current.Gossip.Refused = held.Current.Gossip.Refused || refusedBy(err, failure.RemoteGossip)
		if next {
			held = vaultFailed(held, epoch, err, a.Now())
		}
		return held, err
	}
	if next && !epoch.Vault.Live(a.Now()) {
		// It died on the way: Current stays, and what it brought is installed again.
		held.Installed = epoch.Credentials()
		return held, failure.New(failure.Transient, failure.RemoteHost, "install credentials: their vault token expired meanwhile")
	}
	if next {
		if held.Current.Vault.ID != epoch.Vault.ID {
			held = held.Retired(held.Current.Vault)
		}
		held.Current, held.Next = epoch, states.Epoch{}
	}
	if !next && held.Registration.Evidence != states.Dead {
		held.Registration = held.Registration.Gone(a.Now(), "not yet read back under these credentials") // law 4
	}
	held.Installed = epoch.Credentials()
	// Every server knew this token a moment ago: where the agent was in good
	// standing it is out of sight until it has answered, and not dead.
	if held.Agent.Evidence == states.Good {
		held.Agent = held.Agent.Lost(a.Now(), "new credentials not yet proven")
	}
	held.Agent.Of = epoch.Consul.ID
	return a.prove(ctx, held)
}

// unproven: the agent runs with our credentials and no server answered lately. A
// token that expired by our clock is asked for as long as nobody refuses it.
func (a *actions) unproven(held states.Held, now time.Time) bool {
	return held.Current.Consul.Held() && !held.Current.Consul.Refused &&
		held.Installed == held.Current.Credentials() &&
		(held.Agent.Of != held.Current.Consul.ID || a.stale(held.Agent, now))
}

// prove reads our own token at a server, through the running agent.
func (a *actions) prove(ctx context.Context, held states.Held) (states.Held, error) {
	index, err := a.Consul.Prove(ctx)
	if err != nil {
		if refusedBy(err, failure.RemoteConsul) {
			held.Current.Consul.Refused = true
		}
		// It was rotated while we could not hear of it: what Vault has now is another one (F13).
		held.Current.Gossip.Refused = held.Current.Gossip.Refused || refusedBy(err, failure.RemoteGossip)
		return held, err
	}
	held.Agent = held.Agent.SeenGood(a.Now(), held.Current.Consul.ID, index)
	return held, nil
}

// unregistered: the agent is in good standing and the registration was not read back lately.
func (a *actions) unregistered(held states.Held, now time.Time) bool {
	return held.Evidence(states.ThingAgent, now) == states.Good && !held.Current.Consul.Refused &&
		(a.stale(held.Registration, now) || held.Exporter.Evidence == states.Dead)
}

// register asks the exporter, puts node and service into the catalogue with the
// answer as the check's first status, and reads both back from a server.
func (a *actions) register(ctx context.Context, held states.Held) (states.Held, error) {
	// One that never answers must not use up the time of what comes after it: Consul
	// would be taken for what was silent.
	asking, cancel := context.WithTimeout(ctx, scrapeDeadline)
	defer cancel()
	held, exporter := a.scrape(asking, held)
	if calledOff(ctx) {
		return held, exporter
	}
	if err := a.Consul.Register(ctx, exporter); err != nil {
		return a.registrationLost(held, err)
	}
	index, found, err := a.Consul.ReadBack(ctx)
	if err != nil {
		return a.registrationLost(held, err)
	}
	now := a.Now()
	held.Agent = held.Agent.SeenGood(now, held.Current.Consul.ID, index)
	if !found {
		held.Registration = held.Registration.Gone(now, "a server answered: not there")
		return held, failure.New(failure.Transient, failure.RemoteHost, "read back registration: a server answered that it is not there").
			WithFix("if this stays, the Consul policy of the role may lack node or service write")
	}
	held.Registration = held.Registration.SeenGood(now, held.Current.Consul.ID, index)
	return held, exporter
}

func (a *actions) registrationLost(held states.Held, err error) (states.Held, error) {
	switch {
	case refusedBy(err, failure.RemoteConsul):
		held.Current.Consul.Refused = true
	case failure.Of(err).Class == failure.Transient && !answered(err, failure.Of(err)):
		held.Registration = held.Registration.Lost(a.Now(), err.Error())
	default:
		held.Registration = held.Registration.Gone(a.Now(), err.Error())
	}
	return held, err
}

// unscraped: the exporter was asked before, and is down or was not asked lately.
func (a *actions) unscraped(held states.Held, now time.Time) bool {
	return held.Exporter.Evidence != states.Dead && a.stale(held.Exporter, now)
}

// scrapeAgain asks the exporter, and tells the servers at once that it answers
// again: the check may be registered as critical, with nobody to call it passing.
// Where that fails, the registration is to be made and read back anew, and until
// then the node is not ready.
func (a *actions) scrapeAgain(ctx context.Context, held states.Held) (states.Held, error) {
	was := held.Exporter.Evidence
	held, err := a.scrape(ctx, held)
	if err == nil && was == states.Unseen && (held.Evidence(states.ThingAgent, a.Now()) != states.Good || a.Consul.Register(ctx, nil) != nil) {
		held.Registration.Seen = time.Time{}
	}
	return held, err
}

// scrape makes one GET of our own exporter.
func (a *actions) scrape(ctx context.Context, held states.Held) (states.Held, error) {
	err := a.Exporter.Scrape(ctx)
	switch {
	case err == nil:
		held.Exporter = held.Exporter.SeenGood(a.Now(), "", 0)
	case !calledOff(ctx):
		held.Exporter = held.Exporter.Down(a.Now(), err.Error())
	}
	return held, err
}

// calledOff reports that the machine stops and has ended this attempt: what then
// fails says nothing about the far end. A deadline that ran out is no such thing.
func calledOff(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
