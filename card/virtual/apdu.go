package virtual

import "encoding/binary"

// Status words, ISO 7816-4 section 5.6 and SP 800-73-4 Part 2 section 2.
const (
	swOK                   = 0x9000
	swMemoryFailure        = 0x6581
	swWrongLength          = 0x6700
	swChannelNotSupported  = 0x6881
	swSecureMessaging      = 0x6882
	swSecurityNotSatisfied = 0x6982
	swBlocked              = 0x6983
	swConditionsNotMet     = 0x6985
	swWrongData            = 0x6A80
	swFunctionNotSupported = 0x6A81
	swNotFound             = 0x6A82
	swNotEnoughMemory      = 0x6A84
	swWrongParameters      = 0x6A86
	swReferenceNotFound    = 0x6A88
	swUnknownInstruction   = 0x6D00
	swUnknownClass         = 0x6E00
	swTriesLeft            = 0x63C0
	swMoreData             = 0x6100
)

// command is a parsed command APDU.
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // the most bytes the host wants; 256 or 65536 if it did not say
}

// chained says that more parts of the same command follow (ISO 7816-4 5.1.1.1).
func (c *command) chained() bool { return c.cla&0x10 != 0 }

// parseCommand reads a command APDU in any of the seven forms of ISO 7816-4
// section 5.1. A command without Le is given the largest Le of its form: hosts
// that speak T=0 style (piv-go among them) leave it out and expect an answer.
func parseCommand(b []byte) (command, uint16) {
	if len(b) < 4 {
		return command{}, swWrongLength
	}
	c := command{cla: b[0], ins: b[1], p1: b[2], p2: b[3], le: 256}
	body := b[4:]
	switch {
	case len(body) == 0: // case 1
		return c, 0
	case len(body) == 1: // case 2 short
		if body[0] != 0 {
			c.le = int(body[0])
		}
		return c, 0
	case body[0] != 0: // case 3 or 4 short
		n := int(body[0])
		rest := body[1:]
		if len(rest) != n && len(rest) != n+1 {
			return command{}, swWrongLength
		}
		c.data = rest[:n]
		if len(rest) == n+1 && rest[n] != 0 {
			c.le = int(rest[n])
		}
		return c, 0
	}
	// Extended: a zero byte, then lengths of two bytes.
	c.le = 65536
	if len(body) < 3 {
		return command{}, swWrongLength
	}
	n := int(binary.BigEndian.Uint16(body[1:3]))
	rest := body[3:]
	if len(rest) == 0 { // case 2 extended: n is Le
		if n != 0 {
			c.le = n
		}
		return c, 0
	}
	if n == 0 || (len(rest) != n && len(rest) != n+2) {
		return command{}, swWrongLength
	}
	c.data = rest[:n]
	if len(rest) == n+2 {
		if le := int(binary.BigEndian.Uint16(rest[n:])); le != 0 {
			c.le = le
		}
	}
	return c, 0
}

func response(data []byte, sw uint16) []byte {
	out := make([]byte, 0, len(data)+2)
	out = append(out, data...)
	return binary.BigEndian.AppendUint16(out, sw)
}
