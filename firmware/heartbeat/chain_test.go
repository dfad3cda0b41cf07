package heartbeat

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// The chain as it is described, made anew for each value.
func naiveValue(secret []byte, device string, instance [16]byte, nonce [32]byte, n, slot uint64) envelope.Hash {
	v := envelope.HashOf("privyseal beat sequence seed v1", secret, []byte(device), instance[:], nonce[:])
	for k := n; k > slot; k-- {
		var number [8]byte
		binary.BigEndian.PutUint64(number[:], k)
		v = envelope.HashOf("privyseal beat sequence v1", []byte(device), number[:], v[:])
	}
	return v
}

func TestChain(t *testing.T) {
	secret, instance, nonce := make([]byte, 32), [16]byte{1}, [32]byte{2}
	for _, n := range []uint64{1, 2, 17, SeriesSlots} {
		c := newChain(secret, "device-1", instance, nonce, n)
		if uint64(len(c)) != n+1 {
			t.Fatalf("%d values for %d slots", len(c), n)
		}
		seen := map[envelope.Hash]bool{}
		for k := range c {
			if c[k] != naiveValue(secret, "device-1", instance, nonce, n, uint64(k)) {
				t.Fatalf("value %d of %d", k, n)
			}
			if seen[c[k]] {
				t.Fatalf("value %d of %d is there twice", k, n)
			}
			seen[c[k]] = true
		}
	}
	// Whatever it is made from changes all of it.
	base := newChain(secret, "device-1", instance, nonce, 3)
	other := sha256.Sum256(nil)
	for name, c := range map[string][]envelope.Hash{
		"secret":   newChain(other[:], "device-1", instance, nonce, 3),
		"device":   newChain(secret, "device-2", instance, nonce, 3),
		"instance": newChain(secret, "device-1", [16]byte{9}, nonce, 3),
		"nonce":    newChain(secret, "device-1", instance, other, 3),
	} {
		for k := range c {
			if c[k] == base[k] {
				t.Errorf("another %s, the same value %d", name, k)
			}
		}
	}
}

func TestChainAccepts(t *testing.T) {
	v := newChain(make([]byte, 32), "device-1", [16]byte{}, [32]byte{}, 20)
	c := chain{last: v[0]}
	for _, x := range []struct {
		slot  uint64
		value envelope.Hash
		loss  uint64
		want  error
	}{
		{0, v[0], 2, ErrOld},
		{1, v[1], 0, nil},
		{1, v[1], 0, ErrOld},
		{3, v[3], 0, ErrLost},
		{3, v[3], 1, nil},
		{2, v[2], 1, ErrOld},
		{4, v[5], 9, ErrValue},
		{5, v[4], 9, ErrValue},
		{4, envelope.Hash{}, 9, ErrValue},
		{7, v[7], 2, ErrLost},
		{6, v[6], 2, nil},
		{1 << 63, v[7], 3, ErrLost},
		{20, v[20], 13, nil},
	} {
		before := c
		if err := c.accept("device-1", x.slot, x.value, x.loss); !errors.Is(err, x.want) {
			t.Errorf("slot %d after %d: %v, not %v", x.slot, before.slot, err, x.want)
		} else if err != nil && c != before {
			t.Errorf("slot %d is refused and remembered", x.slot)
		}
	}
	d := chain{last: v[0]}
	if err := d.accept("device-2", 1, v[1], 0); !errors.Is(err, ErrValue) {
		t.Errorf("the value of another device: %v", err)
	}
}
