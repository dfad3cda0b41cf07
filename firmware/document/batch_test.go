package document

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// draft is a certificate for a new key and the request that it answers, as an
// edit may change it.
func draft(t testing.TB, key ledger.Key, name string, alg threshold.Algorithm, edit func(*TBS)) Draft {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"www.example.com"},
	}, ledgertest.NewSigner(t, name))
	if err != nil {
		t.Fatal(err)
	}
	tbs := leaf(t, key, csr, alg)
	tbs.NotBefore, tbs.NotAfter = now, now+90*day-1
	if edit != nil {
		edit(tbs)
	}
	der, err := tbs.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Draft{der, csr}
}

// draftsOf are n certificates for one CSR, each with a serial number of its own.
func draftsOf(t testing.TB, key ledger.Key, csr []byte, n int) []Draft {
	t.Helper()
	var drafts []Draft
	for range n {
		tbs := leaf(t, key, csr, threshold.RS256)
		var err error
		if tbs.Serial, err = NewSerial(rand.Reader); err != nil {
			t.Fatal(err)
		}
		tbs.NotBefore, tbs.NotAfter = now, now+90*day-1
		der, err := tbs.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, Draft{der, csr})
	}
	return drafts
}

// batchOf is a request for n certificates under the key of an authority in two
// layers.
func batchOf(t testing.TB, key ledger.Key, n int, alg threshold.Algorithm) *Request {
	t.Helper()
	r := request(key, KindCertificates, alg)
	r.Route = RouteTo(&key, ApprovalsSet)
	for i := range n {
		r.Batch = append(r.Batch, draft(t, key, fmt.Sprintf("server %d", i+1), alg, nil))
	}
	return r
}

// layersKey is the key of an authority in two layers, and its system.
func layersKey(t testing.TB, options ...ledgertest.Option) (*ledgertest.System, *ledgertest.Authority, ledger.Key) {
	t.Helper()
	s := ledgertest.New(t, options...)
	a := s.Authority(t, ledgertest.SmallPlan(1))
	key, _ := s.State.Key("ca-1")
	key.Algorithms = nil
	for _, alg := range threshold.Algorithms() {
		key.Algorithms = append(key.Algorithms, string(alg))
	}
	return s, a, key
}

// TestBatch: every certificate of a batch is one that OpenSSL verifies.
func TestBatch(t *testing.T) {
	_, a, key := layersKey(t)
	for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS384} {
		r := batchOf(t, key, 3, alg)
		c, err := Check(r, key, now)
		if err != nil {
			t.Fatal(err)
		}
		if c.Kind() != KindCertificates || c.Family() != ledger.FamilyCertificate || len(c.Parts()) != 3 || c.ToBeSigned() != nil {
			t.Errorf("%s: kind %s, %d parts", alg, c.Kind(), len(c.Parts()))
		}
		request := envelope.Hash{7}
		ems, err := c.EncodedMessages(request)
		if err != nil || len(ems) != 3 {
			t.Fatal(len(ems), err)
		}
		var sigs [][]byte
		for i, em := range ems {
			part := c.Parts()[i]
			if own, err := part.EncodedMessage(request); err != nil || !bytes.Equal(own, em) {
				t.Errorf("%s: part %d has another encoded message of its own: %v", alg, i+1, err)
			}
			if part.Kind() != KindCertificate || !bytes.Equal(part.ToBeSigned(), r.Batch[i].Document) {
				t.Errorf("%s: part %d is not its document", alg, i+1)
			}
			sigs = append(sigs, rawSign(a.Whole, em))
		}
		docs, err := c.AssembleAll(sigs)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		rootPEM := filepath.Join(dir, "ca.pem")
		writePEM(t, rootPEM, "CERTIFICATE", key.Certificate)
		args := []string{"verify", "-x509_strict", "-purpose", "sslserver", "-attime", fmt.Sprint(now), "-CAfile", rootPEM}
		for i, der := range docs {
			args = append(args, filepath.Join(dir, fmt.Sprint(i)))
			writePEM(t, args[len(args)-1], "CERTIFICATE", der)
		}
		if out := openssl(t, args...); strings.Count(out, ": OK") != 3 {
			t.Error(out)
		}

		// The batch as a whole signs nothing, and takes no fewer signatures than documents, nor in another order.
		wantError(t, second(c.EncodedMessage(request)), ErrRequest)
		wantError(t, second(c.Assemble(sigs[0])), ErrRequest)
		wantError(t, second(c.AssembleAll(sigs[:2])), threshold.ErrSignature)
		wantError(t, second(c.AssembleAll(append(slices.Clone(sigs), sigs[0]))), threshold.ErrSignature)
		wantError(t, second(c.AssembleAll(nil)), threshold.ErrSignature)
		_, err = c.AssembleAll([][]byte{sigs[0], sigs[2], sigs[1]})
		wantError(t, err, threshold.ErrSignature)
		if !strings.Contains(err.Error(), "certificate 2 of 3") {
			t.Errorf("which one? %v", err)
		}
	}
}

