package firmware_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a device runs does no input or output: time, entropy, token and records
// are arguments, effects are values (design §2). This test holds every package
// under firmware to a list of imports, as Go's own crypto/internal/fips140deps
// does, and to a few rules that imports alone cannot hold. Packages for tests
// and files named _test.go may do what they like.

const module = "github.com/privyseal/privyseal/"

// allowed are the imports that firmware may have, besides itself.
var allowed = []string{
	// Languages and containers.
	"bytes", "cmp", "encoding/base32", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json", "encoding/pem", "errors", "fmt",
	"io", "maps", "math", "math/big", "math/bits", "net/netip", "slices", "strconv", "strings", "sync", "time", "unicode",
	"unicode/utf8", "hash", "log/slog", "reflect",
	// Cryptography. Not crypto/rand: randomness is an argument.
	"crypto", "crypto/aes", "crypto/cipher", "crypto/ecdh", "crypto/ecdsa", "crypto/elliptic", "crypto/ed25519", "crypto/hpke", "crypto/rsa",
	"crypto/sha256", "crypto/sha3", "crypto/sha512", "crypto/subtle", "crypto/x509", "encoding/asn1",
	"golang.org/x/crypto/cryptobyte", "golang.org/x/crypto/cryptobyte/asn1",
	// Formats, by libraries that do no input or output themselves.
	"github.com/fxamacker/cbor/v2", "github.com/veraison/go-cose",
}

// only are imports that some packages need and no other may have.
var only = map[string][]string{
	// libcrypto; the last is a yardstick for benchmarks.
	"C":       {"firmware/threshold/modexp", "firmware/threshold/prime", "firmware/threshold/internal/baseline"},
	"unsafe":  {"firmware/threshold/modexp", "firmware/threshold/prime", "firmware/threshold/internal/baseline"},
	"runtime": {"firmware/threshold/modexp"},
	// The distributor seals what a device opens. A device does not deal.
	module + "firmware": {"firmware/dealing"},
}

// forbidden are functions of allowed packages that read the clock, or wait for
// it, or read or set what belongs to the whole process.
var forbidden = map[string][]string{
	"time":        {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "LoadLocation", "Local"},
	"fmt":         {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"log/slog":    {"Default", "SetDefault", "Info", "Warn", "Error", "Debug", "Log", "New"},
	"crypto/x509": {"SystemCertPool"},
}

func TestImports(t *testing.T) {
	files := 0
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "testdata" || isTest("firmware/"+filepath.ToSlash(name)) {
				return filepath.SkipDir // for tests only; no firmware imports it, see below
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		src, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Join("firmware", filepath.Dir(name)))
		for _, fault := range faults(pkg, src, used) {
			t.Errorf("firmware/%s: %s", name, fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 80 {
		t.Errorf("only %d files were looked at", files)
	}
	for _, p := range allowed {
		if !used[p] {
			t.Errorf("%s is allowed and nobody needs it: take it off the list", p)
		}
	}
}

// isTest reports whether a package is one for tests: ledger/ledgertest and so
// on.
func isTest(pkg string) bool {
	parent, name := path.Split(pkg)
	return name == path.Base(parent)+"test"
}

// faults lists what a file does that firmware may not do.
func faults(pkg string, src *ast.File, used map[string]bool) []string {
	var out []string
	names := map[string]string{} // local name -> path
	for _, i := range src.Imports {
		imported, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return append(out, err.Error())
		}
		used[imported] = true
		name := path.Base(strings.TrimSuffix(imported, "/v2"))
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = imported
		rest, inside := strings.CutPrefix(imported, module+"firmware/")
		switch where, special := only[imported]; {
		case special && !slices.Contains(where, pkg):
			out = append(out, fmt.Sprintf("imports %s, which is for %v only", imported, where))
		case special, slices.Contains(allowed, imported) && name != "." && (name != "_" || strings.HasPrefix(imported, "crypto/")):
		case inside && !isTest("firmware/"+rest):
		default:
			out = append(out, fmt.Sprintf("imports %s (as %q), which is not on the list", imported, name))
		}
	}
	for _, d := range src.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			out = append(out, "has a func init: nothing happens before it is asked for")
		}
	}
	ast.Inspect(src, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, "starts a goroutine: logic is a function")
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
				out = append(out, "calls "+id.Name)
			}
		case *ast.SelectorExpr:
			id, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			if p := names[id.Name]; slices.Contains(forbidden[p], n.Sel.Name) {
				out = append(out, fmt.Sprintf("uses %s.%s: time and the process's state are arguments", p, n.Sel.Name))
			}
		}
		return true
	})
	return out
}

// TestImportsCanFail: the rules find what they are for.
func TestImportsCanFail(t *testing.T) {
	for what, src := range map[string]string{
		"net":            `package p; import "net"; var _ net.Conn`,
		"os":             `package p; import "os"; var _ = os.Args`,
		"crypto/rand":    `package p; import "crypto/rand"; var _ = rand.Reader`,
		"math/rand":      `package p; import "math/rand/v2"; var _ = rand.Int()`,
		"a command":      `package p; import "` + module + `cmd/internal/desk"; var _ desk.Card`,
		"hsm":            `package p; import "` + module + `hsm"; var _ hsm.Token`,
		"a test package": `package p; import "` + module + `firmware/firmwaretest"; var _ firmwaretest.Card`,
		"the clock":      `package p; import "time"; var _ = time.Now()`,
		"renamed clock":  `package p; import clock "time"; var _ = clock.Now`,
		"dot import":     `package p; import . "time"; var _ = Now()`,
		"a timer":        `package p; import "time"; var _ = time.After(1)`,
		"printing":       `package p; import "fmt"; func f() { fmt.Println() }`,
		"println":        `package p; func f() { println() }`,
		"a goroutine":    `package p; func f() { go f() }`,
		"init":           `package p; func init() {}`,
		"cgo":            `package p; import "C"`,
		"linkname":       `package p; import _ "unsafe"`,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(faults("firmware/p", f, map[string]bool{})) == 0 {
			t.Errorf("%s is not noticed", what)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", `package p; import ("time"; "errors"); var _ time.Duration; func (x) init() { errors.New("") }; type x int`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if bad := faults("firmware/p", f, map[string]bool{}); len(bad) > 0 {
		t.Errorf("a good file: %v", bad)
	}
}
