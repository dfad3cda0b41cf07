package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func num(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// exp is the oracle: x^d mod n by math/big, |n| bytes.
func exp(x, d, n []byte) []byte {
	return new(big.Int).Exp(num(x), num(d), num(n)).FillBytes(make([]byte, len(n)))
}

func tokenWithKEK(t testing.TB, use hsm.Use) *hsmtest.Token {
	t.Helper()
	tok := hsmtest.NewUnlocked(t)
	if err := tok.GenerateKEK("kek", use); err != nil {
		t.Fatal(err)
	}
	return tok
}

func mustUnwrap(t testing.TB, tok *hsmtest.Token, n, wrapped []byte) *hsm.Exponent {
	t.Helper()
	e, err := tok.UnwrapExponent("kek", n, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Whatever the modulus, exponent and base, the token says what math/big says.
func TestExponentAgainstMathBig(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InHost)
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(64, 160).Draw(r, "modulus bytes")
		n := rapid.SliceOfN(rapid.Byte(), size, size).Draw(r, "n")
		n[0] |= 0x80
		n[size-1] |= 1
		d := rapid.SliceOfN(rapid.Byte(), 1, size+20).Draw(r, "d")
		if num(d).Sign() == 0 {
			d[0] = 1
		}
		x := rapid.SliceOfN(rapid.Byte(), size, size).Draw(r, "x")
		x[0] &= 0x7f
		x[size-1] |= 2

		wrapped, err := tok.WrapExponent("kek", n, d)
		if err != nil {
			r.Fatal(err)
		}
		e, err := tok.UnwrapExponent("kek", n, wrapped)
		if err != nil {
			r.Fatal(err)
		}
		defer e.Close()
		y, err := e.Exp(x)
		want := exp(x, d, n)
		// A Diffie-Hellman token refuses the degenerate results 0 and 1 too.
		if err != nil && num(want).Cmp(big.NewInt(1)) > 0 {
			r.Fatal(err)
		}
		if err == nil && !bytes.Equal(y, want) {
			r.Fatalf("token %x, math/big %x", y, want)
		}
		revealed, err := tok.RevealExponent("kek", n, wrapped)
		if err != nil {
			r.Fatal(err)
		}
		if num(revealed).Cmp(num(d)) != 0 || len(revealed) < size {
			r.Fatalf("revealed %x, wrapped %x", revealed, d)
		}
	})
}

func TestExponentSizes(t *testing.T) {
	for _, use := range []hsm.Use{hsm.InToken, hsm.InHost} {
		tok := tokenWithKEK(t, use)
		for _, bits := range []int{1024, 2048, 3072, 4096} {
			n, d, x := testModulus(bits), testModulus(bits), testModulus(bits)
			x[0] &= 0x7f
			wrapped, err := tok.WrapExponent("kek", n, d)
			if err != nil {
				t.Fatal(err)
			}
			e := mustUnwrap(t, tok, n, wrapped)
			if y, err := e.Exp(x); err != nil || !bytes.Equal(y, exp(x, d, n)) {
				t.Errorf("use %d, %d bits: %x, %v", use, bits, y, err)
			}
			// A result with leading zeros keeps its width.
			small := slices.Concat(make([]byte, bits/8-1), []byte{2})
			if y, err := e.Exp(small); err != nil || !bytes.Equal(y, exp(small, d, n)) {
				t.Errorf("use %d, %d bits, base 2: %x, %v", use, bits, y, err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if err := e.Close(); !errors.Is(err, hsm.ErrClosed) {
				t.Errorf("closing twice: %v", err)
			}
			if _, err := e.Exp(x); !errors.Is(err, hsm.ErrClosed) {
				t.Errorf("closed exponent: %v", err)
			}
		}
	}
}

func TestLeadingZerosOfResult(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InToken)
	n := testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, []byte{2})
	if err != nil {
		t.Fatal(err)
	}
	e := mustUnwrap(t, tok, n, wrapped)
	defer e.Close()
	y, err := e.Exp(slices.Concat(make([]byte, 127), []byte{3}))
	if want := slices.Concat(make([]byte, 127), []byte{9}); err != nil || !bytes.Equal(y, want) {
		t.Errorf("3² = %x, %v", y, err)
	}
}

