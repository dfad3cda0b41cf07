package systemtest

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestTaskFromAnotherServer: a device obeys its own site's server only.
func TestTaskFromAnotherServer(t *testing.T) {
	c := newScene(t)
	task := c.r.Task(c.offer, c.Approvals(c.r, c.offer, nil), c.order, 0)
	for name, signer := range map[string]crypto.Signer{
		"the server of d2": c.Servers["d2"].Sign, "the device itself": c.SignKey("d1"), "its boot key": c.BootKeys["d1"],
		"an officer": c.a.Card.PrivateKey, "the administrator": c.People[Administrator][0].PrivateKey,
	} {
		t.Run(name, func(t *testing.T) {
			l := c.Letter("d1", firmware.TypeTask, task)
			l.Signer = signer
			unmoved(t, c.System, "d1", func() {
				_, err := c.Deliver("d1", l)
				wantDropped(t, err, envelope.ErrWrongKey.Error())
			})
		})
	}
}

// TestTaskAltered: what is unsealed, sealed to another, unsigned, of another
// system or expired is not obeyed.
func TestTaskAltered(t *testing.T) {
	c := newScene(t)
	task := c.r.Task(c.offer, c.Approvals(c.r, c.offer, nil), c.order, 0)
	letter := func(change func(*Letter)) error {
		l := c.Letter("d1", firmware.TypeTask, task)
		change(l)
		_, err := c.Deliver("d1", l)
		return err
	}
	unmoved(t, c.System, "d1", func() {
		wantDropped(t, letter(func(l *Letter) { l.To = nil }), "must be sealed")
		wantDropped(t, letter(func(l *Letter) { l.To = c.offer.Public() }), "sealed to somebody else")
		wantDropped(t, letter(func(l *Letter) { l.To = c.a.Card.Agree() }), "sealed to somebody else")
		wantDropped(t, letter(func(l *Letter) { l.Header.System = envelope.HashOf("another system") }), "for another system")
		wantDropped(t, letter(func(l *Letter) { l.Header.System = envelope.Hash{} }), "for another system")
		wantRefusal(t, letter(func(l *Letter) { l.Header.Created, l.Header.Expires = l.Header.Created-900, l.Header.Created-600 }), firmware.CodeExpired, "expired")
		wantRefusal(t, letter(func(l *Letter) { l.Header.Type = "task.at-once" }), firmware.CodeMessage, `no message of type "task.at-once"`)
		wantRefusal(t, letter(func(l *Letter) { l.Header.Version = 2 }), firmware.CodeMessage, "version")
		wantRefusal(t, letter(func(l *Letter) { l.Payload = map[uint64]any{1: []byte("x"), 99: true} }), firmware.CodeMessage)
	})
	// Every byte of the sealed frame counts.
	frame := c.Frame(c.Letter("d1", firmware.TypeTask, task))
	unmoved(t, c.System, "d1", func() {
		for at := 0; at < len(frame); at += 1 + len(frame)/150 {
			bad := append([]byte(nil), frame...)
			bad[at] ^= 0x10
			if _, err := c.relay("d1", bad); err == nil {
				t.Errorf("a frame with byte %d altered is answered", at)
			}
		}
	})
}

func TestWrongOrderPositionOrSubset(t *testing.T) {
	c := newScene(t)
	approvals := c.Approvals(c.r, c.offer, nil)
	for name, x := range map[string]struct {
		order    []uint64
		position uint64
		word     string
	}{
		"another's place":       {order(2, 1), 0, "is not the place of share"},
		"behind the end":        {order(1, 2), 2, "is not the place of share"},
		"far behind the end":    {order(1, 2), 1 << 63, "is not the place of share"},
		"too few":               {order(1), 0, "subset"},
		"too many":              {order(1, 2, 3), 0, "subset"},
		"none":                  {nil, 0, ""},
		"twice":                 {order(1, 1), 0, ""},
		"index 0":               {order(1, 0), 0, ""},
		"index 6 of 5":          {order(1, 6), 0, ""},
		"index beyond a subset": {order(1, 1<<40), 0, ""},
		"without this device":   {order(2, 3), 0, "is not the place of share"},
		"second, without first": {order(2, 1), 1, "0 partials before position 1"},
	} {
		t.Run(name, func(t *testing.T) {
			task := c.r.Task(c.offer, approvals, x.order, 0)
			task.Position = x.position
			unmoved(t, c.System, "d1", func() {
				_, _, err := c.Do("d1", task)
				wantRefusal(t, err, firmware.CodeMessage, x.word)
			})
		})
	}
}

// TestDeviceOffTheRoute: the requester names the devices; no other takes part,
// and none signs together with another.
func TestDeviceOffTheRoute(t *testing.T) {
	c := newScene(t, Via("d1", "d2"))
	_, err := c.Offer("d3", c.r)
	wantRefusal(t, err, firmware.CodeRequest, "route does not include device d3")
	_, _, err = c.Do("d1", c.r.Task(c.offer, c.Approvals(c.r, c.offer, nil), order(1, 3), 0))
	wantRefusal(t, err, firmware.CodeMessage, "device d3 is not on the request's route")
}

