package heartbeat

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// Instance is a device from one start, or one lock-down, to the next: two key
// pairs that exist in its memory alone. Whoever copies a device cannot copy
// its instance.
type Instance struct {
	sign  *ecdsa.PrivateKey
	agree *ecdh.PrivateKey
	id    [16]byte
}

// NewInstance makes one.
func NewInstance(rand io.Reader) (*Instance, error) {
	sign, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, err
	}
	agree, err := ecdh.P256().GenerateKey(rand)
	if err != nil {
		return nil, err
	}
	pub, err := sign.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return &Instance{sign, agree, instanceID(pub, agree.PublicKey().Bytes())}, nil
}

// ID is the instance's name ([approval.InstanceID]).
func (i *Instance) ID() [16]byte { return i.id }

// Agree is what beats are sealed to.
func (i *Instance) Agree() *ecdh.PrivateKey { return i.agree }

func (Instance) String() string               { return "Instance(redacted)" }
func (Instance) GoString() string             { return "Instance(redacted)" }
func (i Instance) Format(f fmt.State, _ rune) { io.WriteString(f, i.String()) }

func instanceID(sign, agree []byte) [16]byte { return approval.InstanceID(sign, agree) }

// Prove puts the instance's proof into an offer that is complete but for it.
func (i *Instance) Prove(rand io.Reader, o *approval.Offer, e *approval.Enrolment) error {
	return o.Prove(rand, i.sign, i.agree.PublicKey(), e)
}

// Complete puts the instance's keys and its proof into a challenge.
func (i *Instance) Complete(rand io.Reader, c *Challenge) error {
	pub, err := i.sign.PublicKey.Bytes()
	if err != nil {
		return err
	}
	c.Sign, c.Agree, c.Proof = pub, i.agree.PublicKey().Bytes(), nil
	digest, err := c.digest()
	if err != nil {
		return err
	}
	der, err := i.sign.Sign(rand, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	c.Proof = der
	return nil
}

// digest is what the instance signs: the challenge without the proof.
func (c Challenge) digest() (envelope.Hash, error) {
	c.Proof = nil
	raw, err := envelope.Marshal(c)
	if err != nil {
		return envelope.Hash{}, err
	}
	return envelope.HashOf("privyseal beat challenge v1", raw), nil
}

// Instance is the id of the keys that a challenge names.
func (c *Challenge) Instance() [16]byte { return instanceID(c.Sign, c.Agree) }

// verifyProof checks that the instance itself made the challenge, and returns
// the key to seal beats to.
func (c *Challenge) verifyProof() (*ecdh.PublicKey, error) {
	sign, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), c.Sign)
	if err != nil {
		return nil, fmt.Errorf("instance's signature key: %w", err)
	}
	agree, err := ecdh.P256().NewPublicKey(c.Agree)
	if err != nil {
		return nil, fmt.Errorf("instance's agreement key: %w", err)
	}
	digest, err := c.digest()
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(sign, digest[:], c.Proof) {
		return nil, errors.New("the challenge is not proved by the instance that it names")
	}
	return agree, nil
}
