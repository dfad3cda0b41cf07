package systemtest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// A thief has read the source. He collects byte strings, opens every envelope
// among them with every key he has, takes every one apart, and so on until
// nothing new comes up.
type thief struct {
	keys   []ecdh.KeyExchanger
	known  map[string]bool // true: not a part of another one
	todo   [][]byte
	sealed map[string]sealedPiece
	pieces map[string]share.Piece
	shares []*share.Stored
	opened int // envelopes and pieces
}

// sealedPiece is a piece under HPKE, with the info that it was sealed with:
// all of that is public.
type sealedPiece struct{ info, sealed []byte }

func newThief(keys ...ecdh.KeyExchanger) *thief {
	return &thief{keys: keys, known: map[string]bool{}, sealed: map[string]sealedPiece{}, pieces: map[string]share.Piece{}}
}

// note takes a byte string in, to be looked at later.
func (f *thief) note(b []byte, whole bool) {
	if _, ok := f.known[string(b)]; len(b) > 7 && !ok {
		f.known[string(b)] = whole
		f.todo = append(f.todo, b)
	}
}

func (f *thief) learn(all ...[]byte) {
	for _, b := range all {
		f.note(b, true)
	}
	for len(f.todo) > 0 {
		b := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		f.study(b)
	}
	for _, p := range f.sealed {
		for _, k := range f.keys {
			plain, err := envelope.OpenWith(k, p.info, nil, p.sealed)
			if _, had := f.known[string(plain)]; err == nil && !had {
				f.opened++
				f.learn(plain)
				return // which came back for the rest
			}
		}
	}
}

// study takes one byte string apart.
func (f *thief) study(b []byte) {
	if to, err := envelope.PeekRecipients(b); err == nil {
		for _, k := range f.keys {
			id, _ := envelope.KeyIDOf(k.PublicKey())
			if raw, err := envelope.Open(b, k); err == nil && slices.Contains(to, id) {
				f.opened++
				f.note(raw, true)
			}
		}
	}
	if u, err := envelope.Parse(b); err == nil {
		f.approvals(u)
		f.note(u.UnverifiedPayload(), false)
	}
	f.recognise(b)
	var any any
	if cbor.Unmarshal(b, &any) == nil {
		f.walk(any)
	}
}

func (f *thief) walk(v any) {
	switch v := v.(type) {
	case []byte:
		f.note(v, false)
	case string:
		f.note([]byte(v), false)
	case []any:
		for _, x := range v {
			f.walk(x)
		}
	case map[any]any:
		for _, x := range v {
			f.walk(x)
		}
	case cbor.Tag:
		f.walk(v.Content)
	}
}

func number(n uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, byte(n)} }

// recognise looks for what the formats call pieces and shares.
func (f *thief) recognise(b []byte) {
	var p share.Piece
	if envelope.Unmarshal(b, &p) == nil && p.Value.Len() > 0 {
		f.pieces[string(b)] = p
	}
	if st, err := share.ParseStored(b); err == nil {
		f.shares = append(f.shares, st)
	}
	var lists [][]ceremony.SealedPiece
	var offered firmware.Offered
	if envelope.Unmarshal(b, &offered) == nil {
		lists = append(lists, offered.Pieces)
	}
	var pending ceremony.Pending
	if envelope.Unmarshal(b, &pending) == nil {
		lists = append(lists, pending.Pieces)
	}
	for _, p := range slices.Concat(lists...) {
		h := envelope.HashOf("privyseal piece to card v1", []byte(p.ID), []byte(p.Purpose), []byte(p.Device), []byte(p.Share), number(0), p.Card[:])
		f.sealed[string(p.Sealed)] = sealedPiece{h[:], p.Sealed}
	}
}

