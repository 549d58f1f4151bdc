package fsm

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"pawl/states"
	"pawl/testdata/scenarios"
)

// A story is one file of testdata/scenarios: what happens, the wanted walk, what
// must keep working. testdata/scenarios/README.md is its vocabulary.
type story struct {
	file string
	// Fault is its number in the fault catalogue, Title what an operator would call it.
	fault, title, because string
	// lab names the fault of `pawl-lab chaos` that plays the story on real servers.
	lab string
	// bare: the machine boots when the story begins; else it has served for ten minutes.
	bare     bool
	lives    map[string]time.Duration
	happens  []happening
	sees     []sight
	ends     time.Duration
	walk     scenarios.Walk
	walkLine int
	keeps    []promise
}

// happening is one change of the world.
type happening struct {
	at   time.Duration
	line int
	what string
	for_ time.Duration // of phrases that have one
	do   func(*stage, time.Duration)
}

// sight is how the machine must look at a moment.
type sight struct {
	at      time.Duration
	line    int
	state   states.State
	reasons []string
	fixes   []string // words of the line that says how to mend it
	ready   *bool
}

// promise is one thing that must keep working.
type promise struct {
	line    int
	name    string
	within  time.Duration
	atMost  int
	inspect func(*stage, promise) error
}

// storyReader reads one file; its first error names file and line.
type storyReader struct {
	file string
	err  error
}

func (r *storyReader) fail(node *yaml.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s:%d: %s", r.file, node.Line, fmt.Sprintf(format, args...))
	}
}

// readStory reads a story, strictly: an unknown key, phrase, state or promise,
// a moment out of order or anything missing is an error.
func readStory(file string) (*story, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseStory(file, text)
}

func parseStory(file string, text []byte) (*story, error) {
	r := &storyReader{file: file}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:1: a story is a mapping of keys", file)
	}
	s := &story{file: file, lives: map[string]time.Duration{}}
	root := document.Content[0]
	keys := map[string]func(*yaml.Node){
		"fault": func(n *yaml.Node) { s.fault = r.match(n, `F[0-9]+`) },
		"title": func(n *yaml.Node) { s.title = r.text(n) },
		"story": func(n *yaml.Node) { s.because = r.text(n) },
		"lab":   func(n *yaml.Node) { s.lab = r.match(n, `[a-z0-9-]+`) },
		"starts": func(n *yaml.Node) {
			s.bare = r.match(n, `at boot|while serving`) == "at boot"
		},
		"lives": func(n *yaml.Node) {
			r.pairs(n, func(key, value *yaml.Node) {
				if !slices.Contains([]string{"vault token", "vault token at most", "certificate", "jwt"}, key.Value) {
					r.fail(key, "%q does not have a life: want vault token, vault token at most, certificate or jwt", key.Value)
				}
				s.lives[key.Value] = r.duration(value, value.Value)
			})
		},
		"happens": func(n *yaml.Node) {
			r.moments(n, func(at time.Duration, n *yaml.Node) { s.happens = append(s.happens, r.happening(at, n)) })
		},
		"sees": func(n *yaml.Node) {
			r.moments(n, func(at time.Duration, n *yaml.Node) { s.sees = append(s.sees, r.sight(at, n)) })
		},
		"ends": func(n *yaml.Node) { s.ends = r.duration(n, n.Value) },
		"walk": func(n *yaml.Node) { s.walkLine, s.walk = n.Line, r.walk(n) },
		"keeps": func(n *yaml.Node) {
			for _, item := range r.list(n) {
				s.keeps = append(s.keeps, r.promise(item))
			}
		},
	}
	given := map[string]bool{}
	r.pairs(root, func(key, value *yaml.Node) {
		read, known := keys[key.Value]
		switch {
		case !known:
			r.fail(key, "unknown key %q", key.Value)
		case given[key.Value]:
			r.fail(key, "%q is given twice", key.Value)
		default:
			read(value)
		}
		given[key.Value] = true
	})
	for _, key := range []string{"fault", "title", "story", "starts", "happens", "ends", "walk", "keeps"} {
		if !given[key] {
			r.fail(root, "no %q", key)
		}
	}
	if n := len(s.happens); n > 0 && s.ends < s.happens[n-1].at {
		r.fail(root, "it ends at %s, before all has happened", s.ends)
	}
	if n := len(s.sees); n > 0 && s.ends < s.sees[n-1].at {
		r.fail(root, "it ends at %s, before all was seen", s.ends)
	}
	return s, r.err
}

