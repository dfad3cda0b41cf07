package virtual

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
)

// Config is what a card is given from outside.
type Config struct {
	// Rand is the source of challenges, EC keys, identifiers and certificate
	// serial numbers. Nil means crypto/rand. RSA keys and the randomness of
	// ECDSA signatures come from Go's crypto packages, which since Go 1.26
	// always draw their own.
	Rand io.Reader

	// Save stores the state durably. It is called before the answer to every
	// command that changed it, and before a PIN is compared, so that a card
	// whose power is cut cannot be made to forget a wrong try. When it fails
	// the command answers 6581. Nil keeps the state in memory only.
	Save func(*State) error

	// Touch waits for the bearer's finger when a key's policy asks for it, and
	// says whether it came. Nil means that it always does, at once.
	Touch func(slot byte) bool
}

// Card is a PIV card with power. It is a state machine without locks: use it
// from one goroutine, or through a [Slot].
type Card struct {
	state   *State
	profile Profile
	rand    io.Reader
	save    func(*State) error
	touch   func(slot byte) bool
	keys    map[string]*Key // what parsed was parsed from
	parsed  map[string]any  // private keys, to parse each but once

	// What power-off forgets.
	selected  bool   // PIV is the current application
	pinOK     bool   // the PIN was verified
	pinFresh  bool   // and no key with the policy "always" was used since
	managerOK bool   // the management key was proved
	witness   []byte // outstanding challenge of slot 9B, in clear
	external  []byte // the same for external authentication
	chain     *command
	pending   []byte // response bytes not fetched yet
	touched   bool   // for the policy "cached": touched since power-on
}

