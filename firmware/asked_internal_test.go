package firmware

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// requestFor is a request for a certificate, of which nothing is wrong.
func requestFor(t *testing.T, s *ledgertest.System, key ledger.Key) *document.Request {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "server"}}, ledgertest.NewSigner(t, "server"))
	check(err)
	c, err := document.ParseCSR(csr)
	check(err)
	root, err := x509.ParseCertificate(key.Certificate)
	check(err)
	serial, err := document.NewSerial(rand.Reader)
	check(err)
	algorithm, err := document.AlgorithmIdentifier(threshold.RS256)
	check(err)
	tbs, err := (&document.TBS{
		Serial: serial, Algorithm: algorithm, Issuer: root.RawSubject, Subject: c.Subject(), SPKI: c.PublicKeyInfo(), NotBefore: s.Now, NotAfter: s.Now + 86400,
		Extensions: []document.Extension{document.EndEntity(), document.AuthorityKeyID(root.SubjectKeyId)},
	}).Marshal()
	check(err)
	return &document.Request{
		Key: key.ID, Epoch: 1, Algorithm: threshold.RS256, Kind: document.KindCertificate, Document: tbs, CSR: csr, Nonce: [16]byte{1},
		Route: document.RouteTo(&key, document.ApprovalsSet), Requester: ledgertest.Program, Created: s.Now, Expires: s.Now + 3600,
	}
}

// TestVerifiedIsBare: of a request a device keeps no documents.
func TestVerifiedIsBare(t *testing.T) {
	t.Parallel()
	s := ledgertest.New(t)
	key := s.Authority(t, ledgertest.SmallPlan(1)).Dealing.Key
	single := requestFor(t, s, key)
	batch := *single
	batch.Kind, batch.Document, batch.CSR = document.KindCertificates, nil, nil
	batch.Batch = []document.Draft{{Document: single.Document, CSR: single.CSR}}
	m := &Machine{state: &state{ledger: s.State}}
	m.cfg.Local.ID = "device-1"
	for _, r := range []*document.Request{single, &batch} {
		body, err := envelope.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(rand.Reader, s.Persons[ledgertest.Program].Software, envelope.Header{
			Type: document.TypeRequest, Version: document.VersionRequest, System: s.State.System(), Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
		}, body)
		if err != nil {
			t.Fatal(err)
		}
		a, err := m.acceptable(&ctx{Inputs: Inputs{Now: s.Now}}, raw)
		if err != nil {
			t.Fatal(err)
		}
		if a.request.Document != nil || a.request.CSR != nil || a.request.Batch != nil || a.checked.Parts()[0].ToBeSigned() != nil {
			t.Errorf("%s: the documents are kept", r.Kind)
		}
	}
}

// TestVerifiedBound: what is kept of requests is bounded, the oldest goes first,
// and a request is kept once.
func TestVerifiedBound(t *testing.T) {
	t.Parallel()
	s := ledgertest.New(t)
	key := s.Authority(t, ledgertest.SmallPlan(1)).Dealing.Key
	checked, err := document.CheckIn(s.State, requestFor(t, s, key), s.Now)
	if err != nil {
		t.Fatal(err)
	}
	head, until := s.State.Head(), checked.HoldsUntil()
	var v verified
	request := func(i, octets int) *asked {
		return &asked{digest: envelope.HashOf("test", []byte{byte(i), byte(i >> 8)}), checked: checked, head: head, octets: octets}
	}
	there := func(a *asked) bool { return v.find(a.digest, head, until-1) == a }
	sum := func() (octets int) {
		for _, a := range v.requests {
			octets += a.octets + verifiedCost
		}
		return octets
	}
	ok := func() {
		t.Helper()
		if v.octets != sum() || v.octets > maxVerified || len(v.oldest) != len(v.requests) {
			t.Fatalf("%d octets, counted %d, of %d requests, %d in order", v.octets, sum(), len(v.requests), len(v.oldest))
		}
	}

	one := request(0, 1000)
	v.keep(one)
	v.keep(one)
	if !there(one) || len(v.requests) != 1 {
		t.Fatal("not kept, or twice")
	}
	for name, found := range map[string]*asked{
		"at its end":           v.find(one.digest, head, until),
		"later":                v.find(one.digest, head, until+1),
		"under another ledger": v.find(one.digest, envelope.Hash{1}, until-1),
		"another request":      v.find(envelope.Hash{2}, head, until-1),
	} {
		if found != nil {
			t.Errorf("%s it is found", name)
		}
	}
	// Verified anew, it takes the place of what was found before.
	again := request(0, 1000)
	v.keep(again)
	if !there(again) {
		t.Error("the old find stays")
	}
	ok()

	// Single certificates, as many as there are one-time keys.
	var small []*asked
	for i := range maxOffers {
		small = append(small, request(i+1, 900))
		v.keep(small[i])
	}
	ok()
	if n := len(v.requests); n < maxOffers {
		t.Errorf("%d of %d single requests are kept", n, maxOffers)
	}
	// The largest batches make them go, oldest first, and then one another.
	var large []*asked
	for i := range 10 {
		large = append(large, request(10_000+i, 1<<20))
		v.keep(large[i])
		ok()
		if !there(large[i]) {
			t.Fatalf("batch %d is not kept", i)
		}
		first := slices.IndexFunc(small, there)
		if first >= 0 && slices.ContainsFunc(small[first:], func(a *asked) bool { return !there(a) }) {
			t.Fatal("a younger request went before an older one")
		}
	}
	if there(large[0]) || !there(large[8]) || slices.ContainsFunc(small, there) {
		t.Error("the oldest batch is kept, or younger ones are not")
	}
	v.drop(large[8].digest)
	v.drop(large[8].digest)
	ok()
	if there(large[8]) || !there(large[9]) {
		t.Error("the wrong one was dropped")
	}
	v.keep(request(20_000, maxVerified)) // longer than all of the room, as no frame is
	ok()
}
