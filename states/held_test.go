package states

import (
	"testing"
	"time"

	"pawl/internal/secret"
)

func TestSightings(t *testing.T) {
	before, now := wall.Add(-time.Hour), wall
	good := Sighting{Evidence: Good, Of: "a", Seen: before, Since: before, Index: 7}
	unseen := Sighting{Evidence: Unseen, Of: "a", Seen: before, Since: before, Index: 7, Cause: "old"}
	dead := Sighting{Evidence: Dead, Of: "a", Seen: before, Since: before, Index: 7, Cause: "old"}
	seen := func(s Sighting) Sighting { return s.SeenGood(now, "a", 8) }
	lost := func(s Sighting) Sighting { return s.Lost(now, "new") }
	down := func(s Sighting) Sighting { return s.Down(now, "new") }
	gone := func(s Sighting) Sighting { return s.Gone(now, "new") }
	fresh := func(evidence Evidence, since time.Time) Sighting {
		return Sighting{Evidence: evidence, Of: "a", Seen: before, Since: since, Index: 7, Cause: "new"}
	}
	rows := []struct {
		name   string
		before Sighting
		do     func(Sighting) Sighting
		want   Sighting
	}{
		{"good, seen: since stays", good, seen, Sighting{Evidence: Good, Of: "a", Seen: now, Since: before, Index: 8}},
		{"good, seen under another token: a new since", good, func(s Sighting) Sighting { return s.SeenGood(now, "b", 8) },
			Sighting{Evidence: Good, Of: "b", Seen: now, Since: now, Index: 8}},
		{"unseen, seen: the cause goes", unseen, seen, Sighting{Evidence: Good, Of: "a", Seen: now, Since: now, Index: 8}},
		{"dead, seen", dead, seen, Sighting{Evidence: Good, Of: "a", Seen: now, Since: now, Index: 8}},
		{"never, seen", Sighting{}, seen, Sighting{Evidence: Good, Of: "a", Seen: now, Since: now, Index: 8}},

		{"good, lost", good, lost, fresh(Unseen, now)},
		{"unseen, lost: since stays", unseen, lost, fresh(Unseen, before)},
		{"dead, lost: stays dead, since stays", dead, lost, fresh(Dead, before)},
		{"never, lost: stays dead", Sighting{}, lost, Sighting{Cause: "new"}},

		{"good, down", good, down, fresh(Unseen, now)},
		{"unseen, down: since stays", unseen, down, fresh(Unseen, before)},
		{"dead, down", dead, down, fresh(Unseen, now)},
		{"never, down", Sighting{}, down, Sighting{Evidence: Unseen, Since: now, Cause: "new"}},

		{"good, gone", good, gone, fresh(Dead, now)},
		{"unseen, gone", unseen, gone, fresh(Dead, now)},
		{"dead, gone: since stays", dead, gone, fresh(Dead, before)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := row.do(row.before); got != row.want {
				t.Errorf("got  %+v\nwant %+v", got, row.want)
			}
		})
	}
}

// epochs of a test: whole, each under its own Vault token.
func epochOf(number int, vault string) Epoch {
	return Epoch{
		Number:      number,
		Vault:       VaultToken{Life: NewLife(vault, wall, time.Hour, 0), Token: secret.New("token of " + vault)},
		Gossip:      GossipKey{Life: NewLife("gossip", wall, 0, 0)},
		Certificate: Certificate{Life: NewLife("serial of "+vault, wall, time.Hour, 0)},
		Consul:      ConsulToken{Life: NewLife("consul of "+vault, wall, time.Hour, 0)},
		Verified:    true,
	}
}

func TestSettled(t *testing.T) {
	first, second := epochOf(1, "first"), epochOf(2, "second")
	sameToken := epochOf(1, "first")
	sameToken.Certificate.ID = "another serial"
	vaultDead := func(e Epoch) Epoch { e.Vault.Refused = true; return e }
	consulDead := func(e Epoch) Epoch { e.Consul.Refused = true; return e }
	gossipDead := func(e Epoch) Epoch { e.Gossip.Refused = true; return e }
	reattestFailed := func(e Epoch) Epoch { e.Vault.ReattestFailed = true; return e }
	rows := []struct {
		name                  string
		current, next         Epoch
		wantCurrent, wantNext Epoch
	}{
		{"no candidate", first, Epoch{}, first, Epoch{}},
		{"no candidate, a dead token", vaultDead(first), Epoch{}, vaultDead(first), Epoch{}},
		{"a candidate under way", first, second, first, second},
		{"a certificate under way", first, sameToken, first, sameToken},
		{"the current token died: the candidate takes its place", vaultDead(first), second, second, Epoch{}},
		{"the current Consul token died: the candidate goes on", consulDead(first), second, consulDead(first), second},
		{"the candidate's token died: the epoch is overdue", first, vaultDead(second), reattestFailed(first), Epoch{}},
		{"both died: the epoch is overdue", vaultDead(first), vaultDead(second), reattestFailed(vaultDead(first)), Epoch{}},
		{"a certificate for a Consul token that died", consulDead(first), sameToken, consulDead(first), Epoch{}},
		{"a certificate beside a gossip key that died", gossipDead(first), sameToken, gossipDead(first), Epoch{}},
		{"a certificate under a token that died", vaultDead(first), vaultDead(sameToken), vaultDead(first), Epoch{}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := Held{Current: row.current, Next: row.next}.Settled(wall)
			if got.Current != row.wantCurrent {
				t.Errorf("current %+v\nwant    %+v", got.Current, row.wantCurrent)
			}
			if got.Next != row.wantNext {
				t.Errorf("next %+v\nwant %+v", got.Next, row.wantNext)
			}
		})
	}
}

func TestEpochNames(t *testing.T) {
	epoch := epochOf(1, "first")
	if want := (Installed{Accessor: "consul of first", Serial: "serial of first", Gossip: "gossip"}); epoch.Credentials() != want {
		t.Errorf("credentials %+v, want %+v", epoch.Credentials(), want)
	}
	if !epoch.Complete() || (Epoch{}).Complete() {
		t.Error("a whole epoch is complete, none is not")
	}
	for name, without := range map[string]func(*Epoch){
		"gossip key":   func(e *Epoch) { e.Gossip.ID = "" },
		"certificate":  func(e *Epoch) { e.Certificate.ID = "" },
		"consul token": func(e *Epoch) { e.Consul.ID = "" },
	} {
		lacking := epoch
		if without(&lacking); lacking.Complete() {
			t.Errorf("complete without its %s", name)
		}
	}
}
