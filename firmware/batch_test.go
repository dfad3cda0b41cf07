package firmware_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

var allMachines = []string{"device-1", "device-2", "device-3", "device-4", "device-5"}

// TestBatch: one approval, one message of powers and one of signatures make all
// certificates of a batch, with any two calculators and any combiner.
func TestBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	key, _ := w.State.Key(a.Dealing.Key.ID)
	root, err := x509.ParseCertificate(key.Certificate)
	w.check(err)
	const n, l = 5, 2
	for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS384} {
		r := w.batch(a, n, alg, nil)
		x := w.beginWith(a, r, allMachines...)
		packet, err := firmware.VerifyDistribution(w.State, x.distribution, w.Now)
		w.check(err)
		ems, err := r.checked.EncodedMessages(r.digest)
		w.check(err)
		var raws [][]byte
		for i, id := range allMachines[:3] {
			records, made := len(w.devices[id].Journal), w.made(id)
			p, raw, err := w.powers(id, x.powers(id))
			w.check(err)
			if got := len(w.devices[id].Journal) - records; got != 1 || w.made(id)-made != n {
				t.Errorf("%s: %d records, %d powers counted", id, got, w.made(id)-made)
			}
			if _, err := firmware.VerifyPowers(w.State, &key, packet, raw); err != nil {
				t.Error(err)
			}
			in := x.powers(id)
			in.Prove = true
			q, proved, err := w.powers(id, in)
			w.check(err)
			if _, err := firmware.VerifyPowers(w.State, &key, packet, proved); err != nil {
				t.Error(err)
			}
			if len(p.Y) != n*l || p.Proofs != nil || len(q.Proofs) != n*l {
				t.Fatalf("%s: %d powers, %d proofs", id, len(p.Y), len(q.Proofs))
			}
			b := firmware.PowersBinding(w.State, &key, r.digest, p.Share)
			for at := range p.Y {
				term := grouping.Term{Calculator: uint64(i + 1), Key: uint64(at%l + 1)}
				if err := twolayer.VerifyProof(&key.Public, key.Layers, b, term, ems[at/l], p.Y[at], q.Proofs[at]); err != nil {
					t.Errorf("%s, document %d: %v", id, at/l+1, err)
				}
			}
			raws = append(raws, raw)
		}
		for _, id := range allMachines[3:] {
			for _, set := range [][][]byte{{raws[0], raws[1]}, {raws[2], raws[0]}, raws} {
				records := len(w.devices[id].Journal)
				c, raw, err := w.combine(id, x.combine(id, set...))
				w.check(err)
				if got := len(w.devices[id].Journal) - records; got != 1 {
					t.Errorf("%s: %d records", id, got)
				}
				if _, err := firmware.VerifyCombined(w.State, &key, packet, raw); err != nil {
					t.Error(err)
				}
				if len(c.Wrong)+len(c.Suspects)+len(c.Given) != 0 {
					t.Errorf("%s accuses %v, suspects %v", id, c.Wrong, c.Suspects)
				}
				docs, err := r.checked.AssembleAll(c.Signatures)
				w.check(err)
				for i, der := range docs {
					cert, err := x509.ParseCertificate(der)
					w.check(err)
					w.check(cert.CheckSignatureFrom(root))
					if want := fmt.Sprintf("server %d", i+1); cert.Subject.CommonName != want {
						t.Errorf("certificate %d is for %s", i+1, cert.Subject.CommonName)
					}
				}
			}
		}
	}
	w.nothingLeaked(a)
}

// made is how many powers or signatures a device says it made.
func (w *world) made(device string) uint64 {
	w.t.Helper()
	st, _, err := ask[firmware.Status](w, device, firmware.TypeStatusAsk, firmware.StatusAsk{}, firmware.TypeStatus)
	w.check(err)
	return st.Partials
}

