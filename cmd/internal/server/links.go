package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// ErrNoLink means that a device has no link to this server now.
var ErrNoLink = errors.New("it has no link to its message server")

// port is the place of a device or a heartbeat source at this server. Devices
// answer one message at a time, so one is under way at most. Beats pass by it, and
// so does the question how a device is, which it answers while it works on a batch.
type port struct {
	work   lane          // messages
	status lane          // firmware.TypeStatusAsk
	behind chan struct{} // holds a token while it is being brought up to date
	conn   *link.Conn    // nil: no link
	up     chan struct{} // closed when the next link comes; nil while there is one
	lost   time.Time     // when the last one ended
	since  int64         // when that, or the next one's begin, was, for people
	ready  bool          // takes beats: a source not before it knows the system
	missed bool          // its going was an alarm
	out    *outbox
}

// lane is where messages of one kind wait for their turn at a device.
type lane struct {
	turn   chan struct{} // holds a token while a message is under way
	wanted [16]byte      // its id
	typ    string        // and its type
	answer chan []byte   // nil: nobody waits
	cut    chan string   // takes why the message is not worth waiting for
}

// laneOf is where messages of a type wait.
func (p *port) laneOf(typ string) *lane {
	if typ == firmware.TypeStatusAsk {
		return &p.status
	}
	return &p.work
}

// waits returns the lane in which the answer to a message is waited for, or nil.
func (p *port) waits(id [16]byte) *lane {
	for _, l := range []*lane{&p.work, &p.status} {
		if l.answer != nil && l.wanted == id {
			return l
		}
	}
	return nil
}