func TestExponentArguments(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InHost)
	n := testModulus(1024)
	for name, c := range map[string]struct{ n, d []byte }{
		"no modulus":        {nil, []byte{3}},
		"short modulus":     {testModulus(504), []byte{3}},
		"long modulus":      {testModulus(8200), []byte{3}},
		"even modulus":      {slices.Concat(n[:127], []byte{2}), []byte{3}},
		"leading zero byte": {slices.Concat([]byte{0}, n), []byte{3}},
		"no exponent":       {n, nil},
		"zero exponent":     {n, make([]byte, 128)},
		"exponent too long": {n, bytes.Repeat([]byte{1}, 257)},
	} {
		if w, err := tok.WrapExponent("kek", c.n, c.d); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%s: %x, %v", name, w, err)
		}
	}
	d := testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, d)
	if err != nil {
		t.Fatal(err)
	}
	e := mustUnwrap(t, tok, n, wrapped)
	defer e.Close()
	minusOne := new(big.Int).Sub(num(n), big.NewInt(1)).Bytes()
	for name, x := range map[string][]byte{
		"0": make([]byte, 128), "1": slices.Concat(make([]byte, 127), []byte{1}), "N-1": minusOne, "N": n,
		"beyond N": bytes.Repeat([]byte{0xff}, 128), "short": d[:127], "long": slices.Concat([]byte{0}, d), "none": nil,
	} {
		if y, err := e.Exp(x); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("base %s: %x, %v", name, y, err)
		}
	}
}

