package document

import (
	"bytes"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func second[T any](_ T, err error) error { return err }

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func replaceExtension(tbs *TBS, e Extension) {
	tbs.Extensions = slices.DeleteFunc(tbs.Extensions, func(x Extension) bool { return x.ID == e.ID })
	tbs.Extensions = append(tbs.Extensions, e)
}

// TestCertificateRefusals: each fault alone, in an otherwise good request, is
// refused by its own name.
func TestCertificateRefusals(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	ca := certificateKey(t, k, threshold.RS256)
	csr := opensslCSR(t, newEC, san...)
	otherCSR := opensslCSR(t, newEC, san...)
	unknown := mustOID("1.3.6.1.4.1.99999.1")
	name := func(n Name) []byte {
		der, err := n.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ownSPKI, err := SPKI(&ca.Public)
	if err != nil {
		t.Fatal(err)
	}
	badCSR := bytes.Replace(bytes.Clone(csr), []byte("Prøve"), []byte("Bløff"), 1)
	for _, test := range []struct {
		name   string
		change func(*TBS, *Request, *ledger.Key)
		want   error
	}{
		{"nothing", func(*TBS, *Request, *ledger.Key) {}, nil},
		{"unknown extension, not critical", func(x *TBS, r *Request, _ *ledger.Key) {
			x.Extensions = append(x.Extensions, Extension{unknown, false, []byte{1, 2, 3}})
		}, nil},
		{"issuer", func(x *TBS, _ *Request, _ *ledger.Key) { x.Issuer = name(Name{CommonName: "Another"}) }, ErrIssuer},
		{"issuer in another string type", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Issuer = bytes.Replace(x.Issuer, []byte("\x0c\x09Test"), []byte("\x13\x09Test"), 1)
		}, ErrIssuer},
		{"no authority key", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Extensions = slices.DeleteFunc(x.Extensions, func(e Extension) bool { return e.ID == oidAuthorityKeyID })
		}, ErrAuthorityKey},
		{"wrong authority key", func(x *TBS, _ *Request, _ *ledger.Key) {
			replaceExtension(x, AuthorityKeyID(bytes.Repeat([]byte{9}, 20)))
		}, ErrAuthorityKey},
		{"critical authority key", func(x *TBS, _ *Request, _ *ledger.Key) {
			e := *x.extension(oidAuthorityKeyID)
			e.Critical = true
			replaceExtension(x, e)
		}, ErrExtension},
		{"algorithm inside", func(x *TBS, _ *Request, _ *ledger.Key) { x.Algorithm, _ = AlgorithmIdentifier(threshold.RS512) }, ErrAlgorithm},
		{"salt length inside", func(x *TBS, r *Request, _ *ledger.Key) {
			r.Algorithm = threshold.PS256
			x.Algorithm, _ = AlgorithmIdentifier(threshold.PS256)
			x.Algorithm[len(x.Algorithm)-1] = 20
		}, ErrAlgorithm},
		{"algorithm not the key's", func(_ *TBS, _ *Request, k *ledger.Key) { k.Algorithms = []string{"PS256"} }, ErrAlgorithm},
		{"algorithm unknown", func(_ *TBS, r *Request, k *ledger.Key) {
			r.Algorithm, k.Algorithms = "RS1", []string{"RS1"}
		}, ErrAlgorithm},
		{"serial negative", func(x *TBS, _ *Request, _ *ledger.Key) { x.Serial[0] |= 0x80 }, ErrSerial},
		{"serial zero", func(x *TBS, _ *Request, _ *ledger.Key) { x.Serial = []byte{0} }, ErrSerial},
		{"serial of 56 bits", func(x *TBS, _ *Request, _ *ledger.Key) { x.Serial = x.Serial[:7] }, ErrSerial},
		{"serial of 21 octets", func(x *TBS, _ *Request, _ *ledger.Key) { x.Serial = append([]byte{1, 2}, x.Serial...) }, ErrSerial},
		{"serial padded", func(x *TBS, _ *Request, _ *ledger.Key) { x.Serial = append([]byte{0}, x.Serial...) }, ErrMalformed},
		{"ends before it begins", func(x *TBS, _ *Request, _ *ledger.Key) { x.NotAfter = x.NotBefore - 1 }, ErrValidity},
		{"over", func(x *TBS, _ *Request, _ *ledger.Key) { x.NotBefore, x.NotAfter = now-day, now-1 }, ErrValidity},
		{"backdated", func(x *TBS, _ *Request, _ *ledger.Key) { x.NotBefore = now - 3*day }, ErrValidity},
		{"far future", func(x *TBS, _ *Request, _ *ledger.Key) { x.NotBefore, x.NotAfter = now+40*day, now+41*day }, ErrValidity},
		{"a second too long", func(x *TBS, _ *Request, k *ledger.Key) { x.NotAfter = x.NotBefore + int64(k.MaxDays)*day }, ErrValidity},
		{"exactly as long as allowed", func(x *TBS, _ *Request, k *ledger.Key) { x.NotAfter = x.NotBefore + int64(k.MaxDays)*day - 1 }, nil},
		{"no longest validity", func(_ *TBS, _ *Request, k *ledger.Key) { k.MaxDays = 0 }, ErrValidity},
		{"beyond the root", func(x *TBS, _ *Request, k *ledger.Key) { k.MaxDays, x.NotAfter = 36500, now+3651*day }, ErrValidity},
		{"another key than the CSR's", func(_ *TBS, r *Request, _ *ledger.Key) { r.CSR = otherCSR }, ErrPublicKey},
		{"CSR missing", func(_ *TBS, r *Request, _ *ledger.Key) { r.CSR = nil }, ErrCSR},
		{"CSR with a bad signature", func(_ *TBS, r *Request, _ *ledger.Key) { r.CSR = badCSR }, ErrCSRSignature},
		{"CA:TRUE", func(x *TBS, _ *Request, _ *ledger.Key) {
			replaceExtension(x, Extension{oidBasicConstraints, true, []byte{0x30, 3, 1, 1, 0xff}})
		}, ErrAuthority},
		{"CA:FALSE written out", func(x *TBS, _ *Request, _ *ledger.Key) {
			replaceExtension(x, Extension{oidBasicConstraints, true, []byte{0x30, 3, 1, 1, 0}})
		}, ErrExtension},
		{"CA:TRUE in BER", func(x *TBS, _ *Request, _ *ledger.Key) {
			replaceExtension(x, Extension{oidBasicConstraints, true, []byte{0x30, 3, 1, 1, 1}})
		}, ErrExtension},
		{"key usage of an authority", func(x *TBS, _ *Request, _ *ledger.Key) { replaceExtension(x, KeyUsage(KeyUsageCertSign)) }, ErrAuthority},
		{"key usage for CRLs", func(x *TBS, _ *Request, _ *ledger.Key) { replaceExtension(x, KeyUsage(KeyUsageCRLSign|1)) }, ErrAuthority},
		{"OCSP signing", func(x *TBS, _ *Request, _ *ledger.Key) { replaceExtension(x, ExtKeyUsage(oidUsageOCSP)) }, ErrAuthority},
		{"any extended usage", func(x *TBS, _ *Request, _ *ledger.Key) { replaceExtension(x, ExtKeyUsage(oidAnyUsage)) }, ErrAuthority},
		{"name constraints", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Extensions = append(x.Extensions, Extension{oidNameConstraints, false, []byte{0x30, 0}})
		}, ErrAuthority},
		{"Netscape CA type", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Extensions = append(x.Extensions, Extension{oidNetscapeType, false, []byte{3, 2, 0, 7}})
		}, ErrAuthority},
		{"the issuer's own key", func(x *TBS, r *Request, _ *ledger.Key) {
			x.SPKI, r.CSR = ownSPKI, selfCSR(t, k)
		}, ErrAuthority},
		{"the issuer's own name", func(x *TBS, _ *Request, _ *ledger.Key) { x.Subject = x.Issuer }, ErrSubject},
		{"no subject, names not critical", func(x *TBS, _ *Request, _ *ledger.Key) { x.Subject = []byte{0x30, 0} }, ErrSubject},
		{"no subject, names critical", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Subject = []byte{0x30, 0}
			x.extension(OIDSubjectAltName).Critical = true
		}, nil},
		{"duplicate", func(x *TBS, _ *Request, _ *ledger.Key) { x.Extensions = append(x.Extensions, EndEntity()) }, ErrDuplicate},
		{"duplicate unknown", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Extensions = append(x.Extensions, Extension{unknown, false, nil}, Extension{unknown, false, []byte{1}})
		}, ErrDuplicate},
		{"unknown critical", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Extensions = append(x.Extensions, Extension{unknown, true, []byte{5, 0}})
		}, ErrCritical},
		{"NUL in a host name", func(x *TBS, _ *Request, _ *ledger.Key) {
			replaceExtension(x, Extension{OIDSubjectAltName, false, []byte("\x30\x0f\x82\x0da.example\x00.no")})
		}, ErrExtension},
		{"NUL in the subject", func(x *TBS, _ *Request, _ *ledger.Key) {
			x.Subject = []byte("\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04a\x00.b")
		}, ErrSubject},
		{"no extensions", func(x *TBS, _ *Request, _ *ledger.Key) { x.Extensions = nil }, ErrAuthorityKey},
		{"a file name", func(_ *TBS, r *Request, _ *ledger.Key) { r.Name = "x" }, ErrRequest},
		{"a digest", func(_ *TBS, r *Request, _ *ledger.Key) { r.Digest = make([]byte, 32) }, ErrRequest},
		{"no root", func(_ *TBS, _ *Request, k *ledger.Key) { k.Certificate = nil }, ErrRoot},
		{"another key's root", func(_ *TBS, _ *Request, k *ledger.Key) {
			k.Certificate = rootFor(t, rsaKey(t, "other", 2048), threshold.RS256)
		}, ErrRoot},
		{"root with a broken signature", func(_ *TBS, _ *Request, k *ledger.Key) {
			k.Certificate = bytes.Clone(k.Certificate)
			k.Certificate[len(k.Certificate)-1] ^= 1
		}, ErrRoot},
		{"kind file under this key", func(_ *TBS, r *Request, _ *ledger.Key) { r.Kind = KindFile }, ErrFamily},
		{"kind identity under this key", func(_ *TBS, r *Request, _ *ledger.Key) { r.Kind = KindIdentity }, ErrFamily},
		{"kind unknown", func(_ *TBS, r *Request, _ *ledger.Key) { r.Kind = "" }, ErrFamily},
		{"family unknown", func(_ *TBS, _ *Request, k *ledger.Key) { k.Family = "" }, ErrFamily},
	} {
		t.Run(test.name, func(t *testing.T) {
			tbs, key := leaf(t, ca, csr, threshold.RS256), ca
			r := request(key, KindCertificate, threshold.RS256)
			r.CSR = csr
			test.change(tbs, r, &key)
			der, err := tbs.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			r.Document = der
			_, err = Check(r, key, now)
			if test.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
		})
	}
}

