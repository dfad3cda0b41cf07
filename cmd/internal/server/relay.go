package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// relayed is a ceremony frame on its way, or its answer, kept for a client
// that lost its connection while the device worked.
type relayed struct {
	done   chan struct{}
	frame  []byte
	err    error
	forget time.Time
}

// relay hands a frame of a ceremony to a device. The desk may speak to devices
// before there is a system; the device itself checks whether it may.
func (s *Server) relay(ctx context.Context, source string, body []byte) ([]byte, error) {
	var in api.Relay
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	h, err := relayHeader(in.Frame)
	if err != nil {
		return nil, web.Malformed(err)
	}
	if !strings.HasPrefix(h.Type, "ceremony.") {
		err := fmt.Errorf("a message of type %q is not relayed: only those of a ceremony are", h.Type)
		s.audit.refused(source, h.Type, err)
		return nil, web.Denied(err)
	}
	r, err := s.startRelay(source, in, h)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
	case <-time.After(relayWait):
		return envelope.Marshal(api.Relayed{})
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, web.Refused(r.err)
	}
	return envelope.Marshal(api.Relayed{Frame: r.frame})
}

// relayHeader reads the header of a sealed message, or of a hello, which is
// not sealed.
func relayHeader(frame []byte) (envelope.Header, error) {
	if h, err := envelope.Peek(frame); err == nil {
		return h, nil
	}
	u, err := envelope.Parse(frame)
	if err != nil {
		return envelope.Header{}, err
	}
	return u.Header(), nil
}

// startRelay sends a frame once, however often it is posted.
func (s *Server) startRelay(source string, in api.Relay, h envelope.Header) (*relayed, error) {
	key := sha256.Sum256(append([]byte(in.Device+"\x00"), in.Frame...))
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.relays {
		if !r.forget.IsZero() && time.Now().After(r.forget) {
			delete(s.relays, k)
		}
	}
	// A frame that did not reach its device may be tried again.
	if r := s.relays[key]; r != nil && (r.forget.IsZero() || r.err == nil) {
		return r, nil
	}
	if len(s.relays) >= maxRelays {
		s.forgetOldestRelay()
	}
	if len(s.relays) >= maxRelays {
		return nil, web.Busy(errors.New("too many frames are on their way"))
	}
	r := &relayed{done: make(chan struct{})}
	s.relays[key] = r
	s.spawn(func() {
		s.audit.log.Info("relay", "source", source, "device", in.Device, "type", h.Type)
		frame, err := s.exchange(s.ctx, in.Device, h.Type, h.ID, in.Frame, relayTimeout)
		s.mu.Lock()
		r.frame, r.err, r.forget = frame, err, time.Now().Add(relayKeep)
		s.mu.Unlock()
		close(r.done)
	})
	return r, nil
}

// forgetOldestRelay makes room; the caller holds the lock.
func (s *Server) forgetOldestRelay() {
	var oldest [32]byte
	var at time.Time
	for k, r := range s.relays {
		if !r.forget.IsZero() && (at.IsZero() || r.forget.Before(at)) {
			oldest, at = k, r.forget
		}
	}
	if !at.IsZero() {
		delete(s.relays, oldest)
	}
}
