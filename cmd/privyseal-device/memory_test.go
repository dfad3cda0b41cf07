package main

import "testing"

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
