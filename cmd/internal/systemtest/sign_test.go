package systemtest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// verifyCertificate asks OpenSSL about a certificate under the key's root.
func verifyCertificate(t testing.TB, s *System, der []byte) {
	t.Helper()
	dir := t.TempDir()
	ca := writePEM(t, dir, "ca.pem", "CERTIFICATE", s.Key(Certs).Certificate)
	cert := writePEM(t, dir, "cert.pem", "CERTIFICATE", der)
	openssl(t, dir, "verify", "-x509_strict", "-check_ss_sig", "-attime", strconv.FormatInt(s.Now().Unix(), 10), "-CAfile", ca, cert)
}

// verifyFile asks OpenSSL about a file's signature.
func verifyFile(t testing.TB, s *System, r *Request, sig []byte) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"dgst", fmt.Sprintf("-sha%d", r.Algorithm.Hash().Size()*8)}
	if r.Algorithm.PSS() {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
	}
	args = append(args, "-verify", writePublic(t, dir, s.Key(r.Key)), "-signature", write(t, dir, "file.sig", sig), write(t, dir, "file", r.Document))
	openssl(t, dir, args...)
}

// TestCertificate: a request made by OpenSSL is signed by every subset of
// three devices in parallel; all make the same certificate, and OpenSSL
// accepts it. Some of the subsets mix devices that use their share in the
// token with devices that use it in the host.
func TestCertificate(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	uses := map[string]bool{}
	var first []byte
	for _, x := range s.Subsets(Certs) {
		sig := s.MustSign(r, x...)
		if first == nil {
			first = sig
			der, err := s.Check(r).Assemble(sig)
			if err != nil {
				t.Fatal(err)
			}
			verifyCertificate(t, s, der)
		}
		same(t, fmt.Sprintf("signature by %v", x), sig, first)
		use := ""
		for _, i := range x {
			use += s.Status(deviceOf(i)).Use + "; "
		}
		uses[use] = true
	}
	for _, want := range []string{"in token; in token; in token; ", "in token; in token; in host; ", "in token; in host; in host; "} {
		if !uses[want] {
			t.Errorf("no subset of %q; there were %v", want, uses)
		}
	}
}

// TestCertificateChained is the same with each device's officers approving one
// after the other, and another order of the devices.
func TestCertificateChained(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"), Chain)
	der, err := s.Check(r).Assemble(s.MustSign(r, 5, 1, 3))
	if err != nil {
		t.Fatal(err)
	}
	verifyCertificate(t, s, der)
}

// TestOpenSSLRefuses shows that the judge of the tests here can say no.
func TestOpenSSLRefuses(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("a document"))
	sig := s.MustSign(r, 1, 2)
	verifyFile(t, s, r, sig)
	dir := t.TempDir()
	_, err := opensslErr(dir, "dgst", "-sha256", "-verify", writePublic(t, dir, s.Key(Pair)),
		"-signature", write(t, dir, "file.sig", sig), write(t, dir, "file", []byte("a document.")))
	if err == nil {
		t.Error("OpenSSL accepts a signature of another file")
	}
}

// TestFileInEveryOrder: a file is signed in sequence by every subset of three
// devices, and by some of them in every order, so that each device is once the
// first, the middle and the last.
func TestFileInEveryOrder(t *testing.T) {
	s := Shared(t)
	r := s.File(Files, []byte("a release\n"))
	orders := append(s.Subsets(Files), Orders(2, 4, 5)...)
	var first []byte
	for _, o := range append(orders, order(3, 1, 2), order(5, 3, 1)) {
		sig := s.MustSign(r, o...)
		if first == nil {
			first = sig
			verifyFile(t, s, r, sig)
		}
		same(t, fmt.Sprintf("signature in order %v", o), sig, first)
	}
}

// TestFileChained: the officers of the second device sign over the partial
// signature of the first, and so on (source A, Fig. 10).
func TestFileChained(t *testing.T) {
	s := Shared(t)
	r := s.File(Files, []byte("a release\n"), Chain)
	verifyFile(t, s, r, s.MustSign(r, 4, 1, 2))
}

// TestEveryAlgorithm: both encodings with three hashes, in parallel and in
// sequence, with both forms of approval.
func TestEveryAlgorithm(t *testing.T) {
	csr := newCSR(t, t.TempDir(), "www.example.org")
	for i, a := range []threshold.Algorithm{threshold.RS256, threshold.RS384, threshold.RS512, threshold.PS256, threshold.PS384, threshold.PS512} {
		t.Run(string(a), func(t *testing.T) {
			s := Shared(t)
			wishes := []Wish{With(a)}
			if i%2 == 0 {
				wishes = append(wishes, Chain)
			}
			file := s.File(Files, []byte("a release\n"), wishes...)
			verifyFile(t, s, file, s.MustSign(file, 1, 4, 5))
			pair := s.File(Pair, []byte("a nightly build\n"), wishes...)
			verifyFile(t, s, pair, s.MustSign(pair, 3, 2))
			cert := s.Certificate(csr, wishes...)
			der, err := s.Check(cert).Assemble(s.MustSign(cert, 2, 3, 4))
			if err != nil {
				t.Fatal(err)
			}
			verifyCertificate(t, s, der)
		})
	}
}

