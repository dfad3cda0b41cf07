package systemtest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/loot"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// stolen is what a thief has: the device's journal and boot key, its token with
// the PIN, and everything that ever went over any device's link; and, since all
// message servers were broken into, their keys.
type stolen struct {
	keys    []ecdh.KeyExchanger
	strings [][]byte
	token   *devicetoken.Token
}

func (s *System) steal(device string) *stolen {
	s.t.Helper()
	// The token is the thing itself: a copy of its directory can do no more.
	l := &stolen{token: devicetoken.New(s.Devices[device].Token.Token)}
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
func (l *stolen) hand(officers ...Officer) *loot.Thief {
	keys := slices.Clone(l.keys)
	for _, o := range officers {
		keys = append(keys, o.Card.Exchange)
	}
	f := loot.NewThief(keys...)
	f.Learn(l.strings...)
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
			uses := func(f *loot.Thief) bool {
				_, ok := f.Use(key, stolen.token)
				return ok
			}
			found := f.Found()
			t.Logf("%+v", found)
			if tried, ok := f.Use(key, stolen.token); ok {
				t.Fatal("the thief used the share")
			} else if tried == 0 || found.Sealed < 8 || found.Opened < 20 {
				t.Fatal("the thief does not try")
			}
			mine := s.Officers(device)
			if one := stolen.hand(mine[0]); one.Found().Pieces == 0 || uses(one) {
				t.Errorf("one officer's card opened %d pieces; it must open one and not be enough", one.Found().Pieces)
			}
			if uses(stolen.hand(s.Officers("d2")...)) {
				t.Error("the cards of another device's officers are enough")
			}
			if !uses(stolen.hand(mine...)) {
				t.Error("not even with its officers' cards does this thief use the share: the test proves nothing")
			}
		})
	}
}
