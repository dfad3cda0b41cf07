package heartbeat

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func (r *rig) system(t testing.TB, entries ...ledger.SignedEntry) *System {
	t.Helper()
	bundle, err := envelope.Marshal(r.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	sys := &System{Bundle: bundle}
	for _, e := range entries {
		raw, err := envelope.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		sys.Entries = append(sys.Entries, raw)
	}
	return sys
}

func TestSystem(t *testing.T) {
	r := newRig(t)
	src, _ := r.State.Source("message-1")
	kx := r.Sources["message-1"].Agree
	notice := r.Entry(t, r.State, ledger.KindNotice, &ledger.Notice{Text: "power work", From: r.Now, Until: r.Now + 60}, r.Now)
	open := func(server string, sys *System, known envelope.Hash, id string, sign []byte) (ledger.State, error) {
		frame, err := SealSystem(rand.Reader, r.Servers[server].Sign, r.State, "message-1", sys, r.Now)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := OpenSystem(frame, kx, known, id, sign, src.Agree)
		return s, err
	}
	s, err := open(src.Server, r.system(t, notice), envelope.Hash{}, "message-1", src.Sign)
	if err != nil || s.System() != r.State.System() || s.Height() != 1 {
		t.Fatal(s.Height(), err)
	}
	if _, err := open(src.Server, r.system(t), r.State.System(), "message-1", src.Sign); err != nil {
		t.Error(err)
	}

	// Another server of the system is not this source's.
	other := "server-1"
	if src.Server == other {
		other = "server-2"
	}
	_, err = open(other, r.system(t), envelope.Hash{}, "message-1", src.Sign)
	refused(t, err, "not from message server")
	_, err = open(src.Server, r.system(t), envelope.Hash{1}, "message-1", src.Sign)
	refused(t, err, "where this source is in")
	_, err = open(src.Server, r.system(t), envelope.Hash{}, "message-2", src.Sign)
	refused(t, err, "does not list this source")
	_, err = open(src.Server, r.system(t), envelope.Hash{}, "message-1", ledgertest.SPKI(t, ledgertest.NewSigner(t, "stranger").Public()))
	refused(t, err, "does not list this source")

	// A system whose devices did not sign it.
	foreign := newRig(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	b := foreign.Bundle
	b.Signatures = r.Bundle.Signatures
	raw, err := envelope.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(src.Server, &System{Bundle: raw}, envelope.Hash{}, "message-1", src.Sign); err == nil {
		t.Error("signatures of another genesis are taken")
	}
	// Entries that the authority did not sign, or in another order.
	bad := notice
	bad.Signature = slices.Clone(bad.Signature)
	bad.Signature[7] ^= 1
	if _, err := open(src.Server, r.system(t, bad), envelope.Hash{}, "message-1", src.Sign); err == nil {
		t.Error("an entry without a signature is taken")
	}
	next := r.Entry(t, s, ledger.KindNotice, &ledger.Notice{Text: "more work", From: r.Now, Until: r.Now + 60}, r.Now+1)
	if _, err := open(src.Server, r.system(t, next, notice), envelope.Hash{}, "message-1", src.Sign); err == nil {
		t.Error("entries are taken out of order")
	}
	// A station goes on with a longer ledger, never with a shorter one.
	st, err := NewStation(StationConfig{ID: "message-1"}, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SetLedger(s); err != nil {
		t.Error(err)
	}
	if err := st.SetLedger(r.State); err == nil {
		t.Error("a ledger that has shrunk is taken")
	}
	for _, cfg := range []StationConfig{{ID: "nobody"}, {ID: "sequence-1"}, {ID: "sequence-1", Secret: make([]byte, 31)}} {
		if _, err := NewStation(cfg, s, nil); err == nil {
			t.Errorf("a station %s with a secret of %d octets", cfg.ID, len(cfg.Secret))
		}
	}
}
