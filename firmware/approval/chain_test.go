package approval_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// A chain with any byte of it changed is refused: each signature covers everything before it, byte for byte.
func TestChainByteFlips(t *testing.T) {
	w := newWorld(t)
	base := w.raw(w.Devices["device-2"].Sign, map[int]string{1: "partial"}, func(h *envelope.Header) { h.Type = "partial" })
	a := w.sign(w.card("officer-1a"), prior(base))
	b := w.sign(w.card("officer-1b"), prior(a))
	if _, err := approval.VerifyChain(w.State, w.req, device, b, base, w.Now); err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(b); i += step {
		for _, bit := range []byte{1, 0x80} {
			c := flip(b, i)
			c[i] = b[i] ^ bit
			if _, err := approval.VerifyChain(w.State, w.req, device, c, base, w.Now); err == nil {
				t.Fatalf("accepted with byte %d of %d changed", i, len(b))
			}
		}
	}
	// A cut chain, and one with something after it.
	for i := range len(b) {
		if _, err := approval.VerifyChain(w.State, w.req, device, b[:i], base, w.Now); err == nil {
			t.Fatalf("accepted %d of %d bytes", i, len(b))
		}
	}
	if _, err := approval.VerifyChain(w.State, w.req, device, append(flip(b, 0), 0), base, w.Now); err == nil {
		t.Fatal("accepted with a byte more")
	}
}

func TestChainRefuses(t *testing.T) {
	w := newWorld(t)
	partial := func(device string) []byte {
		return w.raw(w.Devices[device].Sign, map[int]string{1: "partial"}, func(h *envelope.Header) { h.Type = "partial" })
	}
	base, other := partial("device-2"), partial("device-3")
	again := partial("device-2") // the same words, signed again: another signature, other bytes
	chain := func(start []byte) []byte {
		return w.sign(w.card("officer-1b"), prior(w.sign(w.card("officer-1a"), prior(start))))
	}
	for _, c := range []struct {
		name      string
		raw, base []byte
		is        func(error) bool
		want      string
	}{
		{"begins with nothing, must follow a device", chain(nil), base, is[*approval.ChainError], "link 2: begins without the partial signature"},
		{"begins at a device, must be the first", chain(base), nil, is[*approval.ChainError], `link 2: is a message of type "partial"`},
		{"follows another device", chain(other), base, is[*approval.ChainError], `link 2: is a message of type "partial"`},
		{"follows the same words signed again", chain(again), base, is[*approval.ChainError], `link 2: is a message of type "partial"`},
		{"begins with rubbish", chain([]byte("rubbish")), base, is[*approval.ChainError], "link 2: is not a message"},
		{"approvals of another device before", chain(w.sign(w.card("officer-2a"), func(a *approval.Approval) {
			a.Device, a.Share, a.Pieces[0].Device = "device-2", "certs.device-2", "device-2"
		})), nil, is[*approval.WrongDeviceError], "officer of device-2"},
		{"a rejection inside", w.sign(w.card("officer-1b"), prior(w.sign(w.card("officer-1a"), func(a *approval.Approval) {
			a.Decision, a.Reason, a.Pieces = approval.Reject, "no", nil
		}))), nil, is[*approval.RejectedError], "Officer 1a"},
		{"the requester inside", w.sign(w.card("officer-1b"), prior(w.sign(w.card("requester"), nil))), nil, is[*approval.RequesterApprovedError], "Rita"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := approval.VerifyChain(w.State, w.req, device, c.raw, c.base, w.Now)
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v (%T)\nwant …%s…", err, err, c.want)
			}
		})
	}
	// An approval taken out of a chain is no member of a set.
	a := w.sign(w.card("officer-1a"), nil)
	b := w.sign(w.card("officer-1b"), prior(a))
	if _, err := approval.VerifySet(w.State, w.req, device, [][]byte{a, b}, w.Now); !is[*approval.ChainError](err) {
		t.Error("out of a chain:", err)
	}
	// A base that is repeated inside does not end the chain early: what stands after it counts, nothing else does.
	if _, err := approval.VerifyChain(w.State, w.req, device, b, a, w.Now); !is[*approval.MissingError](err) {
		t.Error("approval as base:", err)
	}
}

// A chain as long as an attacker likes ends at the limit or before, with an error.
func TestChainDepth(t *testing.T) {
	w := newWorld(t)
	var raw []byte
	for range approval.MaxApprovals + 2 {
		raw = w.sign(w.card("officer-1a"), prior(raw))
	}
	_, err := approval.VerifyChain(w.State, w.req, device, raw, nil, w.Now)
	var c *approval.ChainError
	if !errors.As(err, &c) || c.Depth != approval.MaxApprovals || !strings.Contains(err.Error(), "is longer than") {
		t.Fatal(err)
	}
}
