package server

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// ask puts a message to a device of any site and returns its answer, a
// COSE_Sign1 by the device. body is the payload, encoded.
func (s *Server) ask(ctx context.Context, device, typ string, body []byte) ([]byte, error) {
	sys := s.system()
	if sys == nil {
		return nil, errors.New("there is no system yet")
	}
	d, ok := sys.state.Device(device)
	if !ok {
		return nil, fmt.Errorf("device %s is not in the ledger", device)
	}
	if d.Server == s.cfg.ID {
		return s.askOwn(ctx, d, typ, body)
	}
	return s.askRemote(ctx, d, typ, body)
}

// askOwn: a device obeys its own site's server alone, which signs and seals.
func (s *Server) askOwn(ctx context.Context, d ledger.Device, typ string, body []byte) ([]byte, error) {
	raw, err := s.askOnce(ctx, d, typ, body)
	if err != nil {
		return nil, err
	}
	var refusal firmware.Refusal
	if u, err := envelope.Parse(raw); err != nil || u.Header().Type != firmware.TypeRefusal ||
		envelope.Unmarshal(u.UnverifiedPayload(), &refusal) != nil || refusal.Code != firmware.CodeLedger {
		return raw, nil
	}
	// It has to catch up first; then it is asked once more.
	if err := s.catchup(ctx, d); err != nil {
		s.audit.refused(d.ID, firmware.TypeCatchup, err)
		return raw, nil
	}
	return s.askOnce(ctx, d, typ, body)
}

// catchup hands a device of this site the entries that it lacks, locked or not,
// some at a time. What the device has taken it keeps, so that one that is far
// behind gets there whatever comes between.
func (s *Server) catchup(ctx context.Context, d ledger.Device) error {
	p := s.port(d.ID)
	select {
	case p.behind <- struct{}{}: // the same entries are sent once
		defer func() { <-p.behind }()
	case <-ctx.Done():
		return ctx.Err()
	}
	st, err := s.tell(ctx, d, firmware.TypeStatusAsk, firmware.StatusAsk{})
	for err == nil {
		entries := s.system().entries
		at := st.Height
		if at >= uint64(len(entries)) {
			return nil
		}
		if st, err = s.tell(ctx, d, firmware.TypeCatchup, firmware.Catchup{Entries: some(entries[at:])}); err == nil && st.Height <= at {
			err = fmt.Errorf("device %s takes no entries after %d", d.ID, at)
		}
	}
	return err
}

// tell puts one message to a device that is answered with its status.
func (s *Server) tell(ctx context.Context, d ledger.Device, typ string, payload any) (st firmware.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askQueued)
	defer cancel()
	body, err := envelope.Marshal(payload)
	if err != nil {
		return st, err
	}
	raw, err := s.askOnce(ctx, d, typ, body)
	if err != nil {
		return st, err
	}
	err = s.decodeAnswer(d.ID, raw, firmware.TypeStatus, &st)
	return st, err
}

// some are the first of the entries, as many as go into one message.
func some(entries [][]byte) [][]byte {
	return api.FirstOf(entries[:min(len(entries), firmware.MaxCatchup)], maxCatchup)
}

// bringUp does so unasked: when the ledger has grown, and when a device's link
// comes up. A silent device may wait for a maintenance notice.
func (s *Server) bringUp(id string) {
	d, ok := s.system().state.Device(id)
	if !ok || d.Server != s.cfg.ID {
		return
	}
	if err := s.catchup(s.ctx, d); err != nil && s.ctx.Err() == nil {
		s.audit.refused(d.ID, firmware.TypeCatchup, err)
	}
}

func (s *Server) askOnce(ctx context.Context, d ledger.Device, typ string, body []byte) ([]byte, error) {
	frame, h, err := s.toDevice(d, typ, body)
	if err != nil {
		return nil, err
	}
	timeout := askTimeout
	if typ == firmware.TypeStatusAsk {
		timeout = statusTimeout
	}
	answer, err := s.exchange(ctx, d.ID, typ, h.ID, frame, timeout)
	if err != nil {
		return nil, err
	}
	v, err := s.fromDevice(d, h.ID, answer)
	if err != nil {
		s.audit.refused(d.ID, "answer to "+typ, err)
		return nil, fmt.Errorf("answer of device %s: %w", d.ID, err)
	}
	s.audit.message("in", d.ID, v.Header(), v.Digest())
	if v.Header().Type == firmware.TypeStatus {
		if err := s.report(d, v); err != nil {
			s.audit.refused(d.ID, "answer to "+typ, err)
		}
	}
	return v.Raw(), nil
}

// toDevice signs a message and seals it to the device, or to the one-time key
// of a locked one. What a locked device has to read travels open; it holds no
// secret.
func (s *Server) toDevice(d ledger.Device, typ string, body []byte) ([]byte, envelope.Header, error) {
	sys := s.system()
	now := s.unix()
	h := envelope.Header{
		Type: typ, Version: firmware.MessageVersion, System: sys.state.System(), LedgerHead: sys.state.Head(),
		Created: now, Expires: now + answerLife,
	}
	var err error
	if h.ID, err = envelope.NewID(rand.Reader); err != nil {
		return nil, h, err
	}
	var to *ecdh.PublicKey
	switch typ {
	case firmware.TypeUnlockAsk, firmware.TypeStatusAsk, firmware.TypeCatchup:
	case firmware.TypeUnlock:
		to, err = unlockKey(body)
	default:
		to, err = envelope.ParseAgreementKey(d.Agree)
	}
	if err != nil {
		return nil, h, err
	}
	if to != nil {
		id, err := envelope.KeyIDOf(to)
		if err != nil {
			return nil, h, err
		}
		h.To = []envelope.KeyID{id}
	}
	raw, err := envelope.Sign(rand.Reader, s.keys.sign, h, body)
	if err != nil {
		return nil, h, err
	}
	if u, err := envelope.Parse(raw); err == nil {
		h = u.Header()
		s.audit.message("out", d.ID, h, u.UnverifiedDigest())
	}
	if to == nil {
		return raw, h, nil
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{to})
	return sealed, h, err
}

