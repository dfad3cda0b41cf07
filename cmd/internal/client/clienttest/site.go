// Package clienttest makes a system with message servers for tests of what
// people run: real HTTPS with pinned keys, the real coordinator, and emulated
// devices that check what they are asked (package coordtest). Officers' pieces
// are really sealed to their cards.
package clienttest

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Sites are the five message servers of a test system, in this process.
type Sites struct {
	*ledgertest.System
	Devices map[string]*coordtest.Device
	// Sources are the heartbeat sources, and the devices that answer as one, that
	// have a link: see AddSource.
	Sources map[string]*Source
	// Item, if not nil, alters what is put into an inbox; Offered what a device
	// answers to unlock.ask. They play a server that lies.
	Item    func(*api.InboxItem)
	Offered func(*firmware.UnlockOffered)
	// Answer, if not nil, alters what a server says of a request: it is given an
	// *api.Accepted, *api.Tracking or *api.Issued.
	Answer func(any)
	// Page, if not nil, alters what a server shows of the system.
	Page func(*api.SystemPage)

	t   testing.TB
	now atomic.Int64

	mu       sync.Mutex
	web      map[string]*web.Server
	requests map[envelope.Hash]*running
	inboxes  map[string][]entry // by key id in hex
	cursor   uint64
	pieces   map[string][]ceremony.SealedPiece // by device and share
	pins     map[string]threshold.Secret       // by device
	unlocks  map[string]*unlocking
	entries  [][]byte // of the ledger, encoded
	desks    map[string]*tolerant.Desk
	output   *tolerant.Output // at OutputSite; nil: it heard nothing yet
	issued   map[envelope.Hash]api.Issued
	task     uint64   // the last number
	todo     []func() // what coordinators and desks want done, in order
}

// Source is a heartbeat source, or a device that answers as one.
type Source struct {
	ledgertest.Pair
	Station *heartbeat.Station
	// Says, if not nil, alters its word; Signer, if not nil, signs it in its
	// place.
	Says   func(*heartbeat.Revoked)
	Signer *ecdsa.PrivateKey
	// Revoked are the revocations that reached it, Sites the servers by which
	// they came.
	Revoked, Sites []string
}

// AddSource gives a source, or a device that answers as one, its link.
func (s *Sites) AddSource(id string) *Source {
	s.t.Helper()
	x := &Source{Pair: ledgertest.NewPair(s.t, id)}
	if d := s.System.Devices[id]; d != nil {
		x.Pair = d.Pair
	}
	var err error
	if x.Station, err = heartbeat.NewStation(heartbeat.StationConfig{ID: id}, s.State, nil); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Sources[id] = x
	return x
}

// running is a request at its coordinator.
type running struct {
	site string
	r    *coordinator.Request
}

type entry struct {
	cursor  uint64
	request envelope.Hash
	device  string
	sealed  []byte
}

// unlocking is a locked device's one-time key, and what officers gave for it.
type unlocking struct {
	key    *ecdh.PrivateKey
	raw    []byte
	digest envelope.Hash
	given  map[string]share.Piece // by person
}

