package transitions

import (
	"context"
	"errors"
	"time"

	"pawl/internal/failure"
	"pawl/states"
)

// Action names one kind of attempt. Actions are verbs.
type Action string

// The actions, in the order of the work table.
const (
	RenewToken       Action = "renew_token"
	RenewLease       Action = "renew_lease"
	RenewCertificate Action = "renew_certificate"
	FetchJWT         Action = "fetch_jwt"
	Login            Action = "log_in"
	Issue            Action = "issue_credentials"
	Verify           Action = "verify_credentials"
	Install          Action = "install_credentials"
	Prove            Action = "prove_token"
	Register         Action = "register"
	Scrape           Action = "scrape_exporter"
	Revoke           Action = "revoke_former"
	LookUp           Action = "look_up_vault"
	Probe            Action = "probe_vault"
)

// scrapeDeadline bounds one GET of the exporter, where the site's check_timeout is longer.
const scrapeDeadline = 10 * time.Second

// Work is one row of the work table: when Needs, then Do, one attempt.
type Work struct {
	Action Action
	// Remote is the far end that an attempt asks first.
	Remote failure.Remote
	// Why says what is missing or due.
	Why string
	// Deadline bounds one attempt.
	Deadline time.Duration
	// Renewal rows keep at least a second between two attempts (law 5).
	Renewal bool
	// Probe rows only ask whether their far end is there. After a healthy answer
	// the other rows of that far end are spread over the fleet (fsm/retry.go).
	Probe bool
	// Needs is pure: whether this is missing or due.
	Needs func(held states.Held, now time.Time) bool
	// do is the attempt itself; call Attempt.
	do func(ctx context.Context, held states.Held) (states.Held, error)
	// blame marks, after a failure, the renewal that is now overdue; nil where none is.
	blame func(held states.Held, now time.Time) states.Held
}

// Settings are what the tables need of the site, and of the world's clock and dice.
type Settings struct {
	// FleetSize is how many VMs share the far ends; what follows an outage is spread
	// by it. Zero is one.
	FleetSize int
	// ProbeInterval is how old a sighting may grow before the far end is asked again.
	ProbeInterval time.Duration
	// Now is time.Now, or a bubble's; Roll draws from [0,1). Both are called on the worker goroutine.
	Now  func() time.Time
	Roll func() float64
	// ClockAhead is how far this machine's wall clock is ahead, false where unknown. May be nil.
	ClockAhead func() (time.Duration, bool)
}

// actions carries what every action needs; each action is a method in a file of its own.
type actions struct {
	Ports
	Settings
}

// Table returns the work table over these ports. The first row that is needed
// and not backing off is the one that is done: renewals first, since they are
// what keeps alive what works, then the ladder from its foot to its top.
func Table(ports Ports, settings Settings) []Work {
	a := &actions{Ports: ports, Settings: settings}
	rows := []Work{
		{Action: Probe, Remote: failure.RemoteVault, Why: "Vault is out of sight and there is work for it",
			Deadline: 3 * time.Second, Probe: true, Needs: vaultMissed, do: a.probe},
		{Action: RenewToken, Remote: failure.RemoteVault, Why: "the Vault token is due",
			Deadline: 10 * time.Second, Renewal: true, Needs: inSight(tokenDue), do: a.renewToken, blame: blameToken},
		{Action: RenewLease, Remote: failure.RemoteVault, Why: "the Consul token's lease is due",
			Deadline: 10 * time.Second, Renewal: true, Needs: inSight(leaseDue), do: a.renewLease, blame: blameLease},
		{Action: RenewCertificate, Remote: failure.RemoteVault, Why: "the certificate is due",
			Deadline: 10 * time.Second, Renewal: true, Needs: inSight(certificateDue), do: a.renewCertificate, blame: blameCertificate},
		{Action: FetchJWT, Remote: failure.RemoteMetadata, Why: "no good JWT to log in with",
			Deadline: 10 * time.Second, Needs: jwtMissing, do: a.fetchJWT, blame: blameReattest},
		{Action: Login, Remote: failure.RemoteVault, Why: "no live Vault token, or a new epoch is due",
			Deadline: 15 * time.Second, Needs: inSight(loginMissing), do: a.logIn, blame: blameReattest},
		{Action: Issue, Remote: failure.RemoteVault, Why: "gossip key, certificate or Consul token missing",
			Deadline: 15 * time.Second, Needs: inSight(credentialsMissing), do: a.issue, blame: blameNext},
		{Action: Verify, Remote: failure.RemoteConsul, Why: "credentials not yet shown to every server",
			Deadline: 10 * time.Second, Needs: unverified, do: a.verify, blame: blameNext},
		{Action: Install, Remote: failure.RemoteConsul, Why: "the agent does not run with these credentials",
			Deadline: 20 * time.Second, Needs: uninstalled, do: a.install, blame: blameNext},
		{Action: Prove, Remote: failure.RemoteConsul, Why: "no recent answer of a server under our token",
			Deadline: 10 * time.Second, Needs: a.unproven, do: a.prove},
		{Action: Register, Remote: failure.RemoteConsul, Why: "no recent read-back of the registration",
			Deadline: scrapeDeadline + 10*time.Second, Needs: a.unregistered, do: a.register},
		{Action: Scrape, Remote: failure.RemoteExporter, Why: "no recent answer of the exporter",
			Deadline: scrapeDeadline, Needs: a.unscraped, do: a.scrapeAgain},
		{Action: Revoke, Remote: failure.RemoteVault, Why: "a former epoch's token is not revoked",
			Deadline: 10 * time.Second, Needs: unrevoked, do: a.revoke},
	}
	// Vault out of sight, or to be seen again, and nobody with any business there:
	// somebody must look. One that was never asked, after a hand-over, is not out of
	// sight: what is held is good until something is due, Vault up or down (law 8).
	vaultRows := append([]Work(nil), rows...)
	return append(rows, Work{Action: LookUp, Remote: failure.RemoteVault, Why: "Vault is out of sight and nothing else asks it",
		Deadline: 10 * time.Second, do: a.lookUp,
		Needs: func(held states.Held, now time.Time) bool {
			again := held.Vault.Evidence == states.Good && held.Vault.Seen.IsZero()
			if !again && held.Vault.Evidence != states.Unseen || !held.Current.Vault.Live(now) {
				return false
			}
			for _, row := range vaultRows {
				if row.Remote == failure.RemoteVault && row.Needs(held, now) {
					return false
				}
			}
			return true
		}})
}