func TestWrappedExponentIsAuthentic(t *testing.T) {
	for _, use := range []hsm.Use{hsm.InToken, hsm.InHost} {
		tok := tokenWithKEK(t, use)
		if err := tok.GenerateKEK("other", use); err != nil {
			t.Fatal(err)
		}
		n, d := testModulus(1024), testModulus(1024)
		wrapped, err := tok.WrapExponent("kek", n, d)
		if err != nil {
			t.Fatal(err)
		}
		forged := map[string][]byte{
			"empty": nil, "short": wrapped[:8], "cut": wrapped[:len(wrapped)-8], "odd length": wrapped[:len(wrapped)-1],
			"longer": slices.Concat(wrapped, make([]byte, 8)), "zeros": make([]byte, len(wrapped)), "huge": make([]byte, 1<<20),
		}
		for _, i := range []int{0, 7, 8, len(wrapped) / 2, len(wrapped) - 1} {
			b := bytes.Clone(wrapped)
			b[i] ^= 1
			forged[fmt.Sprint("bit of byte ", i)] = b
		}
		for name, b := range forged {
			if _, err := tok.UnwrapExponent("kek", n, b); !errors.Is(err, hsm.ErrAuthentication) {
				t.Errorf("use %d: %s: unwrap: %v", use, name, err)
			}
			if d, err := tok.RevealExponent("kek", n, b); err == nil {
				t.Errorf("use %d: %s: revealed %x", use, name, d)
			}
		}
		if _, err := tok.UnwrapExponent("other", n, wrapped); !errors.Is(err, hsm.ErrAuthentication) {
			t.Errorf("another KEK: %v", err)
		}
		if _, err := tok.UnwrapExponent("none", n, wrapped); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("no KEK: %v", err)
		}
		// A modulus of the attacker's choice would turn results into the exponent.
		if _, err := tok.UnwrapExponent("kek", testModulus(1024), wrapped); !errors.Is(err, hsm.ErrWrongModulus) {
			t.Errorf("another modulus: %v", err)
		}
		if e, err := tok.UnwrapExponent("kek", n, wrapped); err != nil {
			t.Errorf("the true one: %v", err)
		} else if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestConfinedKEK plays somebody who has the host, the PIN and the wrapped
// exponent, and wants it out of the token. A KEK for use in the host lets it
// out, which shows that the attacks are real.
func TestConfinedKEK(t *testing.T) {
	attacks := map[string][]*pkcs11.Attribute{
		"as a readable DH key": {
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		},
		"as a readable secret": {
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		},
		"as a secret": {
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		},
		"as a DH key that says nothing": {
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DH),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		},
	}
	for _, use := range []hsm.Use{hsm.InToken, hsm.InHost} {
		out := 0
		for name, template := range attacks {
			tok := tokenWithKEK(t, use)
			n, d := testModulus(1024), testModulus(1024)
			wrapped, err := tok.WrapExponent("kek", n, d)
			if err != nil {
				t.Fatal(err)
			}
			err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
				kek := findRaw(t, ctx, s, "kek")
				mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil)}
				o, err := ctx.UnwrapKey(s, mech, kek, wrapped, template)
				if err != nil {
					return err
				}
				// Loosened afterwards, read, or wrapped under a key of the attacker's.
				ctx.SetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)})
				ctx.SetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false)})
				v, err := ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
				if err != nil {
					if w, err := ctx.WrapKey(s, mech, kek, o); err == nil {
						t.Errorf("%s: could be wrapped again: %x", name, w)
					}
					return err
				}
				if bytes.Contains(v[0].Value, d) {
					out++
				}
				return nil
			})
			t.Logf("use %d, %s: %v", use, name, err)

			// Nor may the KEK itself be loosened, used as a cipher, or read.
			err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
				kek := findRaw(t, ctx, s, "kek")
				for _, a := range []*pkcs11.Attribute{
					pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
					pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true),
				} {
					if err := ctx.SetAttributeValue(s, kek, []*pkcs11.Attribute{a}); err == nil {
						t.Errorf("use %d: attribute %#x of the KEK can be changed", use, a.Type)
					}
					if _, err := ctx.CopyObject(s, kek, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), a}); err == nil && a.Type != pkcs11.CKA_MODIFIABLE {
						t.Errorf("use %d: a copy of the KEK can have attribute %#x changed", use, a.Type)
					}
				}
				for _, m := range []uint{pkcs11.CKM_AES_ECB, pkcs11.CKM_AES_CBC} {
					if err := ctx.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(m, make([]byte, 16))}, kek); err == nil {
						t.Errorf("use %d: the KEK decrypts with mechanism %#x", use, m)
					}
				}
				if _, err := ctx.GetAttributeValue(s, kek, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil {
					t.Errorf("use %d: the KEK can be read", use)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		if use == hsm.InToken && out > 0 {
			t.Errorf("a confining KEK let the exponent out in %d ways", out)
		}
		if use == hsm.InHost && out == 0 {
			t.Error("no attack works even against a KEK that does not confine: they test nothing")
		}
	}
}

func findRaw(t *testing.T, ctx *pkcs11.Ctx, s pkcs11.SessionHandle, label string) pkcs11.ObjectHandle {
	t.Helper()
	if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
		t.Fatal(err)
	}
	defer ctx.FindObjectsFinal(s)
	found, _, err := ctx.FindObjects(s, 2)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d objects labelled %q, %v", len(found), label, err)
	}
	return found[0]
}

func TestKEKUse(t *testing.T) {
	for _, use := range []hsm.Use{hsm.InToken, hsm.InHost} {
		tok := tokenWithKEK(t, use)
		if got, err := tok.KEKUse("kek"); err != nil || got != use {
			t.Errorf("KEK for use %d seems to be for %d, %v", use, got, err)
		}
		if _, err := tok.KEKUse("none"); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("no KEK: %v", err)
		}
	}
	if err := hsmtest.NewUnlocked(t).GenerateKEK("kek", 0); !errors.Is(err, hsm.ErrArgument) {
		t.Errorf("KEK without a use: %v", err)
	}
}

