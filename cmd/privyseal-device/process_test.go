package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestResetAsks(t *testing.T) {
	dir, _ := newDevice(t)
	for _, typed := range []string{"yes\n", "d1\n"} {
		gone := typed == "d1\n"
		cmd := newReset()
		cmd.SetArgs([]string{"--dir", dir})
		cmd.SetIn(strings.NewReader(typed))
		cmd.SetErr(new(bytes.Buffer))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(context.Background())
		_, there := os.Stat(filepath.Join(dir, fileConfig))
		if (err == nil) != gone || errors.Is(there, os.ErrNotExist) != gone {
			t.Errorf("typed %q: %v, gone %v", typed, err, errors.Is(there, os.ErrNotExist))
		}
	}
}
