package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"
)

// runScheme runs the program as it is without a system.
func runScheme(ctx context.Context, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &stdout, err: &stderr, getenv: func(string) string { return "" }, now: time.Now, rand: rand.Reader, width: 100}
	code = a.run(ctx, append([]string{"scheme"}, args...))
	return code, stdout.String(), stderr.String()
}

type comparisonJSON struct {
	N       uint64      `json:"n"`
	T       uint64      `json:"t"`
	Bits    int         `json:"bits"`
	Key     keyMade     `json:"key"`
	Schemes []*compared `json:"schemes"`
}

// TestCompareSchemes: all of them, with the numbers that follow from the schemes.
func TestCompareSchemes(t *testing.T) {
	code, out, errs := runScheme(t.Context(), "compare", "--n", "5", "--t", "3", "--rounds", "1", "--json")
	if code != 0 {
		t.Fatal(errs)
	}
	got := decode[comparisonJSON](t, ran{out: out})
	if got.N != 5 || got.T != 3 || got.Bits != 2048 || !got.Key.SafePrimes || got.Key.Tests == 0 {
		t.Errorf("%+v", got)
	}
	want := map[string]struct {
		share   int
		device  []int
		rounds  uint64
		again   int
		joining int // what old devices get
	}{
		"multiplicative": {6 * 256, []int{2048}, 3, 3, 4 * 256}, "additive": {6 * 256, []int{2048}, 1, 3, 4 * 256}, "groups": {3 * 256, []int{2048}, 1, 3, 0},
		"shoup": {256, []int{2048}, 1, 1, 0}, "integer": {531, []int{8 * 531}, 1, 1, 532}, "half": {146, []int{8 * 146}, 1, 1, 147}, "two-layer": {2 * 144, []int{1152, 1152}, 1, 1, 0},
	}
	if len(got.Schemes) != len(want) {
		t.Errorf("%d schemes", len(got.Schemes))
	}
	for _, c := range got.Schemes {
		w, f, m := want[c.Name], c.Facts, c.Times
		if f == nil || m == nil {
			t.Errorf("%s: %+v", c.Name, c)
			continue
		}
		if f.ShareLen != w.share || !slices.Equal(f.Device, w.device) || f.Rounds != w.rounds || f.Wrong.Again != w.again || f.Join.OldLen != w.joining || f.Secret.Devices != 3 {
			t.Errorf("%s: %+v", c.Name, *f)
		}
		if c.Paper == "" || m.Deal <= 0 || m.Device <= 0 || m.Combine <= 0 || m.Signature <= m.Device || m.Prove <= m.Device || m.Verify <= 0 {
			t.Errorf("%s: %+v", c.Name, *m)
		}
		if (f.CombinerLen > 0) != (c.Name == "two-layer") || (len(f.Secret.Besides) > 0) != (c.Name == "two-layer") {
			t.Errorf("%s: combiners %d, weak %q", c.Name, f.CombinerLen, f.Secret.Besides)
		}
	}
}

// TestCompareSchemesText: a column for each that can be had, and why others
// cannot.
func TestCompareSchemesText(t *testing.T) {
	code, out, errs := runScheme(t.Context(), "compare", "--n", "16", "--t", "8", "--rounds", "1", "--only", "additive,integer")
	if code != 0 {
		t.Fatal(errs)
	}
	for _, want := range []string{
		"any 8 of 16 devices sign", "ordinary primes", "integer", "a signature, ms", "choose t nearer to 1 or n", "Frankel", "Sudia", "beyond", "who learns d",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "a device: exponents") && len(strings.Fields(line)) != 5 {
			t.Errorf("not one column: %s", line)
		}
	}
}

