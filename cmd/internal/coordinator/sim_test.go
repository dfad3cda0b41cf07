package coordinator_test

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// sim runs a coordinator against emulated devices and officers. Asks are
// answered in an order of the test's choosing; time is the test's.
type sim struct {
	t       *testing.T
	sys     *ledgertest.System
	now     int64
	raw     []byte
	r       *coordinator.Request
	record  []byte
	devices map[string]*coordtest.Device
	asks    []coordinator.Ask
	inbox   map[string]coordinator.Present // by device
	silent  map[string]bool                // officers who do nothing
	hung    map[string]string              // devices that never answer asks of a type
	order   *mathrand.Rand                 // of answers; nil: as asked
	// crash, if not nil, is asked after each record: true kills the coordinator.
	crash func() bool
}

func newSim(t *testing.T) *sim {
	t.Helper()
	return newSimOf(t, plain(t))
}

// Systems are made once: no test changes one.
var systems struct {
	sync.Mutex
	plain, inToken *ledgertest.System
}

func plain(t *testing.T) *ledgertest.System {
	systems.Lock()
	defer systems.Unlock()
	if systems.plain == nil {
		systems.plain = ledgertest.New(t)
	}
	return systems.plain
}

// tokens is the system whose devices use shares in their tokens where they can.
func tokens(t *testing.T) *ledgertest.System {
	systems.Lock()
	defer systems.Unlock()
	if systems.inToken == nil {
		systems.inToken = ledgertest.New(t, inToken)
	}
	return systems.inToken
}

func newSimOf(t *testing.T, sys *ledgertest.System) *sim {
	t.Helper()
	s := &sim{t: t, sys: sys, devices: map[string]*coordtest.Device{}, inbox: map[string]coordinator.Present{}, silent: map[string]bool{}}
	s.now = s.sys.Now
	for _, d := range s.sys.Genesis.Devices {
		s.devices[d.ID] = coordtest.NewDevice(t, s.sys, d.ID, func() int64 { return s.now })
	}
	return s
}

func (s *sim) config() coordinator.Config {
	return coordinator.Config{State: s.sys.State, Site: "server-1", Rand: rand.Reader}
}

// start hands the coordinator a request.
func (s *sim) start(raw []byte) {
	s.t.Helper()
	r, err := coordinator.New(s.config(), raw, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	s.r, s.raw = r, raw
	s.do(r.Start(s.now))
}

// restart kills the coordinator and makes it again from its record.
func (s *sim) restart() {
	s.t.Helper()
	r, err := coordinator.Resume(s.config(), s.raw, s.record, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	s.r, s.asks = r, nil
	s.do(r.Start(s.now))
}

// do carries out effects: the record first.
func (s *sim) do(e coordinator.Effects) {
	if e.Record != nil {
		s.record = e.Record
		if s.crash != nil && s.crash() {
			s.restart()
			return
		}
	}
	for _, a := range e.Actions {
		switch a := a.(type) {
		case coordinator.Ask:
			s.asks = append(s.asks, a)
		case coordinator.Present:
			if have, ok := s.inbox[a.Device]; ok && a.Revision < have.Revision {
				s.t.Errorf("inbox of %s: revision %d after %d", a.Device, a.Revision, have.Revision)
			}
			s.inbox[a.Device] = a
			s.do(s.r.Presented(s.now, a, true))
		}
	}
}

// answer lets one device answer, and reports whether there was anything to.
func (s *sim) answer() bool {
	var able []int
	for i, a := range s.asks {
		if typ, ok := s.hung[a.Device]; !ok || typ != a.Type {
			able = append(able, i)
		}
	}
	if len(able) == 0 {
		return false
	}
	i := able[0]
	if s.order != nil {
		i = able[s.order.IntN(len(able))]
	}
	ask := s.asks[i]
	s.asks = append(s.asks[:i:i], s.asks[i+1:]...)
	body, err := envelope.Marshal(ask.Payload)
	if err != nil {
		s.t.Fatal(err)
	}
	d := s.devices[ask.Device]
	typ, payload, ok := d.Handle(ask.Type, body)
	if !ok {
		s.do(s.r.Silent(s.now, ask.ID, "it has no link"))
		return true
	}
	s.do(s.r.Answer(s.now, ask.ID, d.Sign(typ, payload, [16]byte{1})))
	return true
}

// waits reports whether a device was asked something that it has not answered.
func (s *sim) waits(id, typ string) bool {
	return slices.ContainsFunc(s.asks, func(a coordinator.Ask) bool { return a.Device == id && a.Type == typ })
}

// officers lets the first officer who has something to do approve it.
func (s *sim) officers() bool {
	s.t.Helper()
	for _, d := range s.sys.Genesis.Devices {
		for _, it := range s.inbox[d.ID].Items {
			if s.silent[it.Person] {
				continue
			}
			out, e, err := s.r.Approve(s.now, coordtest.Approve(s.t, s.sys, s.sys.Persons[it.Person], it.Content, s.now, ""))
			if err != nil {
				s.t.Fatalf("approval of %s at %s: %v", it.Person, d.ID, err)
			}
			if out.Device != d.ID || out.Have == 0 {
				s.t.Errorf("approval of %s: %+v", it.Person, out)
			}
			s.do(e)
			return true
		}
	}
	return false
}

// settle lets everybody do what there is to do, until nothing is.
func (s *sim) settle() api.Tracking {
	s.t.Helper()
	for range 10000 {
		if !s.answer() && !s.officers() {
			return s.r.Tracking()
		}
	}
	s.t.Fatal("the simulation does not come to rest")
	panic("")
}

// pass lets time pass, second by second, everybody acting.
func (s *sim) pass(seconds int64) api.Tracking {
	s.t.Helper()
	for range seconds {
		s.now++
		s.do(s.r.Tick(s.now))
		s.settle()
		if s.r.Idle() {
			break
		}
	}
	return s.r.Tracking()
}

func (s *sim) fault(f coordtest.Fault, devices ...string) {
	for _, d := range devices {
		s.devices[d].SetFault(f)
	}
}

// signed checks that the request came to its end.
func (s *sim) signed(t api.Tracking) {
	s.t.Helper()
	if t.State != api.StateDone || len(t.Signatures) == 0 || len(t.Documents) == 0 || t.Made != t.Need {
		s.t.Fatalf("not signed: %s: %s\n%+v", t.State, t.Text, t.Attempts)
	}
	for _, x := range t.Devices {
		if d := s.devices[x.Device]; d.Fault == coordtest.Good && x.Offered && !d.Closed(t.Request) {
			s.t.Errorf("device %s was not told that the request is closed", d.ID)
		}
	}
	for id, p := range s.inbox {
		if len(p.Items) > 0 {
			s.t.Errorf("the officers of %s are still asked", id)
		}
	}
}

func (s *sim) file(approvals string, devices ...string) []byte {
	s.t.Helper()
	return coordtest.FileRequest(s.t, s.sys, approvals, s.now, 3600, devices...)
}

func (s *sim) certificate(approvals string, devices ...string) []byte {
	s.t.Helper()
	return coordtest.CertificateRequest(s.t, s.sys, approvals, s.now, 3600, devices...)
}

// inToken makes all devices use their shares in their tokens where they can.
func inToken(g *ledger.Genesis) {
	for i := range g.Devices {
		g.Devices[i].InToken = true
	}
}

func device(i int) string { return fmt.Sprintf("device-%d", i) }
