package modexp_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
	"pgregory.net/rapid"
)

// TestAgainstMathBig compares all three functions with math/big on moduli and
// exponents of every shape: odd widths, leading zeros, zero, longer than N.
func TestAgainstMathBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Slices of a length that rapid may choose are nearly all short.
		number := func(label string, lengths ...int) []byte {
			length := rapid.SampledFrom(lengths).Draw(t, label+" length")
			return rapid.SliceOfN(rapid.Byte(), length, length).Draw(t, label)
		}
		n := number("n", 1, 2, 7, 8, 9, 63, 64, 65, 128, 129, 200, 256, 300)
		n[0] |= 0x02 // above 1, no leading zero
		n[len(n)-1] |= 1
		m, err := modexp.New(n)
		if err != nil {
			t.Fatal(err)
		}
		N := new(big.Int).SetBytes(n)
		base := func(label string) []byte {
			x := new(big.Int).SetBytes(number(label, 0, 1, len(n), len(n)+1))
			return x.Mod(x, N).FillBytes(make([]byte, len(n)))
		}
		exponent := func(label string) []byte {
			zeros := make([]byte, rapid.IntRange(0, 20).Draw(t, label+" zeros"))
			return append(zeros, number(label, 1, 2, 8, 9, 64, len(n), len(n)+20)...)
		}
		x, y, a, b := base("x"), base("y"), exponent("a"), exponent("b")
		zero := isZero(x) || isZero(y)
		xa := pow(x, a, N)
		yb := pow(y, b, N)
		both := new(big.Int).Mul(xa, yb)
		both.Mod(both, N)

		for name, c := range map[string]struct {
			want *big.Int
			got  func() ([]byte, error)
		}{
			"Exp":         {xa, func() ([]byte, error) { return m.Exp(x, a) }},
			"ExpVarTime":  {xa, func() ([]byte, error) { return m.ExpVarTime(x, a) }},
			"Exp2VarTime": {both, func() ([]byte, error) { return m.Exp2VarTime(x, a, y, b) }},
		} {
			got, err := c.got()
			if name == "Exp2VarTime" && zero {
				if !errors.Is(err, modexp.ErrOperand) {
					t.Fatalf("Exp2VarTime of 0: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want := c.want.FillBytes(make([]byte, len(n))); !bytes.Equal(got, want) {
				t.Fatalf("%s(%x, %x) mod %x = %x, want %x", name, x, a, n, got, want)
			}
		}
	})
}

func isZero(x []byte) bool { return len(bytes.Trim(x, "\x00")) == 0 }

func pow(x, e []byte, n *big.Int) *big.Int {
	return new(big.Int).Exp(new(big.Int).SetBytes(x), new(big.Int).SetBytes(e), n)
}

func TestRefusals(t *testing.T) {
	for name, n := range map[string][]byte{
		"empty": nil, "zero": {0}, "one": {1}, "even": {4}, "leading zero": {0, 15},
		"too long": append([]byte{1}, make([]byte, modexp.MaxModulusLen)...),
	} {
		if _, err := modexp.New(n); !errors.Is(err, modexp.ErrModulus) {
			t.Errorf("%s modulus: %v", name, err)
		}
	}
	m, err := modexp.New([]byte{0x01, 0x01})
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string][2][]byte{
		"short base":     {{1}, {1}},
		"long base":      {{0, 0, 1}, {1}},
		"base N":         {{1, 1}, {1}},
		"base above N":   {{2, 0}, {1}},
		"no exponent":    {{0, 2}, nil},
		"huge exponent":  {{0, 2}, make([]byte, modexp.MaxExponentLen+1)},
		"base all bytes": {{0xff, 0xff}, {3}},
	} {
		if _, err := m.Exp(op[0], op[1]); !errors.Is(err, modexp.ErrOperand) {
			t.Errorf("Exp, %s: %v", name, err)
		}
		if _, err := m.ExpVarTime(op[0], op[1]); !errors.Is(err, modexp.ErrOperand) {
			t.Errorf("ExpVarTime, %s: %v", name, err)
		}
		if _, err := m.Exp2VarTime([]byte{0, 2}, []byte{1}, op[0], op[1]); !errors.Is(err, modexp.ErrOperand) {
			t.Errorf("Exp2VarTime, %s: %v", name, err)
		}
	}
}

// TestOperandsUntouched: the exponent is the caller's; Exp neither changes nor
// wipes it.
func TestOperandsUntouched(t *testing.T) {
	n := bytes.Repeat([]byte{0xff}, 256)
	x, d := bytes.Repeat([]byte{7}, 256), bytes.Repeat([]byte{9}, 256)
	m, err := modexp.New(n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Exp(x, d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, bytes.Repeat([]byte{7}, 256)) || !bytes.Equal(d, bytes.Repeat([]byte{9}, 256)) {
		t.Error("operands changed")
	}
}

func TestConcurrentUse(t *testing.T) {
	n := make([]byte, 128)
	rand.Read(n)
	n[0] |= 0x80
	n[127] |= 1
	m, err := modexp.New(n)
	if err != nil {
		t.Fatal(err)
	}
	N := new(big.Int).SetBytes(n)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				x := big.NewInt(int64(1000*i + j + 2)).FillBytes(make([]byte, 128))
				d := bytes.Repeat([]byte{byte(i + 1)}, 128)
				got, err := m.Exp(x, d)
				if err != nil || new(big.Int).SetBytes(got).Cmp(pow(x, d, N)) != 0 {
					t.Errorf("goroutine %d: wrong power (%v)", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestLockHeap runs in a process of its own, as there is one heap in a process.
// Where pages cannot be locked LockHeap says so, and the heap works nevertheless.
func TestLockHeap(t *testing.T) {
	const child = "PRIVYSEAL_TEST_LOCK_HEAP"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockHeap$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for _, size := range []int{-1, 0, 1, 1 << 15, 1<<20 + 1, 1 << 40} {
		if modexp.LockHeap(size) == nil {
			t.Errorf("heap of %d bytes", size)
		}
	}
	if err := modexp.LockHeap(1 << 20); err != nil && !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
		t.Fatal(err)
	}
	if modexp.LockHeap(1<<20) == nil {
		t.Error("two heaps")
	}
	n := bytes.Repeat([]byte{0xff}, modexp.MaxModulusLen)
	m, err := modexp.New(n)
	if err != nil {
		t.Fatal(err)
	}
	x, d := bytes.Repeat([]byte{3}, len(n)), bytes.Repeat([]byte{0xe5}, 16)
	want := pow(x, d, new(big.Int).SetBytes(n)).FillBytes(make([]byte, len(n)))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 5 {
				if got, err := m.Exp(x, d); err != nil || !bytes.Equal(got, want) {
					t.Errorf("in the locked heap: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
