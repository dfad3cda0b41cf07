package systemtest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// A RefusedError is a device's refusal.
type RefusedError struct{ firmware.Refusal }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("device %s refuses (%s): %s", e.Device, e.Code, e.Text)
}

// Letter is a message to a device that a test may alter before it is sent.
type Letter struct {
	Header  envelope.Header
	Payload any
	Signer  crypto.Signer
	To      *ecdh.PublicKey // nil: not sealed
}

// Letter makes a message to a device as the device's own message server does.
func (s *System) Letter(device, typ string, payload any) *Letter {
	s.t.Helper()
	d, _ := s.State.Device(device)
	now := s.Now().Unix()
	l := &Letter{
		Header: envelope.Header{
			Type: typ, Version: firmware.MessageVersion, System: s.State.System(), LedgerHead: s.State.Head(),
			Created: now, Expires: now + 300,
		},
		Payload: payload, Signer: s.Servers[device].Sign, To: agreeKey(s.t, d.Agree),
	}
	s.must(rand.Read(l.Header.ID[:]))
	if typ == firmware.TypeUnlockAsk || typ == firmware.TypeStatusAsk || typ == firmware.TypeCatchup {
		l.To = nil // a locked token opens nothing
	}
	return l
}

// Frame is the letter as it goes over the link.
func (s *System) Frame(l *Letter) []byte {
	s.t.Helper()
	body, err := envelope.Marshal(l.Payload)
	s.check(err)
	if l.To != nil {
		id, err := envelope.KeyIDOf(l.To)
		s.check(err)
		l.Header.To = []envelope.KeyID{id}
	}
	raw, err := envelope.Sign(rand.Reader, l.Signer, l.Header, body)
	s.check(err)
	if l.To == nil {
		return raw
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{l.To})
	s.check(err)
	return sealed
}

// Deliver sends a letter and returns the device's answer, opened and verified.
// A refusal is a *RefusedError; a device that does not answer is another error.
func (s *System) Deliver(device string, l *Letter) (*envelope.Verified, error) {
	s.t.Helper()
	answer, err := s.relay(device, s.Frame(l))
	if err != nil {
		return nil, err
	}
	return s.read(device, answer, l.Header.ID)
}

// read opens and verifies a device's answer.
func (s *System) read(device string, answer []byte, re [16]byte) (*envelope.Verified, error) {
	s.t.Helper()
	raw, err := envelope.Open(answer, s.Servers[device].Agree)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", device, err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	d, _ := s.State.Device(device)
	key := d.Sign
	if u.Header().Signer == envelope.KeyIDOfSPKI(d.Boot) { // locked
		key = d.Boot
	}
	v, err := u.Verify(signKey(s.t, key))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", device, err)
	}
	if v.Header().Re != re {
		return nil, fmt.Errorf("device %s answers another message", device)
	}
	if v.Header().Type == firmware.TypeRefusal {
		e := &RefusedError{}
		if err := envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &e.Refusal); err != nil {
			return nil, err
		}
		return nil, e
	}
	return v, nil
}

// Send asks a device as its own message server does; see Deliver.
func (s *System) Send(device, typ string, payload any) (*envelope.Verified, error) {
	s.t.Helper()
	return s.Deliver(device, s.Letter(device, typ, payload))
}

// Ask is Send with the answer decoded. It returns the raw answer too.
func Ask[T any](s *System, device, typ string, payload any, want string) (*T, []byte, error) {
	s.t.Helper()
	v, err := s.Send(device, typ, payload)
	if err != nil {
		return nil, nil, err
	}
	var out T
	if err := envelope.Decode(v, want, firmware.MessageVersion, &out); err != nil {
		return nil, nil, err
	}
	return &out, v.Raw(), nil
}

// Status asks a device how it is.
func (s *System) Status(device string) *firmware.Status {
	s.t.Helper()
	out, _, err := Ask[firmware.Status](s, device, firmware.TypeStatusAsk, firmware.StatusAsk{}, firmware.TypeStatus)
	s.check(err)
	return out
}

// Lock locks a device as its message server does.
func (s *System) Lock(device string) {
	s.t.Helper()
	_, err := s.Send(device, firmware.TypeLock, firmware.Lock{Device: device, Reason: "test"})
	s.check(err)
}

func (s *System) check(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatal(err)
	}
}

func (s *System) must(_ int, err error) { s.check(err) }

type fataler interface {
	Helper()
	Fatal(...any)
}

func signKey(t fataler, spki []byte) *ecdsa.PublicKey {
	t.Helper()
	k, err := envelope.ParseSigningKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func agreeKey(t fataler, spki []byte) *ecdh.PublicKey {
	t.Helper()
	k, err := envelope.ParseAgreementKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