// unlockKey reads the one-time key that an unlock is sealed to. Nothing is
// believed for it: a wrong key is one that the device does not have.
func unlockKey(body []byte) (*ecdh.PublicKey, error) {
	var in firmware.Unlock
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	u, err := envelope.Parse(in.Offer)
	if err != nil {
		return nil, err
	}
	var o approval.UnlockOffer
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &o); err != nil {
		return nil, err
	}
	return ecdh.P256().NewPublicKey(o.Public)
}

// fromDevice opens an answer and verifies that the device gave it to the
// message with this id.
func (s *Server) fromDevice(d ledger.Device, id [16]byte, frame []byte) (*envelope.Verified, error) {
	u, err := s.unseal(frame)
	if err != nil {
		return nil, err
	}
	if u.Header().Re != id {
		return nil, errors.New("it answers another message")
	}
	if u.Header().System != s.system().state.System() {
		return nil, errors.New("it is of another system")
	}
	return verifyDevice(d, u)
}

// verifyDevice verifies a message by a device. A locked one speaks with its
// boot key.
func verifyDevice(d ledger.Device, u *envelope.Unverified) (*envelope.Verified, error) {
	spki := d.Sign
	if bootMay(u.Header().Type) && u.Header().Signer == envelope.KeyIDOfSPKI(d.Boot) {
		spki = d.Boot
	}
	key, err := envelope.ParseSigningKey(spki)
	if err != nil {
		return nil, err
	}
	return u.Verify(key)
}

// bootMay lists what a device's boot key may say.
func bootMay(typ string) bool {
	switch typ {
	case firmware.TypeStatus, firmware.TypeUnlockOffered, firmware.TypeRefusal:
		return true
	}
	return false
}

// inquire asks a device and decodes an answer of the wanted type. A refusal is
// an error.
func (s *Server) inquire(ctx context.Context, device, typ string, payload any, want string, into any) error {
	body, err := envelope.Marshal(payload)
	if err != nil {
		return err
	}
	raw, err := s.ask(ctx, device, typ, body)
	if err != nil {
		return err
	}
	return s.decodeAnswer(device, raw, want, into)
}

// decodeAnswer verifies an answer, which may have come by way of another site.
func (s *Server) decodeAnswer(device string, raw []byte, want string, into any) error {
	u, err := envelope.Parse(raw)
	if err != nil {
		return err
	}
	d, _ := s.system().state.Device(device)
	v, err := verifyDevice(d, u)
	if err != nil {
		return err
	}
	if v.Header().Type == firmware.TypeRefusal {
		var f firmware.Refusal
		if err := envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &f); err != nil {
			return err
		}
		return &RefusedError{f}
	}
	return envelope.Decode(v, want, firmware.MessageVersion, into)
}

// A RefusedError is a device's refusal.
type RefusedError struct{ firmware.Refusal }

func (e *RefusedError) Error() string { return named(theDevice(e.Device), e.Text) }

// deviceAsk is what another site may have a device of this one asked.
type deviceAsk struct {
	Type    string `cbor:"1,keyasint"`
	Payload []byte `cbor:"2,keyasint"`
}

// remoteMayAsk lists it. Unlocking and locking are for the device's own site.
func remoteMayAsk(typ string) bool {
	switch typ {
	case firmware.TypeOfferAsk, firmware.TypeTask, firmware.TypeClose, firmware.TypeCheckAsk, firmware.TypeCheckOpen,
		firmware.TypeUnlockAsk, firmware.TypeRegister, firmware.TypeRecertify, firmware.TypeInviteAsk, firmware.TypeDeal:
		return true
	}
	return false
}

func (s *Server) askRemote(ctx context.Context, d ledger.Device, typ string, body []byte) ([]byte, error) {
	msg, err := envelope.Marshal(deviceAsk{typ, body})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askQueued)
	defer cancel()
	for {
		raw, err := s.askSite(ctx, d.Server, msg, "device", d.ID)
		if err == nil {
			return raw, nil
		}
		var remote *bus.RemoteError
		if errors.As(err, &remote) {
			remote.Text = bare(theDevice(d.ID), remote.Text)
		}
		// Routes come up one after the other when this server has just started.
		if !errors.Is(err, bus.ErrNoSite) || time.Since(s.started) > siteGrace {
			return nil, &blame{theDevice(d.ID), err}
		}
		select {
		case <-time.After(siteGrace / 20):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serveDevice answers another site that asks a device of this one.
func (s *Server) serveDevice(d ledger.Device) bus.Handler {
	return func(ctx context.Context, msg []byte) ([]byte, error) {
		var in deviceAsk
		if err := envelope.Unmarshal(msg, &in); err != nil {
			return nil, err
		}
		if !remoteMayAsk(in.Type) {
			return nil, fmt.Errorf("other sites do not send %q", in.Type)
		}
		return s.askOwn(ctx, d, in.Type, in.Payload)
	}
}

// asking bounds an ask that nobody waits for with a deadline of his own.
func (s *Server) asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, askQueued+5*time.Second)
}
