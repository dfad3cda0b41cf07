package firmware_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
)

// living is a world of devices that live on each other's answers: each needs those
// of all others, every period.
type living struct {
	*world
	boot int64                // all clocks of the kind
	cut  func(to string) bool // loses what goes to a device
}

const (
	livingPeriod = 100 * time.Millisecond
	livingLease  = 400 * time.Millisecond
)

func newLiving(t *testing.T) *living {
	t.Helper()
	l := &living{boot: int64(time.Hour), cut: func(string) bool { return false }}
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledger.Heartbeat{
		Sources: allMachines, Needed: 4, Period: uint64(livingPeriod.Milliseconds()), Lease: uint64(livingLease.Milliseconds()),
	}))
	l.world = worldOf(t, s, firmwaretest.Attended)
	for _, id := range allMachines {
		d := l.devices[id]
		d.Boot = func() int64 { return l.boot }
		d.Send = func(frame []byte) { l.carry(id, frame) }
		d.Restart(t) // it began by another clock
	}
	for _, id := range allMachines {
		l.unlock(id)
	}
	l.pass(3 * livingPeriod)
	for _, id := range allMachines {
		if l.left(id) <= 0 {
			t.Fatalf("%s has no lease: %v", id, l.devices[id].Notes)
		}
	}
	return l
}

// carry takes a challenge or a beat to the devices that it is for.
func (l *living) carry(from string, frame []byte) {
	l.t.Helper()
	h, err := envelope.Peek(frame)
	l.check(err)
	for _, to := range h.To {
		id, ok := l.State.Identity(to)
		if d := l.devices[id.Owner]; ok && d != nil && id.Owner != from && !l.cut(id.Owner) {
			l.check(d.Take(frame))
		}
	}
}

// pass lets time pass, and devices do what is due.
func (l *living) pass(d time.Duration) {
	l.t.Helper()
	const step = 10 * time.Millisecond
	for ; d > 0; d -= step {
		l.boot += int64(step)
		for _, id := range slices.Sorted(maps.Keys(l.devices)) {
			if next := l.devices[id].Machine().Next(); next != 0 && next <= l.boot {
				l.check(l.devices[id].Tick())
			}
		}
	}
}

func (l *living) left(device string) time.Duration {
	return time.Duration(l.devices[device].Machine().Lease().Until - l.boot)
}

// unlock has a device's officers open it.
func (l *living) unlock(device string) {
	l.t.Helper()
	answer, err := l.devices[device].Relay(l.sealed(device, firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: device}, nil))
	l.check(err)
	out, _, err := read[firmware.UnlockOffered](l.world, device, answer, firmware.TypeUnlockOffered)
	l.check(err)
	u, err := envelope.Parse(out.Offer)
	l.check(err)
	var o approval.UnlockOffer
	l.check(envelope.Unmarshal(u.UnverifiedPayload(), &o))
	pub, err := ecdh.P256().NewPublicKey(o.Public)
	l.check(err)
	var words [][]byte
	for _, p := range out.Pieces {
		card := l.Persons[p.Person].Card()
		piece, err := share.OpenPieceFromCard(card.Agree, share.PieceContext{ID: p.ID, Purpose: p.Purpose, Device: p.Device, Card: p.Card}, p.Sealed)
		l.check(err)
		sealed, err := share.SealPieceForOffer(pub, firmware.UnlockContext(device, u.UnverifiedDigest(), p.ID, ledgertest.KeyID(l.t, card.Sign)), piece)
		l.check(err)
		body, err := envelope.Marshal(approval.UnlockApproval{
			Device: device, Offer: u.UnverifiedDigest(), Piece: p.ID, Sealed: sealed, Created: l.Now, Expires: l.Now + 3600,
		})
		l.check(err)
		word, err := envelope.Sign(rand.Reader, card.Sign, envelope.Header{
			Type: approval.TypeUnlockApproval, Version: approval.Version, System: l.State.System(), LedgerHead: l.State.Head(),
			Created: l.Now, Expires: l.Now + 3600,
		}, body)
		l.check(err)
		words = append(words, word)
	}
	answer, err = l.devices[device].Relay(l.sealed(device, firmware.TypeUnlock, firmware.Unlock{Offer: out.Offer, Approvals: words}, ledgertest.SPKI(l.t, pub)))
	l.check(err)
	_, _, err = read[firmware.Status](l.world, device, answer, firmware.TypeStatus)
	l.check(err)
}

// silence has an officer of a device tell it to answer another one no more.
func (w *world) silence(device, other string) {
	w.t.Helper()
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	w.check(err)
	officer := w.State.OfficersOf(device, w.Now)[0].Person
	frame, _, err := heartbeat.SealRevoke(rand.Reader, w.Persons[officer].Card().Sign, w.State, &heartbeat.Revoke{
		Device: other, Source: device, Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: w.Now, Expires: w.Now + 600,
	})
	w.check(err)
	w.check(w.devices[device].Take(frame))
}
