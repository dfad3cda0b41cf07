package grouping

// capacity bounds how many machine sets one combiner serves at most, if it with
// any t−1 calculators is to learn nothing.
//
// Whoever leaves out a calculator still has a safe group, and so has who looks
// only at the sets with one calculator and takes that one for known: averaging
// gives f(k,t) ≤ k/(k−t)·f(k−1,t) and f(k,t) ≤ k/t·f(k−1,t−1), as for packings
// (Johnson 1962). The recursion ends at k = t+1: see spread.
func capacity(k, t, l int) uint64 {
	all := binomial(k, t)
	switch {
	case t == 1 || t == k:
		return all
	case k == t+1:
		return spread(k, l)
	}
	return min(all, uint64(k)*capacity(k-1, t, l)/uint64(k-t), uint64(k)*capacity(k-1, t-1, l)/uint64(t))
}

// spread bounds the machine sets with k = t+1. Each lacks one calculator; write
// a for the set that lacks a. Who knows all calculators but a and b knows of b's
// sub-key in a, and of a's in b, what it hides d with: it moves as d does. Then
// for no third set c can both be the same sub-keys of a and b: their sum would
// move as d, and 2d. So of three sets a, b, c at most one calculator of the
// three uses one sub-key in both others. A calculator of one of u sets uses its
// l sub-keys in u−1 others, and so one in both of at least so many pairs as when
// it uses all equally often; u times these are at most the C(u,3) triples.
func spread(k, l int) uint64 {
	most := uint64(1)
	for u := 2; u <= k; u++ {
		n, more := (u-1)/l, (u-1)%l
		pairs := uint64(l-more)*binomial(n, 2) + uint64(more)*binomial(n+1, 2)
		if uint64(u)*pairs <= binomial(u, 3) {
			most = uint64(u)
		}
	}
	return most
}