func TestCompareSchemesRefuses(t *testing.T) {
	for words, args := range map[string][]string{
		"need 1 ≤ t ≤ n":        {"--n", "3", "--t", "4"},
		"need 2048":             {"--bits", "1024"},
		"\"elgamal\" is not":    {"--only", "elgamal"},
		"--rounds is not":       {"--rounds", "0"},
		"--primes is \"magic\"": {"--primes", "magic"},
		"one argument too many": {"somewhere"},
	} {
		if code, out, errs := runScheme(t.Context(), append([]string{"compare"}, args...)...); code != exitUsage || out != "" || !strings.Contains(errs, words) || !strings.Contains(errs, "hint: ") {
			t.Errorf("%q: %d, %s%s", args, code, out, errs)
		}
	}
}

// TestCompareSchemesInterrupted: nobody waits for a prime that nobody wants any
// more.
func TestCompareSchemesInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(50*time.Millisecond, cancel)
	code, out, errs := runScheme(ctx, "compare", "--bits", "4096", "--only", "shoup", "--primes", "openssl")
	if code != exitFailed || out != "" || !strings.Contains(errs, "interrupted") {
		t.Errorf("%d: %s%s", code, out, errs)
	}
}

// TestGroupScheme: a grouping for the numbers of B's example, and its table.
func TestGroupScheme(t *testing.T) {
	code, out, errs := runScheme(t.Context(), "group", "--k", "5", "--t", "3", "--json")
	if code != 0 {
		t.Fatal(errs)
	}
	got := decode[grouped](t, ran{out: out})
	served := 0
	for _, c := range got.Combiners {
		served += len(c.Combinations)
	}
	if got.K != 5 || got.T != 3 || got.L != 2 || uint64(len(got.Combiners)) != got.M || served < 10 || !got.Proven || len(got.Weak) == 0 {
		t.Errorf("%+v", got)
	}
	for _, c := range got.Cells {
		if weak := c.Combiners > 1 && c.Calculators > 0; (c.Worst != "nothing") != weak || (c.Weak > 0) != weak {
			t.Errorf("%+v", c)
		}
	}
	// Two combiners with one calculator learn nothing, if that is asked for.
	code, out, errs = runScheme(t.Context(), "group", "--k", "4", "--t", "2", "--combiners", "2", "--calculators", "1")
	if code != 0 || !strings.Contains(out, "combiner 1: (") || !strings.Contains(out, "learned at most") {
		t.Errorf("%d: %s%s", code, out, errs)
	}
}

func TestGroupSchemeRefuses(t *testing.T) {
	for words, c := range map[string]struct {
		code int
		args []string
	}{
		"cannot be had": {exitFailed, []string{"--k", "5", "--t", "3", "--l", "1", "--m", "1"}},
		"are needed":    {exitFailed, []string{"--k", "2", "--t", "3"}},
		"at most":       {exitUsage, []string{"--k", "99", "--t", "3"}},
	} {
		if code, out, errs := runScheme(t.Context(), append([]string{"group"}, c.args...)...); code != c.code || out != "" || !strings.Contains(errs, words) {
			t.Errorf("%q: %d, %s%s", c.args, code, out, errs)
		}
	}
}

// TestGroupSchemeEnds: a search that is too long for its budget says what stays
// open, and one that is interrupted has what was found.
func TestGroupSchemeEnds(t *testing.T) {
	code, out, errs := runScheme(t.Context(), "group", "--k", "7", "--t", "4", "--budget", "64", "--json")
	got := decode[grouped](t, ran{out: out})
	if code != 0 || got.Proven || got.Stopped || got.L < 2 || len(got.Open) == 0 || got.Steps == 0 || got.Reason == "" {
		t.Errorf("%d: %+v %s", code, got, errs)
	}
	code, out, errs = runScheme(t.Context(), "group", "--k", "12", "--t", "6", "--combiners", "2", "--budget", "256")
	if code != exitFailed || out != "" || !strings.Contains(errs, "not found within the budget") || !strings.Contains(errs, "raise --budget") {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, out, errs = runScheme(ctx, "group", "--k", "12", "--t", "6")
	if code != exitFailed || out != "" || !strings.Contains(errs, "interrupted") || !strings.Contains(errs, "nothing was found until then") {
		t.Errorf("%d: %s%s", code, out, errs)
	}
}
