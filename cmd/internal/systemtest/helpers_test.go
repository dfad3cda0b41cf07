package systemtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
)

var randReader = rand.Reader

// encoded is the encoded message of a request.
func encoded(t testing.TB, s *System, r *Request) []byte {
	t.Helper()
	em, err := s.Check(r).EncodedMessage(r.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return em
}

func asWrong(err error, target **threshold.WrongPartialError) bool { return errors.As(err, target) }

// wantDropped checks that a device said nothing at all, and noted why.
func wantDropped(t testing.TB, err error, why string) {
	t.Helper()
	var r *RefusedError
	switch {
	case err == nil:
		t.Fatalf("answered, want silence because %q", why)
	case errors.As(err, &r):
		t.Errorf("refused (%v), want silence because %q", err, why)
	case !strings.Contains(err.Error(), "says nothing") || !strings.Contains(err.Error(), why):
		t.Errorf("got %v, want silence because %q", err, why)
	}
}

// unmoved checks that a device made no partial signature while f ran.
func unmoved(t testing.TB, s *System, device string, f func()) {
	t.Helper()
	before := s.Status(device).Partials
	f()
	if after := s.Status(device).Partials; after != before {
		t.Errorf("device %s made %d partial signatures", device, after-before)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// negated is N − y.
func negated(n, y []byte) []byte {
	d := new(big.Int).Sub(new(big.Int).SetBytes(n), new(big.Int).SetBytes(y))
	return d.FillBytes(make([]byte, len(n)))
}
