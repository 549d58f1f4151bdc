package transitions

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
)

// The search walks every configuration that evidence, outcomes of attempts and
// outside news can lead to, breadth first until nothing new is found, and checks
// the laws after each step. Time stands still in it: "due", "expired" and
// "stale" are facts of a configuration, and their coming true is news.

// grades of a life, as the search sees it. Never had and refused are one grade
// here, as they are to the tables; what expired by our clock may still be asked for.
const (
	lifeDead    = iota
	lifeLive    // live, not due
	lifeDue     // live, RenewAt passed
	lifeOverdue // live, due, and a renewal failed
	lifeExpired
)

// whose credentials are installed, or were sighted.
const (
	ofNothing = iota
	ofCurrent
	ofOther
)

// kinds of Next.
const (
	nextNone = iota
	nextCertificate
	nextEpoch
)

// configuration is Held as the search sees it: comparable, finite. What only
// decides whether a probe is due is left out: probes are tried everywhere.
type configuration struct {
	state states.State

	jwt      int8
	jwtFresh bool // fetched since ReattestAt

	vault, certificate, consul int8
	gossip, verified           bool
	reattest                   int8 // lifeLive, lifeDue, lifeOverdue

	next                                 int8
	nextCertificateLife, nextConsul      int8
	nextGossip, nextVerified, nextExpiry bool

	installed, agentOf            int8
	agent, registration, exporter states.Evidence
	vaultUnseen                   bool
}

var (
	searchNow   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	searchProbe = 30 * time.Second
	past        = searchNow.Add(-time.Minute)
	future      = searchNow.Add(time.Hour)
	searchToken = secret.New("token")
)

func clock() time.Time { return searchNow }

func concreteLife(id string, grade int8) states.Life {
	life := states.Life{ID: id, Received: searchNow.Add(-time.Hour), Expires: future, RenewAt: future.Add(-time.Minute)}
	switch grade {
	case lifeDead:
		life.Refused = true
	case lifeExpired:
		life.Expires = past
	case lifeDue:
		life.RenewAt = past
	case lifeOverdue:
		life.RenewAt, life.Failed = past, true
	}
	return life
}

func abstractLife(life states.Life) int8 {
	switch {
	case life.Held() && !life.Refused && !life.Live(searchNow):
		return lifeExpired
	case !life.Live(searchNow):
		return lifeDead
	case life.Overdue(searchNow):
		return lifeOverdue
	case life.Due(searchNow):
		return lifeDue
	default:
		return lifeLive
	}
}

func concreteSighting(grade states.Evidence, of string, seen time.Time) states.Sighting {
	return states.Sighting{Evidence: grade, Of: of, Seen: seen, Since: past, Cause: "searched"}
}