// New starts the sites of a test system. Options change the genesis, but for
// the servers' addresses and keys.
func New(t testing.TB, options ...ledgertest.Option) *Sites {
	t.Helper()
	s := &Sites{
		t: t, web: map[string]*web.Server{}, requests: map[envelope.Hash]*running{}, inboxes: map[string][]entry{},
		pieces: map[string][]ceremony.SealedPiece{}, pins: map[string]threshold.Secret{}, unlocks: map[string]*unlocking{},
		Devices: map[string]*coordtest.Device{}, Sources: map[string]*Source{},
		desks: map[string]*tolerant.Desk{}, issued: map[envelope.Hash]api.Issued{},
	}
	dir := t.TempDir()
	addresses := func(g *ledger.Genesis) {
		for i := range g.Servers {
			x := &g.Servers[i]
			id, err := pinned.LoadIdentity(filepath.Join(dir, x.ID))
			if err != nil {
				t.Fatal(err)
			}
			pin, err := pinned.PinOfIdentity(id)
			if err != nil {
				t.Fatal(err)
			}
			srv, err := web.Listen(web.Config{
				Listen: "127.0.0.1:0", Identity: id, Routes: s.routes(x.ID), Polls: map[string]web.PollHandler{
					api.PathTracking: s.tracking, api.PathInbox: s.inbox,
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { srv.Close() })
			s.web[x.ID] = srv
			x.TLS, x.URL = envelope.Hash(pin), srv.URL()
		}
	}
	instances := map[string]*heartbeat.Instance{}
	alive := func(g *ledger.Genesis) {
		for i := range g.Devices {
			d := &g.Devices[i]
			if d.Heartbeat == nil {
				continue
			}
			made, err := heartbeat.NewInstance(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			instances[d.ID], d.Instance = made, made.ID()
		}
	}
	s.mu.Lock() // handlers wait until the system is there
	defer s.mu.Unlock()
	s.System = ledgertest.New(t, append(options, addresses, alive)...)
	s.now.Store(s.System.Now)
	for _, d := range s.Genesis.Devices {
		s.Devices[d.ID] = coordtest.NewDevice(t, s.System, d.ID, s.now.Load)
		s.Devices[d.ID].Instance = instances[d.ID]
		s.pins[d.ID] = s.newPIN()
	}
	return s
}

// Clock is the time of the system, which stands.
func (s *Sites) Clock() time.Time { return time.Unix(s.now.Load(), 0) }

// Pass lets time pass.
func (s *Sites) Pass(seconds int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Add(seconds)
	for _, x := range s.requests {
		s.do(x, x.r.Tick(s.now.Load()))
	}
	for site, desk := range s.desks {
		s.desk(site, desk.Tick(s.now.Load()))
	}
	s.settle()
}

// Stop ends a message server.
func (s *Sites) Stop(id string) { s.web[id].Close() }

// Requests are the digests of all requests.
func (s *Sites) Requests() []envelope.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []envelope.Hash
	for d := range s.requests {
		out = append(out, d)
	}
	return out
}

func (s *Sites) routes(site string) map[string]web.Handler {
	h := func(f func(site string, body []byte) (any, error)) web.Handler {
		return func(_ context.Context, _ string, body []byte) ([]byte, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			out, err := f(site, body)
			if err != nil {
				return nil, err
			}
			return envelope.Marshal(out)
		}
	}
	return map[string]web.Handler{
		api.PathSystemShow: h(s.show), api.PathRequest: h(s.request), api.PathApproval: h(s.approval),
		api.PathUnlockAsk: h(s.unlockAsk), api.PathUnlock: h(s.unlock), api.PathStatus: h(s.status),
		api.PathSourceSend: h(s.sendSource), api.PathIssued: h(s.showIssued),
	}
}

func (s *Sites) show(_ string, body []byte) (any, error) {
	var ask api.SystemAsk
	if err := envelope.Unmarshal(body, &ask); err != nil {
		return nil, web.Malformed(err)
	}
	b, err := envelope.Marshal(s.Bundle)
	page := api.PageOf(b, s.State, s.entries, ask)
	if s.Page != nil {
		s.Page(page)
	}
	return page, err
}

// open opens what was sealed to a server.
func (s *Sites) open(site string, sealed []byte) ([]byte, error) {
	raw, err := envelope.Open(sealed, s.Servers[site].Agree)
	if err != nil {
		return nil, web.Malformed(err)
	}
	return raw, nil
}

func (s *Sites) request(site string, body []byte) (any, error) {
	raw, err := s.open(site, body)
	if err != nil {
		return nil, err
	}
	r, err := coordinator.New(s.config(site), raw, s.now.Load())
	if err != nil {
		return nil, web.Refused(err)
	}
	x := &running{site: site, r: r}
	s.requests[r.Digest()] = x
	s.do(x, r.Start(s.now.Load()))
	out := &api.Accepted{Request: r.Digest()}
	if s.Answer != nil {
		s.Answer(out)
	}
	return out, nil
}

func (s *Sites) approval(site string, body []byte) (any, error) {
	raw, err := s.open(site, body)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, web.Malformed(err)
	}
	var a approval.Approval
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil {
		return nil, web.Malformed(err)
	}
	x := s.requests[a.Request]
	if x == nil {
		return nil, web.NotFound(errors.New("no such request"))
	}
	out, e, err := x.r.Approve(s.now.Load(), raw)
	s.do(x, e)
	if err != nil {
		return nil, web.Refused(err)
	}
	return out, nil
}

// do carries out what a coordinator wants, until nobody wants anything more.
func (s *Sites) do(x *running, e coordinator.Effects) {
	s.carry(x, e)
	s.settle()
}

func (s *Sites) settle() {
	for len(s.todo) > 0 {
		f := s.todo[0]
		s.todo = s.todo[1:]
		f()
	}
}

// exchange asks a device.
func (s *Sites) exchange(device, typ string, payload any) (answer []byte, ok bool) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		s.t.Error(err)
		return nil, false
	}
	d := s.Devices[device]
	typ, out, ok := d.Handle(typ, body)
	if !ok {
		return nil, false
	}
	if o, is := out.(firmware.Offered); is {
		o.Pieces = s.piecesOf(device, o.Pieces[0].Share)
		out = o
	}
	return d.Sign(typ, out, [16]byte{1}), true
}

func (s *Sites) carry(x *running, e coordinator.Effects) {
	for _, a := range e.Actions {
		switch a := a.(type) {
		case coordinator.Ask:
			s.todo = append(s.todo, func() {
				if raw, ok := s.exchange(a.Device, a.Type, a.Payload); ok {
					s.carry(x, x.r.Answer(s.now.Load(), a.ID, raw))
				} else {
					s.carry(x, x.r.Silent(s.now.Load(), a.ID, "it has no link"))
				}
			})
		case coordinator.Broadcast:
			s.broadcast(a.Packet)
		case coordinator.Present:
			s.present(x, a)
			s.carry(x, x.r.Presented(s.now.Load(), a, true))
		}
	}
}

