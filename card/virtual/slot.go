package virtual

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrRemoved is what a slot answers to a command for a card that is not there,
// or no longer.
var ErrRemoved = errors.New("virtual: the card was removed")

// Slot is where a card is plugged in. It is safe for concurrent use, unlike
// the card, which it then owns.
type Slot struct {
	mu       sync.Mutex
	card     *Card
	parked   *Card // pulled out, to be put back by Reinsert
	faults   []*Fault
	inserted uint64        // counts insertions, so that a holder can tell one from the next
	changed  chan struct{} // closed at every insertion and removal
}

// NewSlot makes a slot, empty if card is nil.
func NewSlot(card *Card) *Slot {
	s := &Slot{changed: make(chan struct{})}
	if card != nil {
		s.Insert(card)
	}
	return s
}

// Insert plugs a card in, in place of the one that may be there.
func (s *Slot) Insert(card *Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(card)
}

func (s *Slot) insert(card *Card) {
	card.Reset()
	s.card, s.parked = card, nil
	s.inserted++
	s.signal()
}

// Remove pulls the card out. Reinsert puts it back.
func (s *Slot) Remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove()
}

func (s *Slot) remove() {
	if s.card == nil {
		return
	}
	s.card.Reset()
	s.parked, s.card = s.card, nil
	s.signal()
}

// Reinsert puts the card that was removed last back, and reports whether there
// was one and the slot was empty.
func (s *Slot) Reinsert() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card != nil || s.parked == nil {
		return false
	}
	s.insert(s.parked)
	return true
}

// Swap puts another card in place of the one that is there. The slot is empty
// for the given time in between.
func (s *Slot) Swap(card *Card, empty time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swap(card, empty)
}

func (s *Slot) swap(card *Card, empty time.Duration) {
	if empty == 0 {
		s.insert(card)
		return
	}
	s.remove()
	s.parked = card
	time.AfterFunc(empty, func() { s.Reinsert() })
}

func (s *Slot) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Present returns the number of the insertion that the slot is at, or zero if
// it is empty, and a channel that is closed when that changes.
func (s *Slot) Present() (insertion uint64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return 0, s.changed
	}
	return s.inserted, s.changed
}

// Serial returns the serial number of the card in the slot, if there is one.
func (s *Slot) Serial() (serial uint32, present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return 0, false
	}
	return s.card.Serial(), true
}

// Removed returns the serial number of the card that Reinsert would put back.
func (s *Slot) Removed() (serial uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card != nil || s.parked == nil {
		return 0, false
	}
	return s.parked.Serial(), true
}

// Inject arms a fault. Faults are considered in the order they were armed, and
// the first that strikes is the only one for that command.
func (s *Slot) Inject(f Fault) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// Clear disarms all faults.
func (s *Slot) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Reset resets the card, or does nothing in an empty slot.
func (s *Slot) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card != nil {
		s.card.Reset()
	}
}

// ATR returns the card's answer to reset, nil if the slot is empty.
func (s *Slot) ATR() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return nil
	}
	return s.card.ATR()
}

// Transmit hands a command to the card of the given insertion, which Present
// returned. It fails with [ErrRemoved] if that card is gone, or goes now by a
// fault, and with ctx's error if ctx ends during a delay.
func (s *Slot) Transmit(ctx context.Context, insertion uint64, apdu []byte) ([]byte, error) {
	s.mu.Lock()
	if s.card == nil || s.inserted != insertion {
		s.mu.Unlock()
		return nil, ErrRemoved
	}
	f := s.strike(apdu)
	if f == nil {
		defer s.mu.Unlock()
		return s.card.Transmit(apdu), nil
	}
	if f.Action == Delay {
		s.mu.Unlock()
		if err := sleep(ctx, f.Delay); err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.card == nil || s.inserted != insertion { // pulled out meanwhile
			return nil, ErrRemoved
		}
		return s.card.Transmit(apdu), nil
	}
	defer s.mu.Unlock()
	if f.Late {
		s.card.Transmit(apdu)
	}
	switch f.Action {
	case Status:
		return response(nil, f.Status), nil
	case Swap:
		s.swap(f.Card, f.Delay)
	case Unplug:
		s.remove()
		if f.Delay > 0 {
			// Reinsert does nothing if somebody was faster.
			time.AfterFunc(f.Delay, func() { s.Reinsert() })
		}
	}
	return nil, ErrRemoved
}

// strike finds the fault that acts on a command, and forgets it if spent.
func (s *Slot) strike(apdu []byte) *Fault {
	for i, f := range s.faults {
		now, spent := f.strikes(apdu)
		if spent {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		if now {
			return f
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