func TestRequestByNobody(t *testing.T) {
	c := newScene(t)
	doc := FileOf(Pair, []byte("x"))
	for name, r := range map[string]struct {
		request *Request
		word    string
	}{
		"a key nobody knows":      {c.RequestBy(newKey(t), Requester, doc), "nobody's here"},
		"another person's name":   {c.RequestBy(c.a.Card, Requester, doc), "names rita as requester, but person " + c.a.Person},
		"a message server":        {c.RequestBy(c.Servers["d1"].Sign, "s1", doc), "a server is no requester"},
		"a server as if a person": {c.RequestBy(c.Servers["d1"].Sign, Requester, doc), "names rita as requester"},
		"a device's boot key":     {c.RequestBy(c.BootKeys["d2"], "d2", doc), "signed with a key for boot"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Offer("d1", r.request)
			wantRefusal(t, err, firmware.CodeRequest, r.word)
		})
	}
	altered := append([]byte(nil), c.r.Raw...)
	altered[len(altered)-5] ^= 1
	_, err := c.Offer("d1", &Request{Request: c.r.Request, Raw: altered, Digest: c.r.Digest})
	wantRefusal(t, err, firmware.CodeMessage, "signature")
}

// TestTBSCertificateAsFile: the key for files does not make certificates of
// whatever is called a file (design §4).
func TestTBSCertificateAsFile(t *testing.T) {
	s := Shared(t)
	cert := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	der, err := s.Check(cert).Assemble(s.MustSign(cert, 1, 2, 3))
	s.check(err)
	c, err := x509.ParseCertificate(der)
	s.check(err)
	for name, content := range map[string][]byte{
		"TBSCertificate for the certificates' key": c.RawTBSCertificate,
		"TBSCertificate for the files' key itself": selfTBS(t, s),
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range []string{Files, Pair} {
				_, err := s.Offer("d1", s.File(key, content))
				wantRefusal(t, err, firmware.CodeRequest, "is a TBSCertificate")
			}
		})
	}
	// Nor does the key for certificates sign files.
	_, err = s.Offer("d1", s.File(Certs, []byte("a file")))
	wantRefusal(t, err, firmware.CodeRequest, "is of family")
	// Nor does anybody have the SWA sign either.
	_, err = s.Offer("d1", s.File(SWA, []byte("a file")))
	wantRefusal(t, err, firmware.CodeRequest, "is of family")
}

// selfTBS is a certificate to be signed by the files key itself.
func selfTBS(t *testing.T, s *System) []byte {
	t.Helper()
	root, err := x509.ParseCertificate(s.Key(Certs).Certificate)
	s.check(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: root.Subject, NotBefore: root.NotBefore, NotAfter: root.NotAfter, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(randReader, tmpl, tmpl, s.Key(Files).Public.RSA(), newRSA(t))
	s.check(err)
	c, err := x509.ParseCertificate(der)
	s.check(err)
	return c.RawTBSCertificate
}

func TestCSRWithBadSignature(t *testing.T) {
	s := Shared(t)
	csr := newCSR(t, t.TempDir(), "www.example.org")
	r := s.Certificate(csr)
	bad := append([]byte(nil), csr...)
	bad[len(bad)-3] ^= 1
	_, err := s.Offer("d1", s.Request(Requester, r.Request, func(x *document.Request) { x.CSR = bad }))
	wantRefusal(t, err, firmware.CodeRequest, "signature")
	// A good request by somebody else does not make the certificate his.
	other := newCSR(t, t.TempDir(), "evil.example.org")
	_, err = s.Offer("d1", s.Request(Requester, r.Request, func(x *document.Request) { x.CSR = other }))
	wantRefusal(t, err, firmware.CodeRequest)
	_, err = s.Offer("d1", s.Request(Requester, r.Request, func(x *document.Request) { x.CSR = nil }))
	wantRefusal(t, err, firmware.CodeRequest)
}

// TestNewerLedger: a device makes nothing for somebody who knows a ledger
// that it does not know.
func TestNewerLedger(t *testing.T) {
	c := newScene(t)
	u, err := envelope.Parse(c.r.Raw)
	c.check(err)
	h := u.Header()
	h.LedgerHead = envelope.HashOf("a head to come")
	raw, err := envelope.Sign(randReader, c.People[Requester][0], h, u.UnverifiedPayload())
	c.check(err)
	u, err = envelope.Parse(raw)
	c.check(err)
	_, err = c.Offer("d1", &Request{Request: c.r.Request, Raw: raw, Digest: u.UnverifiedDigest()})
	wantRefusal(t, err, firmware.CodeLedger, "hand it the newer entries first")
}
