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

func (s *testSource) told() (systems, links int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.systems, s.links
}

var booted = time.Now().Add(-time.Hour)

func bootNow() int64 { return int64(time.Since(booted)) }

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
