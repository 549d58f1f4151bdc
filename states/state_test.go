package states

import (
	"strings"
	"testing"
)

func TestStates(t *testing.T) {
	// The heights are the ladder: Degraded and Renewing stand beside Serving.
	heights := []struct {
		state  State
		height int
	}{
		{NoIdentity, 0}, {HasJWT, 1}, {VaultAuthed, 2}, {ConsulReady, 3}, {Serving, 4}, {Renewing, 4}, {Degraded, 4},
	}
	if len(All()) != len(heights) {
		t.Fatalf("%d states, want %d: %v", len(All()), len(heights), All())
	}
	for i, row := range heights {
		if All()[i] != row.state || row.state.Height() != row.height {
			t.Errorf("state %d is %s with height %d, want %s with %d", i, All()[i], All()[i].Height(), row.state, row.height)
		}
		if parsed, err := Parse(string(row.state)); err != nil || parsed != row.state {
			t.Errorf("parse %q: %q, %v", row.state, parsed, err)
		}
	}
	for _, unknown := range []string{"", "serving", "Serving ", "NoJWT"} {
		if parsed, err := Parse(unknown); err == nil || parsed != "" || !strings.Contains(err.Error(), "want one of [NoIdentity") {
			t.Errorf("parse %q: %q, %v", unknown, parsed, err)
		}
		if State(unknown).Height() != -1 {
			t.Errorf("an unknown state has height %d", State(unknown).Height())
		}
	}
}

func TestAllIsTheCallers(t *testing.T) {
	All()[0] = Serving
	if All()[0] != NoIdentity {
		t.Error("a caller wrote into the table of states")
	}
	Things()[0] = ThingExporter
	if Things()[0] != ThingJWT {
		t.Error("a caller wrote into the table of things")
	}
}

func TestEvidenceText(t *testing.T) {
	for evidence, word := range map[Evidence]string{Dead: "dead", Unseen: "unseen", Good: "good"} {
		text, err := evidence.MarshalText()
		if err != nil || string(text) != word || evidence.String() != word {
			t.Errorf("marshal %d: %q, %v; want %q", evidence, text, err, word)
		}
		var back Evidence
		if err := back.UnmarshalText(text); err != nil || back != evidence {
			t.Errorf("unmarshal %q: %v, %v", text, back, err)
		}
	}
	if got := Evidence(9).String(); got != "unknown" {
		t.Errorf("grade 9 prints %q", got)
	}
	evidence := Good
	if err := evidence.UnmarshalText([]byte("unknown")); err == nil || evidence != Good {
		t.Errorf("read an unknown grade: %v, %v", evidence, err)
	}
	var zero Sighting
	if zero.Evidence != Dead {
		t.Error("what was never seen must be dead")
	}
}
