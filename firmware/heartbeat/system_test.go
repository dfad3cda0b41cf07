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
		sys.Entries, sys.Height = append(sys.Entries, raw), sys.Height+1
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
		s, _, err := OpenSystem(frame, kx, ledger.State{}, known, Self{id, sign, src.Agree})
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

// What a source asks for is its own word, of its own system.
func TestAsk(t *testing.T) {
	r := newRig(t)
	ask := SystemAsk{After: 3}
	sign := func(source string, system envelope.Hash) []byte {
		frame, err := SignAsk(rand.Reader, r.Sources[source].Sign, system, ask, r.Now)
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	for _, system := range []envelope.Hash{{}, r.State.System()} {
		if got, err := OpenAsk(r.State, "message-1", sign("message-1", system)); err != nil || *got != ask {
			t.Errorf("%+v, %v", got, err)
		}
	}
	_, err := OpenAsk(r.State, "message-1", sign("sequence-1", r.State.System()))
	if err == nil {
		t.Error("another source's ask is taken")
	}
	_, err = OpenAsk(r.State, "message-1", sign("message-1", envelope.Hash{1}))
	refused(t, err, "is in system")
	_, err = OpenAsk(r.State, "device-1", sign("message-1", r.State.System()))
	refused(t, err, "no source of the system")
	_, err = OpenAsk(r.State, "message-1", []byte{0x80})
	if err == nil {
		t.Error("nonsense is taken")
	}
}

// A page says where it belongs.
func TestFold(t *testing.T) {
	r := newRig(t)
	notice := r.Entry(t, r.State, ledger.KindNotice, &ledger.Notice{Text: "power work", From: r.Now, Until: r.Now + 60}, r.Now)
	page := r.system(t, notice)
	for _, c := range []struct {
		name, want string
		change     func(*System)
	}{
		{"a gap", "follows position 1, and this source has 0", func(p *System) { p.After, p.Height = 1, 2 }},
		{"more than there are", "1 entries after 0 of 0", func(p *System) { p.Height = 0 }},
		{"a place beyond the end", "after 2 of 1", func(p *System) { p.After, p.Entries = 2, nil }},
		{"no entry", "entry 1", func(p *System) { p.Entries = [][]byte{{0xa0}} }},
	} {
		p := *page
		c.change(&p)
		s, err := p.Fold(r.State)
		refused(t, err, c.want)
		if s.Height() != 0 {
			t.Errorf("%s: %d entries", c.name, s.Height())
		}
	}
}