// TestBatchOfOneDocument: what a batch offers, a single document does too.
func TestBatchOfOneDocument(t *testing.T) {
	_, a, key := layersKey(t)
	single := request(key, KindCertificate, threshold.PS256)
	single.Route = RouteTo(&key, ApprovalsSet)
	d := draft(t, key, "server", threshold.PS256, nil)
	single.Document, single.CSR = d.Document, d.CSR
	c, err := Check(single, key, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Parts()) != 1 || c.Parts()[0] != c {
		t.Error("a single document is not its only part")
	}
	em, err := c.EncodedMessage(envelope.Hash{7})
	if err != nil {
		t.Fatal(err)
	}
	ems, err := c.EncodedMessages(envelope.Hash{7})
	if err != nil || len(ems) != 1 || !bytes.Equal(ems[0], em) {
		t.Error("another encoded message", err)
	}
	docs, err := c.AssembleAll([][]byte{rawSign(a.Whole, em)})
	if err != nil || len(docs) != 1 {
		t.Fatal(err)
	}
	_, err = c.AssembleAll([][]byte{make([]byte, len(em))})
	wantError(t, err, threshold.ErrSignature)
	if strings.Contains(err.Error(), "certificate 1 of 1") {
		t.Errorf("it is no batch: %v", err)
	}

	// A batch of one is a batch: its digest is no document's, and its salt another.
	r := batchOf(t, key, 0, threshold.PS256)
	r.Batch = []Draft{d}
	b, err := Check(r, key, now)
	if err != nil {
		t.Fatal(err)
	}
	ems, err = b.EncodedMessages(envelope.Hash{7})
	if err != nil || bytes.Equal(ems[0], em) {
		t.Error("the salt is that of a single document", err)
	}
	if bytes.Equal(b.Digest(), c.Digest()) || len(b.Digest()) != 32 || !bytes.Equal(b.Parts()[0].Digest(), c.Digest()) {
		t.Error("digests")
	}
}

