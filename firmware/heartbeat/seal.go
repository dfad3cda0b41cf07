package heartbeat

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// keysOf are the keys of a source, or of a device that answers as a satellite.
func keysOf(s ledger.State, id string) (sign *ecdsa.PublicKey, agree *ecdh.PublicKey, err error) {
	signSPKI, agreeSPKI := []byte(nil), []byte(nil)
	if src, ok := s.Source(id); ok {
		signSPKI, agreeSPKI = src.Sign, src.Agree
	} else if d, ok := s.Device(id); ok {
		signSPKI, agreeSPKI = d.Sign, d.Agree
	} else {
		return nil, nil, fmt.Errorf("heartbeat: %.64q is neither a source nor a device of the system", id)
	}
	if sign, err = envelope.ParseSigningKey(signSPKI); err != nil {
		return nil, nil, err
	}
	agree, err = envelope.ParseAgreementKey(agreeSPKI)
	return sign, agree, err
}

// seal signs a payload and seals it. also are recipients' keys that the header
// names for routing, and that cannot open it.
func seal(rand io.Reader, signer crypto.Signer, h envelope.Header, payload any, to []*ecdh.PublicKey, also ...*ecdh.PublicKey) ([]byte, error) {
	body, err := envelope.Marshal(payload)
	if err != nil {
		return nil, err
	}
	for _, pub := range append(to[:len(to):len(to)], also...) {
		id, err := envelope.KeyIDOf(pub)
		if err != nil {
			return nil, err
		}
		h.To = append(h.To, id)
	}
	h.Version = MessageVersion
	raw, err := envelope.Sign(rand, signer, h, body)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(rand, raw, to)
}

func header(s ledger.State, typ string, now int64) envelope.Header {
	return envelope.Header{Type: typ, System: s.System(), LedgerHead: s.Head(), Created: now, Expires: now + beatLife}
}

// open takes the seal off and reads what claims to be of a type, and of this
// system.
func open(s ledger.State, typ string, frame []byte, kx ecdh.KeyExchanger) (*envelope.Unverified, error) {
	raw, err := envelope.Open(frame, kx)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	if h := u.Header(); h.Type != typ || h.System != s.System() {
		return nil, fmt.Errorf("heartbeat: a message of type %q of system %s where %q of %s is expected", h.Type, h.System, typ, s.System())
	}
	return u, nil
}

// SealChallenge signs a challenge with the device's token and seals it to its
// sources.
func SealChallenge(rand io.Reader, token crypto.Signer, s ledger.State, to []string, c *Challenge, now int64) ([]byte, error) {
	var keys []*ecdh.PublicKey
	for _, id := range to {
		_, agree, err := keysOf(s, id)
		if err != nil {
			return nil, err
		}
		keys = append(keys, agree)
	}
	return seal(rand, token, header(s, TypeChallenge, now), c, keys)
}

// VerifiedChallenge is a challenge by a device's token and by the instance
// that it names. Only OpenChallenge and VerifyChallenge make one.
type VerifiedChallenge struct {
	Challenge
	id    [16]byte // of the message
	agree *ecdh.PublicKey
}

// OpenChallenge opens and verifies a challenge to the owner of kx.
func OpenChallenge(s ledger.State, frame []byte, kx ecdh.KeyExchanger) (*VerifiedChallenge, error) {
	u, err := open(s, TypeChallenge, frame, kx)
	if err != nil {
		return nil, err
	}
	d, ok := s.DeviceOfKey(u.Header().Signer)
	if !ok {
		return nil, errors.New("heartbeat: a challenge by no device of the system")
	}
	sign, _, err := keysOf(s, d.ID) // not the boot key: a thief of the disk has that
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(sign)
	if err != nil {
		return nil, err
	}
	return VerifyChallenge(d.ID, v)
}

// VerifyChallenge checks a challenge that the token of a device signed.
func VerifyChallenge(device string, v *envelope.Verified) (*VerifiedChallenge, error) {
	out := &VerifiedChallenge{id: v.Header().ID}
	err := envelope.Decode(v, TypeChallenge, MessageVersion, &out.Challenge)
	if err != nil {
		return nil, err
	}
	if out.Device != device {
		return nil, fmt.Errorf("heartbeat: device %s challenges in the name of %.64q", device, out.Device)
	}
	if out.agree, err = out.verifyProof(); err != nil {
		return nil, err
	}
	return out, nil
}

// Out is a beat that is to be sealed and sent.
type Out struct {
	Beat Beat
	To   *ecdh.PublicKey // the instance's
	Re   [16]byte        // the challenge's message
}

// SealBeat signs a beat with the source's beat key, or with the token of a
// device that answers as a satellite. The header names the device's permanent
// agreement key as well, by which servers find the way; it opens nothing.
func SealBeat(rand io.Reader, signer crypto.Signer, s ledger.State, o *Out, now int64) ([]byte, error) {
	_, device, err := keysOf(s, o.Beat.Device)
	if err != nil {
		return nil, err
	}
	h := header(s, TypeBeat, now)
	h.Re = o.Re
	return seal(rand, signer, h, &o.Beat, []*ecdh.PublicKey{o.To}, device)
}

// OpenBeat opens a beat that was sealed to this instance and verifies that one
// of the system's sources or devices made it. keys are the beat keys that are
// known, by source; a newer one that the beat brings is returned with it and
// is the caller's to remember. A device answers with its token's key.
func OpenBeat(s ledger.State, i *Instance, device string, frame []byte, keys map[string]*VerifiedKey) (*Beat, *VerifiedKey, error) {
	u, err := open(s, TypeBeat, frame, i.agree)
	if err != nil {
		return nil, nil, err
	}
	// Who it claims to be is read first, and believed when the signature is
	// verified with that one's key.
	var claim Beat
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &claim); err != nil {
		return nil, nil, err
	}
	key, err := beatKey(s, &claim, keys)
	if err != nil {
		return nil, nil, err
	}
	v, err := u.Verify(key.Public)
	if err != nil {
		return nil, nil, err
	}
	var b Beat
	if err := envelope.Decode(v, TypeBeat, MessageVersion, &b); err != nil {
		return nil, nil, err
	}
	if b.Device != device || b.Instance != i.id {
		return nil, nil, fmt.Errorf("heartbeat: a beat of %s for another device or instance", b.Source)
	}
	return &b, key, nil
}

// beatKey finds the key that a source speaks with: the one that is known, or
// the one that the beat brings, if it is of a later epoch.
func beatKey(s ledger.State, b *Beat, keys map[string]*VerifiedKey) (*VerifiedKey, error) {
	if d, ok := s.Device(b.Source); ok {
		pub, err := envelope.ParseSigningKey(d.Sign)
		return &VerifiedKey{Key: Key{Source: d.ID, Sign: d.Sign}, Public: pub}, err
	}
	src, ok := s.Source(b.Source)
	if !ok {
		return nil, fmt.Errorf("heartbeat: %.64q is no source of the system", b.Source)
	}
	known := keys[src.ID]
	if b.Key == nil {
		if known == nil || known.Public == nil {
			return nil, fmt.Errorf("heartbeat: the beat key of source %s is not known yet", src.ID)
		}
		return known, nil
	}
	k, err := VerifyKey(src, b.Key)
	if err != nil {
		return nil, err
	}
	if known != nil && k.Epoch < known.Epoch {
		return nil, fmt.Errorf("heartbeat: source %s speaks with its beat key %d, but has gone on to %d", src.ID, k.Epoch, known.Epoch)
	}
	return k, nil
}
