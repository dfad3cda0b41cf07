package virtual

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
)

// Tags of the dynamic authentication template, SP 800-73-4 Part 2 table 7.
const (
	tagTemplate  = 0x7C
	tagWitness   = 0x80
	tagChallenge = 0x81
	tagResponse  = 0x82
	tagExponent  = 0x85
)

// authenticate is GENERAL AUTHENTICATE, section 3.2.4.
func (c *Card) authenticate(cmd command) ([]byte, uint16) {
	tag, body, rest, err := readTLV(cmd.data)
	if err != nil || tag != tagTemplate || len(rest) != 0 {
		return nil, swWrongData
	}
	fields, err := readTLVs(body)
	if err != nil {
		return nil, swWrongData
	}
	for tag := range fields {
		switch tag {
		case tagWitness, tagChallenge, tagResponse, tagExponent:
		default:
			return nil, swWrongData
		}
	}
	if cmd.p2 == slotManagement {
		return c.authenticateManager(Algorithm(cmd.p1), fields)
	}
	if !keySlot(cmd.p2) || cmd.p2 == slotAttestation {
		return nil, swWrongParameters
	}
	k, private, sw := c.load(cmd.p2)
	if sw != swOK {
		return nil, sw
	}
	if Algorithm(cmd.p1) != k.Algorithm {
		return nil, swWrongParameters
	}
	if r, ok := fields[tagResponse]; !ok || len(r) != 0 {
		return nil, swWrongData
	}
	if sw := c.allow(cmd.p2, k); sw != swOK {
		return nil, sw
	}
	out, sw := operate(private, fields)
	if sw != swOK {
		return nil, sw
	}
	return tlv(tagTemplate, tlv(tagResponse, out)), swOK
}

// allow checks the policies of a key before it is used. A verified PIN serves
// one use of a key with the policy "always".
func (c *Card) allow(slot byte, k *Key) uint16 {
	switch k.PIN {
	case PINNever:
	case PINAlways:
		if !c.pinOK || !c.pinFresh {
			return swSecurityNotSatisfied
		}
		c.pinFresh = false
	default:
		if !c.pinOK {
			return swSecurityNotSatisfied
		}
	}
	switch k.Touch {
	case TouchAlways:
		if !c.touch(slot) {
			return swSecurityNotSatisfied
		}
	case TouchCached:
		// A real card remembers a touch for 15 seconds; one without a clock
		// remembers it until power-off.
		if !c.touched && !c.touch(slot) {
			return swSecurityNotSatisfied
		}
		c.touched = true
	}
	return swOK
}

// operate uses a private key: it signs or decrypts a challenge, or agrees with
// a peer's public key.
func operate(private any, fields map[uint16][]byte) ([]byte, uint16) {
	challenge, signing := fields[tagChallenge]
	peer, agreeing := fields[tagExponent]
	if signing == agreeing {
		return nil, swWrongData
	}
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if !signing || len(challenge) != k.Size() {
			return nil, swWrongData
		}
		out, ok := rawRSA(k, challenge)
		if !ok {
			return nil, swWrongData
		}
		return out, swOK
	case *ecdsa.PrivateKey:
		if agreeing {
			own, err := k.ECDH()
			if err != nil {
				return nil, swMemoryFailure
			}
			return agree(own, peer)
		}
		// The host sends a digest cut to the length of the order; a shorter
		// one is the integer it is.
		if len(challenge) == 0 || len(challenge) > (k.Curve.Params().BitSize+7)/8 {
			return nil, swWrongData
		}
		sig, err := ecdsa.SignASN1(rand.Reader, k, challenge)
		if err != nil {
			return nil, swMemoryFailure
		}
		return sig, swOK
	case ed25519.PrivateKey:
		if !signing {
			return nil, swWrongData
		}
		return ed25519.Sign(k, challenge), swOK
	case *ecdh.PrivateKey:
		if !agreeing {
			return nil, swWrongData
		}
		return agree(k, peer)
	}
	return nil, swMemoryFailure
}

func agree(k *ecdh.PrivateKey, peer []byte) ([]byte, uint16) {
	pub, err := k.Curve().NewPublicKey(peer)
	if err != nil {
		return nil, swWrongData // among others a point off the curve
	}
	secret, err := k.ECDH(pub)
	if err != nil {
		return nil, swWrongData // X25519 with a point of small order
	}
	return secret, swOK
}
