package virtual

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	ctx := t.Context()
	selectPIV := []byte{0, insSelect, 4, 0, 5, 0xa0, 0, 0, 3, 8}
	serial := []byte{0, insSerial, 0, 0, 0}
	tries := []byte{0, insVerify, 0, 0x80}
	wrong := []byte{0, insVerify, 0, 0x80, 8, '0', '0', '0', '0', '0', '0', 0xff, 0xff}

	fresh := func() (*Slot, func(apdu []byte) (uint16, error)) {
		s := NewSlot(testCard(t, Profile57(), Config{}))
		return s, func(apdu []byte) (uint16, error) {
			insertion, _ := s.Present()
			r, err := s.Transmit(ctx, insertion, apdu)
			if err != nil {
				return 0, err
			}
			return uint16(r[len(r)-2])<<8 | uint16(r[len(r)-1]), nil
		}
	}
	expect := func(sw uint16, err error, wantSW uint16, wantErr error) {
		t.Helper()
		if sw != wantSW || !errors.Is(err, wantErr) {
			t.Errorf("%04X, %v; want %04X, %v", sw, err, wantSW, wantErr)
		}
	}
	check := func(send func([]byte) (uint16, error), apdu []byte, wantSW uint16, wantErr error) {
		t.Helper()
		sw, err := send(apdu)
		expect(sw, err, wantSW, wantErr)
	}

	t.Run("status", func(t *testing.T) {
		s, send := fresh()
		check(send, selectPIV, swOK, nil)
		if err := s.Inject(Fault{Action: Status, Instruction: insSerial, After: 1, Times: 2, Status: 0x6f00}); err != nil {
			t.Fatal(err)
		}
		check(send, serial, swOK, nil)
		check(send, serial, 0x6f00, nil)
		check(send, tries, 0x63c3, nil)
		check(send, serial, 0x6f00, nil)
		check(send, serial, swOK, nil)
	})
	t.Run("status, late", func(t *testing.T) {
		s, send := fresh()
		check(send, selectPIV, swOK, nil)
		s.Inject(Fault{Action: Status, Instruction: insVerify, Status: 0x6581, Late: true})
		check(send, wrong, 0x6581, nil)
		check(send, tries, 0x63c2, nil) // the card had counted
	})
	t.Run("always, until cleared", func(t *testing.T) {
		s, send := fresh()
		s.Inject(Fault{Action: Status, Status: 0x6982, Times: -1})
		for range 5 {
			check(send, selectPIV, 0x6982, nil)
		}
		s.Clear()
		check(send, selectPIV, swOK, nil)
	})
	t.Run("unplug", func(t *testing.T) {
		s, send := fresh()
		check(send, selectPIV, swOK, nil)
		_, changed := s.Present()
		s.Inject(Fault{Action: Unplug, Instruction: insVerify, P2: 0x80, Late: true})
		check(send, wrong, 0, ErrRemoved)
		check(send, serial, 0, ErrRemoved)
		select {
		case <-changed:
		default:
			t.Error("the removal was not announced")
		}
		if n, ok := s.Removed(); n != 12345678 || !ok {
			t.Errorf("removed: card %d, %v", n, ok)
		}
		if !s.Reinsert() || s.Reinsert() {
			t.Error("the card went back other than once")
		}
		check(send, serial, swUnknownInstruction, nil) // power was off
		check(send, selectPIV, swOK, nil)
		check(send, tries, 0x63c2, nil)
	})
	t.Run("unplug for a while", func(t *testing.T) {
		s, send := fresh()
		s.Inject(Fault{Action: Unplug, Delay: time.Millisecond})
		check(send, selectPIV, 0, ErrRemoved)
		for insertion, changed := s.Present(); insertion == 0; insertion, changed = s.Present() {
			<-changed
		}
		check(send, selectPIV, swOK, nil)
	})
	t.Run("swap", func(t *testing.T) {
		s, send := fresh()
		check(send, selectPIV, swOK, nil)
		root, err := sharedRoot()
		if err != nil {
			t.Fatal(err)
		}
		state, err := root.Manufacture(testEntropy{}, Profile54(), 99)
		if err != nil {
			t.Fatal(err)
		}
		other, err := New(state, Config{})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := s.Present()
		s.Inject(Fault{Action: Swap, Instruction: insSerial, Card: other})
		check(send, serial, 0, ErrRemoved)
		if n, ok := s.Serial(); n != 99 || !ok {
			t.Errorf("card %d in the slot", n)
		}
		// Who holds the old insertion does not get the new card's answers.
		if _, err := s.Transmit(ctx, before, selectPIV); !errors.Is(err, ErrRemoved) {
			t.Errorf("old insertion: %v", err)
		}
	})
	t.Run("delay", func(t *testing.T) {
		s, send := fresh()
		s.Inject(Fault{Action: Delay, Delay: time.Hour})
		insertion, _ := s.Present()
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			_, err := s.Transmit(ctx, insertion, selectPIV)
			done <- err
		}()
		// The slot is not locked meanwhile: the card can be pulled.
		for len(s.armed()) > 0 {
			time.Sleep(time.Millisecond)
		}
		s.Remove()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		s.Reinsert()
		s.Inject(Fault{Action: Delay, Delay: time.Nanosecond})
		check(send, selectPIV, swOK, nil)
	})
	for _, bad := range []Fault{{}, {Action: "melt"}, {Action: Status}, {Action: Status, Status: 0x1234}, {Action: Swap}, {Action: Delay, Delay: -1}, {Action: Unplug, After: -1}} {
		if err := NewSlot(nil).Inject(bad); err == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
}

func (s *Slot) armed() []*Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// testEntropy is a source without entropy.
type testEntropy struct{}

func (testEntropy) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)*3 + 1
	}
	return len(b), nil
}

// TestSlotConcurrent pulls and swaps a card while others use it; the race
// detector judges, and every answer is an answer or ErrRemoved.
func TestSlotConcurrent(t *testing.T) {
	a, b := testCard(t, Profile54(), Config{}), testCard(t, Profile57(), Config{})
	s := NewSlot(a)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				insertion, _ := s.Present()
				r, err := s.Transmit(t.Context(), insertion, []byte{0, insSelect, 4, 0, 5, 0xa0, 0, 0, 3, 8})
				if err != nil && !errors.Is(err, ErrRemoved) || err == nil && len(r) < 2 {
					t.Errorf("%x, %v", r, err)
					return
				}
				s.ATR()
				s.Serial()
			}
		})
	}
	for i := range 300 {
		switch i % 4 {
		case 0:
			s.Remove()
		case 1:
			s.Reinsert()
		case 2:
			s.Insert(b)
		case 3:
			s.Insert(a)
		}
	}
	close(stop)
	wg.Wait()
}
