package firmware_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// FuzzLayerMessages: whatever a device or a server signs, nobody panics over it,
// and what passes is what was encoded.
func FuzzLayerMessages(f *testing.F) {
	s := ledgertest.New(f)
	a := s.Authority(f, ledgertest.SmallPlan(1))
	key := a.Dealing.Key
	packet := firmware.Distribution{
		Enterprise: 1, Distributor: 1, Task: 1, Request: envelope.Hash{1}, Hash: make([]byte, 32), Documents: 2, Created: s.Now, Expires: s.Now + 60,
	}
	point := ledgertest.NewPair(f, "one-time").Agree.PublicKey().Bytes()
	for kind, body := range []any{
		firmware.Invitation{Enterprise: 1, Device: "device-1", Instance: [16]byte{1}, Public: point, Created: s.Now, Expires: s.Now + 60},
		packet,
		firmware.Powers{Enterprise: 1, Distributor: 1, Task: 1, Request: packet.Request, Hash: packet.Hash, Key: key.ID, Device: "device-1",
			Share: key.Holders[0].Share, Number: 1, Y: slices.Repeat([][]byte{make([]byte, 256)}, 4)},
		firmware.Combined{Enterprise: 1, Distributor: 1, Task: 1, Request: packet.Request, Key: key.ID, Device: "device-4",
			Share: key.Holders[3].Share, Number: 1, Combinations: key.Layers.Grouping.Combiners[0].Combinations[:2], Signatures: slices.Repeat([][]byte{make([]byte, 256)}, 2)},
	} {
		raw, err := envelope.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		if got, err := verifyLayer(s, a, &packet, uint8(kind), raw); err != nil || !bytes.Equal(got, raw) {
			f.Fatalf("seed %d: %v", kind, err)
		}
		f.Add(uint8(kind), raw)
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		if got, err := verifyLayer(s, a, &packet, kind%4, body); err == nil && !bytes.Equal(got, body) {
			t.Fatalf("%x became %x", body, got)
		}
	})
}

// verifyLayer signs a payload as its maker would, verifies it, and encodes what
// came out.
func verifyLayer(s *ledgertest.System, a *ledgertest.Authority, packet *firmware.Distribution, kind uint8, body []byte) ([]byte, error) {
	types := []string{firmware.TypeInvitation, firmware.TypeDistribution, firmware.TypePowers, firmware.TypeCombined}
	signer := s.Devices["device-1"].Sign
	h := envelope.Header{Type: types[kind], Version: 1, System: s.State.System(), LedgerHead: s.State.Head(), Created: s.Now, Expires: s.Now + 60}
	switch kind {
	case 1:
		signer, h.Key, h.Epoch = s.Servers["server-1"].Sign, a.Dealing.Key.ID, 1
	case 3:
		signer = s.Devices["device-4"].Sign
	}
	raw, err := envelope.Sign(rand.Reader, signer, h, body)
	if err != nil {
		return nil, err
	}
	var out any
	switch kind {
	case 0:
		v, err := firmware.VerifyInvitation(s.State, raw, s.Now)
		if err != nil {
			return nil, err
		}
		out = v.Invitation()
	case 1:
		out, err = firmware.VerifyDistribution(s.State, raw, s.Now)
	case 2:
		out, err = firmware.VerifyPowers(s.State, &a.Dealing.Key, packet, raw)
	case 3:
		out, err = firmware.VerifyCombined(s.State, &a.Dealing.Key, packet, raw)
	}
	if err != nil {
		return nil, err
	}
	return envelope.Marshal(out)
}
