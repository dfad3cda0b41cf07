package tolerant

import (
	"bytes"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestRoomOfOneRequester: batches that wait for their officers do not keep those of
// others out, whoever asks for so many.
func TestRoomOfOneRequester(t *testing.T) {
	s := newSite(t)
	first, second := s.task(s.a, 1, s.batch(3)), s.task(s.a, 2, s.batch(3))
	if e := s.desk.Packet(s.now, first); len(e.Asks) != 1 {
		t.Fatalf("%+v", e)
	}
	his := s.desk.tasks[number{1, 2, 1}]
	size := his.room
	his.room = maxOctetsOfOne - size/2 // as if there were many
	e := s.desk.Packet(s.now, second)
	if len(e.Asks) > 0 || kindsOf(e.Send) != KindFailed || !strings.Contains(e.Send[0].Text, "no room") {
		t.Fatalf("%d asks, %s", len(e.Asks), kindsOf(e.Send))
	}
	if s.desk.load[1].octets != size {
		t.Error("room is set aside for what is turned away")
	}
	if e := s.desk.Packet(s.now, s.task(s.a, 3, s.request(s.a))); len(e.Asks) != 1 {
		t.Errorf("his single requests are kept out: %+v", e)
	}
	his.about.Signer = envelope.KeyID{1} // another requester's
	if s.desk.Packet(s.now, second); s.desk.tasks[number{1, 2, 2}] == nil {
		t.Error("a batch is kept out by others' batches")
	}
	s.desk.drop(s.desk.tasks[number{1, 2, 2}])
	his.about.Signer, his.signed = s.desk.tasks[number{1, 2, 3}].about.Signer, true
	if s.desk.Packet(s.now, s.task(s.a, 4, s.batch(3))); s.desk.tasks[number{1, 2, 4}] == nil || his.over {
		t.Error("a batch is kept out by one that has its signatures, or drops it for nothing")
	}
	his.room = size
}

// TestTaskIsBare: room is counted for a task's messages, so what was decoded of them
// is not kept.
func TestTaskIsBare(t *testing.T) {
	s := newSite(t)
	s.desk.Packet(s.now, s.task(s.a, 1, s.batch(2)))
	s.desk.Packet(s.now, s.task(s.a, 2, s.request(s.a)))
	for n, x := range s.desk.open {
		if x.request.Document != nil || x.request.CSR != nil || x.request.Batch != nil || len(x.checked.Parts()) != 2-n || x.checked.Parts()[0].ToBeSigned() != nil {
			t.Errorf("the documents of task %d are kept", x.number.task)
		}
	}
	if len(s.desk.open) != 2 {
		t.Error("they were not taken")
	}
}

// TestMadeUpMakesNoRoom: for what its requester did not sign, or the distributor
// did not mean, no task gives way, whoever sends it along with a true packet.
func TestMadeUpMakesNoRoom(t *testing.T) {
	s := newSite(t)
	first, p := s.task(s.a, 1, s.batch(3)), s.task(s.a, 2, s.batch(3))
	s.desk.Packet(s.now, first)
	old := s.desk.tasks[number{1, 2, 1}]
	old.signed = true
	l := s.desk.load[1]
	l.octets = maxOctetsOfBatches - 100
	forged := bytes.Clone(p.Message)
	forged[len(forged)-1] ^= 1
	for name, message := range map[string][]byte{
		"no message": bytes.Repeat([]byte{1}, 1<<20), "another request": first.Message, "a forged signature": forged,
	} {
		bad := p
		bad.Message = message
		if e := s.desk.Packet(s.now, bad); old.over || len(e.Asks)+len(e.Send) > 0 || len(s.desk.illegal) > 0 {
			t.Fatalf("%s: %+v", name, e)
		}
	}
	if s.desk.Packet(s.now, p); !old.over || s.desk.tasks[number{1, 2, 2}] == nil {
		t.Error("the true one finds no room")
	}
}

// TestNoneOfItsMachines: a task for others' machines is looked at once.
func TestNoneOfItsMachines(t *testing.T) {
	s := newSite(t)
	raw := coordtest.BatchRequest(t, s.sys, s.a, 2, threshold.RS256, s.now, 3600, "device-2", "device-3", "device-4", "device-5")
	p := s.task(s.a, 7, raw)
	for range 2 {
		if e := s.desk.Packet(s.now, p); len(e.Asks)+len(e.Send) > 0 || len(s.desk.tasks) > 0 || s.desk.load[1].octets != 0 {
			t.Fatalf("%+v", e)
		}
		if u := s.desk.used[number{1, 2, 7}]; u == nil || !u.over || u.request != p.Request {
			t.Fatal("it is verified again when it comes again")
		}
	}
	// Its number is taken as any other.
	if s.desk.Packet(s.now, s.task(s.a, 7, s.batch(2))); len(s.desk.Illegal()) != 1 {
		t.Error("a number for two requests is not noticed")
	}
}

// TestFirstMachineOfASite: a site that had no machine of an authority, and has one
// since it has grown, knows the authority's signatures.
func TestFirstMachineOfASite(t *testing.T) {
	sys := ledgertest.New(t, ledgertest.WithDevices(7))
	before, after := ledgertest.SmallPlan(1), ledgertest.GrownPlan(1)
	before.Calculators, before.Combiners = []string{"device-1", "device-2", "device-6"}, []string{"device-4", "device-7"}
	after.Calculators, after.Combiners = append(before.Calculators, "device-3"), append(before.Combiners, "device-5")
	a := sys.Authority(t, before)
	desk := NewDesk(Config{State: sys.State, Site: "server-3"})
	if len(desk.authorities[1].own) != 0 {
		t.Fatal("it had a machine before")
	}
	sys.Extend(t, a, after)
	desk.Renew(sys.State.Time(), sys.State)
	if x := desk.authorities[1]; len(x.own) != 1 || x.verifier == nil {
		t.Errorf("%d machines, verifier %v", len(x.own), x.verifier)
	}
}
