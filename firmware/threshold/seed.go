package threshold

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Seed is one device's contribution to a key generation.
type Seed struct {
	ID    string // id of the contributing device
	Value Secret // at least MinSeedLen random bytes
}

// SeedReader is a deterministic stream of random bytes made from the seeds of
// all devices. It is secret: it determines a key.
type SeedReader struct{ xof *tuplehash.XOF }

// NewSeedReader returns the stream determined by the label (what the stream is
// for: system, key and attempt) and by all seeds, as
//
//	TupleHashXOF256(number of seeds, ID₁, Value₁, ID₂, Value₂, …; S = label)
//
// of NIST SP 800-185. SHAKE256's capacity gives 256 bits of strength. The same
// label and seeds in the same order give the same stream; any change gives an
// unrelated one, and one good seed suffices: whoever does not know all the
// values cannot tell the stream from random. Callers put the seeds into an
// order on which all agree, such as by ID.
//
// Someone who knows all other seeds, as the lead does, can try out values for his
// own until he likes the key. That gains him nothing that the lead does not have
// anyhow: it sees the whole key.
//
// It returns ErrSeed for an empty label, no seeds or more than MaxSeeds, an
// empty or repeated ID, and for a value shorter than MinSeedLen.
func NewSeedReader(label string, seeds []Seed) (*SeedReader, error) {
	if label == "" {
		return nil, fmt.Errorf("%w: no label", ErrSeed)
	}
	if len(seeds) == 0 || len(seeds) > MaxSeeds {
		return nil, fmt.Errorf("%w: %d seeds, not 1 to %d", ErrSeed, len(seeds), MaxSeeds)
	}
	seen := make(map[string]bool, len(seeds))
	for _, s := range seeds {
		switch {
		case s.ID == "":
			return nil, fmt.Errorf("%w: seed without the id of its device", ErrSeed)
		case seen[s.ID]:
			return nil, fmt.Errorf("%w: two seeds of device %q", ErrSeed, s.ID)
		case s.Value.Len() < MinSeedLen:
			return nil, fmt.Errorf("%w: seed of device %q has %d bytes, need %d", ErrSeed, s.ID, s.Value.Len(), MinSeedLen)
		}
		seen[s.ID] = true
	}
	xof := tuplehash.New("privyseal seed v1: " + label)
	xof.AddUint(uint64(len(seeds)))
	for _, s := range seeds {
		xof.AddString(s.ID)
		xof.Add(s.Value.Reveal())
	}
	return &SeedReader{xof}, nil
}

// Read fills p. It fails with ErrWiped after Wipe and otherwise never.
func (r *SeedReader) Read(p []byte) (int, error) {
	if r.xof == nil {
		return 0, ErrWiped
	}
	return r.xof.Read(p)
}

// Wipe clears the state, from which the whole stream could be recomputed.
func (r *SeedReader) Wipe() {
	if r.xof != nil {
		r.xof.Wipe()
		r.xof = nil
	}
}

func (*SeedReader) String() string               { return redacted }
func (*SeedReader) GoString() string             { return redacted }
func (*SeedReader) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (*SeedReader) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (*SeedReader) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (*SeedReader) LogValue() slog.Value         { return slog.StringValue(redacted) }
