package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// tellSystem says to a source of this site how long the ledger is, when its link
// comes up and whenever the ledger has grown: it has no other way to learn of it,
// and asks for what it lacks.
func (s *Server) tellSystem(sys *system, c *link.Conn, source string) {
	height := sys.state.Height()
	if s.sendSystem(sys, c, source, &heartbeat.System{After: height, Height: height}) {
		s.ready(c)
	}
}

func (s *Server) sendSystem(sys *system, c *link.Conn, source string, page *heartbeat.System) bool {
	frame, err := heartbeat.SealSystem(rand.Reader, s.keys.sign, sys.state, source, page, s.unix())
	if err == nil {
		s.audit.frame("to source", source, heartbeat.TypeSystem, frame)
		err = c.Send(s.ctx, frame)
	}
	if err != nil {
		s.audit.refused(source, heartbeat.TypeSystem, err)
	}
	return err == nil
}

// isAsk finds out whether a source asks for a page of the system.
func isAsk(from peer, frame []byte) bool {
	if from.device || len(frame) > maxAsk {
		return false
	}
	u, err := envelope.Parse(frame)
	return err == nil && u.Header().Type == heartbeat.TypeSystemAsk
}

// askedSystem gives a source the page of the system that it asks for. One is on
// its way at a time: whoever asks faster than his link takes it is not heard.
func (s *Server) askedSystem(sys *system, from peer, frame []byte) error {
	ask, err := heartbeat.OpenAsk(sys.state, from.id, frame)
	if err != nil {
		return errForged
	}
	s.mu.Lock()
	p := s.ports[from.id]
	s.mu.Unlock()
	if p == nil {
		return errNoLink
	}
	select {
	case p.behind <- struct{}{}:
	default:
		return errFlood
	}
	s.spawn(func() {
		defer func() { <-p.behind }()
		s.mu.Lock()
		c := p.conn
		s.mu.Unlock()
		if c == nil {
			return
		}
		page := heartbeat.System{After: ask.After, Height: sys.state.Height()}
		if ask.Bundle {
			page.Bundle = sys.bundle
		}
		if ask.After < page.Height && len(page.Bundle) < maxCatchup {
			page.Entries = some(sys.entries[ask.After:])
		} else if ask.After > page.Height {
			page.After = page.Height
		}
		s.sendSystem(sys, c, from.id, &page)
	})
	return nil
}

// regard looks at all links anew, since the ledger has changed: it ends those
// of peers that are not of this site, and tells the sources.
func (s *Server) regard(sys *system) {
	s.mu.Lock()
	conns := map[string]*link.Conn{}
	for id, p := range s.ports {
		if p.conn != nil {
			conns[id] = p.conn
		}
	}
	s.mu.Unlock()
	for id, c := range conns {
		if err := s.allow(id, c.PeerKey()); err != nil {
			s.audit.refused(id, "link", err)
			s.spawn(func() { c.Close() })
		} else if sys.peers.m[id].device {
			s.ready(c)
			s.spawn(func() { s.bringUp(id) })
		} else {
			s.spawn(func() { s.tellSystem(sys, c, id) })
		}
	}
}

// sourceStatus is how the sources of a site are, as their links tell.
func (s *Server) sourceStatus(sys *system) []api.SourceStatus {
	out := []api.SourceStatus{}
	for _, row := range sys.state.Sources() {
		if row.Server != s.cfg.ID {
			continue
		}
		x := api.SourceStatus{ID: row.ID, Name: row.Name, Kind: row.Kind, Devices: sys.peers.dependents(row.ID), Since: s.begun}
		s.mu.Lock()
		if p := s.ports[row.ID]; p != nil {
			x.Linked, x.Since = p.conn != nil, p.since
		}
		s.mu.Unlock()
		out = append(out, x)
	}
	return out
}

// silentSources stand for those of a site that does not answer.
func silentSources(sys *system, site string) []api.SourceStatus {
	out := []api.SourceStatus{}
	for _, row := range sys.state.Sources() {
		if row.Server == site {
			out = append(out, api.SourceStatus{ID: row.ID, Name: row.Name, Kind: row.Kind, Devices: sys.peers.dependents(row.ID), Silent: true})
		}
	}
	return out
}

// sendSource is POST /v1/source/send: a revocation for a source of whatever
// site, or for a device that answers as one.
func (s *Server) sendSource(ctx context.Context, from string, body []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	var in api.SourceSend
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	if _, err := mayRevoke(sys, in); err != nil {
		s.audit.refused(from, heartbeat.TypeRevoke, err)
		return nil, web.Denied(err)
	}
	s.audit.frame("from person", from, heartbeat.TypeRevoke, in.Frame)
	out, err := s.revoke(ctx, sys, in)
	if err != nil {
		s.audit.refused(from, heartbeat.TypeRevoke, err)
		return nil, web.Refused(err)
	}
	return envelope.Marshal(api.SourceSent{Frame: out})
}

