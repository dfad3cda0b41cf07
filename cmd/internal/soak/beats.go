package soak

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	heartbeatsource "github.com/privyseal/privyseal/cmd/internal/source"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// source is a heartbeat source: a station in this process, or a process of its
// own.
type source struct {
	f   *Fleet
	row ledger.Source

	process *process // nil: the station below

	agree *ecdh.PrivateKey
	beat  *ecdsa.PrivateKey
	mu    sync.Mutex
	st    *heartbeat.Station
	conf  heartbeat.StationConfig
	wg    sync.WaitGroup
}

var kinds = map[byte]string{'m': ledger.SourceMessage, 'q': ledger.SourceSequence, 't': ledger.SourceSatellite}

func (f *Fleet) newSource(id string) (*source, error) {
	x := &source{f: f}
	operator := deviceID(0) + "a"
	if f.Source != "" {
		p := &process{id: id, program: f.Source, dir: filepath.Join(f.dir, id), take: x.arrived}
		if err := p.listen(f.sockets); err != nil {
			return nil, err
		}
		x.process = p
		row, err := heartbeatsource.Init(p.dir, heartbeatsource.Config{
			ID: id, Name: "Source " + id, Kind: kinds[id[0]], Server: serverID, Operators: []string{operator}, Link: "unix:" + p.socket,
		}, envelope.Hash{}, time.Now().Unix())
		if err != nil {
			p.close()
			return nil, err
		}
		x.row = *row
		return x, nil
	}
	keys := ledgertest.NewPair(f.t, "soak source "+id)
	x.agree, x.beat = keys.Agree, ledgertest.NewSigner(f.t, "soak beat key "+id)
	x.row = ledger.Source{
		ID: id, Name: "Source " + id, Kind: kinds[id[0]], Server: serverID, Operators: []string{operator},
		Sign: ledgertest.SPKI(f.t, keys.Sign.Public()), Agree: ledgertest.SPKI(f.t, keys.Agree.PublicKey()),
	}
	cert, err := heartbeat.SignKey(rand.Reader, keys.Sign, heartbeat.Key{
		Source: id, Epoch: 1, Sign: ledgertest.SPKI(f.t, x.beat.Public()), Created: time.Now().Unix(),
	})
	if err != nil {
		return nil, err
	}
	x.conf = heartbeat.StationConfig{ID: id, Certificate: cert}
	if x.row.Kind == ledger.SourceSequence {
		x.conf.Secret = make([]byte, 32)
		_, _ = rand.Read(x.conf.Secret) // never fails
	}
	return x, nil
}

// begin has the source beat, now that there is a system.
func (x *source) begin() error {
	if x.process == nil {
		st, err := heartbeat.NewStation(x.conf, x.f.state, nil)
		if err != nil {
			return err
		}
		x.st = st
		if x.row.Kind != ledger.SourceSatellite {
			x.wg.Go(x.run)
		}
		return nil
	}
	if err := x.process.start(nil); err != nil {
		return err
	}
	x.f.watch(x.process)
	if _, err := x.process.nextLink(x.f.ctx); err != nil {
		return err
	}
	bundle, err := envelope.Marshal(x.f.bundle)
	if err != nil {
		return err
	}
	frame, err := heartbeat.SealSystem(rand.Reader, x.f.server.Sign, x.f.state, x.row.ID, &heartbeat.System{Bundle: bundle}, time.Now().Unix())
	if err != nil {
		return err
	}
	return x.process.send(frame)
}

// challenged takes a device's challenge.
func (x *source) challenged(d *Device, frame []byte, at stamp) {
	// The device's clock was at most this when it made it.
	if !d.grant(x.row.ID, at.came) {
		return
	}
	if x.process != nil {
		_ = x.process.send(frame) // a source whose link is down hears nothing
		return
	}
	q, err := heartbeat.OpenChallenge(x.f.state, frame, x.agree)
	if err != nil {
		x.f.failed(fmt.Errorf("source %s: %w", x.row.ID, err))
		return
	}
	x.mu.Lock()
	out, _, err := x.st.Answer(heartbeat.Inputs{Now: time.Now().Unix(), Boot: bootclock.Now()}, q)
	x.mu.Unlock()
	if err == nil && out != nil {
		if out.Beat.Kind == heartbeat.KindRefusal {
			err = fmt.Errorf("refuses: %s", out.Beat.Text)
		} else {
			err = x.say(d, out)
		}
	}
	if err != nil && x.f.ctx.Err() == nil {
		x.f.failed(fmt.Errorf("source %s: %w", x.row.ID, err))
	}
}

func (x *source) say(d *Device, out *heartbeat.Out) error {
	frame, err := heartbeat.SealBeat(rand.Reader, x.beat, x.f.state, out, time.Now().Unix())
	if err != nil {
		return err
	}
	if err := d.process.send(frame); !errors.Is(err, errLink) {
		return err
	}
	return nil // a beat that is lost
}

// run sends one-way beats when they are due.
func (x *source) run() {
	for x.f.ctx.Err() == nil {
		now := bootclock.Now()
		x.mu.Lock()
		due := x.st.Due(now)
		next := x.st.Next()
		x.mu.Unlock()
		for _, out := range due {
			for _, d := range x.f.devices {
				// A slot lies in the past when its beat is made, so it grants no
				// more than one lease from now.
				if d.id == out.Beat.Device && d.grant(x.row.ID, now) {
					if err := x.say(d, &out); err != nil {
						x.f.failed(fmt.Errorf("source %s: %w", x.row.ID, err))
					}
				}
			}
		}
		wait := 20 * time.Millisecond // a series may have begun meanwhile
		if next != 0 {
			wait = min(wait, time.Duration(next-bootclock.Now()))
		}
		select {
		case <-time.After(max(wait, time.Millisecond)):
		case <-x.f.ctx.Done():
		}
	}
}

// arrived takes a frame of a source that is a process.
func (x *source) arrived(frame []byte, _ stamp) {
	h, err := envelope.Peek(frame)
	if err != nil || h.Type != heartbeat.TypeBeat {
		return
	}
	for _, to := range h.To {
		id, ok := x.f.state.Identity(to)
		if !ok || id.Kind != ledger.OwnerDevice {
			continue
		}
		for _, d := range x.f.devices {
			if d.id == id.Owner && d.grant(x.row.ID, bootclock.Now()) {
				d.bySource[x.row.ID].to.Add(int64(len(frame)))
				_ = d.process.send(frame)
			}
		}
	}
}

func (x *source) stop() error {
	if x.process == nil {
		return nil
	}
	return x.process.stop()
}

func (x *source) close() {
	if x.process != nil {
		x.process.close()
	}
	x.wg.Wait()
}