// New powers a card with a state, which it takes over.
func New(s *State, cfg Config) (*Card, error) {
	if s == nil {
		return nil, errors.New("virtual: a card needs a state; Root.Manufacture makes one")
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	p, err := ProfileNamed(s.Profile)
	if err != nil {
		return nil, err
	}
	c := &Card{state: s, profile: p, rand: cfg.Rand, save: cfg.Save, touch: cfg.Touch}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.save == nil {
		c.save = func(*State) error { return nil }
	}
	if c.touch == nil {
		c.touch = func(byte) bool { return true }
	}
	c.keys, c.parsed = make(map[string]*Key), make(map[string]any)
	return c, nil
}

// Serial returns the card's serial number.
func (c *Card) Serial() uint32 { return c.state.Serial }

// Profile returns the kind of card.
func (c *Card) Profile() Profile { return c.profile }

// ATR returns the answer to reset.
func (c *Card) ATR() []byte { return atr() }

// Reset is a reset or a new power-up of the card: everything but the state is
// forgotten, the verified PIN first of all.
func (c *Card) Reset() {
	c.selected = false
	c.deselect()
	c.chain, c.pending = nil, nil
	c.touched = false
}

// deselect forgets what the PIV application grants.
func (c *Card) deselect() {
	c.pinOK, c.pinFresh, c.managerOK = false, false, false
	c.witness, c.external = nil, nil
}

// Transmit takes a command APDU and returns the response APDU, which ends in
// the two bytes of the status word. Anything at all may be sent.
func (c *Card) Transmit(apdu []byte) []byte {
	cmd, sw := parseCommand(apdu)
	if sw != 0 {
		c.chain = nil
		return response(nil, sw)
	}
	switch {
	case cmd.cla&0x80 != 0 || cmd.cla&0x60 != 0:
		return response(nil, swUnknownClass)
	case cmd.cla&0x0c != 0:
		return response(nil, swSecureMessaging)
	case cmd.cla&0x03 != 0:
		return response(nil, swChannelNotSupported)
	}

	if cmd.ins == insGetResponse {
		if c.pending == nil {
			return response(nil, swConditionsNotMet)
		}
		return c.chunk(cmd.le)
	}
	c.pending = nil

	// A part of another command silently ends an unfinished chain.
	if ch := c.chain; ch != nil && (ch.ins != cmd.ins || ch.p1 != cmd.p1 || ch.p2 != cmd.p2) {
		c.chain = nil
	}
	if cmd.chained() || c.chain != nil {
		var sofar []byte
		if c.chain != nil {
			sofar = c.chain.data
		}
		if len(sofar)+len(cmd.data) > maxCommand {
			c.chain = nil
			return response(nil, swNotEnoughMemory)
		}
		whole := cmd
		whole.data = append(sofar[:len(sofar):len(sofar)], cmd.data...)
		if cmd.chained() {
			c.chain = &whole
			return response(nil, swOK)
		}
		c.chain = nil
		cmd = whole
	}
	if len(cmd.data) > maxCommand {
		return response(nil, swNotEnoughMemory)
	}

	data, sw := c.dispatch(cmd)
	if sw != swOK || len(data) <= cmd.le {
		return response(data, sw)
	}
	c.pending = data
	return c.chunk(cmd.le)
}

// chunk answers with the next le bytes of a long response (ISO 7816-4 5.1.3).
func (c *Card) chunk(le int) []byte {
	if len(c.pending) <= le {
		last := c.pending
		c.pending = nil
		return response(last, swOK)
	}
	head, rest := c.pending[:le], c.pending[le:]
	c.pending = rest
	return response(head, swMoreData|uint16(min(len(rest), 0x100)&0xff))
}

// Instructions of SP 800-73-4 Part 2 and, from MOVE KEY on, the YubiKey's.
const (
	insVerify          = 0x20
	insChangeReference = 0x24
	insResetRetry      = 0x2C
	insGenerate        = 0x47
	insAuthenticate    = 0x87
	insSelect          = 0xA4
	insGetResponse     = 0xC0
	insGetData         = 0xCB
	insPutData         = 0xDB
	insMoveKey         = 0xF6
	insMetadata        = 0xF7
	insSerial          = 0xF8
	insAttest          = 0xF9
	insSetTries        = 0xFA
	insReset           = 0xFB
	insVersion         = 0xFD
	insImport          = 0xFE
	insSetManagement   = 0xFF
)

func (c *Card) dispatch(cmd command) ([]byte, uint16) {
	if cmd.ins == insSelect {
		return c.selectApplication(cmd)
	}
	if !c.selected {
		// No application is there to know the instruction.
		return nil, swUnknownInstruction
	}
	switch cmd.ins {
	case insVerify:
		return nil, c.verify(cmd)
	case insChangeReference:
		return nil, c.changeReference(cmd)
	case insResetRetry:
		return nil, c.resetRetry(cmd)
	case insSetTries:
		return nil, c.setTries(cmd)
	case insReset:
		return nil, c.factoryReset(cmd)
	case insAuthenticate:
		return c.authenticate(cmd)
	case insSetManagement:
		return nil, c.setManagementKey(cmd)
	case insGenerate:
		return c.generate(cmd)
	case insImport:
		return nil, c.importKey(cmd)
	case insMoveKey:
		if !c.profile.moves() {
			return nil, swUnknownInstruction
		}
		return nil, c.moveKey(cmd)
	case insGetData:
		return c.getData(cmd)
	case insPutData:
		return nil, c.putData(cmd)
	case insMetadata:
		return c.metadata(cmd)
	case insAttest:
		return c.attest(cmd)
	case insVersion:
		v := c.profile.Firmware
		return []byte{v.Major, v.Minor, v.Patch}, swOK
	case insSerial:
		n := c.state.Serial
		return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, swOK
	}
	return nil, swUnknownInstruction
}

// pivAID is the full name of the PIV card application, version 1.0
// (SP 800-73-4 Part 1, section 2.2); hosts may send it right-truncated.
var pivAID = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}

// pivRID is the part of it that hosts must send at least.
const pivRID = 5

func (c *Card) selectApplication(cmd command) ([]byte, uint16) {
	if cmd.p1 != 0x04 || cmd.p2 != 0x00 {
		return nil, swWrongParameters
	}
	if len(cmd.data) < pivRID || !bytes.HasPrefix(pivAID, cmd.data) {
		// Among them the YubiKey's management and OTP applications. The one
		// selected stays so (SP 800-73-4 Part 2, section 3.1.1).
		return nil, swNotFound
	}
	// Selecting PIV once more changes no security status (same section).
	c.selected = true
	return tlv(0x61,
		tlv(0x4f, pivAID[pivRID:]),
		tlv(0x79, tlv(0x4f, pivAID[:pivRID])),
	), swOK
}

// commit saves a changed state; the answer to the command follows only then.
func (c *Card) commit() uint16 {
	if err := c.save(c.state); err != nil {
		return swMemoryFailure
	}
	return swOK
}