// TestPSSIsTheSameForEverySubset: the salt comes from the request, so even PSS
// gives one signature, whoever makes it.
func TestPSSIsTheSameForEverySubset(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("a nightly build\n"), With(threshold.PS256))
	first := s.MustSign(r, 1, 2)
	for _, o := range [][]uint64{{2, 1}, {4, 5}, {1, 5}} {
		same(t, fmt.Sprintf("signature in order %v", o), s.MustSign(r, o...), first)
	}
	again := s.File(Pair, []byte("a nightly build\n"), With(threshold.PS256))
	if slices.Equal(s.MustSign(again, 1, 2), first) {
		t.Error("two requests have one salt")
	}
}

// TestBlindDigest: a key that allows it signs the digest of a file that nobody
// shows.
func TestBlindDigest(t *testing.T) {
	s := Shared(t)
	content := []byte("a large file\n")
	sum := sha256.Sum256(content)
	doc := document.Request{Key: Pair, Kind: document.KindDigest, Name: "large.iso", Size: uint64(len(content)), Digest: sum[:]}
	r := s.Request(Program, doc)
	sig := s.MustSign(r, 2, 4)
	r.Document = content // for OpenSSL
	verifyFile(t, s, r, sig)

	doc.Key = Files
	_, err := s.Offer("d1", s.Request(Program, doc))
	wantRefusal(t, err, firmware.CodeRequest, "it signs no digests")
}

// TestTokenAndHostAgree: devices that use their share in the token, devices
// that use it in the host, and both together make the same signature.
func TestTokenAndHostAgree(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("a nightly build\n"))
	token, host, mixed := s.MustSign(r, 1, 2), s.MustSign(r, 4, 5), s.MustSign(r, 4, 1)
	same(t, "in host", host, token)
	same(t, "first in host, last in token", mixed, token)
	if a, b := s.Status("d1").Use, s.Status("d4").Use; a != "in token" || b != "in host" {
		t.Errorf("d1 is used %s, d4 %s", a, b)
	}
}

// TestTwoDevicesDead: the rest sign.
func TestTwoDevicesDead(t *testing.T) {
	s := Shared(t)
	s.Devices["d1"].Kill()
	s.Devices["d4"].Kill()
	cert := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	file := s.File(Files, []byte("a release\n"))
	if _, err := s.Offer("d1", file); err == nil {
		t.Fatal("a dead device answers")
	}
	der, err := s.Check(cert).Assemble(s.MustSign(cert, 2, 3, 5))
	if err != nil {
		t.Fatal(err)
	}
	verifyCertificate(t, s, der)
	verifyFile(t, s, file, s.MustSign(file, 5, 2, 3))
}

// TestProofNamesWrongPartial: a device that uses its share in the host proves
// its partial signature; a wrong one is found and its maker named.
func TestProofNamesWrongPartial(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	x := order(3, 4, 5)
	key, em := s.Key(Certs), encoded(t, s, r)
	var in []threshold.PartialSignature
	for pos := range x[1:] {
		pos++ // d4, d5
		device := deviceOf(x[pos])
		offer := s.MustOffer(device, r)
		task := r.Task(offer, s.Approvals(r, offer, nil), x, pos)
		task.Prove = true
		p, _, err := s.Do(device, task)
		if err != nil {
			t.Fatal(err)
		}
		if p.Proof == nil {
			t.Fatalf("%s proves nothing", device)
		}
		subset, _ := threshold.SubsetOf(x...)
		in = append(in, threshold.PartialSignature{Index: p.Index, Share: p.Share, Subset: subset, Value: p.Y, Proof: p.Proof})
	}
	b := firmware.PartialBinding(s.State, key, r.Digest, x, 0)
	if err := threshold.VerifyPartials(&key.Public, &key.Commitment, b, em, in); err != nil {
		t.Fatalf("right partials: %v", err)
	}
	in[0].Value = in[1].Value
	err := threshold.VerifyPartials(&key.Public, &key.Commitment, b, em, in)
	var wrong *threshold.WrongPartialError
	if !asWrong(err, &wrong) || !slices.Equal(wrong.Indices, order(4)) {
		t.Errorf("got %v, want share 4 named", err)
	}
}