// held makes the concrete thing of a configuration, its sightings of the age given.
func (c configuration) held(age time.Duration) states.Held {
	seen := searchNow.Add(-age)
	var h states.Held
	h.Identity = states.Identity{Node: "vm-1", NodeID: "id-1"}
	h.JWT = states.JWT{Life: concreteLife("jwt", c.jwt)}
	if c.jwtFresh {
		h.JWT.Received = searchNow
	}
	h.Current = states.Epoch{Number: 1, Verified: c.verified}
	h.Current.Vault = states.VaultToken{Life: concreteLife("vault-1", c.vault), Token: searchToken, ReattestAt: future}
	if c.reattest != lifeLive {
		h.Current.Vault.ReattestAt = past
		h.Current.Vault.ReattestFailed = c.reattest == lifeOverdue
	}
	h.Current.Certificate.Life = concreteLife("serial-1", c.certificate)
	h.Current.Consul = states.ConsulToken{Life: concreteLife("consul-1", c.consul), Token: searchToken}
	if c.gossip {
		h.Current.Gossip = states.GossipKey{Life: states.Life{ID: "v1"}, Key: searchToken}
	}
	if c.next != nextNone {
		h.Next = h.Current
		h.Next.Verified = c.nextVerified
		h.Next.Certificate.Life = concreteLife("serial-2", c.nextCertificateLife)
		if c.next == nextEpoch {
			h.Next.Number = 2
			h.Next.Vault = states.VaultToken{Life: concreteLife("vault-2", lifeLive), Token: searchToken, ReattestAt: future}
			if c.nextExpiry {
				h.Next.Vault.Expires = past
			}
			h.Next.Consul = states.ConsulToken{Life: concreteLife("consul-2", c.nextConsul), Token: searchToken}
			h.Next.Gossip = states.GossipKey{}
			if c.nextGossip {
				h.Next.Gossip = states.GossipKey{Life: states.Life{ID: "v1"}, Key: searchToken}
			}
		}
	}
	credentials := [...]states.Installed{ofNothing: {}, ofCurrent: h.Current.Credentials(), ofOther: {Accessor: "consul-0", Serial: "serial-0"}}
	h.Installed = credentials[c.installed]
	h.Agent = concreteSighting(c.agent, credentials[c.agentOf].Accessor, seen)
	h.Registration = concreteSighting(c.registration, "", seen)
	h.Exporter = concreteSighting(c.exporter, "", seen)
	h.Vault = concreteSighting(states.Good, "", seen)
	if c.vaultUnseen {
		h.Vault.Evidence = states.Unseen
	}
	if age > searchProbe { // where probes are tried, so is revocation
		h.Former = []states.VaultToken{{Life: concreteLife("vault-0", lifeLive), Token: searchToken}}
	}
	return h
}

// abstract is the way back.
func abstract(state states.State, h states.Held) configuration {
	c := configuration{
		state: state,
		jwt:   abstractLife(h.JWT.Life), vault: abstractLife(h.Current.Vault.Life),
		certificate: abstractLife(h.Current.Certificate.Life), consul: abstractLife(h.Current.Consul.Life),
		gossip: h.Current.Gossip.Held(), verified: h.Current.Verified, reattest: lifeLive,
		agent: h.Agent.Evidence, registration: h.Registration.Evidence, exporter: h.Exporter.Evidence,
		vaultUnseen: h.Vault.Evidence == states.Unseen,
	}
	if h.Reattest(searchNow) {
		c.reattest = lifeDue
		if h.Current.Vault.ReattestFailed {
			c.reattest = lifeOverdue
		}
	}
	c.jwtFresh = c.reattest != lifeLive && h.JWT.Live(searchNow) && !h.JWT.Received.Before(h.Current.Vault.ReattestAt)
	if h.Next.Number > 0 {
		c.next = nextEpoch
		if h.Next.Vault.ID == h.Current.Vault.ID {
			c.next = nextCertificate
		}
		c.nextCertificateLife, c.nextVerified = abstractLife(h.Next.Certificate.Life), h.Next.Verified
		if c.next == nextEpoch {
			c.nextConsul, c.nextGossip = abstractLife(h.Next.Consul.Life), h.Next.Gossip.Held()
			c.nextExpiry = !h.Next.Vault.Live(searchNow)
		}
	}
	of := func(installed bool, nothing bool) int8 {
		switch {
		case nothing:
			return ofNothing
		case installed:
			return ofCurrent
		default:
			return ofOther
		}
	}
	c.installed = of(h.Installed == h.Current.Credentials(), h.Installed == states.Installed{})
	c.agentOf = of(h.Agent.Of == h.Current.Consul.ID, h.Agent.Of == "" || h.Agent.Evidence == states.Dead)
	return c
}

// folded forgets what can no longer matter, so that configurations that behave
// alike are one.
func (c configuration) folded() configuration {
	expired := func(grade *int8) {
		if *grade == lifeExpired {
			*grade = lifeDead // of these only Consul's token is still asked for
		}
	}
	expired(&c.jwt)
	expired(&c.vault)
	expired(&c.nextCertificateLife)
	expired(&c.nextConsul)
	if c.vault == lifeDead {
		c.reattest = lifeLive
	}
	return c
}

