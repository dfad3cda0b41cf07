package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// ErrNoLink means that a device has no link to this server now.
var ErrNoLink = errors.New("the device has no link to its message server")

// port is a device's place at this server. Devices answer one message at a
// time, so one is under way at most.
type port struct {
	turn   chan struct{} // holds a token while a message is under way
	conn   *link.Conn    // nil: no link
	up     chan struct{} // closed when the next link comes; nil while there is one
	lost   time.Time     // when the last one ended
	wanted [16]byte      // id of the message under way
	answer chan []byte
}

// listen opens the addresses where devices dial in.
func (s *Server) listen() error {
	for _, addr := range s.cfg.Links {
		l, err := link.Listen(addr, link.ListenOptions{
			ID: s.cfg.ID, Identity: &s.keys.tls, Allow: s.allowDevice, AllowKey: s.allowKey, Log: s.log,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		s.listeners = append(s.listeners, l)
		s.spawn(func() { s.accept(l) })
	}
	return nil
}

// allowDevice: before the ceremony any device may introduce itself; after it
// only those of this site.
func (s *Server) allowDevice(device string, _ pinned.Pin) error {
	if !validID.MatchString(device) {
		return errors.New("malformed device id")
	}
	sys := s.system()
	if sys == nil {
		if len(s.linked()) >= maxRelays {
			return errors.New("too many devices")
		}
		return nil
	}
	if d, ok := sys.state.Device(device); !ok || d.Server != s.cfg.ID {
		return fmt.Errorf("device %s is not of this site", device)
	}
	return nil
}

func (s *Server) allowKey(p pinned.Pin) bool {
	if len(s.devicePins) == 0 {
		return true
	}
	return pinned.Among(s.devicePins...)(p)
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

// read takes what a device sends for as long as its link lasts.
func (s *Server) read(c *link.Conn) {
	p := s.port(c.Peer())
	s.mu.Lock()
	p.conn = c
	if p.up != nil {
		close(p.up)
		p.up = nil
	}
	s.mu.Unlock()
	s.awake(c.Peer())
	defer func() {
		s.mu.Lock()
		if p.conn == c {
			p.conn, p.lost, p.up = nil, time.Now(), make(chan struct{})
		}
		s.mu.Unlock()
		c.Close()
		s.audit.log.Info("link down", "peer", c.Peer(), "error", fmt.Sprint(c.Err()))
	}()
	for {
		frame, err := c.Recv(s.ctx)
		if err != nil {
			return
		}
		// What the header says is good for finding who waits, and for no more.
		h, err := envelope.Peek(frame)
		if err != nil {
			s.audit.refused(c.Peer(), "frame", err)
			continue
		}
		s.audit.frame("from device", c.Peer(), h.Type, frame)
		s.mu.Lock()
		waiting := p.answer
		if waiting == nil || h.Re == ([16]byte{}) || h.Re != p.wanted {
			waiting = nil
		} else {
			p.answer = nil
		}
		s.mu.Unlock()
		if waiting == nil {
			s.audit.refused(c.Peer(), h.Type, errors.New("nobody waits for this answer"))
			continue
		}
		waiting <- frame
	}
}

func (s *Server) port(device string) *port {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[device]
	if p == nil {
		p = &port{turn: make(chan struct{}, 1), up: make(chan struct{}), lost: s.started}
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
	none := fmt.Errorf("%s: %w", device, ErrNoLink)
	if p == nil {
		if sys := s.system(); sys == nil {
			return nil, none // no port for whatever name a stranger says
		} else if d, ok := sys.state.Device(device); !ok || d.Server != s.cfg.ID {
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
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("device %s is busy: %w", device, ctx.Err())
	}
	defer func() { <-p.turn }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := make(chan []byte, 1)
	s.mu.Lock()
	conn := p.conn
	p.wanted, p.answer = id, answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		p.answer = nil
		s.mu.Unlock()
	}()
	if conn == nil {
		return nil, fmt.Errorf("%s: %w", device, ErrNoLink)
	}
	s.audit.frame("to device", device, typ, frame)
	if err := conn.Send(ctx, frame); err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	select {
	case out := <-answer:
		return out, nil
	case <-conn.Done():
		return nil, fmt.Errorf("device %s: the link ended before its answer: %w", device, conn.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("device %s did not answer: %w", device, ctx.Err())
	}
}
