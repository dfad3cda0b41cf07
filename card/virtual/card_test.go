package virtual

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

var sharedRoot = sync.OnceValues(func() (*Root, error) { return NewRoot(rand.Reader, time.Now()) })

func testState(t testing.TB, p Profile) *State {
	t.Helper()
	root, err := sharedRoot()
	if err != nil {
		t.Fatal(err)
	}
	s, err := root.Manufacture(rand.Reader, p, 12345678)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testCard(t testing.TB, p Profile, cfg Config) *Card {
	t.Helper()
	c, err := New(testState(t, p), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// host drives a card as a reader would.
type host struct {
	t testing.TB
	c *Card
}

func selected(t testing.TB, p Profile) host {
	h := host{t, testCard(t, p, Config{})}
	h.ok("00A4040005A000000308")
	return h
}

// send sends a command in hexadecimal, blanks ignored, and returns data and status.
func (h host) send(apdu string) ([]byte, uint16) {
	h.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(apdu, " ", ""))
	if err != nil {
		h.t.Fatal(err)
	}
	return h.raw(b)
}

func (h host) raw(b []byte) ([]byte, uint16) {
	r := h.c.Transmit(b)
	n := len(r) - 2
	return r[:n], uint16(r[n])<<8 | uint16(r[n+1])
}

// command sends a command with data of any length, in an extended APDU.
func (h host) command(ins, p1, p2 byte, data []byte) ([]byte, uint16) {
	apdu := []byte{0, ins, p1, p2, 0}
	if len(data) > 0 {
		apdu = append(apdu, byte(len(data)>>8), byte(len(data)))
		apdu = append(apdu, data...)
	}
	apdu = append(apdu, 0, 0)
	return h.raw(apdu)
}

func (h host) ok(apdu string) []byte {
	h.t.Helper()
	data, sw := h.send(apdu)
	if sw != swOK {
		h.t.Fatalf("%s: %04X", apdu, sw)
	}
	return data
}

func (h host) expect(apdu string, want uint16) {
	h.t.Helper()
	if _, sw := h.send(apdu); sw != want {
		h.t.Errorf("%s: %04X; want %04X", apdu, sw, want)
	}
}

// manage proves the management key by mutual authentication.
func (h host) manage() {
	h.t.Helper()
	k := h.c.state.Management
	block, err := k.block()
	if err != nil {
		h.t.Fatal(err)
	}
	n := block.BlockSize()
	out, sw := h.command(insAuthenticate, byte(k.Algorithm), slotManagement, []byte{0x7c, 2, 0x80, 0})
	if sw != swOK {
		h.t.Fatalf("witness: %04X", sw)
	}
	witness := make([]byte, n)
	block.Decrypt(witness, out[4:])
	challenge := bytes.Repeat([]byte{7}, n)
	out, sw = h.command(insAuthenticate, byte(k.Algorithm), slotManagement,
		tlv(0x7c, tlv(0x80, witness), tlv(0x81, challenge)))
	want := make([]byte, n)
	block.Encrypt(want, challenge)
	if sw != swOK || !bytes.Equal(out, tlv(0x7c, tlv(0x82, want))) {
		h.t.Fatalf("mutual authentication: %x %04X", out, sw)
	}
}

func (h host) generate(slot byte, a Algorithm, pin, touch byte) []byte {
	h.t.Helper()
	out, sw := h.command(insGenerate, 0, slot, tlv(0xac, tlv(0x80, []byte{byte(a)}), tlv(0xaa, []byte{pin}), tlv(0xab, []byte{touch})))
	if sw != swOK {
		h.t.Fatalf("generate %02x: %04X", a, sw)
	}
	tag, body, rest, err := readTLV(out)
	if err != nil || tag != 0x7f49 || len(rest) != 0 {
		h.t.Fatalf("public key template %x", out)
	}
	return body
}

func (h host) sign(slot byte, a Algorithm, digest []byte) ([]byte, uint16) {
	out, sw := h.command(insAuthenticate, byte(a), slot, tlv(0x7c, tlv(0x82), tlv(0x81, digest)))
	if sw != swOK {
		return nil, sw
	}
	return out[bytes.IndexByte(out, 0x82):], sw
}

const (
	verify123456 = "00200080 08 313233343536FFFF"
	verify000000 = "00200080 08 303030303030FFFF"
)

func TestATR(t *testing.T) {
	// The ATR of a YubiKey 5 as pcsc-tools lists it.
	const want = "3bfd1300008131fe158073c021c057597562694b657940"
	if got := hex.EncodeToString(testCard(t, Profile54(), Config{}).ATR()); got != want {
		t.Errorf("ATR %s; want %s", got, want)
	}
}

func TestSelect(t *testing.T) {
	h := host{t, testCard(t, Profile54(), Config{})}
	h.expect("00FD000000", swUnknownInstruction) // no application yet
	h.expect("00A4040008A000000527471117", swNotFound)
	h.expect("00A4040008A000000527200101", swNotFound)
	h.expect("00A4040004A0000003", swNotFound) // not even the RID
	h.expect("00A4000005A000000308", swWrongParameters)
	for _, aid := range []string{"05 A000000308", "09 A00000030800001000", "0B A000000308000010000100", "0B A000000308000010000100 00"} {
		if got, want := h.ok("00A40400"+aid), "61114f0600001000010079074f05a000000308"; hex.EncodeToString(got) != want {
			t.Errorf("application property template %x; want %s", got, want)
		}
	}
	h.ok(verify123456)
	h.expect("00A4040008A000000527471117", swNotFound)
	h.ok("00A4040005A000000308")
	h.expect("00200080", swOK) // still verified: SP 800-73-4 Part 2, 3.1.1
	h.c.Reset()
	h.expect("00200080", swUnknownInstruction)
	h.ok("00A4040005A000000308")
	h.expect("00200080", 0x63C3)
}

func TestStatusWords(t *testing.T) {
	h := selected(t, Profile54())
	for apdu, want := range map[string]uint16{
		"":                                 swWrongLength,
		"0020":                             swWrongLength,
		"00200080 02 31":                   swWrongLength,
		"00200080 01 31 00 00":             swWrongLength,
		"00200080 00 00":                   swWrongLength,
		"00200080 00 0002 31":              swWrongLength,
		"00200080 00 0000 31":              swWrongLength,
		"80200080":                         swUnknownClass,
		"40200080":                         swUnknownClass,
		"04200080":                         swSecureMessaging,
		"01200080":                         swChannelNotSupported,
		"00C00000 00":                      swConditionsNotMet, // nothing to fetch
		"00010000":                         swUnknownInstruction,
		"00F60000":                         swUnknownInstruction, // MOVE KEY came with 5.7
		"00200000":                         swReferenceNotFound,
		"00200096":                         swReferenceNotFound,
		"00200081":                         swWrongParameters,
		"00200080 02 3131":                 swWrongData,
		"00CB3FFF 05 5C035FC105 00":        swNotFound,
		"00CB3FFF 05 5C035FC109 00":        swSecurityNotSatisfied,
		"00CB3FFE 05 5C035FC105 00":        swWrongParameters,
		"00CB3FFF 03 5C045F 00":            swWrongData,
		"00DB3FFF 09 5C035FC105 5302 0102": swSecurityNotSatisfied,
		"0047009A 05 AC0380 0111":          swSecurityNotSatisfied,
		"00FE119A 00":                      swSecurityNotSatisfied,
		"00FFFFFF 00":                      swSecurityNotSatisfied,
		"00FA0303":                         swSecurityNotSatisfied,
		"00FB0000":                         swConditionsNotMet,
		"00F7009A 00":                      swReferenceNotFound,
		"00F70042 00":                      swReferenceNotFound,
		"00F99A00 00":                      swWrongData,
		"00F94200 00":                      swWrongParameters,
		"0087119A 04 7C028100":             swReferenceNotFound, // no key there
		"00871142 04 7C028100":             swWrongParameters,
		"0087119A 04 7C038100":             swWrongData,
	} {
		h.expect(apdu, want)
	}
	if got := h.ok("00FD000000"); !bytes.Equal(got, []byte{5, 4, 3}) {
		t.Errorf("version %x", got)
	}
	if got := h.ok("00F8000000"); new(big.Int).SetBytes(got).Int64() != 12345678 || len(got) != 4 {
		t.Errorf("serial %x", got)
	}
	if got, want := h.ok("00CB3FFF 03 5C017E 00"), "7e124f0ba0000003080000100001005f2f024000"; hex.EncodeToString(got) != want {
		t.Errorf("discovery object %x; want %s", got, want)
	}
}

func TestLongCommandsAndResponses(t *testing.T) {
	h := selected(t, Profile54())
	h.manage()
	object := bytes.Repeat([]byte("0123456789"), 200)
	data := append([]byte{0x5c, 3, 0x5f, 0xc1, 0x05}, tlv(0x53, object)...)

	// In, by command chaining.
	for len(data) > 255 {
		if out, sw := h.raw(append([]byte{0x10, insPutData, 0x3f, 0xff, 255}, data[:255]...)); sw != swOK || len(out) != 0 {
			t.Fatalf("chain: %x %04X", out, sw)
		}
		data = data[255:]
	}
	if _, sw := h.raw(append([]byte{0x00, insPutData, 0x3f, 0xff, byte(len(data))}, data...)); sw != swOK {
		t.Fatalf("end of chain: %04X", sw)
	}

	// Out, in pieces: 61xx and GET RESPONSE.
	var got []byte
	out, sw := h.send("00CB3FFF 05 5C035FC105")
	for sw>>8 == 0x61 {
		got = append(got, out...)
		if left := len(object) + 4 - len(got); int(sw&0xff) != left && (left < 256 || sw&0xff != 0) {
			t.Fatalf("%d bytes left, card said %04X", left, sw)
		}
		out, sw = h.send("00C0000000")
	}
	if got = append(got, out...); sw != swOK || !bytes.Equal(got, tlv(0x53, object)) {
		t.Fatalf("got %d bytes, %04X", len(got), sw)
	}
	// Out, at once: extended Le.
	if got, sw := h.command(insGetData, 0x3f, 0xff, []byte{0x5c, 3, 0x5f, 0xc1, 5}); sw != swOK || !bytes.Equal(got, tlv(0x53, object)) {
		t.Errorf("extended: %d bytes, %04X", len(got), sw)
	}
	// A short Le is obeyed.
	if out, sw := h.send("00CB3FFF 05 5C035FC105 10"); len(out) != 16 || sw>>8 != 0x61 {
		t.Errorf("Le 16: %d bytes, %04X", len(out), sw)
	}
	// Another command drops what was not fetched.
	h.ok("00FD000000")
	h.expect("00C0000000", swConditionsNotMet)

	// A chain that is interrupted is forgotten, one without end refused.
	h.ok("10DB3FFF 02 5C03")
	h.ok("00FD000000")
	h.expect("00DB3FFF 03 5FC105", swWrongData)
	for i := 0; ; i++ {
		_, sw := h.raw(append([]byte{0x10, insPutData, 0x3f, 0xff, 255}, make([]byte, 255)...))
		if sw == swNotEnoughMemory {
			break
		}
		if sw != swOK || i > 100 {
			t.Fatalf("endless chain: %04X after %d parts", sw, i)
		}
	}
	if _, sw := h.command(insPutData, 0x3f, 0xff, append([]byte{0x5c, 3, 0x5f, 0xc1, 5}, tlv(0x53, make([]byte, maxObject+1))...)); sw != swNotEnoughMemory {
		t.Errorf("object too long: %04X", sw)
	}
}

func TestPINPolicies(t *testing.T) {
	h := selected(t, Profile54())
	h.manage()
	digest := sha256.Sum256([]byte("x"))
	always := h.generate(slotSignature, P256, 0, 0) // default of 9C
	h.generate(slotKeyManagement, P256, 0, 0)       // once
	h.generate(slotCardAuthentication, P256, 0, 0)  // never
	if len(always) != 67 {
		t.Fatalf("public key %x", always)
	}
	use := func(slot byte, want uint16) {
		t.Helper()
		if _, sw := h.sign(slot, P256, digest[:]); sw != want {
			t.Errorf("slot %02x: %04X; want %04X", slot, sw, want)
		}
	}
	use(slotSignature, swSecurityNotSatisfied)
	use(slotKeyManagement, swSecurityNotSatisfied)
	use(slotCardAuthentication, swOK)
	h.ok(verify123456)
	use(slotSignature, swOK)
	use(slotSignature, swSecurityNotSatisfied) // spent
	use(slotKeyManagement, swOK)
	use(slotKeyManagement, swOK)
	h.ok(verify123456)
	use(slotSignature, swOK)
	h.expect("0020FF80", swOK) // logout
	use(slotKeyManagement, swSecurityNotSatisfied)
	h.ok(verify123456)
	h.expect(verify000000, 0x63C2) // a wrong PIN takes the right one's effect away
	use(slotKeyManagement, swSecurityNotSatisfied)
}

func TestTouch(t *testing.T) {
	var asked []byte
	finger := true
	h := host{t, testCard(t, Profile57(), Config{Touch: func(slot byte) bool {
		asked = append(asked, slot)
		return finger
	}})}
	h.ok("00A4040005A000000308")
	h.manage()
	h.generate(slotAuthentication, P256, PINNever, TouchAlways)
	h.generate(slotSignature, P256, PINNever, TouchCached)
	h.generate(slotKeyManagement, P256, PINNever, TouchNever)
	digest := make([]byte, 32)
	for _, slot := range []byte{slotAuthentication, slotAuthentication, slotSignature, slotSignature, slotKeyManagement} {
		if _, sw := h.sign(slot, P256, digest); sw != swOK {
			t.Errorf("slot %02x: %04X", slot, sw)
		}
	}
	if want := []byte{0x9a, 0x9a, 0x9c}; !bytes.Equal(asked, want) {
		t.Errorf("asked for touches at %x; want %x", asked, want)
	}
	finger = false
	if _, sw := h.sign(slotAuthentication, P256, digest); sw != swSecurityNotSatisfied {
		t.Errorf("untouched: %04X", sw)
	}
}

func TestEveryAlgorithm(t *testing.T) {
	h := selected(t, Profile57())
	h.manage()
	for _, a := range Profile57().keys {
		if a == RSA3072 || a == RSA4096 {
			continue // slow; piv-go's suite makes them
		}
		for _, origin := range []byte{OriginGenerated, OriginImported} {
			if origin == OriginGenerated {
				h.generate(slotAuthentication, a, PINNever, TouchNever)
			} else {
				h.importKey(slotAuthentication, a)
			}
			meta, sw := h.command(insMetadata, 0, slotAuthentication, nil)
			fields, err := readTLVs(meta)
			if sw != swOK || err != nil || !bytes.Equal(fields[1], []byte{byte(a)}) ||
				!bytes.Equal(fields[2], []byte{PINNever, TouchNever}) || !bytes.Equal(fields[3], []byte{origin}) {
				t.Fatalf("%02x: metadata %x %04X", a, meta, sw)
			}
			h.use(slotAuthentication, a, fields[4])
			if _, sw := h.command(insAttest, slotAuthentication, 0, nil); (sw == swOK) != (origin == OriginGenerated && a != X25519) {
				t.Errorf("%02x of origin %d attested: %04X", a, origin, sw)
			}
		}
	}
}

// importKey makes a key on the host and sends it in.
func (h host) importKey(slot byte, a Algorithm) {
	h.t.Helper()
	k, err := generateKey(rand.Reader, a)
	if err != nil {
		h.t.Fatal(err)
	}
	var data []byte
	switch k := k.(type) {
	case *rsa.PrivateKey:
		for i, v := range []*big.Int{k.Primes[0], k.Primes[1], k.Precomputed.Dp, k.Precomputed.Dq, k.Precomputed.Qinv} {
			data = append(data, tlv(uint16(i+1), v.FillBytes(make([]byte, k.Size()/2)))...)
		}
	case *ecdsa.PrivateKey:
		b, err := k.Bytes()
		if err != nil {
			h.t.Fatal(err)
		}
		data = tlv(6, b)
	case ed25519.PrivateKey:
		data = tlv(7, k.Seed())
	case *ecdh.PrivateKey:
		data = tlv(8, k.Bytes())
	}
	data = append(data, 0xaa, 1, PINNever, 0xab, 1, TouchNever)
	if _, sw := h.command(insImport, byte(a), slot, data); sw != swOK {
		h.t.Fatalf("import %02x: %04X", a, sw)
	}
}

// use signs and agrees as far as the algorithm goes, and verifies with the
// public key template.
func (h host) use(slot byte, a Algorithm, template []byte) {
	h.t.Helper()
	pub, err := readTLVs(template)
	if err != nil {
		h.t.Fatal(err)
	}
	response := func(fields ...[]byte) []byte {
		out, sw := h.command(insAuthenticate, byte(a), slot, tlv(0x7c, append([][]byte{tlv(0x82)}, fields...)...))
		if sw != swOK {
			h.t.Fatalf("%02x: %04X", a, sw)
		}
		_, body, _, err := readTLV(out)
		if err != nil {
			h.t.Fatal(err)
		}
		_, v, _, err := readTLV(body)
		if err != nil {
			h.t.Fatal(err)
		}
		return v
	}
	switch {
	case rsaBits(a) != 0:
		n := new(big.Int).SetBytes(pub[0x81])
		x := big.NewInt(0x1234567)
		y := response(tlv(0x81, x.FillBytes(make([]byte, rsaBits(a)/8))))
		if e := new(big.Int).SetBytes(pub[0x82]); new(big.Int).Exp(new(big.Int).SetBytes(y), e, n).Cmp(x) != 0 {
			h.t.Errorf("%02x: wrong private operation", a)
		}
		for _, bad := range [][]byte{n.Bytes(), x.Bytes()} { // not below N; not as long as N
			if _, sw := h.sign(slot, a, bad); sw != swWrongData {
				h.t.Errorf("%02x: %04X for a bad input", a, sw)
			}
		}
	case curve(a) != nil:
		key, err := ecdsa.ParseUncompressedPublicKey(curve(a), pub[0x86])
		if err != nil {
			h.t.Fatal(err)
		}
		digest := bytes.Repeat([]byte{9}, curve(a).Params().BitSize/8)
		if !ecdsa.VerifyASN1(key, digest, response(tlv(0x81, digest))) {
			h.t.Errorf("%02x: wrong signature", a)
		}
		own, err := key.ECDH()
		if err != nil {
			h.t.Fatal(err)
		}
		h.agree(a, own, response)
		off := bytes.Clone(own.Bytes())
		off[len(off)-1] ^= 1
		if _, sw := h.command(insAuthenticate, byte(a), slot, tlv(0x7c, tlv(0x82), tlv(0x85, off))); sw != swWrongData {
			h.t.Errorf("%02x: %04X for a point off the curve", a, sw)
		}
	case a == Ed25519:
		if m := []byte("any message"); !ed25519.Verify(pub[0x86], m, response(tlv(0x81, m))) {
			h.t.Errorf("%02x: wrong signature", a)
		}
	case a == X25519:
		own, err := ecdh.X25519().NewPublicKey(pub[0x86])
		if err != nil {
			h.t.Fatal(err)
		}
		h.agree(a, own, response)
	}
}

func (h host) agree(a Algorithm, own *ecdh.PublicKey, response func(...[]byte) []byte) {
	peer, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	want, err := peer.ECDH(own)
	if err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(response(tlv(0x85, peer.PublicKey().Bytes())), want) {
		h.t.Errorf("%02x: wrong shared secret", a)
	}
}

func TestImportRefusesNonsense(t *testing.T) {
	h := selected(t, Profile57())
	h.manage()
	half := bytes.Repeat([]byte{0xff}, 128)
	for name, c := range map[string]struct {
		alg  Algorithm
		data []byte
	}{
		"composite primes":     {RSA2048, append(tlv(1, half), tlv(2, append(bytes.Clone(half[:127]), 0xfd))...)},
		"equal primes":         {RSA2048, append(tlv(1, half), tlv(2, half)...)},
		"short primes":         {RSA2048, append(tlv(1, half[:64]), tlv(2, half[:64])...)},
		"no primes":            {RSA2048, nil},
		"zero scalar":          {P256, tlv(6, make([]byte, 32))},
		"scalar of the order":  {P256, tlv(6, curve(P256).Params().N.Bytes())},
		"short scalar":         {P256, tlv(6, []byte{1})},
		"short seed":           {Ed25519, tlv(7, []byte{1})},
		"unknown field":        {P256, append(tlv(6, bytes.Repeat([]byte{1}, 32)), tlv(0x55, []byte{1})...)},
		"unknown policy":       {P256, append(tlv(6, bytes.Repeat([]byte{1}, 32)), tlv(0xaa, []byte{4})...)},
		"the same field twice": {P256, append(tlv(6, bytes.Repeat([]byte{1}, 32)), tlv(6, bytes.Repeat([]byte{2}, 32))...)},
	} {
		if _, sw := h.command(insImport, byte(c.alg), slotAuthentication, c.data); sw != swWrongData {
			t.Errorf("%s: %04X", name, sw)
		}
	}
	if _, sw := h.command(insImport, 0x42, slotAuthentication, nil); sw != swWrongParameters {
		t.Errorf("unknown algorithm: %04X", sw)
	}
	if len(h.c.state.Keys) != 1 {
		t.Errorf("%d keys; want the attestation key alone", len(h.c.state.Keys))
	}
}

func TestManagementKey(t *testing.T) {
	for _, p := range []Profile{Profile54(), Profile57()} {
		h := selected(t, p)
		alg := byte(p.Management)
		var block cipher.Block
		var err error
		if p.Management == TripleDES {
			block, err = des.NewTripleDESCipher(DefaultManagementKey())
		} else {
			block, err = aes.NewCipher(DefaultManagementKey())
		}
		if err != nil {
			t.Fatal(err)
		}
		n := block.BlockSize()

		// External authentication, and its challenge used twice.
		out, sw := h.command(insAuthenticate, alg, slotManagement, []byte{0x7c, 2, 0x81, 0})
		if sw != swOK || len(out) != n+4 {
			t.Fatalf("challenge %x %04X", out, sw)
		}
		answer := make([]byte, n)
		block.Encrypt(answer, out[4:])
		if _, sw := h.command(insAuthenticate, alg, slotManagement, tlv(0x7c, tlv(0x82, answer))); sw != swOK || !h.c.managerOK {
			t.Fatalf("external authentication: %04X", sw)
		}
		if _, sw := h.command(insAuthenticate, alg, slotManagement, tlv(0x7c, tlv(0x82, answer))); sw != swWrongData || h.c.managerOK {
			t.Errorf("replayed: %04X", sw)
		}

		// Mutual authentication with a wrong witness, then the right one too late.
		out, _ = h.command(insAuthenticate, alg, slotManagement, []byte{0x7c, 2, 0x80, 0})
		witness := make([]byte, n)
		block.Decrypt(witness, out[4:])
		if _, sw := h.command(insAuthenticate, alg, slotManagement, tlv(0x7c, tlv(0x80, make([]byte, n)), tlv(0x81, make([]byte, n)))); sw != swSecurityNotSatisfied {
			t.Errorf("wrong witness: %04X", sw)
		}
		if _, sw := h.command(insAuthenticate, alg, slotManagement, tlv(0x7c, tlv(0x80, witness), tlv(0x81, make([]byte, n)))); sw != swWrongData {
			t.Errorf("witness after a wrong one: %04X", sw)
		}
		if _, sw := h.command(insAuthenticate, byte(AES256), slotManagement, []byte{0x7c, 2, 0x80, 0}); sw != swWrongParameters {
			t.Errorf("another algorithm: %04X", sw)
		}

		h.manage()
		if _, sw := h.command(insSetManagement, 0xff, 0xff, append([]byte{byte(AES256), 0x9b, 32}, make([]byte, 24)...)); sw != swWrongData {
			t.Errorf("short AES-256 key: %04X", sw)
		}
		if _, sw := h.command(insSetManagement, 0xff, 0xfe, append([]byte{byte(AES256), 0x9b, 32}, bytes.Repeat([]byte{5}, 32)...)); sw != swOK {
			t.Errorf("set management key: %04X", sw)
		}
		if got := h.ok("00F7009B 00"); hex.EncodeToString(got) != "01010c02020002050100" {
			t.Errorf("metadata of 9B: %x", got)
		}
		h.manage()
	}
}

func TestAttestation(t *testing.T) {
	root, err := sharedRoot()
	if err != nil {
		t.Fatal(err)
	}
	h := selected(t, Profile57())
	h.manage()
	h.generate(slotSignature, P384, PINAlways, TouchCached)
	der, sw := h.command(insAttest, slotSignature, 0, nil)
	if sw != swOK {
		t.Fatalf("%04X", sw)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, sw := h.c.attestationCertificate()
	if sw != swOK {
		t.Fatalf("%04X", sw)
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AddCert(root.Certificate)
	o.Intermediates.AddCert(intermediate)
	if _, err := leaf.Verify(o); err != nil {
		t.Error(err)
	}
	other, err := NewRoot(rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.Roots = x509.NewCertPool()
	o.Roots.AddCert(other.Certificate)
	if _, err := leaf.Verify(o); err == nil {
		t.Error("another root vouches for the card")
	}
	// An attested key cannot issue: the intermediate allows no further CA.
	if leaf.IsCA || !intermediate.MaxPathLenZero {
		t.Error("an attested key could attest")
	}
}

func TestMoveKey(t *testing.T) {
	h := selected(t, Profile57())
	h.manage()
	h.generate(slotSignature, P256, PINNever, TouchNever)
	h.expect("00F6 82 9C", swOK)
	h.expect("00F7009C 00", swReferenceNotFound)
	if _, sw := h.sign(0x82, P256, make([]byte, 32)); sw != swOK {
		t.Errorf("moved key: %04X", sw)
	}
	h.generate(slotSignature, P256, PINNever, TouchNever)
	h.expect("00F6 82 9C", swConditionsNotMet) // there is a key already
	h.expect("00F6 F9 9C", swWrongParameters)
	h.expect("00F6 FF 82", swOK) // delete
	h.expect("00F6 FF 82", swReferenceNotFound)
}

func TestFactoryReset(t *testing.T) {
	h := selected(t, Profile57())
	h.manage()
	h.generate(slotSignature, P256, PINNever, TouchNever)
	attested, _ := h.command(insGetData, 0x3f, 0xff, []byte{0x5c, 3, 0x5f, 0xff, 0x01})
	chuid := h.ok("00CB3FFF 05 5C035FC102 00")
	h.expect("00FB0000", swConditionsNotMet)
	for range 3 {
		h.send(verify000000)
	}
	h.expect("00FB0000", swConditionsNotMet)
	for range 3 {
		h.send("002C0080 10 3030303030303030 313233343536FFFF")
	}
	h.expect("00FB0000", swOK)
	h.expect("00F7009C 00", swReferenceNotFound)
	h.expect(verify123456, swOK)
	if h.c.managerOK {
		t.Error("the management key is still proved after a reset")
	}
	if again, _ := h.command(insGetData, 0x3f, 0xff, []byte{0x5c, 3, 0x5f, 0xff, 0x01}); !bytes.Equal(attested, again) || len(again) == 0 {
		t.Error("a reset changed the attestation certificate")
	}
	if bytes.Equal(chuid, h.ok("00CB3FFF 05 5C035FC102 00")) {
		t.Error("a reset kept the CHUID")
	}
}

// TestDiskFull: when the state cannot be saved the card grants nothing.
func TestDiskFull(t *testing.T) {
	full := false
	h := host{t, testCard(t, Profile54(), Config{Save: func(*State) error {
		if full {
			return errors.New("disk full")
		}
		return nil
	}})}
	h.ok("00A4040005A000000308")
	h.manage()
	full = true
	h.expect(verify123456, swMemoryFailure)
	h.expect("00200080", 0x63C2) // the try is spent
	h.expect("0047009A 05 AC0380 0111", swMemoryFailure)
	h.expect("00DB3FFF 09 5C035FC105 5302 0102", swMemoryFailure)
	full = false
	h.expect(verify123456, swOK)
}
