package tuplehash_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// TestNISTSamples holds samples 4 to 6 of
// https://csrc.nist.gov/CSRC/media/Projects/Cryptographic-Standards-and-Guidelines/documents/examples/TupleHashXOF_samples.pdf
func TestNISTSamples(t *testing.T) {
	for _, sample := range []struct {
		tuple       []string
		label, want string
	}{
		{[]string{"000102", "101112131415"}, "",
			"03ded4610ed6450a1e3f8bc44951d14fbc384ab0efe57b000df6b6df5aae7cd568e77377daf13f37ec75cf5fc598b6841d51dd207c991cd45d210ba60ac52eb9"},
		{[]string{"000102", "101112131415"}, "My Tuple App",
			"6483cb3c9952eb20e830af4785851fc597ee3bf93bb7602c0ef6a65d741aeca7e63c3b128981aa05c6d27438c79d2754bb1b7191f125d6620fca12ce658b2442"},
		{[]string{"000102", "101112131415", "202122232425262728"}, "My Tuple App",
			"0c59b11464f2336c34663ed51b2b950bec743610856f36c28d1d088d8a2446284dd09830a6a178dc752376199fae935d86cfdee5913d4922dfd369b66a53c897"},
	} {
		x := tuplehash.New(sample.label)
		for _, s := range sample.tuple {
			b, _ := hex.DecodeString(s)
			x.Add(b)
		}
		// In two pieces: reading on continues the stream.
		got := append(x.Sum(5), x.Sum(59)...)
		if hex.EncodeToString(got) != sample.want {
			t.Errorf("label %q, tuple %q: %x", sample.label, sample.tuple, got)
		}
	}
}

// TestUnambiguous: moving a byte over a border, joining, splitting and adding
// empty strings all change the hash, and so does the label.
func TestUnambiguous(t *testing.T) {
	long := string(bytes.Repeat([]byte{'x'}, 300)) // needs two bytes of length
	seen := map[string]string{}
	for _, label := range []string{"a", "ab", ""} {
		for _, tuple := range [][]string{
			nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"b", "a"},
			{long}, {long[:44], long[44:]}, {long + "y"},
		} {
			x := tuplehash.New(label)
			for _, s := range tuple {
				x.AddString(s)
			}
			sum := string(x.Sum(32))
			if other, ok := seen[sum]; ok {
				t.Errorf("label %q, tuple %q hashes like %s", label, tuple, other)
			}
			seen[sum] = label
		}
	}
}

func TestAddAfterRead(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	x := tuplehash.New("label")
	x.Sum(1)
	x.AddString("late")
}
