package virtual

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// DefaultPIN and DefaultPUK are those of a new card.
const (
	DefaultPIN = "123456"
	DefaultPUK = "12345678"
)

// DefaultManagementKey returns the management key of a new card, 24 bytes: a
// 3DES key of [Profile54] and an AES-192 key of [Profile57].
func DefaultManagementKey() []byte {
	return bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)
}

// State is all that a card remembers without power: PIN, PUK, management key,
// private keys and data objects, in clear. It marshals to JSON, and its print
// verbs show only the serial number.
type State struct {
	Encoding   int               `json:"format"` // stateEncoding
	Profile    string            `json:"profile"`
	Serial     uint32            `json:"serial"`
	PIN        Reference         `json:"pin"`
	PUK        Reference         `json:"puk"`
	Management ManagementKey     `json:"management"`
	Keys       map[string]*Key   `json:"keys"`    // by slot, two hexadecimal digits: "9c"
	Objects    map[string][]byte `json:"objects"` // by object identifier, hexadecimal: "5fc102"; the content of tag 53
}

const stateEncoding = 1

// Reference is a PIN or PUK with its retry counter.
type Reference struct {
	Value   []byte `json:"value"` // 8 bytes, padded with FF
	Tries   int    `json:"tries"` // left
	Max     int    `json:"max"`
	Default bool   `json:"default"` // never changed
}

// ManagementKey is the key in slot 9B.
type ManagementKey struct {
	Algorithm Algorithm `json:"algorithm"`
	Value     []byte    `json:"value"`
	Touch     byte      `json:"touch"` // touch policy
	Default   bool      `json:"default"`
}

// Key is a private key with its policies.
type Key struct {
	Algorithm Algorithm `json:"algorithm"`
	PIN       byte      `json:"pin"`     // PIN policy
	Touch     byte      `json:"touch"`   // touch policy
	Origin    byte      `json:"origin"`  // 1 generated, 2 imported
	Private   []byte    `json:"private"` // PKCS#8, DER
}

// Policies of a key and its origin, as the YubiKey encodes them.
const (
	PINNever, PINOnce, PINAlways         byte = 1, 2, 3
	TouchNever, TouchAlways, TouchCached byte = 1, 2, 3
	OriginGenerated, OriginImported      byte = 1, 2
)

// SetPIN gives the state another PIN, as an issuer would before the card is
// handed out. The PIN must have 6 to 8 bytes.
func (s *State) SetPIN(pin string) error { return s.PIN.set(pin) }

// SetPUK gives the state another PUK of 6 to 8 bytes.
func (s *State) SetPUK(puk string) error { return s.PUK.set(puk) }

func (r *Reference) set(secret string) error {
	v, err := pad(secret)
	if err != nil {
		return err
	}
	r.Value, r.Tries, r.Default = v, r.Max, false
	return nil
}

func pad(secret string) ([]byte, error) {
	if len(secret) < minPIN || len(secret) > pinLength || bytes.IndexByte([]byte(secret), 0xff) >= 0 {
		return nil, fmt.Errorf("virtual: a PIN or PUK has %d to %d characters", minPIN, pinLength)
	}
	v := bytes.Repeat([]byte{0xff}, pinLength)
	copy(v, secret)
	return v, nil
}

// reset puts everything but the attestation key and certificate back to how
// the card left the factory.
func (s *State) reset(rand io.Reader, p Profile) error {
	mustPad := func(secret string) []byte {
		v, err := pad(secret)
		if err != nil {
			panic(err) // the defaults are constants of the right length
		}
		return v
	}
	s.PIN = Reference{Value: mustPad(DefaultPIN), Tries: defaultTries, Max: defaultTries, Default: true}
	s.PUK = Reference{Value: mustPad(DefaultPUK), Tries: defaultTries, Max: defaultTries, Default: true}
	s.Management = ManagementKey{Algorithm: p.Management, Value: DefaultManagementKey(), Touch: TouchNever, Default: true}

	keys, objects := make(map[string]*Key), make(map[string][]byte)
	if k := s.Keys[slotName(slotAttestation)]; k != nil {
		keys[slotName(slotAttestation)] = k
	}
	if o := s.Objects[objectName(objectAttestation)]; o != nil {
		objects[objectName(objectAttestation)] = o
	}
	s.Keys, s.Objects = keys, objects

	chuid, ccc, err := identityObjects(rand)
	if err != nil {
		return err
	}
	s.Objects[objectName(objectCHUID)] = chuid
	s.Objects[objectName(objectCCC)] = ccc
	return nil
}

