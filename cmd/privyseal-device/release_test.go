package main

import (
	"errors"
	"sync"
	"testing"
)

func TestGateHoldsBackAfterLockDown(t *testing.T) {
	var g gate
	handed := 0
	hand := func() error { handed++; return nil }
	if err := g.release(hand); err != nil || handed != 1 {
		t.Fatalf("open gate: %v, handed %d", err, handed)
	}
	g.close()
	if err := g.release(hand); !errors.Is(err, errLocked) || handed != 1 {
		t.Fatalf("closed gate: %v, handed %d", err, handed)
	}
	g = gate{lease: func() error { return errors.New("no lease") }}
	if err := g.release(hand); err == nil || handed != 1 {
		t.Fatalf("no lease: %v, handed %d", err, handed)
	}
}

// TestGateExcludes checks that no answer is being handed over once close has
// returned.
func TestGateExcludes(t *testing.T) {
	var g gate
	var mu sync.Mutex
	closed := false
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				err := g.release(func() error {
					mu.Lock()
					defer mu.Unlock()
					if closed {
						t.Error("an answer left after the lock-down")
					}
					return nil
				})
				if err != nil {
					return
				}
			}
		})
	}
	g.close()
	mu.Lock()
	closed = true
	mu.Unlock()
	wg.Wait()
}

func TestLockedMemory(t *testing.T) {
	b, err := lockedMemory{}.Alloc(384)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 384 {
		t.Fatalf("%d bytes", len(b))
	}
	copy(b, "secret")
	lockedMemory{}.Free(b)
}
