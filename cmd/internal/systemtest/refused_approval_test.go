package systemtest

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/share"
)

// A scene is a request for a nightly build at d1, the first of two devices.
type scene struct {
	*System
	r     *Request
	offer *Offer
	order []uint64
	a, b  Officer // of d1
}

func newScene(t *testing.T, wishes ...Wish) *scene {
	t.Helper()
	s := Shared(t)
	c := &scene{System: s, r: s.File(Pair, []byte("a nightly build\n"), wishes...), order: order(1, 2)}
	c.offer = s.MustOffer("d1", c.r)
	c.a, c.b = s.Officers("d1")[0], s.Officers("d1")[1]
	return c
}

func (c *scene) do(approvals ...[]byte) error {
	c.t.Helper()
	return c.doFor(c.r, approvals...)
}

func (c *scene) doFor(r *Request, approvals ...[]byte) error {
	c.t.Helper()
	var err error
	unmovedIfRefused(c.t, c.System, "d1", func() error {
		_, _, err = c.Do("d1", r.Task(c.offer, approvals, c.order, 0))
		return err
	})
	return err
}

func unmovedIfRefused(t testing.TB, s *System, device string, f func() error) {
	t.Helper()
	before := s.Status(device).Partials
	err := f()
	moved := s.Status(device).Partials - before
	if (err == nil) != (moved == 1) {
		t.Errorf("device %s made %d partial signatures; error: %v", device, moved, err)
	}
}

// TestSceneIsSound: what the tests below change one thing in succeeds.
func TestSceneIsSound(t *testing.T) {
	c := newScene(t)
	c.check(c.do(c.Approve(c.a, c.r, c.offer, nil), c.Approve(c.b, c.r, c.offer, nil)))
	c = newScene(t, Chain)
	c.check(c.do(c.Approve(c.b, c.r, c.offer, c.Approve(c.a, c.r, c.offer, nil))))
}

func TestOneOfficerIsNotEnough(t *testing.T) {
	c := newScene(t)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil)), firmware.CodeQuorum, "1 of 2", "missing: "+c.Name(c.b.Person))
	wantRefusal(t, c.do(), firmware.CodeQuorum, "0 of 2", c.Name(c.a.Person), c.Name(c.b.Person))
	c = newScene(t, Chain)
	wantRefusal(t, c.do(c.Approve(c.b, c.r, c.offer, nil)), firmware.CodeQuorum, "1 of 2", "missing: "+c.Name(c.a.Person))
}

func TestOneOfficerTwiceIsNotEnough(t *testing.T) {
	c := newScene(t)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), c.Approve(c.a, c.r, c.offer, nil)), firmware.CodeQuorum, c.Name(c.a.Person), "approved twice")
	one := c.Approve(c.a, c.r, c.offer, nil)
	wantRefusal(t, c.do(one, one), firmware.CodeQuorum, c.Name(c.a.Person), "approved twice")
}

func TestOfficerOfAnotherDevice(t *testing.T) {
	c := newScene(t)
	stranger := c.Officer("officer-2a")
	sealed, piece := c.Piece(c.b, c.offer.Pieces) // his colleague lends him his piece
	lent := c.approveWith(stranger, c.r, c.offer, sealed.ID, piece, nil)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), lent), firmware.CodeQuorum, c.Name("officer-2a"), "officer of d2")
	// His true approval, for his own device, does not count here either.
	own := c.Approve(stranger, c.r, c.MustOffer("d2", c.r), nil)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), own), firmware.CodeQuorum, c.Name("officer-2a"), "approved for d2")
}

func TestExpiredApproval(t *testing.T) {
	c := newScene(t)
	soon := c.Approve(c.a, c.r, c.offer, nil, func(a *approval.Approval) { a.Expires = a.Created + 60 })
	late := c.Approve(c.b, c.r, c.offer, nil)
	c.Advance(2 * time.Minute)
	wantRefusal(t, c.do(soon, late), firmware.CodeQuorum, c.Name(c.a.Person), "expired 60 s ago")
}

func TestApprovalOfAnotherRequest(t *testing.T) {
	c := newScene(t)
	other := c.File(Pair, c.r.Document) // the same file, asked for again
	offer := c.MustOffer("d1", other)
	_, _, err := c.Do("d1", other.Task(offer, c.Approvals(c.r, c.offer, nil), c.order, 0))
	wantRefusal(t, err, firmware.CodeQuorum, c.Name(c.a.Person), "another request or document", c.r.Digest.String())
}

