// Package grouping divides the combinations of a two-layer sharing among its
// combiners, and says which coalitions learn what.
//
// In the two-layer sharing of the intrusion-tolerant certificate authority (B
// [0063] to [0088]) calculator j holds sub-keys d_j1 … d_jl, and a combiner
// holds, for each of its combinations a, c_a = d − Σ d_ji over the terms of a,
// one term of each of t calculators.
//
// # What a coalition learns
//
// A coalition of combiners C and calculators S knows
//
//	d − Σ_{ji∈a} d_ji = c_a   for every combination a of C
//	d_ji                      for every j in S
//
// and nothing else that depends on d. Take the known sub-keys to the right. What
// is left of combination a is a row of the matrix A, with a 1 for each of its
// unknown sub-keys. If (d, x) solves the equations, then (d+δ, x+y) does if and
// only if
//
//	δ·(1,…,1) = A·y
//
// over the integers. So d+δ is consistent with what the coalition knows if and
// only if δ·(1,…,1) lies in the lattice L = A·Z^v. These δ are closed under
// addition and subtraction: they are gZ, where g is the order of (1,…,1) in
// Z^r/L, or 0 if that is infinite.
//
//	g = 1  every integer is consistent: nothing is learned
//	g = 0  only d is consistent: all of it is learned
//	g > 1  d mod g is learned, and no more
//
// That is [Grouping.Gain]. B's own condition [0073], that a linear combination
// of a combiner's equations has to keep t variables, is the case g = 0; it does
// not see the residues. A row without unknowns gives g = 0, as it should: that
// coalition signs.
//
// It is computed by keeping a basis of all (δ, y) with A·y = δ·(1,…,1), one of
// them with δ = g and all others with δ = 0, and by adding the rows one by one.
// If a row's sum misses δ by r on the one, and takes the multiples of h on the
// others, then these can make up for it f = h/gcd(h, r) times over, and no less:
// g becomes f·g, or 0 if h = 0 and r ≠ 0 (see lattice.meet). The tests compute g
// in two other ways: from Smith's normal forms of A and of A with the column of
// ones, and from ranks over the rationals together with solutions modulo the
// prime powers of the last invariant. Ranks modulo the primes alone are not
// enough: with (1,3), (4,0) and (0,4) as the columns of A all ranks agree, and
// d mod 2 is learned.
//
// The equations are over the integers because d and the sub-keys are: nobody but
// the distributor knows the order of the group. That the sub-keys are bounded
// numbers and not all integers, so that c_a tells something of the size of what
// hides it, is a matter of their length: see package twolayer.
//
// # Coalitions within coalitions
//
// More equations and more known sub-keys leave fewer (δ, y): the new g is a
// multiple of the old one. So what a coalition learns, any larger one learns,
// and it is enough to look at the largest coalitions that must learn nothing:
// one combiner with t−1 calculators, and all combiners. Calculators without a
// combiner hold numbers drawn without d.
//
// If one combiner might have the combinations of all and still be safe, then any
// number of combiners is as harmless as one. [Find] prefers such groupings.
//
// Machines that are gone, and combinations that were given up, are still known
// to whoever kept them. A grouping that grows has to be safe beside all that was
// dealt before of the same sub-keys: [Params].Dealt, [Grouping.CheckBeside].
//
// # What can be had
//
//   - t calculators and a combiner that serves them know d: c_a + Σ d_ji.
//   - For t = 1 and for t = k one sub-key each and one combiner do: no two
//     equations share an unknown, or there is only one.
//   - For 1 < t < k one sub-key each does not do, whatever the combiners: y_j =
//     y_j' for any two calculators, because some t−1 others go with both; so all
//     y are equal and δ = t·y. All combiners learn d mod t.
//   - Two always do, with combiners enough: one combination each, in which the
//     first calculator uses its second sub-key and all others their first, for
//     then all second sub-keys may move as d does. [Find] needs far fewer.
//   - With C(k−1, t−1) sub-keys one combiner does: no two equations share one.
//   - What one combiner serves at most is bounded by counting, see capacity, and
//     in small cases by complete search.
//
// [Find] looks for perfect hash families first, from which safe groupings follow
// (partition.go), and then adds combination after combination as B [0079] to
// [0083] does, with the exact condition (combine.go); last it tries to show that
// there is none (exhaust.go).
package grouping
