package systemtest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestLockedDeviceRefuses: a locked device opens nothing that is sealed to its
// token, and says to its message server that it is locked, and no more.
func TestLockedDeviceRefuses(t *testing.T) {
	c := newScene(t)
	task := c.r.Task(c.offer, c.Approvals(c.r, c.offer, nil), c.order, 0)
	c.Lock("d1")
	if p := c.Status("d1").Phase; p != firmware.PhaseLocked {
		t.Fatalf("d1 is %s", p)
	}
	for typ, payload := range map[string]any{
		firmware.TypeTask: task, firmware.TypeOfferAsk: firmware.OfferAsk{Request: c.r.Raw},
		firmware.TypeClose:     firmware.Close{Request: c.r.Raw, Signatures: [][]byte{make([]byte, 256)}},
		firmware.TypeRecertify: firmware.Recertify{Expires: c.Now().Unix() + 60},
		firmware.TypeLock:      firmware.Lock{Device: "d1"},
	} {
		_, err := c.Send("d1", typ, payload)
		wantRefusal(t, err, firmware.CodePhase, "device d1 is locked", "officer unlock d1")
		l := c.Letter("d1", typ, payload)
		l.To = nil
		_, err = c.Deliver("d1", l)
		wantDropped(t, err, "must be sealed")
	}
	// With the unlocking key, which it can open, it still refuses.
	offer, err := c.AskUnlock("d1")
	c.check(err)
	l := c.Letter("d1", firmware.TypeTask, task)
	l.To = offer.Public
	_, err = c.Deliver("d1", l)
	wantRefusal(t, err, firmware.CodePhase, "device d1 is locked", "officer unlock d1")
	c.Unlock("d1")
	// What is unlocked is not unlocked again.
	_, err = c.AskUnlock("d1")
	wantRefusal(t, err, firmware.CodePhase, "unlocked already")
}

// TestLockedDeviceCatchesUp: a maintenance notice is for a device that is
// silent. What it has already is passed over.
func TestLockedDeviceCatchesUp(t *testing.T) {
	s := New(t, Only(Pair)) // its ledger grows
	s.Lock("d5")
	height := s.Status("d5").Height
	now := s.Now().Unix()
	s.Enter(ledger.KindNotice, ledger.Notice{Text: "the roof leaks", From: now, Until: now + 60})
	if got := s.Status("d5").Height; got != height {
		t.Fatalf("height %d before it was told", got)
	}
	for range 2 {
		_, err := s.Send("d5", firmware.TypeCatchup, firmware.Catchup{Entries: s.entries})
		s.check(err)
	}
	if got := s.Status("d5"); got.LedgerHead != s.State.Head() || got.Phase != firmware.PhaseLocked {
		t.Errorf("d5 knows %s in phase %s", got.LedgerHead, got.Phase)
	}
}

// logins counts the logins at a device's token while f runs.
func (s *System) logins(device string, f func()) int {
	var n atomic.Int32
	s.Tap(device, func(call string, _, _ [][]byte) {
		if call == "C_Login" {
			n.Add(1)
		}
	})
	f()
	s.Tap(device, nil)
	return int(n.Load())
}

// TestWrongUnlockPiecesDoNotReachTheToken: a token locks itself for good after
// a few wrong PINs, so a wrong one is never tried.
func TestWrongUnlockPiecesDoNotReachTheToken(t *testing.T) {
	s := Shared(t)
	s.Lock("d1")
	a, b := s.Officers("d1")[0], s.Officers("d1")[1]
	attempts := s.logins("d1", func() {
		for range 12 {
			offer, err := s.AskUnlock("d1")
			s.check(err)
			sealedA, pieceA := s.Piece(a, offer.Pieces)
			sealedB, pieceB := s.Piece(b, offer.Pieces)
			pieceB.Value.Reveal()[0] ^= 1
			err = s.SendUnlock("d1", offer, [][]byte{
				s.UnlockApproval(a, "d1", offer, sealedA.ID, pieceA), s.UnlockApproval(b, "d1", offer, sealedB.ID, pieceB),
			})
			wantRefusal(t, err, firmware.CodeShare, "do not join to the right key")
		}
	})
	if attempts != 0 {
		t.Errorf("the token saw %d logins", attempts)
	}
	if n := s.logins("d1", func() { s.Unlock("d1") }); n != 1 {
		t.Errorf("the right pieces gave %d logins, want 1: does the tap work?", n)
	}
}

