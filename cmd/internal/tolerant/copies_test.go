package tolerant

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestCopies: a site has copies of what its combiners made, for a while also when
// the task is over, and not of every enterprise's without end.
func TestCopies(t *testing.T) {
	s := newSite(t)
	s.desk = NewDesk(Config{State: s.sys.State, Site: siteOf(t, s, "device-4")})
	p := s.task(s.a, 1, s.request(s.a))
	e := s.desk.Packet(s.now, p)
	if len(e.Asks) == 0 {
		t.Fatal("no machine")
	}
	if n := s.desk.Combined(1); len(n) != 0 {
		t.Fatalf("%+v", n)
	}
	made := s.combined(s.a, p, "device-4")
	s.desk.tasks[numberOf(&p)].machine("device-4").result = made.Message
	name := nameOf(&p)
	check := func(when string, want int) {
		t.Helper()
		c := s.desk.Copies(name)
		if n := s.desk.Combined(1); len(n) != want/2 || want > 0 && n[0] != name || len(c) != want {
			t.Fatalf("%s: %+v, %d copies", when, n, len(c))
		}
		if want > 0 && (!bytes.Equal(c[0].Distribution, p.Distribution) || !bytes.Equal(c[0].Message, p.Message) || !bytes.Equal(c[1].Message, made.Message) || c[1].Device != "device-4") {
			t.Errorf("%s: other packets", when)
		}
	}
	check("at work", 2)
	if n := s.desk.Combined(2); len(n) != 0 {
		t.Error("another enterprise's")
	}
	if c := s.desk.Copies(TaskName{1, 2, 1, envelope.Hash{1}}); c != nil {
		t.Error("another request's")
	}
	s.desk.Packet(s.now, s.over(s.a, p))
	if len(s.desk.open) != 0 {
		t.Fatal("it is not over")
	}
	check("over", 2)
	s.desk.Tick(s.now + keepLast - 1)
	check("later", 2)
	s.desk.Tick(s.now + keepLast)
	check("long over", 0)

	for i := range uint64(maxLast + 5) {
		x := &task{number: number{1, 2, i + 1}, raw: []byte("r"), packet: []byte("d"), machines: []*machine{{device: "device-4", holder: holderOf(t, s, "device-4"), result: []byte("m")}}}
		s.desk.keepLast(x)
	}
	if n := s.desk.Combined(1); len(n) != maxLast || n[0].Task != 6 {
		t.Errorf("%d copies, from %+v", len(n), n[0])
	}
	big := &task{number: number{1, 2, 9999}, raw: make([]byte, maxLastOctets), machines: []*machine{{device: "device-4", holder: holderOf(t, s, "device-4"), result: []byte("m")}}}
	s.desk.keepLast(big)
	if n := s.desk.Combined(1); len(n) != 1 || n[0].Task != 9999 {
		t.Errorf("%d copies", len(n))
	}
	if raw, err := MarshalCopies(make([]Packet, 1)); err == nil {
		t.Errorf("%d octets of a malformed packet", len(raw))
	}
}

func siteOf(t *testing.T, s *site, device string) string {
	t.Helper()
	row, ok := s.sys.State.Device(device)
	if !ok {
		t.Fatal("no device")
	}
	return row.Server
}
