package dealing_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// everyKey are all keys of the system that can open anything, but for those of
// some persons: a thief who was in every device, server and pocket.
func (r *rig) everyKey(but ...string) (out []*ecdh.PrivateKey) {
	r.t.Helper()
	for _, d := range r.Devices {
		boot, err := d.Boot.ECDH()
		r.check(err)
		out = append(out, d.Agree, boot)
	}
	for _, s := range r.Servers {
		out = append(out, s.Agree)
	}
	for id, p := range r.Persons {
		for _, c := range p.Cards {
			if !slices.Contains(but, id) {
				out = append(out, c.Agree)
			}
		}
	}
	return out
}

// TestCourier: who has the medium on its way back, with every long-lived key of
// the system but those of the reserve's keepers, and with the one-time keys of
// all other devices, opens no share; nothing on it is secret.
func TestCourier(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	invitations := r.invite(p)
	d, err := dealing.Prepare(r.inputs(), r.State, p, invitations, nil)
	r.check(err)
	out, err := d.DealKey(r.inputs(), thresholdtest.Key(2048, false))
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	body, err := envelope.Marshal(&out.Dealing)
	r.check(err)
	medium := append([][]byte{body, out.Reserve}, invitations...)
	for _, sealed := range out.Sealed {
		medium = append(medium, sealed)
	}

	keepers := []string{"officer-1a", "officer-2a", "requester"}
	thief := r.everyKey(keepers...)
	if len(thief) < 30 {
		t.Fatalf("only %d keys", len(thief))
	}
	for _, device := range p.Devices() {
		if s := r.opened(out, device); len(s.Parts) == 0 {
			t.Fatalf("%s cannot open its own share", device)
		}
		keys := thief
		for other, k := range r.oneTime {
			if other != device {
				keys = append(keys, k)
			}
		}
		for i, k := range keys {
			if _, err := r.open(out, device, k); err == nil {
				t.Errorf("key %d opens the share of %s", i, device)
			}
		}
		// Nor does it open for its own device as another dealing's.
		forged := *out
		forged.Dealing.Isolated = false
		if _, err := r.open(&forged, device, r.oneTime[device]); err == nil {
			t.Errorf("the share of %s opens for another dealing", device)
		}
	}

	// The factors, and every sub-key and part, by any sixteen of their octets that
	// are looked for.
	pb, qb, err := thresholdtest.Key(2048, false).Factors()
	r.check(err)
	one := big.NewInt(1)
	fp, fq := new(big.Int).SetBytes(pb.Reveal()), new(big.Int).SetBytes(qb.Reveal())
	phi := new(big.Int).Mul(fp.Sub(fp, one), fq.Sub(fq, one))
	exponent := new(big.Int).ModInverse(big.NewInt(65537), phi)
	secrets := map[string][]byte{"p": pb.Reveal(), "q": qb.Reveal(), "d": exponent.Bytes()}
	for _, device := range p.Devices() {
		for i, part := range r.opened(out, device).Parts {
			secrets[fmt.Sprintf("%s, part %d", device, i+1)] = part.Reveal()
		}
	}
	for name, s := range secrets {
		for _, at := range []int{0, len(s) / 3, len(s) / 2, len(s) - 16} {
			// The upper half of d is public (twolayer.Hiding), and so is that of a part.
			if len(s) > 200 && at < len(s)/2 {
				continue
			}
			for _, b := range medium {
				if bytes.Contains(b, s[at:at+16]) {
					t.Errorf("%s is on the medium", name)
				}
			}
		}
	}
	r.install(out) // the control: with the right keys all of it is a sharing of d
	sum := new(big.Int).SetBytes(r.held["device-4"][out.Dealing.Key.Layers.Grouping.Combiners[0].Combinations[0].String()].Reveal())
	for _, term := range out.Dealing.Key.Layers.Grouping.Combiners[0].Combinations[0] {
		sum.Add(sum, new(big.Int).SetBytes(r.held[fmt.Sprintf("device-%d", term.Calculator)][term.String()].Reveal()))
	}
	if sum.Cmp(exponent) != 0 {
		t.Error("the shares are not those of the key: the test proves nothing")
	}
}

// TestReserveNeedsItsCards: the reserve opens with as many of its keepers' cards
// as it says, and with no other key: not those of devices, servers, officers who
// keep none, or the keepers' other cards.
func TestReserveNeedsItsCards(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	first := r.deal(p)
	r.enter(&first.Dealing)
	p.Combiners = append(p.Combiners, machines(3, "device-6")...)
	p.Redundant = 3
	r.officers(p)
	d, err := dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil)
	r.check(err)

	reserve, err := dealing.ParseReserve(first.Reserve)
	r.check(err)
	thief := r.everyKey()
	opened := 0
	for i := range reserve.Pieces {
		for _, k := range thief {
			piece, err := reserve.OpenPiece(i, k)
			if err != nil {
				continue
			}
			opened++
			if id, err := envelope.KeyIDOf(k.PublicKey()); err != nil || id != reserve.Pieces[i].Agree {
				t.Errorf("piece %d opens with another key", i+1)
			}
			// One card, as often as he likes, and with pieces that he makes up.
			for _, pieces := range [][]share.Piece{{piece}, {piece, piece}, {piece, {Index: piece.Index%3 + 1, Value: piece.Value}}} {
				if out, err := d.Extend(r.inputs(), first.Reserve, pieces, nil); err == nil {
					out.Wipe()
					t.Errorf("%d pieces of one card open the reserve", len(pieces))
				}
			}
		}
	}
	if opened != len(reserve.Pieces) {
		t.Errorf("%d pieces open with all keys there are, and there are %d", opened, len(reserve.Pieces))
	}
	// He says that one is enough.
	reserve.Need = 1
	if raw, err := envelope.Marshal(reserve); err != nil {
		t.Error(err)
	} else if _, err := d.Extend(r.inputs(), raw, r.pieces(first.Reserve, "officer-1a"), nil); err == nil {
		t.Error("a reserve that says that one card is enough")
	}
	if _, err := d.Extend(r.inputs(), first.Reserve, r.pieces(first.Reserve, "officer-1a"), nil); !errors.Is(err, share.ErrTooFewPieces) {
		t.Errorf("one card: %v", err)
	}
	out, err := d.Extend(r.inputs(), first.Reserve, r.pieces(first.Reserve, "officer-1a", "officer-2a"), nil)
	r.check(err)
	out.Wipe()
}
