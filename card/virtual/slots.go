package virtual

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
)

// Key slots, SP 800-73-4 Part 1 table 4b. Retired key management keys lie
// between slotRetiredFirst and slotRetiredLast.
const (
	slotAuthentication     = 0x9A
	slotSignature          = 0x9C
	slotKeyManagement      = 0x9D
	slotCardAuthentication = 0x9E
	slotRetiredFirst       = 0x82
	slotRetiredLast        = 0x95
	slotAttestation        = 0xF9
)

func keySlot(slot byte) bool {
	switch slot {
	case slotAuthentication, slotSignature, slotKeyManagement, slotCardAuthentication, slotAttestation:
		return true
	}
	return slot >= slotRetiredFirst && slot <= slotRetiredLast
}

// defaultPINPolicy is what a key gets whose maker names no policy.
func defaultPINPolicy(slot byte) byte {
	switch slot {
	case slotSignature:
		return PINAlways
	case slotCardAuthentication:
		return PINNever
	}
	return PINOnce
}

const (
	tagAlgorithm   = 0x80
	tagPINPolicy   = 0xAA
	tagTouchPolicy = 0xAB
)

// policies takes the policies out of fields, which must then be empty.
func policies(slot byte, fields map[uint16][]byte) (pin, touch byte, ok bool) {
	pin, touch = defaultPINPolicy(slot), TouchNever
	for tag, v := range fields {
		if len(v) != 1 || v[0] > 3 {
			return 0, 0, false
		}
		switch {
		case tag == tagPINPolicy && v[0] != 0:
			pin = v[0]
		case tag == tagTouchPolicy && v[0] != 0:
			touch = v[0]
		case tag != tagPINPolicy && tag != tagTouchPolicy:
			return 0, 0, false
		}
	}
	return pin, touch, true
}

// generate is GENERATE ASYMMETRIC KEY PAIR, SP 800-73-4 Part 2 section 3.3.2,
// with the YubiKey's policies.
func (c *Card) generate(cmd command) ([]byte, uint16) {
	if !c.managerOK {
		return nil, swSecurityNotSatisfied
	}
	if cmd.p1 != 0 || !keySlot(cmd.p2) {
		return nil, swWrongParameters
	}
	tag, body, rest, err := readTLV(cmd.data)
	if err != nil || tag != 0xac || len(rest) != 0 {
		return nil, swWrongData
	}
	fields, err := readTLVs(body)
	if err != nil || len(fields[tagAlgorithm]) != 1 {
		return nil, swWrongData
	}
	alg := Algorithm(fields[tagAlgorithm][0])
	delete(fields, tagAlgorithm)
	pin, touch, ok := policies(cmd.p2, fields)
	if !ok || !c.profile.supports(alg) {
		return nil, swWrongData
	}
	private, err := generateKey(c.rand, alg)
	if err != nil {
		return nil, swMemoryFailure
	}
	public, err := publicTemplate(private)
	if err != nil {
		return nil, swMemoryFailure
	}
	k, err := newKey(alg, private, pin, touch, OriginGenerated)
	if err != nil {
		return nil, swMemoryFailure
	}
	c.state.Keys[slotName(cmd.p2)] = k
	if sw := c.commit(); sw != swOK {
		return nil, sw
	}
	return tlv(0x7f49, public), swOK
}

// importKey is the YubiKey's IMPORT ASYMMETRIC KEY: tags 01 to 05 are p, q and
// the CRT values of an RSA key (which the card derives itself), 06 an EC
// scalar, 07 an Ed25519 seed, 08 an X25519 scalar.
func (c *Card) importKey(cmd command) uint16 {
	if !c.managerOK {
		return swSecurityNotSatisfied
	}
	alg := Algorithm(cmd.p1)
	if !keySlot(cmd.p2) || !c.profile.supports(alg) {
		return swWrongParameters
	}
	fields, err := readTLVs(cmd.data)
	if err != nil {
		return swWrongData
	}
	take := func(tag uint16) []byte {
		v := fields[tag]
		delete(fields, tag)
		return v
	}
	var private any
	switch {
	case rsaBits(alg) != 0:
		p, q := take(1), take(2)
		for tag := uint16(3); tag <= 5; tag++ {
			take(tag)
		}
		private, err = importRSA(rsaBits(alg), p, q)
	case curve(alg) != nil:
		private, err = ecdsa.ParseRawPrivateKey(curve(alg), take(6))
	case alg == Ed25519:
		seed := take(7)
		if len(seed) != ed25519.SeedSize {
			return swWrongData
		}
		private = ed25519.NewKeyFromSeed(seed)
	case alg == X25519:
		private, err = ecdh.X25519().NewPrivateKey(take(8))
	}
	if err != nil || private == nil {
		return swWrongData
	}
	pin, touch, ok := policies(cmd.p2, fields)
	if !ok {
		return swWrongData
	}
	k, err := newKey(alg, private, pin, touch, OriginImported)
	if err != nil {
		return swMemoryFailure
	}
	c.state.Keys[slotName(cmd.p2)] = k
	return c.commit()
}

// moveKey is the YubiKey's MOVE KEY, from firmware 5.7: to slot P1, or to
// nowhere with P1 FF, from slot P2.
func (c *Card) moveKey(cmd command) uint16 {
	if !c.managerOK {
		return swSecurityNotSatisfied
	}
	to, from := cmd.p1, cmd.p2
	if !keySlot(from) || (to != 0xff && (!keySlot(to) || to == slotAttestation || from == slotAttestation)) || to == from {
		return swWrongParameters
	}
	k := c.state.Keys[slotName(from)]
	if k == nil {
		return swReferenceNotFound
	}
	if to != 0xff {
		if c.state.Keys[slotName(to)] != nil {
			return swConditionsNotMet
		}
		c.state.Keys[slotName(to)] = k
	}
	delete(c.state.Keys, slotName(from))
	return c.commit()
}

// metadata is the YubiKey's GET METADATA, from firmware 5.3.
func (c *Card) metadata(cmd command) ([]byte, uint16) {
	if cmd.p1 != 0 || len(cmd.data) != 0 {
		return nil, swWrongParameters
	}
	flag := func(b bool) []byte {
		if b {
			return []byte{1}
		}
		return []byte{0}
	}
	var out []byte
	add := func(tag uint16, v ...byte) { out = append(out, tlv(tag, v)...) }
	switch cmd.p2 {
	case slotManagement:
		m := c.state.Management
		add(0x01, byte(m.Algorithm))
		add(0x02, 0, m.Touch)
		add(0x05, flag(m.Default)...)
		return out, swOK
	case referencePIN, referencePUK:
		r := c.state.PIN
		if cmd.p2 == referencePUK {
			r = c.state.PUK
		}
		add(0x05, flag(r.Default)...)
		add(0x06, byte(r.Max), byte(r.Tries))
		return out, swOK
	}
	if !keySlot(cmd.p2) {
		return nil, swReferenceNotFound
	}
	k, private, sw := c.load(cmd.p2)
	if sw != swOK {
		return nil, sw
	}
	public, err := publicTemplate(private)
	if err != nil {
		return nil, swMemoryFailure
	}
	add(0x01, byte(k.Algorithm))
	add(0x02, k.PIN, k.Touch)
	add(0x03, k.Origin)
	add(0x04, public...)
	return out, swOK
}
