package grouping

import "fmt"

// Result is what Smallest found.
type Result struct {
	Grouping *Grouping
	L, M     uint64
	// Proven is true if every smaller one was excluded by a proof or by a complete
	// search; Reason says by what, or what stays open.
	Proven bool
	Reason string
}

// Smallest looks for the fewest sub-keys, and with these the fewest combiners,
// that serve any t of k calculators and resist c combiners with s calculators (0
// for both: what Check demands). Sub-keys come first: every calculator pays for
// each of its own in every signature. The budget is for each pair that is tried;
// progress may be nil. Errors are those of Find.
func Smallest(k, t, c, s, budget uint64, progress func(Progress)) (*Result, error) {
	p, err := Params{K: k, T: t, Combiners: c, Calculators: s, Budget: budget}.filled()
	if err != nil {
		return nil, err
	}
	open, last := "", ""
	best := &NotFoundError{Params: p, Needed: binomial(int(k), int(t))}
	for p.L = 1; p.L <= MaxKeys; p.L++ {
		for p.M = 1; p.M <= MaxCombiners; p.M++ {
			g, err := find(p, progress)
			switch err := err.(type) {
			case nil:
				r := &Result{Grouping: g, L: p.L, M: p.M, Proven: open == ""}
				switch {
				case open != "":
					r.Reason = fmt.Sprintf("not excluded, only not found: %s", open)
				case last != "":
					r.Reason = last
				default:
					r.Reason = "less than one sub-key and one combiner there is not"
				}
				return r, nil
			case *ImpossibleError:
				last = fmt.Sprintf("l=%d m=%d: %s", p.L, p.M, err.Reason)
			case *NotFoundError:
				best.Best = max(best.Best, err.Best)
				if open == "" {
					open = fmt.Sprintf("l=%d m=%d", p.L, p.M)
				}
			default:
				return nil, err
			}
		}
		if open == "" {
			open, last = p.moreCombiners(last)
		}
	}
	p.L, p.M = 0, 0
	best.Params = p
	return nil, best
}

// moreCombiners says whether MaxCombiners is all that stands against p.L.
func (p Params) moreCombiners(last string) (open, proven string) {
	if p.L == 1 {
		return "", last // the proof counts no combiners
	}
	return fmt.Sprintf("l=%d with more than %d combiners", p.L, MaxCombiners), last
}