// TestNotDER: other encodings of a good TBSCertificate are refused.
func TestNotDER(t *testing.T) {
	k := rsaKey(t, "ca", 2048)
	ca := certificateKey(t, k, threshold.RS256)
	csr := opensslCSR(t, newEC, san...)
	der, err := leaf(t, ca, csr, threshold.RS256).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body := der[4:]
	longer := func(n int) []byte { return []byte{0x30, 0x82, byte(n >> 8), byte(n)} }
	cases := map[string][]byte{
		"trailing octet":    append(bytes.Clone(der), 0),
		"cut short":         der[:len(der)-1],
		"indefinite length": append(append([]byte{0x30, 0x80}, body...), 0, 0),
		"padded length":     append([]byte{0x30, 0x83, 0, der[2], der[3]}, body...),
		"version 1 written": append(longer(len(body)), bytes.Replace(body, []byte{0xa0, 3, 2, 1, 2}, []byte{0xa0, 3, 2, 1, 0}, 1)...),
		"version left out":  append(longer(len(body)-5), body[5:]...),
		"year 2026 as generalized time": append(longer(len(body)+2),
			bytes.Replace(body, []byte("\x30\x1e\x17\x0d26"), []byte("\x30\x20\x18\x0f2026"), 1)...),
		"critical FALSE written": func() []byte {
			id := "\x06\x03\x55\x1d\x25" // extended key usage, not critical
			at := bytes.Index(der, []byte(id))
			out := append(bytes.Clone(der[:at+5]), 1, 1, 0)
			return append(out, der[at+5:]...)
		}(),
		"empty":    nil,
		"text":     []byte("hello"),
		"a CSR":    csr,
		"the root": ca.Certificate,
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(in, der) || name == "year 2026 as generalized time" && len(in) != len(der)+2 {
				t.Fatal("nothing was changed")
			}
			_, err := ParseTBS(in)
			wantError(t, err, ErrMalformed)
		})
	}
}

