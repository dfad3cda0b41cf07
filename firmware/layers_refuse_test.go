package firmware_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestWorkRefused: whatever is wrong with a task is named, and nothing is
// computed.
func TestWorkRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.begin(a, "www.example.org", "device-1", "device-2", "device-3", "device-4")
	other := w.begin(a, "www.example.com", "device-1")
	key := x.r.Key
	type header = envelope.Header
	type packet = firmware.Distribution
	good := packet{Enterprise: 1, Distributor: 1, Task: 1, Request: x.r.digest, Hash: x.r.checked.Digest(), Documents: 1, Created: w.Now, Expires: w.Now + 60}
	by := func(server string, change func(*packet, *header)) []byte {
		return w.distributionBy(server, good, key, change)
	}
	file := w.fileRequest()
	for _, tc := range []struct {
		name       string
		packet     []byte
		code, text string
	}{
		{"no packet", []byte{1}, firmware.CodeTask, "task packet"},
		{"by a server that is no distributor", by("server-3", func(*packet, *header) {}), firmware.CodeTask, "distributor 1 is server server-1"},
		{"another distributor's number", by("server-1", func(p *packet, _ *header) { p.Distributor = 2 }), firmware.CodeTask, "distributor 2 is server server-2"},
		{"no distributor's number", by("server-1", func(p *packet, _ *header) { p.Distributor = 9 }), firmware.CodeTask, "no distributor 9"},
		{"no enterprise", by("server-1", func(p *packet, _ *header) { p.Enterprise = 2 }), firmware.CodeTask, "no such enterprise"},
		{"another key in the header", by("server-1", func(_ *packet, h *header) { h.Key = "certs" }), firmware.CodeTask, `is for key "certs"`},
		{"another system", by("server-1", func(_ *packet, h *header) { h.System[0] ^= 1 }), firmware.CodeTask, "another system"},
		{"another type", by("server-1", func(_ *packet, h *header) { h.Type = "task" }), firmware.CodeTask, "task"},
		{"another time in the header", by("server-1", func(_ *packet, h *header) { h.Expires++ }), firmware.CodeTask, "different times"},
		{"a life of three days", by("server-1", func(p *packet, h *header) { p.Expires += 3 * 86400; h.Expires = p.Expires }), firmware.CodeTask, "at most"},
		{"expired", by("server-1", func(p *packet, h *header) {
			p.Created, p.Expires = w.Now-60, w.Now
			h.Created, h.Expires = p.Created, p.Expires
		}), firmware.CodeExpired, "expired"},
		{"no number", by("server-1", func(p *packet, _ *header) { p.Task = 0 }), firmware.CodeTask, "names no task"},
		{"a hash of nothing", by("server-1", func(p *packet, _ *header) { p.Hash = nil }), firmware.CodeTask, "no hash"},
		{"the hash of something else", by("server-1", func(p *packet, _ *header) { p.Hash = other.r.checked.Digest() }), firmware.CodeTask, "its hash is not that of the document"},
		{"another request", by("server-1", func(p *packet, _ *header) { p.Request = other.r.digest }), firmware.CodeTask, "is for request"},
		{"under a ledger that the device has not", by("server-1", func(_ *packet, h *header) { h.LedgerHead[0] ^= 1 }), firmware.CodeLedger, "hand it the newer entries"},
		{"of a distributor under a ledger that the device has not", by("server-1", func(p *packet, h *header) { p.Distributor = 9; h.LedgerHead[0] ^= 1 }), firmware.CodeLedger, "hand it the newer entries"},
		{"signed by a device", resigned(t, w, by("server-1", func(*packet, *header) {}), w.Devices["device-1"].Sign), firmware.CodeTask, "no message server's"},
	} {
		for _, device := range []string{"device-1", "device-4"} {
			in := x.powers(device)
			in.Distribution = tc.packet
			var err error
			if device == "device-1" {
				_, _, err = w.powers(device, in)
			} else {
				_, _, err = w.combine(device, firmware.CombineTask{Distribution: in.Distribution, Request: in.Request, Offer: in.Offer, Approvals: in.Approvals})
			}
			w.want(tc.name+" at "+device, err, tc.code, tc.text)
		}
	}

	// Roles.
	_, _, err := w.combine("device-1", x.combine("device-1"))
	w.want("a calculator combines", err, firmware.CodeTask, "device-1 is calculator 1 of key ca-1 and does no work of a combiner")
	_, _, err = w.powers("device-4", x.powers("device-4"))
	w.want("a combiner gives powers", err, firmware.CodeTask, "device-4 is combiner 1 of key ca-1 and does no work of a calculator")
	classic := firmware.Task{Request: x.r.raw, Offer: x.offers["device-1"].raw, Approvals: x.approvals["device-1"], Order: []uint64{1, 2}}
	_, _, err = ask[firmware.Partial](w, "device-1", firmware.TypeTask, classic, firmware.TypePartial)
	w.want("a partial signature of a key in two layers", err, firmware.CodeMessage, "shared in two layers")
	_, _, err = ask[firmware.CheckCommit](w, "device-1", firmware.TypeCheckAsk, firmware.CheckAsk{Task: classic}, firmware.TypeCheckCommit)
	w.want("a check of a key in two layers", err, firmware.CodeMessage, "shared in two layers")
	of := w.distributionBy("server-1", good, key)
	_, _, err = w.powers("device-1", firmware.PowersTask{Distribution: of, Request: file.raw})
	w.want("powers of a key in one layer", err, firmware.CodeTask, "key files is not shared in two layers")
	_, _, err = w.combine("device-1", firmware.CombineTask{Distribution: of, Request: file.raw})
	w.want("a signature of a key in one layer", err, firmware.CodeTask, "key files is not shared in two layers")

	// Officers.
	in := x.powers("device-1")
	in.Approvals = in.Approvals[:1]
	_, _, err = w.powers("device-1", in)
	w.want("one officer", err, firmware.CodeQuorum, "Officer 1b")
	in.Approvals = other.approvals["device-1"]
	_, _, err = w.powers("device-1", in)
	w.want("approvals of another request", err, firmware.CodeQuorum, "request")
	in.Approvals = x.approvals["device-2"]
	_, _, err = w.powers("device-1", in)
	w.want("another device's officers", err, firmware.CodeQuorum, "device-2")

	// Powers.
	raws := w.mustPowers(x, "device-1", "device-2", "device-3")
	combine := func(name string, code, text string, powers ...[]byte) {
		t.Helper()
		_, _, err := w.combine("device-4", x.combine("device-4", powers...))
		w.want(name, err, code, text)
	}
	combine("too few", firmware.CodeMessage, "powers of 1 calculators of key ca-1, 2 to 3 are needed", raws[0])
	combine("too many", firmware.CodeMessage, "powers of 16 calculators, at most 15", slices.Repeat(raws[:1], 16)...)
	combine("one twice", firmware.CodeMessage, "powers of calculator 1 come twice", raws[0], raws[0])
	change := func(device string, edit func(*firmware.Powers)) []byte { return w.lie(raws[0], device, edit) }
	for _, tc := range []struct {
		name, device, text string
		edit               func(*firmware.Powers)
	}{
		{"another enterprise", "device-1", "is for task", func(p *firmware.Powers) { p.Enterprise = 2 }},
		{"another distributor", "device-1", "is for task", func(p *firmware.Powers) { p.Distributor = 2 }},
		{"another task", "device-1", "is for task", func(p *firmware.Powers) { p.Task++ }},
		{"another request", "device-1", "another request", func(p *firmware.Powers) { p.Request[0] ^= 1 }},
		{"another hash", "device-1", "another hash", func(p *firmware.Powers) { p.Hash[0] ^= 1 }},
		{"another key", "device-1", "another key", func(p *firmware.Powers) { p.Key = "certs" }},
		{"another's number", "device-1", "another key, device or share", func(p *firmware.Powers) { p.Number = 3 }},
		{"another device", "device-1", "another key, device or share", func(p *firmware.Powers) { p.Device = "device-3" }},
		{"signed by another calculator", "device-3", "powers of device device-3: names another", func(*firmware.Powers) {}},
		{"signed by a combiner", "device-5", "it is no calculator of key ca-1", func(*firmware.Powers) {}},
		{"one power", "device-1", "has 1 powers", func(p *firmware.Powers) { p.Y = p.Y[:1] }},
		{"a short power", "device-1", "255 bytes", func(p *firmware.Powers) { p.Y[1] = p.Y[1][1:] }},
		{"more than there can be to say", "device-1", "at most", func(p *firmware.Powers) { p.Officers = []string{strings.Repeat("x", 16<<10)} }},
		{"a proof of any length", "device-1", "at most", func(p *firmware.Powers) {
			p.Proofs = []*threshold.Proof{{Z: make([]byte, 16<<10)}, {}}
		}},
		{"one proof", "device-1", "1 proofs of 2", func(p *firmware.Powers) { p.Proofs = []*threshold.Proof{{}} }},
	} {
		combine(tc.name, firmware.CodePartial, tc.text, change(tc.device, tc.edit), raws[1])
	}
	combine("not a message", firmware.CodePartial, "powers", []byte{1}, raws[1])

	// A lie cannot be told from the truth by its form; the combiner goes on with
	// others, and says who may have lied.
	lie := change("device-1", func(p *firmware.Powers) { p.Y[0], p.Y[1] = p.Y[1], p.Y[0] })
	combine("a lie and nobody else", firmware.CodePartial, "one or more of calculators [1 2] are wrong", lie, raws[1])
	c, _, err := w.combine("device-4", x.combine("device-4", lie, raws[1], raws[2]))
	w.check(err)
	if fmt.Sprint(append(c.Wrong, c.Suspects...)) == "[]" || c.Combinations[0].Calculators()[0] != 2 {
		t.Errorf("wrong %v, suspects %v, signed with %v", c.Wrong, c.Suspects, c.Combinations[0])
	}
	_, err = x.r.checked.Assemble(c.Signatures[0])
	w.check(err)

	// The one-time key goes with a lock, and with the signature.
	_, _, err = ask[firmware.Closed](w, "device-1", firmware.TypeClose, firmware.Close{Request: x.r.raw, Signatures: c.Signatures}, firmware.TypeClosed)
	w.check(err)
	_, _, err = w.powers("device-1", x.powers("device-1"))
	w.want("closed", err, firmware.CodeClosed, "has its signature")
	w.devices["device-2"].Restart(t)
	_, _, err = w.powers("device-2", x.powers("device-2"))
	w.want("restarted", err, firmware.CodeOffer, "no one-time key")
	_, _, err = ask[firmware.Status](w, "device-3", firmware.TypeLock, firmware.Lock{Device: "device-3", Reason: "test"}, firmware.TypeStatus)
	w.check(err)
	_, _, err = w.powers("device-3", x.powers("device-3"))
	w.want("locked", err, firmware.CodePhase, "locked")
}

