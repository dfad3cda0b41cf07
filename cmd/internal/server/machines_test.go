package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// newAuthorityRig is a rig with an authority in two layers in the ledger of both
// sites: devices 1 to 3 are calculators, 4 and 5 combiners.
func newAuthorityRig(t *testing.T) (*rig, *ledgertest.Authority) {
	t.Helper()
	r := newRig(t)
	a := r.sys.Authority(t, ledgertest.SmallPlan(7)) // before anybody reads the ledger
	for _, h := range a.Dealing.Key.Holders {
		r.devices[h.Device].Join(a)
	}
	r.commission()
	r.waitStatus()
	r.told(a.Entry)
	return r, a
}

// told hands both sites the ledger with one entry more.
func (r *rig) told(e ledger.SignedEntry) {
	r.t.Helper()
	raw, err := envelope.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	for id := range r.dirs {
		height := r.page(id, 0, false).Height
		if taken := r.hand(id, &api.System{After: height, Entries: [][]byte{raw}}); taken != height+1 {
			r.t.Fatalf("%s has %d entries", id, taken)
		}
	}
}

// alarmed finds an alarm of a device with these words at any site.
func (r *rig) alarmed(device string, words ...string) bool {
	for _, s := range r.servers {
		for _, x := range s.alarms.all() {
			all := x.Device == device
			for _, w := range words {
				all = all && strings.Contains(x.Text, w)
			}
			if all {
				return true
			}
		}
	}
	return false
}

// approveUntil lets officers approve what their inboxes hold until something
// is so.
func (r *rig) approveUntil(what string, so func() bool) {
	r.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, o := range r.sys.Genesis.Officers {
			r.approveAll(o)
		}
		if so() {
			return
		}
	}
	r.t.Fatalf("never: %s", what)
}

