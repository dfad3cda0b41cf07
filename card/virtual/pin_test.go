package virtual

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// TestPINModel drives a card with random commands, power cuts and restarts
// from what was saved, and compares it with a model of two counters.
func TestPINModel(t *testing.T) {
	fresh, err := json.Marshal(testState(t, Profile57()))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var saved []byte
		boot := func(b []byte) *Card {
			s, err := DecodeState(b)
			if err != nil {
				t.Fatal(err)
			}
			c, err := New(s, Config{Save: func(s *State) (err error) {
				saved, err = json.Marshal(s)
				return err
			}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		saved = fresh
		c := boot(saved)
		const max = 3
		type secret struct {
			value string
			tries int
		}
		pin, puk := secret{DefaultPIN, max}, secret{DefaultPUK, max}
		verified := false
		secrets := rapid.SampledFrom([]string{DefaultPIN, DefaultPUK, "654321", "abcdefg"})
		padded := func(s string) []byte {
			b, err := pad(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		send := func(ins, p2 byte, data []byte) uint16 {
			c.Transmit([]byte{0, insSelect, 4, 0, 5, 0xa0, 0, 0, 3, 8})
			r := c.Transmit(append([]byte{0, ins, 0, p2, byte(len(data))}, data...))
			return uint16(r[0])<<8 | uint16(r[1])
		}
		// try is the model: what comparing candidate with s answers.
		try := func(s *secret, candidate string) uint16 {
			switch {
			case s.tries == 0:
				return swBlocked
			case s.value == candidate:
				s.tries = max
				return swOK
			}
			s.tries--
			return swTriesLeft | uint16(s.tries)
		}
		expect := func(what string, got, want uint16) {
			if got != want {
				t.Fatalf("%s: %04X; want %04X", what, got, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"verify": func(t *rapid.T) {
				p := secrets.Draw(t, "pin")
				want := try(&pin, p)
				expect("VERIFY", send(insVerify, referencePIN, padded(p)), want)
				verified = want == swOK
			},
			"change PIN": func(t *rapid.T) {
				old, next := secrets.Draw(t, "old"), secrets.Draw(t, "new")
				want := try(&pin, old)
				if want == swOK {
					pin.value = next
				}
				verified = false
				expect("CHANGE PIN", send(insChangeReference, referencePIN, append(padded(old), padded(next)...)), want)
			},
			"change PUK": func(t *rapid.T) {
				old, next := secrets.Draw(t, "old"), secrets.Draw(t, "new")
				want := try(&puk, old)
				if want == swOK {
					puk.value = next
				}
				expect("CHANGE PUK", send(insChangeReference, referencePUK, append(padded(old), padded(next)...)), want)
			},
			"unblock": func(t *rapid.T) {
				with, next := secrets.Draw(t, "puk"), secrets.Draw(t, "new")
				want := try(&puk, with)
				if want == swOK {
					pin = secret{next, max}
				}
				verified = false
				expect("RESET RETRY COUNTER", send(insResetRetry, referencePIN, append(padded(with), padded(next)...)), want)
			},
			"reset": func(*rapid.T) {
				c.Reset()
				verified = false
			},
			"restart": func(*rapid.T) {
				c = boot(saved)
				verified = false
			},
			"": func(t *rapid.T) {
				want := uint16(swTriesLeft | uint16(pin.tries))
				switch {
				case verified:
					want = swOK
				case pin.tries == 0:
					want = swBlocked
				}
				c.Transmit([]byte{0, insSelect, 4, 0, 5, 0xa0, 0, 0, 3, 8})
				r := c.Transmit([]byte{0, insVerify, 0, referencePIN})
				expect("status", uint16(r[0])<<8|uint16(r[1]), want)
			},
		})
	})
}

// TestTrySavedFirst cuts the power at the first save of a VERIFY, when the
// card has not compared yet: the try must be gone already, also for the right
// PIN, and come back only with a second save.
func TestTrySavedFirst(t *testing.T) {
	type cut struct{}
	for _, pin := range []string{verify123456, verify000000} {
		var saved []byte
		h := host{t, testCard(t, Profile54(), Config{Save: func(s *State) (err error) {
			saved, err = json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			panic(cut{})
		}})}
		h.ok("00A4040005A000000308")
		func() {
			defer func() {
				if r := recover(); r != (cut{}) {
					t.Fatalf("no save before the answer (%v)", r)
				}
			}()
			h.send(pin)
		}()
		s, err := DecodeState(saved)
		if err != nil {
			t.Fatal(err)
		}
		if s.PIN.Tries != defaultTries-1 {
			t.Errorf("%d tries left after the power cut; want %d", s.PIN.Tries, defaultTries-1)
		}
	}
}

func TestNewPINForm(t *testing.T) {
	h := selected(t, Profile54())
	old := append([]byte(DefaultPIN), 0xff, 0xff)
	for _, next := range [][]byte{
		[]byte("12345\xff\xff\xff"), bytes.Repeat([]byte{0xff}, 8), []byte("1234\xff678"),
	} {
		if _, sw := h.command(insChangeReference, 0, referencePIN, append(bytes.Clone(old), next...)); sw != swWrongData {
			t.Errorf("new PIN %x: %04X", next, sw)
		}
	}
	h.expect(verify123456, swOK)
}

func TestSetTries(t *testing.T) {
	h := selected(t, Profile54())
	h.manage()
	h.expect("00FA0502", swSecurityNotSatisfied)
	h.ok(verify123456)
	h.expect("00FA0002", swWrongData)
	h.expect("00FA0502", swOK)
	h.expect("00200080", 0x63C5)
	if got := h.ok("00F70081 00"); !bytes.Equal(got, []byte{5, 1, 1, 6, 2, 2, 2}) {
		t.Errorf("metadata of the PUK: %x", got)
	}
}
