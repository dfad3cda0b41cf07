package source

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

func (s *Source) arrive(ctx context.Context, a arrival) error {
	if a.frame == nil {
		s.up, s.asked = a.conn, false
		return s.glance()
	}
	s.up = a.conn
	err := s.handle(ctx, a.frame)
	if err != nil && s.dead == nil && ctx.Err() == nil {
		typ := "unreadable"
		if h, err := envelope.Peek(a.frame); err == nil {
			typ = h.Type
		}
		s.told.warn(s.log, "refused "+typ+" "+reason(err), "message refused", "type", typ, "err", err)
	}
	return nil
}

// reason keeps made-up texts from filling the list of what was told.
func reason(err error) string {
	t := err.Error()
	return t[:min(len(t), 80)]
}

func (s *Source) handle(ctx context.Context, frame []byte) error {
	h, err := envelope.Peek(frame)
	if err != nil {
		return err
	}
	if h.Type == heartbeat.TypeSystem {
		return s.takeSystem(ctx, frame)
	}
	if s.station == nil {
		return errors.New("the system is not known yet")
	}
	switch h.Type {
	case heartbeat.TypeChallenge:
		return s.challenged(ctx, frame)
	case heartbeat.TypeRevoke:
		return s.revoked(ctx, frame)
	}
	return fmt.Errorf("a source takes no message of type %.64q", h.Type)
}

func (s *Source) inputs() heartbeat.Inputs {
	return heartbeat.Inputs{Now: s.o.Now(), Boot: s.o.Clock()}
}

func (s *Source) challenged(ctx context.Context, frame []byte) error {
	c, err := heartbeat.OpenChallenge(s.state, frame, s.keys.agree)
	if err != nil {
		return err
	}
	if _, err := s.heed(); err != nil {
		return err
	}
	if err := s.takeOver(); err != nil {
		return err
	}
	before := s.known(c.Device)
	out, table, err := s.station.Answer(s.inputs(), c)
	// A table is stored also where nothing is answered: the station believes
	// from now on that it was.
	if err := s.store(table); err != nil {
		return err
	}
	if after := s.known(c.Device); after.Enrolled != before.Enrolled || after.Instance != before.Instance {
		s.log.Info("the device's officers have opened a new instance: it is the device from now on",
			"device", c.Device, "instance", fmt.Sprintf("%x", after.Instance), "opened", time.Unix(after.Enrolled, 0).UTC().Format(time.RFC3339), "log", after.Log)
	}
	if err != nil || out == nil {
		return err
	}
	if out.Beat.Kind == heartbeat.KindRefusal {
		s.told.warn(s.log, "refusal "+out.Beat.Device+" "+out.Beat.Code, "challenge refused",
			"device", out.Beat.Device, "code", out.Beat.Code, "why", out.Beat.Text)
	}
	return s.send(ctx, out)
}

func (s *Source) known(device string) heartbeat.Known {
	all := s.station.Devices()
	if i := slices.IndexFunc(all, func(k heartbeat.Known) bool { return k.Device == device }); i >= 0 {
		return all[i]
	}
	return heartbeat.Known{}
}

// due sends the one-way beats whose time has come. With the link down they are
// lost, as if on the way.
func (s *Source) due(ctx context.Context) error {
	if s.station == nil {
		return nil
	}
	if _, err := s.heed(); err != nil {
		return err
	}
	if err := s.takeOver(); err != nil {
		return err
	}
	for _, out := range s.station.Due(s.o.Clock()) {
		if err := s.send(ctx, &out); err != nil {
			return err
		}
	}
	return nil
}

// send seals a beat and hands it to the link, if nobody here has silenced the
// source for the device meanwhile.
func (s *Source) send(ctx context.Context, out *heartbeat.Out) error {
	if s.up == nil {
		return nil
	}
	frame, err := heartbeat.SealBeat(rand.Reader, s.beat.key, s.state, out, s.o.Now())
	if err != nil {
		return err
	}
	silenced, err := s.heed()
	if err != nil {
		return err
	}
	if slices.Contains(silenced, out.Beat.Device) {
		return nil
	}
	return s.up.Send(ctx, frame)
}

// revoked carries out a revocation that a person sent, and confirms it when it
// is durable.
func (s *Source) revoked(ctx context.Context, frame []byte) error {
	in := s.inputs()
	v, err := heartbeat.OpenRevoke(s.state, s.cfg.ID, frame, s.keys.agree, in.Now)
	if err != nil {
		return err
	}
	r, table, err := s.station.TakeRevoke(in, v)
	if err != nil {
		return err
	}
	if err := s.store(table); err != nil {
		return err
	}
	if table != nil {
		s.log.Warn("silenced for a device: its officers have to open it anew", "device", v.Device, "by", v.Person, "reason", v.Reason)
	}
	confirmation, err := heartbeat.SealRevoked(rand.Reader, s.keys.identity, s.state, v, r, in.Now)
	if err != nil {
		return err
	}
	if s.up == nil {
		return nil
	}
	return s.up.Send(ctx, confirmation)
}
