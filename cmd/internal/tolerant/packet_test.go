package tolerant

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// whole is a packet with every field.
func whole() Packet {
	return Packet{
		Site: "server-1", Enterprise: 1, Distributor: 22, Task: 7, Request: envelope.Hash{1}, Device: "device-1", Distribution: []byte{1},
		Message: []byte{2}, Offer: []byte{3}, Approvals: [][]byte{{4}, {5}}, Doubt: []byte{8}, Acked: []string{"device-2"}, Evidence: [][]byte{{6}},
		Signatures: [][]byte{{7}}, Text: "why",
	}
}

// of keeps the fields of a set.
func of(kind string, set uint) Packet {
	p := whole()
	p.Kind = kind
	for field, clear := range map[uint]func(){
		hasDevice: func() { p.Device = "" }, hasDistribution: func() { p.Distribution = nil }, hasMessage: func() { p.Message = nil },
		hasOffer: func() { p.Offer = nil }, hasApprovals: func() { p.Approvals = nil }, hasDoubt: func() { p.Doubt = nil },
		hasAcked: func() { p.Acked = nil }, hasEvidence: func() { p.Evidence = nil }, hasSignatures: func() { p.Signatures = nil },
		hasText: func() { p.Text = "" },
	} {
		if set&field == 0 {
			clear()
		}
	}
	return p
}

// good are packets of every kind with all that they may have.
func good() []Packet {
	var out []Packet
	for name, kind := range kinds {
		may := kind.need | kind.may
		if name == KindFailed {
			out = append(out, of(name, kind.need|hasText))
			may &^= hasText
		}
		out = append(out, of(name, may))
	}
	return out
}

// TestPacket: every kind has its fields and no other, and one encoding.
func TestPacket(t *testing.T) {
	const all = hasText<<1 - 1
	for _, p := range good() {
		raw, err := Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(raw)
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%+v became %+v: %v", p, back, err)
		}
		if Subject(p.Enterprise, p.Channel()) != "tolerant.1."+p.Channel() || !strings.Contains(strings.Join(Channels, " "), p.Channel()) {
			t.Errorf("%s travels on %q", p.Kind, p.Channel())
		}
		if _, err := Unmarshal(append(raw, 0)); !errors.Is(err, ErrPacket) {
			t.Errorf("trailing octets: %v", err)
		}
	}
	for name, kind := range kinds {
		for set := range uint(all + 1) {
			ok := set&kind.need == kind.need && set&^(kind.need|kind.may) == 0
			if name == KindFailed {
				ok = set == hasDevice|hasText || set == hasDevice|hasMessage
			}
			if p := of(name, set); (p.check() == nil) != ok {
				t.Fatalf("%s with fields %010b: %v", name, set, p.check())
			}
		}
	}
}

// TestBadPacket: numbers, ids and lists are looked at.
func TestBadPacket(t *testing.T) {
	for name, spoil := range map[string]func(*Packet){
		"kind":         func(p *Packet) { p.Kind = "conquer" },
		"enterprise":   func(p *Packet) { p.Enterprise = 0 },
		"enterprise 2": func(p *Packet) { p.Enterprise = 1_000_000 },
		"distributor":  func(p *Packet) { p.Distributor = 0 },
		"task":         func(p *Packet) { p.Task = 0 },
		"request":      func(p *Packet) { p.Request = envelope.Hash{} },
		"site":         func(p *Packet) { p.Site = "" },
		"site 2":       func(p *Packet) { p.Site = strings.Repeat("s", 65) },
		"device":       func(p *Packet) { p.Device = strings.Repeat("s", 65) },
		"acked":        func(p *Packet) { p.Acked = []string{""} },
		"acked 2":      func(p *Packet) { p.Acked = make([]string, maxMachines+1) },
		"approvals":    func(p *Packet) { p.Approvals = make([][]byte, maxApprovals+1) },
		"text":         func(p *Packet) { p.Text = strings.Repeat("t", maxText+1) },
	} {
		hit := false
		for _, p := range good() {
			before, _ := envelope.Marshal(p)
			spoil(&p)
			raw, err := envelope.Marshal(p)
			if err != nil || bytes.Equal(before, raw) {
				continue
			}
			hit = true
			if _, err := Unmarshal(raw); !errors.Is(err, ErrPacket) {
				t.Errorf("%s: %s taken: %v", name, p.Kind, err)
			}
			if _, err := Marshal(p); !errors.Is(err, ErrPacket) {
				t.Errorf("%s: %s made: %v", name, p.Kind, err)
			}
		}
		if !hit {
			t.Errorf("%s: nothing tried", name)
		}
	}
	if _, err := Unmarshal(make([]byte, MaxPacket+1)); !errors.Is(err, ErrPacket) {
		t.Errorf("too large: %v", err)
	}
}

// FuzzPacket: what decodes has one encoding, and no desk falls over it.
func FuzzPacket(f *testing.F) {
	for _, p := range good() {
		raw, err := Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	s := newSite(f)
	for _, p := range s.real() {
		raw, err := Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Unmarshal(data)
		if err != nil {
			return
		}
		again, err := Marshal(p)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x became %x: %v", data, again, err)
		}
		for range 2 {
			for _, a := range s.desk.Packet(s.now, p).Asks {
				s.desk.Silent(s.now, a.ID, "")
			}
		}
	})
}
