package fsm

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
)

const goodStory = `fault: F3
title: Vault is away
story: words
starts: while serving
happens:
  - 0s: vault is down
  - 40m: vault is up
sees:
  - 30m: Degraded, because vault_unreachable
ends: 45m
walk: Serving Degraded Serving
keeps:
  - agent_untouched
  - back_within 15s
`

// A slip of the pen in a story is refused with its file and line.
func TestStoryReaderIsStrict(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"an unknown key", "title:", "titel:", `s.yaml:2: unknown key "titel"`},
		{"a key twice", "title: Vault is away", "title: one\nfault: F4", "s.yaml"},
		{"a missing key", "title: Vault is away\n", "", `s.yaml:1: no "title"`},
		{"an empty title", "title: Vault is away", "title:", "s.yaml:2: want some words"},
		{"a fault without number", "fault: F3", "fault: three", `s.yaml:1: "three": want F[0-9]+`},
		{"another start", "while serving", "on Monday", `s.yaml:4: "on Monday": want at boot or while serving`},
		{"an unknown happening", "vault is down", "vault is out", `s.yaml:6: nothing is known that happens as "vault is out"`},
		{"a happening that wants a duration", "vault is down", "vault is busy, wait", "s.yaml:6: nothing is known"},
		{"a duration that is none", "vault is down", "vault is busy, wait long", `s.yaml:6: "long" is not a duration`},
		{"a moment that is none", "- 40m:", "- soon:", `s.yaml:7: "soon" is not a duration`},
		{"out of order", "- 0s:", "- 50m:", "s.yaml:7: 40m0s comes after 50m0s"},
		{"an unknown state", "Degraded, because", "Broken, because", `s.yaml:9: "Broken": want a state`},
		{"an end before all happened", "ends: 45m", "ends: 10m", "s.yaml:1: it ends at 10m0s"},
		{"an unknown state in the walk", "walk: Serving Degraded", "walk: Serving Degarded", `s.yaml:11: "Degarded" is no state`},
		{"a walk that is none", "walk: Serving Degraded", "walk: ( Serving", "s.yaml:11: not a walk"},
		{"an unknown promise", "agent_untouched", "agent_happy", `s.yaml:13: nobody promises "agent_happy"`},
		{"a promise without its bound", "back_within 15s", "back_within", "s.yaml:14: back_within: want back_within duration"},
		{"a promise with a bound it has not", "agent_untouched", "agent_untouched 5s", "s.yaml:13: agent_untouched: want agent_untouched"},
		{"a bound that is none", "back_within 15s", "back_within fifteen", `s.yaml:14: "fifteen" is not a duration`},
		{"a number that is none", "agent_untouched", "max_logins few", `s.yaml:13: "few" is not a number`},
		{"no list", "keeps:\n  - agent_untouched\n  - back_within 15s", "keeps: all", "s.yaml:12: want a list"},
		{"no mapping", goodStory, "- one\n", "s.yaml:1: a story is a mapping of keys"},
		{"no YAML", goodStory, "\tfault: F3", "s.yaml"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(goodStory, row.old, row.new, 1)
			if text == goodStory {
				t.Fatal("the row changes nothing")
			}
			if _, err := parseStory("s.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("read with error %v, want %q", err, row.want)
			}
		})
	}
	if _, err := parseStory("s.yaml", []byte(goodStory)); err != nil {
		t.Errorf("a good story: %v", err)
	}
}

// A story that tells what is not so fails, in the line that tells it.
func TestStoriesCanFail(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"another walk", "Serving Degraded Serving", "Serving NoIdentity Serving", "s.yaml:11: walked Serving Degraded Serving"},
		{"another sight", "Degraded, because vault_unreachable", "Serving", "s.yaml:9: at 30m0s in Degraded, want Serving"},
		{"another reason", "because vault_unreachable", "because exporter_down", "s.yaml:9: at 30m0s because"},
		{"not ready", "because vault_unreachable", "not ready", "s.yaml:9: at 30m0s ready is true"},
		{"another mend", "because vault_unreachable", "saying pray", "s.yaml:9: at 30m0s nothing says how to mend it"},
		{"never back", "  - 40m: vault is up\n", "", "back_within: at the end in Degraded"},
		{"back too late", "back_within 15s", "back_within 1ms", "s.yaml:14: back_within: Serving and ready after"},
		{"not untouched", "vault is down", "somebody deletes our consul token", "agent_untouched: 1 installs, want at most 0"},
		{"too many calls", "agent_untouched", "max_vault_calls 3", "calls to vault, want at most 3"},
		{"too many lines", "agent_untouched", "max_log_lines 1", "log lines, want at most 1"},
		{"never noticed", "agent_untouched", "not_noticed", "it left Serving"},
		{"no valid token", "ends: 45m", "ends: 45m\nlives: {vault token: 45m}", "agent_untouched"},
		{"agent taken away", "agent_untouched", "noticed_within 1s", "out of Serving after"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(goodStory, row.old, row.new, 1)
			story, err := parseStory("s.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var all []string
				for _, fault := range play(t, story) {
					all = append(all, fault.Error())
				}
				if !strings.Contains(strings.Join(all, "\n"), row.want) {
					t.Errorf("faults %q, want %q", all, row.want)
				}
			})
		})
	}
}

// TestVocabulary: every phrase and promise is told of in the vocabulary's page, and used by a story.
func TestVocabulary(t *testing.T) {
	page, err := os.ReadFile("../testdata/scenarios/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for phrase := range phrases {
		if !strings.Contains(string(page), "`"+phrase+"`") {
			t.Errorf("testdata/scenarios/README.md does not tell of %q", phrase)
		}
	}
	for name := range promises {
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("testdata/scenarios/README.md does not tell of %q", name)
		}
	}
}