func TestApprovalOfAnotherDocument(t *testing.T) {
	c := newScene(t)
	swapped := c.r.Request
	swapped.Document = []byte("a wicked build!\n")
	// The requester himself swaps it, everything else being equal.
	other := c.Request(Requester, swapped)
	offer := c.MustOffer("d1", other)
	_, _, err := c.Do("d1", other.Task(offer, c.Approvals(c.r, c.offer, nil), c.order, 0))
	wantRefusal(t, err, firmware.CodeQuorum, "another request or document")
	// A message server swaps it: the requester did not sign that.
	forged := c.RequestBy(c.Servers["d1"].Sign, Requester, swapped)
	wantRefusal(t, c.doFor(forged, c.Approvals(c.r, c.offer, nil)...), firmware.CodeRequest, "names rita as requester, but server s1 signed it")
}

func TestApprovalAfterClose(t *testing.T) {
	c := newScene(t)
	approvals := c.Approvals(c.r, c.offer, nil)
	sig := c.MustSign(c.r, 1, 2)
	c.check(c.Close("d1", c.r, sig))
	wantRefusal(t, c.do(approvals...), firmware.CodeClosed, "it has its signature")
	_, err := c.Offer("d1", c.r)
	wantRefusal(t, err, firmware.CodeClosed, "it has its signature")
	// A restart forgets nothing.
	c.Restart("d1")
	c.Unlock("d1")
	_, err = c.Offer("d1", c.r)
	wantRefusal(t, err, firmware.CodeClosed, "it has its signature")
	// Only a signature closes: the others have not closed, and go on.
	wrong := append([]byte(nil), sig...)
	wrong[9] ^= 1
	wantRefusal(t, c.Close("d3", c.r, wrong), firmware.CodeMessage, "signature")
	c.MustSign(c.r, 2, 3)
}

func TestRequesterDoesNotApprove(t *testing.T) {
	s := Shared(t)
	cards := s.People[TwoCards]
	doc := FileOf(Pair, []byte("a nightly build\n"))
	doc.Requester = TwoCards
	for name, signer := range map[string]int{"asked with the registered card": 0, "asked with the second card": 1} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r = c.RequestBy(cards[signer], TwoCards, doc)
			c.offer = c.MustOffer("d1", c.r)
			for _, card := range cards {
				sealed, piece := c.Piece(c.a, c.offer.Pieces)
				own := c.approveWith(Officer{TwoCards, "d1", card}, c.r, c.offer, sealed.ID, piece, nil)
				wantRefusal(t, c.do(own, c.Approve(c.b, c.r, c.offer, nil)), firmware.CodeQuorum, c.Name(TwoCards), "made the request and cannot approve it")
			}
			// Without him the device has no quorum, and nobody else to name.
			wantRefusal(t, c.do(c.Approve(c.b, c.r, c.offer, nil)), firmware.CodeQuorum, "1 of 2", "nobody else may")
			// Other devices sign his request.
			c.MustSign(c.r, 2, 3)
		})
	}
}

func TestSecondCardDoesNotApprove(t *testing.T) {
	c := newScene(t)
	sealed, piece := c.Piece(c.a, c.offer.Pieces)
	second := c.approveWith(Officer{TwoCards, "d1", c.People[TwoCards][1]}, c.r, c.offer, sealed.ID, piece, nil)
	wantRefusal(t, c.do(second, c.Approve(c.b, c.r, c.offer, nil)), firmware.CodeQuorum, "is registered at d1, not card")
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), second), firmware.CodeQuorum, "is registered at d1, not card")
}

func TestNobodyElseApproves(t *testing.T) {
	c := newScene(t)
	sealed, piece := c.Piece(c.b, c.offer.Pieces)
	for person, why := range map[string]string{Requester: "made the request", Administrator: "is no officer of any device"} {
		x := c.approveWith(Officer{person, "d1", c.People[person][0]}, c.r, c.offer, sealed.ID, piece, nil)
		wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), x), firmware.CodeQuorum, c.Name(person), why)
	}
}

func TestRejectionEndsIt(t *testing.T) {
	c := newScene(t)
	no := c.Approve(c.b, c.r, c.offer, nil, func(a *approval.Approval) {
		a.Decision, a.Reason, a.Pieces = approval.Reject, "wrong branch", nil
	})
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), no), firmware.CodeQuorum, c.Name(c.b.Person), "rejected", "wrong branch")
}

// TestChainIsCoveredWhole: in a chain nobody can be left out, put in another
// order or taken from another request, and the first must follow the partial
// signature of the device before.
func TestChainIsCoveredWhole(t *testing.T) {
	c := newScene(t, Chain)
	first := c.Approve(c.a, c.r, c.offer, nil)
	other := c.File(Pair, []byte("another build\n"), Chain)
	foreign := c.Approve(c.a, other, c.MustOffer("d1", other), nil)
	wantRefusal(t, c.do(c.Approve(c.b, c.r, c.offer, foreign)), firmware.CodeQuorum, "another request or document")
	wantRefusal(t, c.do(first, c.Approve(c.b, c.r, c.offer, nil)), firmware.CodeQuorum, "a chain is one message")

	_, raw, err := c.Do("d1", c.r.Task(c.offer, [][]byte{c.Approve(c.b, c.r, c.offer, first)}, c.order, 0))
	c.check(err)
	offer2 := c.MustOffer("d2", c.r)
	task := c.r.Task(offer2, c.Approvals(c.r, offer2, nil), c.order, 1, raw)
	_, _, err = c.Do("d2", task)
	wantRefusal(t, err, firmware.CodeQuorum, "without the partial signature it must follow")
	task.Approvals = c.Approvals(c.r, offer2, raw)
	_, _, err = c.Do("d2", task)
	c.check(err)
}

