package systemtest

import (
	"crypto"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// next asks the device at the place after prior, with approvals by its
// officers, and checks that it makes no partial signature unless it answers.
func (s *System) next(r *Request, order []uint64, prior ...[]byte) error {
	s.t.Helper()
	var err error
	unmovedIfRefused(s.t, s, deviceOf(order[len(prior)]), func() error {
		_, _, err = s.Part(r, order, len(prior), prior...)
		return err
	})
	return err
}

// An inside job: the first device and its officers are corrupt. They sign what
// they like, and send it on as theirs for what the others approved.
type insideJob struct {
	*System
	good, bad   *Request // two documents
	order       []uint64
	right, evil *firmware.Partial // the first device's, of good and of bad
}

func newInsideJob(t *testing.T, key string, order ...uint64) *insideJob {
	t.Helper()
	s := Shared(t)
	j := &insideJob{System: s, order: order, good: s.File(key, []byte("a release\n")), bad: s.File(key, []byte("a trojan\n"))}
	var err error
	j.right, _, err = s.Part(j.good, order, 0)
	s.check(err)
	j.evil, _, err = s.Part(j.bad, order, 0)
	s.check(err)
	return j
}

// as makes the right message with something altered.
func (j *insideJob) as(change func(p *firmware.Partial)) []byte {
	p := *j.right
	change(&p)
	return j.lie(p.Device, p)
}

// TestSubstitution is the attack to which sequential signing falls elsewhere: a
// corrupt first device starts from another document, and honest devices that
// approved the good one finish a valid signature of it. Here the middle device
// demands a proof about the document that its own officers approved.
func TestSubstitution(t *testing.T) {
	j := newInsideJob(t, Files, 1, 2, 3)
	j.check(j.next(j.good, j.order, j.as(func(*firmware.Partial) {}))) // unaltered it is taken

	n := j.Key(Files).Public.N
	for name, x := range map[string]struct {
		change func(*firmware.Partial)
		word   string
	}{
		"without a proof":                    {func(p *firmware.Partial) { p.Y, p.Proof = j.evil.Y, nil }, "device d1 gave no proof"},
		"right, but without a proof":         {func(p *firmware.Partial) { p.Proof = nil }, "device d1 gave no proof"},
		"with the proof for the other":       {func(p *firmware.Partial) { p.Y, p.Proof = j.evil.Y, j.evil.Proof }, "device d1 is wrong"},
		"with the proof for the right one":   {func(p *firmware.Partial) { p.Y = j.evil.Y }, "device d1 is wrong"},
		"right, with the proof of the other": {func(p *firmware.Partial) { p.Proof = j.evil.Proof }, "device d1 is wrong"},
		"zero":                               {func(p *firmware.Partial) { p.Y = make([]byte, len(n)) }, "device d1 is wrong"},
		"N":                                  {func(p *firmware.Partial) { p.Y = n }, "device d1 is wrong"},
		"N minus the right one":              {func(p *firmware.Partial) { p.Y = negated(n, p.Y) }, "device d1 is wrong"},
		"of another order":                   {func(p *firmware.Partial) { p.Order = order(1, 3, 2) }, "of another order of signing"},
		"of another place":                   {func(p *firmware.Partial) { p.Position = 1 }, "of another order of signing"},
		"of another share":                   {func(p *firmware.Partial) { p.Share = j.Key(Pair).Holders[0].Share }, "names another share"},
		"of another key":                     {func(p *firmware.Partial) { p.Key = Pair }, "of another key or epoch"},
		"of another epoch":                   {func(p *firmware.Partial) { p.Epoch = 2 }, "of another key or epoch"},
		"of the other request":               {func(p *firmware.Partial) { *p = *j.evil }, "is for another request"},
	} {
		t.Run(name, func(t *testing.T) {
			j.System.t = t
			wantRefusal(t, j.next(j.good, j.order, j.as(x.change)), firmware.CodePartial, x.word)
		})
	}
}

// TestPartialOfAnotherDevice: only the device at a place speaks for it.
func TestPartialOfAnotherDevice(t *testing.T) {
	j := newInsideJob(t, Files, 1, 2, 3)
	body, err := envelope.Marshal(j.right)
	j.check(err)
	now := j.Now().Unix()
	for name, key := range map[string]crypto.Signer{"another device": j.SignKey("d4"), "the boot key": j.BootKeys["d1"]} {
		raw, err := envelope.Sign(randReader, key, envelope.Header{
			Type: firmware.TypePartial, Version: firmware.MessageVersion, System: j.State.System(), Created: now, Expires: now + 300,
		}, body)
		j.check(err)
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, j.next(j.good, j.order, raw), firmware.CodePartial, "partial of device d1")
		})
	}
}

