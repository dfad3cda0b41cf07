package firmware_test

import (
	"bytes"
	"crypto/ecdh"
	"maps"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

type plainMemory struct{}

func (plainMemory) Alloc(n int) ([]byte, error) { return make([]byte, n), nil }
func (plainMemory) Free([]byte)                 {}

// TestThiefOfMachine: who has a calculator's or a combiner's disk and its open
// token, the medium on which its share came, and every message that it ever got,
// with the keys of all devices, servers and people but its own officers', opens
// no part of its share once the device was restarted. With the cards of one of
// its officers neither; with both he does.
func TestThiefOfMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.Deal(t, ledgertest.SmallPlan(1))
	media := map[string]firmware.Deal{}
	invited := map[string]envelope.Hash{}
	for _, id := range slices.Sorted(maps.Keys(w.devices)) {
		v := w.invite(id, 1)
		media[id], invited[id] = w.deal(a, v, w.dealt(a, id)), v.Digest()
		w.check(w.install(id, media[id]))
	}
	w.enter(a)
	x := w.begin(a, "www.example.org", "device-1", "device-2", "device-4")
	c, _, err := w.combine("device-4", x.combine("device-4", w.mustPowers(x, "device-1", "device-2")...))
	w.check(err)
	_, _, err = ask[firmware.Closed](w, "device-1", firmware.TypeClose, firmware.Close{Request: x.r.raw, Signatures: c.Signatures}, firmware.TypeClosed)
	w.check(err)
	open := w.begin(a, "www.example.com", "device-1", "device-4") // approved, and nothing was done yet
	digest, err := a.Dealing.Digest()
	w.check(err)

	for _, device := range []string{"device-1", "device-4"} {
		w.devices[device].Restart(t)
		officers := map[string]*ecdh.PrivateKey{}
		for _, row := range w.State.OfficersFor(x.r.Key, device, w.Now) {
			officers[row.Person] = w.Persons[row.Person].Card().Agree
		}
		var keys []*ecdh.PrivateKey
		for _, d := range w.Devices {
			boot, err := d.Boot.ECDH()
			w.check(err)
			keys = append(keys, d.Agree, boot)
		}
		for _, s := range w.Servers {
			keys = append(keys, s.Agree)
		}
		for id, p := range w.Persons {
			if officers[id] == nil {
				for _, card := range p.Cards {
					keys = append(keys, card.Agree)
				}
			}
		}

		_, data, err := w.devices[device].Token.GetObject(slot(0))
		w.check(err)
		st, err := share.ParseStored(data)
		w.check(err)
		h, _ := w.State.HolderOf(x.r.Key, device)
		facts := share.Facts{Key: x.r.Key, Epoch: 1, ShareID: h.Share, Index: h.Index, Modulus: a.Dealing.Key.Public.N, Version: 1, Layer: h.Layer}
		token := devicetoken.New(w.devices[device].Token.Token).Shares(false)
		parts := func(key threshold.Secret) bool {
			p, err := st.OpenParts(token, plainMemory{}, facts, key)
			if err != nil {
				return false
			}
			e, err := p.Exponent(1)
			w.check(err)
			defer e.Close()
			return bytes.Equal(e.Secret().Reveal(), w.dealt(a, device).Parts[0].Reveal())
		}

		// uses tries all he has, with more cards: what was on the medium; the pieces
		// for officers' cards that the device hands out; and those in approvals, which
		// are sealed to one-time keys.
		tried, opened := 0, 0
		uses := func(cards ...*ecdh.PrivateKey) bool {
			keys := append(slices.Clone(keys), cards...)
			pieces := map[string]share.Piece{}
			for _, k := range keys {
				invitation := invited[device]
				info := envelope.HashOf("privyseal dealt share v1", invitation[:], digest[:])
				tried++
				if _, err := envelope.OpenWith(k, info[:], nil, media[device].Sealed); err == nil {
					t.Errorf("%s: its sealed share opens", device)
				}
				for _, task := range []*task{x, open} {
					o := task.offers[device]
					for _, p := range o.pieces {
						about := share.PieceContext{ID: p.ID, Purpose: p.Purpose, Device: p.Device, Share: p.Share, Card: p.Card}
						tried++
						if piece, err := share.OpenPieceFromCard(k, about, p.Sealed); err == nil {
							pieces[p.ID] = piece
						}
					}
					for _, raw := range task.approvals[device] {
						u, err := envelope.Parse(raw)
						w.check(err)
						var said approval.Approval
						w.check(envelope.Unmarshal(u.UnverifiedPayload(), &said))
						for _, p := range said.Pieces {
							about := firmware.PieceContext(task.r.digest, p.Offer, device, said.Share, p.Piece, u.Header().Signer)
							tried++
							if _, err := share.OpenPieceFromOffer(k, about, p.Sealed); err == nil {
								t.Errorf("%s: a piece in an approval opens", device)
							}
						}
					}
				}
			}
			opened = len(pieces)
			all := slices.Collect(maps.Values(pieces))
			if key, err := share.JoinPieces(all); err == nil && parts(key) {
				return true
			}
			if parts(threshold.NewSecret(make([]byte, 32))) {
				return true
			}
			// Is the officers' key, or what it protects, anywhere in what he has?
			loot := append(slices.Clone(w.devices[device].Journal), w.said[device]...)
			loot = append(loot, media[device].Dealing, media[device].Sealed, data)
			for _, b := range loot {
				for i := 0; i+32 <= len(b); i++ {
					if envelope.HashOf("privyseal officers' key check v1", b[i:i+32]) == st.KeyCheck {
						return true
					}
				}
			}
			return false
		}
		if uses() {
			t.Errorf("%s: without its officers the thief uses its share", device)
		}
		if opened != 0 || tried < 100 {
			t.Errorf("%s: %d pieces opened, %d tried", device, opened, tried)
		}
		if len(officers) != 2 {
			t.Fatalf("%d officers", len(officers))
		}
		for id, card := range officers {
			if uses(card) || opened != 1 {
				t.Errorf("%s: with the card of %s he has %d pieces; one must open, and not be enough", device, id, opened)
			}
		}
		if !uses(slices.Collect(maps.Values(officers))...) {
			t.Errorf("%s: not even with its officers' cards does he use its share: the test proves nothing", device)
		}
	}
}

// TestCombinerNeedsItsOperators: powers that were confirmed at their
// calculators are combined for nobody but the combiner's own operators.
func TestCombinerNeedsItsOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.begin(a, "www.example.org", "device-1", "device-2", "device-4", "device-5")
	other := w.begin(a, "www.example.com", "device-4")
	powers := w.mustPowers(x, "device-1", "device-2")
	for name, approvals := range map[string][][]byte{
		"nobody":                    nil,
		"one of two":                x.approvals["device-4"][:1],
		"one of two, twice":         {x.approvals["device-4"][0], x.approvals["device-4"][0]},
		"a calculator's":            x.approvals["device-1"],
		"another combiner's":        x.approvals["device-5"],
		"its own, of another task":  other.approvals["device-4"],
		"its own with a stranger's": append(slices.Clone(x.approvals["device-4"]), x.approvals["device-1"][0]),
	} {
		in := x.combine("device-4", powers...)
		in.Approvals = approvals
		_, _, err := w.combine("device-4", in)
		w.want(name, err, firmware.CodeQuorum, "")
	}
	c, _, err := w.combine("device-4", x.combine("device-4", powers...))
	w.check(err)
	_, err = x.r.checked.Assemble(c.Signatures[0])
	w.check(err)
}
