package virtual

import (
	"fmt"
	"time"
)

// Action is what a [Fault] does.
type Action string

// The actions.
const (
	Unplug Action = "unplug" // the card leaves the reader
	Delay  Action = "delay"  // the answer comes late
	Status Action = "status" // another status word is answered, and no data
	Swap   Action = "swap"   // another card takes the place of this one; pcscd looks every 400 ms and sees slower swaps only
)

// Fault is a misfortune that waits for its moment: the first command that
// matches Instruction and P2, after After others that matched. Each part of a
// chained command and each GET RESPONSE is a command of its own.
type Fault struct {
	Action      Action
	Instruction byte          // 0 matches any
	P2          byte          // 0 matches any; the key slot of GENERAL AUTHENTICATE
	After       int           // matching commands that pass unharmed first
	Times       int           // matching commands it then strikes; 0 means 1, negative all
	Delay       time.Duration // with Delay: how long; with Unplug: return after it, 0 stays out; with Swap: the slot is empty for it
	Status      uint16        // with Status
	Card        *Card         // with Swap

	// Late lets the card execute the command first: what it did has happened,
	// and only the answer is lost. With Delay it has no meaning.
	Late bool
}

func (f *Fault) validate() error {
	switch {
	case f.Delay < 0 || f.After < 0:
		return fmt.Errorf("virtual: a fault's delay and count are not negative")
	case f.Action == Unplug, f.Action == Delay:
		return nil
	case f.Action == Status && (f.Status>>8 < 0x61 || f.Status>>8 > 0x6f) && f.Status>>12 != 9:
		return fmt.Errorf("virtual: %04x is no status word", f.Status)
	case f.Action == Status:
		return nil
	case f.Action == Swap && f.Card == nil:
		return fmt.Errorf("virtual: a swap needs the other card")
	case f.Action == Swap:
		return nil
	}
	return fmt.Errorf("virtual: no fault %q; there are unplug, delay, status and swap", f.Action)
}

// strikes counts a command against the fault. It reports whether the fault
// acts on it and whether it is then spent.
func (f *Fault) strikes(apdu []byte) (now, spent bool) {
	if len(apdu) < 4 || (f.Instruction != 0 && apdu[1] != f.Instruction) || (f.P2 != 0 && apdu[3] != f.P2) {
		return false, false
	}
	if f.After > 0 {
		f.After--
		return false, false
	}
	if f.Times < 0 {
		return true, false
	}
	f.Times--
	return true, f.Times <= 0
}
