package tolerant

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

func (s *site) batch(n int) []byte {
	s.t.Helper()
	return coordtest.BatchRequest(s.t, s.sys, s.a, n, threshold.RS256, s.now, 3600)
}

// TestRoomForAll: what a task will need is set aside when it comes, so that a full
// desk finishes what it has; who comes too late is told, and comes again.
func TestRoomForAll(t *testing.T) {
	s := newSite(t)
	s.desk = NewDesk(Config{State: s.sys.State, Site: "server-4"}) // combiner 1
	raw := s.batch(3)
	first, second, third := s.task(s.a, 1, raw), s.task(s.a, 2, s.batch(3)), s.task(s.a, 3, s.batch(3))
	l := s.desk.load[1]
	need := s.desk.needs(s.desk.authorities[1], &task{raw: raw, packet: first.Distribution, distribution: firmware.Distribution{Documents: 3}})
	l.octets = maxOctetsOfBatches - 2*need - 100 // of the other distributor
	for _, p := range []Packet{first, second} {
		if e := s.desk.Packet(s.now, p); len(e.Asks) != 1 {
			t.Fatalf("%+v", e)
		}
	}
	e := s.desk.Packet(s.now, third)
	if len(e.Asks) > 0 || kindsOf(e.Send) != KindFailed || e.Send[0].Device != "device-4" || !strings.Contains(e.Send[0].Text, "no room") {
		t.Fatalf("%+v", e)
	}
	if e := s.desk.Packet(s.now, s.task(s.a, 4, s.request(s.a))); len(e.Asks) != 1 {
		t.Errorf("batches keep a single request out: %+v", e)
	}
	l.octets = maxOctets
	// All calculators' powers, and they are kept although the desk is full.
	for j := 1; j <= 3; j++ {
		d := s.sys.Devices[deviceOf(j)]
		m := coordtest.NewDevice(t, s.sys, d.ID, func() int64 { return s.now })
		out := s.powers(&first, uint64(j), 3)
		if j == 2 { // as long as it may be
			out.Officers = slices.Repeat([]string{strings.Repeat("o", 30)}, 40)
		}
		s.desk.Packet(s.now, Packet{
			Kind: KindPowers, Site: "server-1", Enterprise: 1, Distributor: 2, Task: 1, Request: first.Request, Device: d.ID,
			Message: m.Sign(firmware.TypePowers, out, [16]byte{1}),
		})
	}
	if n := len(s.desk.tasks[number{1, 2, 1}].powers); n != 3 {
		t.Errorf("powers of %d calculators are kept", n)
	}
	// One that has its signature gives way, and comes again if it is wanted.
	if e := s.desk.Packet(s.now, third); len(e.Asks) > 0 {
		t.Errorf("%+v", e)
	}
	l.octets = maxOctetsOfBatches - 100
	s.desk.tasks[number{1, 2, 2}].signed = true
	if e := s.desk.Packet(s.now, third); s.desk.tasks[number{1, 2, 3}] == nil || s.desk.tasks[number{1, 2, 2}] != nil {
		t.Errorf("%+v", e)
	}
	s.desk.drop(s.desk.tasks[number{1, 2, 1}])
	if s.desk.Packet(s.now, second); s.desk.tasks[number{1, 2, 2}] == nil {
		t.Error("one that gave way does not come again")
	}
	if s.desk.Packet(s.now, first); s.desk.tasks[number{1, 2, 1}] != nil {
		t.Error("one that is over comes again")
	}
	before := l.octets
	for _, x := range slices.Clone(s.desk.open) {
		if have := x.has(); have > x.room {
			t.Errorf("task %d has %d octets in a room of %d", x.number.task, have, x.room)
		}
		before -= x.room
		s.desk.drop(x)
	}
	if l.octets != before || l.by(2).octets != 0 || l.by(2).tasks != 0 {
		t.Errorf("%+v, %+v, not %d", l.held, l.by(2), before)
	}
}

