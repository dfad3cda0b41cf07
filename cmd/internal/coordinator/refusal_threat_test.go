package coordinator_test

import (
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestRefusedElsewhere: what a device refuses because another site asked it for
// something else is no word on this task. Otherwise one site could undo what the
// operators of every machine confirmed, and put every machine off, for ever.
func TestRefusedElsewhere(t *testing.T) {
	w, a := small(t)
	w.hush(device(4), device(5)) // no combiner yet
	g := w.start("server-1", w.request(a))
	w.pass(2)
	task := g.r.Tracking().Task
	approvals := func() (n int) {
		for _, d := range g.r.Tracking().Devices {
			n += len(d.Approved)
		}
		return n
	}
	before := approvals()
	if before == 0 {
		t.Fatal("nobody approved")
	}
	show := func(d string, f firmware.Refusal) {
		f.Device = d
		for _, kind := range []string{tolerant.KindFailed, tolerant.KindAck} {
			w.broadcast("server-3", tolerant.Packet{
				Kind: kind, Site: "server-3", Enterprise: 1, Distributor: 1, Task: task, Request: g.r.Digest(), Device: d,
				Message: w.devices[d].Sign(firmware.TypeRefusal, f, [16]byte{9}),
			})
		}
		w.settle()
	}
	for range 3 {
		for i := 1; i <= 5; i++ {
			for _, f := range []firmware.Refusal{
				// An unlocked device that is asked to be unlocked.
				{Code: firmware.CodePhase, Text: "it is unlocked already", Type: firmware.TypeUnlockAsk},
				{Code: firmware.CodeOffer, Text: "too many invitations", Type: firmware.TypeInviteAsk},
				// It names the request, and not what was asked of it here.
				{Request: g.r.Digest(), Code: firmware.CodeMessage, Text: "makes no partial signatures", Type: firmware.TypeTask},
				{Code: firmware.CodeMessage, Text: "is malformed", Type: firmware.TypeOfferAsk},
				{Code: firmware.CodePhase, Text: "by its token, so that it is not locked"},
				{Request: envelope.Hash{1}, Code: firmware.CodeOffer, Text: "another's", Type: firmware.TypePowersTask},
			} {
				show(device(i), f)
			}
		}
		w.pass(1)
	}
	if after := approvals(); after < before {
		t.Errorf("%d approvals of %d are left", after, before)
	}
	clear(w.silent)
	for i := range 5 {
		g.approveAll(device(i + 1))
	}
	w.pass(3) // and nobody was put off
	g.signed()

	// A device that is locked has lost its one-time keys, and is believed.
	w, a = small(t)
	w.hush(device(3), device(4), device(5))
	g = w.start("server-1", w.request(a))
	w.pass(2)
	task = g.r.Tracking().Task
	w.fault(coordtest.Locked, device(4))
	show(device(4), firmware.Refusal{Code: firmware.CodePhase, Text: "it is locked"})
	if d := g.r.Tracking().Devices[3]; d.Offered {
		t.Errorf("a locked device: %+v", d)
	}
}