// TestBatchSalts: no two documents of a batch have the same salt, none that of a
// single document, and all follow from the request. Its digest covers every
// document in its place.
func TestBatchSalts(t *testing.T) {
	seen := map[envelope.Hash]bool{}
	for _, request := range []envelope.Hash{{7}, {8}} {
		for n := range uint64(5) {
			c := &Checked{number: n}
			h := c.requestOf(request)
			if seen[h] || h != c.requestOf(request) || n == 0 && h != request {
				t.Errorf("part %d of %s", n, request)
			}
			seen[h] = true
		}
	}
	if h := (&Checked{number: 3}).requestOf(envelope.Hash{}); !h.IsZero() {
		t.Error("a salt of no request")
	}

	_, _, key := layersKey(t)
	r := batchOf(t, key, 3, threshold.PS256)
	digest := func(edit func(*Request)) string {
		q := *r
		q.Batch = slices.Clone(r.Batch)
		edit(&q)
		c, err := Check(&q, key, now)
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Digest())
	}
	digests := map[string]bool{}
	edits := []func(*Request){
		func(*Request) {},
		func(q *Request) { q.Batch[0], q.Batch[1] = q.Batch[1], q.Batch[0] },
		func(q *Request) { q.Batch = q.Batch[:2] },
		func(q *Request) { q.Batch = q.Batch[1:] },
		func(q *Request) { q.Batch[1] = draft(t, key, "another", threshold.PS256, nil) },
	}
	for _, edit := range edits {
		digests[digest(edit)] = true
	}
	if len(digests) != len(edits) {
		t.Errorf("%d digests of %d batches", len(digests), len(edits))
	}
}

func TestBatchRefusals(t *testing.T) {
	_, _, key := layersKey(t)
	good := batchOf(t, key, 3, threshold.RS256)
	one := func(edit func(*TBS)) func(*Request, *ledger.Key) {
		return func(r *Request, key *ledger.Key) { r.Batch[1] = draft(t, *key, "bad", threshold.RS256, edit) }
	}
	t1, err := ParseTBS(good.Batch[0].Document)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Request, *ledger.Key)
		want   error
		text   string
	}{
		{"nothing", func(*Request, *ledger.Key) {}, nil, ""},
		{"as many as there may be", func(r *Request, key *ledger.Key) {
			key.N, key.Layers.Grouping.L = 15, 57 // 641 KiB for each certificate, of 2.5 MiB
		}, nil, ""},
		{"one more", func(r *Request, key *ledger.Key) {
			key.N, key.Layers.Grouping.L = 15, 76
		}, ErrBatch, `3 certificates, key "ca-1" signs 2 at once: make several requests`},
		{"empty", func(r *Request, _ *ledger.Key) { r.Batch = nil }, ErrRequest, "the batch is empty"},
		{"101", func(r *Request, _ *ledger.Key) { r.Batch = make([]Draft, 101) }, ErrBatch, "101 certificates"},
		{"too large", func(r *Request, _ *ledger.Key) { r.Batch[2].CSR = make([]byte, maxBatchOctets) }, ErrBatch, "octets, more than 1048576"},
		{"one scheme", func(_ *Request, key *ledger.Key) {
			key.Scheme, key.Layers, key.T = threshold.Additive, nil, 2
		}, ErrBatch, "only keys in two layers sign batches: make a request for each certificate"},
		{"another family", func(r *Request, key *ledger.Key) { key.Family = ledger.FamilyFile }, ErrFamily, "does not sign"},
		{"the ledger's family", func(r *Request, key *ledger.Key) { key.Family = ledger.FamilyLedger }, ErrFamily, "does not sign"},
		{"a batch in a request of one", func(r *Request, _ *ledger.Key) {
			r.Kind, r.Document, r.CSR = KindCertificate, r.Batch[0].Document, r.Batch[0].CSR
		}, ErrRequest, "a batch has no place"},
		{"a document besides", func(r *Request, _ *ledger.Key) { r.Document = r.Batch[0].Document }, ErrRequest, "a document has no place"},
		{"a CSR besides", func(r *Request, _ *ledger.Key) { r.CSR = r.Batch[0].CSR }, ErrRequest, "a certificate request has no place"},
		{"a file name", func(r *Request, _ *ledger.Key) { r.Name = "x" }, ErrRequest, "a file name has no place"},
		{"a size", func(r *Request, _ *ledger.Key) { r.Size = 1 }, ErrRequest, "a size has no place"},
		{"a digest", func(r *Request, _ *ledger.Key) { r.Digest = make([]byte, 32) }, ErrRequest, "a digest has no place"},
		{"one twice", func(r *Request, _ *ledger.Key) { r.Batch[2] = r.Batch[0] }, ErrBatch, "certificate 3 of 3: bad request: batch: serial number " + fmt.Sprintf("%x", t1.Serial) + " is that of certificate 1"},
		{"the same serial number", one(func(x *TBS) { x.Serial = t1.Serial }), ErrBatch, "certificate 2 of 3"},
		{"an authority", one(func(x *TBS) { replaceExtension(x, KeyUsage(KeyUsageCertSign)) }), ErrAuthority, "certificate 2 of 3"},
		{"another issuer", one(func(x *TBS) { x.Issuer = x.Subject }), ErrIssuer, "certificate 2 of 3"},
		{"another algorithm", one(func(x *TBS) { x.Algorithm, _ = AlgorithmIdentifier(threshold.RS512) }), ErrAlgorithm, "certificate 2 of 3"},
		{"over", one(func(x *TBS) { x.NotBefore, x.NotAfter = now-day, now }), ErrValidity, "certificate 2 of 3"},
		{"a short serial number", one(func(x *TBS) { x.Serial = []byte{7} }), ErrSerial, "certificate 2 of 3"},
		{"a key that is not the CSR's", func(r *Request, _ *ledger.Key) { r.Batch[2].CSR = r.Batch[0].CSR }, ErrPublicKey, "certificate 3 of 3"},
		{"no document", func(r *Request, _ *ledger.Key) { r.Batch[0].Document = nil }, ErrMalformed, "certificate 1 of 3"},
		{"no CSR", func(r *Request, _ *ledger.Key) { r.Batch[2].CSR = nil }, ErrCSR, "certificate 3 of 3"},
		{"a batch for another key", func(_ *Request, key *ledger.Key) { key.ID = "ca-2" }, ErrRequest, "not \"ca-2\""},
		{"expired", func(r *Request, _ *ledger.Key) { r.Expires = now }, ErrExpired, ""},
		{"no root", func(_ *Request, key *ledger.Key) { key.Certificate = nil }, ErrRoot, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, key := *good, key
			r.Batch = slices.Clone(good.Batch)
			layers := *key.Layers
			key.Layers = &layers
			test.change(&r, &key)
			_, err := Check(&r, key, now)
			if test.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v\nlacks %q", err, test.text)
			}
		})
	}
}

