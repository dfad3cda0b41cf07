// Package hsmtest makes throwaway SoftHSM2 tokens for tests.
//
// SoftHSM2 reads its configuration once, at C_Initialize, and a process has one
// C_Initialize. So all tokens of a test process that live at the same time share
// one directory and differ by label. A token that this process initialises is
// seen at once; only tokens made by other processes need Finalize and
// Initialize. When the last test that holds a token ends, the module is
// finalised and the directory removed, and the next test begins with a new one.
// Tests may run in parallel.
package hsmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/hsm"
)

// The PINs of every test token.
const (
	SOPIN = "security officer"
	PIN   = "correct horse"
)

var shared struct {
	sync.Mutex
	users    int
	made     int
	dir      string
	previous string
	had      bool
}

// Token is a throwaway token. The embedded *hsm.Token is open.
type Token struct {
	*hsm.Token
	Config hsm.Config
	dir    string // the shared SoftHSM2 directory
}

// New makes a token, opens it and leaves it locked. It is closed and removed
// when the test ends. A missing SoftHSM2 fails the test: it is a requirement.
func New(t testing.TB) *Token {
	t.Helper()
	return NewTraced(t, nil)
}

// NewTraced is New with a recorder of all that crosses the PKCS#11 boundary.
func NewTraced(t testing.TB, trace hsm.TraceFunc) *Token {
	t.Helper()
	dir, n := hold(t)
	cfg := hsm.Config{TokenLabel: fmt.Sprintf("test token %d", n), Trace: trace}
	if _, err := hsm.InitToken(cfg, hsm.PIN(SOPIN), hsm.PIN(PIN)); err != nil {
		t.Fatalf("hsmtest: is softhsm2 installed? %v", err)
	}
	tok := &Token{Config: cfg, dir: dir}
	tok.open(t)
	t.Cleanup(func() { tok.Token.Close() }) // before the directory goes
	return tok
}

// NewUnlocked is New followed by Unlock.
func NewUnlocked(t testing.TB) *Token {
	t.Helper()
	tok := New(t)
	tok.MustUnlock(t)
	return tok
}

// MustUnlock unlocks the token with the test PIN.
func (k *Token) MustUnlock(t testing.TB) {
	t.Helper()
	if err := k.Unlock(hsm.PIN(PIN)); err != nil {
		t.Fatalf("hsmtest: %v", err)
	}
}

// Reopen closes the token and opens it again, as a restart of a device would.
// It comes back locked.
func (k *Token) Reopen(t testing.TB) {
	t.Helper()
	if err := k.Token.Close(); err != nil {
		t.Fatalf("hsmtest: close: %v", err)
	}
	k.open(t)
}

func (k *Token) open(t testing.TB) {
	t.Helper()
	var err error
	if k.Token, err = hsm.Open(k.Config); err != nil {
		t.Fatalf("hsmtest: open: %v", err)
	}
}

// Dir is where SoftHSM2 keeps the files of this token.
func (k *Token) Dir(t testing.TB) string {
	t.Helper()
	// The directory is named by a UUID, whose last 16 hex digits are the serial.
	dirs, err := filepath.Glob(filepath.Join(k.dir, "tokens", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if strings.HasSuffix(strings.ReplaceAll(filepath.Base(d), "-", ""), k.Serial()) {
			return d
		}
	}
	t.Fatalf("hsmtest: no directory for token %s among %q", k.Serial(), dirs)
	return ""
}

// Delete removes the token's files under its feet, as a thief or a broken disk
// would.
func (k *Token) Delete(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(k.Dir(t)); err != nil {
		t.Fatal(err)
	}
}

// hold counts one more user of the shared directory and makes it if need be.
func hold(t testing.TB) (dir string, n int) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.users == 0 {
		d, err := os.MkdirTemp("", "hsmtest-")
		if err != nil {
			t.Fatal(err)
		}
		shared.previous, shared.had = os.LookupEnv("SOFTHSM2_CONF")
		if err := hsm.UseSoftHSM(d); err != nil {
			t.Fatal(err)
		}
		shared.dir = d
	}
	shared.users++
	shared.made++
	t.Cleanup(release)
	return shared.dir, shared.made
}

func release() {
	shared.Lock()
	defer shared.Unlock()
	shared.users--
	if shared.users > 0 {
		return
	}
	os.RemoveAll(shared.dir)
	if shared.had {
		os.Setenv("SOFTHSM2_CONF", shared.previous)
	} else {
		os.Unsetenv("SOFTHSM2_CONF")
	}
}
