package heartbeat

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// fuzz holds a decoder to one encoding for each value: whatever it takes
// encodes to the same octets again.
func fuzz[T any](f *testing.F, decode func(testing.TB, []byte) (*T, error), seeds ...*T) {
	f.Helper()
	for _, x := range append(seeds, new(T)) {
		raw, err := envelope.Marshal(x)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := decode(f, raw); err != nil && x != seeds[0] {
			f.Log(err)
		} else if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := decode(t, raw)
		if err != nil {
			return
		}
		if again, err := envelope.Marshal(x); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("decoded, but encodes to something else: %v", err)
		}
	})
}

func plain[T any](_ testing.TB, raw []byte) (*T, error) {
	x := new(T)
	return x, envelope.Unmarshal(raw, x)
}

// A challenge that the token signed is believed only with its instance's proof,
// whatever it says.
func FuzzChallenge(f *testing.F) {
	r := newRig(f)
	c := r.challenge(f)
	good, err := envelope.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	station, err := NewStation(StationConfig{ID: "message-1"}, r.State, nil)
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, func(t testing.TB, raw []byte) (*Challenge, error) {
		x, err := plain[Challenge](t, raw)
		if err != nil {
			return nil, err
		}
		if agree, err := x.verifyProof(); err == nil {
			if !bytes.Equal(raw, good) && x.Instance() == r.instance.ID() && !bytes.Equal(x.Proof, c.Proof) {
				return x, nil // ECDSA signatures can be changed; what they are over cannot
			}
			if x.Instance() == r.instance.ID() && !bytes.Equal(raw, good) {
				t.Fatalf("proved by an instance that did not make it: %x", raw)
			}
			// Anybody has instances. The station believes none of them.
			out, stored, err := station.Answer(Inputs{Now: r.Now}, &VerifiedChallenge{Challenge: *x, agree: agree})
			if x.Instance() != r.instance.ID() && (stored != nil || err == nil && out.Beat.Kind != KindRefusal) {
				t.Fatalf("believed: %+v", x)
			}
		}
		return x, nil
	}, c, &Challenge{Device: "device-1", Enrolment: &approval.Enrolment{Offer: []byte{1}, Approvals: [][]byte{{2}}}})
}

// Whatever a source says, a monitor only errs, and what it grants is bounded.
func FuzzBeat(f *testing.F) {
	p, kinds := monitorPolicy()
	fuzz(f, func(t testing.TB, raw []byte) (*Beat, error) {
		b, err := plain[Beat](t, raw)
		if err != nil {
			return nil, err
		}
		m := NewMonitor("device-1", p, kinds, 1e9)
		m.Challenge(1e9, [32]byte{1})
		for _, boot := range []int64{15e8, 16e8, 3e9} {
			err := m.Accept(boot, b)
			if m.Until() > boot+5e9 || m.Until() != 0 && err != nil && m.Until() > 1e9+5e9 {
				t.Fatalf("%+v grants up to %d at %d", b, m.Until(), boot)
			}
		}
		return b, nil
	},
		&Beat{Source: "sequence-1", Device: "device-1", Kind: KindAnswer, Nonce: [32]byte{1}, Slots: 5, Value: envelope.Hash{1}},
		&Beat{Source: "message-1", Device: "device-1", Instance: [16]byte{1}, Kind: KindMessage, Nonce: [32]byte{1}, Slot: 1},
		&Beat{Source: "satellite-1", Kind: KindAnswer, Nonce: [32]byte{1}, Key: []byte("certificate")},
		&Beat{Source: "satellite-1", Kind: KindRefusal, Nonce: [32]byte{1}, Code: CodeRevoked, Text: "silenced"},
	)
}

func FuzzKey(f *testing.F) {
	r := newRig(f)
	src, _ := r.State.Source("message-1")
	key, cert := r.certify(f, "message-1", "message-1", 3)
	_, other := r.certify(f, "sequence-1", "sequence-1", 3)
	f.Add(cert)
	f.Add(other)
	sign := ledgertest.SPKI(f, key.Public())
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := VerifyKey(src, raw)
		if err != nil {
			return
		}
		// The identity key certified nothing else.
		if k.Epoch != 3 || !bytes.Equal(k.Sign, sign) || k.Source != "message-1" || k.Created != r.Now {
			t.Fatalf("certified: %+v, %v", k, err)
		}
	})
}

func FuzzRevoke(f *testing.F) {
	r := newRig(f)
	fuzz(f, plain[Revoke], r.revocation(f, "message-1"))
}

func FuzzRevoked(f *testing.F) {
	fuzz(f, plain[Revoked], &Revoked{"device-1", "message-1", envelope.Hash{1}, 1767323045})
}

// A bundle and its entries, which come before any signature was verified.
func FuzzSystem(f *testing.F) {
	r := newRig(f)
	src, _ := r.State.Source("message-1")
	fuzz(f, func(t testing.TB, raw []byte) (*System, error) {
		sys, err := plain[System](t, raw)
		if err != nil {
			return nil, err
		}
		// The instances of a rig are its own, and so is its system: the seeds of
		// another process are of another one.
		if s, err := VerifyBundle(sys.Bundle, r.State.System(), Self{"message-1", src.Sign, src.Agree}); err == nil && s.System() != r.State.System() {
			t.Fatal("another system is believed")
		}
		if s, err := sys.Fold(r.State); (err != nil || len(sys.Entries) == 0) && s.Height() > 0 {
			t.Fatal("an entry is believed that was refused")
		}
		return sys, nil
	}, r.system(f))
}

func FuzzSystemAsk(f *testing.F) { fuzz(f, plain[SystemAsk], &SystemAsk{After: 7, Bundle: true}) }

// A table that is read starts a station, which answers without a fault.
func FuzzTable(f *testing.F) {
	r := newRig(f)
	head := envelope.Hash{4}
	small := &table{Version: tableVersion, Seen: []seen{{Device: "device-1", Instance: [16]byte{1}, Log: 4, Head: head, Past: [][16]byte{{2}}}},
		Spent: []spent{{head, 5, 6}}}
	c := r.challenge(f)
	e := &refEvidence{"device-1", r.instance.ID(), r.Now, 1, envelope.Hash{}, true, true}
	c.Enrolment = enrolment(f, r.System, e, r.Now)
	if err := r.instance.Complete(rand.Reader, c); err != nil {
		f.Fatal(err)
	}
	fuzz(f, func(t testing.TB, raw []byte) (*table, error) {
		x, err := parseTable(raw)
		if err != nil {
			return nil, err
		}
		st, err := NewStation(StationConfig{ID: "message-1"}, r.State, raw)
		if err != nil {
			t.Fatalf("a table that reads starts no station: %v", err)
		}
		before := st.Devices()[0]
		out, _, err := st.Answer(Inputs{Now: r.Now, Boot: 1e9}, &VerifiedChallenge{Challenge: *c, agree: r.instance.Agree().PublicKey()})
		if err != nil {
			t.Fatal(err)
		}
		if out.Beat.Kind == KindAnswer && before.Revoked >= r.Now {
			t.Fatalf("answered, and was silenced: %+v", before)
		}
		st.Due(2e9)
		return x, nil
	}, small)
}
