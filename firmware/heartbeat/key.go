package heartbeat

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// VerifiedKey is a beat key that its source's identity key certified, or the
// key of a device's token.
type VerifiedKey struct {
	Key
	Public *ecdsa.PublicKey
}

// SignKey certifies a beat key with the source's identity key. The certificate
// names no system, for a source has its beat key before there is one; source
// and identity key are in the ledger of one system.
func SignKey(rand io.Reader, identity crypto.Signer, k Key) ([]byte, error) {
	body, err := envelope.Marshal(k)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand, identity, envelope.Header{
		Type: TypeKey, Version: MessageVersion, Created: k.Created, Expires: envelope.MaxTime,
	}, body)
}

// VerifyKey checks a certificate of a beat key. It has no end: a later epoch
// takes its place.
func VerifyKey(src ledger.Source, raw []byte) (*VerifiedKey, error) {
	identity, err := envelope.ParseSigningKey(src.Sign)
	if err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	v, err := u.Verify(identity)
	if err != nil {
		return nil, err
	}
	var k Key
	if err := envelope.Decode(v, TypeKey, MessageVersion, &k); err != nil {
		return nil, err
	}
	if k.Source != src.ID || k.Epoch == 0 {
		return nil, fmt.Errorf("heartbeat: a beat key of %.64q, epoch %d, where one of %s is expected", k.Source, k.Epoch, src.ID)
	}
	pub, err := envelope.ParseSigningKey(k.Sign)
	if err != nil {
		return nil, err
	}
	return &VerifiedKey{k, pub}, nil
}