// TestBatchIsOne: no document of a batch is left out, exchanged, moved, added or
// signed alone, whatever the distributor or a calculator says.
func TestBatchIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	r := w.batch(a, 3, threshold.RS256, nil)
	x := w.beginWith(a, r, "device-1", "device-2", "device-4")
	both := func(name string, x *task, packet []byte, code, text string) {
		t.Helper()
		in := x.powers("device-1")
		in.Distribution = packet
		_, _, err := w.powers("device-1", in)
		w.want(name+", a calculator", err, code, text)
		other := x.combine("device-4")
		other.Distribution = packet
		_, _, err = w.combine("device-4", other)
		w.want(name+", a combiner", err, code, text)
	}
	// The packet says another number or hash.
	for _, tc := range []struct {
		documents uint64
		text      string
	}{
		{0, "is about 0 documents, at most 100"}, {1, "is about 1 documents, the request has 3"}, {2, "is about 2 documents"}, {4, "is about 4 documents"},
		{100, "is about 100 documents"}, {101, "is about 101 documents, at most 100"}, {1 << 63, "at most 100"},
	} {
		both(fmt.Sprint(tc.documents), x, w.distribution(a, r, func(p *firmware.Distribution, _ *envelope.Header) { p.Documents = tc.documents }), firmware.CodeTask, tc.text)
	}
	for i, part := range r.checked.Parts() {
		both(fmt.Sprintf("the hash of document %d", i+1), x, w.distribution(a, r, func(p *firmware.Distribution, _ *envelope.Header) { p.Hash = part.Digest() }),
			firmware.CodeTask, "its hash is not that of the document")
	}

	// Another request with some of the documents: nobody was asked for it, and
	// the approvals are for the batch.
	for _, tc := range []struct {
		name string
		edit func(*document.Request)
	}{
		{"one alone", func(q *document.Request) {
			q.Kind, q.Document, q.CSR, q.Batch = document.KindCertificate, q.Batch[1].Document, q.Batch[1].CSR, nil
		}},
		{"one left out", func(q *document.Request) { q.Batch = q.Batch[:2] }},
		{"two in another order", func(q *document.Request) { q.Batch[0], q.Batch[1] = q.Batch[1], q.Batch[0] }},
		{"one more", func(q *document.Request) {
			key, _ := w.State.Key(q.Key)
			q.Batch = append(q.Batch, w.draft(&key, "mallory", threshold.RS256, nil))
		}},
	} {
		q := w.asking(a, threshold.RS256, func(_ *ledger.Key, out *document.Request) {
			*out = r.Request
			out.Batch = slices.Clone(r.Batch)
			tc.edit(out)
		})
		y := *x
		y.r = q
		both(tc.name+", nobody was asked", &y, w.distribution(a, q), firmware.CodeOffer, "no one-time key for request")
		for _, id := range []string{"device-1", "device-4"} {
			_, err := w.offer(id, q)
			w.check(err)
		}
		both(tc.name+", officers were asked for the batch", &y, w.distribution(a, q), firmware.CodeQuorum, "request")
	}

	// Powers of another number of documents, or of none.
	raws := w.mustPowers(x, "device-1", "device-2")
	for _, tc := range []struct {
		name, text string
		edit       func(*firmware.Powers)
	}{
		{"of two documents", "has 4 powers of 3 documents", func(p *firmware.Powers) { p.Y = p.Y[:4] }},
		{"one missing", "has 5 powers of 3 documents", func(p *firmware.Powers) { p.Y = p.Y[:5] }},
		{"of four documents", "has 8 powers of 3 documents", func(p *firmware.Powers) { p.Y = append(p.Y, p.Y[:2]...) }},
		{"of none", "has 0 powers of 3 documents", func(p *firmware.Powers) { p.Y = nil }},
		{"of a hundred", "at most", func(p *firmware.Powers) { p.Y = slices.Repeat(p.Y[:2], 100) }},
		{"a short one", "has a power of 255 bytes", func(p *firmware.Powers) { p.Y[5] = p.Y[5][1:] }},
		{"proofs of one document", "has 2 proofs of 6 powers", func(p *firmware.Powers) { p.Proofs = []*threshold.Proof{{}, {}} }},
		{"for the hash of a document", "is for another hash", func(p *firmware.Powers) { p.Hash = r.checked.Parts()[0].Digest() }},
	} {
		_, _, err := w.combine("device-4", x.combine("device-4", w.lie(raws[0], "device-1", tc.edit), raws[1]))
		w.want(tc.name, err, firmware.CodePartial, tc.text)
	}

	// A document that devices do not accept is refused with all others, by name.
	bad := w.batch(a, 1, threshold.RS256, nil)
	bad.Batch = append(slices.Clone(r.Batch[:2]), document.Draft{Document: r.Batch[2].Document, CSR: r.Batch[0].CSR})
	w.sign(bad)
	_, err := w.offer("device-1", bad)
	w.want("a bad one", err, firmware.CodeRequest, "certificate 3 of 3")
}

