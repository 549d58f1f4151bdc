package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// dumped is the wanted top of a dump.
var dumped = []string{"version", "site", "pid", "started", "register_node_exporter", "verdict", "at", "state", "since", "ready", "node",
	"evidence", "reasons", "actions", "moves", "moves_total", "services"}

// testDump: SIGUSR1 adds one JSON document to the stream, and nothing else.
func testDump(t *testing.T, l *lab) {
	a := startAgent(t, l, program{})
	a.awaitServing()
	mark := a.log.mark()
	isJSON := func(each line) bool { return json.Valid([]byte(each.text)) }
	for count := 1; count <= 2; count++ { // the second ends the time in which the first may have added more
		a.signal(syscall.SIGUSR1)
		a.awaitLine(mark+count-1, "a dump", isJSON)
	}
	a.awaitServing()
	lines, _ := a.log.since(mark)
	if len(lines) != 2 {
		t.Fatalf("two signals added %d lines:\n%s", len(lines), a.log.tail(len(lines)))
	}
	for _, each := range lines {
		var top map[string]json.RawMessage
		must(t, json.Unmarshal([]byte(each.text), &top))
		for _, key := range dumped {
			if _, there := top[key]; !there {
				t.Errorf("the dump has no %q", key)
			}
		}
		var got report
		must(t, json.Unmarshal([]byte(each.text), &got))
		if got.PID != a.pid || got.State != "Serving" || len(got.Moves) != 4 || len(got.Services) < 3 {
			t.Errorf("the dump is of pid %d in %s with %d moves and %d services", got.PID, got.State, len(got.Moves), len(got.Services))
		}
		for _, thing := range []string{"vault_token", "certificate", "consul_token"} {
			if held := got.evidence(thing); held.Grade != "good" || held.ID == "" || held.Expires == nil {
				t.Errorf("the dump says of the %s: %+v", thing, held)
			}
		}
	}
	// The human's answer is of the same source.
	if got, code := a.status(); code != exitReady || got.PID != a.pid {
		t.Errorf("after SIGUSR1 `pawl status` says %s and exits with %d", got, code)
	}
	a.terminate(nil)
	if text := a.log.text(); strings.Contains(text, "[C]") || strings.Contains(text, "[G]") {
		t.Error("go-metrics wrote a dump of its own")
	}
	l.awaitGone(t)
}

func read(t *testing.T, response *http.Response) (int, string) {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(text)
}
