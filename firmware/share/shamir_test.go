package share_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"pgregory.net/rapid"
)

// An independent GF(2^8): logarithm tables to the generator 3, and Shamir's
// scheme on top of it. Not constant-time; it shares nothing with the package.
type tables struct{ exp, log [256]int }

func newTables() *tables {
	var t tables
	x := 1
	for i := range 255 {
		t.exp[i], t.log[x] = x, i
		d := x << 1
		if d > 255 {
			d ^= 0x11b
		}
		x ^= d // times 3 = times 2 plus times 1
	}
	return &t
}

func (t *tables) mul(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	return t.exp[(t.log[a]+t.log[b])%255]
}

func (t *tables) div(a, b int) int {
	if a == 0 {
		return 0
	}
	return t.exp[(t.log[a]-t.log[b]+255)%255]
}

// at evaluates secret + c₁x + c₂x² + …, coefficients from the lowest.
func (t *tables) at(secret int, coefficients []int, x int) int {
	y, p := secret, 1
	for _, c := range coefficients {
		p = t.mul(p, x)
		y ^= t.mul(c, p)
	}
	return y
}

// join interpolates at 0.
func (t *tables) join(xs, ys []int) int {
	s := 0
	for i := range xs {
		w := ys[i]
		for j := range xs {
			if i != j {
				w = t.div(t.mul(w, xs[j]), xs[i]^xs[j])
			}
		}
		s ^= w
	}
	return s
}

func TestOracleIsTheFieldOfAES(t *testing.T) {
	// FIPS 197 section 4.2: {57}·{83} = {c1}, {57}·{13} = {fe}.
	o := newTables()
	if o.mul(0x57, 0x83) != 0xc1 || o.mul(0x57, 0x13) != 0xfe || o.div(1, 0x53) != 0xca {
		t.Fatal("the oracle is wrong")
	}
}

// TestSplitAgainstOracle: pieces are those of the oracle for the same
// coefficients, and the oracle joins them.
func TestSplitAgainstOracle(t *testing.T) {
	o := newTables()
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(2, share.MaxPieces).Draw(t, "m")
		l := rapid.IntRange(2, m).Draw(t, "l")
		secret := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "secret")
		random := rapid.SliceOfN(rapid.Byte(), (l-1)*len(secret), (l-1)*len(secret)).Draw(t, "coefficients")
		pieces, err := share.SplitSecret(bytes.NewReader(random), secret, l, m)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range pieces {
			if p.Index != uint64(i+1) {
				t.Fatalf("piece %d has index %d", i, p.Index)
			}
			for k := range secret {
				// The package reads the highest coefficient first.
				var c []int
				for j := l - 2; j >= 0; j-- {
					c = append(c, int(random[k*(l-1)+j]))
				}
				if want := o.at(int(secret[k]), c, i+1); int(p.Value.Reveal()[k]) != want {
					t.Fatalf("piece %d byte %d: %#x, want %#x", i+1, k, p.Value.Reveal()[k], want)
				}
			}
		}
		order := rapid.Permutation(pieces).Draw(t, "order")[:rapid.IntRange(l, m).Draw(t, "joined")]
		got, err := share.JoinPieces(order)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Reveal(), secret) {
			t.Fatalf("joined %x, want %x", got.Reveal(), secret)
		}
		for k := range secret {
			var xs, ys []int
			for _, p := range order {
				xs, ys = append(xs, int(p.Index)), append(ys, int(p.Value.Reveal()[k]))
			}
			if o.join(xs, ys) != int(secret[k]) {
				t.Fatal("the oracle joins to something else")
			}
		}
	})
}

