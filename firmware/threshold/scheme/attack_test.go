package scheme_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/scheme"
)

// each runs a test for every scheme, with 3 of 5 devices.
func each(t *testing.T, test func(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, k *threshold.WholeKey)) {
	for _, s := range scheme.All() {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			d, facts, k := deal(t, s, 3, 5, 2048)
			test(t, d, facts, k)
		})
	}
}

// proved lets a set sign and prove everything. bend may change what a device
// sends, before the next one sees it.
func proved(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, task *scheme.Task, bend func(*scheme.Partial)) []*scheme.Partial {
	t.Helper()
	var partials []*scheme.Partial
	x := task.EM
	for position, i := range task.Set.Indices() {
		p, err := d.Devices[i-1].Partial(task, x)
		if err == nil {
			err = d.Devices[i-1].Prove(rand.Reader, task, x, p, position)
		}
		if err != nil {
			t.Fatal(err)
		}
		if bend != nil {
			bend(p)
		}
		if facts.Chained {
			x = p.Values[0]
		}
		partials = append(partials, p)
	}
	return partials
}

// canonical is min(y, N − y).
func canonical(y *big.Int, k *threshold.WholeKey) []byte {
	n := new(big.Int).SetBytes(k.Public().N)
	y.Mod(y, n)
	if other := new(big.Int).Sub(n, y); other.Cmp(y) < 0 {
		y = other
	}
	return y.FillBytes(make([]byte, len(k.Public().N)))
}

// times multiplies a partial signature's values: a lie in due form.
func times(p *scheme.Partial, by int64, k *threshold.WholeKey) {
	for i, v := range p.Values {
		y := new(big.Int).SetBytes(v)
		p.Values[i] = canonical(y.Mul(y, big.NewInt(by)), k)
	}
}

func blamed(err error) []uint64 {
	var wrong *threshold.WrongPartialError
	if errors.As(err, &wrong) {
		return wrong.Indices
	}
	return nil
}

// TestSignAll: every algorithm, with all proofs, at every size.
func TestSignAll(t *testing.T) {
	for _, s := range scheme.All() {
		for i, bits := range []int{2048, 3072, 4096} {
			t.Run(fmt.Sprintf("%s/%d", s.Name(), bits), func(t *testing.T) {
				t.Parallel()
				d, facts, k := deal(t, s, 3, 4, bits)
				task := newTask(t, threshold.Algorithms()[5-i], "document", bits)
				task.Set = 0b1101
				sig, err := d.Sign(rand.Reader, task)
				if err != nil || !bytes.Equal(sig, whole(t, k, task.EM)) {
					t.Errorf("%v", err)
				}
				if err := d.Combiner.Blame(task, proved(t, d, facts, task, nil)); err != nil {
					t.Errorf("the honest are blamed: %v", err)
				}
			})
		}
	}
}

// TestLiar: a wrong partial signature makes no signature, its proof names its
// maker and nobody else, and others complete the signature.
func TestLiar(t *testing.T) {
	each(t, func(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, k *threshold.WholeKey) {
		task := newTask(t, threshold.RS256, "document", 2048)
		task.Set = 0b1011
		const liar = 2
		partials := proved(t, d, facts, task, func(p *scheme.Partial) {
			if p.Index == liar {
				times(p, 3, k)
			}
		})
		if sig, err := d.Combiner.Combine(task, partials); sig != nil || !errors.Is(err, threshold.ErrSignature) {
			t.Errorf("combined: %v", err)
		}
		if got := blamed(d.Combiner.Blame(task, partials)); fmt.Sprint(got) != "[2]" {
			t.Errorf("blamed %d", got)
		}
		if facts.Chained { // the next device notices
			if _, err := d.Combiner.Next(task, partials[:1]); err != nil {
				t.Errorf("after the honest first: %v", err)
			}
			first := *partials[0]
			times(&first, 3, k)
			if _, err := d.Combiner.Next(task, []*scheme.Partial{&first}); fmt.Sprint(blamed(err)) != "[1]" {
				t.Errorf("the next device went on: %v", err)
			}
			first = *partials[0]
			first.Proofs = nil
			if _, err := d.Combiner.Next(task, []*scheme.Partial{&first}); fmt.Sprint(blamed(err)) != "[1]" {
				t.Errorf("the next device went on without a proof: %v", err)
			}
		}
		task.Set = 0b11001
		if sig, err := d.Sign(rand.Reader, task); err != nil || !bytes.Equal(sig, whole(t, k, task.EM)) {
			t.Errorf("without the liar: %v", err)
		}
	})
}

