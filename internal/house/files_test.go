package house

import (
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const longest = 400

// long lists the files that may be longer, and why.
var long = map[string]string{
	"fsm/loop.go": "the one loop, from New to publish, is read from top to bottom",
}

func TestFilesAreShort(t *testing.T) {
	over := map[string]int{}
	for _, file := range sources(t) {
		if file.lines > longest {
			over[file.path] = file.lines
		}
	}
	for _, name := range slices.Sorted(maps.Keys(over)) {
		if long[name] == "" {
			t.Errorf("%s has %d lines: split it below %d, or give the reason in the table of this test", name, over[name], longest)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(long)) {
		if over[name] == 0 {
			t.Errorf("%s is not longer than %d lines any more: take it out of the table", name, longest)
		}
	}
}

var (
	owns    = regexp.MustCompile(`\bowns?\b`)
	imports = regexp.MustCompile(`\b(must import|must never import|never imports?|imports no|must never be imported)\b`)
)

// Every package says what it owns and what it must never import.
func TestEveryPackageIsDocumented(t *testing.T) {
	type room struct{ name, doc string }
	rooms := map[string]room{}
	for _, file := range sources(t) {
		each := rooms[file.folder]
		if !file.test {
			each.name = file.syntax.Name.Name
			if file.syntax.Doc != nil {
				each.doc += file.syntax.Doc.Text() + "\n"
			}
		}
		rooms[file.folder] = each
	}
	for _, folder := range slices.Sorted(maps.Keys(rooms)) {
		doc := strings.Join(strings.Fields(rooms[folder].doc), " ")
		opening := "Package " + rooms[folder].name + " "
		if rooms[folder].name == "main" {
			opening = "Command " + path.Base(folder) + " "
		}
		switch {
		case rooms[folder].name == "":
			t.Errorf("%s has only tests: add a doc.go that says what they own", folder)
		case !strings.HasPrefix(doc, opening):
			t.Errorf("%s: its doc must begin with %q, and begins with %.60q", folder, opening, doc)
		case !owns.MatchString(doc):
			t.Errorf("%s: its doc must say what it owns", folder)
		case !imports.MatchString(doc):
			t.Errorf("%s: its doc must say what it must import, or never", folder)
		}
	}
}

// real lists the test files that wait in real time, where nothing can be waited
// for, and why. Everywhere else a sleep is a bubble's (testing/synctest), which
// costs no time and cannot be too short.
var real = map[string]string{
	"internal/service/consulagent/lab_test.go":   "the catalogue of a real server is asked again until it agrees",
	"internal/service/consulagent/agent_test.go": "a check must stay as it is although Consul could ask by now",
}

// skipped lists the test files with a test that may be skipped, and why.
var skipped = map[string]string{
	"testdata/lab/e2e/systemd_test.go": "without systemd, root or namespaces: nothing else can say what a unit file does",
	"transitions/mutations_test.go":    "under -short alone: `make unit` makes the whole searches in a run without it",
}

// A test that sleeps is slow or flaky; one that is skipped is not there.
func TestNoTestSleepsOrIsSkipped(t *testing.T) {
	slept, skips := map[string]bool{}, map[string]bool{}
	for _, file := range sources(t) {
		if !file.test {
			continue
		}
		bubble := slices.Contains(file.imports, "testing/synctest")
		ast.Inspect(file.syntax, func(node ast.Node) bool {
			call, is := node.(*ast.SelectorExpr)
			if !is {
				return true
			}
			of, _ := call.X.(*ast.Ident)
			switch {
			case of == nil:
			case of.Name == "time" && call.Sel.Name == "Sleep" && !bubble:
				slept[file.path] = true
				if real[file.path] == "" {
					t.Errorf("%s: time.Sleep outside of a bubble: wait for the event, or use testing/synctest", file.at(call))
				}
			case slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) && slices.Contains([]string{"t", "b", "f", "tb"}, of.Name):
				skips[file.path] = true
				if skipped[file.path] == "" {
					t.Errorf("%s: %s.%s: a test that is skipped is no test", file.at(call), of.Name, call.Sel.Name)
				}
			}
			return true
		})
		// A constrained file may hold a constant, as for the race detector, but no test.
		tests := slices.ContainsFunc(file.syntax.Decls, func(declared ast.Decl) bool {
			function, is := declared.(*ast.FuncDecl)
			return is && aTest.MatchString(function.Name.Name)
		})
		for _, group := range file.syntax.Comments {
			for _, comment := range group.List {
				if strings.HasPrefix(comment.Text, "//go:build") && tests {
					t.Errorf("%s: %s: a test behind a build constraint is one that is skipped", file.at(comment), comment.Text)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(real)) {
		if !slept[name] {
			t.Errorf("%s does not sleep any more: take it out of the table", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(skipped)) {
		if !skips[name] {
			t.Errorf("%s skips nothing any more: take it out of the table", name)
		}
	}
}

var aTest = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)`)
