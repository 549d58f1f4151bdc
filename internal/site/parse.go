package site

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing wrong with a site file, with its place and its remedy.
type Problem struct {
	File string
	Line int
	// Key is the dotted path of the key; empty where the file as a whole is wrong.
	Key string
	// What is wrong, and the Fix: what to write instead.
	What, Fix string
}

// Error implements error: `file:line: key: what; fix`.
func (p *Problem) Error() string {
	place := fmt.Sprintf("%s:%d: ", p.File, p.Line)
	if p.Key != "" {
		place += p.Key + ": "
	}
	return place + p.What + "; fix: " + p.Fix
}

// Parse reads a site file strictly. name is how the file is called in errors.
// All problems are reported, joined, in the order of their lines, each a
// *Problem; the Site is whole and usable only when there is none. Safe from any
// goroutine.
func Parse(text []byte, name string) (Site, error) {
	reader := reader{file: name}
	root, problem := document(text, name)
	if problem != nil {
		return Site{}, problem
	}
	reader.section("", root)
	if len(reader.problems) == 0 {
		reader.together(root)
	}
	if len(reader.problems) > 0 {
		slices.SortStableFunc(reader.problems, func(a, b *Problem) int { return cmp.Compare(a.Line, b.Line) })
		all := make([]error, len(reader.problems))
		for i, problem := range reader.problems {
			all[i] = problem
		}
		return Site{}, errors.Join(all...)
	}
	sum := sha256.Sum256(text)
	reader.site.hash = hex.EncodeToString(sum[:6])
	return reader.site, nil
}

// yamlLine finds the line number in the YAML library's own words, yamlPlace the words before the fault.
var (
	yamlLine  = regexp.MustCompile(`line (\d+)`)
	yamlPlace = regexp.MustCompile(`^yaml: (line \d+: )?`)
)

// document returns the one mapping that the text is.
func document(text []byte, name string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	err := decoder.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil, &Problem{File: name, Line: 1, What: "the file is empty", Fix: "start from the example, internal/site/site.yaml"}
	}
	if err == nil && first.Content[0].Kind != yaml.MappingNode {
		return nil, &Problem{File: name, Line: first.Content[0].Line, What: "the file is not a list of keys and values", Fix: "write `key: value` lines, as in internal/site/site.yaml"}
	}
	if err == nil {
		err = decoder.Decode(&second)
		if errors.Is(err, io.EOF) {
			return first.Content[0], nil
		}
		if err == nil {
			return nil, &Problem{File: name, Line: second.Line, What: "a second document begins here", Fix: "keep one site in one file, without `---`"}
		}
	}
	line := 1
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	return nil, &Problem{File: name, Line: line, What: "this is not YAML: " + yamlPlace.ReplaceAllString(err.Error(), ""), Fix: "correct the indentation or the quotes here or just above"}
}

// reader collects what it reads and everything that is wrong with it.
type reader struct {
	file     string
	site     Site
	problems []*Problem
}

func (r *reader) report(line int, key string, wrong *complaint) {
	r.problems = append(r.problems, &Problem{File: r.file, Line: line, Key: key, What: wrong.what, Fix: wrong.fix})
}

// section reads one mapping. prefix is "" for the file itself, else "vault." and so on.
func (r *reader) section(prefix string, node *yaml.Node) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		path := prefix + key.Value
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			r.report(key.Line, strings.TrimSuffix(prefix, "."), &complaint{"a key that is not a plain word", "write `key: value`, without merge keys or anchors"})
			continue
		}
		if first, twice := seen[key.Value]; twice {
			r.report(key.Line, path, &complaint{fmt.Sprintf("given twice, first on line %d", first), "keep one of them"})
			continue
		}
		seen[key.Value] = key.Line
		r.value(path, key, value)
	}
	for _, row := range rows {
		rest, here := strings.CutPrefix(row.key, prefix)
		name, _, nested := strings.Cut(rest, ".")
		if _, has := seen[name]; !here || has || !row.required {
			continue
		}
		if nested {
			seen[name] = 0 // one report for the whole section
			r.report(node.Line, prefix+name, &complaint{"this section is missing", "add it, with " + keysOf(prefix+name+".")})
			continue
		}
		r.report(node.Line, row.key, &complaint{"missing", "add `" + name + ":` here"})
	}
}

// value reads what stands behind one key.
func (r *reader) value(path string, key, value *yaml.Node) {
	at := slices.IndexFunc(rows, func(row row) bool { return row.key == path })
	isSection := slices.ContainsFunc(rows, func(row row) bool { return strings.HasPrefix(row.key, path+".") })
	switch {
	case isSection && value.Kind == yaml.MappingNode:
		r.section(path+".", value)
	case isSection:
		r.report(value.Line, path, &complaint{"is not a section", "indent below it " + keysOf(path+".")})
	case at < 0:
		prefix := path[:strings.LastIndex(path, ".")+1]
		r.report(key.Line, path, &complaint{"unknown key", "remove it or write one of " + keysOf(prefix)})
	case value.Kind == yaml.AliasNode || value.Anchor != "":
		r.report(value.Line, path, &complaint{"anchors and aliases are not allowed", "write the value itself"})
	default:
		if wrong := rows[at].read(&r.site, value); wrong != nil {
			r.report(value.Line, path, wrong)
		}
	}
}

// together checks what no value can be blamed for alone.
func (r *reader) together(root *yaml.Node) {
	exporter := r.site.NodeExporter
	if exporter.CheckTimeout > exporter.CheckInterval {
		r.report(lineOf(root, "node_exporter", "check_timeout"), "node_exporter.check_timeout",
			&complaint{fmt.Sprintf("%s is longer than check_interval, %s", exporter.CheckTimeout, exporter.CheckInterval), "write at most " + exporter.CheckInterval.String()})
	}
	listeners := map[string]string{}
	for _, listener := range [][2]string{{"http", r.site.Consul.HTTP}, {"dns", r.site.Consul.DNS}} {
		if other, taken := listeners[listener[1]]; taken && listener[1] != "" {
			r.report(lineOf(root, "consul", listener[0]), "consul."+listener[0], &complaint{listener[1] + " is consul." + other + " already", "write another port"})
		}
		listeners[listener[1]] = listener[0]
	}
	if exporter.Listen == r.site.Consul.HTTP {
		r.report(lineOf(root, "node_exporter", "listen"), "node_exporter.listen", &complaint{exporter.Listen + " is consul.http already", "write another port"})
	}
}

// lineOf returns the line of the key at path, which is there.
func lineOf(node *yaml.Node, path ...string) int {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == path[0] {
			if len(path) == 1 {
				return node.Content[i].Line
			}
			return lineOf(node.Content[i+1], path[1:]...)
		}
	}
	return node.Line
}

// keysOf names the keys directly below prefix.
func keysOf(prefix string) string {
	var names []string
	for _, row := range rows {
		rest, here := strings.CutPrefix(row.key, prefix)
		name, _, _ := strings.Cut(rest, ".")
		if here && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
