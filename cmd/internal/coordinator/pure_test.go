package coordinator_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// impure are imports by which a state machine would read a clock, wait, or speak to
// anybody.
var impure = []string{"context", "net", "net/http", "os", "runtime", "sync", "time"}

// TestPure: the state machines of message servers, this one and the desks', start no
// goroutines and do no input or output: they are functions of what they are told. So
// scripts/test may leave the race detector out for them.
func TestPure(t *testing.T) {
	files := 0
	for _, pattern := range []string{"*.go", "../tolerant/*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			src, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range impurities(src) {
				t.Errorf("%s: %s", name, fault)
			}
		}
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
	src, err := parser.ParseFile(token.NewFileSet(), "", `package p; import "time"; func f() { go time.Now() }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := impurities(src); len(got) != 2 {
		t.Errorf("it finds %q", got)
	}
}

func impurities(src *ast.File) (out []string) {
	for _, i := range src.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		for _, p := range impure {
			if path == p {
				out = append(out, "imports "+path)
			}
		}
	}
	ast.Inspect(src, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			out = append(out, "starts a goroutine")
		}
		return true
	})
	return out
}