func TestRevealFromConfinedKEK(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InToken)
	n, d := testModulus(1024), testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tok.RevealExponent("kek", n, wrapped); !errors.Is(err, hsm.ErrConfined) || got != nil {
		t.Errorf("%x, %v", got, err)
	}
}

// TestExponentNeverCrosses records every byte string that crosses the PKCS#11
// boundary while an exponent is used inside the token: unlocked, unwrapped,
// used, closed. None holds the exponent, bare or as PKCS#8, in either byte
// order. The same search finds it when it does cross.
func TestExponentNeverCrosses(t *testing.T) {
	var mu sync.Mutex
	var crossed [][]byte
	calls := map[string]bool{}
	tok := hsmtest.NewTraced(t, func(call string, in, out [][]byte) {
		mu.Lock()
		defer mu.Unlock()
		calls[call] = true
		for _, b := range slices.Concat(in, out) {
			crossed = append(crossed, bytes.Clone(b))
		}
	})
	tok.MustUnlock(t)
	if err := tok.GenerateKEK("kek", hsm.InToken); err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK("open", hsm.InHost); err != nil {
		t.Fatal(err)
	}
	n, d := testModulus(2048), testModulus(2048)
	rev := bytes.Clone(d)
	slices.Reverse(rev)
	shows := func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, b := range crossed {
			// Any 16 bytes in a row would be a leak, wherever they stand.
			for i := 0; i+16 <= len(d); i += 8 {
				if bytes.Contains(b, d[i:i+16]) || bytes.Contains(b, rev[i:i+16]) {
					return true
				}
			}
		}
		return false
	}
	reset := func() { mu.Lock(); crossed, calls = nil, map[string]bool{}; mu.Unlock() }

	wrapped, err := tok.WrapExponent("kek", n, d)
	if err != nil {
		t.Fatal(err)
	}
	if !shows() {
		t.Fatal("the search does not see the exponent even when it is put into the token")
	}
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	reset()
	tok.MustUnlock(t)
	e := mustUnwrap(t, tok, n, wrapped)
	x := testModulus(2048)
	x[0] &= 0x7f
	y, err := e.Exp(x)
	if err != nil || !bytes.Equal(y, exp(x, d, n)) {
		t.Fatalf("%x, %v", y, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if shows() {
		t.Error("the exponent crossed the boundary")
	}
	for _, call := range []string{"C_Login", "C_UnwrapKey", "C_DeriveKey", "C_GetAttributeValue"} {
		if !calls[call] {
			t.Errorf("%s was not recorded", call)
		}
	}

	open, err := tok.WrapExponent("open", n, d)
	if err != nil {
		t.Fatal(err)
	}
	reset()
	if _, err := tok.RevealExponent("open", n, open); err != nil {
		t.Fatal(err)
	}
	if !shows() {
		t.Error("the search does not see a revealed exponent")
	}
}

func TestExponentDiesAtLock(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InToken)
	n, x := testModulus(1024), testModulus(1024)
	x[0] &= 0x7f
	wrapped, err := tok.WrapExponent("kek", n, []byte{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	e := mustUnwrap(t, tok, n, wrapped)
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Exp(x); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("exponent of a locked token: %v", err)
	}
	tok.MustUnlock(t)
	// Its session handle may belong to another one by now.
	other := mustUnwrap(t, tok, n, wrapped)
	defer other.Close()
	if y, err := e.Exp(x); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("exponent from before the lock answers %x, %v", y, err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("closing an exponent that died: %v", err)
	}
	if _, err := other.Exp(x); err != nil {
		t.Errorf("closing the dead one hurt the living one: %v", err)
	}
}

func TestManyExponents(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InToken)
	n := testModulus(512)
	wrapped, err := tok.WrapExponent("kek", n, []byte{3})
	if err != nil {
		t.Fatal(err)
	}
	var open []*hsm.Exponent
	for range hsm.MaxExponents {
		open = append(open, mustUnwrap(t, tok, n, wrapped))
	}
	if _, err := tok.UnwrapExponent("kek", n, wrapped); !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	for _, e := range open {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := mustUnwrap(t, tok, n, wrapped).Close(); err != nil {
		t.Error(err)
	}
}

func TestSelfTest(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InToken)
	c, err := tok.Capabilities()
	if err != nil {
		t.Fatal(err)
	}
	if !c.ECDSA || !c.ECDH || !c.GCM || !c.KWP || !c.DHDerive || !c.DataObjects || c.DHMinBits > 2048 || c.DHMaxBits < 4096 {
		t.Errorf("SoftHSM2 can more than %+v", c)
	}
	for _, bits := range []int{512, 2048, 3072} {
		if err := tok.SelfTest("kek", bits); err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	for _, bits := range []int{0, 504, 1001, 9000} {
		if err := tok.SelfTest("kek", bits); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	if err := tok.SelfTest("none", 2048); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("without a KEK: %v", err)
	}
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := tok.SelfTest("kek", 2048); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("locked: %v", err)
	}
}

