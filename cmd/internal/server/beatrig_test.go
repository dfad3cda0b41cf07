package server

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// beatRig is a rig in which device-1 lives on beats: of source-1 at its own
// site, of source-2 and of device-4 at the other, and device-2 on source-3 at
// the first site, device-4 on source-2, which is at its own.
type beatRig struct {
	*rig
	keys     map[string]ledgertest.Pair
	sources  map[string]*testSource
	instance *heartbeat.Instance
}

const (
	testPeriod = 50 * time.Millisecond
	testLease  = 1500 * time.Millisecond
)

func newBeatRig(t *testing.T, options ...ledgertest.Option) *beatRig {
	t.Helper()
	b := &beatRig{keys: map[string]ledgertest.Pair{}, sources: map[string]*testSource{}}
	var err error
	if b.instance, err = heartbeat.NewInstance(rand.Reader); err != nil {
		t.Fatal(err)
	}
	others := map[string]*heartbeat.Instance{}
	for _, id := range []string{"device-2", "device-4"} {
		if others[id], err = heartbeat.NewInstance(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	b.rig = newRig(t, append(options, func(g *ledger.Genesis) {
		for i, site := range []string{"server-1", "server-2", "server-1"} {
			id := fmt.Sprintf("source-%d", i+1)
			k := ledgertest.NewPair(t, id)
			b.keys[id] = k
			g.Sources = append(g.Sources, ledger.Source{
				ID: id, Name: "Room " + id, Kind: ledger.SourceSatellite, Server: site,
				Sign: ledgertest.SPKI(t, k.Sign.Public()), Agree: ledgertest.SPKI(t, k.Agree.Public()), Operators: []string{ledgertest.Requester},
			})
		}
		policy := ledger.Heartbeat{
			Sources: []string{"source-1", "source-2", "device-4"}, Needed: 2,
			Period: uint64(testPeriod.Milliseconds()), Lease: uint64(testLease.Milliseconds()),
		}
		g.Devices[0].Heartbeat, g.Devices[0].Instance = &policy, b.instance.ID()
		other := policy
		other.Sources, other.Needed = []string{"source-3"}, 1
		g.Devices[1].Heartbeat, g.Devices[1].Instance = &other, others["device-2"].ID()
		third := other
		third.Sources = []string{"source-2"}
		g.Devices[3].Heartbeat, g.Devices[3].Instance = &third, others["device-4"].ID()
	})...)
	others["device-1"] = b.instance
	for id, i := range others {
		b.devices[id].Instance = i
	}
	return b
}

// testSource speaks as a source does: link, system, challenges, revocations.
type testSource struct {
	b   *beatRig
	id  string
	key ledgertest.Pair

	mu      sync.Mutex
	station *heartbeat.Station
	state   ledger.State
	systems int // how often it was told of the system to its end
	pages   int // that it was told
	links   int
	cert    []byte
	beat    *ecdsa.PrivateKey
	stop    context.CancelFunc
}

func (b *beatRig) source(id string) *testSource {
	b.t.Helper()
	s := &testSource{b: b, id: id, key: b.keys[id], beat: ledgertest.NewSigner(b.t, id+" beat")}
	var err error
	s.cert, err = heartbeat.SignKey(rand.Reader, s.key.Sign, heartbeat.Key{Source: id, Epoch: 1, Sign: ledgertest.SPKI(b.t, s.beat.Public()), Created: b.unix()})
	if err != nil {
		b.t.Fatal(err)
	}
	b.sources[id] = s
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	row := map[string]string{"source-1": "server-1", "source-2": "server-2", "source-3": "server-1"}[id]
	cfg, err := LoadConfig(b.dirs[row])
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if c, err := link.Dial(ctx, cfg.Links[0], link.Options{ID: id}); err == nil {
				s.mu.Lock()
				s.links++
				s.mu.Unlock()
				b.mu.Lock()
				b.conns[id] = c
				b.mu.Unlock()
				s.serve(ctx, c)
				c.Close()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	return s
}

func (s *testSource) serve(ctx context.Context, c *link.Conn) {
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return
		}
		h, err := envelope.Peek(frame)
		if err != nil {
			s.b.t.Errorf("source %s: %v", s.id, err)
			continue
		}
		s.mu.Lock()
		out, err := s.handle(h.Type, frame)
		s.mu.Unlock()
		if err != nil {
			s.b.t.Errorf("source %s: %s: %v", s.id, h.Type, err)
		}
		if out != nil && c.Send(ctx, out) != nil {
			return
		}
	}
}

func (s *testSource) handle(typ string, frame []byte) ([]byte, error) {
	in := heartbeat.Inputs{Now: s.b.unix(), Boot: bootNow()}
	switch typ {
	case heartbeat.TypeSystem:
		sign, agree := ledgertest.SPKI(s.b.t, s.key.Sign.Public()), ledgertest.SPKI(s.b.t, s.key.Agree.Public())
		state, page, err := heartbeat.OpenSystem(frame, s.key.Agree, s.state, envelope.Hash{}, heartbeat.Self{ID: s.id, Sign: sign, Agree: agree})
		if errors.Is(err, heartbeat.ErrNoBundle) {
			return heartbeat.SignAsk(rand.Reader, s.key.Sign, envelope.Hash{}, heartbeat.SystemAsk{Bundle: true}, in.Now)
		}
		if err != nil {
			return nil, err
		}
		s.state = state
		if s.station == nil {
			s.station, err = heartbeat.NewStation(heartbeat.StationConfig{ID: s.id, Certificate: s.cert}, state, nil)
		} else {
			err = s.station.SetLedger(state)
		}
		if err != nil {
			return nil, err
		}
		s.pages++
		if page.Height > state.Height() {
			return heartbeat.SignAsk(rand.Reader, s.key.Sign, state.System(), heartbeat.SystemAsk{After: state.Height()}, in.Now)
		}
		s.systems++
		return nil, nil
	case heartbeat.TypeChallenge:
		if s.station == nil { // the system is on its way
			return nil, nil
		}
		return answerChallenge(s.station, s.state, s.beat, s.key.Agree, frame, in)
	case heartbeat.TypeRevoke:
		return answerRevoke(s.station, s.state, s.id, s.key, frame, in)
	}
	return nil, fmt.Errorf("unexpected")
}

func answerChallenge(st *heartbeat.Station, state ledger.State, signer *ecdsa.PrivateKey, agree *ecdh.PrivateKey, frame []byte, in heartbeat.Inputs) ([]byte, error) {
	c, err := heartbeat.OpenChallenge(state, frame, agree)
	if err != nil {
		return nil, err
	}
	out, _, err := st.Answer(in, c)
	if err != nil {
		return nil, nil // replayed, or asked for nothing
	}
	return heartbeat.SealBeat(rand.Reader, signer, state, out, in.Now)
}

func answerRevoke(st *heartbeat.Station, state ledger.State, id string, key ledgertest.Pair, frame []byte, in heartbeat.Inputs) ([]byte, error) {
	v, err := heartbeat.OpenRevoke(state, id, frame, key.Agree, in.Now)
	if err != nil {
		return nil, err
	}
	r, _, err := st.TakeRevoke(in, v)
	if err != nil {
		return nil, err
	}
	return heartbeat.SealRevoked(rand.Reader, key.Sign, state, v, r, in.Now)
}

func (s *testSource) told() (systems, links int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.systems, s.links
}

var booted = time.Now().Add(-time.Hour)

func bootNow() int64 { return int64(time.Since(booted)) }

// satellite makes a device answer for others.
func (b *beatRig) satellite(id string) {
	st, err := heartbeat.NewStation(heartbeat.StationConfig{ID: id}, b.sys.State, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	d := b.sys.Devices[id]
	b.beats[id] = func(c *link.Conn, h envelope.Header, frame []byte) {
		in := heartbeat.Inputs{Now: b.unix(), Boot: bootNow()}
		var out []byte
		var err error
		switch h.Type {
		case heartbeat.TypeChallenge:
			out, err = answerChallenge(st, b.sys.State, d.Sign, d.Agree, frame, in)
		case heartbeat.TypeRevoke:
			out, err = answerRevoke(st, b.sys.State, id, d.Pair, frame, in)
		}
		if err != nil {
			b.t.Errorf("device %s: %s: %v", id, h.Type, err)
		}
		if out != nil {
			_ = c.Send(context.Background(), out)
		}
	}
}

// pulse is a device that lives on beats.
type pulse struct {
	b       *beatRig
	mu      sync.Mutex
	monitor *heartbeat.Monitor
	fresh   func() *heartbeat.Monitor
	mortal  bool // the end of its lease is its end; else it is opened again
	counter uint64
	keys    map[string]*heartbeat.VerifiedKey
	heard   map[string]int
	refused map[string]string
	last    []byte // a beat
	ask     []byte // a challenge
}

// pulse begins the heartbeat of device-1.
func (b *beatRig) pulse() *pulse {
	row, _ := b.sys.State.Device("device-1")
	kinds := map[string]string{}
	for _, id := range row.Heartbeat.Sources {
		kinds[id] = ledger.SourceSatellite
	}
	p := &pulse{
		b: b, fresh: func() *heartbeat.Monitor { return heartbeat.NewMonitor("device-1", *row.Heartbeat, kinds, bootNow()) }, keys: map[string]*heartbeat.VerifiedKey{},
		heard: map[string]int{}, refused: map[string]string{},
	}
	p.monitor = p.fresh()
	b.beats["device-1"] = func(_ *link.Conn, h envelope.Header, frame []byte) { p.take(frame) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			p.challenge(ctx)
			time.Sleep(testPeriod / 5)
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *pulse) challenge(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.monitor.Over(bootNow()) && !p.mortal { // a busy machine
		p.monitor = p.fresh()
	}
	var nonce [32]byte
	_, _ = rand.Read(nonce[:])
	c, to, due := p.monitor.Challenge(bootNow(), nonce)
	if !due {
		return
	}
	p.counter++
	c.Counter, c.Log, c.LogHead = p.counter, 1, envelope.Hash{1}
	if err := p.b.instance.Complete(rand.Reader, c); err != nil {
		p.b.t.Error(err)
	}
	frame, err := heartbeat.SealChallenge(rand.Reader, p.b.sys.Devices["device-1"].Sign, p.b.sys.State, to, c, p.b.unix())
	if err != nil {
		p.b.t.Error(err)
		return
	}
	if len(frame) > maxChallenge/16 {
		p.b.t.Errorf("a challenge has %d octets", len(frame))
	}
	p.ask = frame
	p.b.mu.Lock()
	conn := p.b.conns["device-1"]
	p.b.mu.Unlock()
	if conn != nil {
		_ = conn.Send(ctx, frame)
	}
}

func (p *pulse) take(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(frame) > maxBeat/2 {
		p.b.t.Errorf("a beat has %d octets", len(frame))
	}
	b, key, err := heartbeat.OpenBeat(p.b.sys.State, p.b.instance, "device-1", frame, p.keys)
	if err != nil {
		p.b.t.Errorf("device-1: %v", err)
		return
	}
	if key.Epoch != 0 {
		p.keys[key.Source] = key
	}
	p.last = frame
	if b.Kind == heartbeat.KindRefusal {
		p.refused[b.Source] = b.Code
	}
	if p.monitor.Accept(bootNow(), b) == nil {
		p.heard[b.Source]++
	}
}

func (p *pulse) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.monitor.Until() > bootNow()
}

func (p *pulse) count(source string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[source]
}

// eventually waits for something that takes a moment.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// revoke asks a server to silence a source for device-1.
func (b *beatRig) revoke(server, source, person string) error {
	b.t.Helper()
	reply, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	frame, digest, err := heartbeat.SealRevoke(rand.Reader, b.sys.Persons[person].Card().Sign, b.sys.State, &heartbeat.Revoke{
		Device: "device-1", Source: source, Reason: "test", Reply: reply.PublicKey().Bytes(), Created: b.unix(), Expires: b.unix() + 300,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	var out api.SourceSent
	if err := b.sendSource(server, source, frame, &out); err != nil {
		return err
	}
	said, err := heartbeat.OpenRevoked(b.sys.State, source, out.Frame, reply, digest)
	if err == nil && (said.Device != "device-1" || said.At == 0) {
		err = fmt.Errorf("%+v", said)
	}
	return err
}

func (b *beatRig) sendSource(server, source string, frame []byte, out *api.SourceSent) error {
	b.t.Helper()
	body, err := envelope.Marshal(api.SourceSend{Source: source, Frame: frame})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.send(server, api.PathSourceSend, body, out)
}

func (b *beatRig) status(server string) api.SystemStatus {
	b.t.Helper()
	var out api.SystemStatus
	if err := b.send(server, api.PathStatus, nil, &out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// statusFrame is a report of a device, sealed to its server.
func (b *beatRig) report(id string, st firmware.Status) []byte {
	b.t.Helper()
	st.Device, st.System = id, b.sys.State.System()
	st.Shares, st.Officers = slices.Clone(st.Shares), []string{}
	row, _ := b.sys.State.Device(id)
	agree, err := envelope.ParseAgreementKey(b.rows[row.Server].Agree)
	if err != nil {
		b.t.Fatal(err)
	}
	key, _ := envelope.KeyIDOf(agree)
	frame, err := envelope.Seal(rand.Reader, b.devices[id].Sign(firmware.TypeStatus, st, [16]byte{}, key), []*ecdh.PublicKey{agree})
	if err != nil {
		b.t.Fatal(err)
	}
	return frame
}

// say sends a frame over the link of a device or source.
func (b *beatRig) say(id string, frame []byte) {
	b.t.Helper()
	b.mu.Lock()
	c := b.conns[id]
	b.mu.Unlock()
	if err := c.Send(context.Background(), frame); err != nil {
		b.t.Fatal(err)
	}
}

func (b *beatRig) droppedFor(server, peer string) map[string]uint64 {
	m := b.servers[server].beats.meter(peer)
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]uint64{}
	for k, v := range m.dropped {
		out[k] = v
	}
	return out
}

func notice(now int64) ledger.Notice {
	return ledger.Notice{Text: "works on the roof", From: now, Until: now + 3600, Device: "device-5"}
}

// ask is for the first page of a system.
func (s *testSource) ask(system envelope.Hash) []byte {
	frame, err := heartbeat.SignAsk(rand.Reader, s.key.Sign, system, heartbeat.SystemAsk{Bundle: true}, s.b.unix())
	if err != nil {
		s.b.t.Fatal(err)
	}
	return frame
}
