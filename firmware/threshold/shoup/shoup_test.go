package shoup_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	circl "github.com/cloudflare/circl/tss/rsa"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial/polynomialtest"
	"github.com/privyseal/privyseal/firmware/threshold/shoup"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

func stdKey(t testing.TB, k *threshold.WholeKey) *rsa.PrivateKey {
	t.Helper()
	ps, qs, err := k.Factors()
	if err != nil {
		t.Fatal(err)
	}
	p, q := new(big.Int).SetBytes(ps.Reveal()), new(big.Int).SetBytes(qs.Reveal())
	d, _ := thresholdtest.Exponent(k)
	key := &rsa.PrivateKey{PublicKey: *k.Public().RSA(), D: d, Primes: []*big.Int{p, q}}
	key.Precompute()
	return key
}

func message(t testing.TB, text string) (digest, em []byte) {
	t.Helper()
	h := threshold.RS256.Hash().New()
	h.Write([]byte(text))
	digest = h.Sum(nil)
	em, err := threshold.Encode(threshold.RS256, digest, nil, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return digest, em
}

// number takes the last number out of circl's encoding, at width 256.
func number(t testing.TB, data []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	length := int(binary.BigEndian.Uint16(data[6:8]))
	return new(big.Int).SetBytes(data[8 : 8+length]).FillBytes(make([]byte, 256))
}

func canonical(y []byte, n *big.Int) []byte {
	v := new(big.Int).SetBytes(y)
	if other := new(big.Int).Sub(n, v); other.Cmp(v) < 0 {
		v = other
	}
	return v.FillBytes(make([]byte, 256))
}

func sharing(t testing.TB, p *shoup.Public, pub *threshold.PublicKey) *polynomial.Sharing {
	t.Helper()
	s, err := p.Sharing(pub)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAgainstCircl uses shares that circl's tss/rsa dealt: every partial signature
// is circl's, each side combines the other's, and the signatures are equal.
func TestAgainstCircl(t *testing.T) {
	const T, N = 3, 5
	k := thresholdtest.Key(2048, true)
	whole, pub := stdKey(t, k), k.Public()
	n := new(big.Int).SetBytes(pub.N)
	dealt, err := circl.Deal(rand.Reader, N, T, whole, false)
	if err != nil {
		t.Fatal(err)
	}
	digest, em := message(t, "document")
	p := sharing(t, &shoup.Public{T: T, N: N}, pub)
	var ours []threshold.PartialSignature
	var theirs []circl.SignShare
	for i := range dealt {
		data, err := dealt[i].MarshalBinary()
		share := threshold.NewSecret(number(t, data, err))
		e, err := threshold.NewHostExponentiator(pub, share)
		if err != nil {
			t.Fatal(err)
		}
		y, err := p.Partial(em, e)
		if err != nil {
			t.Fatal(err)
		}
		their, err := dealt[i].Sign(rand.Reader, &whole.PublicKey, em, false)
		if err != nil {
			t.Fatal(err)
		}
		data, err = their.MarshalBinary()
		if want := canonical(number(t, data, err), n); !bytes.Equal(y, want) {
			t.Errorf("share %d: another partial signature than circl's", i+1)
		}
		ours = append(ours, threshold.PartialSignature{Index: uint64(i + 1), Value: y})
		theirs = append(theirs, their)
	}
	want, err := circl.CombineSignShares(&whole.PublicKey, N, T, []circl.SignShare{theirs[0], theirs[2], theirs[4]}, em)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range (threshold.Split{Scheme: threshold.Additive, T: T, N: N}).Subsets() {
		var partials []threshold.PartialSignature
		var back []circl.SignShare
		for _, i := range set.Indices() {
			partials = append(partials, ours[i-1])
			data := binary.BigEndian.AppendUint16(nil, N)
			for _, x := range []uint16{T, uint16(i), 256} {
				data = binary.BigEndian.AppendUint16(data, x)
			}
			var s circl.SignShare
			if err := s.UnmarshalBinary(append(data, ours[i-1].Value...)); err != nil {
				t.Fatal(err)
			}
			back = append(back, s)
		}
		if got, err := p.CombineVarTime(threshold.RS256, digest, em, partials); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: differs from circl (%v)", set, err)
		}
		if got, err := circl.CombineSignShares(&whole.PublicKey, N, T, back, em); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: circl makes something else of ours (%v)", set, err)
		}
	}
}

