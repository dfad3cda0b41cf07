package threshold

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// PartialSignature is one device's partial signature as it travels.
type PartialSignature struct {
	Index  uint64 `cbor:"1,keyasint"`
	Share  string `cbor:"2,keyasint"` // share id
	Subset Subset `cbor:"3,keyasint"`
	Value  []byte `cbor:"4,keyasint"`           // min(y, N−y), |N| bytes
	Proof  *Proof `cbor:"5,keyasint,omitempty"` // nil if none was asked for or the share is used in a token
}

// CombineAdditiveVarTime multiplies the partial signatures of one subset,
// one of each member, and returns the signature of |N| bytes after it has been
// verified. All its inputs are public.
//
// It returns ErrSubset if the partial signatures are not exactly one of each
// member of one subset, WrongPartialError naming those that are out of range,
// and CombineError if the product does not verify.
func CombineAdditiveVarTime(pub *PublicKey, a Algorithm, digest []byte, partials []PartialSignature) ([]byte, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	subset, err := subsetOf(partials)
	if err != nil {
		return nil, err
	}
	g, err := pub.group()
	if err != nil {
		return nil, err
	}
	product := new(big.Int).Set(one)
	for _, index := range subset.Indices() {
		y, err := g.canonical(find(partials, index).Value)
		if err != nil {
			return nil, g.wrong(subset, partials)
		}
		product.Mul(product, y).Mod(product, g.n)
	}
	sig, err := g.finish(a, digest, product)
	if err == nil {
		return sig, nil
	}
	if errors.Is(err, modexp.ErrLibcrypto) {
		return nil, err // that is nobody's fault
	}
	if wrong := g.wrong(subset, partials); wrong != nil {
		return nil, wrong
	}
	return nil, fmt.Errorf("%w (%w)", &CombineError{subset}, err)
}

// wrong returns WrongPartialError if partial signatures are out of range or not
// coprime to N. The latter is slow to tell, and asked only if the product s fails,
// as a factor that is no unit makes it fail: s^e is none either then, while an
// encoded message is one unless whoever chose the document knows a factor of N.
func (g *group) wrong(subset Subset, partials []PartialSignature) error {
	e := &WrongPartialError{}
	for _, index := range subset.Indices() {
		if _, err := g.partial(find(partials, index).Value); err != nil {
			e.Indices = append(e.Indices, index)
		}
	}
	if len(e.Indices) == 0 {
		return nil
	}
	return e
}

// FinishSequentialVarTime returns the signature that the last partial
// signature y of a sequence is: y or N − y, whichever verifies. It returns
// ErrSignature if neither does, and then y must not be released, and ErrValue if y
// is what [PublicKey.CheckPartial] refuses.
func FinishSequentialVarTime(pub *PublicKey, a Algorithm, digest, y []byte) ([]byte, error) {
	g, err := pub.group()
	if err != nil {
		return nil, err
	}
	return g.finishSequential(a, digest, y)
}

func (g *group) finishSequential(a Algorithm, digest, y []byte) ([]byte, error) {
	v, err := g.canonical(y)
	if err != nil {
		return nil, err
	}
	sig, err := g.finish(a, digest, v)
	if err == nil {
		return sig, nil
	}
	if notUnit := g.coprime(v); notUnit != nil { // asked only now: see wrong
		return nil, notUnit
	}
	return nil, err
}

// finish returns s or N − s, whichever is a valid signature. Which of the two can
// be one, their powers tell; that it is one, the same verification that every
// recipient uses.
func (g *group) finish(a Algorithm, digest []byte, s *big.Int) ([]byte, error) {
	if err := a.CheckDigest(digest); err != nil {
		return nil, err
	}
	sig := g.bytes(s)
	em, err := g.mod.ExpVarTime(sig, publicExponent)
	if err != nil {
		return nil, err
	}
	other := g.bytes(new(big.Int).Sub(g.n, new(big.Int).SetBytes(em)))
	switch {
	case g.mayEncode(a, digest, em):
	case g.mayEncode(a, digest, other):
		sig = g.bytes(new(big.Int).Sub(g.n, s))
	default:
		return nil, fmt.Errorf("%w: %s", ErrSignature, a)
	}
	if err := VerifySignature(g.pub, a, digest, sig); err != nil {
		return nil, err
	}
	return sig, nil
}

// mayEncode reports whether em, |N| bytes, may be an encoded message of digest. Of
// em and N − em, one at most may. PKCS #1 v1.5 has one encoded message. Those of
// PSS all end in 0xbc (RFC 8017 §9.1.1 step 12): if em and N − em both did, N would
// end in 0x78, but it is odd.
func (g *group) mayEncode(a Algorithm, digest, em []byte) bool {
	if a.PSS() {
		return em[len(em)-1] == 0xbc
	}
	want, err := Encode(a, digest, nil, 8*len(em))
	return err == nil && bytes.Equal(em, want)
}

// subsetOf returns the subset of which the partial signatures are, exactly one
// of each member.
func subsetOf(partials []PartialSignature) (Subset, error) {
	if len(partials) == 0 {
		return 0, fmt.Errorf("%w: no partial signatures", ErrSubset)
	}
	subset := partials[0].Subset
	var present Subset
	for _, p := range partials {
		if p.Subset != subset {
			return 0, fmt.Errorf("%w: partial signatures of subsets %v and %v mixed", ErrSubset, subset, p.Subset)
		}
		if !subset.Has(p.Index) {
			return 0, fmt.Errorf("%w: share %d is not in subset %v", ErrSubset, p.Index, subset)
		}
		if present.Has(p.Index) {
			return 0, fmt.Errorf("%w: two partial signatures of share %d", ErrSubset, p.Index)
		}
		present |= 1 << (p.Index - 1)
	}
	if present != subset {
		return 0, fmt.Errorf("%w: shares %d of subset %v are missing", ErrSubset, (subset &^ present).Indices(), subset)
	}
	return subset, nil
}

func find(partials []PartialSignature, index uint64) *PartialSignature {
	for i := range partials {
		if partials[i].Index == index {
			return &partials[i]
		}
	}
	return nil
}
