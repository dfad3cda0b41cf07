package grouping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrGrouping is returned for a grouping that is malformed.
var ErrGrouping = errors.New("grouping: malformed")

// Term names a sub-key: the Key-th of a calculator, d_ji in B [0064]. Both
// count from 1.
type Term struct {
	_          struct{} `cbor:",toarray"`
	Calculator uint64   // j
	Key        uint64   // i
}

// String is "ji", as B prints it, with a dot where either has two digits.
func (t Term) String() string {
	if t.Calculator > 9 || t.Key > 9 {
		return fmt.Sprintf("%d.%d", t.Calculator, t.Key)
	}
	return strconv.FormatUint(10*t.Calculator+t.Key, 10)
}

// Combination is a combination representation (B [0069]): t terms of t
// different calculators, in ascending order of these.
type Combination []Term

// String is "(11,22,31)".
func (c Combination) String() string {
	var terms []string
	for _, t := range c {
		terms = append(terms, t.String())
	}
	return "(" + strings.Join(terms, ",") + ")"
}

// Calculators lists the numbers of the calculators, ascending: the machine set
// to which all equivalent combinations belong (B [0070]).
func (c Combination) Calculators() []uint64 {
	set := make([]uint64, len(c))
	for i, t := range c {
		set[i] = t.Calculator
	}
	return set
}

// Group is what one combiner holds: its number, and its combinations.
type Group struct {
	Number       uint64        `cbor:"1,keyasint"`
	Combinations []Combination `cbor:"2,keyasint"`
}

// Grouping says which combinations each combiner holds. It is public: it names
// sub-keys and tells nothing of their values.
type Grouping struct {
	T uint64 `cbor:"1,keyasint"` // calculators in a combination
	L uint64 `cbor:"2,keyasint"` // sub-keys of a calculator
	// Calculators are the numbers of those that work now, ascending. A number is
	// never used again, so that after a removal there are gaps.
	Calculators []uint64 `cbor:"3,keyasint"`
	Combiners   []Group  `cbor:"4,keyasint"` // ascending by number
}

// Validate checks the form. Whether a grouping is safe, and whether it serves
// every machine set, is for [Grouping.Check].
func (g *Grouping) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrGrouping}, args...)...)
	}
	switch {
	case g.T < 1 || g.T > uint64(len(g.Calculators)):
		return bad("%d of %d calculators", g.T, len(g.Calculators))
	case len(g.Calculators) > MaxCalculators:
		return bad("%d calculators, at most %d", len(g.Calculators), MaxCalculators)
	case g.L < 1 || g.L > MaxKeys:
		return bad("%d sub-keys a calculator, at most %d", g.L, MaxKeys)
	case len(g.Combiners) < 1 || len(g.Combiners) > MaxCombiners:
		return bad("%d combiners, at most %d", len(g.Combiners), MaxCombiners)
	}
	if err := ascending(g.Calculators); err != nil {
		return bad("calculators: %v", err)
	}
	var numbers []uint64
	for _, c := range g.Combiners {
		numbers = append(numbers, c.Number)
	}
	if err := ascending(numbers); err != nil {
		return bad("combiners: %v", err)
	}
	for _, group := range g.Combiners {
		if len(group.Combinations) > MaxCombinations {
			return bad("combiner %d has %d combinations, at most %d", group.Number, len(group.Combinations), MaxCombinations)
		}
		seen := map[string]bool{}
		for _, c := range group.Combinations {
			if err := g.checkCombination(c); err != nil {
				return bad("combiner %d: %v: %v", group.Number, c, err)
			}
			if seen[c.String()] {
				return bad("combiner %d has %v twice", group.Number, c)
			}
			seen[c.String()] = true
		}
	}
	return nil
}

func (g *Grouping) checkCombination(c Combination) error {
	if uint64(len(c)) != g.T {
		return fmt.Errorf("has %d terms, not %d", len(c), g.T)
	}
	if err := ascending(c.Calculators()); err != nil {
		return err
	}
	for _, t := range c {
		if !slices.Contains(g.Calculators, t.Calculator) {
			return fmt.Errorf("calculator %d is not one of %v", t.Calculator, g.Calculators)
		}
		if t.Key < 1 || t.Key > g.L {
			return fmt.Errorf("%v: a calculator has the sub-keys 1 to %d", t, g.L)
		}
	}
	return nil
}

func ascending(numbers []uint64) error {
	for i, n := range numbers {
		if n < 1 || n > MaxNumber || i > 0 && n <= numbers[i-1] {
			return fmt.Errorf("numbers have to ascend from 1 to %d: %v", MaxNumber, numbers)
		}
	}
	return nil
}
