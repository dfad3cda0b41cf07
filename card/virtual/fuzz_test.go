package virtual

import (
	"encoding/json"
	"testing"
)

// FuzzTransmit sends arbitrary commands, each preceded by a byte of length, to
// a card whose PIN and management key were proved, so that nothing is out of
// reach. Whatever comes, the card answers with a status word, and its state
// stays one that it could start from.
func FuzzTransmit(f *testing.F) {
	frames := func(commands ...string) []byte {
		var out []byte
		for _, c := range commands {
			out = append(out, byte(len(c)))
			out = append(out, c...)
		}
		return out
	}
	f.Add(frames("\x00\xa4\x04\x00\x05\xa0\x00\x00\x03\x08", "\x00\xfd\x00\x00\x00", "\x00\xf8\x00\x00\x00"))
	f.Add(frames("\x00\x20\x00\x80\x08000000\xff\xff", "\x00\x24\x00\x80\x10123456\xff\xff654321\xff\xff", "\x00\x2c\x00\x80\x1012345678654321\xff\xff"))
	f.Add(frames("\x00\x47\x00\x9c\x05\xac\x03\x80\x01\x11", "\x00\x87\x11\x9c\x06\x7c\x04\x82\x00\x81\x00", "\x00\xf9\x9c\x00\x00", "\x00\xc0\x00\x00\x00"))
	f.Add(frames("\x00\x47\x00\x9d\x05\xac\x03\x80\x01\xe0", "\x00\xf7\x00\x9d\x00", "\x00\xf6\x82\x9d", "\x00\xf6\xff\x82"))
	f.Add(frames("\x10\xdb\x3f\xff\x05\x5c\x03\x5f\xc1\x05", "\x00\xdb\x3f\xff\x03\x53\x01\x00", "\x00\xcb\x3f\xff\x05\x5c\x03\x5f\xc1\x05\x00"))
	f.Add(frames("\x00\xfe\x11\x9a\x22\x06\x2001234567890123456789012345678901", "\x00\xff\xff\xff\x13\x08\x9b\x100123456789012345", "\x00\xfa\x03\x03", "\x00\xfb\x00\x00"))
	f.Add(frames("\x00\x87\x0a\x9b\x04\x7c\x02\x80\x00", "\x00\x87\x0a\x9b\x00\x00\x04\x7c\x02\x81\x00\x00\x00"))
	fresh, err := json.Marshal(testState(f, Profile57()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := DecodeState(fresh)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(s, Config{})
		if err != nil {
			t.Fatal(err)
		}
		c.selected, c.pinOK, c.pinFresh, c.managerOK = true, true, true, true
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			apdu := in[1 : 1+n]
			in = in[1+n:]
			if cmd, _ := parseCommand(apdu); cmd.ins == insGenerate && c.chain == nil {
				if _, body, _, err := readTLV(cmd.data); err == nil {
					if m, err := readTLVs(body); err == nil && len(m[tagAlgorithm]) == 1 && rsaBits(Algorithm(m[tagAlgorithm][0])) > 0 {
						continue // a second for each RSA key
					}
				}
			}
			r := c.Transmit(apdu)
			if len(r) < 2 {
				t.Fatalf("%x: answer %x", apdu, r)
			}
			switch hi := r[len(r)-2]; {
			case hi == 0x90 && r[len(r)-1] == 0, hi >= 0x61 && hi <= 0x6f:
			default:
				t.Fatalf("%x: status %x", apdu, r[len(r)-2:])
			}
			if hi := r[len(r)-2]; hi != 0x90 && hi != 0x61 && len(r) != 2 {
				t.Fatalf("%x: data with an error: %x", apdu, r)
			}
		}
		if c.chain != nil && len(c.chain.data) > maxCommand {
			t.Fatalf("a chain of %d bytes is held", len(c.chain.data))
		}
		b, err := json.Marshal(c.state)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(b); err != nil {
			t.Fatalf("the state is not one to start from: %v", err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	for _, p := range []Profile{Profile54(), Profile57()} {
		b, err := json.Marshal(testState(f, p))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		c, err := New(s, Config{})
		if err != nil {
			t.Fatal(err)
		}
		c.Transmit([]byte{0, insSelect, 4, 0, 5, 0xa0, 0, 0, 3, 8})
		for slot := range 256 {
			c.Transmit([]byte{0, insMetadata, 0, byte(slot), 0})
			c.Transmit([]byte{0, insAttest, byte(slot), 0, 0})
		}
	})
}