// TestMalformed: values out of range name their sender, and nothing else makes a
// signature either.
func TestMalformed(t *testing.T) {
	each(t, func(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, k *threshold.WholeKey) {
		task := newTask(t, threshold.RS256, "document", 2048)
		task.Set = 0b10110
		honest := proved(t, d, facts, task, nil)
		n := new(big.Int).SetBytes(k.Public().N)
		ps, _, err := k.Factors()
		if err != nil {
			t.Fatal(err)
		}
		width := len(k.Public().N)
		fill := func(x *big.Int) []byte { return x.FillBytes(make([]byte, width)) }
		for name, value := range map[string][]byte{
			"0": make([]byte, width), "1": fill(big.NewInt(1)), "N − 1": fill(new(big.Int).Sub(n, big.NewInt(1))), "N": k.Public().N,
			"a factor": fill(new(big.Int).SetBytes(ps.Reveal())), "short": honest[2].Values[0][1:], "long": append([]byte{0}, honest[2].Values[0]...),
			"empty": nil, "N − y": fill(new(big.Int).Sub(n, new(big.Int).SetBytes(honest[2].Values[0]))),
		} {
			bad := *honest[2]
			bad.Values = append([][]byte{}, honest[2].Values...)
			bad.Values[0] = value
			if name == "a factor" { // of a value that goes into no product nobody asks
				for i := range bad.Values {
					bad.Values[i] = value
				}
			}
			partials := []*scheme.Partial{honest[0], honest[1], &bad}
			if sig, err := d.Combiner.Combine(task, partials); sig != nil || fmt.Sprint(blamed(err)) != "[5]" {
				t.Errorf("%s: %v", name, err)
			}
			if got := blamed(d.Combiner.Blame(task, partials)); fmt.Sprint(got) != "[5]" {
				t.Errorf("%s: proofs blame %d", name, got)
			}
		}
		if facts.Chained {
			return // the message of the second device is the first one's value
		}
		for name, x := range map[string][]byte{"0": make([]byte, width), "1": fill(big.NewInt(1)), "N − 1": fill(new(big.Int).Sub(n, big.NewInt(1))), "N": k.Public().N, "short": task.EM[1:]} {
			if _, err := d.Devices[1].Partial(task, x); err == nil {
				t.Errorf("a device signs the message %s", name)
			}
		}
	})
}

// TestWrongDevices: signatures of other than t different devices of the dealing
// are refused, whatever the numbers say.
func TestWrongDevices(t *testing.T) {
	each(t, func(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, k *threshold.WholeKey) {
		task := newTask(t, threshold.RS256, "document", 2048)
		task.Set = 0b00111
		honest := proved(t, d, facts, task, nil)
		as := func(index uint64) *scheme.Partial {
			p := *honest[2]
			p.Index = index
			return &p
		}
		for name, partials := range map[string][]*scheme.Partial{
			"none": nil, "too few": honest[:2], "twice": {honest[0], honest[1], honest[1]}, "too many": append(append([]*scheme.Partial{}, honest...), honest[0]),
			"number 0": {honest[0], honest[1], as(0)}, "number 6": {honest[0], honest[1], as(6)}, "number 17": {honest[0], honest[1], as(17)},
			"number 2^63": {honest[0], honest[1], as(1 << 63)}, "nil": {honest[0], honest[1], nil},
		} {
			if sig, err := d.Combiner.Combine(task, partials); sig != nil || !errors.Is(err, threshold.ErrSubset) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Another's number on an honest value.
		if sig, err := d.Combiner.Combine(task, []*scheme.Partial{honest[0], honest[1], as(4)}); sig != nil || err == nil {
			t.Errorf("share 3 as share 4: %v", err)
		}
		for _, set := range []threshold.Subset{0, 0b1, 0b1111, 0b100011} {
			task := *task
			task.Set = set
			if sig, err := d.Sign(rand.Reader, &task); sig != nil || err == nil {
				t.Errorf("the set %v signs", set)
			}
		}
	})
}

// TestOtherKey: with another modulus nothing of a dealing is of use. The modulus
// belongs to the share and is not taken from whoever asks.
func TestOtherKey(t *testing.T) {
	for _, s := range scheme.All() {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			d, facts, _ := deal(t, s, 2, 3, 2048)
			other, err := s.Deal(rand.Reader, testKey(2048, true), scheme.Params{T: 2, N: 3, Bits: 2048})
			if err != nil {
				t.Fatal(err)
			}
			task := newTask(t, threshold.RS256, "document", 2048)
			task.Set = 0b101
			mine, theirs := proved(t, d, facts, task, nil), proved(t, other, facts, task, nil)
			mixed := []*scheme.Partial{mine[0], theirs[1]}
			// The last value of a sequence is a signature by itself.
			if sig, err := d.Combiner.Combine(task, mixed); (sig != nil || err == nil) && !facts.Chained {
				t.Errorf("combined with a partial signature of another dealing: %v", err)
			}
			if got := blamed(d.Combiner.Blame(task, mixed)); fmt.Sprint(got) != "[3]" {
				t.Errorf("blamed %d", got)
			}
			if _, err := s.Deal(rand.Reader, testKey(3072, true), scheme.Params{T: 2, N: 3, Bits: 2048}); !errors.Is(err, scheme.ErrParams) {
				t.Errorf("a key of another size: %v", err)
			}
		})
	}
}

