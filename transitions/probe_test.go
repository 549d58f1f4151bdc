package transitions

import (
	"slices"
	"strings"
	"testing"

	"pawl/internal/failure"
)

// TestOutOfSight: while Vault is out of sight it is asked by what costs it next
// to nothing, whatever is missing or due, and by one row at a time.
func TestOutOfSight(t *testing.T) {
	for held, want := range map[string]Action{
		"jwt":                      Probe,
		"jwt vault":                Probe,
		"vault gossip certificate": Probe,
		"vault:due gossip certificate consul verified agent registration exporter installed":                        Probe,
		"vault gossip certificate consul:due verified agent registration exporter installed":                        Probe,
		"vault gossip certificate:due consul verified agent registration exporter installed":                        Probe,
		"jwt vault gossip certificate consul verified fresh_jwt agent registration exporter reattest:due installed": Probe,
		"vault gossip certificate consul verified agent registration exporter reattest:due next:epoch installed":    Probe,
		"vault gossip certificate consul verified agent registration exporter installed":                            LookUp,
		"": "",
		"gossip certificate consul verified agent registration exporter installed":                    "",
		"vault gossip certificate consul verified agent registration exporter reattest:due installed": LookUp,
	} {
		c, err := readWords(held + " vault_away")
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		for action, row := range tableOf(&world{}) {
			if row.Remote == failure.RemoteVault && row.Needs(c.held(0), searchNow) {
				asked = append(asked, string(action))
			}
		}
		slices.Sort(asked)
		if got := strings.Join(asked, " "); got != string(want) {
			t.Errorf("with %q Vault is asked by %q, want %q", held, got, want)
		}
		// In sight again, the work itself is wanted and no probe.
		c.vaultUnseen = false
		if rows := tableOf(&world{}); rows[Probe].Needs(c.held(0), searchNow) || rows[LookUp].Needs(c.held(0), searchNow) {
			t.Errorf("with %q a Vault in sight is probed", held)
		}
	}
}
