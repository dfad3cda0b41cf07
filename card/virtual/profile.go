package virtual

import (
	"fmt"
	"strings"
)

// Version is a firmware version.
type Version struct{ Major, Minor, Patch byte }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Profile is a kind of card: what firmware it says it runs and what follows
// from that.
type Profile struct {
	Name       string    // short name, stored in the state: "5.4", "5.7"
	Firmware   Version   // as FD answers and attestations say
	FormFactor byte      // as attestations say: 1 is a USB-A keychain
	Management Algorithm // of the default management key
	keys       []Algorithm
}

// Profile54 is a YubiKey 5 with firmware 5.4: 3DES management key by default,
// RSA 1024 and 2048, P-256 and P-384.
func Profile54() Profile {
	return Profile{
		Name:       "5.4",
		Firmware:   Version{5, 4, 3},
		FormFactor: 1,
		Management: TripleDES,
		keys:       []Algorithm{RSA1024, RSA2048, P256, P384},
	}
}

// Profile57 is a YubiKey 5 with firmware 5.7: AES-192 management key by
// default, and also RSA 3072 and 4096, Ed25519 and X25519.
func Profile57() Profile {
	return Profile{
		Name:       "5.7",
		Firmware:   Version{5, 7, 1},
		FormFactor: 3,
		Management: AES192,
		keys:       []Algorithm{RSA1024, RSA2048, RSA3072, RSA4096, P256, P384, Ed25519, X25519},
	}
}

// ProfileNamed finds a profile by its name, "5.4" or "5.7".
func ProfileNamed(name string) (Profile, error) {
	var names []string
	for _, p := range []Profile{Profile54(), Profile57()} {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("virtual: no card profile %q; there are %s", name, strings.Join(names, " and "))
}

func (p Profile) supports(a Algorithm) bool {
	for _, k := range p.keys {
		if k == a {
			return true
		}
	}
	return false
}

// moves says that the firmware knows MOVE KEY (F6), new in 5.7.
func (p Profile) moves() bool { return p.Firmware.Major == 5 && p.Firmware.Minor >= 7 }

// Algorithm is an algorithm identifier of SP 800-78-4 table 6-2, with the
// YubiKey's additions.
type Algorithm byte

// Algorithms of management keys and of key slots.
const (
	TripleDES Algorithm = 0x03
	AES128    Algorithm = 0x08
	AES192    Algorithm = 0x0A
	AES256    Algorithm = 0x0C
	RSA3072   Algorithm = 0x05
	RSA1024   Algorithm = 0x06
	RSA2048   Algorithm = 0x07
	P256      Algorithm = 0x11
	P384      Algorithm = 0x14
	RSA4096   Algorithm = 0x16
	Ed25519   Algorithm = 0xE0
	X25519    Algorithm = 0xE1
)

// atr is the ATR of a YubiKey 5 on a contact reader: T=1, historical bytes
// that announce command chaining and extended lengths, and "YubiKey".
func atr() []byte {
	b := []byte{
		0x3B, 0xFD, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x15,
		0x80, 0x73, 0xC0, 0x21, 0xC0, 'W', 'Y', 'u', 'b', 'i', 'K', 'e', 'y',
	}
	var tck byte // ISO 7816-3 8.2.5: the XOR from T0 to TCK is zero
	for _, x := range b[1:] {
		tck ^= x
	}
	return append(b, tck)
}
