package main

import (
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/threshold/scheme"
)

// maxWeakShown is how many weak coalitions a comparison lists.
const maxWeakShown = 5

// printComparison prints a column for each scheme that can be had.
func (a *app) printComparison(q comparison, made *keyMade, columns []*compared) {
	kind := "ordinary primes"
	if made.SafePrimes {
		kind = "safe primes"
	}
	a.say("any %d of %d devices sign; RSA with %d bits; processor times in milliseconds, medians of %d", q.T, q.N, q.Bits, q.rounds)
	a.say("the key: %s, made in %.1f s (%s, %d candidates tested)\n", kind, made.MS/1000, made.By, made.Tests)

	var had []*compared
	for _, c := range columns {
		if c.Facts != nil {
			had = append(had, c)
		}
	}
	line := func(label string, cell func(c *compared) string) {
		var b strings.Builder
		fmt.Fprintf(&b, "%-27s", label)
		for _, c := range had {
			fmt.Fprintf(&b, " %*s", max(len(c.Name), 10), cell(c))
		}
		a.say("%s", strings.TrimRight(b.String(), " "))
	}
	number := func(n func(*scheme.Facts) int) func(*compared) string {
		return func(c *compared) string { return dash(n(c.Facts)) }
	}
	ms := func(of func(*schemeTimesMS) float64) func(*compared) string {
		return func(c *compared) string { return fmt.Sprintf("%.2f", of(c.Times)) }
	}
	line("", func(c *compared) string { return c.Name })
	line("primes", func(c *compared) string {
		if c.SafePrimes {
			return "safe"
		}
		return "any"
	})
	line("a device's share, bytes", number(func(f *scheme.Facts) int { return f.ShareLen }))
	line("all combiners hold, bytes", number(func(f *scheme.Facts) int { return f.CombinerLen }))
	line("published, bytes", number(func(f *scheme.Facts) int { return f.PublicLen }))
	line("dealing, ms", ms(func(t *schemeTimesMS) float64 { return t.Deal }))
	line("a device: exponents, bits", func(c *compared) string { return exponents(c.Facts.Device) })
	line("  ms", ms(func(t *schemeTimesMS) float64 { return t.Device }))
	line("combiner: exponents, bits", func(c *compared) string { return exponents(c.Facts.Combiner) })
	line("  ms, with verification", ms(func(t *schemeTimesMS) float64 { return t.Combine }))
	line("must know who else signs", func(c *compared) string { return yesNo(c.Facts.Synchronised) })
	line("rounds, one after the other", func(c *compared) string { return fmt.Sprint(c.Facts.Rounds) })
	line("a signature, ms", ms(func(t *schemeTimesMS) float64 { return t.Signature }))
	line("a wrong partial: made again", func(c *compared) string { return fmt.Sprint(c.Facts.Wrong.Again) })
	line("  in rounds", func(c *compared) string { return fmt.Sprint(c.Facts.Wrong.Rounds) })
	line("  to prove who, ms", ms(func(t *schemeTimesMS) float64 { return t.Prove }))
	line("  to check a proof, ms", ms(func(t *schemeTimesMS) float64 { return t.Verify }))
	line("  even if he knows p and q", func(c *compared) string { return yesNo(c.Facts.Wrong.Sound) })
	joins := func(n func(scheme.Join) int) func(*compared) string {
		return func(c *compared) string {
			if !c.Facts.Join.Possible {
				return "beyond"
			}
			return dash(n(c.Facts.Join))
		}
	}
	line("a device joins: gets, bytes", joins(func(j scheme.Join) int { return j.NewLen }))
	line("  each old one gets, bytes", joins(func(j scheme.Join) int { return j.OldLen }))
	line("  combiners get, bytes", joins(func(j scheme.Join) int { return j.CombinerLen }))
	line("  shares that stay", joins0(func(c *compared) string {
		if c.Facts.Join.Anew {
			return "none"
		}
		return "all"
	}))
	line("who learns d: devices", func(c *compared) string { return fmt.Sprint(c.Facts.Secret.Devices) })
	line("  with so many combiners", number(func(f *scheme.Facts) int { return int(f.Secret.Combiners) }))
	line("  fewer: equal for all d", func(c *compared) string {
		if c.Facts.Secret.Exact {
			return "exactly"
		}
		return fmt.Sprintf("to 2^-%d", c.Facts.Secret.Distance)
	})

	a.say("")
	for _, c := range columns {
		a.say("%-15s %s", c.Name, c.Paper)
		if c.Failed != "" {
			a.say("%-15s %s", "", c.Failed)
			continue
		}
		for i, w := range c.Facts.Secret.Besides {
			if i == maxWeakShown {
				a.say("%-15s and %d more: see \"privyseal scheme group --k %d --t %d\"", "", len(c.Facts.Secret.Besides)-i, q.N, q.T)
				break
			}
			a.say("%-15s weak: %s", "", w)
		}
	}
	a.say("\nA signature: each device a machine of its own; in rounds with the proofs that the next device demands. Exactly:")
	a.say("the shares of fewer devices are distributed alike for all d, modulo a number near N that stays secret.")
}

// joins0 guards a cell about a device that cannot join.
func joins0(cell func(*compared) string) func(*compared) string {
	return func(c *compared) string {
		if !c.Facts.Join.Possible {
			return "beyond"
		}
		return cell(c)
	}
}

// exponents is "3×1152" for equal lengths, "5≤42" for so many of at most so many
// bits.
func exponents(bits []int) string {
	if len(bits) == 0 {
		return "-"
	}
	longest, same := 0, true
	for _, b := range bits {
		longest, same = max(longest, b), same && b == bits[0]
	}
	if same {
		return fmt.Sprintf("%d×%d", len(bits), longest)
	}
	return fmt.Sprintf("%d of ≤%d", len(bits), longest)
}

func dash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