func TestRequestRefusals(t *testing.T) {
	key, _ := fileKey(t)
	for _, test := range []struct {
		name   string
		change func(*Request, *ledger.Key)
		want   error
	}{
		{"nothing", func(*Request, *ledger.Key) {}, nil},
		{"set of approvals", func(r *Request, _ *ledger.Key) { r.Route.Approvals = ApprovalsSet }, nil},
		{"route missing", func(r *Request, _ *ledger.Key) { r.Route = Route{} }, ErrRoute},
		{"mode missing", func(r *Request, _ *ledger.Key) { r.Route.Mode = "" }, ErrRoute},
		{"mode of the other scheme", func(r *Request, _ *ledger.Key) { r.Route.Mode = ModeParallel }, ErrRoute},
		{"approvals missing", func(r *Request, _ *ledger.Key) { r.Route.Approvals = "" }, ErrRoute},
		{"devices missing", func(r *Request, _ *ledger.Key) { r.Route.Devices = nil }, ErrRoute},
		{"device unknown", func(r *Request, _ *ledger.Key) { r.Route.Devices[1] = "mars" }, ErrRoute},
		{"device twice", func(r *Request, _ *ledger.Key) { r.Route.Devices[1] = "oslo" }, ErrRoute},
		{"fewer than t devices", func(r *Request, _ *ledger.Key) { r.Route.Devices = r.Route.Devices[:2] }, ErrRoute},
		{"threshold zero", func(_ *Request, k *ledger.Key) { k.T = 0 }, ErrRoute},
		{"seventeen devices", func(r *Request, _ *ledger.Key) { r.Route.Devices = make([]string, 17) }, ErrRoute},
		{"another key", func(r *Request, _ *ledger.Key) { r.Key = "tls" }, ErrRequest},
		{"old epoch", func(r *Request, _ *ledger.Key) { r.Epoch = 1 }, ErrRequest},
		{"epoch zero", func(r *Request, k *ledger.Key) { r.Epoch, k.Epoch = 0, 0 }, ErrRequest},
		{"no requester", func(r *Request, _ *ledger.Key) { r.Requester = "" }, ErrRequest},
		{"no nonce", func(r *Request, _ *ledger.Key) { r.Nonce = [16]byte{} }, ErrRequest},
		{"no expiry", func(r *Request, _ *ledger.Key) { r.Expires = 0 }, ErrRequest},
		{"expiry too far", func(r *Request, _ *ledger.Key) { r.Expires = r.Created + maxLifetime + 1 }, ErrRequest},
		{"expired", func(r *Request, _ *ledger.Key) { r.Expires = now }, ErrExpired},
		{"from the future", func(r *Request, _ *ledger.Key) { r.Created = now + maxClockSkew + 1 }, ErrNotYet},
		{"long comment", func(r *Request, _ *ledger.Key) { r.Comment = strings.Repeat("x", maxComment+1) }, ErrRequest},
		{"comment not UTF-8", func(r *Request, _ *ledger.Key) { r.Comment = "\xff" }, ErrRequest},
		{"wrong size", func(r *Request, _ *ledger.Key) { r.Size++ }, ErrFile},
		{"empty file", func(r *Request, _ *ledger.Key) { r.Document, r.Size = nil, 0 }, ErrRequest},
		{"file too long", func(r *Request, _ *ledger.Key) { r.Document, r.Size = make([]byte, MaxFile+1), MaxFile+1 }, ErrFile},
		{"name is a path", func(r *Request, _ *ledger.Key) { r.Name = "../x" }, ErrFile},
		{"no name", func(r *Request, _ *ledger.Key) { r.Name = "" }, ErrFile},
		{"a CSR", func(r *Request, _ *ledger.Key) { r.CSR = []byte{1} }, ErrRequest},
		{"a digest beside the file", func(r *Request, _ *ledger.Key) { r.Digest = make([]byte, 32) }, ErrRequest},
		{"kind certificate", func(r *Request, _ *ledger.Key) { r.Kind = KindCertificate }, ErrFamily},
		{"kind entry", func(r *Request, _ *ledger.Key) { r.Kind = KindEntry }, ErrFamily},
		{"a digest, not allowed", asDigest, ErrBlind},
		{"a digest, allowed", func(r *Request, k *ledger.Key) { asDigest(r, k); k.AllowDigest = true }, nil},
		{"a short digest", func(r *Request, k *ledger.Key) {
			asDigest(r, k)
			k.AllowDigest, r.Digest = true, r.Digest[:31]
		}, ErrFile},
		{"a digest with a document", func(r *Request, k *ledger.Key) {
			d := r.Document
			asDigest(r, k)
			k.AllowDigest, r.Document = true, d
		}, ErrRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := key
			r := fileRequest(key, []byte("data"))
			test.change(r, &key)
			_, err := Check(r, key, now)
			if test.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
		})
	}
}

