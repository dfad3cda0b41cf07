package approval_test

import (
	"crypto/rand"
	"testing"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// A payload, whatever it is, signed by an officer: only one that says the right thing is an approval. The signature is made for it,
// so that the fuzzer reaches the decoder and the rules.
func FuzzApproval(f *testing.F) {
	w := newWorld(f)
	good, err := envelope.Marshal(ptr(w.approval()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		raw, err := signed(w, payload, "approval", "officer-1a")
		if err != nil {
			return
		}
		v, err := approval.Verify(w.State, w.req, device, raw, w.Now)
		if err != nil {
			return
		}
		a := v.Approval()
		if a.Request != w.req.Digest || a.Device != device || a.Share != share || a.Key != key || a.Decision != approval.Approve ||
			len(a.Pieces) == 0 || v.Person() != "officer-1a" {
			t.Fatalf("accepted %+v", a)
		}
	})
}

// Whatever a server hands over: no crash, and no quorum without two signatures.
func FuzzChain(f *testing.F) {
	w := newWorld(f)
	a := w.sign(w.card("officer-1a"), nil)
	b := w.sign(w.card("officer-1b"), prior(a))
	f.Add(a, []byte(nil))
	f.Add(a, a)
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, raw, base []byte) {
		q, err := approval.VerifyChain(w.State, w.req, device, raw, base, w.Now)
		if err == nil {
			t.Fatalf("quorum of %v", q.Officers())
		}
	})
	if _, err := approval.VerifyChain(w.State, w.req, device, b, nil, w.Now); err != nil {
		f.Fatal(err)
	}
}

func FuzzOffer(f *testing.F) {
	w := newWorld(f)
	good, err := envelope.Marshal(ptr(w.offer()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, payload []byte) {
		raw, err := signed(w, payload, "offer", device)
		if err != nil {
			return
		}
		v, err := approval.VerifyOffer(w.State, raw, w.Now)
		if err != nil {
			return
		}
		if o := v.Offer(); o.Device != device || o.Share != share || o.Instance == [16]byte{} || len(o.Public) != 65 {
			t.Fatalf("accepted %+v", o)
		}
	})
}

func signed(w *world, payload []byte, typ, by string) ([]byte, error) {
	k := w.Persons["officer-1a"].Card().Sign
	created, expires := w.Now-50, w.Now+600
	if typ == approval.TypeOffer {
		k, created = w.Devices[by].Sign, w.Now-10
	}
	return envelope.Sign(rand.Reader, k, envelope.Header{
		Type: typ, Version: 1, System: w.State.System(), Key: key, Epoch: 1, LedgerHead: w.State.Head(), Created: created, Expires: expires,
	}, payload)
}
