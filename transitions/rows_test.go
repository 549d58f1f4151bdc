package transitions

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"pawl/internal/failure"
	"pawl/states"
)

// stateRow is one row of testdata/states.yaml: in a state, with these things
// held, an attempt with these answers, or news, leads along these events and
// leaves these things held.
type stateRow struct {
	Name    string            `yaml:"name"`
	State   states.State      `yaml:"state"`
	Held    string            `yaml:"held"`
	Attempt Action            `yaml:"attempt"`
	Answers map[string]string `yaml:"answers"`
	News    string            `yaml:"news"`
	Moves   string            `yaml:"moves"`
	To      states.State      `yaml:"to"`
	After   string            `yaml:"after"`
}

// readRows reads the state table, strictly.
func readRows(t *testing.T) []stateRow {
	t.Helper()
	text, err := os.ReadFile("../testdata/states.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var rows []stateRow
	if err := decoder.Decode(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestStateRows runs every row of the state table.
func TestStateRows(t *testing.T) {
	covered := map[Action]bool{}
	for _, row := range readRows(t) {
		covered[row.Attempt] = true
		t.Run(row.Name, func(t *testing.T) { row.run(t) })
	}
	for _, work := range Table(Ports{}, Settings{}) {
		if !covered[work.Action] {
			t.Errorf("no row of testdata/states.yaml tries %s", work.Action)
		}
	}
}

func (r stateRow) run(t *testing.T) {
	held := r.lead(t)
	moves, to, err := leads(Arrows(), r.State, held)
	if err != nil {
		t.Fatal(err)
	}
	if moves != r.Moves {
		t.Errorf("moves %q, want %q", moves, r.Moves)
	}
	if to != r.To {
		t.Errorf("rests in %s, want %s", to, r.To)
	}
	if got := abstract(to, held).words(); got != r.After {
		t.Errorf("held after: %q\n      want: %q", got, r.After)
	}
}

// lead returns what is held after the row's attempt or news.
func (r stateRow) lead(t *testing.T) states.Held {
	t.Helper()
	before, err := readWords(r.Held)
	if err != nil {
		t.Fatal(err)
	}
	held := before.held(searchProbe * 2)
	if got := states.Rung(held, searchNow); got != r.State {
		t.Fatalf("with %q the machine belongs in %s, the row says %s", r.Held, got, r.State)
	}
	switch {
	case r.Attempt != "":
		held = r.attempt(t, held)
	case r.News == "agent_stopped":
		held = AgentStopped("row").Fold(held, searchNow)
	case r.News == "clock_jumped":
		held = ClockJumped("row").Fold(held, searchNow)
	case r.News == "exporter_stopped":
		held = ExporterStopped("row").Fold(held, searchNow)
	case strings.HasPrefix(r.News, "now: "):
		after, err := readWords(strings.TrimPrefix(r.News, "now: "))
		if err != nil {
			t.Fatal(err)
		}
		held = after.held(0)
	default:
		t.Fatal("a row needs an attempt or news")
	}
	return held.Settled(searchNow)
}

// leads moves by the table until it rests, and returns the events and the state.
func leads(table []Arrow, state states.State, held states.Held) (string, states.State, error) {
	var moves []string
	for range 10 {
		arrow, any, err := Next(table, state, held, searchNow)
		if err != nil {
			return "", "", err
		}
		if !any {
			break
		}
		moves, state = append(moves, string(arrow.Event)), arrow.To
	}
	return strings.Join(moves, " "), state, nil
}

func (r stateRow) attempt(t *testing.T, held states.Held) states.Held {
	t.Helper()
	answers := map[string]error{}
	for method, answer := range r.Answers {
		class, remote, _ := strings.Cut(answer, " ")
		if !slices.Contains(failure.Classes(), failure.Class(class)) {
			t.Fatalf("answer %q of %s: want a class and a remote", answer, method)
		}
		answers[method] = fails(failure.Class(class), failure.Remote(remote))
	}
	work := tableOf(&world{answers: answers})[r.Attempt]
	if work.Needs == nil {
		t.Fatalf("no such action: %s", r.Attempt)
	}
	if !work.Needs(held, searchNow) {
		t.Fatalf("%s is not wanted with %q", r.Attempt, r.Held)
	}
	after, err := work.Attempt(context.Background(), held, clock)
	if (err != nil) != (len(answers) > 0) {
		t.Fatalf("%s returned %v with answers %v", r.Attempt, err, r.Answers)
	}
	return after
}

func tableOf(w *world) map[Action]Work {
	rows := map[Action]Work{}
	settings := Settings{ProbeInterval: searchProbe, Now: clock, Roll: func() float64 { return 0.5 }}
	for _, row := range Table(Ports{Metadata: w, Vault: w, Consul: w, Exporter: w}, settings) {
		rows[row.Action] = row
	}
	return rows
}

// The words of a row: a thing alone is there and good, `thing:grade` says more.

var lifeWords = map[string]int8{"": lifeLive, "due": lifeDue, "overdue": lifeOverdue}
var gradeWords = map[string]states.Evidence{"": states.Good, "unseen": states.Unseen}

// wordRow is one word: how it is read into a configuration and written from it.
type wordRow struct {
	word  string
	life  func(*configuration) *int8
	grade func(*configuration) *states.Evidence
	flag  func(*configuration) *bool
}

var wordRows = []wordRow{
	{word: "jwt", life: func(c *configuration) *int8 { return &c.jwt }},
	{word: "vault", life: func(c *configuration) *int8 { return &c.vault }},
	{word: "vault_away", flag: func(c *configuration) *bool { return &c.vaultUnseen }},
	{word: "gossip", flag: func(c *configuration) *bool { return &c.gossip }},
	{word: "certificate", life: func(c *configuration) *int8 { return &c.certificate }},
	{word: "consul", life: func(c *configuration) *int8 { return &c.consul }},
	{word: "verified", flag: func(c *configuration) *bool { return &c.verified }},
	{word: "fresh_jwt", flag: func(c *configuration) *bool { return &c.jwtFresh }},
	{word: "next_gossip", flag: func(c *configuration) *bool { return &c.nextGossip }},
	{word: "next_certificate", life: func(c *configuration) *int8 { return &c.nextCertificateLife }},
	{word: "next_consul", life: func(c *configuration) *int8 { return &c.nextConsul }},
	{word: "next_verified", flag: func(c *configuration) *bool { return &c.nextVerified }},
	{word: "agent", grade: func(c *configuration) *states.Evidence { return &c.agent }},
	{word: "registration", grade: func(c *configuration) *states.Evidence { return &c.registration }},
	{word: "exporter", grade: func(c *configuration) *states.Evidence { return &c.exporter }},
}

func readWords(text string) (configuration, error) {
	c := configuration{reattest: lifeLive}
	for word := range strings.FieldsSeq(text) {
		name, grade, _ := strings.Cut(word, ":")
		switch name {
		case "reattest":
			c.reattest = lifeWords[grade]
			if grade != "due" && grade != "overdue" {
				return c, fmt.Errorf("word %q: want reattest:due or reattest:overdue", word)
			}
			continue
		case "next":
			c.next = map[string]int8{"epoch": nextEpoch, "certificate": nextCertificate}[grade]
			continue
		case "installed":
			c.installed = map[string]int8{"": ofCurrent, "former": ofOther}[grade]
			continue
		case "agent":
			c.agentOf = ofCurrent
		}
		at := slices.IndexFunc(wordRows, func(row wordRow) bool { return row.word == name })
		if at < 0 {
			return c, fmt.Errorf("word %q: not in the vocabulary", word)
		}
		row, known := wordRows[at], true
		switch {
		case row.life != nil:
			*row.life(&c), known = lifeWords[grade], lifeWords[grade] != 0
		case row.grade != nil:
			*row.grade(&c), known = gradeWords[grade], gradeWords[grade] != 0
		default:
			*row.flag(&c) = true
		}
		if !known {
			return c, fmt.Errorf("word %q: no such grade", word)
		}
	}
	return c, nil
}

// words is the way back, in the order of the vocabulary.
func (c configuration) words() string {
	var words []string
	for _, row := range wordRows {
		grade := ""
		switch {
		case row.life != nil:
			if *row.life(&c) == lifeDead {
				continue
			}
			grade = map[int8]string{lifeDue: ":due", lifeOverdue: ":overdue"}[*row.life(&c)]
		case row.grade != nil:
			if *row.grade(&c) == states.Dead {
				continue
			}
			grade = map[states.Evidence]string{states.Unseen: ":unseen"}[*row.grade(&c)]
			if row.word == "agent" && c.agentOf != ofCurrent {
				grade = ":former"
			}
		case !*row.flag(&c):
			continue
		}
		words = append(words, row.word+grade)
	}
	switch c.reattest {
	case lifeDue:
		words = append(words, "reattest:due")
	case lifeOverdue:
		words = append(words, "reattest:overdue")
	}
	switch c.next {
	case nextEpoch:
		words = append(words, "next:epoch")
	case nextCertificate:
		words = append(words, "next:certificate")
	}
	switch c.installed {
	case ofCurrent:
		words = append(words, "installed")
	case ofOther:
		words = append(words, "installed:former")
	}
	return strings.Join(words, " ")
}
