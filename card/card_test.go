package card

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"bytes"

	"github.com/ebfe/scard"
	"github.com/go-piv/piv-go/v2/piv"
	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/firmware/attest"
)

func profiles(t *testing.T, f func(t *testing.T, p virtual.Profile)) {
	for _, p := range []virtual.Profile{virtual.Profile54(), virtual.Profile57()} {
		t.Run(p.Name, func(t *testing.T) { f(t, p) })
	}
}

func TestEnrolSignAgreeAttest(t *testing.T) {
	profiles(t, func(t *testing.T, p virtual.Profile) {
		r, e := enrolled(t, p)
		c := r.open(t, Options{PIN: right, SignKey: e.Sign, AgreeKey: e.Agree})
		if c.Serial() != r.serial || c.Reader() != r.reader || c.Version() != (Version(p.Firmware)) {
			t.Errorf("card %d in %q, version %v", c.Serial(), c.Reader(), c.Version())
		}

		s, err := c.Signer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !e.Sign.Equal(s.Public()) {
			t.Error("the signer has another public key than was enrolled")
		}
		digest := sha256.Sum256([]byte("an approval"))
		for range 3 {
			sig, err := s.Sign(nil, digest[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if !ecdsa.VerifyASN1(e.Sign, digest[:], sig) {
				t.Error("bad signature")
			}
		}

		a, err := c.Agreement(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !a.PublicKey().Equal(e.Agree) {
			t.Error("the agreement has another public key than was enrolled")
		}
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := peer.ECDH(a.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.ECDH(peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("ECDH with the card: %x, %v; in software: %x", got, err, want)
		}

		slotCert, f9, err := c.Attest(t.Context(), SlotSign)
		if err != nil {
			t.Fatal(err)
		}
		sign, err := VerifyAttestation(roots(), slotCert, f9, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		agree, err := VerifyAttestation(roots(), e.AttestAgree, e.Intermediate, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if sign.Serial != r.serial || sign.Slot != 0x9c || sign.PINPolicy != attest.PINAlways ||
			sign.TouchPolicy != attest.TouchNever || !sign.PublicKey.Equal(e.Sign) || Version(sign.Version) != c.Version() ||
			sign.Formfactor != p.FormFactor {
			t.Errorf("attested: %+v", sign)
		}
		if agree.PINPolicy != attest.PINOnce {
			t.Errorf("9D wants the PIN %v", agree.PINPolicy)
		}
		if err := attest.CheckPair(sign, agree); err != nil {
			t.Error(err)
		}
	})
}

// TestAttestationOfOthers: a chain to another root, the certificate of another
// card, and none at all.
func TestAttestationOfOthers(t *testing.T) {
	_, a := enrolled(t, virtual.Profile57())
	_, b := enrolled(t, virtual.Profile54())
	now := time.Now()
	if _, err := VerifyAttestation(roots(), a.AttestSign, a.Intermediate, now); err != nil {
		t.Fatal(err)
	}
	other, err := virtual.NewRoot(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	others := x509.NewCertPool()
	others.AddCert(other.Certificate)
	for name, verify := range map[string]func() (*attest.Attestation, error){
		"another root": func() (*attest.Attestation, error) {
			return VerifyAttestation(others, a.AttestSign, a.Intermediate, now)
		},
		"no roots": func() (*attest.Attestation, error) { return VerifyAttestation(nil, a.AttestSign, a.Intermediate, now) },
		"empty roots": func() (*attest.Attestation, error) {
			return VerifyAttestation(x509.NewCertPool(), a.AttestSign, a.Intermediate, now)
		},
		"another card": func() (*attest.Attestation, error) {
			return VerifyAttestation(roots(), a.AttestSign, b.Intermediate, now)
		},
		"expired": func() (*attest.Attestation, error) {
			return VerifyAttestation(roots(), a.AttestSign, a.Intermediate, now.AddDate(100, 0, 0))
		},
		"the card's own": func() (*attest.Attestation, error) {
			return VerifyAttestation(roots(), a.Intermediate, maker.Certificate, now)
		},
	} {
		if got, err := verify(); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestList(t *testing.T) {
	a, b := plug(t, virtual.Profile54()), plug(t, virtual.Profile57())
	open := b.open(t, Options{})
	list, err := List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < testReaders {
		t.Fatalf("%d readers", len(list))
	}
	for _, r := range list {
		switch r.Name {
		case a.reader:
			if !r.Present || !r.PIV || r.Serial != a.serial || r.Version != (Version{5, 4, 3}) || r.Err != nil {
				t.Errorf("%+v", r)
			}
		case b.reader:
			if !r.Present || r.PIV || r.Serial != 0 || !errors.Is(r.Err, ErrInUse) {
				t.Errorf("%+v", r)
			}
		}
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	// The card vanishes from the list once pcscd has looked.
	a.slot.Remove()
	for ctx := deadline(t, 10*time.Second); ; {
		list, err := List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		present := false
		for _, r := range list {
			present = present || r.Name == a.reader && r.Present
		}
		if !present {
			break
		}
	}
}

// TestSelectFails: a card without PIV is told apart, and looking at it does not
// keep it.
func TestSelectFails(t *testing.T) {
	r := plug(t, virtual.Profile57())
	if err := r.slot.Inject(virtual.Fault{Action: virtual.Status, Instruction: 0xa4, Status: 0x6a82}); err != nil {
		t.Fatal(err)
	}
	list, err := List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range list {
		if l.Name == r.reader {
			found = true
			if !l.Present || l.PIV || !errors.Is(l.Err, ErrNotPIV) {
				t.Errorf("%+v", l)
			}
		}
	}
	if !found {
		t.Error("the reader is not listed")
	}
	r.open(t, Options{})
}

func TestNotFound(t *testing.T) {
	r := plug(t, virtual.Profile57())
	_, err := Open(t.Context(), 4711, Options{Reader: r.reader})
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Serial != 4711 || len(missing.Seen) != 1 || missing.Seen[0] != r.serial {
		t.Errorf("%v", err)
	}
}

func TestWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	go func() { <-waiting; cancel() }()
	close(waiting)
	if _, err := Wait(ctx, 4711); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var missing *NotFoundError
	if _, err := Wait(deadline(t, 50*time.Millisecond), 4711); !errors.Is(err, ErrTimeout) || !errors.As(err, &missing) {
		t.Errorf("at the deadline: %v", err)
	}
	r := insert(t, virtual.Profile57())
	got, err := Wait(deadline(t, 10*time.Second), r.serial)
	if err != nil || got.Name != r.reader {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestInUse(t *testing.T) {
	r := plug(t, virtual.Profile57())
	other, err := piv.Open(r.reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(deadline(t, 2*time.Second), r.serial, Options{Reader: r.reader}); !errors.Is(err, ErrInUse) {
		t.Errorf("held by another program: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := Open(ctx, r.serial, Options{Reader: r.reader}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Open waits for its turn.
	opened := make(chan error, 1)
	go func() {
		c, err := Open(deadline(t, 20*time.Second), r.serial, Options{Reader: r.reader})
		if err == nil {
			err = c.Close()
		}
		opened <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the other program let go: %v", err)
	}
}

func TestNoKey(t *testing.T) {
	profiles(t, func(t *testing.T, p virtual.Profile) {
		c := plug(t, p).open(t, Options{PIN: right})
		if _, err := c.Signer(t.Context()); !errors.Is(err, ErrNoKey(SlotSign)) || errors.Is(err, ErrNoKey(SlotAgree)) {
			t.Errorf("signer: %v", err)
		}
		if _, err := c.Agreement(t.Context()); !errors.Is(err, ErrNoKey(SlotAgree)) {
			t.Errorf("agreement: %v", err)
		}
		if _, _, err := c.Attest(t.Context(), SlotSign); !errors.Is(err, ErrNoKey(SlotSign)) {
			t.Errorf("attestation: %v", err)
		}
	})
}

func TestKeyType(t *testing.T) {
	r := plug(t, virtual.Profile57())
	yk, err := piv.Open(r.reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = yk.GenerateKey(piv.DefaultManagementKey, piv.SlotSignature,
		piv.Key{Algorithm: piv.AlgorithmEC384, PINPolicy: piv.PINPolicyAlways, TouchPolicy: piv.TouchPolicyNever})
	if err != nil {
		t.Fatal(err)
	}
	if err := yk.Close(); err != nil {
		t.Fatal(err)
	}
	c := r.open(t, Options{})
	var typ *KeyTypeError
	if _, err := c.Signer(t.Context()); !errors.As(err, &typ) || typ.Slot != SlotSign {
		t.Errorf("P-384: %v", err)
	}
}

func TestWrongKey(t *testing.T) {
	r, e := enrolled(t, virtual.Profile57())
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), r.serial, Options{SignKey: e.Sign, AgreeKey: other.PublicKey()})
	var wrong *WrongKeyError
	if !errors.As(err, &wrong) || wrong.Slot != SlotAgree || !errors.Is(err, ErrSwapped) {
		t.Errorf("%v", err)
	}
	r.open(t, Options{SignKey: e.Sign, AgreeKey: e.Agree}) // nothing was left open
}

func TestEnrolKeepsKeys(t *testing.T) {
	profiles(t, func(t *testing.T, p virtual.Profile) {
		r, first := enrolled(t, p)
		c := r.open(t, Options{})
		enrol := Enrolment{ManagementKey: virtual.DefaultManagementKey(), Now: time.Now(), Touch: attest.TouchCached}
		var exists *KeyExistsError
		if _, err := c.Enrol(t.Context(), enrol); !errors.As(err, &exists) || exists.Slot != SlotSign {
			t.Fatalf("%v", err)
		}
		if s, err := c.Signer(t.Context()); err != nil || !first.Sign.Equal(s.Public()) {
			t.Fatalf("the key was touched: %v", err)
		}
		enrol.Overwrite = true
		second, err := c.Enrol(t.Context(), enrol)
		if err != nil {
			t.Fatal(err)
		}
		if second.Sign.Equal(first.Sign) || second.Agree.Equal(first.Agree) {
			t.Error("the keys are the old ones")
		}
		if a, err := VerifyAttestation(roots(), second.AttestSign, second.Intermediate, time.Now()); err != nil || a.TouchPolicy != attest.TouchCached {
			t.Errorf("%+v, %v", a, err)
		}
		enrol.ManagementKey = bytes.Repeat([]byte{9}, 24)
		if _, err := c.Enrol(t.Context(), enrol); !errors.Is(err, ErrManagementKey) {
			t.Errorf("wrong management key: %v", err)
		}
	})
}

// TestCloseResets: after Close no program finds the PIN verified.
func TestCloseResets(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	c := r.open(t, Options{PIN: right})
	a, err := c.Agreement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ECDH(a.PublicKey()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	err = withService(func(sc *scard.Context) error {
		h, err := sc.Connect(r.reader, scard.ShareExclusive, scard.ProtocolT1)
		if err != nil {
			return err
		}
		defer h.Disconnect(scard.LeaveCard)
		if _, err := transmit(h, 0xa4, 0x04, 0, aidPIV); err != nil {
			return err
		}
		// VERIFY without data: 9000 if the PIN is verified, else 63Cn.
		if _, err := transmit(h, 0x20, 0, 0x80, nil); statusWord(err) != 0x63c3 {
			t.Errorf("the card after Close: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := a.ECDH(a.PublicKey()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestConcurrent: one card, eight goroutines.
func TestConcurrent(t *testing.T) {
	r, e := enrolled(t, virtual.Profile57())
	c := r.open(t, Options{PIN: right})
	s, err := c.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Agreement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := peer.ECDH(e.Agree)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if i%2 == 0 {
					if got, err := a.ECDH(peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
						t.Errorf("ECDH: %x, %v", got, err)
					}
					continue
				}
				digest := sha256.Sum256([]byte{byte(i)})
				sig, err := s.Sign(nil, digest[:], crypto.SHA256)
				if err != nil || !ecdsa.VerifyASN1(e.Sign, digest[:], sig) {
					t.Errorf("signature: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSignerTakesSHA256Only(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	p := &pins{}
	s, err := r.open(t, Options{PIN: p.source}).Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		digest []byte
		opts   crypto.SignerOpts
	}{{make([]byte, 32), nil}, {make([]byte, 32), crypto.Hash(0)}, {make([]byte, 31), crypto.SHA256}, {make([]byte, 48), crypto.SHA384}} {
		if _, err := s.Sign(nil, bad.digest, bad.opts); err == nil {
			t.Errorf("signed %d bytes for %v", len(bad.digest), bad.opts)
		}
	}
	if len(p.prompts) != 0 {
		t.Error("asked for the PIN")
	}
}
