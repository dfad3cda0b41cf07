package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func TestPIN(t *testing.T) {
	tok := hsmtest.New(t)
	var pe *hsm.PINError
	err := tok.Unlock(hsm.PIN("wrong PIN"))
	if !errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked) || !errors.As(err, &pe) {
		t.Fatalf("wrong PIN: %v", err)
	}
	if !pe.CountLow {
		t.Error("the error does not tell of the try that was lost")
	}
	if h, err := tok.Health(); err != nil || !h.PINCountLow || h.Unlocked {
		t.Errorf("health after a wrong PIN: %+v, %v", h, err)
	}
	for _, pin := range []string{"", "abc", strings.Repeat("x", 256)} {
		if err := tok.Unlock(hsm.PIN(pin)); !errors.Is(err, hsm.ErrPINInvalid) {
			t.Errorf("PIN of %d bytes: %v", len(pin), err)
		}
	}
	tok.MustUnlock(t)
	if h, err := tok.Health(); err != nil || h.PINCountLow || !h.Unlocked {
		t.Errorf("health after the right PIN: %+v, %v", h, err)
	}
	if err := tok.Unlock(hsm.PIN(hsmtest.PIN)); !errors.Is(err, hsm.ErrUnlocked) {
		t.Errorf("unlocking twice: %v", err)
	}
}

// SoftHSM2 never locks a PIN, so what other tokens answer is mapped by hand.
func TestPINLockedMapping(t *testing.T) {
	tok := hsmtest.New(t)
	if err := tok.PINErrorOf(pkcs11.CKR_PIN_LOCKED); !errors.Is(err, hsm.ErrPINLocked) || errors.Is(err, hsm.ErrPINIncorrect) {
		t.Errorf("CKR_PIN_LOCKED: %v", err)
	}
}

