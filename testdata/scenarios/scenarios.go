// Package scenarios owns the outage stories as files, and what both who play them
// must read alike: the language of a walk, and which fault of the lab plays a
// story again. README.md beside the files is their vocabulary.
//
// It must never import anything of the agent: the lab looks at that from outside.
package scenarios

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Files are the stories, a file each.
//
//go:embed *.yaml
var Files embed.FS

// letters are the states in a walk's pattern.
var letters = map[string]string{"NoIdentity": "N", "HasJWT": "J", "VaultAuthed": "V", "ConsulReady": "C", "Serving": "S", "Degraded": "D"}

// Renewing is Serving with something due, and is told as Serving.
const renewing, serving = "Renewing", "Serving"

// Walk is a pattern of states: one after the other, with ( ) | ? * + as in a
// regular expression, and ... for any states. Safe from any goroutine.
type Walk struct {
	text    string
	pattern *regexp.Regexp
}

var token = regexp.MustCompile(`[A-Za-z]+|\.\.\.|\S`)

// ParseWalk reads a walk. The error names the word that is wrong.
func ParseWalk(text string) (Walk, error) {
	pattern := strings.Builder{}
	for _, word := range token.FindAllString(text, -1) {
		switch letter, known := letters[word]; {
		case known:
			pattern.WriteString(letter)
		case word == "...":
			pattern.WriteString(".*")
		case strings.Contains("()|?*+", word):
			pattern.WriteString(word)
		default:
			return Walk{}, fmt.Errorf("%q is no state and no sign of a walk", word)
		}
	}
	compiled, err := regexp.Compile("^(?:" + pattern.String() + ")$")
	if err != nil {
		return Walk{}, fmt.Errorf("not a walk: %w", err)
	}
	return Walk{text, compiled}, nil
}

// String is the walk as it is written.
func (w Walk) String() string { return w.text }

// Fits reports whether somebody who was in these states, one after the other,
// went this walk; else the error says which way it was.
func (w Walk) Fits(states []string) error {
	var walked, told strings.Builder
	last := ""
	for _, state := range states {
		if state == renewing {
			state = serving
		}
		if state == serving && last == serving {
			continue
		}
		last = state
		walked.WriteString(letters[state])
		told.WriteString(" " + state)
	}
	if !w.pattern.MatchString(walked.String()) {
		return fmt.Errorf("walked%s\nwant %s", told.String(), w.text)
	}
	return nil
}

// InLab is a story that a fault of `pawl-lab chaos` plays again.
type InLab struct {
	// File is the story's name, Fault the name of the fault's row.
	File, Fault string
	Walk        Walk
}

// Lab returns the stories that are played again on real servers.
func Lab() ([]InLab, error) {
	names, err := fs.Glob(Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var stories []InLab
	for _, name := range names {
		text, err := Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var story struct{ Lab, Walk string }
		if err := yaml.Unmarshal(text, &story); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if story.Lab == "" {
			continue
		}
		walk, err := ParseWalk(story.Walk)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		stories = append(stories, InLab{File: name, Fault: story.Lab, Walk: walk})
	}
	return stories, nil
}