func (r *storyReader) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" {
		r.fail(n, "want some words")
	}
	return strings.TrimSpace(n.Value)
}

func (r *storyReader) match(n *yaml.Node, pattern string) string {
	if !regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(n.Value) {
		r.fail(n, "%q: want %s", n.Value, strings.ReplaceAll(pattern, "|", " or "))
	}
	return n.Value
}

func (r *storyReader) list(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.fail(n, "want a list")
	}
	return n.Content
}

func (r *storyReader) pairs(n *yaml.Node, each func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "want a mapping of keys")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		each(n.Content[i], n.Content[i+1])
	}
}

func (r *storyReader) duration(n *yaml.Node, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		r.fail(n, "%q is not a duration such as 90s or 1h30m", text)
	}
	return d
}

// moments reads a list of `10m: words`, in order of time.
func (r *storyReader) moments(n *yaml.Node, each func(time.Duration, *yaml.Node)) {
	last := time.Duration(0)
	for _, item := range r.list(n) {
		r.pairs(item, func(key, value *yaml.Node) {
			at := r.duration(key, key.Value)
			if at < last {
				r.fail(key, "%s comes after %s", at, last)
			}
			last = at
			each(at, value)
		})
	}
}

// happening reads a phrase of the vocabulary, whose last word may be a duration.
func (r *storyReader) happening(at time.Duration, n *yaml.Node) happening {
	words := strings.Join(strings.Fields(n.Value), " ")
	if do, known := phrases[words]; known {
		return happening{at: at, line: n.Line, what: words, do: do}
	}
	cut := strings.LastIndex(words, " ")
	if cut > 0 {
		if do, known := phrases[words[:cut]+" ..."]; known {
			return happening{at: at, line: n.Line, what: words, for_: r.duration(n, words[cut+1:]), do: do}
		}
	}
	r.fail(n, "nothing is known that happens as %q", words)
	return happening{}
}

// sight reads `Degraded, because vault_unreachable, not ready`.
func (r *storyReader) sight(at time.Duration, n *yaml.Node) sight {
	s := sight{at: at, line: n.Line}
	for part := range strings.SplitSeq(n.Value, ",") {
		part = strings.TrimSpace(part)
		reason, because := strings.CutPrefix(part, "because ")
		fix, fixed := strings.CutPrefix(part, "saying ")
		state, err := states.Parse(part)
		switch {
		case part == "ready" || part == "not ready":
			ready := part == "ready"
			s.ready = &ready
		case because:
			s.reasons = append(s.reasons, reason)
		case fixed:
			s.fixes = append(s.fixes, fix)
		case err == nil:
			s.state = state
		default:
			r.fail(n, "%q: want a state, `ready`, `not ready`, `because` and a reason, or `saying` and a fix", part)
		}
	}
	return s
}

func (r *storyReader) walk(n *yaml.Node) scenarios.Walk {
	walk, err := scenarios.ParseWalk(n.Value)
	if err != nil {
		r.fail(n, "%v", err)
	}
	return walk
}

// promise reads a name of the vocabulary, and its bound where it has one.
func (r *storyReader) promise(n *yaml.Node) promise {
	words := strings.Fields(n.Value)
	if len(words) == 0 {
		r.fail(n, "want a promise")
		return promise{}
	}
	row, known := promises[words[0]]
	p := promise{line: n.Line, name: words[0], inspect: row.inspect}
	switch {
	case !known:
		r.fail(n, "nobody promises %q", words[0])
	case row.bound == "" && len(words) != 1, row.bound != "" && len(words) != 2:
		r.fail(n, "%s: want %s", words[0], strings.TrimSpace(words[0]+" "+row.bound))
	case row.bound == "duration":
		p.within = r.duration(n, words[1])
	case row.bound == "number":
		var err error
		if p.atMost, err = strconv.Atoi(words[1]); err != nil {
			r.fail(n, "%q is not a number", words[1])
		}
	}
	return p
}
