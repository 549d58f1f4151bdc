package house

import (
	"encoding"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pawl/internal/status"
	"pawl/transitions"
)

var update = flag.Bool("update", false, "write the goldens and README.md's generated block anew")

const fix = "if that is meant, run `go test ./internal/house -update` and look at the difference"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatalf("%v; %s", err, fix)
	}
	return string(text)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// golden compares text with a file of testdata/, line by line.
func golden(t *testing.T, name, text string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		write(t, name, text)
		return
	}
	want := strings.Split(read(t, name), "\n")
	got := strings.Split(text, "\n")
	for i := range max(len(got), len(want)) {
		was, is := "", ""
		if i < len(want) {
			was = want[i]
		}
		if i < len(got) {
			is = got[i]
		}
		if was != is {
			t.Fatalf("%s:%d is %q, and should be %q; %s", name, i+1, was, is, fix)
		}
	}
}

// The marks between which README.md is generated.
const graphBegins, graphEnds = "<!-- generated: graph -->\n", "<!-- end -->"

func TestReadmeShowsTheArrowTable(t *testing.T) {
	const name = "README.md"
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), graphBegins)
	was, after, ends := strings.Cut(rest, graphEnds)
	if !begins || !ends {
		t.Fatalf("%s has no block between %q and %q: put the two marks where the diagram belongs and run `go test ./internal/house -update`", name, graphBegins, graphEnds)
	}
	want := "```mermaid\n" + transitions.Mermaid(transitions.Arrows()) + "```\n"
	if *update {
		write(t, name, before+graphBegins+want+graphEnds+after)
		return
	}
	if strings.TrimSpace(was) != strings.TrimSpace(want) {
		t.Errorf("the diagram in %s is not the arrow table; run `go test ./internal/house -update`; it says\n%s\nand should say\n%s", name, was, want)
	}
}

func TestMatrix(t *testing.T) {
	golden(t, "matrix.txt", transitions.Matrix(transitions.Arrows()))
}

// Programs read the dump: a field that goes or changes its name breaks them.
func TestDumpFields(t *testing.T) {
	var list []string
	fields(&list, "", reflect.TypeFor[status.Report]())
	seen := map[string]bool{}
	for _, line := range list {
		name, _, _ := strings.Cut(line, " ")
		if seen[name] {
			t.Errorf("two fields are called %s: encoding/json writes neither", name)
		}
		seen[name] = true
	}
	golden(t, "dump-fields.txt", strings.Join(list, "\n")+"\n")
}

// fields lists the JSON fields of a type as "name kind", in the order in which they are written.
func fields(list *[]string, name string, of reflect.Type) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of == reflect.TypeFor[time.Time]():
		*list = append(*list, name+" time")
	case of.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		*list = append(*list, name+" word")
	case of.Kind() == reflect.Slice:
		fields(list, name+"[]", of.Elem())
	case of.Kind() == reflect.Map:
		fields(list, name+"{}", of.Elem())
	case of.Kind() != reflect.Struct:
		*list = append(*list, fmt.Sprintf("%s %s", name, of.Kind()))
	default:
		for field := range of.Fields() {
			tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case field.Anonymous && tag == "":
				fields(list, name, field.Type)
				continue
			case !field.IsExported() || tag == "-":
				continue
			case tag == "":
				tag = field.Name
			}
			if name != "" {
				tag = name + "." + tag
			}
			if strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") {
				tag += "?"
			}
			fields(list, tag, field.Type)
		}
	}
}
