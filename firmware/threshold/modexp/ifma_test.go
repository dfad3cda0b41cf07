package modexp_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// both returns a modulus as this processor computes with it and as every
// processor can.
func both(t testing.TB, n []byte) map[string]*modexp.Modulus {
	t.Helper()
	m, err := modexp.New(n)
	if err != nil {
		t.Fatal(err)
	}
	portable, err := modexp.NewPortable(n)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*modexp.Modulus{"New": m, "NewPortable": portable}
}

// vectors is how many vectors numbers of so many bits have, if the processor has
// any: as little as R = 2^(52·limbs) > 4n lets it.
func vectors(bits int) int {
	usable := cpu.X86.HasAVX512F && cpu.X86.HasAVX512IFMA // which asks the operating system too
	limbs := 1
	for 52*limbs < bits+2 {
		limbs++
	}
	switch {
	case modexp.Lanes == 0, modexp.Lanes == 1 && !usable, limbs <= 32:
		return 0
	case limbs <= 5*8:
		return 5
	case limbs <= 8*8:
		return 8
	default:
		return 10
	}
}

// borders are lengths of moduli in bits: those in use; the shortest for vectors;
// the longest that leave room for the two bits above n in a number of limbs, and
// the next; the longest for a number of vectors, and the next.
var borders = []int{1662, 1663, 1714, 1715, 2047, 2048, 2078, 2079, 3072, 3326, 3327, 4054, 4055, 4095, 4096}

// moduli returns odd numbers of so many bits at the ends of their range and with
// extreme limbs.
func moduli(bits int) map[string]*big.Int {
	one := big.NewInt(1)
	power := func(k int) *big.Int { return new(big.Int).Lsh(one, uint(k)) }
	top := power(bits)
	random, err := rand.Int(rand.Reader, power(bits-1))
	if err != nil {
		panic(err)
	}
	random.SetBit(random, bits-1, 1).SetBit(random, 0, 1)
	runs := new(big.Int) // limbs of ones, and of zeros
	for at := 0; at < bits; at += 104 {
		runs.Or(runs, new(big.Int).Lsh(new(big.Int).Sub(power(52), one), uint(at)))
	}
	runs.SetBit(runs, bits-1, 1).And(runs, new(big.Int).Sub(top, one))
	root := new(big.Int).Sqrt(new(big.Int).Sub(top, one))
	if root.Bit(0) == 0 {
		root.Sub(root, one)
	}
	return map[string]*big.Int{
		"all ones": new(big.Int).Sub(top, one),
		"highest":  new(big.Int).Sub(top, big.NewInt(189)),
		"lowest":   new(big.Int).Add(power(bits-1), one),
		"low ones": new(big.Int).Sub(new(big.Int).Add(power(bits-1), power(52)), one), // −n⁻¹ = 1
		"runs":     runs,
		"square":   root.Mul(root, root),
		"random":   random,
	}
}

// TestLongModuli compares Exp with math/big, around the borders of the vector
// code's lengths and for numbers at the ends of their ranges; and that the vector
// code is used where it is meant to be.
func TestLongModuli(t *testing.T) {
	for _, bits := range borders {
		for kind, N := range moduli(bits) {
			n := N.Bytes()
			if N.BitLen() != bits || N.Bit(0) == 0 {
				t.Fatalf("%d bits, %s: not a modulus", bits, kind)
			}
			random, err := rand.Int(rand.Reader, N)
			if err != nil {
				t.Fatal(err)
			}
			r := new(big.Int).Lsh(big.NewInt(1), uint((bits+53)/52*52))
			bases := []*big.Int{
				new(big.Int), big.NewInt(1), big.NewInt(2), new(big.Int).Sub(N, big.NewInt(1)), new(big.Int).Sub(N, big.NewInt(2)),
				new(big.Int).Sqrt(N),       // 0, as N or as 0, if N is its square
				r.ModInverse(r, N), random, // 1 in Montgomery's form
			}
			for i, x := range bases {
				base := x.FillBytes(make([]byte, len(n)))
				short := [][]byte{{0}, {1}, {2}, {0, 0, 31}, {32}, {0x80, 0}}[i%6]
				for _, d := range [][]byte{short, bytes.Repeat([]byte{0xff}, 5+i%5), base[:7]} {
					want := pow(base, d, N).FillBytes(make([]byte, len(n)))
					for name, m := range both(t, n) {
						if got, err := m.Exp(base, d); err != nil || !bytes.Equal(got, want) {
							t.Fatalf("%s: %x^%x mod %x = %x, %v", name, base, d, n, got, err)
						}
					}
				}
			}
			for name, m := range both(t, n) {
				want := 0
				if name == "New" {
					want = vectors(bits)
				}
				if got := m.Vectors(); got != want {
					t.Errorf("%s, %d bits: %d vectors, not %d", name, bits, got, want)
				}
				for _, x := range [][]byte{n, new(big.Int).Or(N, big.NewInt(2)).Bytes(), bytes.Repeat([]byte{0xff}, len(n))} {
					if _, err := m.Exp(x, []byte{3}); new(big.Int).SetBytes(x).Cmp(N) >= 0 && !errors.Is(err, modexp.ErrOperand) {
						t.Errorf("%s: base not below the modulus: %v", name, err)
					}
				}
			}
		}
	}
}