// approvals looks for pieces on their way to a one-time key.
func (f *thief) approvals(u *envelope.Unverified) {
	add := func(id, purpose string, request, offer envelope.Hash, device, shareID string, sealed []byte) {
		officer := u.Header().Signer
		h := envelope.HashOf("privyseal piece to offer v1", []byte(id), []byte(purpose), request[:], offer[:], []byte(device), []byte(shareID), officer[:])
		f.sealed[string(sealed)] = sealedPiece{h[:], sealed}
	}
	var a approval.Approval
	if envelope.Unmarshal(u.UnverifiedPayload(), &a) == nil {
		for _, p := range a.Pieces {
			add(p.Piece, share.PurposeShare, a.Request, p.Offer, p.Device, a.Share, p.Sealed)
		}
	}
	var w approval.UnlockApproval
	if envelope.Unmarshal(u.UnverifiedPayload(), &w) == nil {
		add(w.Piece, share.PurposePIN, envelope.Hash{}, w.Offer, w.Device, "", w.Sealed)
	}
}

// officersKey tries to find the key over a stored share: any two pieces joined,
// or any 32 bytes in a row of anything known.
func (f *thief) officersKey(st *share.Stored) []byte {
	fits := func(k []byte) bool { return envelope.HashOf("privyseal officers' key check v1", k) == st.KeyCheck }
	var all []share.Piece
	for _, p := range f.pieces {
		all = append(all, p)
	}
	for i, p := range all {
		for _, q := range all[:i] {
			if key, err := share.JoinPieces([]share.Piece{p, q}); err == nil && fits(key.Reveal()) {
				return key.Reveal()
			}
		}
	}
	for b, whole := range f.known {
		for i := 0; whole && i+32 <= len(b); i++ {
			if k := []byte(b[i : i+32]); fits(k) {
				return k
			}
		}
	}
	return nil
}

// use tries to put every share of a key to work: to raise the generator to a
// sub-share, whose result was published.
func (f *thief) use(t testing.TB, k *ledger.Key, token *devicetoken.Token) bool {
	for _, st := range f.shares {
		if st.Key != k.ID {
			continue
		}
		key := f.officersKey(st)
		if key == nil {
			key = make([]byte, 32) // and if it were nothing at all?
		}
		facts := share.Facts{Key: st.Key, Epoch: st.Epoch, ShareID: st.ShareID, Index: st.Index, Modulus: st.N, Version: st.Version}
		for _, sub := range st.Subs {
			v, err := k.Commitment.Lookup(sub.Subset, st.Index)
			if err != nil {
				continue
			}
			wrapped, err := st.Open(facts, threshold.NewSecret(bytes.Clone(key)), sub.Subset)
			if err != nil {
				wrapped = sub.Ciphertext // perhaps the token opens it as it is
			}
			for _, inToken := range []bool{true, false} {
				e, err := token.Shares(inToken).Unwrap(st.N, wrapped)
				if err != nil {
					continue
				}
				got, err := e.Exp(k.Commitment.G)
				e.Close()
				if err == nil && bytes.Equal(got, v) {
					return true
				}
			}
			d, err := token.Shares(false).Reveal(st.N, wrapped)
			if err == nil && subShare(t, k, st.Index, sub.Subset, [][]byte{d}) != nil {
				return true
			}
		}
	}
	return false
}

// loot is what is stolen: the device's journal and boot key, its token with
// the PIN, and everything that ever went over any device's link; and, since all
// message servers were broken into, their keys.
type loot struct {
	keys    []ecdh.KeyExchanger
	strings [][]byte
	token   *devicetoken.Token
}