// world is every port, with each answer a choice. The search replays an attempt
// with every sequence of choices.
type world struct {
	script []int // choices made before, to repeat
	widths []int // how many there were at each point
	// answers, where not nil, are written by hand: method -> failure, else success.
	answers map[string]error
}

func (w *world) choose(count int) int {
	at := len(w.widths)
	w.widths = append(w.widths, count)
	if at < len(w.script) {
		return w.script[at]
	}
	return 0
}

// next returns the script of the next sequence, and false when all were tried.
func (w *world) next() ([]int, bool) {
	script := make([]int, len(w.widths))
	copy(script, w.script)
	for at := len(script) - 1; at >= 0; at-- {
		if script[at]+1 < w.widths[at] {
			script[at]++
			return script[:at+1], true
		}
	}
	return nil, false
}

// outcome chooses nil (first, always: the willing world) or one of these failures;
// a world with written answers gives those.
func (w *world) outcome(method string, failures ...*failure.Error) error {
	if w.answers != nil {
		return w.answers[method]
	}
	if chosen := w.choose(len(failures) + 1); chosen > 0 {
		return failures[chosen-1]
	}
	return nil
}

func fails(class failure.Class, remote failure.Remote) *failure.Error {
	return failure.New(class, remote, "chosen %s of %s", class, remote)
}

var (
	metadataAway    = fails(failure.Transient, failure.RemoteMetadata)
	metadataRefuses = fails(failure.Config, failure.RemoteMetadata)
	exporterDown    = fails(failure.Local, failure.RemoteExporter)
	consulRefuses   = fails(failure.Config, failure.RemoteConsul)
	vaultAway       = fails(failure.Transient, failure.RemoteVault)
	vaultDead       = fails(failure.AuthDead, failure.RemoteVault)
	vaultConfig     = fails(failure.Config, failure.RemoteVault)
	consulAway      = fails(failure.Transient, failure.RemoteConsul)
	consulDead      = fails(failure.AuthDead, failure.RemoteConsul)
	localFault      = fails(failure.Local, failure.RemoteHost)
)

func (w *world) fresh(kind string) string { return kind + "-new" }

func (w *world) FetchJWT(context.Context) (JWTGrant, error) {
	err := w.outcome("FetchJWT", metadataAway, metadataRefuses)
	return JWTGrant{Text: secret.New("jwt"), ID: w.fresh("jwt"), TTL: time.Hour, Identity: states.Identity{Node: "vm-1", NodeID: "id-1"}}, err
}
func (w *world) Login(context.Context, secret.Secret) (VaultGrant, error) {
	err := w.outcome("Login", vaultAway, vaultDead, vaultConfig)
	return VaultGrant{Token: secret.New("token"), Accessor: w.fresh("vault"), TTL: time.Hour, MaxTTL: 2 * time.Hour}, err
}
func (w *world) ReadGossipKey(context.Context, secret.Secret) (GossipGrant, error) {
	return GossipGrant{Key: secret.New("key"), ID: "v1"}, nil // its failures are those of the certificate, which runs beside it
}
func (w *world) SignCertificate(context.Context, secret.Secret, string) (CertificateGrant, error) {
	err := w.outcome("SignCertificate", vaultAway, vaultDead, vaultConfig)
	return CertificateGrant{Serial: w.fresh("serial"), TTL: time.Hour}, err
}
func (w *world) IssueConsulToken(context.Context, secret.Secret) (ConsulGrant, error) {
	err := w.outcome("IssueConsulToken", vaultAway, vaultDead, vaultConfig, consulAway)
	return ConsulGrant{Token: secret.New("token"), Accessor: w.fresh("consul"), TTL: time.Hour}, err
}
func (w *world) renew(method string) (time.Duration, error) {
	if err := w.outcome(method, vaultAway, vaultDead, vaultConfig); err != nil {
		return 0, err
	}
	// Renewed in full, or capped by the max TTL.
	return []time.Duration{2 * time.Hour, time.Minute}[w.choose(2)], nil
}
func (w *world) RenewToken(context.Context, secret.Secret) (time.Duration, error) {
	return w.renew("RenewToken")
}
func (w *world) RenewLease(context.Context, secret.Secret, string) (time.Duration, error) {
	return w.renew("RenewLease")
}
func (w *world) LookupToken(context.Context, secret.Secret) error {
	return w.outcome("LookupToken", vaultAway, vaultDead)
}
func (w *world) RevokeToken(context.Context, secret.Secret) error {
	return w.outcome("RevokeToken", vaultAway, vaultConfig)
}
func (w *world) Verify(context.Context, states.Identity, states.Epoch) error {
	return w.outcome("Verify", consulAway, consulDead, consulRefuses)
}
func (w *world) Install(context.Context, states.Identity, states.Epoch) error {
	return w.outcome("Install", consulAway, localFault)
}
func (w *world) Prove(context.Context) (uint64, error) {
	return 1, w.outcome("Prove", consulAway, consulDead)
}
func (w *world) Register(context.Context, error) error {
	return w.outcome("Register", consulAway, consulDead)
}
func (w *world) ReadBack(context.Context) (uint64, bool, error) {
	if err := w.outcome("ReadBack", consulAway); err != nil {
		return 0, false, err
	}
	return 1, w.choose(2) == 0, nil
}
func (w *world) Scrape(context.Context) error {
	return w.outcome("Scrape", exporterDown)
}