// TestBatchLiar: who lies about one document only is found by his powers for it,
// and all certificates are made; combiners say what he had sent.
func TestBatchLiar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	key, _ := w.State.Key(a.Dealing.Key.ID)
	const n, l = 4, 2
	r := w.batch(a, n, threshold.RS256, nil)
	x := w.beginWith(a, r, allMachines...)
	ems, err := r.checked.EncodedMessages(r.digest)
	w.check(err)
	raws := w.mustPowers(x, "device-1", "device-2", "device-3")
	for which := range n {
		var lied firmware.Powers
		lie := w.lie(raws[0], "device-1", func(p *firmware.Powers) {
			for i := range l {
				p.Y[which*l+i] = p.Y[(which*l+l+i)%(n*l)] // right, for another document
			}
			lied = *p
		})
		for _, combiner := range allMachines[3:] {
			_, _, err := w.combine(combiner, x.combine(combiner, lie, raws[1]))
			w.want("a lie and nobody else", err, firmware.CodePartial, "one or more of calculators [1 2] are wrong")
			c, raw, err := w.combine(combiner, x.combine(combiner, lie, raws[1], raws[2]))
			w.check(err)
			if _, err := r.checked.AssembleAll(c.Signatures); err != nil {
				t.Error(err)
			}
			if slices.Contains(c.Combinations[which].Calculators(), 1) {
				t.Errorf("document %d was signed with the lie: %v", which+1, c.Combinations[which])
			}
			if named := slices.Concat(c.Wrong, c.Suspects); !slices.Equal(named, []uint64{1}) && !slices.Contains(c.Suspects, 1) {
				t.Errorf("wrong %v, suspects %v", c.Wrong, c.Suspects)
			}
			if len(c.Given) != len(c.Wrong) || len(c.Wrong) == 1 && c.Given[0] != firmware.PowersHash(lied.Y) {
				t.Error("what the liar had sent is not there")
			}
			packet, err := firmware.VerifyDistribution(w.State, x.distribution, w.Now)
			w.check(err)
			_, err = firmware.VerifyCombined(w.State, &key, packet, raw)
			w.check(err)
		}
		// The proofs that he can make are of the right powers, and convict him.
		in := x.powers("device-1")
		in.Prove = true
		right, _, err := w.powers("device-1", in)
		w.check(err)
		b := firmware.PowersBinding(w.State, &key, r.digest, right.Share)
		for at := range right.Y {
			term := grouping.Term{Calculator: 1, Key: uint64(at%l + 1)}
			err := twolayer.VerifyProof(&key.Public, key.Layers, b, term, ems[at/l], lied.Y[at], right.Proofs[at])
			if (err != nil) != (at/l == which) {
				t.Errorf("lie in document %d, proof for document %d: %v", which+1, at/l+1, err)
			}
		}
	}
	// Two combinations that differ in nothing but the liar's sub-keys are in no
	// share here; powers that are no numbers below N convict at once, in whichever
	// document.
	lie := w.lie(raws[0], "device-1", func(p *firmware.Powers) { p.Y[2*l] = bytes.Repeat([]byte{0xff}, 256) })
	c, _, err := w.combine("device-4", x.combine("device-4", lie, raws[1], raws[2]))
	w.check(err)
	if !slices.Equal(c.Wrong, []uint64{1}) || len(c.Suspects) != 0 || len(c.Given) != 1 {
		t.Errorf("wrong %v, suspects %v, given %d", c.Wrong, c.Suspects, len(c.Given))
	}
}