// TestUnlockNeedsItsOwnOfficers: a quorum of the device's own officers, each
// once, in answer to the offer in force.
func TestUnlockNeedsItsOwnOfficers(t *testing.T) {
	s := Shared(t)
	s.Lock("d1")
	offer, err := s.AskUnlock("d1")
	s.check(err)
	a, b := s.Officers("d1")[0], s.Officers("d1")[1]
	sealedA, pieceA := s.Piece(a, offer.Pieces)
	sealedB, pieceB := s.Piece(b, offer.Pieces)
	okA := s.UnlockApproval(a, "d1", offer, sealedA.ID, pieceA)
	okB := s.UnlockApproval(b, "d1", offer, sealedB.ID, pieceB)
	again := s.UnlockApproval(a, "d1", offer, sealedA.ID, pieceA)
	lent := func(o Officer) []byte { return s.UnlockApproval(o, "d1", offer, sealedB.ID, pieceB) }
	wantRefusal(t, s.SendUnlock("d1", offer, nil), firmware.CodeQuorum, "0 of 2 officers")
	wantRefusal(t, s.SendUnlock("d1", offer, [][]byte{okA}), firmware.CodeQuorum, "1 of 2 officers")
	wantRefusal(t, s.SendUnlock("d1", offer, [][]byte{okA, again}), firmware.CodeQuorum, "1 of 2 officers")
	for _, person := range []string{"officer-2a", "officer-5b"} {
		err := s.SendUnlock("d1", offer, [][]byte{okA, lent(s.Officer(person))})
		wantRefusal(t, err, firmware.CodeQuorum, s.Name(person)+" is not an officer of device d1")
	}
	err = s.SendUnlock("d1", offer, [][]byte{okA, lent(Officer{Administrator, "d1", s.People[Administrator][0]})})
	wantRefusal(t, err, firmware.CodeQuorum, "is not an officer of device d1")
	err = s.SendUnlock("d1", offer, [][]byte{okB, lent(Officer{TwoCards, "d1", s.People[TwoCards][1]})})
	wantRefusal(t, err, firmware.CodeQuorum, "is not an officer of device d1") // not with that card

	// Both officers of another device, for that device's own offer.
	s.Lock("d2")
	other, err := s.AskUnlock("d2")
	s.check(err)
	var foreign [][]byte
	for _, o := range s.Officers("d2") {
		sealed, piece := s.Piece(o, other.Pieces)
		foreign = append(foreign, s.UnlockApproval(o, "d2", other, sealed.ID, piece))
	}
	wantRefusal(t, s.SendUnlock("d1", offer, foreign), firmware.CodeQuorum, "for another offer")
	s.check(s.SendUnlock("d2", other, foreign))

	s.check(s.SendUnlock("d1", offer, [][]byte{okB, okA}))
	// What unlocked once unlocks never again.
	s.Lock("d1")
	l := s.Letter("d1", firmware.TypeUnlock, firmware.Unlock{Offer: offer.Raw, Approvals: [][]byte{okA, okB}})
	l.To = offer.Public
	_, err = s.Deliver("d1", l)
	wantDropped(t, err, "sealed to somebody else")
	fresh, err := s.AskUnlock("d1")
	s.check(err)
	wantRefusal(t, s.SendUnlock("d1", fresh, [][]byte{okA, okB}), firmware.CodeQuorum, "for another offer")
}

// TestUnlockExpires: neither the one-time key nor an officer's word waits for
// ever.
func TestUnlockExpires(t *testing.T) {
	s := Shared(t)
	s.Lock("d1")
	offer, err := s.AskUnlock("d1")
	s.check(err)
	var approvals [][]byte
	for _, o := range s.Officers("d1") {
		sealed, piece := s.Piece(o, offer.Pieces)
		approvals = append(approvals, s.UnlockApproval(o, "d1", offer, sealed.ID, piece))
	}
	s.Advance(2 * time.Hour) // the words hold for one
	wantRefusal(t, s.SendUnlock("d1", offer, approvals), firmware.CodeQuorum, "expired")
	s.Advance(3 * time.Hour)
	wantRefusal(t, s.SendUnlock("d1", offer, approvals), firmware.CodeOffer, "no one-time key for unlocking")
}

// TestUnlockFromAnotherServer: officers' words go the device's own way only.
func TestUnlockFromAnotherServer(t *testing.T) {
	s := Shared(t)
	s.Lock("d1")
	l := s.Letter("d1", firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: "d1"})
	l.Signer = s.Servers["d2"].Sign
	_, err := s.Deliver("d1", l)
	wantDropped(t, err, envelope.ErrWrongKey.Error())
	_, _, err = Ask[firmware.UnlockOffered](s, "d1", firmware.TypeUnlockAsk, firmware.UnlockAsk{Device: "d2"}, firmware.TypeUnlockOffered)
	wantRefusal(t, err, firmware.CodeMessage, "this is device d1")
}
