package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

func TestSigner(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	k, err := tok.GenerateSigner("device")
	if err != nil {
		t.Fatal(err)
	}
	again, err := tok.Signer("device")
	if err != nil {
		t.Fatal(err)
	}
	pub := again.Public().(*ecdsa.PublicKey)
	if !pub.Equal(k.Public()) {
		t.Fatal("the same key has two public halves")
	}
	msg := []byte("document")
	d256, d384, d512 := sha256.Sum256(msg), sha512.Sum384(msg), sha512.Sum512(msg)
	for _, c := range []struct {
		h      crypto.Hash
		digest []byte
	}{{crypto.SHA256, d256[:]}, {crypto.SHA384, d384[:]}, {crypto.SHA512, d512[:]}} {
		sig, err := k.Sign(rand.Reader, c.digest, c.h)
		if err != nil {
			t.Fatalf("%v: %v", c.h, err)
		}
		if !ecdsa.VerifyASN1(pub, c.digest, sig) {
			t.Errorf("%v: crypto/ecdsa does not verify the signature", c.h)
		}
	}
	for _, c := range []struct {
		h      crypto.Hash
		digest []byte
	}{{crypto.SHA256, d384[:]}, {crypto.SHA256, nil}, {crypto.SHA1, make([]byte, 20)}, {0, d256[:]}} {
		if sig, err := k.Sign(rand.Reader, c.digest, c.h); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("signing %d bytes as %v: %x, %v", len(c.digest), c.h, sig, err)
		}
	}
	if _, err := tok.GenerateSigner("device"); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("second key of the same label: %v", err)
	}
	if _, err := tok.KeyExchanger("device"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("signature key taken for agreement: %v", err)
	}
	if _, err := tok.Signer("other"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
}

// A key that outlives its token's lock must find its way back.
func TestKeysSurviveLockAndRestart(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	k, err := tok.GenerateSigner("device")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if err := tok.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrLocked) {
		t.Fatalf("signing with a locked token: %v", err)
	}
	tok.MustUnlock(t)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Fatalf("after unlocking: %v", err)
	}
	tok.Reopen(t)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrClosed) {
		t.Fatalf("key of a closed token: %v", err)
	}
	tok.MustUnlock(t)
	again, err := tok.Signer("device")
	if err != nil {
		t.Fatal(err)
	}
	if !again.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Fatal("another key after the restart")
	}
}

func TestKeyExchanger(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	k, err := tok.GenerateKeyExchanger("agree")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := peer.ECDH(k.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.ECDH(peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, %v; crypto/ecdh says %x", got, err, want)
		}
	}
	other, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []*ecdh.PublicKey{nil, other.PublicKey()} {
		if _, err := k.ECDH(pub); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("agreement with %v: %v", pub, err)
		}
	}

	priv, err := hpke.NewDHKEMPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := hpke.NewDHKEMPublicKey(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	ct, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("info"), []byte("piece"))
	if err != nil {
		t.Fatal(err)
	}
	pt, err := hpke.Open(priv, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("info"), ct)
	if err != nil || string(pt) != "piece" {
		t.Fatalf("HPKE: %q, %v", pt, err)
	}
}

func TestAEAD(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	a, err := tok.GenerateAEAD("state")
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	for i, c := range []struct{ plaintext, aad string }{
		{"", ""}, {"", "aad"}, {"plaintext", ""}, {"plaintext", "aad"}, {strings.Repeat("long", 10000), "aad"},
	} {
		nonce[0] = byte(i)
		ct, err := a.Seal(nonce, []byte(c.plaintext), []byte(c.aad))
		if err != nil {
			t.Fatal(err)
		}
		if len(ct) != len(c.plaintext)+a.Overhead() {
			t.Errorf("ciphertext of %d bytes for %d", len(ct), len(c.plaintext))
		}
		pt, err := a.Open(nonce, ct, []byte(c.aad))
		if err != nil || string(pt) != c.plaintext {
			t.Errorf("%q, %v", pt, err)
		}
		for _, f := range []func() ([]byte, error){
			func() ([]byte, error) {
				ct[0] ^= 1
				defer func() { ct[0] ^= 1 }()
				return a.Open(nonce, ct, []byte(c.aad))
			},
			func() ([]byte, error) { return a.Open(nonce, ct[:len(ct)-1], []byte(c.aad)) },
			func() ([]byte, error) { return a.Open(nonce, ct, []byte(c.aad+"x")) },
			func() ([]byte, error) { return a.Open([]byte("other nonce."), ct, []byte(c.aad)) },
			func() ([]byte, error) { return a.Open(nonce, nil, []byte(c.aad)) },
		} {
			if pt, err := f(); !errors.Is(err, hsm.ErrAuthentication) || pt != nil {
				t.Errorf("forgery: %q, %v", pt, err)
			}
		}
	}
	for _, n := range []int{0, 11, 13, 16} {
		if _, err := a.Seal(make([]byte, n), nil, nil); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("seal with a nonce of %d bytes: %v", n, err)
		}
		if _, err := a.Open(make([]byte, n), make([]byte, 32), nil); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("open with a nonce of %d bytes: %v", n, err)
		}
	}
	if _, err := a.Seal(nonce, make([]byte, hsm.MaxAEAD+1), nil); !errors.Is(err, hsm.ErrArgument) {
		t.Errorf("oversized message: %v", err)
	}
}

