package heartbeat

import (
	"crypto"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// SealRevoke signs a revocation with a person's card and seals it to the
// source. The caller fills in everything.
func SealRevoke(rand io.Reader, card crypto.Signer, s ledger.State, r *Revoke) (frame []byte, digest envelope.Hash, err error) {
	_, agree, err := keysOf(s, r.Source)
	if err != nil {
		return nil, digest, err
	}
	body, err := envelope.Marshal(r)
	if err != nil {
		return nil, digest, err
	}
	id, err := envelope.KeyIDOf(agree)
	if err != nil {
		return nil, digest, err
	}
	raw, err := envelope.Sign(rand, card, envelope.Header{
		Type: TypeRevoke, Version: MessageVersion, System: s.System(), To: []envelope.KeyID{id}, LedgerHead: s.Head(),
		Created: r.Created, Expires: r.Expires,
	}, body)
	if err != nil {
		return nil, digest, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, digest, err
	}
	frame, err = envelope.Seal(rand, raw, []*ecdh.PublicKey{agree})
	return frame, u.UnverifiedDigest(), err
}

// VerifiedRevoke is a revocation by somebody who may revoke.
type VerifiedRevoke struct {
	Revoke
	Person string // id
	digest envelope.Hash
	id     [16]byte
	reply  *ecdh.PublicKey
}

// OpenRevoke opens and verifies a revocation for a station.
func OpenRevoke(s ledger.State, station string, frame []byte, kx ecdh.KeyExchanger, now int64) (*VerifiedRevoke, error) {
	u, err := open(s, TypeRevoke, frame, kx)
	if err != nil {
		return nil, err
	}
	who, ok := s.Identity(u.Header().Signer)
	if !ok || who.Kind != ledger.OwnerPerson || who.Use != ledger.UseSign {
		return nil, errors.New("heartbeat: a revocation that no person's card signed")
	}
	v, err := u.Verify(who.SignKey)
	if err != nil {
		return nil, err
	}
	return VerifyRevoke(s, station, who.Owner, v, now)
}

// VerifyRevoke checks a revocation that a person's card signed.
func VerifyRevoke(s ledger.State, station, person string, v *envelope.Verified, now int64) (*VerifiedRevoke, error) {
	out := &VerifiedRevoke{Person: person, digest: v.Digest(), id: v.Header().ID}
	if err := envelope.Decode(v, TypeRevoke, MessageVersion, &out.Revoke); err != nil {
		return nil, err
	}
	if err := v.CheckFresh(now, revokeSkew); err != nil {
		return nil, err
	}
	h := v.Header()
	switch {
	case h.Created != out.Created || h.Expires != out.Expires:
		return nil, errors.New("heartbeat: header and payload of the revocation name different times")
	case h.Expires-h.Created > MaxRevokeLife:
		return nil, fmt.Errorf("heartbeat: a revocation is valid for %d s at most, not %d", MaxRevokeLife, h.Expires-h.Created)
	case out.Source != station:
		return nil, fmt.Errorf("heartbeat: a revocation for source %.64q", out.Source)
	case len(out.Reason) > maxText:
		return nil, fmt.Errorf("heartbeat: the reason has %d octets, at most %d", len(out.Reason), maxText)
	case !s.MaySilence(station, out.Device, person, now):
		return nil, fmt.Errorf("heartbeat: %s may not silence %s for device %.64q", person, station, out.Device)
	}
	var err error
	if out.reply, err = ecdh.P256().NewPublicKey(out.Reply); err != nil {
		return nil, fmt.Errorf("heartbeat: the revocation's reply key: %w", err)
	}
	return out, nil
}

// SealRevoked signs a confirmation with the source's identity key and seals it
// to whoever revoked.
func SealRevoked(rand io.Reader, identity crypto.Signer, s ledger.State, v *VerifiedRevoke, r *Revoked, now int64) ([]byte, error) {
	h := header(s, TypeRevoked, now)
	h.Re = v.id
	return seal(rand, identity, h, r, []*ecdh.PublicKey{v.reply})
}

// OpenRevoked opens and verifies a source's confirmation of a revocation.
func OpenRevoked(s ledger.State, source string, frame []byte, kx ecdh.KeyExchanger, revocation envelope.Hash) (*Revoked, error) {
	u, err := open(s, TypeRevoked, frame, kx)
	if err != nil {
		return nil, err
	}
	sign, _, err := keysOf(s, source)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(sign)
	if err != nil {
		return nil, err
	}
	var r Revoked
	if err := envelope.Decode(v, TypeRevoked, MessageVersion, &r); err != nil {
		return nil, err
	}
	if r.Source != source || r.Revocation != revocation {
		return nil, fmt.Errorf("heartbeat: source %s confirms another revocation", source)
	}
	return &r, nil
}