// search is one run over one arrow table.
type search struct {
	table []Arrow
	fired map[Arrow]bool
	seen  map[configuration]bool
	// distance is how many attempts a willing world needs from here to Serving.
	distance map[configuration]int
	queue    []configuration
	longest  int // attempts of a willing world to Serving
	steps    int

	world *world
	rows  []Work
}

var errLaw = errors.New("law broken")

func broken(law, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", errLaw, law, fmt.Sprintf(format, args...))
}

// land settles a configuration and checks the laws of moving, then queues where it rests.
func (s *search) land(from configuration, what fmt.Stringer, held states.Held) (configuration, error) {
	s.steps++
	state := from.state
	held = held.Settled(searchNow)
	visited := map[states.State]bool{state: true}
	target := states.Rung(held, searchNow)
	for {
		arrow, any, err := Next(s.table, state, held, searchNow)
		if err != nil {
			return configuration{}, broken("a wanted event has an arrow", "%s, %s: %v", from.state, what, err)
		}
		if !any {
			break
		}
		if visited[arrow.To] {
			return configuration{}, broken("ratchet", "%s, %s: %s back to %s", from.state, what, arrow.Event, arrow.To)
		}
		visited[arrow.To] = true
		climb := arrow.To.Height() - arrow.From.Height()
		if climb > 1 && arrow.Event != Restored {
			return configuration{}, broken("ladder", "%s climbs %d rungs", arrow.Event, climb)
		}
		if climb > 0 && arrow.To.Height() > target.Height() {
			return configuration{}, broken("ladder", "%s climbs past %s", arrow.Event, target)
		}
		if climb < 0 && arrow.To != target {
			return configuration{}, broken("ladder", "%s, %s: %s falls to %s and not at once to %s", from.state, what, arrow.Event, arrow.To, target)
		}
		if !landed(arrow, held) {
			return configuration{}, broken("landing", "%s, %s: %s lands in %s without its evidence", from.state, what, arrow.Event, arrow.To)
		}
		s.fired[arrow] = true
		state = arrow.To
	}
	if state != states.Rung(held, searchNow) {
		return configuration{}, broken("landing", "rests in %s, belongs in %s", state, states.Rung(held, searchNow))
	}
	if state == states.Degraded && len(states.Roots(states.Reasons(held, searchNow))) == 0 {
		return configuration{}, broken("degraded has a reason", "%s, %s: none", from.state, what)
	}
	c := abstract(state, held).folded()
	if !s.seen[c] {
		s.seen[c] = true
		s.queue = append(s.queue, c)
	}
	return c, nil
}