// TestCheckNamesWrongTokenPartial: a token makes no proofs. The commit-and-open
// check tells a right partial of it from a wrong one.
func TestCheckNamesWrongTokenPartial(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	x := order(1, 2, 3)
	key, em := s.Key(Certs), encoded(t, s, r)
	offer := s.MustOffer("d2", r)
	task := r.Task(offer, s.Approvals(r, offer, nil), x, 1)
	task.Prove = true
	p, _, err := s.Do("d2", task)
	if err != nil {
		t.Fatal(err)
	}
	if p.Proof != nil {
		t.Fatal("a proof by a token?")
	}
	check := func(y []byte) error {
		t.Helper()
		ch, opening, err := threshold.NewChallenge(randReader, &key.Public, &key.Commitment, em)
		s.check(err)
		c, _, err := Ask[firmware.CheckCommit](s, "d2", firmware.TypeCheckAsk, firmware.CheckAsk{Task: task, Challenge: *ch}, firmware.TypeCheckCommit)
		s.check(err)
		a, _, err := Ask[firmware.CheckAnswer](s, "d2", firmware.TypeCheckOpen, firmware.CheckOpen{Request: r.Digest, Opening: *opening}, firmware.TypeCheckAnswer)
		s.check(err)
		b := firmware.PartialBinding(s.State, key, r.Digest, x, 1)
		return threshold.VerifyAnswer(&key.Public, &key.Commitment, b, 2, em, y, ch, opening, c.Commit, &a.Answer)
	}
	if err := check(p.Y); err != nil {
		t.Errorf("a right partial: %v", err)
	}
	wrong := slices.Clone(p.Y)
	wrong[len(wrong)-1] ^= 1
	var e *threshold.WrongPartialError
	if err := check(wrong); !asWrong(err, &e) || !slices.Equal(e.Indices, order(2)) {
		t.Errorf("a wrong partial: got %v, want share 2 named", err)
	}
}

// TestCheckIsNoOracle: a challenge that is not about the request's document
// gets a commitment and never an answer.
func TestCheckIsNoOracle(t *testing.T) {
	s := Shared(t)
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	x := order(1, 2, 3)
	key := s.Key(Certs)
	offer := s.MustOffer("d2", r)
	task := r.Task(offer, s.Approvals(r, offer, nil), x, 1)

	other := s.Certificate(newCSR(t, t.TempDir(), "evil.example.org"))
	ch, opening, err := threshold.NewChallenge(randReader, &key.Public, &key.Commitment, encoded(t, s, other))
	s.check(err)
	_, _, err = Ask[firmware.CheckCommit](s, "d2", firmware.TypeCheckAsk, firmware.CheckAsk{Task: task, Challenge: *ch}, firmware.TypeCheckCommit)
	s.check(err)
	_, _, err = Ask[firmware.CheckAnswer](s, "d2", firmware.TypeCheckOpen, firmware.CheckOpen{Request: r.Digest, Opening: *opening}, firmware.TypeCheckAnswer)
	wantRefusal(t, err, firmware.CodeMessage, "not about this partial signature")
	// Nor at a second try: the answer is gone.
	_, _, err = Ask[firmware.CheckAnswer](s, "d2", firmware.TypeCheckOpen, firmware.CheckOpen{Request: r.Digest, Opening: *opening}, firmware.TypeCheckAnswer)
	wantRefusal(t, err, firmware.CodeMessage, "no check of request")
}

// TestRecertification: every device asks for SWA certificates for itself and
// its officers, four of five devices sign one, and the device keeps it.
func TestRecertification(t *testing.T) {
	s := Shared(t)
	out, _, err := Ask[firmware.Requests](s, "d2", firmware.TypeRecertify, firmware.Recertify{Expires: s.Now().Unix() + 3600}, firmware.TypeRequests)
	s.check(err)
	if len(out.Requests) != 3 {
		t.Fatalf("%d requests, want the device's and two officers'", len(out.Requests))
	}
	var certs [][]byte
	for _, raw := range out.Requests {
		u, err := envelope.Parse(raw)
		s.check(err)
		r := &Request{Raw: raw, Digest: u.UnverifiedDigest()}
		s.check(envelope.Unmarshal(u.UnverifiedPayload(), &r.Request))
		der, err := s.Check(r).Assemble(s.MustSign(r, 1, 2, 4, 5))
		s.check(err)
		certs = append(certs, der)
	}
	st, _, err := Ask[firmware.Status](s, "d2", firmware.TypeRegister, firmware.Register{Certificates: certs}, firmware.TypeStatus)
	s.check(err)
	if !st.Certified || !slices.Equal(st.Officers, []string{"officer-2a", "officer-2b"}) {
		t.Errorf("certified %v, officers %v", st.Certified, st.Officers)
	}
	// Another device passes them over.
	st, _, err = Ask[firmware.Status](s, "d3", firmware.TypeRegister, firmware.Register{Certificates: certs}, firmware.TypeStatus)
	s.check(err)
	if st.Certified || len(st.Officers) > 0 {
		t.Errorf("d3 keeps what is not its own: certified %v, officers %v", st.Certified, st.Officers)
	}
}
