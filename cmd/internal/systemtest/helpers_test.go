package systemtest

import (
	"crypto/rand"
	"errors"
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
