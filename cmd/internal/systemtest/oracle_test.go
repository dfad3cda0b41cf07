package systemtest

import (
	"crypto/rand"
	"errors"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// lie is a partial message that a corrupt device signs with a value of its
// choice.
func (s *System) lie(device string, p firmware.Partial) []byte {
	s.t.Helper()
	body, err := envelope.Marshal(p)
	s.check(err)
	now := s.Now().Unix()
	raw, err := envelope.Sign(rand.Reader, s.SignKey(device), envelope.Header{
		Type: firmware.TypePartial, Version: firmware.MessageVersion, System: s.State.System(), LedgerHead: s.State.Head(),
		Created: now, Expires: now + 300,
	}, body)
	s.check(err)
	return raw
}

// TestCheckOfHandedValue has a corrupt first device, with its message server, use
// the commit-and-open check to have the last device of a chain raise a value
// that it was handed. The last device's officers approved document a. From the
// square of b's signature, and b itself, follows the signature of b.
func TestCheckOfHandedValue(t *testing.T) {
	s := Shared(t)
	a, b := s.File(Pair, []byte("what d2's officers approved")), s.File(Pair, []byte("what they never saw"))
	order := []uint64{1, 2}

	first, _, err := s.Part(b, order, 0) // d1 is corrupt, and so are its officers
	s.check(err)
	wrong, _, err := s.Part(a, order, 0)
	s.check(err)
	wrong.Y = first.Y
	prior := s.lie("d1", *wrong)

	key := s.Key(Pair)
	square := new(big.Int).SetBytes(first.Y)
	n := new(big.Int).SetBytes(key.Public.N)
	square.Mul(square, square).Mod(square, n)
	opening := threshold.Opening{HalfA: make([]byte, 16), B: make([]byte, len(key.Public.N)+16)}
	opening.HalfA[15] = 1 // w = x²·g⁰

	offer := s.MustOffer("d2", a)
	task := a.Task(offer, s.Approvals(a, offer, nil), order, 1, prior)
	_, _, err = Ask[firmware.CheckCommit](s, "d2", firmware.TypeCheckAsk, firmware.CheckAsk{
		Task: task, Challenge: threshold.Challenge{W: square.FillBytes(make([]byte, len(key.Public.N)))},
	}, firmware.TypeCheckCommit)
	var refused *RefusedError
	if errors.As(err, &refused) {
		if refused.Code != firmware.CodeMessage {
			t.Errorf("refused with code %s: %v", refused.Code, err)
		}
		return
	}
	s.check(err)
	out, _, err := Ask[firmware.CheckAnswer](s, "d2", firmware.TypeCheckOpen, firmware.CheckOpen{Request: a.Digest, Opening: opening}, firmware.TypeCheckAnswer)
	s.check(err)

	// S = S^e · (S²)^(−(e−1)/2), and S^e is the encoded message.
	checked := s.Check(b)
	em, err := checked.EncodedMessage(b.Digest)
	s.check(err)
	half := new(big.Int).SetUint64((key.Public.E - 1) / 2)
	sig := new(big.Int).Exp(new(big.Int).ModInverse(new(big.Int).SetBytes(out.Answer.Z), n), half, n)
	sig.Mul(sig, new(big.Int).SetBytes(em)).Mod(sig, n)
	if threshold.VerifySignature(&key.Public, b.Algorithm, checked.Digest(), sig.FillBytes(make([]byte, len(key.Public.N)))) == nil {
		t.Fatal("one corrupt device signed a document that the officers of the other never saw")
	}
	t.Fatal("a device answered a check about a value that it was handed")
}
