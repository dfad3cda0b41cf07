package main

import (
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Machines of an authority in two layers, as in source B's example.
const (
	opHalf       = "calculator: one half-length power"
	opCalculator = "calculator: its whole work, l = 2"
	opCombiner   = "combiner: its part, of full length"
)

// authority is the example: 3 of 5 calculators with 2 sub-keys each, 3 combiners.
var authority = grouping.Params{K: devices, T: quorum, L: 2, M: 3}

// maxHalf is what a half-length power may take of libcrypto's constant-time
// exponentiation of full length, by bits of the modulus. A whole crypto/rsa
// signature has to take longer, too.
var maxHalf = map[int]float64{2048: 0.62, 3072: 0.60, 4096: 0.60}

// halfLength deals a key in two layers and returns what is to be measured of a
// calculator and a combiner, with what a device does for each request.
func halfLength(whole *threshold.WholeKey, em []byte) ([]*operation, error) {
	g, err := grouping.Find(authority, nil)
	if err != nil {
		return nil, err
	}
	dealing, err := twolayer.Deal(rand.Reader, whole, *g)
	if err != nil {
		return nil, err
	}
	pub := whole.Public()
	powers := func(secrets ...threshold.Secret) func() error {
		return func() error {
			for _, d := range secrets {
				e, err := twolayer.NewExponentiator(pub, d)
				if err != nil {
					return err
				}
				if _, err := twolayer.Power(pub, em, e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	keys := dealing.Calculators[0].Keys
	return []*operation{
		{name: opHalf, run: powers(keys[0])},
		{name: opCalculator, run: powers(keys...)},
		{name: opCombiner, run: powers(dealing.Combiners[0].Parts[0])},
	}, nil
}

// addHalfLength judges the half-length powers.
func (r *report) addHalfLength(ops []*operation) {
	find := func(name string, bits int) *operation {
		i := slices.IndexFunc(ops, func(o *operation) bool { return o.name == name && o.bits == bits })
		if i < 0 {
			return nil
		}
		return ops[i]
	}
	for _, bits := range sizes {
		half, full, whole := find(opHalf, bits), find(opLibcrypto, bits), find(opWhole, bits)
		if half == nil || full == nil || whole == nil {
			continue
		}
		_, ratio := half.over(full)
		r.addTarget(fmt.Sprintf("half-length power / OpenSSL's full-length exponentiation, %d bits", bits), ratio, maxHalf[bits], "x")
		_, ratio = half.over(whole)
		r.addTarget(fmt.Sprintf("half-length power / whole crypto/rsa signature, %d bits", bits), ratio, 1, "x")
	}
}
