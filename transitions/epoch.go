package transitions

import (
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// candidate is the epoch being completed: Next where there is one, else Current.
// A Next that only brings a certificate shares Current's other credentials, as
// they are now: they may have been renewed since it was made.
func candidate(held states.Held) states.Epoch {
	next := held.Next
	if next.Number == 0 {
		return held.Current
	}
	if next.Vault.ID == held.Current.Vault.ID {
		next.Vault, next.Consul, next.Gossip = held.Current.Vault, held.Current.Consul, held.Current.Gossip
	}
	return next
}

// withCandidate puts the epoch back where candidate took it from.
func withCandidate(held states.Held, epoch states.Epoch) states.Held {
	if held.Next.Number > 0 {
		held.Next = epoch
	} else {
		held.Current = epoch
	}
	return held
}

// vaultFailed writes a failure of an epoch's Vault token into the epoch. A
// candidate that Vault or Consul refuses for good is broken: it will be revoked
// and dropped while Current goes on untouched (law 3); where Current's own token
// died meanwhile, the candidate is all there is, and stays. So it does where this
// machine is at fault, as with a wrong clock, or what it trusts is, as with servers
// of a CA that is not in the site: another would fare no better.
func vaultFailed(held states.Held, epoch states.Epoch, err error, now time.Time) states.Held {
	failed := failure.Of(err)
	if failed.Class == failure.AuthDead && failed.Remote == failure.RemoteVault {
		epoch.Vault.Refused = true
	}
	held = withCandidate(held, epoch)
	if held.Next.Number == 0 || held.Next.Vault.Live(now) && !held.Current.Vault.Live(now) {
		return held
	}
	switch {
	case failed.Class == failure.Transient:
	case failed.Class == failure.Local, failed.Class == failure.Config && failed.Remote == failure.RemoteHost:
		held = blameNext(held, now)
	default:
		held = dropNext(held, now)
	}
	return held
}

// dropNext puts the candidate away: its Vault token, if it has one of its own,
// goes to those to be revoked.
func dropNext(held states.Held, now time.Time) states.Held {
	if held.Next.Vault.ID != held.Current.Vault.ID {
		held = held.Retired(held.Next.Vault)
	}
	held = blameNext(held, now)
	held.Next = states.Epoch{}
	return held
}

// The blames: which renewal a failed attempt leaves overdue.

func blameToken(held states.Held, _ time.Time) states.Held {
	held.Current.Vault.Failed = true
	return held
}

func blameLease(held states.Held, _ time.Time) states.Held {
	held.Current.Consul.Failed = true
	return held
}

func blameCertificate(held states.Held, _ time.Time) states.Held {
	held.Current.Certificate.Failed = true
	return held
}

// blameReattest: a JWT that could not be had after a jump of the clock, before a new
// epoch is due, is no failure of one.
func blameReattest(held states.Held, now time.Time) states.Held {
	held.Current.Vault.ReattestFailed = held.Current.Vault.ReattestFailed || held.Reattest(now)
	return held
}

// blameNext blames what the candidate was made for: a new epoch, or a new
// certificate within the current one.
func blameNext(held states.Held, now time.Time) states.Held {
	switch {
	case held.Next.Number == 0:
		return held
	case held.Next.Vault.ID == held.Current.Vault.ID:
		return blameCertificate(held, now)
	default:
		return blameReattest(held, now)
	}
}

// The needs of the epoch's rows. Each is pure.

func tokenDue(held states.Held, now time.Time) bool {
	return held.Current.Vault.Live(now) && held.Current.Vault.Due(now)
}

func leaseDue(held states.Held, now time.Time) bool {
	return held.Current.Vault.Live(now) && held.Current.Consul.Live(now) && held.Current.Consul.Due(now)
}

// certificateDue: only beside a current epoch that is whole and installed, and
// not while a candidate is under way, which brings a certificate of its own.
func certificateDue(held states.Held, now time.Time) bool {
	return held.Next.Number == 0 && held.Current.Vault.Live(now) && completeAt(held.Current, now) &&
		held.Installed == held.Current.Credentials() && held.Current.Certificate.Due(now)
}

// reattesting: a new epoch is due and its login has not been made. A candidate
// that only brings a certificate makes way at the login.
func reattesting(held states.Held, now time.Time) bool {
	return held.Reattest(now) && (held.Next.Number == 0 || held.Next.Vault.ID == held.Current.Vault.ID)
}

// jwtMissing: for a new epoch the JWT must be fresh, fetched since it was due (law 3),
// by whichever clock says that it is: they part where the machine slept.
func jwtMissing(held states.Held, now time.Time) bool {
	if reattesting(held, now) {
		return !held.JWT.Live(now) || !states.Passed(held.Current.Vault.ReattestAt, held.JWT.Received)
	}
	// One that a jump of the clock made worthless is asked for anew although no login
	// is due: who woke up may be a copy, and the service names another VM then (F7).
	return held.JWT.Held() && held.JWT.Refused || !held.Current.Vault.Live(now) && !held.JWT.Live(now)
}

func loginMissing(held states.Held, now time.Time) bool {
	return (reattesting(held, now) || !held.Current.Vault.Live(now)) && !jwtMissing(held, now)
}

func credentialsMissing(held states.Held, now time.Time) bool {
	epoch := candidate(held)
	return epoch.Vault.Live(now) && !completeAt(epoch, now)
}

func completeAt(epoch states.Epoch, now time.Time) bool {
	return epoch.Gossip.Live(now) && epoch.Certificate.Live(now) && epoch.Consul.Live(now)
}

func unverified(held states.Held, now time.Time) bool {
	epoch := candidate(held)
	return epoch.Vault.Live(now) && completeAt(epoch, now) && !epoch.Verified
}

// installable returns the epoch that the agent should run with and does not: the
// candidate once every server knows it; or, where nothing runs at all, what is
// held, expired by our clock or not, since only a server can refuse it (law 2).
func installable(held states.Held, now time.Time) (states.Epoch, bool) {
	epoch := candidate(held)
	if epoch.Vault.Live(now) && completeAt(epoch, now) && epoch.Verified {
		return epoch, held.Installed != epoch.Credentials()
	}
	idle := held.Installed == states.Installed{}
	refused := held.Current.Consul.Refused || held.Current.Gossip.Refused
	return held.Current, idle && held.Current.Complete() && held.Current.Verified && !refused
}

func uninstalled(held states.Held, now time.Time) bool {
	_, wanted := installable(held, now)
	return wanted
}

// unrevoked: the old is revoked only while the new one is good and Consul
// answers, since Vault leaves an immortal token where Consul does not (law 3).
func unrevoked(held states.Held, now time.Time) bool {
	return len(held.Former) > 0 && held.Evidence(states.ThingConsul, now) == states.Good &&
		held.Evidence(states.ThingAgent, now) == states.Good
}
