package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/command/commandtest"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/hsm"
)

func newDevice(t testing.TB) (string, *config) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d1")
	c := &config{ID: "d1", Serial: "0001", Model: "lab", Link: "unix:" + filepath.Join(dir, "link")}
	if _, err := initialise(dir, c); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func TestInitOverwritesNothing(t *testing.T) {
	dir, c := newDevice(t)
	before, err := os.ReadFile(filepath.Join(dir, fileIdentity))
	if err != nil {
		t.Fatal(err)
	}
	again := *c
	if _, err := initialise(dir, &again); err == nil || !strings.Contains(err.Error(), "holds a device already") {
		t.Fatalf("got %v", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, fileIdentity))
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the identity changed: %v", err)
	}
}

func TestInitInterrupted(t *testing.T) {
	dir := t.TempDir()
	if err := atomicfile.Create(filepath.Join(dir, filePIN), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &config{ID: "d1", Serial: "0001", Model: "lab", Link: "unix:x"}
	if _, err := initialise(dir, c); err == nil {
		t.Fatal("init went on over the rest of another")
	}
	if _, _, err := load(dir); err == nil {
		t.Fatal("half a device is taken for one")
	}
}

func TestStartFresh(t *testing.T) {
	dir, _ := newDevice(t)
	d, err := start(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	if got := d.machine.Phase(); got != "fresh" {
		t.Errorf("phase %q", got)
	}
	if d.token.Locked() {
		t.Error("a fresh device needs its token for the ceremony")
	}
}

func TestStartWithoutPIN(t *testing.T) {
	dir, _ := newDevice(t)
	if err := os.Remove(filepath.Join(dir, filePIN)); err != nil {
		t.Fatal(err)
	}
	if _, err := start(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "never commissioned") {
		t.Fatalf("got %v", err)
	}
}

func TestStartWithoutToken(t *testing.T) {
	dir, _ := newDevice(t)
	if err := os.RemoveAll(filepath.Join(dir, "tokens")); err != nil {
		t.Fatal(err)
	}
	if _, err := start(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, hsm.ErrTokenNotFound) {
		t.Fatalf("got %v, want hsm.ErrTokenNotFound", err)
	}
}

// TestSetPINAgain interrupts the change of the PIN after each of its steps:
// the next start ends with the new PIN in the token and no file.
func TestSetPINAgain(t *testing.T) {
	next := []byte("the officers hold this one in pieces")
	for _, done := range []string{"nothing", "pin"} {
		t.Run(done, func(t *testing.T) {
			dir, _ := newDevice(t)
			d, err := start(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer d.stop()
			old, err := os.ReadFile(filepath.Join(dir, filePIN))
			if err != nil {
				t.Fatal(err)
			}
			if done == "pin" {
				if err := d.token.SetPIN(hsm.PIN(old), hsm.PIN(next)); err != nil {
					t.Fatal(err)
				}
				old = next
			}
			if err := d.setPIN(old, next); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, filePIN)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the transport PIN is still there: %v", err)
			}
			if err := d.token.Lock(); err != nil {
				t.Fatal(err)
			}
			if err := d.token.Unlock(next); err != nil {
				t.Errorf("the new PIN does not open: %v", err)
			}
		})
	}
}

// do runs a command in this process.
func do(t *testing.T, typed string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = command.Run(t.Context(), command.Streams{In: strings.NewReader(typed), Out: &o, Err: &e}, args, func(command.Streams) *cobra.Command { return newCommand() })
	return code, o.String(), e.String()
}

func TestResetAsks(t *testing.T) {
	dir, _ := newDevice(t)
	for _, typed := range []string{"yes\n", "d1\n"} {
		gone := typed == "d1\n"
		code, _, errs := do(t, typed, "reset", "--dir", dir)
		_, there := os.Stat(filepath.Join(dir, fileConfig))
		if (code == command.ExitOK) != gone || errors.Is(there, os.ErrNotExist) != gone {
			t.Errorf("typed %q: exit %d, gone %v\n%s", typed, code, errors.Is(there, os.ErrNotExist), errs)
		}
	}
}

// Ctrl-C at the question destroys nothing.
func TestResetInterrupted(t *testing.T) {
	dir, _ := newDevice(t)
	before := names(t, dir)
	c := exec.CommandContext(t.Context(), os.Args[0], "reset", "--dir", dir)
	c.Env = append(os.Environ(), envProgram+"=1")
	code, screen := commandtest.CtrlC(t, c, `type "d1" to go on: `)
	if code != command.ExitFailed || !strings.HasSuffix(screen, "\nerror: interrupted\n") {
		t.Errorf("exit %d\n%s", code, screen)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("it was\n%q\nand is\n%q", before, after)
	}
}

// names are those of all files below a directory.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		out = append(out, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// What could never run is refused before anything is made.
func TestInitChecksFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d1")
	for _, x := range []struct {
		want string
		args []string
	}{
		{`"bogus" is neither unix:PATH nor tls:HOST:PORT` + "\nhint: write it as", []string{"--link", "bogus"}},
		{"the path of a socket has at most 107 octets", []string{"--link", "unix:/" + strings.Repeat("x", 107)}},
		{"missing port", []string{"--link", "tls:host"}},
		{"needs the pin", []string{"--link", "tls:host:1"}},
		{"--pin: ", []string{"--link", "tls:host:1", "--pin", "x"}},
	} {
		code, out, errs := do(t, "", append([]string{"init", "--dir", dir, "--id", "d1", "--serial", "1", "--model", "lab"}, x.args...)...)
		if code != command.ExitUsage || !strings.Contains(errs, x.want) || !strings.Contains(errs, "\nhint: ") || out != "" {
			t.Errorf("%q: exit %d\n%s%s", x.args, code, out, errs)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestMisuse(t *testing.T) {
	for want, args := range map[string][]string{
		"hint: see: privyseal-device --help":      {"intt"},
		"hint: see: privyseal-device run --help":  {"run"},
		"hint: see: privyseal-device init --help": {"init", "--dri", "x"},
		"hint: usage: privyseal-device reset":     {"reset", "x", "--dir", "d"},
	} {
		if code, _, errs := do(t, "", args...); code != command.ExitUsage || !strings.Contains(errs, want) {
			t.Errorf("%q: exit %d\n%s", args, code, errs)
		}
	}
	if code, out, _ := do(t, "", "--version"); code != command.ExitOK || !strings.HasPrefix(out, "privyseal-device version ") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