// Return values mean the same whatever the call, but for those of calls whose
// input can be forged.
func TestReturnValues(t *testing.T) {
	for _, c := range []struct {
		call string
		rv   uint
		want error
	}{
		{"C_Sign", pkcs11.CKR_DEVICE_REMOVED, hsm.ErrTokenGone},
		{"C_OpenSession", pkcs11.CKR_TOKEN_NOT_PRESENT, hsm.ErrTokenGone},
		{"C_OpenSession", pkcs11.CKR_SESSION_COUNT, hsm.ErrBusy},
		{"C_Sign", pkcs11.CKR_USER_NOT_LOGGED_IN, hsm.ErrLocked},
		{"C_DeriveKey", pkcs11.CKR_MECHANISM_INVALID, hsm.ErrUnsupported},
		{"C_SignInit", pkcs11.CKR_KEY_HANDLE_INVALID, hsm.ErrNotFound},
		{"C_Decrypt", pkcs11.CKR_ENCRYPTED_DATA_INVALID, hsm.ErrAuthentication},
		{"C_UnwrapKey", pkcs11.CKR_WRAPPED_KEY_INVALID, hsm.ErrAuthentication},
		{"C_UnwrapKey", pkcs11.CKR_DEVICE_REMOVED, hsm.ErrTokenGone},
	} {
		err := hsm.FromCall(c.call, c.rv)
		var e *hsm.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Code != c.rv || e.Call != c.call {
			t.Errorf("%s, %#x: %v, want %v", c.call, c.rv, err, c.want)
		}
	}
	err := hsm.FromCall("C_Sign", pkcs11.CKR_ENCRYPTED_DATA_INVALID)
	if errors.Is(err, hsm.ErrAuthentication) {
		t.Errorf("a signature cannot fail to authenticate: %v", err)
	}
	if want := "hsm: C_Sign: pkcs11: 0x40: CKR_ENCRYPTED_DATA_INVALID"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestSetPIN(t *testing.T) {
	tok := hsmtest.New(t)
	old, long := hsm.PIN(hsmtest.PIN), hsm.PIN(strings.Repeat("\xff\x00~", 20))
	for _, unlocked := range []bool{false, true} {
		if unlocked {
			tok.MustUnlock(t)
		}
		if err := tok.SetPIN(hsm.PIN("wrong PIN"), long); !errors.Is(err, hsm.ErrPINIncorrect) {
			t.Errorf("unlocked %t: changing with a wrong PIN: %v", unlocked, err)
		}
		if err := tok.SetPIN(old, long); err != nil {
			t.Fatalf("unlocked %t: %v", unlocked, err)
		}
		if err := tok.Lock(); err != nil {
			t.Fatal(err)
		}
		if err := tok.Unlock(old); !errors.Is(err, hsm.ErrPINIncorrect) {
			t.Errorf("unlocked %t: the old PIN still answers: %v", unlocked, err)
		}
		if err := tok.Unlock(long); err != nil {
			t.Fatalf("unlocked %t: the new PIN: %v", unlocked, err)
		}
		if err := tok.SetPIN(long, old); err != nil {
			t.Fatal(err)
		}
		if err := tok.Lock(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPINIsNeverPrinted(t *testing.T) {
	const secret = "4711 secret"
	pin := hsm.PIN(secret)
	hidden := func(how, s string) {
		t.Helper()
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%v", []byte(secret)), "NDcxMSBzZWNyZXQ"} {
			if strings.Contains(strings.ToLower(s), strings.ToLower(form)) {
				t.Errorf("%s prints the PIN: %s", how, s)
			}
		}
	}
	wrapped := struct{ P hsm.PIN }{pin}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%t", "%p"} {
		hidden(verb, fmt.Sprintf(verb, pin))
		if verb != "%p" {
			hidden(verb+" in a struct", fmt.Sprintf(verb, wrapped))
		}
	}
	b, err := json.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	hidden("JSON", string(b))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "pin", pin, "any", wrapped)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pin", pin, "any", wrapped)
	hidden("slog", log.String())
	pin.Wipe()
	if !bytes.Equal(pin, make([]byte, len(secret))) {
		t.Error("Wipe leaves something")
	}
}

func TestOpen(t *testing.T) {
	tok := hsmtest.New(t)
	if _, err := hsm.Open(tok.Config); !errors.Is(err, hsm.ErrTokenInUse) {
		t.Errorf("opening twice: %v", err)
	}
	if _, err := hsm.Open(hsm.Config{TokenLabel: "no such token"}); !errors.Is(err, hsm.ErrTokenNotFound) {
		t.Errorf("absent token: %v", err)
	}
	for _, cfg := range []hsm.Config{{}, {TokenLabel: strings.Repeat("x", 33)}} {
		if _, err := hsm.Open(cfg); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if _, err := hsm.Open(hsm.Config{Module: "/nonexistent.so", TokenLabel: "x"}); err == nil {
		t.Error("absent module was opened")
	}
	if _, err := hsm.InitToken(tok.Config, hsm.PIN(hsmtest.SOPIN), hsm.PIN(hsmtest.PIN)); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("initialising an existing token: %v", err)
	}
	serial := tok.Serial()
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tok.Close(); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("closing twice: %v", err)
	}
	for name, err := range map[string]error{
		"Unlock": tok.Unlock(hsm.PIN(hsmtest.PIN)), "Lock": tok.Lock(),
		"PutObject": tok.PutObject("x", 1, nil), "SetPIN": tok.SetPIN(hsm.PIN("12345678"), hsm.PIN("12345678")),
	} {
		if !errors.Is(err, hsm.ErrClosed) {
			t.Errorf("%s of a closed token: %v", name, err)
		}
	}
	again, err := hsm.Open(hsm.Config{TokenSerial: serial})
	if err != nil {
		t.Fatal(err)
	}
	if again.Label() != tok.Label() {
		t.Errorf("serial %s is labelled %q, not %q", serial, again.Label(), tok.Label())
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// A token that another process makes between the two looks is found by the
// second: SoftHSM2 has to read its directory anew for that.
func TestOpenSeesForeignToken(t *testing.T) {
	tok := hsmtest.New(t)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := hsm.Config{TokenLabel: "foreign"}
	initialise := func() {
		run(t, "softhsm2-util", "--init-token", "--free", "--label", "foreign", "--so-pin", "12345678", "--pin", "87654321")
	}
	looks := 0
	defer hsm.Pause(hsm.Pause(func() { looks++; initialise() }))
	k, err := hsm.Open(foreign)
	if err != nil || looks != 1 {
		t.Fatalf("%d further looks, %v", looks, err)
	}
	if err := k.Unlock(hsm.PIN("87654321")); err != nil {
		t.Error(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	initialise()
	if _, err := hsm.Open(foreign); !errors.Is(err, hsm.ErrTokenAmbiguous) {
		t.Errorf("two tokens of one label: %v", err)
	}
}

// InitToken dies before it sets the user PIN.
func TestHalfInitialised(t *testing.T) {
	first := hsmtest.New(t)
	run(t, "pkcs11-tool", "--module", hsm.DefaultModule(), "--slot-index", "1", "--init-token", "--label", "half", "--so-pin", "12345678")
	if err := first.Close(); err != nil { // the module must look anew
		t.Fatal(err)
	}
	k, err := hsm.Open(hsm.Config{TokenLabel: "half"})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if h, err := k.Health(); err != nil || h.PINInitialized {
		t.Errorf("health: %+v, %v", h, err)
	}
	if err := k.Unlock(hsm.PIN("12345678")); !errors.Is(err, hsm.ErrNoPIN) {
		t.Errorf("unlock: %v", err)
	}
}

// A failing operation gives up its session, a good one its place in the pool.
func TestPool(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	a, err := tok.GenerateAEAD("state")
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, a.NonceSize())
	ct, err := a.Seal(nonce, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(ct)
	forged[0] ^= 1
	var wg sync.WaitGroup
	for range 4 * hsm.MaxSessions {
		wg.Go(func() {
			for range 10 {
				if _, err := a.Open(nonce, ct, nil); err != nil {
					t.Error(err)
				}
				if _, err := a.Open(nonce, forged, nil); !errors.Is(err, hsm.ErrAuthentication) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := tok.IdleSessions(); n > hsm.MaxSessions {
		t.Errorf("%d idle sessions, at most %d may ever be in use", n, hsm.MaxSessions)
	}
	if _, err := a.Open(nonce, forged, nil); err == nil {
		t.Error("forgery opened")
	}
	n := tok.IdleSessions()
	if _, err := a.Open(nonce, ct, nil); err != nil {
		t.Error(err)
	}
	if got := tok.IdleSessions(); got != max(n, 1) {
		t.Errorf("%d idle sessions after a good operation, %d before", got, n)
	}
}

func TestTokenGone(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	k, err := tok.GenerateSigner("device")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tok.Health(); err != nil || h.Serial != tok.Serial() || h.Label != tok.Label() || !h.PINInitialized {
		t.Fatalf("health: %+v, %v", h, err)
	}
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	n := testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, []byte{3})
	if err != nil {
		t.Fatal(err)
	}
	e := mustUnwrap(t, tok, n, wrapped)
	x := bytes.Repeat([]byte{0x55}, 128)
	if _, err := e.Exp(x); err != nil {
		t.Fatal(err)
	}
	tok.Delete(t)
	if _, err := e.Exp(x); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("exponent of a deleted token: %v", err)
	}
	if _, err := tok.UnwrapExponent("kek", n, wrapped); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("unwrapping with a deleted token: %v", err)
	}
	if _, err := tok.Health(); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("health of a deleted token: %v", err)
	}
	digest := sha256.Sum256(nil)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("signing with a deleted token: %v", err)
	}
	if err := tok.PutObject("state", 1, nil); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("writing to a deleted token: %v", err)
	}
	if _, _, err := tok.GetObject("state"); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("reading from a deleted token: %v", err)
	}
	if names, err := tok.ListObjects(""); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("listing a deleted token: %q, %v", names, err)
	}
	if err := tok.Lock(); err != nil {
		t.Logf("locking a deleted token: %v", err)
	}
	if err := tok.Unlock(hsm.PIN(hsmtest.PIN)); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("unlocking a deleted token: %v", err)
	}
}

