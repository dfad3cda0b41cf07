package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

func TestInboxOrder(t *testing.T) {
	b := newInbox()
	challenge, revoke, beat := sealed(t, "beat.challenge"), sealed(t, "beat.revoke"), sealed(t, "beat")
	for _, frame := range [][]byte{[]byte("first"), []byte("second"), revoke, challenge, beat} {
		if err := b.put(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range [][]byte{beat, challenge, revoke, []byte("first"), []byte("second"), nil} {
		if got := b.take(lanes); !bytes.Equal(got, want) {
			t.Errorf("place %d: %.20q", i, got)
		}
	}
}

// TestInboxDropsOldBeats fills the lane of beats: the newest stay, and nobody
// waits for room.
func TestInboxDropsOldBeats(t *testing.T) {
	b := newInbox()
	var beats [][]byte
	for range maxBeats + 3 {
		beats = append(beats, sealed(t, "beat"))
		if err := b.put(t.Context(), beats[len(beats)-1]); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range append(beats[3:], nil) {
		if got := b.take(lanes); !bytes.Equal(got, want) {
			t.Errorf("place %d is another", i)
		}
	}
}

// TestInboxFull holds the link to its bound, and lets a beat through all the
// same.
func TestInboxFull(t *testing.T) {
	b := newInbox()
	const n = 4 << 20
	fit := maxWaiting / (n + waitingCost)
	for range fit {
		if err := b.put(t.Context(), make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.put(over, make([]byte, n)); !errors.Is(err, context.Canceled) {
		t.Fatalf("frame %d fits: %v", fit+1, err)
	}
	beat := sealed(t, "beat")
	if err := b.put(over, beat); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() { entered <- b.put(t.Context(), make([]byte, n)) }()
	if got := b.take(lanes); !bytes.Equal(got, beat) {
		t.Fatal("the beat waited for its turn")
	}
	if len(b.take(lanes)) != n {
		t.Fatal("not the first frame")
	}
	if err := <-entered; err != nil { // there was room
		t.Fatal(err)
	}
	for range fit {
		if len(b.take(lanes)) != n {
			t.Fatal("a frame was lost")
		}
	}
	if b.take(lanes) != nil || b.octets != 0 {
		t.Errorf("%d octets are left of nothing", b.octets)
	}
	// Whatever the bound, one frame always fits.
	b.octets = 0
	if !b.add(laneOther, make([]byte, 2*maxWaiting)) {
		t.Error("a frame that can never enter")
	}
}

// TestLaneOfLargeFrames does not parse what cannot be a beat.
func TestLaneOfLargeFrames(t *testing.T) {
	if laneOf(sealed(t, "beat")) != laneBeat {
		t.Error("a beat is not seen")
	}
	if laneOf(append(sealed(t, "beat"), make([]byte, maxPeek)...)) != laneOther || laneOf(nil) != laneOther {
		t.Error("something else is taken for a beat")
	}
}
