package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// machines is this site's part in the authorities in two layers: the desk of
// its calculators and combiners, and the broadcast channels between sites.
type machines struct {
	mu     sync.Mutex
	desk   *tolerant.Desk             // nil before there is a system
	served map[string]bool            // subjects
	known  map[api.IllegalTask]bool   // those that were told of
	keep   chan struct{}              // holds a token when the illegal tasks changed
	out    chan tolerant.Packet       // on their way to all sites
	lose   func(tolerant.Packet) bool // a test's: does not arrive anywhere
	lines  lines
	doubts doubts
}

// doubts are shared by the coordinators of all requests.
type doubts struct {
	mu sync.Mutex
	of *coordinator.Doubts
}

func (x *doubts) use(f func(*coordinator.Doubts)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f(x.of)
}

// lines bounds what packets write into the audit log: any site can make up as
// many as it likes.
type lines struct {
	mu     sync.Mutex
	minute time.Time
	n      int
}

// take reports whether a line may be written, and whether it is the last for
// this minute.
func (l *lines) take(now time.Time) (ok, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.n = now, 0
	}
	l.n++
	return l.n <= maxPacketLines, l.n == maxPacketLines
}

func newMachines(lose func(tolerant.Packet) bool) *machines {
	return &machines{
		served: map[string]bool{}, known: map[api.IllegalTask]bool{}, keep: make(chan struct{}, 1),
		out: make(chan tolerant.Packet, maxBroadcasts), lose: lose, doubts: doubts{of: coordinator.NewDoubts()},
	}
}

