package firmware

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// open finds out who speaks, and verifies it. It returns the key that the
// answer is sealed to.
func (m *Machine) open(frame []byte) (*envelope.Verified, *ecdh.PublicKey, error) {
	raw := frame
	sealed := false
	if to, err := envelope.PeekRecipients(frame); err == nil {
		sealed = true
		key, err := m.recipient(to)
		if err != nil {
			return nil, nil, err
		}
		if raw, err = envelope.Open(frame, key); err != nil {
			return nil, nil, err
		}
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, nil, err
	}
	sender, to, err := m.sender(u)
	if err != nil {
		return nil, nil, err
	}
	v, err := u.Verify(sender)
	if err != nil {
		return nil, nil, err
	}
	if !sealed && !mayBeOpen(v.Header().Type) {
		return nil, nil, fmt.Errorf("a message of type %q must be sealed", v.Header().Type)
	}
	return v, to, nil
}

// mayBeOpen lists what a device takes unsealed: what comes before the sender
// knows its key, or while its token is locked and cannot open anything. None
// of it is secret.
func mayBeOpen(typ string) bool {
	switch typ {
	case ceremony.TypeHello, TypeUnlockAsk, TypeStatusAsk, TypeCatchup:
		return true
	}
	return false
}

// recipient finds the private key that a sealed frame is for.
func (m *Machine) recipient(to []envelope.KeyID) (ecdh.KeyExchanger, error) {
	own, err := envelope.KeyIDOf(m.cfg.Local.Agree)
	if err != nil {
		return nil, err
	}
	for _, id := range to {
		if id == own {
			if m.cfg.Token.Locked() {
				return nil, errors.New("sealed to the token, which is locked")
			}
			return m.cfg.Agree, nil
		}
		if m.unlocks != nil && id == m.unlocks.id {
			return m.unlocks.key, nil
		}
	}
	return nil, errors.New("sealed to somebody else")
}

// sender finds the key with which a message must be signed: this device's own
// message server once there is a system, the ceremony's desk before.
func (m *Machine) sender(u *envelope.Unverified) (*ecdsa.PublicKey, *ecdh.PublicKey, error) {
	h := u.Header()
	if h.Type == ceremony.TypeHello {
		return helloKeys(u)
	}
	inCeremony := strings.HasPrefix(h.Type, "ceremony.")
	if m.state.genesis == nil && inCeremony {
		if m.session == nil {
			return nil, nil, errors.New("no ceremony is going on; begin with hello")
		}
		o := m.session.Open()
		return o.Desk(), o.DeskAgree(), nil
	}
	if inCeremony { // the desk's word ended with the commitment
		return nil, nil, errors.New("this device has been through its ceremony")
	}
	d, ok := m.self()
	if !ok {
		return nil, nil, fmt.Errorf("a message of type %q before the ceremony", h.Type)
	}
	s, ok := m.state.ledger.Server(d.Server)
	if !ok {
		return nil, nil, fmt.Errorf("server %s is not in the ledger", d.Server)
	}
	if who := endToEnd(h.Type); who != "" {
		return m.stranger(u, who, s)
	}
	if h.System != m.state.ledger.System() {
		return nil, nil, fmt.Errorf("for another system (%s)", h.System)
	}
	sign, err := envelope.ParseSigningKey(s.Sign)
	if err != nil {
		return nil, nil, err
	}
	agree, err := envelope.ParseAgreementKey(s.Agree)
	return sign, agree, err
}

// endToEnd lists the messages that a message server only hands on, with who
// signs them.
func endToEnd(typ string) string {
	switch typ {
	case heartbeat.TypeChallenge:
		return ledger.OwnerDevice
	case heartbeat.TypeRevoke:
		return ledger.OwnerPerson
	}
	return ""
}

// stranger is the key of somebody other than the message server, which a
// refusal still goes to.
func (m *Machine) stranger(u *envelope.Unverified, who string, s ledger.Server) (*ecdsa.PublicKey, *ecdh.PublicKey, error) {
	h := u.Header()
	id, ok := m.state.ledger.Identity(h.Signer)
	if !ok || id.Kind != who || id.Use != ledger.UseSign || h.System != m.state.ledger.System() {
		return nil, nil, fmt.Errorf("a message of type %q by key %s, which is no %s's of this system", h.Type, h.Signer, who)
	}
	agree, err := envelope.ParseAgreementKey(s.Agree)
	return id.SignKey, agree, err
}

// helloKeys reads the desk's keys from the opening inside a hello. Begin
// verifies that the administrator's card named them.
func helloKeys(u *envelope.Unverified) (*ecdsa.PublicKey, *ecdh.PublicKey, error) {
	var h ceremony.Hello
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &h); err != nil {
		return nil, nil, err
	}
	open, err := envelope.Parse(h.Open)
	if err != nil {
		return nil, nil, err
	}
	var o ceremony.Open
	if err := envelope.Unmarshal(open.UnverifiedPayload(), &o); err != nil {
		return nil, nil, err
	}
	sign, err := envelope.ParseSigningKey(o.DeskSign)
	if err != nil {
		return nil, nil, err
	}
	agree, err := envelope.ParseAgreementKey(o.DeskAgree)
	return sign, agree, err
}

// answer signs and seals.
func (m *Machine) answer(c *ctx, to *ecdh.PublicKey, typ string, payload any) ([]byte, error) {
	if payload == nil {
		return nil, nil
	}
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	h, err := m.header(c, to, typ)
	if err != nil {
		return nil, err
	}
	raw, err := m.sign(c, h, body)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(c.Rand, raw, []*ecdh.PublicKey{to})
}

// sign signs with the token, or, when that is locked or gone, with the boot
// key what that may say.
func (m *Machine) sign(c *ctx, h envelope.Header, body []byte) ([]byte, error) {
	err := errors.New("the token is locked")
	if !m.cfg.Token.Locked() {
		var raw []byte
		if raw, err = envelope.Sign(c.Rand, m.cfg.Local.Sign, h, body); err == nil {
			return raw, nil
		}
	}
	switch h.Type {
	case TypeStatus, TypeUnlockOffered, TypeRefusal, TypeGenesis:
		return envelope.Sign(c.Rand, m.cfg.Boot, h, body)
	}
	return nil, err
}

func (m *Machine) header(c *ctx, to *ecdh.PublicKey, typ string) (envelope.Header, error) {
	id, err := envelope.KeyIDOf(to)
	if err != nil {
		return envelope.Header{}, err
	}
	h := envelope.Header{
		Type: typ, Version: MessageVersion, Re: c.asked.ID, To: []envelope.KeyID{id},
		Created: c.Now, Expires: c.Now + answerLife,
	}
	if m.state.genesis != nil {
		h.System, h.LedgerHead = m.state.ledger.System(), m.state.ledger.Head()
	}
	return h, nil
}
