package states

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const probe = 30 * time.Second

// serving is a machine on its highest rung, all seen a second ago.
func serving() Held {
	current := epochOf(1, "first")
	sighting := Sighting{Evidence: Good, Seen: wall.Add(-time.Second), Since: wall.Add(-time.Minute), Index: 7}
	agent := sighting
	agent.Of = current.Consul.ID
	return Held{
		Identity:  Identity{Node: "vm-1", NodeID: "id-1", Subject: "vm:id-1"},
		JWT:       JWT{Life: NewLife("jwt", wall, time.Hour, 0)},
		Current:   current,
		Installed: current.Credentials(),
		Metadata:  sighting, Vault: sighting, Agent: agent, Registration: sighting, Exporter: sighting,
	}
}

// change is one thing that happened to a machine that was serving.
type change = func(h *Held)

var (
	jwtExpired         change = func(h *Held) { h.JWT.Expires = wall }
	jwtRefused         change = func(h *Held) { h.JWT.Refused = true }
	vaultExpired       change = func(h *Held) { h.Current.Vault.Expires = wall }
	vaultRefused       change = func(h *Held) { h.Current.Vault.Refused = true }
	vaultAway          change = func(h *Held) { h.Vault = h.Vault.Down(wall, "no route") }
	vaultDue           change = func(h *Held) { h.Current.Vault.RenewAt = wall }
	vaultOverdue       change = func(h *Held) { h.Current.Vault.RenewAt, h.Current.Vault.Failed = wall, true }
	epochDue           change = func(h *Held) { h.Current.Vault.ReattestAt = wall }
	epochOverdue       change = func(h *Held) { h.Current.Vault.ReattestAt, h.Current.Vault.ReattestFailed = wall, true }
	gossipMissing      change = func(h *Held) { h.Current.Gossip = GossipKey{} }
	certificateExpired change = func(h *Held) { h.Current.Certificate.Expires = wall }
	certificateDue     change = func(h *Held) { h.Current.Certificate.RenewAt = wall }
	consulRefused      change = func(h *Held) { h.Current.Consul.Refused = true }
	consulDue          change = func(h *Held) { h.Current.Consul.RenewAt = wall }
	otherInstalled     change = func(h *Held) { h.Installed.Serial = "former" }
	nothingInstalled   change = func(h *Held) { h.Installed = Installed{} }
	agentUnderFormer   change = func(h *Held) { h.Agent.Of = "former" }
	agentDead          change = func(h *Held) { h.Agent = h.Agent.Gone(wall, "stopped") }
	consulAway         change = func(h *Held) { h.Agent = h.Agent.Lost(wall, "no server") }
	registrationAway   change = func(h *Held) { h.Registration = h.Registration.Lost(wall, "no server") }
	registrationGone   change = func(h *Held) { h.Registration = h.Registration.Gone(wall, "not there") }
	exporterDown       change = func(h *Held) { h.Exporter = h.Exporter.Down(wall, "500") }
	exporterNeverAsked change = func(h *Held) { h.Exporter = Sighting{} }
	metadataAway       change = func(h *Held) { h.Metadata = h.Metadata.Down(wall, "no route") }
)

