package doccheck

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// tests lists the test functions of the tree as "package.TestName", where the
// package is named by its directory. Two directories of one name share theirs.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && runs(f.Name.Name) {
				found[filepath.Base(dir)+"."+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// runs reports whether "go test" runs a function of this name.
func runs(name string) bool {
	for _, prefix := range []string{"Test", "Fuzz"} {
		if strings.HasPrefix(name, prefix) && name != "TestMain" {
			return true
		}
	}
	return false
}

var reference = regexp.MustCompile("`([a-z0-9-]+\\.(?:Test|Fuzz|Benchmark|Example)[A-Za-z0-9_]*)`")

// missing returns the tests that a text names and the tree does not have.
func missing(text string, have map[string]bool) []string {
	var out []string
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		if !have[m[1]] {
			out = append(out, m[1])
		}
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestNamedTestsExist(t *testing.T) {
	have := tests(t)
	for _, name := range []string{"threat-model.md", "coverage.md"} {
		text := read(t, name)
		if len(reference.FindAllString(text, -1)) < 30 {
			t.Errorf("docs/%s names hardly any test: was the form of references changed?", name)
		}
		for _, m := range missing(text, have) {
			t.Errorf("docs/%s names %s, which is not in the tree", name, m)
		}
	}
	// A check that finds nothing has to show that it could.
	if got := missing("`hsm.TestSigner` and `hsm.TestNoSuchThing`", have); len(got) != 1 || got[0] != "hsm.TestNoSuchThing" {
		t.Errorf("the check itself finds %q", got)
	}
}

// TestCannotNamesItsTest: a row of a table of the threat model whose second
// column is headed "tried by" names a test there.
func TestCannotNamesItsTest(t *testing.T) {
	claims, inTable := 0, false
	for n, line := range strings.Split(read(t, "threat-model.md"), "\n") {
		switch {
		case strings.HasPrefix(line, "|") && strings.HasSuffix(line, "| tried by |"):
			if !strings.Contains(line, "cannot") {
				t.Errorf("line %d: the table does not say who cannot", n+1)
			}
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|-"):
			claims++
			cells := strings.Split(strings.Trim(line, "|"), "|")
			if len(cells) != 2 || !reference.MatchString(cells[1]) {
				t.Errorf("line %d: names no test: %s", n+1, line)
			}
		}
	}
	if claims < 30 {
		t.Errorf("only %d claims found: was the form of the tables changed?", claims)
	}
}

// rows are the requirements, by letter.
var rows = []struct {
	letter string
	last   int
}{{"A", 35}, {"B", 15}, {"C", 6}, {"P", 9}}

var row = regexp.MustCompile(`(?m)^\| ([A-Z][0-9]+) \| (yes|part|not yet) \|(.*)\|(.*)\|$`)

func TestEveryRequirementHasItsRow(t *testing.T) {
	want := map[string]bool{}
	for _, r := range rows {
		for i := range r.last {
			want[fmt.Sprintf("%s%d", r.letter, i+1)] = true
		}
	}
	seen := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(read(t, "coverage.md"), -1) {
		id, state, where, lacking := m[1], m[2], m[3], strings.TrimSpace(m[4])
		switch {
		case !want[id]:
			t.Errorf("%s is no requirement", id)
		case seen[id]:
			t.Errorf("%s has two rows", id)
		case state == "yes" && !reference.MatchString(where):
			t.Errorf("%s is said to be done, without a test", id)
		case state == "yes" && lacking != "":
			t.Errorf("%s is said to be done, and lacks: %s", id, lacking)
		case state != "yes" && lacking == "":
			t.Errorf("%s is not done, and does not say what is missing", id)
		}
		seen[id] = true
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("%s has no row, or one of another form", id)
		}
	}
}