// The wrapped form is what docs say: AES-KWP of PKCS#8, seen through a KEK
// that does not confine.
func TestWrappedFormIsPKCS8(t *testing.T) {
	tok := tokenWithKEK(t, hsm.InHost)
	n, d := testModulus(1024), testModulus(1024)
	wrapped, err := tok.WrapExponent("kek", n, d)
	if err != nil {
		t.Fatal(err)
	}
	err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		o, err := ctx.UnwrapKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil)},
			findRaw(t, ctx, s, "kek"), wrapped, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
				pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
				pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
			})
		if err != nil {
			return err
		}
		v, err := ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
		if err != nil {
			return err
		}
		var p8 struct {
			Version   int
			Algorithm struct {
				OID    asn1.ObjectIdentifier
				Params struct{ P, G *big.Int }
			}
			Key []byte
		}
		// SoftHSM2 leaves the padding of the last block on a generic secret.
		if rest, err := asn1.Unmarshal(v[0].Value, &p8); err != nil || len(bytes.TrimLeft(rest, "\x00")) > 0 || len(rest) > 7 {
			return fmt.Errorf("not PKCS#8: %x, %w", rest, err)
		}
		var value *big.Int
		if _, err := asn1.Unmarshal(p8.Key, &value); err != nil {
			return err
		}
		if p8.Algorithm.Params.P.Cmp(num(n)) != 0 || value.Cmp(num(d)) != 0 {
			return errors.New("another modulus or exponent")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkExponent(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			tok := tokenWithKEK(b, hsm.InToken)
			n, d, x := testModulus(bits), testModulus(bits), testModulus(bits)
			x[0] &= 0x7f
			wrapped, err := tok.WrapExponent("kek", n, d)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("exp", func(b *testing.B) {
				e := mustUnwrap(b, tok, n, wrapped)
				defer e.Close()
				for b.Loop() {
					if _, err := e.Exp(x); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("unwrap", func(b *testing.B) {
				for b.Loop() {
					mustUnwrap(b, tok, n, wrapped).Close()
				}
			})
			b.Run("big", func(b *testing.B) {
				for b.Loop() {
					exp(x, d, n)
				}
			})
		})
	}
}

func BenchmarkToken(b *testing.B) {
	tok := hsmtest.NewUnlocked(b)
	signer, err := tok.GenerateSigner("sign")
	if err != nil {
		b.Fatal(err)
	}
	agree, err := tok.GenerateKeyExchanger("agree")
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, 32)
	rand.Read(digest)
	for name, f := range map[string]func() error{
		"sign":   func() error { _, err := signer.Sign(nil, digest, crypto.SHA256); return err },
		"ecdh":   func() error { _, err := agree.ECDH(agree.PublicKey()); return err },
		"health": func() error { _, err := tok.Health(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