// landed is the meaning of each event, written out once more and apart from the
// arrow table: what must be true of what is held when it fires. A redirected
// arrow contradicts it.
func landed(arrow Arrow, h states.Held) bool {
	vault := h.Evidence(states.ThingVault, searchNow) != states.Dead
	jwt := h.Evidence(states.ThingJWT, searchNow) != states.Dead
	rung := states.Rung(h, searchNow)
	switch arrow.To {
	case states.NoIdentity:
		return !vault && !jwt
	case states.HasJWT:
		return !vault && jwt
	case states.VaultAuthed:
		return vault
	case states.ConsulReady:
		return vault && rung != states.VaultAuthed
	case states.Serving:
		return rung == states.Serving || rung == states.Renewing
	case states.Renewing:
		return rung == states.Renewing
	case states.Degraded:
		return rung != states.Serving && rung != states.Renewing
	}
	return false
}

// named says what led to a configuration, put into words only when a law breaks.
type named struct {
	name   string
	script []int
	err    error
}

func (n named) String() string { return fmt.Sprintf("%s %v (%v)", n.name, n.script, n.err) }

// attempts makes every attempt that is needed, with every outcome.
func (s *search) attempts(c configuration) error {
	held := c.held(2 * searchProbe)
	for _, row := range s.rows {
		if !row.Needs(held, searchNow) {
			continue
		}
		for script, more := []int(nil), true; more; script, more = s.world.next() {
			s.world.script, s.world.widths = script, s.world.widths[:0]
			after, err := row.Attempt(context.Background(), held, clock)
			if law := kept(held, after, row.Action); law != nil {
				return law
			}
			if _, err := s.land(c, named{string(row.Action), script, err}, after); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept is law 2: no attempt drops what is unexpired and unrefused, but for an
// epoch's swap, whose old token must then wait to be revoked.
func kept(before, after states.Held, action Action) error {
	if before.Installed != (states.Installed{}) && after.Installed == (states.Installed{}) {
		return broken("what runs keeps running", "%s uninstalled the agent's credentials", action)
	}
	if token := before.Current.Vault; token.Live(searchNow) && after.Current.Vault.ID != token.ID {
		if before.Next.Number == 0 || after.Current.Vault.ID != before.Next.Vault.ID || after.Installed != after.Current.Credentials() {
			return broken("make before break", "%s replaced a live Vault token before its successor was installed", action)
		}
		for _, former := range after.Former {
			if former.ID == token.ID {
				return nil
			}
		}
		return broken("make before break", "%s forgot a live Vault token without revoking it", action)
	}
	if action == Revoke && (before.Evidence(states.ThingAgent, searchNow) != states.Good || before.Evidence(states.ThingConsul, searchNow) != states.Good) {
		return broken("make before break", "revoked while the new epoch was not good")
	}
	return nil
}

// news makes every outside change that a configuration admits.
func (s *search) news(c configuration) error {
	type change struct {
		name string
		when bool
		make func(*configuration)
	}
	var changes []change
	life := func(name string, field func(*configuration) *int8, renewable bool) {
		grade := *field(&c)
		live := grade == lifeLive || grade == lifeDue || grade == lifeOverdue
		changes = append(changes,
			change{name + " expired", live, func(c *configuration) { *field(c) = lifeExpired }},
			change{name + " due", renewable && grade == lifeLive, func(c *configuration) { *field(c) = lifeDue }})
	}
	life("jwt", func(c *configuration) *int8 { return &c.jwt }, false)
	// One credential of an epoch is due at a time: their rows do not see each other.
	due := func(grade int8) bool { return grade == lifeDue || grade == lifeOverdue }
	nothingDue := !due(c.vault) && !due(c.certificate) && !due(c.consul)
	life("vault token", func(c *configuration) *int8 { return &c.vault }, nothingDue)
	life("certificate", func(c *configuration) *int8 { return &c.certificate }, nothingDue)
	life("consul token", func(c *configuration) *int8 { return &c.consul }, nothingDue)
	if c.next != nextNone {
		life("next certificate", func(c *configuration) *int8 { return &c.nextCertificateLife }, false)
	}
	if c.next == nextEpoch {
		life("next consul token", func(c *configuration) *int8 { return &c.nextConsul }, false)
	}
	changes = append(changes,
		change{"reattest due", c.reattest == lifeLive && c.vault != lifeDead, func(c *configuration) { c.reattest, c.jwtFresh = lifeDue, false }},
		change{"next vault token expired", c.next == nextEpoch, func(c *configuration) { c.nextExpiry = true }},
	)
	for _, change := range changes {
		if !change.when {
			continue
		}
		after := c
		change.make(&after)
		if _, err := s.land(c, named{name: change.name}, after.held(0)); err != nil {
			return err
		}
	}
	for _, news := range []News{AgentStopped("searched"), ExporterStopped("searched")} {
		if _, err := s.land(c, named{name: news.Name}, news.Fold(c.held(0), searchNow)); err != nil {
			return err
		}
	}
	return nil
}

// willing lets every attempt succeed and counts how many lead to Serving. Each
// configuration on the way is in the search already, so the count is kept for all.
func (s *search) willing(c configuration) error {
	var way []configuration
	for c.state != states.Serving {
		if known, counted := s.distance[c]; counted {
			for i := len(way) - 1; i >= 0; i-- {
				known++
				s.distance[way[i]] = known
			}
			s.longest = max(s.longest, known)
			return nil
		}
		if len(way) > 40 {
			return broken("a willing world reaches Serving", "not from %+v; last at %+v", way[0], c)
		}
		way = append(way, c)
		held := c.held(0)
		made := false
		s.world.script = nil
		for _, row := range s.rows {
			if row.Needs(held, searchNow) {
				s.world.widths = s.world.widths[:0]
				after, err := row.Attempt(context.Background(), held, clock)
				if c, err = s.land(c, named{"willing " + string(row.Action), nil, err}, after); err != nil {
					return err
				}
				made = true
				break
			}
		}
		if !made {
			return broken("every rest has work", "%+v", c)
		}
	}
	for i := range way {
		s.distance[way[i]] = len(way) - i
	}
	s.longest = max(s.longest, len(way))
	return nil
}

// run searches to closure and returns the first law broken.
func (s *search) run() error {
	if err := Validate(s.table); err != nil {
		return fmt.Errorf("%w: %w", errLaw, err)
	}
	s.fired, s.seen, s.distance = map[Arrow]bool{}, map[configuration]bool{}, map[configuration]int{}
	s.world = &world{}
	s.rows = Table(Ports{Metadata: s.world, Vault: s.world, Consul: s.world, Exporter: s.world},
		Settings{ProbeInterval: searchProbe, Now: clock, Roll: func() float64 { return 0.5 }})
	bare := abstract(states.NoIdentity, states.Held{})
	restored := bare
	restored.vault, restored.reattest = lifeLive, lifeLive
	whole := restored
	whole.gossip, whole.verified, whole.certificate, whole.consul, whole.jwt = true, true, lifeLive, lifeLive, lifeLive
	for _, start := range []configuration{bare, restored, whole} {
		if _, err := s.land(start, named{name: "start"}, start.held(0)); err != nil {
			return err
		}
	}
	for len(s.queue) > 0 {
		c := s.queue[0]
		s.queue = s.queue[1:]
		for _, step := range []func(configuration) error{s.attempts, s.news, s.willing} {
			if err := step(c); err != nil {
				return err
			}
		}
	}
	for _, arrow := range s.table {
		if !s.fired[arrow] {
			return broken("every arrow can fire", "%s from %s never did", arrow.Event, arrow.From)
		}
	}
	return nil
}

// TestSearch: laws 1 to 4 and 6, over every configuration there is.
func TestSearch(t *testing.T) {
	s := &search{table: Arrows()}
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed: %d configurations, %d steps, longest way of a willing world to Serving %d attempts", len(s.seen), s.steps, s.longest)
}