func TestSoftHSMConfig(t *testing.T) {
	conf, err := hsm.SoftHSMConfig("/var/lib/privyseal/tokens")
	if err != nil || !bytes.Contains(conf, []byte("directories.tokendir = /var/lib/privyseal/tokens\n")) {
		t.Errorf("%s, %v", conf, err)
	}
	for _, dir := range []string{"", "relative", "/a\nlog.level = DEBUG", "/a ", "/a#b"} {
		if conf, err := hsm.SoftHSMConfig(dir); err == nil {
			t.Errorf("%q gives %s", dir, conf)
		}
	}
	tok := hsmtest.New(t)
	path := os.Getenv("SOFTHSM2_CONF")
	for _, p := range []string{path, filepath.Dir(path), tok.Dir(t)} {
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v, %v", p, fi.Mode(), err)
		}
	}
}

// All calls of the module must pass the recorder.
func TestOnlyCryptokiTouchesTheBinding(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				inner, ok := sel.X.(*ast.SelectorExpr)
				if ok && inner.Sel.Name == "ctx" {
					seen++
					allowed := name == "cryptoki.go" || name == "module.go" && (sel.Sel.Name == "Initialize" || sel.Sel.Name == "Finalize")
					if !allowed {
						t.Errorf("%s calls ctx.%s past the recorder", name, sel.Sel.Name)
					}
				}
			}
			return true
		})
	}
	if seen < 20 {
		t.Errorf("found %d calls of the binding only: this test no longer sees them", seen)
	}
}
