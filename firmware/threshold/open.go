package threshold

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"math/big"
)

// The commit-and-open check finds out whether a partial signature y of x was
// made with the sub-share d of a published v = g^d when d sits in a token that
// can raise to d and do nothing else, so that no proof can be had.
//
// It is the interactive check of Gennaro, Jarecki, Krawczyk and Rabin, "Robust
// and Efficient Sharing of RSA Functions" (Crypto '96, §4):
//
//	verifier                                device
//	a, b random, a even
//	w = xᵃ·gᵇ            ── Challenge ──▶   z = w^d, kept
//	                     ◀─ commitment ──   H(binding, w, z, nonce)
//	(a, b)               ── Opening ────▶   checks w = xᵃ·gᵇ for its own x
//	z = yᵃ·vᵇ ?          ◀─ Answer ──────   z, nonce
//
// The device gives away nothing: it releases z only to someone who has shown that
// he could compute z himself, as yᵃ·vᵇ. It is no oracle that would sign w.
// It must hold z back until the opening is checked, which the type HeldAnswer
// enforces, and compute x from its own copy of the request.
//
// The verifier is not deceived: w is the same for every a with a fitting b, so
// when the device commits to z it knows nothing of a; for y = ±x^d·u it would have
// to guess u^a. With safe primes and u ≠ ±1 that succeeds with a probability of
// 2⁻¹²⁷; with ordinary primes u of small order might pass more often (see
// VerifyProof). a is even so that the sign of y, which travels as min(y, N−y),
// does not matter, and so that w lies in the group that g generates and b hides a.

// Challenge is the verifier's first message, w of |N| bytes.
type Challenge struct {
	W []byte `cbor:"1,keyasint"`
}

// Opening is the verifier's second message: w = x^(2·HalfA)·gᴮ. It must not be
// sent before the device's commitment has arrived.
type Opening struct {
	HalfA []byte `cbor:"1,keyasint"` // 16 bytes
	B     []byte `cbor:"2,keyasint"` // |N| + 16 bytes
}

// Answer is the device's second message.
type Answer struct {
	Z     []byte `cbor:"1,keyasint"` // w^d mod N, |N| bytes
	Nonce []byte `cbor:"2,keyasint"` // 32 bytes
}

const answerLabel = "privyseal answer to challenge v1"

// NewChallenge returns a fresh challenge about the partial signature of x (the
// verifier's own encoded message, or in a sequence the value that was advanced).
// The Opening is the verifier's secret until the device has committed itself.
func NewChallenge(rand io.Reader, pub *PublicKey, c *Commitment, x []byte) (*Challenge, *Opening, error) {
	o := &Opening{HalfA: make([]byte, openingALen), B: make([]byte, pub.Len()+openingBSlack)}
	for _, p := range [][]byte{o.HalfA, o.B} {
		if _, err := io.ReadFull(rand, p); err != nil {
			return nil, nil, fmt.Errorf("threshold: reading randomness: %w", err)
		}
	}
	w, err := o.power(pub, x, c.G)
	if err != nil {
		return nil, nil, err
	}
	return &Challenge{W: w}, o, nil
}

// power returns x^(2·HalfA)·gᴮ mod N.
func (o *Opening) power(pub *PublicKey, x, base []byte) ([]byte, error) {
	grp, err := pub.group()
	if err != nil {
		return nil, err
	}
	if o == nil || len(o.HalfA) != openingALen || len(o.B) != pub.Len()+openingBSlack {
		return nil, fmt.Errorf("%w: malformed", ErrOpening)
	}
	X, err := grp.unit(x)
	if err != nil {
		return nil, err
	}
	if _, err := grp.unit(base); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommitment, err)
	}
	// In constant time, as a and b are secret until the device has committed.
	xa, err := grp.mod.Exp(grp.square(X), o.HalfA)
	if err != nil {
		return nil, err
	}
	gb, err := grp.mod.Exp(base, o.B)
	if err != nil {
		return nil, err
	}
	w := new(big.Int).Mul(new(big.Int).SetBytes(xa), new(big.Int).SetBytes(gb))
	return grp.bytes(w.Mod(w, grp.n)), nil
}