// TestLongPowers compares Exp, as this processor does it and as every processor
// can, for exponents of the lengths in use, and a chain
// of them: each result is the next base.
func TestLongPowers(t *testing.T) {
	for _, width := range []int{256, 384, 512} {
		n, x, d := make([]byte, width), make([]byte, width), make([]byte, width)
		rand.Read(n)
		rand.Read(x)
		n[0], n[width-1], x[0] = n[0]|0x80, n[width-1]|1, 0x7f
		m, err := modexp.New(n)
		if err != nil {
			t.Fatal(err)
		}
		portable, err := modexp.NewPortable(n)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			rand.Read(d)
			length := []int{width, width/2 + 16, width + 33, 1}[i%4]
			e := append(d, d...)[:length]
			got, err := m.Exp(x, e)
			if err != nil {
				t.Fatal(err)
			}
			want, err := portable.Exp(x, e)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%x^%x mod %x = %x, not %x (%v)", x, e, n, got, want, err)
			}
			if i < 2 && !bytes.Equal(want, pow(x, e, new(big.Int).SetBytes(n)).FillBytes(make([]byte, width))) {
				t.Fatalf("both wrong: %x^%x mod %x", x, e, n)
			}
			x = got
		}
	}
}

// TestExponentLengths: every length from one byte on, so that the highest window
// has each number of bits, with zeros and with ones in front.
func TestExponentLengths(t *testing.T) {
	N := moduli(2048)["random"]
	x := new(big.Int).Rsh(N, 1).FillBytes(make([]byte, 256))
	for name, m := range both(t, N.Bytes()) {
		for length := 1; length <= 41; length++ {
			for _, first := range []byte{0, 1, 0x1f, 0x80, 0xff} {
				d := bytes.Repeat([]byte{0xa5}, length)
				d[0] = first
				want := pow(x, d, N).FillBytes(make([]byte, 256))
				if got, err := m.Exp(x, d); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s: wrong for exponent %x (%v)", name, d, err)
				}
			}
		}
	}
}

// FuzzExp compares both ways of computing with math/big. Numbers are short patterns
// repeated, which reach extreme limbs sooner than 512 bytes of their own.
func FuzzExp(f *testing.F) {
	ones, sparse := []byte{0xff}, append(make([]byte, 12), 0x10)
	for _, bits := range borders {
		for _, n := range [][]byte{ones, {0}, sparse, []byte("\xff\xff\xff\xff\xff\xff\xf0\x00\x00\x00\x00\x00\x00")} {
			f.Add(uint16(bits), n, ones, []byte{0, 0xff, 0x1f})
			f.Add(uint16(bits), n, sparse, []byte{0x84, 0x21, 0x08})
		}
	}
	f.Fuzz(func(t *testing.T, bits uint16, n, x, d []byte) {
		if bits < 2 || bits > 8*modexp.MaxModulusLen || len(n) == 0 || len(x) == 0 || len(d) == 0 || len(d) > 24 {
			return
		}
		repeat := func(pattern []byte) *big.Int {
			long := bytes.Repeat(pattern, (int(bits)+7)/8/len(pattern)+1)
			v := new(big.Int).SetBytes(long)
			return v.Rsh(v, uint(max(0, v.BitLen()-int(bits))))
		}
		N := repeat(n)
		N.SetBit(N, int(bits)-1, 1).SetBit(N, 0, 1)
		base := repeat(x)
		x = base.Mod(base, N).FillBytes(make([]byte, len(N.Bytes())))
		want := pow(x, d, N).FillBytes(make([]byte, len(x)))
		for name, m := range both(t, N.Bytes()) {
			if got, err := m.Exp(x, d); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %x^%x mod %x = %x, %v", name, x, d, N, got, err)
			}
		}
	})
}

// TestSelfTest: New refuses to work when the vector code computes modulo something
// else, in any of its three sizes.
func TestSelfTest(t *testing.T) {
	if err := modexp.Compare(modexp.New, modexp.NewPortable); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []int{256, 384, 512} {
		faulty := func(n []byte) (*modexp.Modulus, error) {
			if n = bytes.Clone(n); len(n) == wrong {
				n[wrong/2] ^= 4
			}
			return modexp.New(n)
		}
		if err := modexp.Compare(faulty, modexp.NewPortable); !errors.Is(err, modexp.ErrSelfTest) {
			t.Errorf("%d bytes: %v", wrong, err)
		}
	}
}

// TestOtherBuilds runs the tests as on a machine without vectors, and those of the
// vector code as on a machine that has them, so that every machine tests both.
func TestOtherBuilds(t *testing.T) {
	for tag, lanes := range map[string]int{"modexp_portable": 0, "modexp_model": 2} {
		if modexp.Lanes != 1 && lanes == modexp.Lanes {
			continue // this is that build
		}
		out, err := exec.Command("go", "test", "-count=1", "-vet=off", "-tags="+tag, "-skip=^(TestOtherBuilds|TestTableIsReadWhole)$", ".", "-rapid.checks=30").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", tag, err, out)
		}
	}
}

// TestTableIsReadWhole looks at what the compiler made of the scan of the table, which
// must load every entry: as many loads as there are vectors, in each of the two places
// where an entry is picked, and none that a mask register could leave out.
func TestTableIsReadWhole(t *testing.T) {
	if modexp.Lanes != 1 {
		return // nothing is compiled that scans
	}
	binary := filepath.Join(t.TempDir(), "modexp.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, vectors := range []int{5, 8, 10} {
		out, err := exec.Command("objdump", "-d", "--no-show-raw-insn", fmt.Sprintf("--disassemble=power%d", vectors), binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		scanned := 0
		for line := range strings.Lines(string(out)) {
			switch {
			case strings.Contains(line, "(%") && strings.Contains(line, "{%k"):
				t.Errorf("power%d: a load or store by mask: %s", vectors, line)
			case strings.Contains(line, "vpternlogq $0xf8") && strings.Contains(line, "(%r"):
				scanned++
			}
		}
		if scanned != 2*vectors {
			t.Errorf("power%d: %d loads in scans of the table, not %d", vectors, scanned, 2*vectors)
		}
	}
}
