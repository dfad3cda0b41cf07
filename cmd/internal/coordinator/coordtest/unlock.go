package coordtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// unlocking is a locked device's one-time key.
type unlocking struct {
	key    *ecdh.PrivateKey
	raw    []byte
	digest envelope.Hash
}

// OneTime is the one-time key that an unlock is sealed to, nil if there is
// none.
func (d *Device) OneTime() *ecdh.PrivateKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unlocks == nil {
		return nil
	}
	return d.unlocks.key
}

// locked answers what a locked device answers.
func (d *Device) locked(typ string, body []byte) (string, any, bool) {
	switch typ {
	case firmware.TypeUnlockAsk:
		return d.unlockAsk()
	case firmware.TypeUnlock:
		var in firmware.Unlock
		d.decode(body, &in)
		return d.unlock(in)
	case firmware.TypeStatusAsk:
		return firmware.TypeStatus, d.status(firmware.PhaseLocked), true
	}
	return d.refuse(envelope.Hash{}, firmware.CodePhase, "the device is locked")
}

func (d *Device) status(phase string) firmware.Status {
	return firmware.Status{Device: d.ID, Phase: phase, Shares: []string{}, Officers: []string{}, System: d.sys.State.System(), Height: d.ledger.Height()}
}

func (d *Device) unlockAsk() (string, any, bool) {
	if d.unlocks == nil {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			d.t.Error(err)
		}
		o := approval.UnlockOffer{Device: d.ID, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: d.now(), Expires: d.now() + 3600}
		body, err := envelope.Marshal(o)
		if err != nil {
			d.t.Error(err)
		}
		raw, err := envelope.Sign(rand.Reader, d.Boot, envelope.Header{
			Type: approval.TypeUnlockOffer, Version: approval.Version, System: d.sys.State.System(), Created: o.Created, Expires: o.Expires,
		}, body)
		if err != nil {
			d.t.Error(err)
		}
		u, _ := envelope.Parse(raw)
		d.unlocks = &unlocking{key, raw, u.UnverifiedDigest()}
	}
	out := firmware.UnlockOffered{Offer: d.unlocks.raw}
	for _, p := range d.sys.Officers(d.ID) {
		card, err := envelope.KeyIDOf(p.Card().Agree.PublicKey())
		if err != nil {
			d.t.Error(err)
		}
		out.Pieces = append(out.Pieces, ceremony.SealedPiece{ID: "pin-" + p.ID, Purpose: "pin", Device: d.ID, Person: p.ID, Card: card, Sealed: []byte("sealed")})
	}
	return firmware.TypeUnlockOffered, out, true
}

func (d *Device) unlock(in firmware.Unlock) (string, any, bool) {
	row, _ := d.sys.State.Device(d.ID)
	persons := map[string]bool{}
	for _, raw := range in.Approvals {
		a, err := approval.VerifyUnlock(d.sys.State, d.ID, d.unlocks.digest, raw, d.now())
		if err != nil {
			d.t.Errorf("device %s was sent an unlock approval that does not count: %v", d.ID, err)
			continue
		}
		persons[a.Person] = true
	}
	if uint64(len(persons)) < row.UnlockQuorum {
		d.t.Errorf("device %s was sent %d unlock approvals of %d", d.ID, len(persons), row.UnlockQuorum)
		return d.refuse(envelope.Hash{}, firmware.CodeQuorum, "too few")
	}
	d.Fault, d.unlocks = Good, nil
	return firmware.TypeStatus, d.status(firmware.PhaseReady), true
}

// Unlock is an officer's word to unlock a device.
func Unlock(t testing.TB, sys *ledgertest.System, p *ledgertest.Person, device string, offered firmware.UnlockOffered, now int64) []byte {
	t.Helper()
	return unlockWord(t, sys, p, device, offered, now, false)
}

// TakeBack is an officer's word to unlock a device whose log is shorter than
// it was.
func TakeBack(t testing.TB, sys *ledgertest.System, p *ledgertest.Person, device string, offered firmware.UnlockOffered, now int64) []byte {
	t.Helper()
	return unlockWord(t, sys, p, device, offered, now, true)
}

func unlockWord(t testing.TB, sys *ledgertest.System, p *ledgertest.Person, device string, offered firmware.UnlockOffered, now int64, restored bool) []byte {
	t.Helper()
	u, err := envelope.Parse(offered.Offer)
	if err != nil {
		t.Fatal(err)
	}
	body, err := envelope.Marshal(approval.UnlockApproval{
		Device: device, Offer: u.UnverifiedDigest(), Piece: "pin-" + p.ID, Sealed: []byte("sealed"), Created: now, Expires: now + 3600,
		Restored: restored,
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, p.Card().Sign, envelope.Header{
		Type: approval.TypeUnlockApproval, Version: approval.Version, System: sys.State.System(), Created: now, Expires: now + 3600,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
