package virtual

import (
	"bytes"
	"crypto/subtle"
)

// Key references of secrets.
const (
	referenceGlobalPIN = 0x00
	referencePIN       = 0x80
	referencePUK       = 0x81
	referenceBio       = 0x96
)

// compare spends a try on candidate. The counter is on disk before the answer
// can be known: a bearer who cuts the power after each try has none for free.
func (c *Card) compare(r *Reference, candidate []byte) uint16 {
	if r.Tries == 0 {
		return swBlocked
	}
	r.Tries--
	if sw := c.commit(); sw != swOK {
		return sw
	}
	if subtle.ConstantTimeCompare(r.Value, candidate) != 1 {
		return swTriesLeft | uint16(min(r.Tries, 15))
	}
	r.Tries = r.Max
	return c.commit()
}

// verify is VERIFY, SP 800-73-4 Part 2 section 3.2.1.
func (c *Card) verify(cmd command) uint16 {
	switch cmd.p2 {
	case referencePIN:
	case referenceGlobalPIN, referenceBio:
		return swReferenceNotFound
	default:
		return swWrongParameters
	}
	switch {
	case cmd.p1 == 0xff && len(cmd.data) == 0:
		c.pinOK, c.pinFresh = false, false
		return swOK
	case cmd.p1 != 0x00:
		return swWrongParameters
	case len(cmd.data) == 0:
		if c.pinOK {
			return swOK
		}
		if c.state.PIN.Tries == 0 {
			return swBlocked
		}
		return swTriesLeft | uint16(min(c.state.PIN.Tries, 15))
	case len(cmd.data) != pinLength:
		return swWrongData
	}
	c.pinOK, c.pinFresh = false, false
	sw := c.compare(&c.state.PIN, cmd.data)
	if sw == swOK {
		c.pinOK, c.pinFresh = true, true
	}
	return sw
}

// changeReference is CHANGE REFERENCE DATA, section 3.2.2.
func (c *Card) changeReference(cmd command) uint16 {
	var r *Reference
	switch cmd.p2 {
	case referencePIN:
		r = &c.state.PIN
	case referencePUK:
		r = &c.state.PUK
	default:
		return swReferenceNotFound
	}
	if cmd.p1 != 0 {
		return swWrongParameters
	}
	if len(cmd.data) != 2*pinLength {
		return swWrongData
	}
	if cmd.p2 == referencePIN {
		c.pinOK, c.pinFresh = false, false
	}
	if sw := c.compare(r, cmd.data[:pinLength]); sw != swOK {
		return sw
	}
	return c.replace(r, cmd.data[pinLength:])
}

// resetRetry is RESET RETRY COUNTER, section 3.2.3: the PUK sets a new PIN.
func (c *Card) resetRetry(cmd command) uint16 {
	if cmd.p1 != 0 || cmd.p2 != referencePIN {
		return swWrongParameters
	}
	if len(cmd.data) != 2*pinLength {
		return swWrongData
	}
	c.pinOK, c.pinFresh = false, false
	if sw := c.compare(&c.state.PUK, cmd.data[:pinLength]); sw != swOK {
		return sw
	}
	return c.replace(&c.state.PIN, cmd.data[pinLength:])
}

func (c *Card) replace(r *Reference, value []byte) uint16 {
	if !wellFormed(value) {
		return swWrongData
	}
	r.Value, r.Tries, r.Default = bytes.Clone(value), r.Max, false
	return c.commit()
}

// wellFormed says whether a new PIN or PUK has 6 to 8 characters and then only
// padding.
func wellFormed(value []byte) bool {
	n := len(bytes.TrimRight(value, "\xff"))
	return n >= minPIN && bytes.IndexByte(value[:n], 0xff) < 0
}

// setTries is the YubiKey's SET PIN RETRIES: it needs management key and PIN,
// and puts PIN and PUK back to their defaults.
func (c *Card) setTries(cmd command) uint16 {
	if !c.managerOK || !c.pinOK {
		return swSecurityNotSatisfied
	}
	if cmd.p1 == 0 || cmd.p2 == 0 || len(cmd.data) != 0 {
		return swWrongData
	}
	pin, _ := pad(DefaultPIN)
	puk, _ := pad(DefaultPUK)
	c.state.PIN = Reference{Value: pin, Tries: int(cmd.p1), Max: int(cmd.p1), Default: true}
	c.state.PUK = Reference{Value: puk, Tries: int(cmd.p2), Max: int(cmd.p2), Default: true}
	c.pinOK, c.pinFresh = false, false
	return c.commit()
}

// factoryReset is the YubiKey's RESET: only a card with blocked PIN and PUK
// can be wiped.
func (c *Card) factoryReset(cmd command) uint16 {
	if cmd.p1 != 0 || cmd.p2 != 0 || len(cmd.data) != 0 {
		return swWrongParameters
	}
	if c.state.PIN.Tries != 0 || c.state.PUK.Tries != 0 {
		return swConditionsNotMet
	}
	c.deselect()
	if err := c.state.reset(c.rand, c.profile); err != nil {
		return swMemoryFailure
	}
	return c.commit()
}
