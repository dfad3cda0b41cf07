package firmware_test

import (
	"crypto/rand"
	"errors"
	"strings"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// refused is a device's refusal.
type refused struct{ firmware.Refusal }

func (r *refused) Error() string { return r.Code + ": " + r.Text }

// want demands a refusal with a code and a text.
func (w *world) want(name string, err error, code, text string) {
	w.t.Helper()
	var r *refused
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.Text, text) {
		w.t.Errorf("%s: %v, want %s: … %s …", name, err, code, text)
	}
}

// frame is what a device's message server says to it.
func (w *world) frame(device, typ string, body any) []byte {
	w.t.Helper()
	d, _ := w.State.Device(device)
	return w.sealed(device, typ, body, d.Agree)
}

// sealed is a frame to a key, or an open one to none.
func (w *world) sealed(device, typ string, body any, agree []byte) []byte {
	w.t.Helper()
	d, _ := w.State.Device(device)
	payload, err := envelope.Marshal(body)
	w.check(err)
	h := envelope.Header{
		Type: typ, Version: firmware.MessageVersion, System: w.State.System(), Created: w.Now, Expires: w.Now + 60,
	}
	if agree != nil {
		h.To = []envelope.KeyID{envelope.KeyIDOfSPKI(agree)}
	}
	raw, err := envelope.Sign(rand.Reader, w.Servers[d.Server].Sign, h, payload)
	w.check(err)
	if agree == nil {
		return raw
	}
	frame, err := envelope.Seal(rand.Reader, raw, keysOf(w.t, agree))
	w.check(err)
	return frame
}

// ask sends a device what its message server says, and verifies the answer.
func ask[R any](w *world, device, typ string, body any, reply string) (*R, []byte, error) {
	w.t.Helper()
	answer, err := w.devices[device].Relay(w.frame(device, typ, body))
	if err != nil {
		return nil, nil, err
	}
	return read[R](w, device, answer, reply)
}

// interject is ask between two pieces of the device's work.
func interject[R any](w *world, device, typ string, body any, reply string) (*R, error) {
	w.t.Helper()
	answer, err := w.devices[device].Interject(w.frame(device, typ, body))
	w.check(err)
	out, _, err := read[R](w, device, answer, reply)
	return out, err
}

// read verifies a device's answer.
func read[R any](w *world, device string, answer []byte, reply string) (*R, []byte, error) {
	w.t.Helper()
	d, _ := w.State.Device(device)
	raw, err := envelope.Open(answer, w.Servers[d.Server].Agree)
	w.check(err)
	w.said[device] = append(w.said[device], raw)
	u, err := envelope.Parse(raw)
	w.check(err)
	key := &w.Devices[device].Sign.PublicKey
	if u.Header().Signer != ledgertest.KeyID(w.t, w.Devices[device].Sign) { // locked
		key = &w.Devices[device].Boot.PublicKey
	}
	v, err := u.Verify(key)
	w.check(err)
	if v.Header().Type == firmware.TypeRefusal {
		r := &refused{}
		w.check(envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &r.Refusal))
		return nil, nil, r
	}
	out := new(R)
	w.check(envelope.Decode(v, reply, firmware.MessageVersion, out))
	return out, raw, nil
}
