package share

import (
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// Piece is one officer's part of a split secret: the value at x = Index of one
// polynomial over GF(2^8) for each byte of the secret (Shamir, "How to share a
// secret", 1979). Index is public, 1 to MaxPieces.
type Piece struct {
	Index uint64           `cbor:"1,keyasint"`
	Value threshold.Secret `cbor:"2,keyasint"`
}

// Wipe erases the value.
func (p Piece) Wipe() { p.Value.Wipe() }

// SplitSecret splits a secret of 1 to MaxSecret bytes into m pieces with the
// indices 1 to m, of which any l give it back and fewer say nothing about it.
// 2 ≤ l ≤ m ≤ MaxPieces. It reads (l−1)·len(secret) bytes from rand, all of
// which must be uniform. The secret stays the caller's to wipe.
func SplitSecret(rand io.Reader, secret []byte, l, m int) ([]Piece, error) {
	if l < MinThreshold || l > m || m > MaxPieces {
		return nil, fmt.Errorf("share: split %d of %d: need %d ≤ l ≤ m ≤ %d", l, m, MinThreshold, MaxPieces)
	}
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("share: split a secret of %d bytes: need 1 to %d", len(secret), MaxSecret)
	}
	coefficients := make([]byte, (l-1)*len(secret))
	defer clear(coefficients)
	if _, err := io.ReadFull(rand, coefficients); err != nil {
		return nil, fmt.Errorf("share: split: %w", err)
	}
	pieces := make([]Piece, m)
	for i := range pieces {
		x := byte(i + 1)
		value := make([]byte, len(secret))
		for k := range secret {
			// Horner from the highest coefficient. It may be zero: a degree
			// below l−1 must be as likely as chance, or l−1 pieces would
			// exclude a value of the secret.
			var y byte
			for _, c := range coefficients[k*(l-1) : (k+1)*(l-1)] {
				y = mul(y^c, x)
			}
			value[k] = y ^ secret[k]
		}
		pieces[i] = Piece{Index: uint64(x), Value: threshold.NewSecret(value)}
	}
	return pieces, nil
}

// JoinPieces interpolates the secret from all the pieces given. With fewer
// than the threshold, or a wrong one among them, the result is garbage that
// nothing here can tell from the secret: see Recover. Errors are ErrPiece and
// ErrTooFewPieces (fewer than MinThreshold).
func JoinPieces(pieces []Piece) (threshold.Secret, error) {
	if err := checkPieces(pieces); err != nil {
		return threshold.Secret{}, err
	}
	return threshold.NewSecret(interpolate(pieces, 0)), nil
}

// Recover joins l pieces to a secret that check accepts. If more than l are
// given it looks for l that fit, and returns as wrong the indices of those that
// do not lie on the same polynomial: their officers' cards gave something else.
// If no l pieces fit the error is ErrWrongPieces.
func Recover(pieces []Piece, l int, check func(secret []byte) bool) (secret threshold.Secret, wrong []uint64, err error) {
	if l < MinThreshold || l > MaxPieces {
		return threshold.Secret{}, nil, fmt.Errorf("share: threshold %d: need %d to %d", l, MinThreshold, MaxPieces)
	}
	if len(pieces) < l {
		return threshold.Secret{}, nil, fmt.Errorf("%w: %d of %d", ErrTooFewPieces, len(pieces), l)
	}
	if err := checkPieces(pieces); err != nil {
		return threshold.Secret{}, nil, err
	}
	for chosen := range combinations(pieces, l) {
		s := interpolate(chosen, 0)
		if !check(s) {
			clear(s)
			continue
		}
		for _, p := range pieces {
			y := threshold.NewSecret(interpolate(chosen, byte(p.Index)))
			if !y.Equal(p.Value) {
				wrong = append(wrong, p.Index)
			}
			y.Wipe()
		}
		return threshold.NewSecret(s), wrong, nil
	}
	return threshold.Secret{}, nil, fmt.Errorf("%w: tried every %d of %d", ErrWrongPieces, l, len(pieces))
}

func checkPieces(pieces []Piece) error {
	if len(pieces) < MinThreshold {
		return fmt.Errorf("%w: %d", ErrTooFewPieces, len(pieces))
	}
	var seen [MaxPieces + 1]bool
	for _, p := range pieces {
		switch {
		case p.Index == 0 || p.Index > MaxPieces:
			// x = 0 is where the secret is: a piece there would be the whole.
			return fmt.Errorf("%w: index %d, allowed 1 to %d", ErrPiece, p.Index, MaxPieces)
		case seen[p.Index]:
			return fmt.Errorf("%w: index %d twice", ErrPiece, p.Index)
		case p.Value.Len() == 0 || p.Value.Len() > MaxSecret:
			return fmt.Errorf("%w: piece %d has %d bytes", ErrPiece, p.Index, p.Value.Len())
		case p.Value.Len() != pieces[0].Value.Len():
			return fmt.Errorf("%w: pieces %d and %d differ in length", ErrPiece, pieces[0].Index, p.Index)
		}
		seen[p.Index] = true
	}
	return nil
}

// interpolate evaluates at x the polynomial through the pieces (Lagrange). In
// characteristic 2 subtraction is addition.
func interpolate(pieces []Piece, x byte) []byte {
	out := make([]byte, pieces[0].Value.Len())
	for i, p := range pieces {
		num, den := byte(1), byte(1)
		for j, q := range pieces {
			if i != j {
				num = mul(num, x^byte(q.Index))
				den = mul(den, byte(p.Index)^byte(q.Index))
			}
		}
		weight := mul(num, inverse(den))
		for k, v := range p.Value.Reveal() {
			out[k] ^= mul(weight, v)
		}
	}
	return out
}

// combinations yields every choice of l pieces, the first l first. The slice
// is reused.
func combinations(pieces []Piece, l int) func(yield func([]Piece) bool) {
	return func(yield func([]Piece) bool) {
		chosen := make([]Piece, l)
		var choose func(from, k int) bool
		choose = func(from, k int) bool {
			if k == l {
				return yield(chosen)
			}
			for i := from; i <= len(pieces)-(l-k); i++ {
				chosen[k] = pieces[i]
				if !choose(i+1, k+1) {
					return false
				}
			}
			return true
		}
		choose(0, 0)
	}
}
