// Package grouping divides the combinations of a two-layer sharing among its
// combiners, and says which coalitions learn what.
//
// In the two-layer sharing of the intrusion-tolerant certificate authority (B
// [0063] to [0088]) calculator j holds sub-keys d_j1 … d_jl, and a combiner
// holds, for each of its combinations a, c_a = d − Σ d_ji over the terms of a.
package grouping