// Attempt makes one attempt at the row's action and judges it: what is returned
// is what is now held, partial results included, and the classified error.
// Called on the worker goroutine.
func (w Work) Attempt(ctx context.Context, held states.Held, now func() time.Time) (states.Held, error) {
	after, err := w.do(ctx, held)
	return w.judge(after, err, now()), err
}

// WithAttempt returns the row with another attempt, for tables that are made by
// hand: a test's, or a tool's.
func (w Work) WithAttempt(attempt func(context.Context, states.Held) (states.Held, error)) Work {
	w.do = attempt
	return w
}

// GivenUp returns what is held after an attempt that never came back, with err as its outcome.
func (w Work) GivenUp(held states.Held, err error, now time.Time) states.Held {
	return w.judge(held, err, now)
}

// judge writes an attempt's outcome into the sightings of the far ends: a
// transient failure puts its far end out of sight, any other answer is a sign of life.
func (w Work) judge(held states.Held, err error, now time.Time) states.Held {
	asked := w.Remote
	if err == nil {
		return seen(held, asked, now)
	}
	failed := failure.Of(err)
	if failed.Remote != failure.RemoteHost && failed.Remote != asked {
		// The first far end answered; it was another one, behind it, that did not. That
		// Vault does not reach Consul says nothing of our own way there.
		held = seen(held, asked, now)
		if asked = failed.Remote; asked == failure.RemoteConsul {
			return w.blamed(held, now)
		}
	}
	if failed.Class == failure.Transient && !answered(err, failed) || failed.Stranger {
		held = lost(held, asked, now, failed.Error())
	} else {
		held = seen(held, asked, now)
	}
	return w.blamed(held, now)
}

// answered: what is transient and of this machine is an answer of the far end that
// time will change, such as a name that is still another's. Who says so is in sight.
func answered(err error, failed *failure.Error) bool {
	return failed.Remote == failure.RemoteHost && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// blamed marks the renewal that the failed attempt leaves overdue, if there is one.
func (w Work) blamed(held states.Held, now time.Time) states.Held {
	if w.blame == nil {
		return held
	}
	return w.blame(held, now)
}

// seen: Consul's and the exporter's sightings are made by the actions that read
// something back, since their mere answer proves nothing.
func seen(held states.Held, remote failure.Remote, now time.Time) states.Held {
	switch remote {
	case failure.RemoteMetadata:
		held.Metadata = held.Metadata.SeenGood(now, "", 0)
	case failure.RemoteVault:
		held.Vault = held.Vault.SeenGood(now, "", 0)
	}
	return held
}

func lost(held states.Held, remote failure.Remote, now time.Time, cause string) states.Held {
	switch remote {
	case failure.RemoteMetadata:
		held.Metadata = held.Metadata.Down(now, cause)
	case failure.RemoteVault:
		held.Vault = held.Vault.Down(now, cause)
	case failure.RemoteConsul:
		// A registration that was read back before says nothing of what the servers
		// know when they answer again (law 4).
		held.Agent, held.Registration = held.Agent.Lost(now, cause), held.Registration.Lost(now, cause)
	}
	return held
}

// Wake returns the next moment after now at which a grade or a need can change
// by the mere passing of time, and false when there is none.
func (s Settings) Wake(held states.Held, now time.Time) (time.Time, bool) {
	moments := held.Moments()
	for _, sighting := range []states.Sighting{held.Agent, held.Registration, held.Exporter} {
		if sighting.Evidence == states.Good {
			moments = append(moments, sighting.Seen.Add(s.ProbeInterval))
		}
	}
	var next time.Time
	for _, moment := range moments {
		if !states.Passed(moment, now) {
			next = states.Sooner(next, moment)
		}
	}
	return next, !next.IsZero()
}

// stale: not good, or not asked for a whole interval.
func (s Settings) stale(sighting states.Sighting, now time.Time) bool {
	return sighting.Evidence != states.Good || states.Passed(sighting.Seen.Add(s.ProbeInterval), now)
}
