package vpcd_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ebfe/scard"
	"github.com/go-piv/piv-go/v2/piv"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
)

const testReaders = 6

// daemon is the one that this process can talk to: libpcsclite reads its
// environment once. Tests that are clients share it, each with readers of its
// own from the pool.
var (
	daemon  *vpcd.Daemon
	readers chan int
)

func TestMain(m *testing.M) {
	code, err := vpcd.Own(testReaders, func(d *vpcd.Daemon) (int, error) {
		daemon, readers = d, make(chan int, testReaders)
		for i := range testReaders {
			readers <- i
		}
		return m.Run(), nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

var testRoot = sync.OnceValues(func() (*virtual.Root, error) {
	return virtual.NewRoot(rand.Reader, time.Now())
})

func newCard(t *testing.T, p virtual.Profile, serial uint32, cfg virtual.Config) *virtual.Card {
	t.Helper()
	root, err := testRoot()
	if err != nil {
		t.Fatal(err)
	}
	s, err := root.Manufacture(rand.Reader, p, serial)
	if err != nil {
		t.Fatal(err)
	}
	c, err := virtual.New(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plug serves a card in a reader of the shared daemon for the test's duration.
func plug(t *testing.T, c *virtual.Card) (reader string, slot *virtual.Slot) {
	t.Helper()
	i := <-readers
	slot = virtual.NewSlot(c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		vpcd.Serve(t.Context(), daemon.Addr(i), slot)
	}()
	t.Cleanup(func() {
		<-done
		await(t, daemon.Readers[i], false)
		readers <- i
	})
	return daemon.Readers[i], slot
}

// await waits until pcscd has seen a card come or go; it looks every 400 ms.
func await(t *testing.T, reader string, present bool) {
	t.Helper()
	ctx, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Release()
	want := scard.StateEmpty
	if present {
		want = scard.StatePresent
	}
	state := []scard.ReaderState{{Reader: reader}}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if err := ctx.GetStatusChange(state, time.Second); err != nil && err != scard.ErrTimeout {
			t.Fatal(err)
		}
		if state[0].EventState&want != 0 && state[0].EventState&scard.StateMute == 0 {
			return
		}
		state[0].CurrentState = state[0].EventState
	}
	t.Fatalf("%q: the state stays %x", reader, state[0].EventState)
}

// open opens a reader when pcscd has seen its card. It does not try again
// when piv-go fails: piv.Open leaks its handle then, and blocks the next.
func open(t *testing.T, reader string) *piv.YubiKey {
	t.Helper()
	await(t, reader, true)
	yk, err := piv.Open(reader)
	if err != nil {
		t.Fatalf("opening %q: %v", reader, err)
	}
	t.Cleanup(func() { yk.Close() })
	return yk
}

// TestSignAgreeAttest is a card's whole life with piv-go over PC/SC, for both
// profiles.
func TestSignAgreeAttest(t *testing.T) {
	for i, p := range []virtual.Profile{virtual.Profile54(), virtual.Profile57()} {
		t.Run(p.Name, func(t *testing.T) {
			serial := uint32(1000 + i)
			reader, _ := plug(t, newCard(t, p, serial, virtual.Config{}))
			yk := open(t, reader)
			if got, err := yk.Serial(); err != nil || got != serial {
				t.Fatalf("serial %d, %v; want %d", got, err, serial)
			}
			pub, err := yk.GenerateKey(piv.DefaultManagementKey, piv.SlotSignature, piv.Key{
				Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyAlways, TouchPolicy: piv.TouchPolicyCached})
			if err != nil {
				t.Fatal(err)
			}
			key, err := yk.PrivateKey(piv.SlotSignature, pub, piv.KeyAuth{PIN: piv.DefaultPIN})
			if err != nil {
				t.Fatal(err)
			}
			digest := sha256.Sum256([]byte("document"))
			sig, err := key.(*piv.ECDSAPrivateKey).Sign(rand.Reader, digest[:], nil)
			if err != nil {
				t.Fatal(err)
			}
			if !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], sig) {
				t.Error("the signature does not verify")
			}

			intermediate, err := yk.AttestationCertificate()
			if err != nil {
				t.Fatal(err)
			}
			attestation, err := yk.Attest(piv.SlotSignature)
			if err != nil {
				t.Fatal(err)
			}
			root, _ := testRoot()
			pool := x509.NewCertPool()
			pool.AddCert(root.Certificate)
			a, err := (&piv.Verifier{Roots: pool}).Verify(intermediate, attestation)
			if err != nil {
				t.Fatal(err)
			}
			want := piv.Attestation{Version: yk.Version(), Serial: serial, Formfactor: piv.Formfactor(p.FormFactor),
				PINPolicy: piv.PINPolicyAlways, TouchPolicy: piv.TouchPolicyCached, Slot: piv.SlotSignature}
			if *a != want {
				t.Errorf("attestation %+v; want %+v", *a, want)
			}
			if _, err := piv.Verify(intermediate, attestation); err == nil {
				t.Error("the vendor's own root vouches for a virtual card")
			}

			pub, err = yk.GenerateKey(piv.DefaultManagementKey, piv.SlotKeyManagement, piv.Key{
				Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever})
			if err != nil {
				t.Fatal(err)
			}
			key, err = yk.PrivateKey(piv.SlotKeyManagement, pub, piv.KeyAuth{PIN: piv.DefaultPIN})
			if err != nil {
				t.Fatal(err)
			}
			peer, err := ecdh.P256().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			got, err := key.(*piv.ECDSAPrivateKey).ECDH(peer.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			own, err := pub.(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			if want, err := peer.ECDH(own); err != nil || string(got) != string(want) {
				t.Errorf("shared secrets differ (%v)", err)
			}
		})
	}
}
