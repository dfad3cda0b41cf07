package vpcd_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
)

// TestPivGo runs the test suite of piv-go, which its authors run on real
// YubiKeys, unmodified against a virtual card of each profile. What must fail
// is written in testdata with its reason; any other failure fails this test,
// and so does an expected one that passes.
func TestPivGo(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many RSA keys")
	}
	src := moduleDir(t, "github.com/go-piv/piv-go/v2")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	// The suite is compiled once, in a copy: the module cache is read-only.
	bin := filepath.Join(dir, "piv.test")
	build := exec.Command("go", "test", "-c", "-mod=mod", "-o", bin, "./piv")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building piv-go's tests: %v\n%s", err, out)
	}
	for i, p := range []virtual.Profile{virtual.Profile54(), virtual.Profile57()} {
		t.Run(p.Name, func(t *testing.T) {
			expected := expectedFailures(t, p.Name)
			// A daemon of its own: the suite takes the first reader with
			// "YubiKey" in its name.
			d, err := vpcd.Config{Dir: t.TempDir(), Readers: 1, Name: "Virtual YubiKey"}.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			slot := virtual.NewSlot(newCard(t, p, uint32(2000+i), virtual.Config{}))
			go vpcd.Serve(t.Context(), d.Addr(0), slot)

			cmd := exec.Command("go", "tool", "test2json", bin, "-test.v", "-wipe-yubikey")
			cmd.Dir = filepath.Join(dir, "piv")
			cmd.Env = append(os.Environ(), "GODEBUG=rsa1024min=0", "PCSCLITE_CSOCK_NAME="+d.Socket)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			waitForCard(t, d.Socket, d.Readers[0])
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			results := make(map[string]string)
			output := make(map[string]string)
			for s := bufio.NewScanner(out); s.Scan(); {
				var e struct{ Action, Test, Output string }
				if err := json.Unmarshal(s.Bytes(), &e); err != nil || e.Test == "" {
					continue
				}
				switch e.Action {
				case "pass", "fail", "skip":
					results[e.Test] = e.Action
				case "output":
					output[e.Test] += e.Output
				}
			}
			cmd.Wait() // fails because of the expected failures; judged below
			judge(t, results, output, expected)
		})
	}
}

// minPivGoTests guards against a suite that ran nothing.
const minPivGoTests = 100

func judge(t *testing.T, results, output, expected map[string]string) {
	passed := 0
	for name, result := range results {
		if _, ok := expected[name]; result == "fail" && !ok {
			t.Errorf("%s failed:\n%s", name, output[name])
		}
		if result == "skip" && strings.Contains(output[name], "yubikey") && !strings.Contains(output[name], "requires yubikey version") {
			t.Errorf("%s did not find the card:\n%s", name, output[name])
		}
		if result == "pass" {
			passed++
		}
	}
	for name, reason := range expected {
		if results[name] != "fail" {
			t.Errorf("%s: %q, but is expected to fail because %s: take it off the list", name, results[name], reason)
		}
	}
	t.Logf("%d passed, %d expected failures, %d in all", passed, len(expected), len(results))
	if passed < minPivGoTests {
		t.Errorf("only %d of piv-go's tests passed; there are at least %d", passed, minPivGoTests)
	}
}

// expectedFailures reads testdata/piv-go-PROFILE.txt: a test and a reason a line.
func expectedFailures(t *testing.T, profile string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "piv-go-"+profile+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("expected failure %q has no reason", name)
		}
		m[name] = strings.TrimSpace(reason)
	}
	return m
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("finding %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}