func TestCheckDealing(t *testing.T) {
	k := thresholdtest.Key(2048, true)
	pub := k.Public()
	shares, p, err := shoup.Deal(rand.Reader, k, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	polynomialtest.Dealings(t, sharing(t, p, pub), shares)
	for name, change := range map[string]func(*shoup.Public){
		"first":   func(p *shoup.Public) { p.V[0] = p.V[1] },
		"last":    func(p *shoup.Public) { p.V[3] = p.V[1] },
		"g":       func(p *shoup.Public) { p.G = p.V[0] },
		"no g":    func(p *shoup.Public) { p.G = nil },
		"t":       func(p *shoup.Public) { p.T = 2 },
		"n":       func(p *shoup.Public) { p.N = 3 },
		"missing": func(p *shoup.Public) { p.V = p.V[:3] },
		"zero":    func(p *shoup.Public) { p.V[2] = make([]byte, 256) },
		"t = 0":   func(p *shoup.Public) { p.T = 0 },
		"huge":    func(p *shoup.Public) { p.T, p.N = 1<<63, 1<<63 },
		"huge n":  func(p *shoup.Public) { p.N = 1 << 40 },
	} {
		bad := *p
		bad.V = append([][]byte{}, p.V...)
		change(&bad)
		if err := polynomialtest.CheckDealing(&bad, pub); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	other := thresholdtest.Key(2048, false).Public()
	if err := sharing(t, p, other).CheckShare(&shares[0]); err == nil {
		t.Error("another modulus")
	}
}

// TestMessages: what is no unit other than ±1, or not below the modulus, is not
// signed.
func TestMessages(t *testing.T) {
	k := thresholdtest.Key(2048, true)
	pub := k.Public()
	shares, dealt, err := shoup.Deal(rand.Reader, k, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	p := sharing(t, dealt, pub)
	e, err := threshold.NewHostExponentiator(pub, shares[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	factor, _, _ := k.Factors()
	n := new(big.Int).SetBytes(pub.N)
	for name, x := range map[string][]byte{
		"0": make([]byte, 256), "1": append(make([]byte, 255), 1), "N − 1": new(big.Int).Sub(n, big.NewInt(1)).Bytes(), "N": pub.N, "short": {2},
		"a factor": append(make([]byte, 128), factor.Reveal()...),
	} {
		if _, err := p.Partial(x, e); !errors.Is(err, threshold.ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	digest, em := message(t, "document")
	y, err := p.Partial(em, e)
	if err != nil {
		t.Fatal(err)
	}
	_, other := message(t, "another document")
	if _, err := p.CombineVarTime(threshold.RS256, digest, other, []threshold.PartialSignature{{Index: 1, Value: y}}); !errors.Is(err, threshold.ErrSignature) {
		t.Errorf("combined for another message: %v", err)
	}
	if _, err := p.CombineVarTime(threshold.RS256, digest, em, []threshold.PartialSignature{{Index: 1, Subset: 1, Value: y}}); !errors.Is(err, threshold.ErrSubset) {
		t.Errorf("for a set: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	if _, _, err := shoup.Deal(rand.Reader, thresholdtest.Key(2048, false), 2, 3); !errors.Is(err, shoup.ErrPrimes) {
		t.Errorf("ordinary primes: %v", err)
	}
	polynomialtest.Refusals(t, shoup.Deal, thresholdtest.Key(2048, true))
}