// TestMaxBatch: the powers of all calculators for the largest batch come to a
// combiner in one message. Nothing else bounds it: not how long a device works on it,
// whatever its lease.
func TestMaxBatch(t *testing.T) {
	_, _, key := layersKey(t)
	for _, c := range []struct {
		name string
		bits int
		n, l uint64
		want int
	}{
		{"a small one", 2048, 3, 2, 100},
		{"the longest key", 4096, 3, 2, 100},
		{"the longest key, many sub-keys", 4096, 3, 4, 100},
		{"the most calculators", 4096, 15, 2, 56},
		{"the most sub-keys", 4096, 15, 4, 28},
	} {
		k, layers := key, *key.Layers
		k.N, k.Layers, layers.Grouping.L = c.n, &layers, c.l
		k.Public.N = append([]byte{0x80}, make([]byte, c.bits/8-1)...)
		if got := MaxBatch(&k); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	file, _ := fileKey(t)
	classic := certificateKey(t, rsaKey(t, "ca", 2048), threshold.RS256)
	if n := MaxBatch(&file) + MaxBatch(&classic); n != 0 {
		t.Error("a key in one layer signs batches")
	}
	brief := ledgertest.Policy()
	brief.Period, brief.Lease, brief.Loss = 100, 300, 2
	hasty, _, key := layersKey(t, ledgertest.WithHeartbeat(brief))
	if _, err := CheckIn(hasty.State, batchOf(t, key, 100, threshold.RS256), now); err != nil {
		t.Error(err)
	}
}

// TestBatchView: officers are shown each certificate as they are shown a single
// one, and whose warning it is.
func TestBatchView(t *testing.T) {
	s, _, key := layersKey(t)
	const then = now + day + 1
	r := batchOf(t, key, 3, threshold.RS256)
	r.Expires = then + 60
	r.Batch = append(r.Batch, draft(t, key, strings.Repeat("x ", 32)+"y", threshold.RS256, func(x *TBS) {
		x.NotBefore = then
		x.Extensions = slices.DeleteFunc(x.Extensions, func(e Extension) bool { return e.ID == oidExtKeyUsage })
	}))
	r.Batch[0] = draft(t, key, strings.Repeat("long ", 12)+"name", threshold.RS256, nil)
	for i := 1; i < 3; i++ {
		r.Batch[i] = draft(t, key, fmt.Sprintf("server %d", i+1), threshold.RS256, func(x *TBS) { x.NotBefore = then })
	}
	c, err := CheckIn(s.State, r, then)
	if err != nil {
		t.Fatal(err)
	}
	v := c.View()
	if !strings.HasPrefix(v.Title, "Batch of 4 certificates: ") || !strings.HasSuffix(v.Title, "...; common name=server 2; common name=server 3; and 1 more") || len(v.Title) > 250 {
		t.Error(v.Title)
	}
	if want := []string{"certificate 1: the validity begins before yesterday", "certificate 4: no extended key usage: the certificate is good for any use"}; !slices.Equal(v.Warnings, want) {
		t.Errorf("warnings %q", v.Warnings)
	}
	all := v.String()
	for i, part := range c.Parts() {
		heading := fmt.Sprintf("Certificate %d", i+1)
		at := slices.IndexFunc(v.Sections, func(x Section) bool { return x.Title == heading+" of 4" })
		if at < 0 {
			t.Fatalf("%s is missing in\n%s", heading, all)
		}
		if name := v.Sections[at].Fields[0].Values[0]; "Certificate for "+name != part.View().Title {
			t.Errorf("%s is for %q", heading, name)
		}
		for n, x := range part.View().Sections {
			got := v.Sections[at+1+n]
			if got.Title != heading+": "+x.Title || fmt.Sprint(got.Fields) != fmt.Sprint(x.Fields) {
				t.Errorf("%s: section %q, want %q", heading, got.Title, x.Title)
			}
		}
	}
	if last := v.Sections[len(v.Sections)-1]; last.Title != "Request" || !strings.Contains(all, "4 certificates: your word is for all of them") {
		t.Errorf("the request is not shown:\n%s", all)
	}
	checkSafe(t, v.Title)
}

// TestBatchTwins: officers are told which certificates of a batch are for the same
// names or the same key.
func TestBatchTwins(t *testing.T) {
	_, _, key := layersKey(t)
	r := batchOf(t, key, 3, threshold.RS256)
	r.Batch = append(r.Batch, draft(t, key, "server 2", threshold.RS256, nil)) // for a key that is made of the name
	r.Batch = append(r.Batch, draft(t, key, "server 2", threshold.RS256, func(x *TBS) { x.Subject = mustName(t, r.Batch[0].Document) }))
	c, err := Check(r, key, now)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{nil, nil, nil, {"it has the public key of certificate 2", "it has the subject and names of certificate 2"},
		{"it has the public key of certificate 2", "it has the subject and names of certificate 1"}} {
		var got []string
		for _, w := range c.Parts()[i].View().Warnings {
			if strings.HasPrefix(w, "it has the") {
				got = append(got, w)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("certificate %d: %q", i+1, got)
		}
	}
	if all := c.View().String(); !strings.Contains(all, "certificate 5: it has the subject and names of certificate 1") {
		t.Errorf("the whole says nothing:\n%s", all)
	}
}

// mustName is the subject of a certificate, DER.
func mustName(t *testing.T, tbs []byte) []byte {
	t.Helper()
	x, err := ParseTBS(tbs)
	if err != nil {
		t.Fatal(err)
	}
	return x.Subject
}
