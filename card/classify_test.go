package card

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebfe/scard"
	"github.com/go-piv/piv-go/v2/piv"
)

// noServiceVar tells the test binary not to start a daemon: libpcsclite talks
// to one daemon in the life of a process.
const noServiceVar = "CARD_TEST_NO_SERVICE"

func TestNoService(t *testing.T) {
	if os.Getenv(noServiceVar) != "" {
		for name, err := range map[string]error{
			"list": func() error { _, err := List(t.Context()); return err }(),
			"open": func() error { _, err := Open(t.Context(), 1, Options{}); return err }(),
			"piv":  func() error { _, err := piv.Open("x"); return classify(err) }(),
		} {
			if !errors.Is(err, ErrNoService) {
				t.Errorf("%s: %v", name, err)
			}
			var h interface{ Hint() string }
			if !errors.As(err, &h) || h.Hint() != "start pcscd" {
				t.Errorf("%s: no hint in %v", name, err)
			}
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoService$", "-test.v")
	cmd.Env = append(os.Environ(), noServiceVar+"=1", "PCSCLITE_CSOCK_NAME="+filepath.Join(t.TempDir(), "none"))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestNoService") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTextsOfPivGo: the texts by which piv-go's errors are told apart are those
// of the version in use.
func TestTextsOfPivGo(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/go-piv/piv-go/v2/piv").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(dir))
	table, err := os.ReadFile(filepath.Join(root, "pcsc_errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(root, "pcsc_unix.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range pcscFaults {
		if f.code == noCode {
			if !strings.Contains(string(code), f.text) {
				t.Errorf("piv-go does not say %q", f.text)
			}
			continue
		}
		if line := fmt.Sprintf("0x%08X: %q", uint32(f.code), f.text); !strings.Contains(string(table), line) &&
			!strings.Contains(string(table), strings.TrimSuffix(line, `"`)) {
			t.Errorf("piv-go has no %s", line)
		}
		for _, err := range []error{f.code, fmt.Errorf("connecting: %w", f.code), errors.New("connecting to smart card: " + f.text)} {
			if got := classify(err); !errors.Is(got, f.is) || !errors.Is(got, err) {
				t.Errorf("%v is classified as %v", err, got)
			}
		}
	}
}

func TestClassifyLeavesOthers(t *testing.T) {
	for _, err := range []error{nil, errors.New("another"), swError(0x6982), scard.ErrCancelled, fmt.Errorf("x: %w", ErrInUse)} {
		if got := classify(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