func (s *System) steal(device string) *loot {
	s.t.Helper()
	// The token is the thing itself: a copy of its directory can do no more.
	l := &loot{token: devicetoken.New(s.Devices[device].Token.Token)}
	pin := s.pin(device)
	s.check(l.token.Unlock(pin))
	d, _ := s.State.Device(device)
	_, agree, err := l.token.Keys(d.Sign, d.Agree)
	s.check(err)
	boot, err := s.BootKeys[device].(*ecdsa.PrivateKey).ECDH()
	s.check(err)
	l.keys = []ecdh.KeyExchanger{agree, boot}
	for _, id := range Devices {
		server, err := s.Servers[id].Sign.ECDH()
		s.check(err)
		l.keys = append(l.keys, server, s.Servers[id].Agree)
	}

	names, err := l.token.ListObjects("")
	s.check(err)
	for _, n := range names {
		_, data, err := l.token.GetObject(n)
		s.check(err)
		l.strings = append(l.strings, data)
	}
	l.strings = append(append(l.strings, pin), s.Devices[device].Journal...)
	for _, id := range Devices {
		for _, x := range s.Frames(id) {
			l.strings = append(l.strings, x.Sent, x.Answer)
		}
	}
	return l
}

// hand gives the loot to a thief, who may have officers' cards too.
func (l *loot) hand(officers ...Officer) *thief {
	f := newThief(l.keys...)
	for _, o := range officers {
		f.keys = append(f.keys, o.Card.Exchange)
	}
	f.learn(l.strings...)
	return f
}

// pin is the token's PIN, which the officers of the device have in pieces.
func (s *System) pin(device string) hsm.PIN {
	s.t.Helper()
	var pieces []share.Piece
	for _, o := range s.Officers(device) {
		for _, raw := range s.Devices[device].Journal {
			var r firmware.Record
			s.check(envelope.Unmarshal(raw, &r))
			var p ceremony.Pending
			if r.Kind != "prepared" || envelope.Unmarshal(r.Body, &p) != nil {
				continue
			}
			_, piece := s.Piece(o, slices.DeleteFunc(p.Pieces, func(p ceremony.SealedPiece) bool { return p.Purpose != share.PurposePIN }))
			pieces = append(pieces, piece)
		}
	}
	pin, err := share.JoinPieces(pieces)
	s.check(err)
	return hsm.PIN(pin.Reveal())
}

// TestThief: a thief with a device's disk, its token, the token's PIN and every
// envelope ever routed through any message server, from the ceremony on, cannot
// open the share: whatever opens it was sealed to keys that are gone (design
// §3). With two of its officers' cards he could; with one, or with those of
// another device, he cannot.
func TestThief(t *testing.T) {
	for device, use := range map[string]string{"d1": "in token", "d4": "in host"} {
		t.Run(use, func(t *testing.T) {
			s := New(t, Only(Certs))
			r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"), Chain)
			sig := s.MustSign(r, 1, 3, 4)
			set := s.Certificate(newCSR(t, t.TempDir(), "mail.example.org"))
			s.MustSign(set, 4, 1, 5)
			s.check(s.Close(device, r, sig))
			s.Lock(device)
			s.Unlock(device)
			s.Lock(device) // the device is taken in the night

			key := s.Key(Certs)
			stolen := s.steal(device)
			f := stolen.hand()
			t.Logf("%d byte strings, %d envelopes opened, %d sealed pieces, %d shares at rest", len(f.known), f.opened, len(f.sealed), len(f.shares))
			if len(f.shares) == 0 || len(f.sealed) < 8 || f.opened < 20 {
				t.Fatal("the thief does not try")
			}
			if f.use(t, key, stolen.token) {
				t.Fatal("the thief used the share")
			}
			mine := s.Officers(device)
			if one := stolen.hand(mine[0]); len(one.pieces) == 0 || one.use(t, key, stolen.token) {
				t.Errorf("one officer's card opened %d pieces; it must open one and not be enough", len(one.pieces))
			}
			if stolen.hand(s.Officers("d2")...).use(t, key, stolen.token) {
				t.Error("the cards of another device's officers are enough")
			}
			if !stolen.hand(mine...).use(t, key, stolen.token) {
				t.Error("not even with its officers' cards does this thief use the share: the test proves nothing")
			}
		})
	}
}