// TestLiarsAlarm: machines of both layers that lie are named in alarms; the
// certificates are made all the same. What an operator rejects is illegal there,
// is told, and outlives the server.
func TestLiarsAlarm(t *testing.T) {
	r, a := newAuthorityRig(t)
	// Without the third calculator the powers of the second are needed.
	r.devices["device-2"].SetFaultIn(coordtest.Random, 17)
	r.devices["device-3"].SetFault(coordtest.Silent)
	const documents = 40
	digest := r.request("server-1", coordtest.BatchRequest(t, r.sys, a, documents, threshold.RS256, r.unix(), 3600))
	out := r.tracking("server-1", digest, 0, time.Second)
	r.approveUntil("the calculator is named", func() bool {
		return r.alarmed("device-2", "calculator 2 (device-2) of enterprise 7 lied", fmt.Sprintf("task %d", out.Task))
	})
	r.devices["device-3"].SetFault(coordtest.Good)
	r.mu.Lock()
	r.conns["device-3"].Close() // that it comes back is told at once
	r.mu.Unlock()
	out = r.work("server-1", digest, nil)
	if out.State != api.StateDone || out.Enterprise != 7 || out.Distributor != 1 || out.Task == 0 || len(out.Documents) != documents {
		t.Fatalf("%s: %s: task %d, %d documents", out.State, out.Text, out.Task, len(out.Documents))
	}

	// Without the second combiner the word of the first is heard.
	r.devices["device-2"].SetFault(coordtest.Good)
	r.devices["device-4"].SetFault(coordtest.FalseAccuser)
	r.devices["device-5"].SetFault(coordtest.Silent)
	r.request("server-1", coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
	r.approveUntil("the combiner is named", func() bool {
		return r.alarmed("device-4", "combiner 1 (device-4) of enterprise 7 lied")
	})
	r.devices["device-4"].SetFault(coordtest.Good)
	r.devices["device-5"].SetFault(coordtest.Good)
	r.mu.Lock()
	r.conns["device-5"].Close()
	r.mu.Unlock()
	named := map[string]int{}
	for _, x := range r.servers["server-1"].alarms.all() {
		if strings.Contains(x.Text, "lied") {
			named[x.Device]++
		}
	}
	if len(named) != 2 || named["device-2"] != 1 {
		t.Errorf("named: %v", named)
	}

	// An officer says no, at another site than the distributor's.
	digest = r.request("server-2", coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600))
	for _, o := range r.sys.Genesis.Officers {
		for n := 0; o.Person == "officer-1a" && n < 200; n++ {
			i := slices.IndexFunc(r.inbox(o), func(it api.InboxItem) bool {
				u, err := envelope.Parse(it.Request)
				return err == nil && u.UnverifiedDigest() == digest
			})
			if i < 0 {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			var got api.Approved
			if err := r.post("server-1", api.PathApproval, coordtest.Approve(t, r.sys, r.sys.Persons[o.Person], r.inbox(o)[i], r.unix(), "not mine"), &got); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if out = r.work("server-2", digest, map[string]bool{"officer-1a": true}); out.State != api.StateDone || out.Distributor != 2 {
		t.Fatalf("%+v", out)
	}
	r.approveUntil("it is told", func() bool {
		return r.alarmed("device-1", fmt.Sprintf("illegal task %d of distributor 2 of enterprise 7", out.Task), "not mine")
	})
	shown := func() (n int) {
		var tasks api.Tasks
		if err := r.send("server-2", api.PathTasks, nil, &tasks); err != nil {
			t.Fatal(err)
		}
		for _, s := range tasks.Sites {
			for _, x := range s.Illegal {
				if s.Server != "server-1" || x.Device != "device-1" || x.Request != digest || x.Task != out.Task {
					t.Errorf("%s: %+v", s.Server, x)
				}
				n++
			}
			if s.Text != "" {
				n = 0 // not there yet
			}
		}
		return n
	}
	if n := shown(); n != 1 {
		t.Errorf("%d illegal tasks", n)
	}
	r.servers["server-1"].Close()
	r.start("server-1")
	r.approveUntil("it outlives the server", func() bool { return shown() == 1 })
	for _, x := range r.servers["server-1"].alarms.all() {
		if strings.Contains(x.Text, "illegal") {
			t.Errorf("it is told again: %+v", x)
		}
	}

	// A damaged file is said, not passed over.
	r.servers["server-1"].Close()
	if err := os.WriteFile(filepath.Join(r.dirs["server-1"], fileIllegal), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(r.dirs["server-1"], Options{Now: r.clock}); err == nil || !strings.Contains(err.Error(), fileIllegal) {
		if s != nil {
			s.Close()
		}
		t.Errorf("%v", err)
	}
}

// TestChannels: a packet is heard only on its own channel of its own
// enterprise, and a site's own echo is passed over; sites subscribe when the
// ledger brings an enterprise. Who is no distributor takes no requests.
func TestChannels(t *testing.T) {
	r := newRig(t)
	a := r.sys.Deal(t, ledgertest.SmallPlan(8))
	a.Dealing.Distributors = a.Dealing.Distributors[1:]
	r.sys.Confirm(t, &a.Dealing)
	r.sys.Enter(t, a)
	s := r.servers["server-1"]
	channels := func() int {
		s.machines.mu.Lock()
		defer s.machines.mu.Unlock()
		return len(s.machines.served)
	}
	r.commission()
	if n := channels(); n != 0 {
		t.Errorf("%d channels without an enterprise", n)
	}
	r.told(a.Entry)
	if n := channels(); n != 3 {
		t.Errorf("%d channels", n)
	}
	raw := coordtest.LayersRequest(t, r.sys, a, r.unix(), 3600)
	refused(t, "a request at no distributor", r.post("server-1", api.PathRequest, raw, nil), http.StatusConflict, "hand the request to server-2")

	p := tolerant.Packet{Kind: tolerant.KindUnknown, Site: "server-2", Enterprise: 8, Distributor: 2, Task: 1, Request: envelope.Hash{1}, Device: "device-1"}
	own, other, combined := p, p, p
	own.Site = "server-1"
	other.Enterprise = 9
	combined.Kind, combined.Message = tolerant.KindCombined, []byte("message")
	for _, x := range []struct {
		name string
		p    tolerant.Packet
		want string // "": heard or passed over
	}{{"right", p, ""}, {"echo", own, ""}, {"other enterprise", other, "of enterprise 9"}, {"other channel", combined, `"combined"`}} {
		msg, err := tolerant.Marshal(x.p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.hearChannel(8, tolerant.B1)(context.Background(), msg)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	for _, msg := range [][]byte{nil, []byte("nonsense"), make([]byte, tolerant.MaxPacket+1)} {
		if _, err := s.hearChannel(8, tolerant.B1)(context.Background(), msg); err == nil {
			t.Errorf("%d octets are taken for a packet", len(msg))
		}
	}
	trail, err := os.ReadFile(filepath.Join(r.dirs["server-1"], fileAudit))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(trail), `"msg":"packet in"`); n != 1 {
		t.Errorf("%d packets are in the audit log, 1 was to be heard", n)
	}
}

// TestPacketLines: whoever makes up packets does not fill the disk.
func TestPacketLines(t *testing.T) {
	var l lines
	now := time.Unix(1_800_000_000, 0)
	written, lasts := 0, 0
	for range 3 * maxPacketLines {
		ok, last := l.take(now)
		if ok {
			written++
		}
		if last {
			lasts++
		}
	}
	if written != maxPacketLines || lasts != 1 {
		t.Errorf("%d lines, %d times the last", written, lasts)
	}
	if ok, _ := l.take(now.Add(time.Minute)); !ok {
		t.Error("no line in the next minute")
	}
}
