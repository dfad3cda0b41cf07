package coordinator_test

import (
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestLargeOffer: what a device sends with its offer is kept for every request,
// in memory and on the disk. One that lies cannot fill them.
func TestLargeOffer(t *testing.T) {
	for name, pieces := range map[string][]ceremony.SealedPiece{
		"one long":   {{ID: "piece", Sealed: make([]byte, 1<<20)}},
		"many short": make([]ceremony.SealedPiece, 1000),
	} {
		w, a := small(t)
		w.cut = func(p tolerant.Packet, _ string) bool {
			return p.Kind == tolerant.KindAck && p.Device == device(1) && p.Site != "test"
		}
		w.hush(device(4), device(5)) // no combiner: it stays open
		g := w.start("server-1", w.request(a))
		w.pass(1)
		var ack tolerant.Packet
		for _, p := range w.seen {
			if p.Kind == tolerant.KindAck && p.Device == device(1) {
				ack = p
			}
		}
		u, err := envelope.Parse(ack.Message)
		if err != nil {
			t.Fatal(err)
		}
		var in firmware.Offered
		if err := envelope.Unmarshal(u.UnverifiedPayload(), &in); err != nil {
			t.Fatal(err)
		}
		honest := ack.Message
		in.Pieces = append(in.Pieces, pieces...)
		ack.Site, ack.Message = "test", w.devices[device(1)].Sign(firmware.TypeOffered, in, [16]byte{1})
		w.broadcast("server-1", ack)
		w.settle()
		if g.r.Tracking().Devices[0].Offered {
			t.Errorf("%s: taken", name)
		}
		ack.Message = honest
		w.broadcast("server-1", ack)
		w.settle()
		if !g.r.Tracking().Devices[0].Offered {
			t.Errorf("%s: what is right is not taken any more", name)
		}
	}
}