// The token's GCM against Go's, under a key known to both.
func TestAEADAgainstGo(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce, pt, aad := []byte("nonce nonce."), []byte("plaintext"), []byte("aad")
	err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		h, err := ctx.CreateObject(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, key),
		})
		if err != nil {
			return err
		}
		p := pkcs11.NewGCMParams(nonce, aad, 128)
		defer p.Free()
		if err := ctx.EncryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, h); err != nil {
			return err
		}
		got, err := ctx.Encrypt(s, pt)
		if err != nil {
			return err
		}
		if want := gcm.Seal(nil, nonce, pt, aad); !bytes.Equal(got, want) {
			return fmt.Errorf("token %x, crypto/cipher %x", got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whoever has the PIN can put keys into the token. None may pass for one that
// was made there.
func TestImportedKeyIsRefused(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"sign", "agree"} {
		err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
			_, err := ctx.CreateObject(s, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
				pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
				pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
				pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
				pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, label == "sign"),
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, label == "agree"),
				pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}),
				pkcs11.NewAttribute(pkcs11.CKA_VALUE, scalar),
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tok.Signer("sign"); !errors.Is(err, hsm.ErrExposedKey) {
		t.Errorf("imported signature key: %v", err)
	}
	if _, err := tok.KeyExchanger("agree"); !errors.Is(err, hsm.ErrExposedKey) {
		t.Errorf("imported agreement key: %v", err)
	}
}

// replacePublic puts another public half in the place of a key's own.
func replacePublic(t *testing.T, tok *hsmtest.Token, label string) {
	t.Helper()
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := asn1.Marshal(other.PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		}); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 2)
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%d public keys, %w", len(found), err)
		}
		if err := ctx.FindObjectsFinal(s); err != nil {
			return err
		}
		id, err := ctx.GetAttributeValue(s, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
		if err != nil {
			return err
		}
		if err := ctx.DestroyObject(s, found[0]); err != nil {
			return err
		}
		_, err = ctx.CreateObject(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[0].Value),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}),
			pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, point),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReplacedPublicHalf(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	if _, err := tok.GenerateSigner("sign"); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.GenerateKeyExchanger("agree"); err != nil {
		t.Fatal(err)
	}
	replacePublic(t, tok, "sign")
	replacePublic(t, tok, "agree")
	k, err := tok.Signer("sign")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if sig, err := k.Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Errorf("signature %x does not belong to the public half shown", sig)
	}
	if _, err := tok.KeyExchanger("agree"); err == nil {
		t.Error("agreement key with a foreign public half was accepted")
	}
}

func TestDestroy(t *testing.T) {
	tok := hsmtest.NewUnlocked(t)
	signer, err := tok.GenerateSigner("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.GenerateKeyExchanger("b"); err != nil {
		t.Fatal(err)
	}
	if err := tok.GenerateKEK("c", hsm.InHost); err != nil {
		t.Fatal(err)
	}
	if err := tok.PutObject("d", 1, []byte("data")); err != nil {
		t.Fatal(err)
	}
	if err := tok.Destroy("a"); err != nil {
		t.Fatal(err)
	}
	if err := tok.Destroy("a"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("destroying twice: %v", err)
	}
	digest := sha256.Sum256(nil)
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("signing with a destroyed key: %v", err)
	}
	if _, err := tok.KeyExchanger("b"); err != nil {
		t.Errorf("another key went too: %v", err)
	}
	if err := tok.DestroyAll(); err != nil {
		t.Fatal(err)
	}
	err = tok.Raw(func(ctx *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error {
		if err := ctx.FindObjectsInit(s, nil); err != nil {
			return err
		}
		left, _, err := ctx.FindObjects(s, 10)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d objects are left", len(left))
		}
		return errors.Join(err, ctx.FindObjectsFinal(s))
	})
	if err != nil {
		t.Error(err)
	}
}

func FuzzParsePoint(f *testing.F) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	bare := key.PublicKey().Bytes()
	wrapped, err := asn1.Marshal(bare)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, bare, wrapped, bare[:64], append(bytes.Clone(wrapped), 0), make([]byte, 65)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		pub, err := hsm.ParsePoint(b)
		if err != nil {
			return
		}
		point, err := pub.Bytes()
		if err != nil || !bytes.HasSuffix(b, point) || len(b) != 65 && len(b) != 67 {
			t.Fatalf("%x parses as %x, %v", b, point, err)
		}
	})
}

func TestParsePointForms(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := asn1.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{bare, wrapped} {
		if pub, err := hsm.ParsePoint(b); err != nil || !pub.Equal(&key.PublicKey) {
			t.Errorf("%x: %v", b, err)
		}
	}
	offCurve := bytes.Clone(bare)
	offCurve[64] ^= 1
	for _, b := range [][]byte{nil, bare[:64], wrapped[:66], append(bytes.Clone(wrapped), 0), offCurve} {
		if _, err := hsm.ParsePoint(b); err == nil {
			t.Errorf("%x was accepted", b)
		}
	}
}