func asDigest(r *Request, _ *ledger.Key) {
	r.Kind, r.Document, r.Digest, r.Size = KindDigest, nil, bytes.Repeat([]byte{3}, 32), 1<<40
}

// TestDigestIsBlind: officers are told, and the digest is what is signed.
func TestDigestIsBlind(t *testing.T) {
	key, k := fileKey(t)
	key.AllowDigest = true
	r := fileRequest(key, []byte("data"))
	asDigest(r, nil)
	c, err := Check(r, key, now)
	if err != nil {
		t.Fatal(err)
	}
	if c.ToBeSigned() != nil || !bytes.Equal(c.Digest(), r.Digest) {
		t.Error("not the request's digest")
	}
	if w := c.View().Warnings; len(w) == 0 || !strings.Contains(w[0], "BLIND") {
		t.Errorf("officers are not warned: %q", w)
	}
	finish(t, c, k)
}

// TestAssemble: only the key's own signature on this document passes.
func TestAssemble(t *testing.T) {
	key, k := fileKey(t)
	c, err := Check(fileRequest(key, []byte("data")), key, now)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Check(fileRequest(key, []byte("other")), key, now)
	if err != nil {
		t.Fatal(err)
	}
	sig := finish(t, d, k)
	wantError(t, second(c.Assemble(sig)), threshold.ErrSignature)
	own := finish(t, c, k)
	negated := new(big.Int).Sub(k.N, new(big.Int).SetBytes(own)).FillBytes(make([]byte, len(own)))
	wantError(t, second(c.Assemble(negated)), threshold.ErrSignature)
	wantError(t, second(c.Assemble(nil)), threshold.ErrSignature)
}
