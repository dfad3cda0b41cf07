package tolerant

import (
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// looks makes a new desk count how often it looks at a document.
func (s *site) looks() *int {
	n := 0
	s.desk = NewDesk(Config{State: s.sys.State, Site: "server-1", Checked: func(envelope.Hash, envelope.Hash, int64) *document.Checked {
		n++
		return nil // it has to look for itself
	}})
	return &n
}

// TestRefusedOnce: a task that does not pass is looked at once, however often it is
// repeated, and again when that may have changed.
func TestRefusedOnce(t *testing.T) {
	s := newSite(t)
	looks := s.looks()
	hear := func(what string, p Packet, want int) {
		t.Helper()
		before := *looks
		for range 5 {
			if e := s.desk.Packet(s.now, p); len(e.Send) > 0 || len(s.desk.load) > 0 && s.desk.load[1].octets != 0 && len(s.desk.tasks) == 0 { // room is given back
				t.Errorf("%s: %+v", what, e)
			}
		}
		if n := *looks - before; n != want {
			t.Errorf("%s: looked at %d times, not %d", what, n, want)
		}
	}

	// What is illegal for good.
	p := s.task(s.a, 1, s.request(s.a), func(d *firmware.Distribution) { d.Hash[0] ^= 1 })
	hear("another hash", p, 1)
	s.now += lookAgain
	hear("another hash, later", p, 0)
	if n := len(s.desk.Illegal()); n != 1 {
		t.Fatalf("%d illegal tasks", n)
	}
	// Another packet of the same request is another one.
	hear("the right hash", s.task(s.a, 2, p.Message), 1)
	if len(s.desk.tasks) != 1 {
		t.Fatal("what is right was not taken")
	}
	hear("another number", s.task(s.a, 3, p.Message, func(d *firmware.Distribution) { d.Hash[0] ^= 1 }), 1)

	// What time may make right: its certificate begins too far from now.
	s = newSite(t)
	looks = s.looks()
	early := s.now
	later := s.now + 40*86400 // it begins then
	u, err := envelope.Parse(coordtest.LayersRequest(t, s.sys, s.a, later, 3600))
	if err != nil {
		t.Fatal(err)
	}
	var req document.Request
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &req); err != nil {
		t.Fatal(err)
	}
	// begun is a task for it, by a request that was made before.
	begun := func(number uint64, created int64) Packet {
		req := req
		req.Created, req.Expires = created, created+30*86400
		raw := coordtest.SignRequest(t, s.sys, s.sys.Persons[ledgertest.Program].Software, req)
		return s.task(s.a, number, raw, func(d *firmware.Distribution) {
			checked, err := document.CheckIn(s.sys.State, &req, created+20*86400)
			if err != nil {
				t.Fatal(err)
			}
			d.Hash, d.Documents, d.Expires = checked.Digest(), 1, d.Created+86400
		})
	}
	p = begun(1, early)
	hear("too early", p, 1)
	if n := len(s.desk.Illegal()); n != 1 || len(s.desk.tasks) > 0 {
		t.Fatalf("%d illegal tasks, %d open", n, len(s.desk.tasks))
	}
	s.now += lookAgain - 1
	hear("still too early", p, 0)
	s.now++
	hear("looked at again", p, 1)
	s.now = later - 31*86400
	p = begun(2, early)
	s.desk.noteRefused(&task{number: number{1, 2, 2}, packet: p.Distribution, distribution: firmware.Distribution{Request: p.Request}}, s.now+lookAgain)
	hear("it is time, and nobody looks", p, 0)
	s.now += lookAgain
	if hear("it is time", p, 1); len(s.desk.tasks) != 1 {
		t.Error("what has become right is not taken")
	}

	// What the ledger may make right, or wrong.
	s = newSite(t)
	looks = s.looks()
	p = s.task(s.a, 1, s.request(s.a))
	x := &task{number: number{1, 2, 1}, packet: p.Distribution, distribution: firmware.Distribution{Request: p.Request}}
	s.desk.noteRefused(x, s.now+lookAgain)
	hear("the same ledger", p, 0)
	r := s.desk.refusals(x)
	r.of[x.nameOf()] = refused{envelope.Hash{1}, s.now + lookAgain}
	hear("another ledger", p, 1)

	// They are bounded.
	for i := range maxRefused + 10 {
		s.desk.noteRefused(&task{number: number{1, 2, 9}, packet: p.Distribution, distribution: firmware.Distribution{Request: envelope.Hash{byte(i), byte(i >> 8), 7}}}, never)
	}
	if len(r.of) != maxRefused || len(r.order) != maxRefused {
		t.Errorf("%d are remembered, %d in order", len(r.of), len(r.order))
	}
}