func TestRung(t *testing.T) {
	rows := []struct {
		name    string
		changes []change
		want    State
		// roots are the reasons that no other explains, causes first.
		roots []string
	}{
		{"all well", nil, Serving, nil},
		{"metadata away", []change{metadataAway}, Serving, []string{"metadata_unreachable"}},
		{"jwt expired", []change{jwtExpired}, Serving, nil},
		{"jwt refused", []change{jwtRefused}, Serving, nil},

		{"vault token due", []change{vaultDue}, Renewing, nil},
		{"epoch due", []change{epochDue}, Renewing, nil},
		{"consul lease due", []change{consulDue}, Renewing, nil},
		{"certificate due", []change{certificateDue}, Renewing, nil},

		{"vault away", []change{vaultAway}, Degraded, []string{"vault_unreachable"}},
		{"vault away and a renewal overdue: one root", []change{vaultAway, vaultOverdue}, Degraded, []string{"vault_unreachable"}},
		{"vault token overdue", []change{vaultOverdue}, Degraded, []string{"renewal_overdue"}},
		{"epoch overdue", []change{epochOverdue}, Degraded, []string{"renewal_overdue"}},
		{"consul away", []change{consulAway}, Degraded, []string{"consul_unreachable"}},
		{"consul away, the registration with it: one root", []change{consulAway, registrationAway}, Degraded, []string{"consul_unreachable"}},
		{"consul away, the registration gone before: not a fall", []change{consulAway, registrationGone}, Degraded, []string{"consul_unreachable"}},
		{"registration away", []change{registrationAway}, Degraded, []string{"registration_unseen"}},
		{"exporter down", []change{exporterDown}, Degraded, []string{"exporter_down"}},
		{"two faults: two roots", []change{vaultAway, exporterDown}, Degraded, []string{"vault_unreachable", "exporter_down"}},

		{"registration gone", []change{registrationGone}, ConsulReady, []string{"not_registered"}},
		{"exporter never asked", []change{exporterNeverAsked}, ConsulReady, nil},

		{"gossip key missing", []change{gossipMissing}, VaultAuthed, []string{"credentials_dead"}},
		{"certificate expired", []change{certificateExpired}, VaultAuthed, []string{"credentials_dead"}},
		{"consul token refused", []change{consulRefused}, VaultAuthed, []string{"credentials_dead"}},
		{"a former epoch's credentials run", []change{otherInstalled}, VaultAuthed, []string{"not_installed"}},
		{"nothing runs", []change{nothingInstalled}, VaultAuthed, []string{"not_installed"}},
		{"seen under a former token only", []change{agentUnderFormer}, VaultAuthed, []string{"not_installed"}},
		{"agent dead", []change{agentDead}, VaultAuthed, []string{"agent_down"}},
		{"dead beats unseen", []change{consulRefused, vaultAway, exporterDown}, VaultAuthed, []string{"vault_unreachable", "exporter_down"}},

		{"vault token expired", []change{vaultExpired}, HasJWT, []string{"vault_token_dead"}},
		{"vault token refused", []change{vaultRefused, vaultAway}, HasJWT, []string{"vault_unreachable"}},
		{"vault token and jwt dead", []change{vaultRefused, jwtExpired}, NoIdentity, []string{"no_identity"}},
		{"all of it dead and the metadata service away", []change{vaultRefused, jwtRefused, metadataAway}, NoIdentity, []string{"metadata_unreachable"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			held := serving()
			for _, change := range row.changes {
				change(&held)
			}
			if got := Rung(held, wall); got != row.want {
				t.Errorf("rung %s, want %s", got, row.want)
			}
			var roots []string
			for _, reason := range Roots(Reasons(held, wall)) {
				roots = append(roots, reason.Name)
			}
			if !equal(roots, row.roots) {
				t.Errorf("roots %v, want %v; all: %+v", roots, row.roots, Reasons(held, wall))
			}
		})
	}
	if got := Rung(Held{}, wall); got != NoIdentity {
		t.Errorf("a bare machine belongs in %s", got)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestReady(t *testing.T) {
	rows := []struct {
		name    string
		changes []change
		after   time.Duration
		want    bool
	}{
		{"all well", nil, 0, true},
		{"renewing: still ready", []change{vaultDue, epochDue}, 0, true},
		{"vault away: still ready", []change{vaultAway}, 0, true},
		{"metadata away: still ready", []change{metadataAway}, 0, true},
		{"read back just within two probes", nil, 2*probe - time.Second - 1, true},
		{"read back two probes ago: the loop does not turn", nil, 2*probe - time.Second, false},
		{"consul away", []change{consulAway}, 0, false},
		{"registration away", []change{registrationAway}, 0, false},
		{"registration gone", []change{registrationGone}, 0, false},
		{"exporter down", []change{exporterDown}, 0, false},
		{"other credentials installed", []change{otherInstalled}, 0, false},
		{"agent dead", []change{agentDead}, 0, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			held := serving()
			for _, change := range row.changes {
				change(&held)
			}
			if got := held.Ready(wall.Add(row.after), probe); got != row.want {
				t.Errorf("ready: %t, want %t", got, row.want)
			}
		})
	}
	if (Held{}).Ready(wall, probe) {
		t.Error("a bare machine is ready")
	}
}

// A reason is muted only under one above it: causes come before effects.
func TestReasonTable(t *testing.T) {
	above := map[string]bool{}
	for _, row := range reasons {
		if row.name == "" || row.stands == nil {
			t.Errorf("a row without a name or a test: %+v", row)
		}
		for _, root := range row.under {
			if !above[root] {
				t.Errorf("%s is muted under %s, which is not above it", row.name, root)
			}
		}
		if above[row.name] {
			t.Errorf("a second row %s", row.name)
		}
		above[row.name] = true
	}
}

// anyHeld draws a machine as its laws allow it: whatever is not dead has a
// since. Most parts are well, or the search would hardly ever leave the foot of
// the ladder.
func anyHeld(t *rapid.T) Held {
	flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
	well := func(label string) bool {
		return rapid.SampledFrom([]bool{true, true, true, true, false}).Draw(t, label+" is well")
	}
	second := func(label string, from, to int) time.Time {
		return wall.Add(time.Duration(rapid.IntRange(from, to).Draw(t, label)) * time.Second)
	}
	life := func(label, id string) Life {
		switch {
		case well(label):
			return NewLife(id, wall, time.Duration(rapid.IntRange(4, 9).Draw(t, label+" ttl"))*time.Second, 0)
		case flag(label + " missing"):
			return Life{}
		}
		return Life{
			ID: id, Received: wall.Add(-time.Hour), Refused: flag(label + " refused"),
			Expires: second(label+" expires", -1, 9), RenewAt: second(label+" renew at", -2, 9), Failed: flag(label + " failed"),
		}
	}
	sighting := func(label, of string) Sighting {
		s := Sighting{Evidence: Good, Of: of, Seen: wall.Add(-time.Second), Since: wall.Add(-time.Minute)}
		if !well(label) {
			s.Evidence, s.Cause = rapid.SampledFrom([]Evidence{Unseen, Dead}).Draw(t, label), label
		}
		return s
	}
	epoch := func(label string, number int) Epoch {
		e := Epoch{Number: number, Vault: VaultToken{Life: life(label+"vault", label+"accessor")}}
		e.Certificate.Life, e.Consul.Life = life(label+"certificate", label+"serial"), life(label+"consul", label+"consul accessor")
		if well(label + "gossip") {
			e.Gossip.Life = NewLife("gossip", wall, 0, 0)
		}
		if !well(label + "reattest") {
			e.Vault.ReattestAt, e.Vault.ReattestFailed = second(label+"reattest at", -2, 9), flag(label+"reattest failed")
		}
		return e
	}
	h := Held{JWT: JWT{Life: life("jwt", "jwt")}, Current: epoch("", 1)}
	if flag("next") {
		h.Next = epoch("next ", 2)
		if flag("next under the same token") {
			h.Next.Vault = h.Current.Vault
		}
	}
	h.Installed = Installed{Accessor: "former", Serial: "former"}
	if well("installed") {
		h.Installed = h.Current.Credentials()
	}
	of := h.Current.Consul.ID
	h.Metadata, h.Vault = sighting("metadata", ""), sighting("vault sighting", "")
	h.Agent, h.Registration, h.Exporter = sighting("agent", of), sighting("registration", of), sighting("exporter", "")
	return h
}

func TestRungLaws(t *testing.T) {
	rested := map[State]int{}
	rapid.Check(t, func(t *rapid.T) {
		held := anyHeld(t)
		state := Rung(held, wall)
		rested[state]++
		if state.Height() < 0 {
			t.Fatalf("rests in the unknown state %q", state)
		}
		// Landing: the machine rests only where the state's evidence holds.
		if !Holds(state, held, wall) {
			t.Fatalf("rests in %s, whose evidence does not hold", state)
		}
		// Only dead makes it fall: to lose sight of anything never costs a rung.
		away := held
		for _, sighting := range []*Sighting{&away.Metadata, &away.Vault, &away.Agent, &away.Registration, &away.Exporter} {
			if rapid.Bool().Draw(t, "lost") {
				*sighting = sighting.Lost(wall, "lost")
			}
		}
		if after := Rung(away, wall); after.Height() < state.Height() {
			t.Fatalf("fell from %s to %s without anything dead", state, after)
		}
		// What has a name is not asked for in vain: Degraded always says why, and since when.
		roots := Roots(Reasons(held, wall))
		if len(roots) == 0 && len(Reasons(held, wall)) > 0 {
			t.Fatal("every reason is muted")
		}
		if state == Degraded && len(roots) == 0 {
			t.Fatal("Degraded without a reason")
		}
		for _, root := range roots {
			if state == Degraded && root.Since.IsZero() {
				t.Fatalf("Degraded by %s with no since", root.Name)
			}
		}
	})
	t.Logf("rested in %v", rested) // which of the rarer states are met is chance; the table above has them all
}

func TestSettledLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := anyHeld(t)
		once := held.Settled(wall)
		if twice := once.Settled(wall); twice.Current != once.Current || twice.Next != once.Next {
			t.Fatal("what is settled is not at rest")
		}
		if once.Next.Number > 0 && !once.Next.Vault.Live(wall) {
			t.Fatal("a candidate without a live token stays")
		}
		if (held.Current.Vault.Live(wall) || held.Next.Vault.Live(wall)) && !once.Current.Vault.Live(wall) {
			t.Fatal("a live Vault token was dropped (law 2)")
		}
		if Rung(once, wall).Height() < 1 && Rung(held, wall).Height() > 0 {
			t.Fatal("settling cost the identity")
		}
	})
}

// Between two of Moments nothing changes by itself, so the machine may sleep.
func TestMomentsAreComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := anyHeld(t)
		next := time.Time{}
		for _, moment := range held.Moments() {
			if moment.IsZero() {
				t.Fatal("never is no moment")
			}
			if !Passed(moment, wall) {
				next = Sooner(next, moment)
			}
		}
		last := wall.Add(time.Hour)
		if !next.IsZero() {
			last = next.Add(-1)
		}
		for _, thing := range Things() {
			if held.Evidence(thing, wall) != held.Evidence(thing, last) {
				t.Fatalf("%s changed before %s", thing, last)
			}
		}
		if Rung(held, wall) != Rung(held, last) {
			t.Fatalf("the rung changed before %s", last)
		}
		if was, is := held.Settled(wall), held.Settled(last); was.Current != is.Current || was.Next != is.Next {
			t.Fatalf("the candidate changed before %s", last)
		}
	})
}