func TestWrongPieceNamesItsOfficer(t *testing.T) {
	c := newScene(t)
	sealed, piece := c.Piece(c.b, c.offer.Pieces)
	piece.Value.Reveal()[3] ^= 0x40
	wrong := c.approveWith(c.b, c.r, c.offer, sealed.ID, piece, nil)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), wrong), firmware.CodeShare, "do not join to the right key")
	// A piece of the PIN, or of another share, is none of this share.
	third := c.MustOffer("d1", c.File(Files, []byte("x")))
	_, foreign := c.Piece(c.b, third.Pieces)
	wrong = c.approveWith(c.b, c.r, c.offer, sealed.ID, foreign, nil)
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), wrong), firmware.CodeShare, "do not join to the right key")
}

// TestPieceOfAnotherOfficer: a piece sealed for one officer's approval cannot
// be handed in by another.
func TestPieceOfAnotherOfficer(t *testing.T) {
	c := newScene(t)
	var stolen []approval.SealedPiece
	c.Approve(c.a, c.r, c.offer, nil, func(a *approval.Approval) { stolen = a.Pieces })
	b := c.Approve(c.b, c.r, c.offer, nil, func(a *approval.Approval) { a.Pieces = stolen })
	wantRefusal(t, c.do(c.Approve(c.a, c.r, c.offer, nil), b), firmware.CodeShare, "the piece of "+c.b.Person)
}

// TestRestartForgetsOneTimeKey: approvals that were given for a one-time key
// of before a restart, or of before a lock, open nothing.
func TestRestartForgetsOneTimeKey(t *testing.T) {
	for name, forget := range map[string]func(s *System){
		"restart": func(s *System) { s.Restart("d1") },
		"lock":    func(s *System) { s.Lock("d1") },
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			approvals := c.Approvals(c.r, c.offer, nil)
			forget(c.System)
			c.Unlock("d1")
			wantRefusal(t, c.do(approvals...), firmware.CodeOffer, "no one-time key", "ask for a new offer")
			fresh := c.MustOffer("d1", c.r)
			if fresh.Digest() == c.offer.Digest() || fresh.Public().Equal(c.offer.Public()) {
				t.Error("the one-time key is the old one")
			}
			wantRefusal(t, c.do(approvals...), firmware.CodeOffer, "0 pieces are sealed to this device's one-time key")
			c.offer = fresh
			c.check(c.do(c.Approvals(c.r, fresh, nil)...))
		})
	}
}

// TestRequestExpires: after its end a request has neither offer nor partial
// signature, and a clock set back does not revive it, nor does a restart.
func TestRequestExpires(t *testing.T) {
	now := Shared(t).Now().Unix()
	c := newScene(t, func(r *document.Request) { r.Expires = now + 600 })
	approvals := c.Approvals(c.r, c.offer, nil)
	c.check(c.do(approvals...))
	c.Advance(11 * time.Minute)
	refused := func() {
		t.Helper()
		wantRefusal(t, c.do(approvals...), firmware.CodeExpired, "the request has expired")
		_, err := c.Offer("d1", c.r)
		wantRefusal(t, err, firmware.CodeExpired, "the request has expired")
	}
	refused()
	c.Advance(-2 * time.Minute) // before its end; messages of the server still reach a device that is ahead
	defer c.Advance(2 * time.Minute)
	refused()
	c.Restart("d1")
	c.Unlock("d1")
	refused()
}

// TestAttemptsAreBounded: one request is answered so many times and no more.
func TestAttemptsAreBounded(t *testing.T) {
	c := newScene(t)
	approvals := c.Approvals(c.r, c.offer, nil)
	for range 16 {
		c.check(c.do(approvals...))
	}
	wantRefusal(t, c.do(approvals...), firmware.CodeOffer, "was answered 16 times")
}

// TestPieceNeedsItsPurpose: the device asks for pieces of a share, and an
// officer's piece of the PIN does not fit it.
func TestPieceNeedsItsPurpose(t *testing.T) {
	c := newScene(t)
	for _, p := range c.offer.Pieces {
		if p.Purpose != share.PurposeShare || p.Share != c.offer.Offer().Share || p.Device != "d1" {
			t.Errorf("the offer hands out piece %s", p.ID)
		}
	}
}