// TestLastDeviceHoldsBack: the device in the last place lets no final signature
// go that does not verify, and names who is at fault.
func TestLastDeviceHoldsBack(t *testing.T) {
	j := newInsideJob(t, Files, 1, 2, 3)
	first := j.lie("d1", *j.right)
	second, _, err := j.Part(j.good, j.order, 1, first)
	j.check(err)
	if second.Proof != nil {
		t.Fatal("the place before the last proves: this test would prove nothing")
	}
	wrong := *second
	wrong.Y = j.evil.Y // d2 is corrupt
	wantRefusal(t, j.next(j.good, j.order, first, j.lie("d2", wrong)), firmware.CodePartial, "final signature does not verify", "[d2]")
	// The corrupt middle device advances the other document: still nothing.
	third := *second
	third.Y = slices.Clone(second.Y)
	third.Y[len(third.Y)-1] ^= 2
	wantRefusal(t, j.next(j.good, j.order, first, j.lie("d2", third)), firmware.CodePartial, "final signature does not verify", "[d2]")
	j.check(j.next(j.good, j.order, first, j.lie("d2", *second)))
}

// TestLastDeviceHoldsBackInToken is the same where the last of two uses its
// share in the token, and the first may come without a proof.
func TestLastDeviceHoldsBackInToken(t *testing.T) {
	j := newInsideJob(t, Pair, 1, 2)
	evil := j.as(func(p *firmware.Partial) { p.Y = j.evil.Y })
	wantRefusal(t, j.next(j.good, j.order, evil), firmware.CodePartial, "final signature does not verify", "[d1]")
	// It is a partial signature of the other document: with its officers'
	// approval of that, d2 finishes it.
	j.check(j.next(j.bad, j.order, j.lie("d1", *j.evil)))
	j.check(j.next(j.good, j.order, j.lie("d1", *j.right)))
}

// TestPriorsMustBeThere: no place is skipped and none is added.
func TestPriorsMustBeThere(t *testing.T) {
	j := newInsideJob(t, Files, 1, 2, 3)
	first := j.lie("d1", *j.right)
	offer := j.MustOffer("d3", j.good)
	approvals := j.Approvals(j.good, offer, nil)
	for name, prior := range map[string][][]byte{"none": nil, "one of two": {first}, "three of two": {first, first, first}} {
		_, _, err := j.Do("d3", j.good.Task(offer, approvals, j.order, 2, prior...))
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, firmware.CodeMessage, "before position 2") })
	}
	_, _, err := j.Do("d3", j.good.Task(offer, approvals, j.order, 2, first, first))
	wantRefusal(t, err, firmware.CodePartial, "partial of device d2")
	// Parallel signing has none at all.
	cert := j.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	offer = j.MustOffer("d2", cert)
	_, _, err = j.Do("d2", cert.Task(offer, j.Approvals(cert, offer, nil), j.order, 1, first))
	wantRefusal(t, err, firmware.CodeMessage, "has no prior partials")
}

// TestModeIsTheKeys: a key shared for the one kind of signing is not used for
// the other.
func TestModeIsTheKeys(t *testing.T) {
	s := Shared(t)
	_, err := s.Offer("d1", s.File(Files, []byte("x"), func(r *document.Request) { r.Route.Mode = document.ModeParallel }))
	wantRefusal(t, err, firmware.CodeRequest, "shared for sequential signing")
}

// TestCombinerRefusesWrongPartial: what does not verify is no signature,
// whoever combines.
func TestCombinerRefusesWrongPartial(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	partials, err := s.Partials(r, 1, 2, 4)
	s.check(err)
	other := s.Certificate(newCSR(t, t.TempDir(), "mail.example.org"))
	p, _, err := s.Part(other, order(1, 2, 4), 2)
	s.check(err)
	if _, err := s.Combine(r, partials); err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Combine(r, []*firmware.Partial{partials[0], partials[1], p}); err == nil {
		t.Errorf("combined to %x", sig[:8])
	}
	if _, err := s.Combine(r, partials[:2]); err == nil {
		t.Error("two of three devices make a signature")
	}
	if err := threshold.VerifySignature(&s.Key(Certs).Public, r.Algorithm, s.Check(r).Digest(), partials[0].Y); err == nil {
		t.Error("one partial signature is a signature")
	}
}
