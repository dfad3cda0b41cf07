package document

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// now is the time of all tests: 2026-01-02 03:04:05 UTC.
const now = 1767323045

// rsaKeys are whole keys that stand for a quorum: what is tested here is what
// is signed, not by how many.
var rsaKeys = struct {
	sync.Mutex
	m map[string]*rsa.PrivateKey
}{m: make(map[string]*rsa.PrivateKey)}

func rsaKey(t testing.TB, name string, bits int) *rsa.PrivateKey {
	t.Helper()
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if k := rsaKeys.m[name]; k != nil {
		return k
	}
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	rsaKeys.m[name] = k
	return k
}

func publicOf(k *rsa.PrivateKey) threshold.PublicKey {
	return threshold.PublicKey{N: k.N.Bytes(), E: uint64(k.E)}
}

// rawSign raises an encoded message to the private exponent, as a quorum does.
func rawSign(k *rsa.PrivateKey, em []byte) []byte {
	s := new(big.Int).Exp(new(big.Int).SetBytes(em), k.D, k.N)
	return s.FillBytes(make([]byte, k.Size()))
}

// finish signs a checked document and assembles the result.
func finish(t testing.TB, c *Checked, k *rsa.PrivateKey) []byte {
	t.Helper()
	em, err := c.EncodedMessage(envelope.Hash{7})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Assemble(rawSign(k, em))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func serial(t testing.TB) []byte {
	t.Helper()
	b, err := NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rootFor makes a self-signed root in DER.
func rootFor(t testing.TB, k *rsa.PrivateKey, alg threshold.Algorithm) []byte {
	t.Helper()
	pub := publicOf(k)
	tbs, err := RootTBS(Name{Country: "NO", Organization: "Prøve", CommonName: "Test Root"}, &pub, alg,
		Validity{now - 10*day, now + 3650*day}, serial(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := CheckRoot(tbs, &pub, alg)
	if err != nil {
		t.Fatal(err)
	}
	return finish(t, c, k)
}

func holders(n int) (h []ledger.Holder) {
	for i, d := range []string{"oslo", "rome", "lima", "cairo", "delhi"}[:n] {
		h = append(h, ledger.Holder{Index: uint64(i + 1), Share: "s" + d, Device: d, Quorum: 2, Pieces: 2, Threshold: 2})
	}
	return h
}

// certificateKey is a key of family certificate with a root.
func certificateKey(t testing.TB, k *rsa.PrivateKey, alg threshold.Algorithm) ledger.Key {
	t.Helper()
	return ledger.Key{
		ID: "tls", Name: "TLS", Family: ledger.FamilyCertificate, Scheme: threshold.Additive, T: 3, N: 5, Public: publicOf(k), Epoch: 1,
		Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, Certificate: rootFor(t, k, alg), MaxDays: 398, Holders: holders(5),
	}
}

// fileKey is a key of family file.
func fileKey(t testing.TB) (ledger.Key, *rsa.PrivateKey) {
	t.Helper()
	k := rsaKey(t, "file", 2048)
	return ledger.Key{
		ID: "release", Name: "Release", Family: ledger.FamilyFile, Scheme: threshold.Multiplicative, T: 3, N: 5, Public: publicOf(k), Epoch: 2,
		Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, Holders: holders(5),
	}, k
}

func request(key ledger.Key, kind string, alg threshold.Algorithm) *Request {
	mode := ModeParallel
	if key.Scheme == threshold.Multiplicative {
		mode = ModeSequential
	}
	return &Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: alg, Kind: kind, Requester: "ann", Nonce: [16]byte{1}, Created: now - 60, Expires: now + 3600,
		Route: Route{Mode: mode, Approvals: ApprovalsChain, Devices: []string{"oslo", "rome", "lima"}},
	}
}

func fileRequest(key ledger.Key, data []byte) *Request {
	r := request(key, KindFile, threshold.RS256)
	r.Document, r.Name, r.Size = data, "release.tar", uint64(len(data))
	return r
}

func TestFileSignature(t *testing.T) {
	key, k := fileKey(t)
	for _, alg := range threshold.Algorithms() {
		r := fileRequest(key, []byte("version 1.2.3\n"))
		r.Algorithm = alg
		c, err := Check(r, key, now)
		if err != nil {
			t.Fatal(alg, err)
		}
		sig := finish(t, c, k)
		h := alg.Hash().New()
		h.Write(r.Document)
		if alg.PSS() {
			err = rsa.VerifyPSS(&k.PublicKey, alg.Hash(), h.Sum(nil), sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			err = rsa.VerifyPKCS1v15(&k.PublicKey, alg.Hash(), h.Sum(nil), sig)
		}
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

// selfCSR is a request made with the authority's own key.
func selfCSR(t testing.TB, k *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me"}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