// TestBatchClose: a device closes a request when it has seen all its signatures,
// each by the authority's key for its own document.
func TestBatchClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	r := w.batch(a, 3, threshold.PS256, nil)
	x := w.beginWith(a, r, "device-1", "device-2", "device-4")
	raws := w.mustPowers(x, "device-1", "device-2")
	c, _, err := w.combine("device-4", x.combine("device-4", raws...))
	w.check(err)
	good := c.Signatures
	n := len(good[0])
	for _, tc := range []struct {
		name, text string
		signatures [][]byte
	}{
		{"none", "0 signatures of 3 documents", nil},
		{"one too few", "2 signatures of 3 documents", good[:2]},
		{"one too many", "4 signatures of 3 documents", append(slices.Clone(good), good[0])},
		{"one wrong", "signature 2 of 3", [][]byte{good[0], make([]byte, n), good[2]}},
		{"one bit wrong", "signature 3 of 3", [][]byte{good[0], good[1], append(slices.Clone(good[2][:n-1]), good[2][n-1]^1)}},
		{"two in another order", "signature 1 of 3", [][]byte{good[1], good[0], good[2]}},
		{"one twice", "signature 3 of 3", [][]byte{good[0], good[1], good[0]}},
		{"a short one", "signature 1 of 3", [][]byte{good[0][1:], good[1], good[2]}},
	} {
		w.want(tc.name, w.close("device-1", r, tc.signatures), firmware.CodeMessage, tc.text)
	}
	_, _, err = w.powers("device-1", x.powers("device-1"))
	w.check(err) // it is as open as before

	// The same request with another signature by its requester is the same.
	again := *r
	again.raw = resigned(t, w, r.raw, w.Persons[r.Requester].Card().Sign)
	if bytes.Equal(again.raw, r.raw) {
		t.Fatal("the same signature")
	}
	y := *x
	y.r = &again
	_, _, err = w.powers("device-1", y.powers("device-1"))
	w.check(err)

	w.check(w.close("device-1", &again, good))
	w.check(w.close("device-1", r, good)) // a repetition
	for name, x := range map[string]*task{"as it was": x, "with another signature": &y} {
		_, _, err = w.powers("device-1", x.powers("device-1"))
		w.want("closed, "+name, err, firmware.CodeClosed, "has its signature")
		_, err = w.offer("device-1", x.r)
		w.want("closed, "+name, err, firmware.CodeClosed, "has its signature")
	}
	w.devices["device-1"].Restart(t)
	_, err = w.offer("device-1", &again)
	w.want("closed, after a restart", err, firmware.CodeClosed, "has its signature")
	// The others are as they were.
	_, _, err = w.powers("device-2", x.powers("device-2"))
	w.check(err)
}

// TestRequestVerifiedOnce: what was found of a request is used again for the same
// request only, under the same ledger, and no longer than it holds.
func TestRequestVerifiedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithDevices(7))
	a := w.authority(1)
	// One certificate of three ends, in a way that the check sees, before the request does.
	r := w.batch(a, 3, threshold.RS256, func(i int, x *document.TBS) {
		if i == 1 {
			x.NotAfter = w.Now + 1000
		}
	})
	x := w.beginWith(a, r, "device-1", "device-2", "device-4")
	if until := r.checked.HoldsUntil(); until != w.Now+1000 {
		t.Fatalf("it holds for %d s", until-w.Now)
	}
	// A signature that was never verified does no harm where the request was, and
	// nothing where it was not.
	forged := *r
	forged.raw = slices.Clone(r.raw)
	forged.raw[len(forged.raw)-1] ^= 1
	y := *x
	y.r = &forged
	_, _, err := w.powers("device-1", y.powers("device-1"))
	w.check(err)
	_, err = w.offer("device-3", &forged)
	w.want("a forged signature, and the request was not here", err, firmware.CodeMessage, "signature")
	// One octet of it is another request.
	other := *r
	other.raw = slices.Clone(r.raw)
	at := bytes.Index(other.raw, []byte("server 2"))
	other.raw[at] = 'S'
	y.r = &other
	_, _, err = w.powers("device-1", y.powers("device-1"))
	w.want("an altered octet", err, firmware.CodeMessage, "signature")

	// Under a ledger by which the route cannot sign, it is refused.
	few := w.batch(a, 2, threshold.RS256, nil)
	few.Route.Devices = []string{"device-1", "device-2", "device-4"}
	w.sign(few)
	few.checked, err = document.CheckIn(w.State, &few.Request, w.Now)
	w.check(err)
	z := w.beginWith(a, few, "device-1", "device-2", "device-4")
	w.mustPowers(z, "device-2")
	b := w.DealNext(t, a, ledgertest.SmallPlan(1).Without([]uint64{1}, nil))
	w.enter(b)
	_, _, err = w.powers("device-2", z.powers("device-2"))
	w.want("the ledger grew", err, firmware.CodeRequest, "names 1 calculators")
	w.want("the ledger grew", w.close("device-2", few, [][]byte{{1}, {2}}), firmware.CodeRequest, "names 1 calculators")
	// The other request is as good as before: three were named.
	w.mustPowers(x, "device-2")

	w.Now += 999
	w.mustPowers(x, "device-2")
	w.Now++
	_, _, err = w.powers("device-2", x.powers("device-2"))
	w.want("a certificate has ended", err, firmware.CodeRequest, "certificate 2 of 3: bad validity: it ended")

	late := w.batch(b, 2, threshold.RS256, nil)
	v := w.beginWith(b, late, "device-2", "device-3")
	w.mustPowers(v, "device-2")
	w.Now = late.Expires
	_, _, err = w.powers("device-2", v.powers("device-2"))
	w.want("expired", err, firmware.CodeExpired, "expired")
}