// TestFewerPiecesSayNothing counts all polynomials of a one-byte secret: for
// every secret every value of l−1 pieces occurs exactly once, so the pieces'
// distribution does not depend on the secret.
func TestFewerPiecesSayNothing(t *testing.T) {
	for secret := range 256 {
		for index := range share.MaxPieces {
			var seen [256]int
			for c := range 256 {
				p, err := share.SplitSecret(bytes.NewReader([]byte{byte(c)}), []byte{byte(secret)}, 2, share.MaxPieces)
				if err != nil {
					t.Fatal(err)
				}
				seen[p[index].Value.Reveal()[0]]++
			}
			for v, n := range seen {
				if n != 1 {
					t.Fatalf("secret %#x: piece %d has value %#x %d times", secret, index+1, v, n)
				}
			}
			if secret%16 != 0 { // all indices for every sixteenth secret, the first for each
				break
			}
		}
	}
	for _, secret := range []byte{0, 1, 0xa5} {
		for _, pair := range [][2]int{{0, 1}, {1, 3}} {
			seen := make([]bool, 1<<16)
			for c := range 1 << 16 {
				p, err := share.SplitSecret(bytes.NewReader([]byte{byte(c >> 8), byte(c)}), []byte{secret}, 3, 4)
				if err != nil {
					t.Fatal(err)
				}
				v := int(p[pair[0]].Value.Reveal()[0])<<8 | int(p[pair[1]].Value.Reveal()[0])
				if seen[v] {
					t.Fatalf("secret %#x: pieces %v have the values %#x twice", secret, pair, v)
				}
				seen[v] = true
			}
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, tc := range []struct{ l, m, size int }{
		{0, 3, 32}, {1, 3, 32}, {-1, 3, 32}, {4, 3, 32}, {2, 17, 32}, {2, 1, 32}, {2, 3, 0}, {2, 3, share.MaxSecret + 1},
	} {
		if _, err := share.SplitSecret(rand.Reader, make([]byte, tc.size), tc.l, tc.m); err == nil {
			t.Errorf("%d of %d, %d bytes: accepted", tc.l, tc.m, tc.size)
		}
	}
	if _, err := share.SplitSecret(strings.NewReader("short"), make([]byte, 32), 2, 3); err == nil {
		t.Error("split without entropy")
	}
}

func piece(index uint64, value string) share.Piece {
	return share.Piece{Index: index, Value: threshold.NewSecret([]byte(value))}
}

func TestJoinRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		pieces []share.Piece
		want   error
	}{
		"none":      {nil, share.ErrTooFewPieces},
		"one":       {[]share.Piece{piece(1, "a")}, share.ErrTooFewPieces},
		"index 0":   {[]share.Piece{piece(0, "a"), piece(1, "b")}, share.ErrPiece},
		"index 17":  {[]share.Piece{piece(1, "a"), piece(17, "b")}, share.ErrPiece},
		"index 257": {[]share.Piece{piece(1, "a"), piece(257, "b")}, share.ErrPiece}, // 1 as a byte
		"twice":     {[]share.Piece{piece(1, "a"), piece(1, "b")}, share.ErrPiece},
		"lengths":   {[]share.Piece{piece(1, "a"), piece(2, "bb")}, share.ErrPiece},
		"empty":     {[]share.Piece{piece(1, ""), piece(2, "")}, share.ErrPiece},
		"zero":      {make([]share.Piece, 2), share.ErrPiece},
	} {
		if _, err := share.JoinPieces(tc.pieces); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if _, _, err := share.Recover(tc.pieces, 2, func([]byte) bool { return true }); !errors.Is(err, tc.want) {
			t.Errorf("recover, %s: %v, want %v", name, err, tc.want)
		}
	}
}

// TestRecoverNamesTheWrongPiece: of five pieces some are wrong; as long as
// three are right the secret is found and the wrong ones are named.
func TestRecoverNamesTheWrongPiece(t *testing.T) {
	secret := []byte("thirty-two bytes of officers key")
	check := func(s []byte) bool { return bytes.Equal(s, secret) }
	for mask := range 1 << 5 {
		pieces, err := share.SplitSecret(rand.Reader, secret, 3, 5)
		if err != nil {
			t.Fatal(err)
		}
		var bad []uint64
		for i := range pieces {
			if mask>>i&1 == 1 {
				// Not a multiple of the index: errors on a line through 0
				// cancel in the secret.
				pieces[i].Value.Reveal()[7] ^= []byte{7, 1, 0x91, 0x33, 0x5c}[i]
				bad = append(bad, uint64(i+1))
			}
		}
		got, wrong, err := share.Recover(pieces, 3, check)
		if len(bad) > 2 {
			if !errors.Is(err, share.ErrWrongPieces) {
				t.Errorf("%v wrong: %v", bad, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%v wrong: %v", bad, err)
		}
		if !bytes.Equal(got.Reveal(), secret) || fmt.Sprint(wrong) != fmt.Sprint(bad) {
			t.Errorf("%v wrong: named %v", bad, wrong)
		}
	}
	pieces, err := share.SplitSecret(rand.Reader, secret, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := share.Recover(pieces[:2], 3, check); !errors.Is(err, share.ErrTooFewPieces) {
		t.Errorf("two of three: %v", err)
	}
	for _, l := range []int{-1, 0, 1, share.MaxPieces + 1} {
		if _, _, err := share.Recover(pieces, l, check); err == nil {
			t.Errorf("threshold %d accepted", l)
		}
	}
}

func TestPIN(t *testing.T) {
	pin, err := share.NewPIN(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if pin.Len() != 52 || strings.Trim(string(pin.Reveal()), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		t.Errorf("PIN %q", pin.Reveal())
	}
	check := share.PINCheck(pin)
	pieces, err := share.SplitSecret(rand.Reader, pin.Reveal(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, wrong, err := share.RecoverPIN(check, 2, pieces[1:])
	if err != nil || len(wrong) != 0 || !got.Equal(pin) {
		t.Fatalf("recovered %v, %v, %v", got.Equal(pin), wrong, err)
	}
	pieces[1].Value.Reveal()[0] ^= 1
	if _, _, err := share.RecoverPIN(check, 2, pieces[:2]); !errors.Is(err, share.ErrWrongPieces) {
		t.Errorf("wrong PIN not recognised: %v", err)
	}
	if _, err := share.NewPIN(strings.NewReader("short")); err == nil {
		t.Error("PIN without entropy")
	}
}
