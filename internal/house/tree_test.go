package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the top of the checkout.
const root = "../.."

// source is one Go file of the checkout, the lab's module included.
type source struct {
	path, folder string // from the top, with slashes
	test         bool
	lines        int
	syntax       *ast.File
	files        *token.FileSet
	imports      []string
}

// at says where a node is, as a compiler would.
func (s source) at(node ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.files.Position(node.Pos()).Line)
}

// sources parses every Go file, once.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parseTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 80 {
		t.Fatalf("only %d Go files found from %s: the walk went wrong", len(all), root)
	}
	return all
}

var parseTree = sync.OnceValues(func() (all []source, err error) {
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() != ".." && strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin" {
				return filepath.SkipDir // .git, and what make builds
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file := source{path: filepath.ToSlash(relative), files: token.NewFileSet()}
		file.folder, file.test = path.Dir(file.path), strings.HasSuffix(file.path, "_test.go")
		file.lines = bytes.Count(text, []byte("\n"))
		if file.syntax, err = parser.ParseFile(file.files, file.path, text, parser.ParseComments); err != nil {
			return err
		}
		for _, each := range file.syntax.Imports {
			imported, err := strconv.Unquote(each.Path.Value)
			if err != nil {
				return err
			}
			file.imports = append(file.imports, imported)
		}
		all = append(all, file)
		return nil
	})
	return all, err
})

// within reports whether a folder or an import is what a pattern names: itself,
// or, where the pattern ends in "/...", itself and everything below.
func within(name, pattern string) bool {
	below, is := strings.CutSuffix(pattern, "/...")
	return name == below || is && strings.HasPrefix(name, below+"/")
}

func withinAny(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return within(name, pattern) })
}

// module is our own module's path, and the first word of its imports.
const module = "pawl"

func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return first != module && !strings.Contains(first, ".")
}

func ours(imported string) bool { return within(imported, module+"/...") }
