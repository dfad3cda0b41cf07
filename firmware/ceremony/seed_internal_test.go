package ceremony

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestSeedsMakeTheKey: the same seeds give the same modulus, whichever device
// answered first, and any bit of any seed gives another; so does another key.
func TestSeedsMakeTheKey(t *testing.T) {
	seeds := func() map[string]threshold.Secret {
		out := map[string]threshold.Secret{}
		for i, id := range []string{"d3", "d1", "d2"} {
			out[id] = threshold.NewSecret(bytes.Repeat([]byte{byte(i + 1)}, SeedSize))
		}
		return out
	}
	modulus := func(key string, seeds map[string]threshold.Secret) string {
		t.Helper()
		s := &Session{seeds: seeds}
		r, err := s.seedReader(key)
		if err != nil {
			t.Fatal(err)
		}
		k, err := threshold.GenerateKey(r, 2048, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Wipe()
		return string(k.Public().N)
	}
	base := modulus("swa", seeds())
	if modulus("swa", seeds()) != base {
		t.Fatal("same seeds, another modulus")
	}
	seen := map[string]string{base: "the first"}
	add := func(name, n string) {
		if other, ok := seen[n]; ok {
			t.Errorf("%s: the modulus of %s", name, other)
		}
		seen[n] = name
	}
	add("another key", modulus("certs", seeds()))
	for _, id := range []string{"d1", "d2", "d3"} {
		for _, at := range []int{0, SeedSize - 1} {
			changed := seeds()
			changed[id].Reveal()[at] ^= 1
			add("a bit of "+id, modulus("swa", changed))
		}
	}
	swapped := seeds()
	swapped["d1"], swapped["d2"] = swapped["d2"], swapped["d1"]
	add("seeds of each other", modulus("swa", swapped))
	fewer := seeds()
	delete(fewer, "d2")
	add("a device less", modulus("swa", fewer))
}