// TestCrashInBatch: a calculator dies with its record on the disk, and without. The
// number is the request's only where the record is, and the same is computed again.
func TestCrashInBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.authority(1)
	x := w.beginWith(a, w.batch(a, 3, threshold.RS256, nil), "device-1", "device-2", "device-4")
	want, _, err := w.powers("device-1", x.powers("device-1"))
	w.check(err)
	d := w.devices["device-1"]
	for _, persist := range []bool{false, true} {
		x.distribution = w.distribution(a, x.r)
		number := w.tasks
		records := len(d.Journal)
		d.Break = func([]byte) (bool, error) { return persist, firmwaretest.ErrJournal }
		if _, _, err := w.powers("device-1", x.powers("device-1")); err == nil {
			t.Fatal("an answer without a record")
		}
		d.Break = nil
		d.Restart(t)
		if got := len(d.Journal) - records; got != map[bool]int{false: 0, true: 1}[persist] {
			t.Errorf("%d records", got)
		}
		_, _, err := w.powers("device-1", x.powers("device-1"))
		w.want("restarted", err, firmware.CodeOffer, "no one-time key")
		// Another batch under this number.
		y := w.beginWith(a, w.batch(a, 2, threshold.RS256, nil), "device-1")
		y.distribution = w.distribution(a, y.r, func(p *firmware.Distribution, _ *envelope.Header) { p.Task = number })
		_, _, err = w.powers("device-1", y.powers("device-1"))
		if persist {
			w.want("number taken", err, firmware.CodeTask, "under this number")
		} else {
			w.check(err)
			x.distribution = w.distribution(a, x.r)
		}
		w.agree(x, "device-1")
		got, _, err := w.powers("device-1", x.powers("device-1"))
		w.check(err)
		if !slices.EqualFunc(got.Y, want.Y, bytes.Equal) {
			t.Error("other powers")
		}
	}
}