// HeldAnswer is a device's answer between commitment and opening. It gives
// itself away only through Release, and only once. It lives in memory only: if
// it is lost, nothing was released, and the verifier starts anew.
type HeldAnswer struct {
	pub      PublicKey
	w        []byte
	z, nonce Secret
}

// CommitAnswer raises the challenge to the device's sub-share and returns the
// commitment to the result, 32 bytes, for the verifier. b is what the partial
// signature in question was made for.
func CommitAnswer(rand io.Reader, pub *PublicKey, b Binding, index uint64, ch *Challenge, e Exponentiator) (commitment []byte, held *HeldAnswer, err error) {
	if err := b.Validate(); err != nil {
		return nil, nil, err
	}
	grp, err := pub.group()
	if err != nil {
		return nil, nil, err
	}
	if ch == nil {
		return nil, nil, fmt.Errorf("%w: no challenge", ErrOpening)
	}
	if _, err := grp.unit(ch.W); err != nil {
		return nil, nil, fmt.Errorf("challenge: %w", err)
	}
	nonce := make([]byte, 32)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, nil, fmt.Errorf("threshold: reading randomness: %w", err)
	}
	z, err := e.Exp(ch.W)
	if err != nil {
		return nil, nil, err
	}
	if _, err := grp.unit(z); err != nil {
		return nil, nil, fmt.Errorf("result of exponentiation: %w", err)
	}
	answer := &Answer{Z: z, Nonce: nonce}
	return answer.commit(pub, b, index, ch), &HeldAnswer{*pub, ch.W, NewSecret(z), NewSecret(nonce)}, nil
}

func (a *Answer) commit(pub *PublicKey, b Binding, index uint64, ch *Challenge) []byte {
	t := b.transcript(answerLabel, pub, index)
	t.Add(ch.W)
	t.Add(a.Z)
	t.Add(a.Nonce)
	return t.Sum(32)
}

// Release returns the answer if the opening shows that the challenge was made
// of x and g. x is the device's own: the encoded message that it computed from
// the request, or in a sequence the value that it advanced. Whatever the result,
// the answer is gone from h afterwards.
func (h *HeldAnswer) Release(c *Commitment, x []byte, o *Opening) (*Answer, error) {
	if h.z.Len() == 0 {
		return nil, fmt.Errorf("%w: answered already", ErrOpening)
	}
	defer h.z.Wipe()
	w, err := o.power(&h.pub, x, c.G)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(w, h.w) != 1 {
		return nil, fmt.Errorf("%w: the challenge is not about this partial signature", ErrOpening)
	}
	return &Answer{Z: h.z.Clone().Reveal(), Nonce: h.nonce.Clone().Reveal()}, nil
}

// VerifyAnswer is the verifier's verdict on the partial signature y of x by the
// given index: nil if it is right, WrongPartialError if the device's answer
// shows it wrong, or does not match the commitment.
func VerifyAnswer(pub *PublicKey, c *Commitment, b Binding, index uint64, x, y []byte, ch *Challenge, o *Opening, commitment []byte, a *Answer) error {
	grp, err := pub.group()
	if err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return err
	}
	v, err := c.Lookup(b.Subset, index)
	if err != nil {
		return err
	}
	if w, err := o.power(pub, x, c.G); err != nil {
		return err
	} else if subtle.ConstantTimeCompare(w, ch.W) != 1 {
		return fmt.Errorf("%w: challenge and opening do not belong together", ErrOpening)
	}
	wrong := &WrongPartialError{[]uint64{index}}
	if a == nil || len(a.Nonce) != 32 || subtle.ConstantTimeCompare(a.commit(pub, b, index, ch), commitment) != 1 {
		return fmt.Errorf("%w (%w: answer does not match its commitment)", wrong, ErrOpening)
	}
	Y, err := grp.partial(y)
	if err != nil {
		return fmt.Errorf("%w (%w)", wrong, err)
	}
	want, err := o.power(pub, grp.bytes(Y), v)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, a.Z) != 1 {
		return wrong
	}
	return nil
}

func (*HeldAnswer) String() string               { return redacted }
func (*HeldAnswer) GoString() string             { return redacted }
func (HeldAnswer) Format(f fmt.State, _ rune)    { io.WriteString(f, redacted) }
func (*HeldAnswer) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (*HeldAnswer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (*HeldAnswer) LogValue() slog.Value         { return slog.StringValue(redacted) }