func slotName(slot byte) string       { return fmt.Sprintf("%02x", slot) }
func objectName(object uint32) string { return fmt.Sprintf("%06x", object) }

// identityObjects makes the two objects that hosts use to tell cards apart: a
// CHUID with a random GUID (SP 800-73-4 Part 1, section 3.1.2) and a card
// capability container with a random card identifier (section 3.1.1).
func identityObjects(rand io.Reader) (chuid, ccc []byte, err error) {
	var random [16 + 14]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return nil, nil, fmt.Errorf("virtual: reading entropy: %w", err)
	}
	// A FASC-N of a card without federal numbers: agency 9999, all else 9 or 0.
	fascn := []byte{
		0xd4, 0xe7, 0x39, 0xda, 0x73, 0x9c, 0xed, 0x39, 0xce, 0x73, 0x9d, 0x83, 0x68, 0x58,
		0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xc8, 0x42, 0x10, 0xc3, 0xeb,
	}
	chuid = bytes.Join([][]byte{
		tlv(0x30, fascn),
		tlv(0x34, random[:16]),
		tlv(0x35, []byte("20501231")), // expires
		tlv(0x3e),                     // no issuer's signature
		tlv(0xfe),
	}, nil)
	cardID := append([]byte{0xa0, 0x00, 0x00, 0x01, 0x16, 0xff, 0x02}, random[16:]...)
	ccc = bytes.Join([][]byte{
		tlv(0xf0, cardID),
		tlv(0xf1, []byte{0x21}), tlv(0xf2, []byte{0x21}), tlv(0xf3), tlv(0xf4, []byte{0x00}),
		tlv(0xf5, []byte{0x10}), tlv(0xf6), tlv(0xf7), tlv(0xfa), tlv(0xfb), tlv(0xfc), tlv(0xfd),
		tlv(0xfe),
	}, nil)
	return chuid, ccc, nil
}

// DecodeState reads a state that json.Marshal wrote, and refuses one that a
// card could not have been in.
func DecodeState(b []byte) (*State, error) {
	if len(b) > maxStateFile {
		return nil, fmt.Errorf("virtual: a card's state has %d bytes; at most %d are read", len(b), maxStateFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var s State
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("virtual: reading a card's state: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("virtual: a card's state has trailing data")
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *State) validate() error {
	if s.Encoding != stateEncoding {
		return fmt.Errorf("virtual: card state of format %d; this version reads %d", s.Encoding, stateEncoding)
	}
	p, err := ProfileNamed(s.Profile)
	if err != nil {
		return err
	}
	for _, r := range []Reference{s.PIN, s.PUK} {
		if len(r.Value) != pinLength || r.Tries < 0 || r.Max < 1 || r.Max > 255 || r.Tries > r.Max {
			return errors.New("virtual: the state's PIN or PUK is malformed")
		}
	}
	if len(s.Management.Value) != managementKeyLength(s.Management.Algorithm) {
		return errors.New("virtual: the state's management key does not have its algorithm's length")
	}
	if s.Objects == nil || s.Keys == nil {
		return errors.New("virtual: the state has no keys or objects table")
	}
	for name, k := range s.Keys {
		slot, err := hex.DecodeString(name)
		if err != nil || len(slot) != 1 || name != slotName(slot[0]) || !keySlot(slot[0]) || k == nil {
			return fmt.Errorf("virtual: the state has a key in %q, which is no slot", name)
		}
		if !p.supports(k.Algorithm) {
			return fmt.Errorf("virtual: the state's key %s has an algorithm that its profile lacks", name)
		}
		for _, policy := range []byte{k.PIN, k.Touch} {
			if policy < 1 || policy > 3 {
				return fmt.Errorf("virtual: the state's key %s has an unknown policy", name)
			}
		}
		if k.Origin != OriginGenerated && k.Origin != OriginImported {
			return fmt.Errorf("virtual: the state's key %s has an unknown origin", name)
		}
		if _, err := k.private(); err != nil {
			return fmt.Errorf("virtual: the state's key %s: %w", name, err)
		}
	}
	if len(s.Objects) > maxObjects {
		return fmt.Errorf("virtual: the state has %d objects; a card holds %d", len(s.Objects), maxObjects)
	}
	for name, o := range s.Objects {
		id, err := strconv.ParseUint(name, 16, 24)
		if err != nil || name != objectName(uint32(id)) || !stored(uint32(id)) || len(o) == 0 || len(o) > maxObject {
			return fmt.Errorf("virtual: the state has a malformed object %q", name)
		}
	}
	return nil
}
