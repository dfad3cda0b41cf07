package twolayer

import (
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// Public is what the distributor publishes of a dealing. It is part of the
// ledger.
type Public struct {
	Grouping grouping.Grouping `cbor:"1,keyasint"`

	// H is h = g^d mod N for g = h^e: whoever knows h knows g, and with V the
	// check value of every c_a, g^c_a = h·Π g^−d_ji.
	H []byte `cbor:"2,keyasint"`

	// V holds g^d_ji mod N of every sub-key, ascending by calculator and key:
	// len(Grouping.Calculators)·L of |N| bytes.
	V [][]byte `cbor:"3,keyasint"`
}

// CalculatorShare is what a calculator holds.
type CalculatorShare struct {
	Number uint64             `cbor:"1,keyasint"` // j
	Keys   []threshold.Secret `cbor:"2,keyasint"` // d_j1 … d_jl, SubKeyLen bytes each
}

// CombinerShare is what a combiner holds: c_a of each combination of its group,
// in the same order, |N| bytes each.
type CombinerShare struct {
	Number uint64             `cbor:"1,keyasint"`
	Parts  []threshold.Secret `cbor:"2,keyasint"`
}