// TestDone: a task is over by the signatures of all its documents, and by no
// others, whether a combiner's have come before or not.
func TestDone(t *testing.T) {
	for _, combined := range []bool{false, true} {
		s := newSite(t)
		p := s.task(s.a, 1, s.batch(3))
		s.desk.Packet(s.now, p)
		x := s.desk.tasks[numberOf(&p)]
		var right [][]byte
		for _, part := range x.checked.Parts() {
			sig, err := rsa.SignPKCS1v15(nil, s.a.Whole, crypto.SHA256, part.Digest())
			if err != nil {
				t.Fatal(err)
			}
			right = append(right, sig)
		}
		forged := bytes.Clone(right[2])
		forged[0] ^= 1
		wrong := [][][]byte{right[:2], {right[0], right[2], right[1]}, {right[0], right[1], forged}, {right[0], right[1], right[2], right[2]}, {nil}}
		say := func(signatures [][]byte) {
			t.Helper()
			k := &s.a.Dealing.Key
			h, _ := k.Machine(ledger.LayerCombiner, 2)
			c := firmware.Combined{
				Enterprise: 1, Distributor: 2, Task: 1, Request: p.Request, Key: k.ID, Device: h.Device, Share: h.Share, Number: 2,
				Wrong: []uint64{}, Officers: []string{}, Made: s.now, Signatures: signatures,
			}
			for range signatures {
				c.Combinations = append(c.Combinations, k.Layers.Grouping.Combiners[1].Combinations[0])
			}
			m := coordtest.NewDevice(t, s.sys, h.Device, func() int64 { return s.now })
			s.desk.Packet(s.now, Packet{
				Kind: KindCombined, Site: "server-5", Enterprise: 1, Distributor: 2, Task: 1, Request: p.Request, Device: h.Device,
				Message: m.Sign(firmware.TypeCombined, c, [16]byte{1}),
			})
		}
		done := func(signatures [][]byte) bool {
			s.desk.Packet(s.now, Packet{Kind: KindDone, Site: "server-2", Enterprise: 1, Distributor: 2, Task: 1, Request: p.Request, Signatures: signatures})
			return len(s.desk.Tasks()) == 0
		}
		for i, signatures := range wrong {
			if say(signatures); x.signed {
				t.Fatalf("signatures %d count", i)
			}
		}
		if combined {
			if say(right); !x.signed || x.over {
				t.Fatal("right ones do not")
			}
		}
		for i, signatures := range wrong {
			if done(signatures) {
				t.Fatalf("over by signatures %d", i)
			}
		}
		if !done(right) {
			t.Error("not over")
		}
	}
}

// TestChecked: what the server has found of a document is not looked for again,
// and still has to be what the distributor signed.
func TestChecked(t *testing.T) {
	s := newSite(t)
	p := s.task(s.a, 1, s.request(s.a))
	asked := 0
	var known *document.Checked
	s.desk = NewDesk(Config{State: s.sys.State, Site: "server-1", Checked: func(request, head envelope.Hash, now int64) *document.Checked {
		if asked++; request != p.Request || head != s.sys.State.Head() || now != s.now {
			t.Errorf("asked for request %s at %d under %s", request, now, head)
		}
		return known
	}})
	s.desk.Packet(s.now, p)
	x := s.desk.tasks[numberOf(&p)]
	if asked != 1 || x == nil || x.checked == nil {
		t.Fatalf("asked %d times: %+v", asked, x)
	}
	known = x.checked
	p = s.task(s.a, 2, p.Message)
	s.desk.Packet(s.now, p)
	if x := s.desk.tasks[numberOf(&p)]; x == nil || x.checked != known {
		t.Error("it is checked again")
	}
	p = s.task(s.a, 3, s.request(s.a)) // another document
	if e := s.desk.Packet(s.now, p); len(e.Asks) > 0 || !e.Keep {
		t.Errorf("%+v", e)
	}
}

func deviceOf(j int) string { return "device-" + string(rune('0'+j)) }

// powers are no right ones.
func (s *site) powers(p *Packet, j uint64, documents int) firmware.Powers {
	s.t.Helper()
	d, err := firmware.VerifyDistribution(s.sys.State, p.Distribution, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	k := &s.a.Dealing.Key
	h, _ := k.Machine(ledger.LayerCalculator, j)
	out := firmware.Powers{
		Enterprise: d.Enterprise, Distributor: d.Distributor, Task: d.Task, Request: d.Request, Hash: d.Hash, Key: k.ID, Device: h.Device,
		Share: h.Share, Number: j, Officers: []string{}, Made: s.now,
	}
	for range documents * int(k.Layers.Grouping.L) {
		out.Y = append(out.Y, make([]byte, len(k.Public.N)))
	}
	return out
}

// TestLargestPackets: whatever a batch may be, what is said about it fits into a
// packet, with proofs in all the powers that a combiner shows.
func TestLargestPackets(t *testing.T) {
	const text = 8 << 10 // of a machine's message, besides its numbers (package firmware)
	for _, bits := range []int{2048, 3072, 4096} {
		for _, l := range []uint64{1, 2, 3, 4} {
			for n := uint64(2); n <= grouping.MaxCalculators; n++ {
				key := ledger.Key{
					Family: ledger.FamilyCertificate, Scheme: threshold.TwoLayer, T: 2, N: n, Public: threshold.PublicKey{N: make([]byte, bits/8)},
					Layers: &twolayer.Public{Grouping: grouping.Grouping{L: l, T: 2}},
				}
				documents := document.MaxBatch(&key)
				p := Packet{
					Kind: KindCombined, Site: "server-1", Enterprise: 1, Distributor: 1, Task: 1, Request: envelope.Hash{1}, Device: "device-1",
					Message: make([]byte, documents*(bits/8+combinationRoom)+text),
				}
				for range n {
					p.Evidence = append(p.Evidence, make([]byte, documents*int(l)*3*bits/8+text))
				}
				raw, err := Marshal(p)
				if err == nil {
					_, err = Unmarshal(raw)
				}
				if documents == 0 || err != nil {
					t.Errorf("%d bits, %d sub-keys, %d calculators, %d documents: %v", bits, l, n, documents, err)
				}
			}
		}
	}
}