// mayRevoke looks at what can be seen from outside: the type, to whom it is
// sealed, and that somebody's card signed it. The rest is for the source.
func mayRevoke(sys *system, in api.SourceSend) (envelope.Header, error) {
	if len(in.Frame) > maxBeat {
		return envelope.Header{}, errSize
	}
	h, err := envelope.Peek(in.Frame)
	if err != nil {
		return h, err
	}
	p, ok := sys.peers.m[in.Source]
	id, known := sys.state.Identity(h.Signer)
	switch {
	case !ok:
		return h, fmt.Errorf("%.64q is neither a source nor a device of this system", in.Source)
	case h.Type != heartbeat.TypeRevoke:
		return h, fmt.Errorf("a message of type %q is not brought to sources: only %q is", h.Type, heartbeat.TypeRevoke)
	case !slices.Equal(h.To, []envelope.KeyID{p.agree}):
		return h, fmt.Errorf("the message is not sealed to %s", in.Source)
	case !known || id.Kind != ledger.OwnerPerson || id.Use != ledger.UseSign:
		return h, fmt.Errorf("key %s is not the signature key of anybody's card", h.Signer)
	}
	return h, nil
}

// revoke brings a revocation to the source's site.
func (s *Server) revoke(ctx context.Context, sys *system, in api.SourceSend) ([]byte, error) {
	site := sys.peers.m[in.Source].server
	if site == s.cfg.ID {
		return s.revokeHere(ctx, sys, in)
	}
	msg, err := envelope.Marshal(in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	return s.askSite(ctx, site, msg, "source")
}

// serveSource takes a revocation from another site.
func (s *Server) serveSource(ctx context.Context, msg []byte) ([]byte, error) {
	sys := s.system()
	var in api.SourceSend
	if err := envelope.Unmarshal(msg, &in); err != nil {
		return nil, err
	}
	if _, err := mayRevoke(sys, in); err != nil {
		return nil, err
	}
	if _, err := sys.peers.own(in.Source, s.cfg.ID); err != nil {
		return nil, err
	}
	s.audit.frame("from site", in.Source, heartbeat.TypeRevoke, in.Frame)
	return s.revokeHere(ctx, sys, in)
}

// revokeHere puts a revocation to a source of this site and waits for its word.
// It does not wait for a device's turn: what is under way there may be what is
// to be stopped.
func (s *Server) revokeHere(ctx context.Context, sys *system, in api.SourceSend) ([]byte, error) {
	h, err := mayRevoke(sys, in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	key, answer := askedKey{in.Source, h.ID}, make(chan []byte, 1)
	if err := s.beats.await(key, answer); err != nil {
		return nil, err
	}
	defer s.beats.forget(key)
	p, err := s.awaitLink(ctx, in.Source)
	if errors.Is(err, ErrNoLink) {
		return nil, noSource(in.Source)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	c := p.conn
	s.mu.Unlock()
	if c == nil {
		return nil, noSource(in.Source)
	}
	s.audit.frame("to source", in.Source, heartbeat.TypeRevoke, in.Frame)
	if err := c.Send(ctx, in.Frame); err != nil {
		return nil, fmt.Errorf("source %s: %w", in.Source, err)
	}
	select {
	case frame := <-answer:
		s.audit.frame("from source", in.Source, heartbeat.TypeRevoked, frame)
		return s.revoked(sys, in.Source, frame)
	case <-c.Done():
		return nil, fmt.Errorf("source %s: the link ended before its answer: ask again, it may have been silenced", in.Source)
	case <-ctx.Done():
		return nil, fmt.Errorf("source %s did not confirm in time: ask again, it may have been silenced, or may have refused", in.Source)
	}
}

// revoked is the answer to a revocation. A device, unlike a source, says why
// not, to its server.
func (s *Server) revoked(sys *system, source string, frame []byte) ([]byte, error) {
	h, err := envelope.Peek(frame)
	if err != nil || h.Type != firmware.TypeRefusal {
		return frame, err
	}
	d, ok := sys.state.Device(source)
	if !ok {
		return nil, errRole
	}
	v, err := s.fromDevice(d, h.Re, frame)
	if err != nil {
		return nil, err
	}
	var f firmware.Refusal
	if err := envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &f); err != nil {
		return nil, err
	}
	return nil, &RefusedError{f}
}

func (b *beats) await(key askedKey, answer chan []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.asked[key]; ok {
		return errors.New("this very revocation is on its way already")
	}
	if len(b.asked) >= maxRevokes {
		return errors.New("too many revocations are on their way: try again in a moment")
	}
	b.asked[key] = answer
	return nil
}

func (b *beats) forget(key askedKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.asked, key)
}

// answered hands a source's word to who waits for it.
func (s *Server) answered(from peer, h envelope.Header, frame []byte) error {
	key := askedKey{from.id, h.Re}
	s.beats.mu.Lock()
	answer := s.beats.asked[key]
	delete(s.beats.asked, key) // there is one answer
	s.beats.mu.Unlock()
	if answer == nil {
		return errNoWaiter
	}
	answer <- frame
	return nil
}

// linkAlarm tells of a link that went or came back: for those who need a
// source's beats it matters before they are missing.
func (s *Server) linkAlarm(sys *system, id string, up bool, why error) {
	p, ok := sys.peers.m[id]
	if !ok {
		return
	}
	a := api.Alarm{At: s.unix(), Device: id}
	if !p.device {
		a.Device, a.Source = "", id
	}
	a.Text, a.Kind = fmt.Sprintf("%s %s has its link again", p.kind(), id), "link again"
	if !up {
		a.Kind = "link lost"
		a.Text = fmt.Sprintf("%s %s lost its link: %v", p.kind(), id, why)
		if devices := sys.peers.dependents(id); len(devices) > 0 {
			a.Text += fmt.Sprintf("; it cannot beat for %s", strings.Join(devices, ", "))
		}
	}
	s.alarms.raise(s, a)
}
