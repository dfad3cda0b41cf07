package medium_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestHostileLists: a list that somebody else wrote leads to no file outside the
// medium, to nothing that is no plain file, and to no end of files; and what a
// medium's names are links to is neither read nor written.
func TestHostileLists(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	outside := t.TempDir()
	secret := []byte("of this machine")
	check(os.WriteFile(filepath.Join(outside, "secret"), secret, 0o600))
	good := func() string {
		dir := filepath.Join(t.TempDir(), "medium")
		check(medium.WriteInvited(dir, &medium.Invited{Plan: []byte("plan"), Invitations: map[string][]byte{"device-1": {1}}}, nil))
		return dir
	}
	if x, err := medium.ReadInvited(good()); err != nil || string(x.Plan) != "plan" || len(x.Invitations) != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	list := func(dir string, lines ...string) {
		f, err := os.OpenFile(filepath.Join(dir, "INVITED.sha256"), os.O_APPEND|os.O_WRONLY, 0)
		check(err)
		for _, l := range lines {
			_, err = f.WriteString(l + "\n")
			check(err)
		}
		check(f.Close())
	}
	sum := func(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
	zero := sum(nil)
	for name, spoil := range map[string]func(dir string){
		"a name above":      func(dir string) { list(dir, sum(secret)+"  ../"+filepath.Base(outside)+"/secret") },
		"an absolute name":  func(dir string) { list(dir, sum(secret)+"  "+filepath.Join(outside, "secret")) },
		"a crooked name":    func(dir string) { list(dir, sum([]byte("plan"))+"  x/../plan.yaml") },
		"a name twice":      func(dir string) { list(dir, sum([]byte("plan"))+"  plan.yaml") },
		"no checksum":       func(dir string) { list(dir, "plan.yaml") },
		"a short checksum":  func(dir string) { list(dir, zero[:40]+"  plan.yaml") },
		"a file that is no": func(dir string) { list(dir, zero+"  invitations/nothing.invitation") },
		"no file of a medium": func(dir string) {
			check(os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o600))
			list(dir, zero+"  nothing")
		},
		"a link": func(dir string) {
			check(os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "invitations", "link.invitation")))
			list(dir, sum(secret)+"  invitations/link.invitation")
		},
		"a folder that is a link": func(dir string) {
			elsewhere, invitations := t.TempDir(), filepath.Join(dir, "invitations")
			check(os.CopyFS(elsewhere, os.DirFS(invitations)))
			check(os.RemoveAll(invitations))
			check(os.Symlink(elsewhere, invitations))
		},
		"a folder": func(dir string) {
			check(os.Mkdir(filepath.Join(dir, "invitations", "x.invitation"), 0o700))
			list(dir, zero+"  invitations/x.invitation")
		},
		"a pipe": func(dir string) {
			check(syscall.Mkfifo(filepath.Join(dir, "invitations", "pipe.invitation"), 0o600))
			list(dir, zero+"  invitations/pipe.invitation")
		},
		"too many files": func(dir string) {
			var lines []string
			for i := range 100 {
				name := fmt.Sprintf("invitations/%d.invitation", i)
				check(os.WriteFile(filepath.Join(dir, name), nil, 0o600))
				lines = append(lines, zero+"  "+name)
			}
			list(dir, lines...)
		},
		"a list without end": func(dir string) { list(dir, strings.Repeat("x", 1<<17)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := good()
			spoil(dir)
			done := make(chan error, 1)
			go func() { _, err := medium.ReadInvited(dir); done <- err }()
			select {
			case err := <-done:
				if err == nil {
					t.Error("was read")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("waits for ever")
			}
		})
	}

	// What is written does not follow links that lie there.
	dir := good()
	check(os.Symlink(outside, filepath.Join(dir, "shares")))
	err := medium.WriteDealt(dir, &medium.Dealt{Dealing: ledger.Dealing{}, Shares: map[string][]byte{"device-1": {1}}})
	var half *medium.HalfWrittenError
	if !errors.As(err, &half) {
		t.Errorf("written through a link: %v", err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
