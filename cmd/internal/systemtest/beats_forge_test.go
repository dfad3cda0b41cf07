package systemtest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// heard opens the latest challenge of a device that a source was sent.
func (s *System) heard(x *Source, device string) *heartbeat.VerifiedChallenge {
	s.t.Helper()
	frames := s.Frames(x.ID)
	for i := len(frames) - 1; i >= 0; i-- {
		if q, err := heartbeat.OpenChallenge(s.State, frames[i].Sent, x.agree); err == nil && q.Device == device {
			return q
		}
	}
	s.t.Fatalf("%s heard nothing of %s", x.ID, device)
	return nil
}

// answerTo is a right answer of a satellite to a challenge, which a test may
// spoil.
func answerTo(x *Source, q *heartbeat.VerifiedChallenge) heartbeat.Beat {
	return heartbeat.Beat{
		Source: x.ID, Device: q.Device, Instance: q.Instance(), Kind: heartbeat.KindAnswer, Nonce: q.Nonce, Key: x.config.Certificate,
	}
}

// beatBy signs a beat with any key and seals it to the instance of a challenge.
func (s *System) beatBy(key crypto.Signer, q *heartbeat.VerifiedChallenge, b heartbeat.Beat) []byte {
	s.t.Helper()
	to, err := ecdh.P256().NewPublicKey(q.Agree)
	s.check(err)
	frame, err := heartbeat.SealBeat(rand.Reader, key, s.State, &heartbeat.Out{Beat: b, To: to}, s.Now().Unix())
	s.check(err)
	return frame
}

// A rogue is software of a thief's own, which speaks with a device's token and
// boot key and has made an instance whose keys it keeps.
type rogue struct {
	*System
	device   string
	instance *heartbeat.Instance
	counter  uint64
	log      uint64
	head     envelope.Hash
}

func (s *System) newRogue(device string) *rogue {
	s.t.Helper()
	i, err := heartbeat.NewInstance(rand.Reader)
	s.check(err)
	st := s.Status(device)
	return &rogue{System: s, device: device, instance: i, log: st.Log, head: st.LogHead}
}

// offer is an unlock offer for the rogue's instance, signed with a boot key.
func (f *rogue) offer(boot crypto.Signer, changes ...func(*approval.UnlockOffer)) *UnlockOffer {
	f.t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	f.check(err)
	now := f.Now().Unix()
	o := approval.UnlockOffer{
		Device: f.device, Instance: f.instance.ID(), Public: key.PublicKey().Bytes(), Created: now, Expires: now + 3600, Log: f.log, LogHead: f.head,
	}
	for _, c := range changes {
		c(&o)
	}
	body, err := envelope.Marshal(o)
	f.check(err)
	raw, err := envelope.Sign(rand.Reader, boot, envelope.Header{
		Type: approval.TypeUnlockOffer, Version: approval.Version, System: f.State.System(), LedgerHead: f.State.Head(), Created: now, Expires: now + 3600,
	}, body)
	f.check(err)
	u, err := envelope.Parse(raw)
	f.check(err)
	return &UnlockOffer{Raw: raw, Digest: u.UnverifiedDigest(), Public: key.PublicKey()}
}

// words are what officers say to an offer, with nothing in place of a piece.
func (f *rogue) words(o *UnlockOffer, officers []Officer, changes ...func(*approval.UnlockApproval)) *approval.Enrolment {
	f.t.Helper()
	e := &approval.Enrolment{Offer: o.Raw}
	now := f.Now().Unix()
	for _, who := range officers {
		a := approval.UnlockApproval{Device: f.device, Offer: o.Digest, Piece: "none", Created: now, Expires: now + 3600}
		for _, c := range changes {
			c(&a)
		}
		body, err := envelope.Marshal(a)
		f.check(err)
		raw, err := envelope.Sign(rand.Reader, who.Card, envelope.Header{
			Type: approval.TypeUnlockApproval, Version: approval.Version, System: f.State.System(), LedgerHead: f.State.Head(), Created: now, Expires: now + 3600,
		}, body)
		f.check(err)
		e.Approvals = append(e.Approvals, raw)
	}
	return e
}

// ask challenges a source and returns what it says.
func (f *rogue) ask(t testing.TB, x *Source, e *approval.Enrolment) *heartbeat.Beat {
	t.Helper()
	f.counter++
	q := &heartbeat.Challenge{Device: f.device, Counter: f.counter, Log: f.log, LogHead: f.head, Begin: []string{"m1", "q1"}, Enrolment: e}
	f.must(rand.Read(q.Nonce[:]))
	f.check(f.instance.Complete(rand.Reader, q))
	frame, err := heartbeat.SealChallenge(rand.Reader, f.SignKey(f.device), f.State, []string{x.ID}, q, f.Now().Unix())
	f.check(err)
	var got *heartbeat.Beat
	hold := f.Hold
	defer func() { f.Hold = hold }()
	f.Hold = func(c Carried) bool {
		if c.Type != heartbeat.TypeBeat || c.From != x.ID {
			return false
		}
		b, _, err := heartbeat.OpenBeat(f.State, f.instance, f.device, c.Frame, map[string]*heartbeat.VerifiedKey{})
		f.check(err)
		got = b
		return true
	}
	f.Put(Carried{f.device, x.ID, heartbeat.TypeChallenge, frame})
	if got == nil {
		t.Fatalf("%s says nothing: %v", x.ID, f.Dropped)
	}
	return got
}

func wantBeat(t testing.TB, b *heartbeat.Beat, kind, code string) {
	t.Helper()
	if b.Kind != kind || b.Code != code {
		t.Errorf("got a %s %q (%s), want a %s %q", b.Kind, b.Code, b.Text, kind, code)
	}
}
