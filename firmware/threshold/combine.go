package threshold

import (
	"fmt"
	"math/big"
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
	g := &group{pub: pub, n: new(big.Int).SetBytes(pub.N)}
	var wrong []uint64
	product := new(big.Int).Set(one)
	for _, index := range subset.Indices() {
		y, err := g.partial(find(partials, index).Value)
		if err != nil {
			wrong = append(wrong, index)
			continue
		}
		product.Mul(product, y).Mod(product, g.n)
	}
	if len(wrong) > 0 {
		return nil, &WrongPartialError{wrong}
	}
	sig, err := g.finish(a, digest, product)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &CombineError{subset}, err)
	}
	return sig, nil
}

// FinishSequentialVarTime returns the signature that the last partial
// signature y of a sequence is: y or N − y, whichever verifies. It returns
// ErrSignature if neither does, and then y must not be released.
func FinishSequentialVarTime(pub *PublicKey, a Algorithm, digest, y []byte) ([]byte, error) {
	if err := pub.Validate(); err != nil {
		return nil, err
	}
	g := &group{pub: pub, n: new(big.Int).SetBytes(pub.N)}
	v, err := g.partial(y)
	if err != nil {
		return nil, err
	}
	return g.finish(a, digest, v)
}

// finish returns s or N − s, whichever is a valid signature. Both are tried by
// the same verification that every recipient uses.
func (g *group) finish(a Algorithm, digest []byte, s *big.Int) ([]byte, error) {
	var err error
	for _, v := range []*big.Int{s, new(big.Int).Sub(g.n, s)} {
		sig := g.bytes(v)
		if err = VerifySignature(g.pub, a, digest, sig); err == nil {
			return sig, nil
		}
	}
	return nil, err
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
