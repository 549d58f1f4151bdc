package fleet

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestChartAndTable(t *testing.T) {
	scenario := Reboot(50, testSeed)
	scenario.Vault.Returns = 10
	scenario.Name = "a <b> & c"
	results := []Result{simulate(t, scenario, Pawl), simulate(t, scenario, VaultAgent)}
	var image bytes.Buffer
	chart := Chart{Title: scenario.Name, Panels: []Panel{{Title: "one", Results: results, Before: 10, After: 60}, {Title: "two", Results: results, After: 60}}}
	if _, err := chart.WriteTo(&image); err != nil {
		t.Fatal(err)
	}
	curves, words := 0, ""
	for decoder := xml.NewDecoder(&image); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "path" {
				curves++
			}
		case xml.CharData:
			words += string(token) + "\n"
		}
	}
	if curves != 2*2*2 {
		t.Errorf("%d curves, want load and share of two policies in two panels", curves)
	}
	for _, want := range []string{scenario.Name, "pawl", "vault agent", "what Vault can serve: 10 a second", "2x what Vault can serve", "seconds after the first boot"} {
		if !strings.Contains(words, want) {
			t.Errorf("the chart does not say %q", want)
		}
	}
	var table strings.Builder
	if err := WriteTable(&table, results); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[2], "vault agent") {
		t.Errorf("table:\n%s", table.String())
	}
}

// TestWithin: shares of few, and of those that never came back.
func TestWithin(t *testing.T) {
	r := Result{Back: []time.Duration{1, 2, 3}, Lost: 1}
	for share, want := range map[float64]time.Duration{0: 1, 0.25: 1, 0.5: 2, 0.75: 3, 0.76: -1, 1: -1} {
		if got := r.Within(share); got != want {
			t.Errorf("share %.2f within %d, want %d", share, got, want)
		}
	}
}
