package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/scheme"
)

func newScheme(a *app) *cobra.Command {
	return command.Group("scheme", "Compare ways of sharing a key, on this machine and with a key made for that", newSchemeCompare(a), newSchemeGroup(a))
}

// comparison is what "scheme compare" was asked.
type comparison struct {
	scheme.Params
	only   []string
	rounds int
	primes string
}

// How a key with safe primes is made for a comparison.
const (
	primesSieve   = "sieve"
	primesOpenSSL = "openssl"
)

func newSchemeCompare(a *app) *cobra.Command {
	var q comparison
	c := &cobra.Command{
		Use:   "compare --n DEVICES --t DEVICES --bits BITS",
		Short: "Print what each scheme costs and promises, computed and measured",
		Long: `Print what each scheme costs and promises when any t of n devices sign.

Sizes, exponents and who learns the key are computed. Times are medians of processor
times of one thread, so that what else the machine does matters little; they are
taken here, with a key that is made for the comparison and forgotten.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.compareSchemes(c.Context(), q) },
	}
	f := c.Flags()
	f.Uint64Var(&q.N, "n", 5, "devices that hold shares")
	f.Uint64Var(&q.T, "t", 3, "devices that sign together")
	f.IntVar(&q.Bits, "bits", 2048, "length of the modulus: 2048, 3072 or 4096")
	f.StringSliceVar(&q.only, "only", nil, "names of the schemes (default: all)")
	f.IntVar(&q.rounds, "rounds", 5, "how often each time is taken")
	f.StringVar(&q.primes, "primes", primesSieve, "who looks for safe primes: \"sieve\", this program with OpenSSL's exponentiation, or \"openssl\" alone")
	return c
}

// compared is one scheme's column. Failed says why it cannot be had.
type compared struct {
	Name       string         `json:"name"`
	Paper      string         `json:"paper"`
	SafePrimes bool           `json:"safe_primes"`
	Failed     string         `json:"cannot_be_had,omitempty"`
	Facts      *scheme.Facts  `json:"facts,omitempty"`
	Times      *schemeTimesMS `json:"milliseconds,omitempty"`

	scheme scheme.Scheme
}

// keyMade is how the key of a comparison was made.
type keyMade struct {
	SafePrimes bool    `json:"safe_primes"`
	By         string  `json:"by"`
	Tests      int     `json:"candidates_tested"`
	MS         float64 `json:"milliseconds"`
}

func (a *app) compareSchemes(ctx context.Context, q comparison) error {
	if q.rounds < 1 || q.rounds > 1000 {
		return usage("--rounds is not 1 to 1000", "leave it out for 5")
	}
	if q.primes != primesSieve && q.primes != primesOpenSSL {
		return usage(fmt.Sprintf("--primes is %q", q.primes), "it is \"sieve\" or \"openssl\"")
	}
	columns, err := a.schemeFacts(ctx, q)
	if err != nil {
		return err
	}
	k, made, err := a.comparisonKey(ctx, q, slices.ContainsFunc(columns, func(c *compared) bool { return c.Facts != nil && c.SafePrimes }))
	if err != nil {
		return err
	}
	for _, c := range columns {
		if c.Facts == nil {
			continue
		}
		c.Times, err = working(ctx, a, "measuring "+c.Name, func(*term.Progress) (*schemeTimesMS, error) {
			return a.measureScheme(ctx, c, k, q)
		})
		if err != nil { // what was interrupted may be using the key still
			return fmt.Errorf("scheme %s: %w", c.Name, err)
		}
	}
	k.Wipe()
	return a.result(struct {
		scheme.Params
		Key     *keyMade    `json:"key"`
		Schemes []*compared `json:"schemes"`
	}{q.Params, made, columns}, func() { a.printComparison(q, made, columns) })
}

// schemeFacts computes the columns. It is an error if no scheme takes the numbers.
func (a *app) schemeFacts(ctx context.Context, q comparison) ([]*compared, error) {
	schemes := scheme.All()
	if len(q.only) > 0 {
		schemes = nil
		for _, name := range q.only {
			s, err := scheme.Lookup(name)
			if err != nil {
				return nil, command.Misused(term.WithHint(err, "leave --only out for all"))
			}
			schemes = append(schemes, s)
		}
	}
	var columns []*compared
	var refused error
	for _, s := range schemes {
		c := &compared{Name: s.Name(), Paper: s.Paper(), SafePrimes: s.SafePrimes(), scheme: s}
		var err error
		c.Facts, err = working(ctx, a, "computing what "+c.Name+" costs", func(*term.Progress) (*scheme.Facts, error) {
			return s.Facts(q.Params)
		})
		if errors.Is(err, scheme.ErrParams) {
			c.Failed, c.Facts = err.Error(), nil
			refused = err
		} else if err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	if !slices.ContainsFunc(columns, func(c *compared) bool { return c.Facts != nil }) {
		return nil, command.Misused(term.WithHint(refused, "choose other numbers with --n, --t and --bits"))
	}
	return columns, nil
}

// comparisonKey makes the key: one for all, as any scheme takes safe primes.
func (a *app) comparisonKey(ctx context.Context, q comparison, safe bool) (*threshold.WholeKey, *keyMade, error) {
	type result struct {
		k      *threshold.WholeKey
		tested int
	}
	made := &keyMade{SafePrimes: safe, By: primesSieve}
	label := "making a key"
	if safe {
		label, made.By = "looking for safe primes", q.primes
	}
	began := time.Now()
	openssl := made.By == primesOpenSSL
	got, err := working(ctx, a, label, func(p *term.Progress) (x result, err error) {
		tested := func(n int) bool {
			x.tested = n
			p.Set(fmt.Sprintf("%d candidates tested", n))
			return ctx.Err() == nil
		}
		if openssl {
			x.k, err = threshold.GenerateSafeKeyOpenSSL(q.Bits, tested)
		} else {
			x.k, err = threshold.GenerateKey(a.rand, q.Bits, safe, func(n int) { tested(n) })
		}
		return x, err
	})
	made.Tests, made.MS = got.tested, milliseconds(time.Since(began))
	return got.k, made, err
}

// working shows progress for what may take long, and does not wait for its end
// if the command is interrupted: then the process ends. What is computed comes
// back as a value, so that nothing is shared with what goes on.
func working[T any](ctx context.Context, a *app, label string, do func(*term.Progress) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	p := term.StartProgress(a.err, a.terminal, label)
	defer p.Done()
	done := make(chan result, 1)
	go func() {
		v, err := do(p)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