// listen opens the addresses where devices dial in.
func (s *Server) listen() error {
	for _, addr := range s.cfg.Links {
		l, err := link.Listen(addr, link.ListenOptions{
			ID: s.cfg.ID, Identity: &s.keys.tls, Allow: s.allow, AllowKey: s.allowKey, Log: s.log,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		s.listeners = append(s.listeners, l)
		s.spawn(func() { s.accept(l) })
	}
	return nil
}

// allow: before the ceremony any device or source may introduce itself, under
// whatever name; after it only those of this site.
func (s *Server) allow(id string, key pinned.Pin) error {
	if !validID.MatchString(id) {
		return errors.New("malformed id of a device or source")
	}
	sys := s.system()
	if sys == nil {
		if s.pinnedKeys(key) && !pinned.Among(s.devicePins...)(key) {
			return fmt.Errorf("server %s belongs to no system yet: heartbeat sources are let in after the ceremony", s.cfg.ID)
		}
		if len(s.linked()) >= maxRelays {
			return errors.New("too many devices")
		}
		return nil
	}
	p, err := sys.peers.own(id, s.cfg.ID)
	if err != nil {
		return err
	}
	pins := s.sourcePins
	if p.device {
		pins = s.devicePins
	}
	if s.pinnedKeys(key) && !pinned.Among(pins...)(key) {
		return fmt.Errorf("the transport key of %s %s is not among the %s pins of server %s", p.kind(), id, p.kind(), s.cfg.ID)
	}
	return nil
}

// pinnedKeys reports whether a link with this key, zero on a Unix socket, has
// to be one whose key is listed.
func (s *Server) pinnedKeys(key pinned.Pin) bool {
	return key != (pinned.Pin{}) && len(s.devicePins)+len(s.sourcePins) > 0
}

// allowKey decides on a key before anything is known of the peer's role.
func (s *Server) allowKey(p pinned.Pin) bool {
	return !s.pinnedKeys(p) || pinned.Among(s.devicePins...)(p) || pinned.Among(s.sourcePins...)(p)
}

func (s *Server) accept(l *link.Listener) {
	for {
		c, err := l.Accept(s.ctx)
		if err != nil {
			return
		}
		s.audit.log.Info("link up", "peer", c.Peer(), "source", c.Source())
		s.spawn(func() { s.read(c) })
	}
}

// read takes what a peer sends for as long as its link lasts.
func (s *Server) read(c *link.Conn) {
	id := c.Peer()
	p := s.port(id)
	s.mu.Lock()
	if p.conn == nil {
		p.since = s.unix()
	}
	p.conn, p.ready = c, false
	missed := p.missed
	p.missed = false
	if p.up != nil {
		close(p.up)
		p.up = nil
	}
	s.mu.Unlock()
	p.out.clear() // of the link before
	s.spawn(func() { s.writeBeats(c, p) })
	s.linkUp(c, missed)
	defer func() {
		s.mu.Lock()
		sys := s.system()
		last := p.conn == c && sys != nil && s.ctx.Err() == nil
		if p.conn == c {
			p.conn, p.lost, p.since, p.up = nil, time.Now(), s.unix(), make(chan struct{})
			p.missed = last
		}
		s.mu.Unlock()
		c.Close()
		s.audit.log.Info("link down", "peer", id, "error", fmt.Sprint(c.Err()))
		if last {
			s.linkAlarm(sys, id, false, c.Err())
		}
	}()
	for {
		frame, err := c.Recv(s.ctx)
		if err != nil {
			return
		}
		if !s.answers(p, id, frame) {
			s.unasked(id, frame)
		}
	}
}

// linkUp does what a link that came up is good for.
func (s *Server) linkUp(c *link.Conn, missed bool) {
	id, sys := c.Peer(), s.system()
	if sys == nil {
		return
	}
	if row, ok := sys.peers.m[id]; !ok || !row.device {
		s.spawn(func() { s.tellSystem(sys, c, id) })
	} else {
		s.ready(c)
		s.reports.linked(id)
		s.later(func() { s.awake(id) })
		// How it is, and the ledger, may have changed while nobody could be told.
		s.spawn(func() { s.bringUp(id) })
	}
	if missed {
		s.linkAlarm(sys, id, true, nil)
	}
}

// ready lets beats go to a link.
func (s *Server) ready(c *link.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[c.Peer()]; p != nil && p.conn == c {
		p.ready = true
	}
}

// answers hands a frame to who waits for it, and reports whether anybody does.
// Frames are not read that nobody can be waiting for.
func (s *Server) answers(p *port, id string, frame []byte) bool {
	s.mu.Lock()
	waiting := p.work.answer != nil || p.status.answer != nil
	s.mu.Unlock()
	if !waiting {
		return false
	}
	// What the header says is good for finding who waits, and for no more.
	h, err := envelope.Peek(frame)
	if err != nil || h.Re == ([16]byte{}) {
		return false
	}
	s.mu.Lock()
	l := p.waits(h.Re)
	if l == nil {
		s.mu.Unlock()
		return false
	}
	answer := l.answer
	l.answer = nil
	s.mu.Unlock()
	s.audit.frame("from device", id, h.Type, frame)
	answer <- frame
	return true
}

// cut ends the wait for a message by which a device was asked to sign.
func (s *Server) cut(device, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[device]
	if p == nil || p.work.answer == nil {
		return
	}
	switch p.work.typ {
	case firmware.TypeTask, firmware.TypeOfferAsk, firmware.TypeCheckAsk, firmware.TypeCheckOpen, firmware.TypePowersTask, firmware.TypeCombineTask:
		p.work.answer = nil
		p.work.cut <- why
	}
}

func (s *Server) port(device string) *port {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[device]
	if p == nil {
		p = &port{work: lane{turn: make(chan struct{}, 1)}, status: lane{turn: make(chan struct{}, 1)}, behind: make(chan struct{}, 1), up: make(chan struct{}), lost: s.started, since: s.begun, out: newOutbox()}
		s.ports[device] = p
	}
	return p
}

// linked are the devices that have a link now.
func (s *Server) linked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, p := range s.ports {
		if p.conn != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) isLinked(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[device]
	return p != nil && p.conn != nil
}

// awaitLink gives a device whose link has just ended, or whose server has just
// started, a moment to dial in. A device that is dead for longer is not waited
// for: others are to take its place at once.
func (s *Server) awaitLink(ctx context.Context, device string) (*port, error) {
	s.mu.Lock()
	p := s.ports[device]
	s.mu.Unlock()
	none := &blame{theDevice(device), ErrNoLink}
	if p == nil {
		if sys := s.system(); sys == nil {
			return nil, none // no port for whatever name a stranger says
		} else if _, err := sys.peers.own(device, s.cfg.ID); err != nil {
			return nil, none
		}
		p = s.port(device)
	}
	s.mu.Lock()
	up, left := p.up, linkGrace-time.Since(p.lost)
	s.mu.Unlock()
	if up == nil {
		return p, nil
	}
	select {
	case <-up:
		return p, nil
	case <-time.After(left):
		return nil, none
	case <-ctx.Done():
		return nil, none
	}
}

// exchange sends one frame to a device of this site and waits for the answer
// to the message with the given id. timeout counts from the device's turn.
func (s *Server) exchange(ctx context.Context, device, typ string, id [16]byte, frame []byte, timeout time.Duration) ([]byte, error) {
	p, err := s.awaitLink(ctx, device)
	if err != nil {
		return nil, err
	}
	l := p.laneOf(typ)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, &blame{theDevice(device), fmt.Errorf("it is busy: %w", ctx.Err())}
	}
	defer func() { <-l.turn }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, cut := make(chan []byte, 1), make(chan string, 1)
	s.mu.Lock()
	conn := p.conn
	l.wanted, l.typ, l.answer, l.cut = id, typ, answer, cut
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		l.answer = nil
		s.mu.Unlock()
	}()
	if conn == nil {
		return nil, &blame{theDevice(device), ErrNoLink}
	}
	s.audit.frame("to device", device, typ, frame)
	if err := conn.Send(ctx, frame); err != nil {
		return nil, &blame{theDevice(device), err}
	}
	select {
	case out := <-answer:
		return out, nil
	case why := <-cut:
		return nil, &blame{theDevice(device), fmt.Errorf("it cannot sign now: %s", why)}
	case <-conn.Done():
		return nil, &blame{theDevice(device), fmt.Errorf("the link ended before its answer: %w", conn.Err())}
	case <-ctx.Done():
		return nil, &blame{theDevice(device), silence(ctx.Err())}
	}
}
