package hsm_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func mustPutPublic(t *testing.T, tok *hsmtest.Token, name string, version uint64, data string) {
	t.Helper()
	if err := tok.PutPublicObject(name, version, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// TestPublicObject stores, replaces and lists objects of both kinds.
func TestPublicObject(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	mustPutPublic(t, tok, "a", 1, "one")
	wantObject(t, tok, "a", 1, "one")
	mustPutPublic(t, tok, "a", 1, "one")
	mustPutPublic(t, tok, "a", 2, "two")
	if err := tok.PutPublicObject("a", 1, nil); !errors.Is(err, hsm.ErrStaleVersion) {
		t.Errorf("version 1 after 2: %v", err)
	}
	if _, _, err := tok.GetPrivateObject("a"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a public object passes for a private one: %v", err)
	}
	mustPut(t, tok, "b", 1, "private")
	if names, err := tok.ListObjects(""); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tok.GetObject("a"); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("a locked token reads: %v", err)
	}
	tok.MustUnlock(t)
	if err := tok.DeleteObject("a"); err != nil {
		t.Fatal(err)
	}
	if err := tok.DeleteObject("a"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}

	// A private object becomes a public one, with the next version or the same,
	// but never with an older one.
	mustPut(t, tok, "c", 4, "four")
	if err := tok.PutPublicObject("c", 3, []byte("three")); !errors.Is(err, hsm.ErrStaleVersion) {
		t.Errorf("version 3 after a private 4: %v", err)
	}
	mustPutPublic(t, tok, "c", 4, "four")
	mustPut(t, tok, "d", 1, "one")
	mustPutPublic(t, tok, "d", 2, "two")
	for name, want := range map[string]uint64{"c": 4, "d": 2} {
		if _, _, err := tok.GetPrivateObject(name); !errors.Is(err, hsm.ErrNotFound) || copies(t, tok, name) != 1 {
			t.Errorf("%s: the private copy is left: %v", name, err)
		}
		if v, _, err := tok.GetObject(name); err != nil || v != want {
			t.Errorf("%s: version %d, %v", name, v, err)
		}
	}
}

// TestPlantedObject: somebody without the PIN puts a public object in the place
// of a private one.
func TestPlantedObject(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	mustPut(t, tok, "pin", 1, "the device's")
	var ctx *pkcs11.Ctx
	var slot uint
	tok.Raw(func(c *pkcs11.Ctx, s uint, _ pkcs11.SessionHandle) error { ctx, slot = c, s; return nil })
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctx.CreateObject(s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, "privyseal"),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, "pin"),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, hsm.Frame("pin", 1<<63, []byte("a thief's"))),
	}); err != nil {
		t.Fatal(err)
	}
	if err := ctx.CloseSession(s); err != nil {
		t.Fatal(err)
	}
	tok.MustUnlock(t)
	if _, b, err := tok.GetPrivateObject("pin"); err != nil || string(b) != "the device's" {
		t.Errorf("%q, %v", b, err)
	}
	mustPut(t, tok, "pin", 1, "the device's")
	if n := copies(t, tok, "pin"); n != 1 {
		t.Errorf("%d copies after writing it again", n)
	}
	wantObject(t, tok, "pin", 1, "the device's")
}

// TestDestroyPublicObjects destroys public objects with and without a login,
// which OpenSC confirms.
func TestDestroyPublicObjects(t *testing.T) {
	for _, locked := range []bool{true, false} {
		tok := hsmtest.NewUnlocked(t)
		for _, name := range []string{"share/a", "share/b", "share/c"} {
			mustPutPublic(t, tok, name, 1, "sealed")
			mustPutPublic(t, tok, name, 2, "sealed again")
		}
		mustPut(t, tok, "share/old", 1, "private")
		mustPut(t, tok, "state", 1, "private")
		if locked {
			if err := tok.Lock(); err != nil {
				t.Fatal(err)
			}
		}
		list := func() string {
			return run(t, "pkcs11-tool", "--module", hsm.DefaultModule(), "--token-label", tok.Label(), "--list-objects", "--type", "data")
		}
		if before := list(); !strings.Contains(before, "share/a") || strings.Contains(before, "state") {
			t.Fatalf("without a PIN, OpenSC sees\n%s", before)
		}
		for range 2 { // the second time there is nothing to do
			if err := tok.DestroyPublicObjects("share/a", "share/b", "share/old", "never there"); err != nil {
				t.Errorf("locked %v: %v", locked, err)
			}
		}
		if after := list(); strings.Contains(after, "share/a") || strings.Contains(after, "share/b") || !strings.Contains(after, "share/c") {
			t.Errorf("locked %v: then OpenSC sees\n%s", locked, after)
		}
		if err := tok.DestroyPublicObjects("share/c", "", strings.Repeat("x", 129)); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("bad names: %v", err)
		}
		if h, err := tok.Health(); err != nil || h.Unlocked == locked {
			t.Errorf("locked %v: %+v, %v", locked, h, err)
		}
		if locked {
			tok.MustUnlock(t)
		}
		if names, err := tok.ListObjects(""); err != nil || !slices.Equal(names, []string{"share/old", "state"}) {
			t.Errorf("locked %v: left are %q, %v", locked, names, err)
		}
	}
}

