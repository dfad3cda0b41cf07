package server

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

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
