package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// cardJSON is a card as list and run print it.
type cardJSON struct {
	Serial  uint32 `json:"serial"`
	Profile string `json:"profile"`
	Reader  string `json:"reader,omitempty"` // that it is or was in, "" if it is a spare one
	Present bool   `json:"present"`
}

// host holds the cards of a directory in the readers of a daemon.
type host struct {
	dir     *virtual.Dir
	readers []string
	slots   []*virtual.Slot

	mu    sync.Mutex
	cards map[uint32]*virtual.Card // each powered but once, so that its state has one owner
}

// newHost puts the cards with the given serial numbers in as many slots.
func newHost(dir *virtual.Dir, serials []uint32, readers []string) (*host, error) {
	h := &host{dir: dir, readers: readers, cards: make(map[uint32]*virtual.Card)}
	for _, serial := range serials {
		c, err := h.card(serial)
		if err != nil {
			return nil, err
		}
		h.slots = append(h.slots, virtual.NewSlot(c))
	}
	return h, nil
}

func (h *host) card(serial uint32) (*virtual.Card, error) {
	if c := h.cards[serial]; c != nil {
		return c, nil
	}
	c, err := h.dir.Card(serial)
	if err != nil {
		return nil, term.WithHint(err, "privyseal-virtualcard list shows the cards, create makes one")
	}
	h.cards[serial] = c
	return c, nil
}

// find returns the slot that a card is in, or was pulled out of; -1 if none.
func (h *host) find(serial uint32) (slot int, present bool) {
	for i, s := range h.slots {
		if n, ok := s.Serial(); ok && n == serial {
			return i, true
		}
		if n, ok := s.Removed(); ok && n == serial {
			return i, false
		}
	}
	return -1, false
}

// do carries out a request of the control socket.
func (h *host) do(r request) (reply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Verb == "list" {
		cards, err := h.list()
		return reply{Cards: cards}, err
	}
	i, present := h.find(r.Serial)
	if i < 0 {
		return reply{}, term.WithHint(fmt.Errorf("card %d is in no reader", r.Serial), "privyseal-virtualcard list shows which are")
	}
	slot := h.slots[i]
	switch r.Verb {
	case "unplug":
		if !present {
			return reply{}, fmt.Errorf("card %d is unplugged already", r.Serial)
		}
		slot.Remove()
	case "insert":
		if present {
			return reply{}, fmt.Errorf("card %d is plugged in already", r.Serial)
		}
		slot.Reinsert()
	case "swap":
		if r.Fault == nil {
			return reply{}, errors.New("no other card given")
		}
		other, err := h.spare(r.Fault.Other)
		if err != nil {
			return reply{}, err
		}
		slot.Swap(other, r.Fault.Delay)
	case "clear":
		slot.Clear()
	case "arm":
		if r.Fault == nil {
			return reply{}, errors.New("no fault given")
		}
		return reply{}, h.arm(slot, *r.Fault)
	default:
		return reply{}, fmt.Errorf("no verb %q", r.Verb)
	}
	return reply{}, nil
}

func (h *host) arm(slot *virtual.Slot, f fault) error {
	vf := virtual.Fault{Action: f.Action, Instruction: f.Instruction, P2: f.P2, After: f.After,
		Times: f.Times, Delay: f.Delay, Status: f.Status, Late: f.Late}
	if f.Action == virtual.Swap {
		var err error
		if vf.Card, err = h.spare(f.Other); err != nil {
			return err
		}
	}
	return slot.Inject(vf)
}

// spare returns a card that is in no reader.
func (h *host) spare(serial uint32) (*virtual.Card, error) {
	if i, _ := h.find(serial); i >= 0 {
		return nil, term.WithHint(fmt.Errorf("card %d is in a reader of its own", serial), "swap in a spare card, one that run did not plug in")
	}
	return h.card(serial)
}

func (h *host) list() ([]cardJSON, error) {
	serials, err := h.dir.Serials()
	if err != nil {
		return nil, err
	}
	var cards []cardJSON
	for _, serial := range serials {
		c, err := h.card(serial)
		if err != nil {
			return nil, err
		}
		j := cardJSON{Serial: serial, Profile: c.Profile().Name}
		if i, present := h.find(serial); i >= 0 {
			j.Reader, j.Present = h.readers[i], present
		}
		cards = append(cards, j)
	}
	return cards, nil
}
