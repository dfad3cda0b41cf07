package approval

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// InstanceID names what a device is from one opening to the next: the hash of two public keys, uncompressed P-256 points, whose private
// halves exist in its memory alone. 128 bits are enough: who finds a second preimage speaks for another's instance, and a collision
// with oneself is no gain. Design §7.
func InstanceID(sign, agree []byte) [16]byte {
	h := envelope.HashOf("privyseal instance v1", sign, agree)
	return [16]byte(h[:16])
}

// Fingerprint is an instance's id for people, who compare what a device says of itself at its console with what they are asked to open.
func Fingerprint(instance [16]byte) string {
	return fmt.Sprintf("%x %x %x %x", instance[:2], instance[2:4], instance[4:6], instance[6:8])
}

// InstanceProof shows that a message was made by the very instance of a device that its officers, or the ceremony, opened. Whoever has
// the device's token and PIN, and not its memory, cannot make one.
type InstanceProof struct {
	// Sign and Agree are the instance's public keys, 65 bytes each.
	Sign  []byte `cbor:"1,keyasint"`
	Agree []byte `cbor:"2,keyasint"`
	// Signature is by Sign, ECDSA in ASN.1.
	Signature []byte `cbor:"3,keyasint"`
	// Enrolment is absent for the instance of the ceremony.
	Enrolment *Enrolment `cbor:"4,keyasint,omitempty"`
}

// instanceDigest is what an instance signs of an offer: all of it but the proof.
func (o Offer) instanceDigest() (envelope.Hash, error) {
	o.Proof = nil
	raw, err := envelope.Marshal(&o)
	if err != nil {
		return envelope.Hash{}, err
	}
	return envelope.HashOf("privyseal offer by instance v1", raw), nil
}

// Prove puts an instance's proof into an offer that is complete but for it. agree is the public half of its other key, e nil for the
// instance of the ceremony.
func (o *Offer) Prove(rand io.Reader, sign *ecdsa.PrivateKey, agree *ecdh.PublicKey, e *Enrolment) error {
	digest, err := o.instanceDigest()
	if err != nil {
		return err
	}
	pub, err := sign.PublicKey.Bytes()
	if err != nil {
		return err
	}
	p := &InstanceProof{Sign: pub, Agree: agree.Bytes(), Enrolment: e}
	if p.Signature, err = sign.Sign(rand, digest[:], crypto.SHA256); err != nil {
		return err
	}
	o.Proof = p
	return nil
}

// checkInstance asks of the offer of a device that lives on beats that the running device made it: a copied token could make one for
// a key of the thief's, to which officers who approve an honest request would seal the pieces of the share.
func (o *Offer) checkInstance(s ledger.State, d ledger.Device, now int64) error {
	switch p := o.Proof; {
	case d.Heartbeat == nil && p == nil:
		return nil
	case d.Heartbeat == nil:
		return errors.New("proves an instance, yet the device needs no beats")
	case p == nil:
		return errors.New("is not proved by the device's instance")
	}
	p := o.Proof
	if InstanceID(p.Sign, p.Agree) != o.Instance {
		return errors.New("is proved by another instance than it names")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), p.Sign)
	if err != nil {
		return err
	}
	digest, err := o.instanceDigest()
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(pub, digest[:], p.Signature) {
		return errors.New("is not proved by the instance that it names")
	}
	if p.Enrolment == nil {
		if o.Instance != d.Instance || d.Instance == ([16]byte{}) {
			return errors.New("is of an instance that no officers have opened")
		}
		return nil
	}
	e, err := VerifyEnrolment(s, d.ID, p.Enrolment, now)
	if err != nil {
		return err
	}
	if e.Instance != o.Instance {
		return fmt.Errorf("is of another instance than %v opened", e.Officers)
	}
	return nil
}