// TestProofsAreBound: a proof holds for its own system, key, epoch, request and
// document, and no other.
func TestProofsAreBound(t *testing.T) {
	each(t, func(t *testing.T, d *scheme.Dealing, facts *scheme.Facts, _ *threshold.WholeKey) {
		task := newTask(t, threshold.RS256, "document", 2048)
		task.Set = 0b01101
		honest := proved(t, d, facts, task, nil)
		if err := d.Combiner.Blame(task, honest); err != nil {
			t.Fatal(err)
		}
		all := "[1 3 4]"
		if facts.Chained {
			all = "[1]" // nothing can be said of those after it
		}
		for name, change := range map[string]func(*scheme.Task){
			"system":  func(x *scheme.Task) { x.Binding.System[31]++ },
			"key":     func(x *scheme.Task) { x.Binding.Key = "key 8" },
			"epoch":   func(x *scheme.Task) { x.Binding.Epoch++ },
			"request": func(x *scheme.Task) { x.Binding.Request[0]++ },
			"message": func(x *scheme.Task) { x.EM = newTask(t, threshold.RS256, "other", 2048).EM },
		} {
			other := *task
			change(&other)
			if got := blamed(d.Combiner.Blame(&other, honest)); fmt.Sprint(got) != all {
				t.Errorf("another %s: blamed %d", name, got)
			}
		}
		swapped := []*scheme.Partial{}
		for _, p := range honest {
			c := *p
			c.Proofs = honest[0].Proofs
			swapped = append(swapped, &c)
		}
		want := "[3 4]"
		if facts.Chained {
			want = "[3]"
		}
		if got := blamed(d.Combiner.Blame(task, swapped)); fmt.Sprint(got) != want {
			t.Errorf("with another's proofs: blamed %d", got)
		}
		// What the verifier brings himself is nobody else's fault.
		broken := *task
		broken.Binding.Key = ""
		if err := d.Combiner.Blame(&broken, honest); err == nil {
			t.Error("bound to no key")
		}
	})
}

// TestRedaction: no share prints, in whatever way, and none works after Wipe.
func TestRedaction(t *testing.T) {
	each(t, func(t *testing.T, d *scheme.Dealing, _ *scheme.Facts, _ *threshold.WholeKey) {
		var text strings.Builder
		for _, v := range []any{d, *d, d.Devices, d.Devices[0], d.Combiner} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d", "%o"} {
				fmt.Fprintf(&text, verb, v)
			}
			if b, err := json.Marshal(v); err == nil {
				text.Write(b)
			}
		}
		secrets := d.Secrets()
		if len(secrets) < 5 {
			t.Fatalf("%d secrets", len(secrets))
		}
		for _, secret := range secrets {
			n := new(big.Int).SetBytes(secret)
			for spelling, s := range map[string]string{
				"raw": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret), "decimal bytes": strings.Trim(fmt.Sprint(secret), "[]"),
				"go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"), "number": n.String(),
				"base64": base64.StdEncoding.EncodeToString(secret),
			} {
				if strings.Contains(text.String(), s) {
					t.Errorf("a share prints as %s", spelling)
				}
			}
		}
		d.Wipe()
		for _, secret := range d.Secrets() {
			if len(secret) > 0 {
				t.Error("a secret is left after Wipe")
			}
		}
		task := newTask(t, threshold.RS256, "document", 2048)
		task.Set = 0b111
		if _, err := d.Devices[0].Partial(task, task.EM); err == nil {
			t.Error("signed after Wipe")
		}
	})
}