// TestDestroyWithPIN destroys keys and private objects, locked or not.
func TestDestroyWithPIN(t *testing.T) {
	for _, locked := range []bool{true, false} {
		tok := hsmtest.NewUnlocked(t)
		signer, err := tok.GenerateSigner("sign")
		if err != nil {
			t.Fatal(err)
		}
		for label, use := range map[string]hsm.Use{"kek": hsm.InToken, "other": hsm.InHost} {
			if err := tok.GenerateKEK(label, use); err != nil {
				t.Fatal(err)
			}
		}
		n, x := testModulus(1024), bytes.Repeat([]byte{0x55}, 128)
		wrapped, err := tok.WrapExponent("kek", n, []byte{1, 0, 1})
		if err != nil {
			t.Fatal(err)
		}
		e := mustUnwrap(t, tok, n, wrapped)
		var ctx *pkcs11.Ctx
		var slot uint
		tok.Raw(func(c *pkcs11.Ctx, s uint, _ pkcs11.SessionHandle) error { ctx, slot = c, s; return nil })
		mustPut(t, tok, "private", 1, "")
		mustPutPublic(t, tok, "public", 1, "")
		mustPut(t, tok, "state", 1, "")
		pin := hsm.PIN(nil)
		if locked {
			if err := tok.Lock(); err != nil {
				t.Fatal(err)
			}
			if err := tok.DestroyWithPIN(nil, []string{"kek"}, nil); !errors.Is(err, hsm.ErrLocked) {
				t.Errorf("without a PIN: %v", err)
			}
			if err := tok.DestroyWithPIN(hsm.PIN("wrong PIN"), []string{"kek"}, nil); !errors.Is(err, hsm.ErrPINIncorrect) {
				t.Errorf("with a wrong PIN: %v", err)
			}
			pin = hsm.PIN(hsmtest.PIN)
		}
		for range 2 {
			if err := tok.DestroyWithPIN(pin, []string{"kek", "never there"}, []string{"private", "public", "never there"}); err != nil {
				t.Errorf("locked %v: %v", locked, err)
			}
		}
		if h, err := tok.Health(); err != nil || h.Unlocked == locked {
			t.Errorf("locked %v: %+v, %v", locked, h, err)
		}
		if _, err := e.Exp(x); !errors.Is(err, hsm.ErrLocked) {
			t.Errorf("locked %v: what the key had unwrapped goes on working: %v", locked, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if locked {
			// The login must not have outlived the call, nor let others in.
			if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrLocked) {
				t.Errorf("the token stayed open: %v", err)
			}
			s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := ctx.GetSessionInfo(s); err != nil || info.State != pkcs11.CKS_RW_PUBLIC_SESSION {
				t.Errorf("a new session is in state %d, %v", info.State, err)
			}
			if err := ctx.CloseSession(s); err != nil {
				t.Error(err)
			}
			tok.MustUnlock(t)
		}
		if _, err := tok.WrapExponent("kek", n, []byte{3}); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("locked %v: the key still wraps: %v", locked, err)
		}
		if _, err := tok.WrapExponent("other", n, []byte{3}); err != nil {
			t.Error(err)
		}
		if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
		if names, err := tok.ListObjects(""); err != nil || !slices.Equal(names, []string{"state"}) {
			t.Errorf("locked %v: left are %q, %v", locked, names, err)
		}
	}
}

// A token that has gone must not pass for a destroyed one.
func TestDestroyGoneToken(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	mustPutPublic(t, tok, "a", 1, "")
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	tok.Delete(t)
	if err := tok.DestroyPublicObjects("a"); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("public objects: %v", err)
	}
	if err := tok.DestroyWithPIN(hsm.PIN(hsmtest.PIN), []string{"a"}, nil); !errors.Is(err, hsm.ErrTokenGone) {
		t.Errorf("keys: %v", err)
	}
}

// TestLockedDestroy probes.
func TestLockedDestroy(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	if c, err := tok.Capabilities(); err != nil || c.LockedDestroy {
		t.Errorf("found out while unlocked: %+v, %v", c, err)
	}
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if c, err := tok.Capabilities(); err != nil || !c.LockedDestroy {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
	wg.Wait()
	tok.MustUnlock(t)
	if c, err := tok.Capabilities(); err != nil || !c.LockedDestroy {
		t.Errorf("forgotten: %+v, %v", c, err)
	}
	if n := copies(t, tok, "privyseal probe"); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}
