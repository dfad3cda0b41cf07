package virtual

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"io"
)

const slotManagement = 0x9B

// managementKeyLength returns the bytes of a management key, or -1.
func managementKeyLength(a Algorithm) int {
	switch a {
	case AES128:
		return 16
	case TripleDES, AES192:
		return 24
	case AES256:
		return 32
	}
	return -1
}

func (k *ManagementKey) block() (cipher.Block, error) {
	if k.Algorithm == TripleDES {
		return des.NewTripleDESCipher(k.Value)
	}
	return aes.NewCipher(k.Value)
}

// authenticateManager is GENERAL AUTHENTICATE with slot 9B, SP 800-73-4 Part 2
// appendix A.1 and A.2: external and mutual authentication, each in two steps.
func (c *Card) authenticateManager(alg Algorithm, fields map[uint16][]byte) ([]byte, uint16) {
	k := &c.state.Management
	if alg == 0 {
		// Zero is 3DES in table 6-2 of SP 800-78-4. Hosts that only want
		// random bytes (OpenSC) send it whatever the key, so here it stands
		// for the key's algorithm.
		alg = k.Algorithm
	}
	if alg != k.Algorithm {
		return nil, swWrongParameters
	}
	block, err := k.block()
	if err != nil {
		return nil, swMemoryFailure
	}
	// A challenge serves one attempt, whatever comes of it.
	witness, external := c.witness, c.external
	c.witness, c.external, c.managerOK = nil, nil, false

	fresh := func() ([]byte, uint16) {
		b := make([]byte, block.BlockSize())
		if _, err := io.ReadFull(c.rand, b); err != nil {
			return nil, swMemoryFailure
		}
		return b, swOK
	}
	w, hasWitness := fields[tagWitness]
	ch, hasChallenge := fields[tagChallenge]
	resp, hasResponse := fields[tagResponse]
	switch {
	case hasWitness && len(w) == 0 && !hasChallenge: // mutual, step 1
		b, sw := fresh()
		if sw != swOK {
			return nil, sw
		}
		c.witness = b
		out := make([]byte, len(b))
		block.Encrypt(out, b)
		return tlv(tagTemplate, tlv(tagWitness, out)), swOK

	case hasWitness && hasChallenge: // mutual, step 2
		if witness == nil || len(ch) != block.BlockSize() {
			return nil, swWrongData
		}
		if subtle.ConstantTimeCompare(w, witness) != 1 || !c.touchManager() {
			return nil, swSecurityNotSatisfied
		}
		c.managerOK = true
		out := make([]byte, len(ch))
		block.Encrypt(out, ch)
		return tlv(tagTemplate, tlv(tagResponse, out)), swOK

	case hasChallenge && len(ch) == 0 && !hasResponse: // external, step 1
		b, sw := fresh()
		if sw != swOK {
			return nil, sw
		}
		c.external = b
		return tlv(tagTemplate, tlv(tagChallenge, b)), swOK

	case hasResponse && len(resp) > 0: // external, step 2
		if external == nil {
			return nil, swWrongData
		}
		want := make([]byte, len(external))
		block.Encrypt(want, external)
		if subtle.ConstantTimeCompare(resp, want) != 1 || !c.touchManager() {
			return nil, swSecurityNotSatisfied
		}
		c.managerOK = true
		return nil, swOK
	}
	return nil, swWrongData
}

func (c *Card) touchManager() bool {
	return c.state.Management.Touch != TouchAlways || c.touch(slotManagement)
}

// setManagementKey is the YubiKey's SET MANAGEMENT KEY: algorithm, slot,
// length, key; P2 FE asks for a touch at every use.
func (c *Card) setManagementKey(cmd command) uint16 {
	if !c.managerOK {
		return swSecurityNotSatisfied
	}
	if cmd.p1 != 0xff || (cmd.p2 != 0xff && cmd.p2 != 0xfe) {
		return swWrongParameters
	}
	d := cmd.data
	if len(d) < 3 || d[1] != slotManagement || int(d[2]) != len(d)-3 ||
		len(d)-3 != managementKeyLength(Algorithm(d[0])) {
		return swWrongData
	}
	k := ManagementKey{Algorithm: Algorithm(d[0]), Value: bytes.Clone(d[3:]), Touch: TouchNever}
	if cmd.p2 == 0xfe {
		k.Touch = TouchAlways
	}
	k.Default = bytes.Equal(k.Value, DefaultManagementKey())
	c.state.Management = k
	return c.commit()
}
