package twolayer_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// grown is twoOfThree with a fourth calculator and a third combiner.
func grown() grouping.Grouping {
	g := twoOfThree()
	g.Calculators = []uint64{1, 2, 3, 4}
	g.Combiners = []grouping.Group{
		group(1, "11,21", "12,31", "22,32", "11,41"),
		group(2, "12,22", "11,32", "21,31", "22,41"),
		group(3, "31,42", "12,22"),
	}
	return g
}

// TestExtend adds a calculator and a combiner: all sub-keys stay, the parts of
// before stay, h stays, and every combination signs.
func TestExtend(t *testing.T) {
	s := deal(t, twoOfThree())
	before := s.dealing
	g := grown()
	after, err := before.Extend(rand.Reader, g, s.pub)
	if err != nil {
		t.Fatal(err)
	}
	for i, share := range before.Calculators {
		for a, key := range share.Keys {
			if !key.Equal(after.Calculators[i].Keys[a]) {
				t.Errorf("sub-key %d of calculator %d is another one", a+1, share.Number)
			}
		}
	}
	for i, share := range before.Combiners {
		for a, part := range share.Parts {
			if !part.Equal(after.Combiners[i].Parts[a]) {
				t.Errorf("part %d of combiner %d is another one", a+1, share.Number)
			}
		}
	}
	if fmt.Sprint(after.Public.V[:6]) != fmt.Sprint(before.Public.V) || fmt.Sprint(after.Public.H) != fmt.Sprint(before.Public.H) || len(after.Gone) > 0 {
		t.Error("published values have changed")
	}
	s.dealing = after
	digest, em := message(t, threshold.RS256, "document", 2048)
	powers := s.powers(em, g.Calculators...)
	for i, share := range after.Combiners {
		for a, c := range g.Combiners[i].Combinations {
			if _, err := twolayer.CombineVarTime(s.pub, threshold.RS256, digest, c, powers, s.power(em, share.Parts[a])); err != nil {
				t.Errorf("combiner %d: %v", share.Number, err)
			}
		}
	}
	// Wiping one dealing leaves the other.
	before.Wipe()
	if err := after.Public.CheckCalculator(s.pub, &after.Calculators[0]); err != nil {
		t.Error(err)
	}
}

func TestExtendRefuses(t *testing.T) {
	s := deal(t, twoOfThree())
	g := grown()
	for name, c := range map[string]struct {
		change func(*grouping.Grouping)
		want   error
	}{
		"another t": {func(g *grouping.Grouping) {
			*g = grouping.Grouping{T: 3, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{group(1, "11,21,31")}}
		}, twolayer.ErrGrowth},
		"another l": {func(g *grouping.Grouping) { g.L = 3 }, twolayer.ErrGrowth},
		"malformed": {func(g *grouping.Grouping) { g.Combiners = nil }, grouping.ErrGrouping},
		"unsafe": {func(g *grouping.Grouping) {
			g.Combiners[0] = group(1, "11,21", "11,31", "21,31")
		}, twolayer.ErrLearns},
	} {
		changed := grown()
		c.change(&changed)
		if _, err := s.dealing.Extend(rand.Reader, changed, s.pub); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.dealing.Extend(iotest.ErrReader(errors.New("broken")), g, s.pub); err == nil {
		t.Error("grown without randomness")
	}
	if _, err := s.dealing.Extend(rand.Reader, g, thresholdtest.Key(2048, false).Public()); err == nil {
		t.Error("grown with another public key")
	}
	for name, change := range map[string]func(*twolayer.Dealing){
		"a calculator's share is missing": func(d *twolayer.Dealing) { d.Calculators = d.Calculators[:2] },
		"calculators in another order": func(d *twolayer.Dealing) {
			d.Calculators = []twolayer.CalculatorShare{d.Calculators[1], d.Calculators[0], d.Calculators[2]}
		},
		"a combiner's share is missing": func(d *twolayer.Dealing) { d.Combiners = d.Combiners[:1] },
	} {
		changed := *s.dealing
		change(&changed)
		if _, err := changed.Extend(rand.Reader, g, s.pub); !errors.Is(err, twolayer.ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&twolayer.Dealing{}).Extend(rand.Reader, g, s.pub); err == nil {
		t.Error("grown out of nothing")
	}
}

// TestGoneIsRemembered: what a combiner was given before counts, although no
// grouping has it any more, in whatever number of steps.
func TestGoneIsRemembered(t *testing.T) {
	// With (11,21), (11,31) and (21,31) a combiner learns d with one calculator; each
	// grouping by itself is safe.
	step := func(mine ...string) grouping.Grouping {
		return grouping.Grouping{T: 2, L: 1, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{group(1, mine...)}}
	}
	for _, g := range []grouping.Grouping{step("11,21"), step("11,31"), step("21,31")} {
		if err := twolayer.CheckHiding(&g); err != nil {
			t.Fatal(err)
		}
	}
	s := deal(t, step("11,21"))
	second, err := s.dealing.Extend(rand.Reader, step("11,31"), s.pub)
	if err == nil {
		_, err = second.Extend(rand.Reader, step("21,31"), s.pub)
		if got := fmt.Sprint(second.Gone); got != fmt.Sprint([]grouping.Group{group(1, "11,21")}) {
			t.Errorf("remembered: %v", got)
		}
	}
	var unsafe *twolayer.UnsafeError
	if !errors.As(err, &unsafe) || !slices.Equal(unsafe.Combiners, []uint64{1}) {
		t.Errorf("%v", err)
	}

	// A calculator's number is not given to another machine.
	less := twoOfThree()
	less.Calculators = []uint64{1, 2}
	less.Combiners = []grouping.Group{group(1, "11,21"), group(2, "12,22")}
	s = deal(t, twoOfThree())
	without, err := s.dealing.Extend(rand.Reader, less, s.pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := without.Extend(rand.Reader, twoOfThree(), s.pub); !errors.Is(err, twolayer.ErrGrowth) {
		t.Errorf("number 3 again: %v", err)
	}
	// A fourth may come, beside what combiners remember of the third.
	more := less
	more.Calculators = []uint64{1, 2, 4}
	more.Combiners = []grouping.Group{group(1, "11,21", "12,41"), group(2, "12,22", "21,41")}
	again, err := without.Extend(rand.Reader, more, s.pub)
	if err != nil {
		t.Fatal(err)
	}
	if want := []grouping.Group{group(1, "12,31", "22,32"), group(2, "11,32", "21,31")}; fmt.Sprint(again.Gone) != fmt.Sprint(want) {
		t.Errorf("remembered: %v", again.Gone)
	}
}
