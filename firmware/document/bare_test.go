package document

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"pgregory.net/rapid"
)

// TestHoldsUntil: until then, and not at that time, the same check finds the same.
func TestHoldsUntil(t *testing.T) {
	_, _, key := layersKey(t)
	const then = now + 10*day // the root's own validity has begun long ago
	rapid.Check(t, func(rt *rapid.T) {
		edit := func(x *TBS) {
			x.NotBefore = then + rapid.Int64Range(-maxBackdate, maxPostdate).Draw(rt, "not before")
			x.NotAfter = max(then, x.NotBefore) + rapid.SampledFrom([]int64{1, 100, 5000, 30 * day, 90 * day}).Draw(rt, "length")
		}
		r := batchOf(t, key, 0, threshold.RS256)
		r.Created = then - rapid.Int64Range(0, day).Draw(rt, "age")
		r.Expires = then + rapid.SampledFrom([]int64{1, 1000, 3600, 3 * day, 20 * day}).Draw(rt, "life")
		if n := rapid.IntRange(0, 3).Draw(rt, "batch"); n > 0 {
			for range n {
				r.Batch = append(r.Batch, draft(t, key, "server", threshold.RS256, edit))
			}
		} else {
			d := draft(t, key, "server", threshold.RS256, edit)
			r.Kind, r.Document, r.CSR = KindCertificate, d.Document, d.CSR
		}
		c, err := Check(r, key, then)
		if err != nil {
			rt.Fatal(err)
		}
		until := c.HoldsUntil()
		if until <= then {
			rt.Fatalf("it holds until %d, and now is %d", until, then)
		}
		for _, at := range []int64{then, until - 1, rapid.Int64Range(then, until-1).Draw(rt, "later")} {
			again, err := Check(r, key, at)
			if err != nil {
				rt.Fatalf("at %d of %d: %v", at, until, err)
			}
			if again.HoldsUntil() != until || !bytes.Equal(again.Digest(), c.Digest()) {
				rt.Fatalf("another find at %d of %d", at, until)
			}
		}
		if _, err := Check(r, key, until); err == nil {
			rt.Fatalf("the check still passes at %d", until)
		}
	})
}

// TestHoldsUntilUnknown: for documents that the tables decide on, and for files,
// nothing is promised.
func TestHoldsUntilUnknown(t *testing.T) {
	key, _ := fileKey(t)
	c, err := Check(fileRequest(key, []byte("data")), key, now)
	if err != nil {
		t.Fatal(err)
	}
	if c.HoldsUntil() != 0 {
		t.Error("a file", c.HoldsUntil())
	}
	key.AllowDigest = true
	r := fileRequest(key, []byte("data"))
	asDigest(r, nil)
	if c, err = Check(r, key, now); err != nil || c.HoldsUntil() != 0 {
		t.Error("a digest", err)
	}
	s := ledgertest.New(t)
	entry, err := ledger.NewEntry(s.State, ledger.KindNotice, &ledger.Notice{Text: "x", From: s.Now, Until: s.Now + 60}, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = CheckIn(s.State, swaRequest(t, s, KindEntry, entry), s.Now); err != nil || c.HoldsUntil() != 0 {
		t.Error("an entry", err)
	}
}

// TestBatchNeedsNoTables: a batch is no document of the ledger's family.
func TestBatchNeedsNoTables(t *testing.T) {
	s := ledgertest.New(t)
	key, ok := s.State.Key(ledgertest.KeyLedger)
	if !ok {
		t.Fatal("no key of the ledger")
	}
	r := request(key, KindCertificates, threshold.Algorithm(key.Algorithms[0]))
	r.Route = RouteTo(&key, ApprovalsSet)
	r.Batch = []Draft{{[]byte{1}, []byte{2}}}
	r.Created, r.Expires = s.Now, s.Now+60
	if _, err := CheckIn(s.State, r, s.Now); !errors.Is(err, ErrFamily) {
		t.Error(err)
	}
}

// TestBare: what is kept for signing signs the same, and is small however much there
// is to be read.
func TestBare(t *testing.T) {
	_, a, key := layersKey(t)
	single := request(key, KindCertificate, threshold.PS256)
	single.Route = RouteTo(&key, ApprovalsSet)
	d := draft(t, key, "server", threshold.PS256, nil)
	single.Document, single.CSR = d.Document, d.CSR
	for _, r := range []*Request{single, batchOf(t, key, 3, threshold.PS256)} {
		c, err := Check(r, key, now)
		if err != nil {
			t.Fatal(err)
		}
		b := c.Bare()
		want, err := c.EncodedMessages(envelope.Hash{7})
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.EncodedMessages(envelope.Hash{7})
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: other encoded messages: %v", r.Kind, err)
		}
		if b.Kind() != c.Kind() || b.Family() != c.Family() || b.Algorithm() != c.Algorithm() || b.HoldsUntil() != c.HoldsUntil() ||
			!bytes.Equal(b.Digest(), c.Digest()) || len(b.Parts()) != len(c.Parts()) {
			t.Errorf("%s: %+v", r.Kind, b)
		}
		var sigs [][]byte
		for i, part := range b.Parts() {
			if !bytes.Equal(part.Digest(), c.Parts()[i].Digest()) || part.ToBeSigned() != nil || len(part.View().Sections) > 0 {
				t.Errorf("%s: part %d is not bare", r.Kind, i+1)
			}
			sigs = append(sigs, rawSign(a.Whole, want[i]))
		}
		// A certificate is not its signature.
		wantError(t, second(b.AssembleAll(sigs)), ErrBare)
		if _, err := c.AssembleAll(sigs); err != nil || len(c.Parts()[0].View().Sections) == 0 {
			t.Errorf("%s: what it was made of is not whole: %v", r.Kind, err)
		}
	}

	// A hundred names each, as short as names can be.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "x"}, DNSNames: strings.Split(strings.Repeat("a ", maxNames-1)+"a", " "),
	}, ledgertest.NewSigner(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	r := batchOf(t, key, 1, threshold.RS256)
	r.Batch = draftsOf(t, key, csr, 50)
	raw, err := envelope.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var all []*Checked
	for range 20 {
		var again Request
		if err := envelope.Unmarshal(bytes.Clone(raw), &again); err != nil {
			t.Fatal(err)
		}
		c, err := Check(&again, key, now)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Bare())
	}
	if each := int(heap()-before) / len(all); each > len(raw) {
		t.Errorf("%d octets of heap for a message of %d", each, len(raw))
	}
	runtime.KeepAlive(all)
}