// present puts items into inboxes, in the place of what was there.
func (s *Sites) present(x *running, p coordinator.Present) {
	for id, list := range s.inboxes {
		s.inboxes[id] = slices.DeleteFunc(list, func(e entry) bool { return e.request == x.r.Digest() && e.device == p.Device })
	}
	d, _ := s.State.Device(p.Device)
	for _, it := range p.Items {
		if s.Item != nil {
			s.Item(&it.Content)
		}
		body, err := envelope.Marshal(it.Content)
		if err != nil {
			s.t.Error(err)
			return
		}
		raw, err := envelope.Sign(rand.Reader, s.Servers[d.Server].Sign, envelope.Header{
			Type: api.TypeInboxItem, Version: api.InboxItemVersion, System: s.State.System(), Created: s.now.Load(), Expires: x.r.Expires(),
		}, body)
		if err != nil {
			s.t.Error(err)
			return
		}
		id, _ := s.State.Identity(it.Officer)
		sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{id.AgreeKey})
		if err != nil {
			s.t.Error(err)
			return
		}
		s.cursor++
		name := it.Officer.String()
		s.inboxes[name] = append(s.inboxes[name], entry{s.cursor, x.r.Digest(), p.Device, sealed})
	}
}

// wait calls f until it is content, or the poll's time is over.
func (s *Sites) wait(ctx context.Context, p web.Poll, f func() (web.Batch, error)) (web.Batch, error) {
	end := time.Now().Add(p.Wait)
	for {
		s.mu.Lock()
		b, err := f()
		s.mu.Unlock()
		if err != nil || len(b) > 0 || time.Now().After(end) || ctx.Err() != nil {
			return b, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Sites) tracking(ctx context.Context, _ string, p web.Poll) (web.Batch, error) {
	return s.wait(ctx, p, func() (web.Batch, error) {
		digest, err := envelope.ParseHash(p.Inbox)
		if err != nil {
			return nil, web.Malformed(err)
		}
		x := s.requests[digest]
		if x == nil {
			return nil, web.NotFound(errors.New("no such request"))
		}
		t := x.r.Tracking()
		if t.Revision <= p.Since {
			return nil, nil
		}
		if s.Answer != nil {
			s.Answer(&t)
		}
		b, err := envelope.Marshal(t)
		return web.Batch{{Cursor: t.Revision, Body: b}}, err
	})
}

func (s *Sites) inbox(ctx context.Context, _ string, p web.Poll) (web.Batch, error) {
	return s.wait(ctx, p, func() (web.Batch, error) {
		var b web.Batch
		for _, e := range s.inboxes[p.Inbox] {
			if e.cursor > p.Since {
				b = append(b, web.Message{Cursor: e.cursor, Body: e.sealed})
			}
		}
		return b, nil
	})
}

func (s *Sites) status(site string, _ []byte) (any, error) {
	out := api.SystemStatus{System: s.State.System(), Name: s.State.Name(), Head: s.State.Head(), Server: site, Now: s.now.Load()}
	for _, x := range s.State.Servers() {
		y := api.ServerStatus{ID: x.ID, Name: x.Name, Version: "test", Devices: []api.DeviceStatus{}}
		for _, d := range s.State.Devices() {
			if d.Server != x.ID {
				continue
			}
			j := api.DeviceStatus{Device: d.ID, Name: d.Name, Linked: true}
			if s.Devices[d.ID].Fault == coordtest.Silent {
				j.Silent, j.Text = true, "no answer in time"
			} else {
				j.Status = &firmware.Status{
					Device: d.ID, Name: d.Name, Phase: firmware.PhaseReady, System: s.State.System(), Firmware: d.Firmware,
					LedgerHead: s.State.Head(), Use: "in host", Shares: []string{"x"}, Officers: []string{},
				}
			}
			y.Devices = append(y.Devices, j)
		}
		out.Servers = append(out.Servers, y)
	}
	return out, nil
}

// sendSource does what a message server and a source do with a revocation.
func (s *Sites) sendSource(site string, body []byte) (any, error) {
	var in api.SourceSend
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	x := s.Sources[in.Source]
	if x == nil {
		return nil, web.Refused(fmt.Errorf("source %s has no link to its message server", in.Source))
	}
	now := s.now.Load()
	v, err := heartbeat.OpenRevoke(s.State, in.Source, in.Frame, x.Agree, now)
	if err != nil {
		return nil, web.Refused(err)
	}
	x.Revoked = append(x.Revoked, v.Device+" by "+v.Person+": "+v.Reason)
	x.Sites = append(x.Sites, site)
	r, _, err := x.Station.TakeRevoke(heartbeat.Inputs{Now: now, Boot: 1}, v)
	if err != nil {
		return nil, web.Refused(err)
	}
	if x.Says != nil {
		x.Says(r)
	}
	signer := x.Sign
	if x.Signer != nil {
		signer = x.Signer
	}
	frame, err := heartbeat.SealRevoked(rand.Reader, signer, s.State, v, r, now)
	return api.SourceSent{Frame: frame}, err
}
