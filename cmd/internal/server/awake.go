package server

import (
	"context"
	"errors"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
)

// awake makes all coordinators ask a device of this site again at once: it came
// back, or its officers unlocked it. Without this they would find out for
// themselves, after up to ten minutes, while its officers find nothing in
// their inboxes.
func (s *Server) awake(device string) {
	s.wake(device)
	s.deskStep(func(d *tolerant.Desk, now int64) tolerant.Effects { return d.Awake(now, device) })
	sys, b := s.system(), s.theBus()
	if sys == nil || b == nil {
		return
	}
	for _, row := range sys.state.Servers() {
		if row.ID == s.cfg.ID {
			continue
		}
		s.spawn(func() {
			ctx, cancel := context.WithTimeout(s.ctx, siteTimeout)
			defer cancel()
			for {
				// A site that is not told finds out for itself. Routes come up one
				// after the other when this server has just started.
				_, err := b.Request(ctx, bus.Subject(row.ID, "awake"), []byte(device))
				if !errors.Is(err, bus.ErrNoSite) || time.Since(s.started) > siteGrace {
					return
				}
				select {
				case <-time.After(siteGrace / 20):
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func (s *Server) wake(device string) {
	for _, q := range s.everyRequest() {
		s.step(q, func(now int64) coordinator.Effects { return q.r.Awake(now, device) })
	}
}

// serveAwake hears of a device of another site. It is a hint: a coordinator
// that believes it wrongly asks once in vain.
func (s *Server) serveAwake(_ context.Context, msg []byte) ([]byte, error) {
	d, ok := s.system().state.Device(string(msg))
	if !ok {
		return nil, errors.New("no such device")
	}
	s.reports.linked(d.ID)
	s.wake(d.ID)
	return nil, nil
}
