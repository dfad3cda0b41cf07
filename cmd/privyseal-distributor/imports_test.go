package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the distributor to what it may be made of: a card reader and
// a medium, and no network of ours.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	own := []string{"cmd/privyseal-distributor", "cmd/internal/medium", "cmd/internal/planfile", "cmd/internal/command", "cmd/internal/term", "cmd/internal/term/cardpin", "card",
		"cmd/internal/api", // what a page of the ledger is; formats alone
	}
	modules := []string{ // all that is not ours
		"github.com/spf13/cobra", "github.com/spf13/pflag", // the command line
		"github.com/go-piv/piv-go/v2", "github.com/ebfe/scard", // cards
		"github.com/fxamacker/cbor/v2", "github.com/x448/float16", "github.com/veraison/go-cose", // messages
		"go.yaml.in/yaml/v3", // the plan
		"golang.org/x/",
	}
	for _, p := range strings.Fields(string(out)) {
		switch first, _, _ := strings.Cut(p, "/"); {
		case p == "net/http":
			t.Error("the distributor links net/http")
		case !strings.Contains(first, "."): // the standard library
		case strings.HasPrefix(p, "github.com/privyseal/privyseal/"):
			rel := strings.TrimPrefix(p, "github.com/privyseal/privyseal/")
			if !slices.Contains(own, rel) && !strings.HasPrefix(rel, "firmware") {
				t.Errorf("the distributor links %s", rel)
			}
		case !slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(p, m) }):
			t.Errorf("the distributor links %s", p)
		}
	}
}

// TestWritesToTheMediumAlone holds the sources of the program, and of the
// packages of ours that could write for it, to one way of writing: through an
// os.Root on the medium. What opens a file is /dev/tty, and what reads.
func TestWritesToTheMediumAlone(t *testing.T) {
	writes := []string{"Create", "CreateTemp", "MkdirTemp", "MkdirAll", "WriteFile", "Rename", "Link", "Symlink", "OpenFile", "Open", "Mkdir", "Truncate", "NewFile", "CopyFS"}
	known := map[string]int{
		"cards.go: os.OpenFile": 1, // /dev/tty
		"medium.go: os.Mkdir":   1, // the medium's own directory
	}
	found := map[string]int{}
	for _, dir := range []string{".", "../internal/medium", "../internal/api", "../internal/command", "../internal/term", "../internal/term/cardpin", "../../card"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(src, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if p, ok := s.X.(*ast.Ident); ok && (p.Name == "os" || p.Name == "ioutil" || p.Name == "syscall" || p.Name == "unix") {
						if what := filepath.Base(name) + ": " + p.Name + "." + s.Sel.Name; known[what] > 0 {
							found[what]++
						} else if slices.Contains(writes, s.Sel.Name) {
							t.Errorf("%s may write outside the medium", what)
						}
					}
				}
				return true
			})
		}
	}
	for what, n := range known {
		if found[what] != n {
			t.Errorf("%s is there %d times, not %d", what, found[what], n)
		}
	}
}
