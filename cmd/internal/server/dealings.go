package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// invite is POST /v1/dealing/invite: a device makes a one-time key for a share
// of an enterprise's authority. The key is signed by the device; what it is
// worth the distributor finds out, which has no network.
func (s *Server) invite(ctx context.Context, source string, body []byte) ([]byte, error) {
	var in api.Invite
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	var out firmware.Invited
	return s.dealWith(ctx, source, in.Device, firmware.TypeInviteAsk, firmware.InviteAsk{Enterprise: in.Enterprise}, firmware.TypeInvited, &out)
}

// install is POST /v1/dealing/install: a device gets its share. It verifies
// the dealing and its operator, and cannot use the share before the ledger has
// the dealing.
func (s *Server) install(ctx context.Context, source string, body []byte) ([]byte, error) {
	var in api.Install
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	if n := len(in.Dealing) + len(in.Sealed); n > maxDealing {
		return nil, web.Malformed(fmt.Errorf("the dealing and the share have %d octets, at most %d travel", n, maxDealing))
	}
	var out firmware.Dealt
	return s.dealWith(ctx, source, in.Device, firmware.TypeDeal, firmware.Deal{Dealing: in.Dealing, Sealed: in.Sealed}, firmware.TypeDealt, &out)
}

// dealWith asks a device of whatever site and returns its answer as it is, if
// it is of the wanted type and the device's own.
func (s *Server) dealWith(ctx context.Context, source, device, typ string, payload any, want string, into any) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	if _, ok := sys.state.Device(device); !ok {
		return nil, web.Refused(fmt.Errorf("device %q is not in the ledger", device))
	}
	select {
	case s.dealings <- struct{}{}:
		defer func() { <-s.dealings }()
	default:
		return nil, web.Busy(errors.New("too many dealings are on their way"))
	}
	msg, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	s.audit.log.Info("dealing", "source", source, "device", device, "type", typ)
	raw, err := s.ask(ctx, device, typ, msg)
	if err == nil {
		err = s.decodeAnswer(device, raw, want, into)
	}
	if err != nil {
		s.audit.refused(source, typ, err)
		return nil, web.Refused(err)
	}
	return envelope.Marshal(api.DeviceAnswer{Answer: raw})
}