// fileRequest is for a key that is shared in one layer.
func (w *world) fileRequest() *request {
	w.t.Helper()
	k, _ := w.State.Key(ledgertest.KeyFiles)
	r := &request{Request: documentRequest(&k, w.Now)}
	w.sign(r)
	return r
}

// lie is a message of powers as its maker's or another's token would sign it.
func (w *world) lie(raw []byte, device string, edit func(*firmware.Powers)) []byte {
	w.t.Helper()
	u, err := envelope.Parse(raw)
	w.check(err)
	var p firmware.Powers
	w.check(envelope.Unmarshal(u.UnverifiedPayload(), &p))
	edit(&p)
	body, err := envelope.Marshal(p)
	w.check(err)
	h := u.Header()
	h.Signer = envelope.KeyID{}
	out, err := envelope.Sign(rand.Reader, w.Devices[device].Sign, h, body)
	w.check(err)
	return out
}

// resigned is a message signed by somebody else.
func resigned(t *testing.T, w *world, raw []byte, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	u, err := envelope.Parse(raw)
	w.check(err)
	h := u.Header()
	h.Signer = envelope.KeyID{}
	out, err := envelope.Sign(rand.Reader, key, h, u.UnverifiedPayload())
	w.check(err)
	return out
}

// TestTaskNumbers: a number serves one request for two days, whatever happens
// to the device, and each distributor and enterprise has its own.
func TestTaskNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	numbered := func(x *task, server string, distributor, number uint64) firmware.PowersTask {
		in := x.powers("device-1")
		in.Distribution = w.distributionBy(server, firmware.Distribution{
			Enterprise: 1, Distributor: distributor, Task: number, Request: x.r.digest, Hash: x.r.checked.Digest(), Documents: 1, Created: w.Now, Expires: w.Now + 3600,
		}, x.r.Key)
		return in
	}
	first, second := w.begin(a, "www.example.org", "device-1"), w.begin(a, "www.example.com", "device-1")
	// What was refused did not take the number.
	in := numbered(first, "server-1", 1, 7)
	in.Approvals = nil
	_, _, err := w.powers("device-1", in)
	w.want("nobody approved", err, firmware.CodeQuorum, "Officer")
	for range 2 {
		_, _, err = w.powers("device-1", numbered(second, "server-1", 1, 7))
		w.check(err)
	}
	_, _, err = w.powers("device-1", numbered(first, "server-1", 1, 7))
	w.want("number taken", err, firmware.CodeTask, "worked under this number for request "+second.r.digest.String())
	_, _, err = w.powers("device-1", numbered(first, "server-2", 2, 7))
	w.check(err)

	w.devices["device-1"].Restart(t)
	w.agree(first, "device-1")
	_, _, err = w.powers("device-1", numbered(first, "server-1", 1, 7))
	w.want("number taken, after a restart", err, firmware.CodeTask, "under this number")
	w.Now += firmware.TaskPeriod - 1
	third := w.begin(a, "www.example.net", "device-1")
	_, _, err = w.powers("device-1", numbered(third, "server-1", 1, 7))
	w.want("a second too early", err, firmware.CodeTask, "under this number")
	w.Now++
	_, _, err = w.powers("device-1", numbered(third, "server-1", 1, 7))
	w.check(err)
	_, _, err = w.powers("device-1", numbered(third, "server-1", 1, 8))
	w.check(err)
}
