package approval_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

const (
	key    = ledgertest.KeyCertificates
	device = "device-1"
	share  = "certs.device-1"
)

// world is a system, a request and what is needed to approve it.
type world struct {
	*ledgertest.System
	t   testing.TB
	req approval.Request
}

func newWorld(t testing.TB, options ...ledgertest.Option) *world {
	s := ledgertest.New(t, options...)
	return &world{System: s, t: t, req: approval.Request{
		Digest: envelope.Hash{0xd0}, Key: key, Epoch: 1, Requester: ledgertest.Requester,
		Signer:  ledgertest.KeyID(t, s.Persons[ledgertest.Requester].Card().Sign),
		Created: s.Now - 100, Expires: s.Now + 3600,
	}}
}

// approval is what an officer of device-1 would say.
func (w *world) approval() approval.Approval {
	return approval.Approval{
		Request: w.req.Digest, Key: key, Epoch: 1, Device: device, Share: share, Decision: approval.Approve,
		Pieces:  []approval.SealedPiece{{Offer: envelope.Hash{0x0f}, Device: device, Piece: "certs.device-1#1", Sealed: make([]byte, 130)}},
		Created: w.Now - 50, Expires: w.Now + 600,
	}
}

// sign makes an officer's message, with NewApproval, after an edit.
func (w *world) sign(k *ecdsa.PrivateKey, edit func(*approval.Approval)) []byte {
	w.t.Helper()
	a := w.approval()
	if edit != nil {
		edit(&a)
	}
	raw, err := approval.NewApproval(rand.Reader, k, w.State, a, [16]byte{})
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// raw signs anything, also what NewApproval refuses.
func (w *world) raw(k *ecdsa.PrivateKey, payload any, edit func(*envelope.Header)) []byte {
	w.t.Helper()
	h := envelope.Header{
		Type: approval.TypeApproval, Version: 1, System: w.State.System(), Key: key, Epoch: 1, LedgerHead: w.State.Head(),
		Created: w.Now - 50, Expires: w.Now + 600,
	}
	if edit != nil {
		edit(&h)
	}
	p, err := envelope.Marshal(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, k, h, p)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *world) card(person string) *ecdsa.PrivateKey { return w.Persons[person].Card().Sign }

func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func prior(raw []byte) func(*approval.Approval) {
	return func(a *approval.Approval) { a.Prior = raw }
}

func TestSet(t *testing.T) {
	w := newWorld(t)
	a, b := w.sign(w.card("officer-1a"), nil), w.sign(w.card("officer-1b"), nil)
	q, err := approval.VerifySet(w.State, w.req, device, [][]byte{b, a}, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if id, epoch := q.Key(); id != key || epoch != 1 || q.Request() != w.req.Digest || q.Device() != device || q.Share() != share || q.Expires() != w.req.Expires {
		t.Errorf("%+v", q)
	}
	if got := q.Officers(); !slices.Equal(got, []string{"officer-1b", "officer-1a"}) {
		t.Error(got)
	}
	pieces := q.Pieces()
	if len(pieces) != 2 || len(q.Approvals()) != 2 || pieces[1].Person != "officer-1a" || pieces[1].Officer != ledgertest.KeyID(t, w.card("officer-1a")) {
		t.Errorf("%+v", pieces)
	}
}

func TestChain(t *testing.T) {
	w := newWorld(t)
	for _, base := range [][]byte{nil, []byte("the raw partial signature of the device before")} {
		a := w.sign(w.card("officer-1a"), prior(base))
		b := w.sign(w.card("officer-1b"), prior(a))
		q, err := approval.VerifyChain(w.State, w.req, device, b, base, w.Now)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Officers(); !slices.Equal(got, []string{"officer-1a", "officer-1b"}) {
			t.Error(got)
		}
		if _, err := approval.VerifyChain(w.State, w.req, device, a, base, w.Now); !is[*approval.MissingError](err) {
			t.Error("half a chain:", err)
		}
	}
}

// Every refusal of a single approval, by name. Each differs from a good one in one thing.
func TestVerifyRefuses(t *testing.T) {
	w := newWorld(t, func(g *ledger.Genesis) { g.Officers[0].Keys = []string{"swa", "files", "certs"} })
	o := w.card("officer-1a")
	edit := func(f func(*approval.Approval)) []byte { return w.sign(o, f) }
	rawEdit := func(f func(*approval.Approval)) []byte {
		a := w.approval()
		f(&a)
		return w.raw(o, &a, func(h *envelope.Header) { h.Key, h.Epoch, h.Created, h.Expires = a.Key, a.Epoch, a.Created, a.Expires })
	}
	header := func(f func(*envelope.Header)) []byte { a := w.approval(); return w.raw(o, &a, f) }
	good := w.sign(o, nil)
	if _, err := approval.Verify(w.State, w.req, device, good, w.Now); err != nil {
		t.Fatal("the approval that all others differ from:", err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		is   func(error) bool
		want string
	}{
		{"rubbish", []byte("rubbish"), nil, "envelope"},
		{"empty", nil, nil, "envelope"},
		{"stranger", w.sign(ledgertest.NewSigner(t, "stranger"), nil), is[*approval.UnknownSignerError], "which this system does not know"},
		{"signature altered", flip(good, len(good)-1), nil, "signature"},
		{"requester", w.sign(w.card("requester"), nil), is[*approval.RequesterApprovedError], "Rita Requester (requester) made the request and cannot approve it, on card 91"},
		{"requester's second card", w.sign(w.Persons["requester"].Cards[1].Sign, nil), is[*approval.RequesterApprovedError], "Rita Requester (requester) made the request and cannot approve it, on card 92"},
		{"officer of another device", w.sign(w.card("officer-2a"), nil), is[*approval.WrongDeviceError], "Officer 2a (officer-2a), officer of device-2, approved for device-1, not for device-1"},
		{"officer of another device, for it", w.sign(w.card("officer-2a"), func(a *approval.Approval) {
			a.Device, a.Share, a.Pieces[0].Device = "device-2", "certs.device-2", "device-2"
		}), is[*approval.WrongDeviceError], "officer of device-2, approved for device-2, not for device-1"},
		{"officer of this device, for another", edit(func(a *approval.Approval) { a.Device, a.Pieces[0].Device = "device-2", "device-2" }), is[*approval.WrongDeviceError], "officer of device-1, approved for device-2, not for device-1"},
		{"nobody's officer", w.sign(w.card("admin"), nil), is[*approval.NotOfficerError], "Ada Administrator (admin) cannot approve for key certs at device-1: is no officer of any device"},
		{"officer's unregistered card", w.sign(w.Persons["officer-1a"].Cards[1].Sign, nil), is[*approval.WrongSignerError], "card 11 is registered at device-1, not card 111"},
		{"software key", w.sign(w.Persons["program"].Software, nil), is[*approval.WrongSignerError], "slot 9C"},
		{"device", w.sign(w.Devices[device].Sign, nil), is[*approval.WrongSignerError], "only officers' cards approve"},
		{"device's boot key", w.sign(w.Devices[device].Boot, nil), is[*approval.WrongSignerError], "only officers' cards approve"},
		{"server", w.sign(w.Servers["server-1"].Sign, nil), is[*approval.WrongSignerError], "only officers' cards approve"},
		{"agreement key", w.raw(agreeAsSigner(t, w, "officer-1a"), ptr(w.approval()), nil), is[*approval.WrongSignerError], "an agreement key signs nothing"},
		{"another request", edit(func(a *approval.Approval) { a.Request[31] ^= 1 }), is[*approval.WrongRequestError], "Officer 1a (officer-1a) is for request d0"},
		{"another key", edit(func(a *approval.Approval) { a.Key = "files" }), is[*approval.MismatchError], `names key "files", expected "certs"`},
		{"another epoch", edit(func(a *approval.Approval) { a.Epoch = 2 }), is[*approval.MismatchError], `names epoch "2", expected "1"`},
		{"another share", edit(func(a *approval.Approval) { a.Share = "certs.device-2" }), is[*approval.MismatchError], `names share "certs.device-2", expected "certs.device-1"`},
		{"piece for a stranger", edit(func(a *approval.Approval) {
			a.Pieces = append(a.Pieces, a.Pieces[0])
			a.Pieces[1].Device = "device-9"
		}), is[*approval.MismatchError], `piece's device "device-9"`},
		{"expired", edit(func(a *approval.Approval) { a.Expires = w.Now }), is[*approval.ExpiredError], "expired 0 s ago"},
		{"from the future", edit(func(a *approval.Approval) { a.Created = w.Now + 61 }), is[*approval.TimeError], "dated 61 s in the future"},
		{"before the request", edit(func(a *approval.Approval) { a.Created = w.req.Created - 61 }), is[*approval.TimeError], "before the request was made"},
		{"rejected", edit(func(a *approval.Approval) { a.Decision, a.Reason, a.Pieces = approval.Reject, "wrong subject", nil }), is[*approval.RejectedError], `Officer 1a (officer-1a) rejected the request: "wrong subject"`},

		{"another type", header(func(h *envelope.Header) { h.Type = "offer" }), is[*envelope.TypeError], `type "offer"`},
		{"another version", header(func(h *envelope.Header) { h.Version = 2 }), is[*envelope.TypeError], "version 2"},
		{"another system", header(func(h *envelope.Header) { h.System[0] ^= 1 }), is[*approval.MismatchError], "names system"},
		{"no system", header(func(h *envelope.Header) { h.System = envelope.Hash{} }), is[*approval.MismatchError], "names system"},
		{"unknown head", header(func(h *envelope.Header) { h.LedgerHead[0] ^= 1 }), is[*approval.UnknownHeadError], "catch up"},
		{"no head", header(func(h *envelope.Header) { h.LedgerHead = envelope.Hash{} }), is[*approval.UnknownHeadError], "catch up"},
		{"header's key", header(func(h *envelope.Header) { h.Key = "files" }), is[*approval.FormError], "different keys or epochs"},
		{"header's epoch", header(func(h *envelope.Header) { h.Epoch = 2 }), is[*approval.FormError], "different keys or epochs"},
		{"header's creation", header(func(h *envelope.Header) { h.Created-- }), is[*approval.FormError], "different times"},
		{"header's expiry", header(func(h *envelope.Header) { h.Expires++ }), is[*approval.FormError], "different times"},

		{"no request", rawEdit(func(a *approval.Approval) { a.Request = envelope.Hash{} }), is[*approval.FormError], "names no request"},
		{"no device", rawEdit(func(a *approval.Approval) { a.Device = "" }), is[*approval.FormError], "is missing"},
		{"no share", rawEdit(func(a *approval.Approval) { a.Share = "" }), is[*approval.FormError], "is missing"},
		{"no key", rawEdit(func(a *approval.Approval) { a.Key, a.Epoch = "", 0 }), is[*approval.FormError], "is missing"},
		{"no decision", rawEdit(func(a *approval.Approval) { a.Decision = "" }), is[*approval.FormError], "neither approve nor reject"},
		{"unknown decision", rawEdit(func(a *approval.Approval) { a.Decision = "Approve" }), is[*approval.FormError], "neither approve nor reject"},
		{"rejection without a reason", rawEdit(func(a *approval.Approval) { a.Decision, a.Pieces = approval.Reject, nil }), is[*approval.FormError], "without a reason"},
		{"rejection with a piece", rawEdit(func(a *approval.Approval) { a.Decision, a.Reason = approval.Reject, "no" }), is[*approval.FormError], "yet carries pieces"},
		{"long reason", rawEdit(func(a *approval.Approval) { a.Reason = strings.Repeat("x", 513) }), is[*approval.FormError], "reason is too long"},
		{"no piece", rawEdit(func(a *approval.Approval) { a.Pieces = nil }), is[*approval.FormError], "no piece for the device"},
		{"piece for another device only", rawEdit(func(a *approval.Approval) { a.Pieces[0].Device = "device-2" }), is[*approval.FormError], "no piece for the device"},
		{"two pieces for one device", rawEdit(func(a *approval.Approval) { a.Pieces = append(a.Pieces, a.Pieces[0]) }), is[*approval.FormError], "two pieces for one device"},
		{"too many pieces", rawEdit(func(a *approval.Approval) { a.Pieces = make([]approval.SealedPiece, 17) }), is[*approval.FormError], "too many pieces"},
		{"piece without offer", rawEdit(func(a *approval.Approval) { a.Pieces[0].Offer = envelope.Hash{} }), is[*approval.FormError], "lacks its offer"},
		{"piece without id", rawEdit(func(a *approval.Approval) { a.Pieces[0].Piece = "" }), is[*approval.FormError], "lacks its offer"},
		{"piece with a long id", rawEdit(func(a *approval.Approval) { a.Pieces[0].Piece = strings.Repeat("x", 257) }), is[*approval.FormError], "lacks its offer"},
		{"piece in the clear", rawEdit(func(a *approval.Approval) { a.Pieces[0].Sealed = make([]byte, 33) }), is[*approval.FormError], "not a sealed one"},
		{"huge piece", rawEdit(func(a *approval.Approval) { a.Pieces[0].Sealed = make([]byte, 1025) }), is[*approval.FormError], "not a sealed one"},
		{"payload of another kind", w.raw(o, map[int]int{1: 1}, nil), nil, "envelope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := approval.Verify(w.State, w.req, device, c.raw, w.Now)
			if err == nil || v != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !c.is(err) {
				t.Errorf("got  %v (%T)\nwant …%s…", err, err, c.want)
			}
			// In a set and in a chain it is refused likewise, beside a good one.
			good := w.sign(w.card("officer-1b"), nil)
			if _, err := approval.VerifySet(w.State, w.req, device, [][]byte{good, c.raw}, w.Now); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("in a set: %v", err)
			}
			over := w.sign(w.card("officer-1b"), prior(c.raw))
			if _, err := approval.VerifyChain(w.State, w.req, device, over, nil, w.Now); err == nil {
				t.Error("accepted in a chain")
			}
		})
	}
}

func TestNewApprovalRefuses(t *testing.T) {
	w := newWorld(t)
	for name, edit := range map[string]func(*approval.Approval){
		"no request":  func(a *approval.Approval) { a.Request = envelope.Hash{} },
		"no decision": func(a *approval.Approval) { a.Decision = "" },
		"no time":     func(a *approval.Approval) { a.Created, a.Expires = 0, 0 },
		"no life":     func(a *approval.Approval) { a.Expires = a.Created },
	} {
		a := w.approval()
		edit(&a)
		if _, err := approval.NewApproval(rand.Reader, w.card("officer-1a"), w.State, a, [16]byte{}); !is[*approval.FormError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Requests that no approval can help.
func TestRequestRefused(t *testing.T) {
	w := newWorld(t)
	raws := [][]byte{w.sign(w.card("officer-1a"), nil), w.sign(w.card("officer-1b"), nil)}
	signer := func(owner string, id envelope.KeyID) func(*approval.Request) {
		return func(r *approval.Request) { r.Requester, r.Signer = owner, id }
	}
	agree, err := envelope.KeyIDOf(w.Persons["requester"].Card().Agree.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		edit   func(*approval.Request)
		device string
		is     func(error) bool
		want   string
	}{
		{"expired", func(r *approval.Request) { r.Expires = w.Now }, device, is[*approval.ExpiredError], "the request expired"},
		{"no digest", func(r *approval.Request) { r.Digest = envelope.Hash{} }, device, is[*approval.MismatchError], "digest"},
		{"unknown key", func(r *approval.Request) { r.Key = "gold" }, device, is[*approval.MismatchError], `key "gold"`},
		{"another epoch", func(r *approval.Request) { r.Epoch = 2 }, device, is[*approval.MismatchError], `epoch "2"`},
		{"unknown device", func(r *approval.Request) {}, "device-9", is[*approval.MismatchError], `device "device-9"`},
		{"no device", func(r *approval.Request) {}, "", is[*approval.MismatchError], `device ""`},
		{"unknown signer", signer("requester", envelope.KeyID{1}), device, is[*approval.UnknownSignerError], "does not know"},
		{"signed by another than it names", signer("requester", ledgertest.KeyID(t, w.card("admin"))), device, is[*approval.MismatchError], `requester "requester"`},
		{"no requester", func(r *approval.Request) { r.Requester = "" }, device, is[*approval.MismatchError], `requester ""`},
		{"signed by a server", signer("server-1", ledgertest.KeyID(t, w.Servers["server-1"].Sign)), device, is[*approval.WrongSignerError], "makes no requests"},
		{"signed by a boot key", signer(device, ledgertest.KeyID(t, w.Devices[device].Boot)), device, is[*approval.WrongSignerError], "makes no requests"},
		{"signed by an agreement key", signer("requester", agree), device, is[*approval.WrongSignerError], "makes no requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := w.req
			c.edit(&req)
			_, err := approval.VerifySet(w.State, req, c.device, raws, w.Now)
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v (%T)\nwant …%s…", err, err, c.want)
			}
			if _, err := approval.VerifyChain(w.State, req, c.device, raws[0], nil, w.Now); err == nil || !c.is(err) {
				t.Errorf("chain: %v", err)
			}
		})
	}
	// Programs and devices may ask; then all officers count.
	for owner, id := range map[string]envelope.KeyID{
		"program": ledgertest.KeyID(t, w.Persons["program"].Software),
		device:    ledgertest.KeyID(t, w.Devices[device].Sign),
	} {
		req := w.req
		req.Requester, req.Signer = owner, id
		if _, err := approval.VerifySet(w.State, req, device, raws, w.Now); err != nil {
			t.Errorf("asked by %s: %v", owner, err)
		}
	}
	// Nobody knows anything: nothing is approved.
	if _, err := approval.VerifySet(ledger.State{}, w.req, device, raws, w.Now); err == nil {
		t.Error("the zero state approved")
	}
}

func flip(b []byte, i int) []byte {
	out := bytes.Clone(b)
	out[i] ^= 1
	return out
}

func ptr[T any](v T) *T { return &v }

// agreeAsSigner misuses an officer's agreement key to sign, as software with the key in hand could.
func agreeAsSigner(t *testing.T, w *world, person string) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(w.card(person).Curve, w.Persons[person].Card().Agree.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return k
}
