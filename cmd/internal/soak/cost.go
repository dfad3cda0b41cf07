package soak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Cost is what beats cost while nobody asks for a signature, in an hour.
type Cost struct {
	Policy  ledger.Heartbeat
	Took    time.Duration // measured
	Idle    Usage         // of a device that needs no beats
	Devices []Usage       // of each that does, without what Idle is
	Sources []SourceCost
}

// Usage is what a process uses in an hour.
type Usage struct {
	ID       string
	CPU      time.Duration // user and system
	From, To int64         // octets on its link, sent and received
}

// SourceCost is what one source costs, in an hour.
type SourceCost struct {
	Usage        // of its process and its own link, for all devices together
	Kind  string // of its beats
	// FromDevice and ToDevice are octets on the link of one device: the
	// challenges that go to this source, each of which goes to others as well,
	// and its beats.
	FromDevice, ToDevice int64
}

// settle is how long a fleet is left alone before it is measured.
const settle = 5 * time.Second

// Cost measures for some time what beats cost. The fleet needs sources with
// processes of their own and a device that needs no beats.
func (f *Fleet) Cost(took time.Duration) (*Cost, error) {
	if f.Source == "" || f.Free == 0 {
		return nil, errors.New("soak: the cost of beats is measured of processes, beside a device without beats")
	}
	if err := f.allSpeak(); err != nil {
		return nil, err
	}
	if err := f.rest(settle); err != nil {
		return nil, err
	}
	before, err := f.usage()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := f.rest(took); err != nil {
		return nil, err
	}
	after, err := f.usage()
	if err != nil {
		return nil, err
	}
	out := &Cost{Policy: f.Policy, Took: time.Since(begun)}
	beating := f.devices[:len(f.devices)-f.Free]
	free := f.devices[len(f.devices)-f.Free:]
	hour := func(id string) Usage { return after[id].less(before[id]).in(out.Took, 1) }
	for _, d := range free {
		u := hour(d.id)
		out.Idle = Usage{ID: d.id, CPU: out.Idle.CPU + u.CPU/time.Duration(len(free)), From: out.Idle.From + u.From/int64(len(free)), To: out.Idle.To + u.To/int64(len(free))}
	}
	for _, d := range beating {
		out.Devices = append(out.Devices, hour(d.id).less(out.Idle))
	}
	for _, id := range f.Policy.Sources {
		s := SourceCost{Usage: hour(id), Kind: f.sources[id].row.Kind}
		on := after[onDevices+id].less(before[onDevices+id]).in(out.Took, len(beating))
		s.FromDevice, s.ToDevice = on.From, on.To
		out.Sources = append(out.Sources, s)
	}
	// A device that stopped meanwhile was cheap.
	return out, f.allSpeak()
}

// allSpeak waits until every device hears all its sources.
func (f *Fleet) allSpeak() error {
	deadline := time.Now().Add(patience)
	for _, d := range f.devices[:len(f.devices)-f.Free] {
		for {
			s, err := d.status()
			if err != nil {
				return err
			}
			speak := 0
			if s.Lease != nil && s.Lease.Left > 0 {
				for _, x := range s.Lease.Sources {
					if x.State == heartbeat.StateSpeaks {
						speak++
					}
				}
			}
			if speak == len(f.Policy.Sources) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("device %s hears %d of %d sources: %+v\n%s", d.id, speak, len(f.Policy.Sources), s.Lease, d.said)
			}
			if err := f.rest(200 * time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Fleet) rest(t time.Duration) error {
	select {
	case <-time.After(t):
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// onDevices begins the names of what a source costs on the links of devices.
const onDevices = "on devices: "

func (f *Fleet) usage() (map[string]Usage, error) {
	out := map[string]Usage{}
	add := func(p *process) error {
		cpu, err := p.cpu()
		out[p.id] = Usage{ID: p.id, CPU: cpu, From: p.tap.from.Load(), To: p.tap.to.Load()}
		return err
	}
	for _, d := range f.devices {
		if err := add(&d.process); err != nil {
			return nil, err
		}
		for id, o := range d.bySource {
			u := out[onDevices+id]
			out[onDevices+id] = Usage{From: u.From + o.from.Load(), To: u.To + o.to.Load()}
		}
	}
	for _, x := range f.sources {
		if err := add(x.process); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (u Usage) less(o Usage) Usage {
	return Usage{ID: u.ID, CPU: u.CPU - o.CPU, From: u.From - o.From, To: u.To - o.To}
}

// in turns what was used in some time by so many into one's hour.
func (u Usage) in(took time.Duration, n int) Usage {
	hours := took.Hours() * float64(n)
	return Usage{ID: u.ID, CPU: time.Duration(float64(u.CPU) / hours), From: int64(float64(u.From) / hours), To: int64(float64(u.To) / hours)}
}

// FiveSources is the policy whose cost is printed: beats of all kinds in every
// second, three of five sources needed.
func FiveSources() ledger.Heartbeat {
	return ledger.Heartbeat{Sources: []string{"m1", "m2", "q1", "t1", "t2"}, Needed: 3, Period: 1000, Lease: 5000, Minimum: 2, Loss: 2}
}