// openDesk begins the desk, with the illegal tasks that an earlier run kept.
func (s *Server) openDesk(sys *system) error {
	x := s.machines
	path := filepath.Join(s.dir, fileIllegal)
	var kept []api.IllegalTask
	data, err := os.ReadFile(path)
	if err == nil {
		err = envelope.Unmarshal(data, &kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.desk = tolerant.NewDesk(tolerant.Config{State: sys.state, Site: s.cfg.ID, Illegal: kept, Checked: s.checked})
	for _, t := range kept {
		x.known[t] = true
	}
	s.spawn(s.sendBroadcasts)
	s.spawn(s.keepIllegal)
	return nil
}

// checked is what a request's coordinator here found of its document.
func (s *Server) checked(request, head envelope.Hash, now int64) *document.Checked {
	q := s.find(request)
	if q == nil {
		return nil
	}
	return q.r.Checked(head, now)
}

// listenChannels subscribes to the channels of all enterprises that the ledger
// knows, each site for itself: every one hears every packet.
func (s *Server) listenChannels(sys *system) error {
	b := s.theBus()
	if b == nil {
		return nil // a system of one site
	}
	x := s.machines
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range sys.authorities {
		for _, channel := range tolerant.Channels {
			subject := tolerant.Subject(e.Enterprise.Code, channel)
			if x.served[subject] {
				continue
			}
			if _, err := b.Serve(subject, s.hearChannel(e.Enterprise.Code, channel)); err != nil {
				return err
			}
			x.served[subject] = true
		}
	}
	return nil
}

// grown takes everything that works by the ledger along when it has grown.
func (s *Server) grown(sys *system) error {
	s.deskStep(func(d *tolerant.Desk, now int64) tolerant.Effects { return d.Renew(now, sys.state) })
	s.outputStep(func(o *tolerant.Output, now int64) tolerant.OutputEffects { return o.Renew(now, sys.state) })
	for _, q := range s.everyRequest() {
		s.step(q, func(now int64) coordinator.Effects { return q.r.Renew(now, sys.state) })
	}
	return s.listenChannels(sys)
}

// hearChannel takes packets of another site. The bus has refused what is stale
// or too large; what a packet says is for the desk and the coordinators.
func (s *Server) hearChannel(code uint64, channel string) bus.Handler {
	return func(_ context.Context, msg []byte) ([]byte, error) {
		p, err := tolerant.Unmarshal(msg)
		switch {
		case err != nil:
		case p.Enterprise != code || p.Channel() != channel:
			err = fmt.Errorf("a packet %q of enterprise %d on channel %s of enterprise %d", p.Kind, p.Enterprise, channel, code)
		case p.Site == s.cfg.ID:
			return nil, nil // our own: we have heard it
		}
		if err != nil {
			s.packetRefused(tolerant.Subject(code, channel), err)
			return nil, err
		}
		s.packetLog("packet in", p)
		s.hear(p)
		return nil, nil
	}
}

func (s *Server) packetLog(what string, p tolerant.Packet) {
	if !s.packetLine() {
		return
	}
	s.audit.log.Info(what, "kind", p.Kind, "site", p.Site, "enterprise", p.Enterprise, "distributor", p.Distributor, "task", p.Task,
		"request", p.Request.String(), "device", p.Device)
}

func (s *Server) packetRefused(peer string, err error) {
	if s.packetLine() {
		s.audit.refused(peer, "packet", err)
	}
}

// packetLine reports whether one more line on packets may go into the audit log.
func (s *Server) packetLine() bool {
	ok, last := s.machines.lines.take(time.Now())
	if last {
		s.audit.log.Warn("more packets of this minute are not logged")
	}
	return ok
}

// hear brings a packet, of whatever site, to whom it concerns here.
func (s *Server) hear(p tolerant.Packet) {
	s.hearAtDesk(p)
	s.hearAtOutput(p)
	s.hearAtIndependentOutput(p)
}

func (s *Server) hearAtDesk(p tolerant.Packet) {
	s.deskStep(func(d *tolerant.Desk, now int64) tolerant.Effects { return d.Packet(now, p) })
}

func (s *Server) hearAtOutput(p tolerant.Packet) {
	if s.system().distributor(p.Enterprise, s.cfg.ID) != p.Distributor {
		return // the output interface is where the task came from
	}
	if q := s.find(p.Request); q != nil {
		s.step(q, func(now int64) coordinator.Effects { return q.r.Packet(now, p.Channel(), p) })
	}
}

// broadcast sends a packet to all sites, this one included. It does not wait:
// what is too much is lost, and sent again by whoever needs it.
func (s *Server) broadcast(p tolerant.Packet) {
	p.Site = s.cfg.ID
	select {
	case s.machines.out <- p:
	default:
		s.packetRefused(s.cfg.ID, errors.New("too many packets wait for the bus: one is dropped"))
	}
}

// sendBroadcasts sends what waits, in order.
func (s *Server) sendBroadcasts() {
	for {
		select {
		case p := <-s.machines.out:
			if s.machines.lose != nil && s.machines.lose(p) {
				continue
			}
			s.packetLog("packet out", p)
			s.hearAtDesk(p)
			s.hearAtIndependentOutput(p)
			s.spawn(func() { s.hearAtOutput(p) }) // it writes to the disk: the next packet does not wait for that
			if err := s.publish(p); err != nil && s.ctx.Err() == nil {
				s.packetRefused(s.cfg.ID, err)
			}
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) publish(p tolerant.Packet) error {
	b := s.theBus()
	if b == nil {
		return nil
	}
	msg, err := tolerant.Marshal(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
	defer cancel()
	return b.Publish(ctx, tolerant.Subject(p.Enterprise, p.Channel()), msg)
}

// deskStep takes one event through the desk and carries out its effects.
func (s *Server) deskStep(event func(d *tolerant.Desk, now int64) tolerant.Effects) {
	x := s.machines
	x.mu.Lock()
	if x.desk == nil || s.ctx.Err() != nil {
		x.mu.Unlock()
		return
	}
	e := event(x.desk, s.unix())
	x.mu.Unlock()
	for _, p := range e.Send {
		s.broadcast(p)
	}
	for _, a := range e.Asks {
		s.spawn(func() { s.deskAsk(a) })
	}
	if e.Keep {
		select {
		case x.keep <- struct{}{}:
		default:
		}
	}
}

// deskAsk puts a desk's message to a device of this site.
func (s *Server) deskAsk(a tolerant.Ask) {
	ctx, cancel := s.asking()
	defer cancel()
	var raw []byte
	body, err := envelope.Marshal(a.Payload)
	if err == nil {
		d, ok := s.system().state.Device(a.Device)
		if !ok || d.Server != s.cfg.ID {
			err = fmt.Errorf("device %s is not of this site", a.Device)
		} else {
			raw, err = s.askOwn(ctx, d, a.Type, body)
		}
	}
	s.deskStep(func(d *tolerant.Desk, now int64) tolerant.Effects {
		if err != nil {
			return d.Silent(now, a.ID, bare(theDevice(a.Device), err.Error()))
		}
		return d.Answer(now, a.ID, raw)
	})
}

// keepIllegal makes changes of the illegal tasks durable and tells of new ones.
// Nothing waits for it: they are for people to look at.
func (s *Server) keepIllegal() {
	for {
		select {
		case <-s.machines.keep:
		case <-s.ctx.Done():
			return
		}
		tasks := s.illegalTasks()
		if data, err := envelope.Marshal(tasks); err != nil {
			s.log.Error("illegal tasks", "err", err)
		} else if err := atomicfile.Write(filepath.Join(s.dir, fileIllegal), data, 0o600); err != nil {
			s.log.Error("illegal tasks cannot be kept", "err", err)
		}
		s.tellIllegal(tasks, s.kindOfIllegal)
		select { // whoever makes up tasks does not keep the disk busy
		case <-time.After(keepPause):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) illegalTasks() []api.IllegalTask {
	s.machines.mu.Lock()
	defer s.machines.mu.Unlock()
	if s.machines.desk == nil {
		return []api.IllegalTask{}
	}
	return append([]api.IllegalTask{}, s.machines.desk.Illegal()...)
}

func (s *Server) kindOfIllegal(t api.IllegalTask) (kind string) {
	s.atDesk(func(d *tolerant.Desk) { kind = d.KindOf(t) })
	return kind
}

// tellIllegal raises an alarm for each that is new, of one kind one in all.
func (s *Server) tellIllegal(tasks []api.IllegalTask, kind func(api.IllegalTask) string) {
	known := map[api.IllegalTask]bool{}
	for _, t := range tasks {
		known[t] = true
		if !s.machines.known[t] {
			where := ""
			if t.Device != "" {
				where = " at " + t.Device
			}
			s.alarms.raise(s, api.Alarm{
				At: s.unix(), Device: t.Device, Kind: fmt.Sprintf("illegal task of distributor %d of enterprise %d: %s", t.Distributor, t.Enterprise, cmp.Or(kind(t), t.Why)),
				Text: fmt.Sprintf("illegal task %d of distributor %d of enterprise %d%s: %s", t.Task, t.Distributor, t.Enterprise, where, t.Why),
			})
		}
	}
	s.machines.known = known
}

// tellLiars raises an alarm for each machine that a request found lying since
// it was looked at last; a machine that tells the same lie in every task has one. The caller holds the request's lock.
func (s *Server) tellLiars(q *running) {
	if !q.layers {
		return
	}
	t := q.r.Tracking()
	for _, l := range t.Liars[min(q.liars, len(t.Liars)):] {
		role := "calculator"
		if l.Layer == 2 {
			role = "combiner"
		}
		who := fmt.Sprintf("%s %d (%s) of enterprise %d", role, l.Number, l.Device, t.Enterprise)
		s.alarms.raise(s, api.Alarm{At: s.unix(), Device: l.Device, Kind: who + " " + l.Text, Text: fmt.Sprintf("%s lied in task %d: %s", who, t.Task, l.Text)})
	}
	q.liars = len(t.Liars)
}

// mayDistribute refuses a request for the key of an authority in two layers
// whose tasks this server does not give out.
func (s *Server) mayDistribute(sys *system, key string) error {
	e := sys.authorityOf(key)
	if e == nil || sys.distributor(e.Enterprise.Code, s.cfg.ID) != 0 {
		return nil
	}
	var others []string
	for _, d := range e.Distributors {
		others = append(others, d.Server)
	}
	return fmt.Errorf("server %s gives out no tasks for enterprise %d (%s), whose key %s is: hand the request to %s",
		s.cfg.ID, e.Enterprise.Code, e.Enterprise.Name, key, strings.Join(others, " or "))
}

// distribution makes the packet by which a task is given out.
func (s *Server) distribution(key *ledger.Key, request envelope.Hash, checked *document.Checked, expires int64) ([]byte, error) {
	sys := s.system()
	e := sys.authorityOf(key.ID)
	if e == nil {
		return nil, fmt.Errorf("key %s is of no authority in two layers", key.ID)
	}
	if err := s.mayDistribute(sys, key.ID); err != nil {
		return nil, err
	}
	now := s.unix()
	expires = min(expires, now+firmware.TaskPeriod) // the packet dies before its number is forgotten
	task, err := s.numbers.take(now)
	if err != nil {
		return nil, err
	}
	body, err := envelope.Marshal(firmware.Distribution{
		Enterprise: e.Enterprise.Code, Distributor: sys.distributor(e.Enterprise.Code, s.cfg.ID), Task: task, Request: request,
		Hash: checked.Digest(), Documents: uint64(len(checked.Parts())), Created: now, Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand.Reader, s.keys.sign, envelope.Header{
		Type: firmware.TypeDistribution, Version: firmware.MessageVersion, System: sys.state.System(), Key: key.ID, Epoch: key.Epoch,
		LedgerHead: sys.state.Head(), Created: now, Expires: expires,
	}, body)
}