// TestOfficersOfARevision: a request that is open when a revision changes a
// machine's officers does not wait for the old offer's end: the device makes another,
// for which the new ones have pieces.
func TestOfficersOfARevision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.WithDevices(7))
	a := w.authority(1)
	x := w.beginWith(a, w.batch(a, 2, threshold.RS256, nil), "device-1", "device-2", "device-4")
	old := x.offers["device-1"]
	b := w.DealNext(t, a, ledgertest.SmallPlan(1))
	for i := range b.Dealing.Officers {
		if o := &b.Dealing.Officers[i]; o.Device == "device-1" {
			o.Person = strings.Replace(o.Person, "1", "7", 1)
			o.Card = w.Persons[o.Person].Card().Serial
		}
	}
	for i := range b.Dealing.Key.Holders {
		if h := &b.Dealing.Key.Holders[i]; h.Device == "device-1" {
			h.Version++
		}
	}
	w.Confirm(t, &b.Dealing)
	w.installAll(b)
	again, err := w.offer("device-1", x.r)
	w.check(err)
	if again.Digest() != old.Digest() {
		t.Error("another offer before the entry")
	}
	w.enter(b)
	_, _, err = w.powers("device-1", x.powers("device-1"))
	w.want("the old officers", err, firmware.CodeQuorum, "officer-1a")
	w.agree(x, "device-1")
	renewed := x.offers["device-1"]
	if renewed.Digest() == old.Digest() || renewed.pieces[0].Person != "officer-7a" {
		t.Errorf("the old offer, with a piece for %s", renewed.pieces[0].Person)
	}
	again, err = w.offer("device-1", x.r)
	w.check(err)
	if again.Digest() != renewed.Digest() {
		t.Error("a third offer")
	}
	// The others' officers are the same, and so are their offers.
	for _, id := range []string{"device-2", "device-4"} {
		again, err := w.offer(id, x.r)
		w.check(err)
		if again.Digest() != x.offers[id].Digest() {
			t.Errorf("%s makes another offer", id)
		}
	}
	c, _, err := w.combine("device-4", x.combine("device-4", w.mustPowers(x, "device-1", "device-2")...))
	w.check(err)
	_, err = x.r.checked.AssembleAll(c.Signatures)
	w.check(err)
	// Nothing was begun with the old share any more.
	if got := w.machine("device-1", 1); got != "ready 2" {
		t.Errorf("device-1: %q", got)
	}
}

// TestLargestBatchFits: what a combiner is given for the largest batch of any key
// fits into one frame of its link: the request, the messages of all calculators
// with proofs, and the approvals of as many officers as a device may have.
func TestLargestBatchFits(t *testing.T) {
	const frame = 4 << 20 // link.MaxMessage, which is tolerant.MaxPacket too
	s := ledgertest.New(t)
	a := s.Authority(t, ledgertest.SmallPlan(1))
	d, _ := s.State.Device("device-4")
	worst := 0
	for _, bits := range []int{2048, 3072, 4096} {
		for n := 2; n <= grouping.MaxCalculators; n++ {
			for l := 1; l <= ledger.MaxSubKeys; l++ {
				key, layers := a.Dealing.Key, *a.Dealing.Key.Layers
				key.N, key.Layers, layers.Grouping.L, key.Public.N = uint64(n), &layers, uint64(l), make([]byte, bits/8)
				documents := document.MaxBatch(&key)
				in := firmware.CombineTask{Distribution: make([]byte, 1<<10), Request: make([]byte, 1<<20+16<<10), Offer: make([]byte, 2<<10)}
				for range ledger.MaxOfficersOfDevice {
					in.Approvals = append(in.Approvals, make([]byte, 2<<10))
				}
				for range n {
					// As long as VerifyPowers takes.
					in.Powers = append(in.Powers, make([]byte, documents*l*3*bits/8+8<<10))
				}
				payload, err := envelope.Marshal(in)
				if err != nil {
					t.Fatal(err)
				}
				worst = max(worst, len(payload))
				if len(payload) > frame-16<<10 || len(payload) < worst {
					continue
				}
				raw, err := envelope.Sign(rand.Reader, s.Servers["server-4"].Sign, envelope.Header{
					Type: firmware.TypeCombineTask, Version: 1, System: s.State.System(), To: []envelope.KeyID{envelope.KeyIDOfSPKI(d.Agree)}, Created: s.Now, Expires: s.Now + 60,
				}, payload)
				if err != nil {
					t.Fatal(err)
				}
				sealed, err := envelope.Seal(rand.Reader, raw, keysOf(t, d.Agree))
				if err != nil {
					t.Fatal(err)
				}
				worst = max(worst, len(sealed))
			}
		}
	}
	t.Logf("the longest takes %d of %d octets", worst, frame)
	if worst > frame {
		t.Error("it does not fit")
	}
	if worst < frame*3/4 {
		t.Error("there is room for larger batches, or the largest is not among these")
	}
}
