package document

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestWhole: with the request that it was made of, and no other, a bare one makes the
// same documents as before.
func TestWhole(t *testing.T) {
	_, a, layers := layersKey(t)
	file, k := fileKey(t)
	file.AllowDigest = true
	s := ledgertest.New(t)
	swa, _ := s.State.LedgerKey()
	entry, err := ledger.NewEntry(s.State, ledger.KindNotice, ledger.Notice{Text: "New disks", From: s.Now + 10, Until: s.Now + 4000, Device: "device-2"}, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	blind := request(file, KindDigest, threshold.RS256)
	sum := sha256.Sum256([]byte("a long file"))
	blind.Digest, blind.Name, blind.Size = sum[:], "long", 11

	type signer func(c *Checked) []byte
	raw := func(sign func(em []byte) []byte) signer {
		return func(c *Checked) []byte {
			em, err := c.EncodedMessage(envelope.Hash{7})
			if err != nil {
				t.Fatal(err)
			}
			return sign(em)
		}
	}
	byLayers, byFile := raw(func(em []byte) []byte { return rawSign(a.Whole, em) }), raw(func(em []byte) []byte { return rawSign(k, em) })
	var bySWA signer = func(c *Checked) []byte { return s.Keys[swa.ID].Sign(t, swa.Algorithms[0], c.ToBeSigned()) }
	single := batchOf(t, layers, 1, threshold.PS256)
	single.Kind, single.Document, single.CSR, single.Batch = KindCertificate, single.Batch[0].Document, single.Batch[0].CSR, nil
	check := func(r *Request, key ledger.Key) (*Checked, error) { return Check(r, key, now) }
	in := func(r *Request, _ ledger.Key) (*Checked, error) { return CheckIn(s.State, r, s.Now) }
	for _, x := range []struct {
		r     *Request
		key   ledger.Key
		check func(*Request, ledger.Key) (*Checked, error)
		sign  signer
		spoil func(r *Request) // another request, as like as can be
	}{
		{batchOf(t, layers, 3, threshold.PS256), layers, check, byLayers, func(r *Request) { r.Batch[1], r.Batch[2] = r.Batch[2], r.Batch[1] }},
		{batchOf(t, layers, 2, threshold.RS256), layers, check, byLayers, func(r *Request) { r.Batch = r.Batch[:1] }},
		{single, layers, check, byLayers, func(r *Request) { r.Document[len(r.Document)-1] ^= 1 }},
		{fileRequest(file, []byte("version 1.2.3\n")), file, check, byFile, func(r *Request) { r.Document[0] ^= 1 }},
		{blind, file, check, byFile, func(r *Request) { r.Kind = KindFile }},
		{swaRequest(t, s, KindEntry, entry), swa, in, bySWA, func(r *Request) { r.Document[0] ^= 1 }},
		{swaRequest(t, s, KindIdentity, identityOf(t, s, keyID(t, s.Devices["device-1"].Sign.Public()))), swa, in, bySWA, func(r *Request) { r.Document[4] ^= 1 }},
	} {
		c, err := x.check(x.r, x.key)
		if err != nil {
			t.Fatal(x.r.Kind, err)
		}
		w, err := c.Bare().Whole(x.r, &x.key)
		if err != nil {
			t.Fatal(x.r.Kind, err)
		}
		var signatures [][]byte
		for _, part := range c.Parts() {
			signatures = append(signatures, x.sign(part))
		}
		want, err := c.AssembleAll(signatures)
		if err != nil {
			t.Fatal(x.r.Kind, err)
		}
		got, err := w.AssembleAll(signatures)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d documents: %v", x.r.Kind, len(got), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) || !bytes.Equal(w.Parts()[i].ToBeSigned(), c.Parts()[i].ToBeSigned()) {
				t.Errorf("%s: document %d differs", x.r.Kind, i+1)
			}
		}
		if signatures[0][0] ^= 1; second(w.AssembleAll(signatures)) == nil {
			t.Errorf("%s: a wrong signature makes a document", x.r.Kind)
		}
		if !bytes.Equal(w.Digest(), c.Digest()) || w.HoldsUntil() != c.HoldsUntil() || w.Kind() != c.Kind() || w.View().Title != "" {
			t.Errorf("%s: it has another digest, time or kind, or a view", x.r.Kind)
		}
		x.spoil(x.r)
		wantError(t, second(c.Bare().Whole(x.r, &x.key)), ErrRequest)
	}
}
