package envelope_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// The files in testdata are the wire format for those who write another
// implementation: hex with one CBOR head a line and what it means. Everything
// after '#' is comment. Regenerate with
//
//	go test ./firmware/envelope -run Vectors -update
//
// A difference there is a change of the protocol.
var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// Keys of the vectors: the scalars are 32 bytes of one value.
func vectorSigner(t testing.TB, b byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func vectorAgreement(t testing.TB, b byte) (*ecdh.PrivateKey, envelope.KeyID) {
	k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	id, err := envelope.KeyIDOf(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return k, id
}

// rfc6979 signs without randomness, so that a vector can be made again.
type rfc6979 struct{ *ecdsa.PrivateKey }

func (s rfc6979) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, o)
}

type vector struct {
	name, title string
	raw         []byte
	sealed      bool
}

func vectors(t testing.TB) []vector {
	sign := func(key byte, h envelope.Header, payload any) []byte {
		body, err := envelope.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Sign(nil, rfc6979{vectorSigner(t, key)}, h, body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	_, deviceID := vectorAgreement(t, 3)
	_, officerID := vectorAgreement(t, 4)
	id := func(b byte) [16]byte { return [16]byte(bytes.Repeat([]byte{b}, 16)) }
	hash := func(b byte) envelope.Hash { return envelope.Hash(bytes.Repeat([]byte{b}, 32)) }
	small := sign(1, envelope.Header{Type: "test", Version: 1, ID: id(0xa1), Expires: 1767225600}, link{Text: "first"})
	full := sign(1, envelope.Header{Type: "test.full", Version: 2, ID: id(0xa2), Re: id(0xa1), System: hash(0xb0),
		To: []envelope.KeyID{deviceID, officerID}, Key: "root-2026", Epoch: 3, LedgerHead: hash(0xc0),
		Created: 1767225600, Expires: 1767229200}, link{Text: "all fields"})
	chain := sign(2, envelope.Header{Type: "test", Version: 1, ID: id(0xa3), Created: 1767225600, Expires: 1767229200},
		link{Text: "second", Prior: small})
	return []vector{
		{name: "smallest", title: "a message with the fewest fields, by the signer whose scalar is 01 x 32", raw: small},
		{name: "full", title: "a message with every field, by the signer whose scalar is 01 x 32", raw: full},
		{name: "chain", title: "a message (signer 02 x 32) around smallest.txt, byte for byte", raw: chain},
		{name: "sealed", title: "full.txt sealed to the agreement keys 03 x 32 and 04 x 32", raw: full, sealed: true},
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			path := filepath.Join("testdata", v.name+".txt")
			wire := v.raw
			if v.sealed { // not reproducible: only opened
				if *update {
					a, _ := vectorAgreement(t, 3)
					b, _ := vectorAgreement(t, 4)
					var err error
					if wire, err = envelope.Seal(rand.Reader, v.raw, []*ecdh.PublicKey{a.PublicKey(), b.PublicKey()}); err != nil {
						t.Fatal(err)
					}
				} else {
					wire = readVector(t, path)
				}
			}
			text := annotate(v.title, wire)
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			stored, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(stored) != text {
				t.Errorf("%s differs from what the code makes now:\n%s", path, text)
			}
			got := readVector(t, path)
			if !bytes.Equal(got, wire) {
				t.Errorf("%s does not read back", path)
			}
			if v.sealed {
				for _, b := range []byte{3, 4} {
					k, _ := vectorAgreement(t, b)
					opened, err := envelope.Open(got, opaque{k: k})
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(opened, v.raw) {
						t.Error("opened something else")
					}
				}
				return
			}
			u, err := envelope.Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			key := vectorSigner(t, 1)
			if v.name == "chain" {
				key = vectorSigner(t, 2)
			}
			ver, err := u.Verify(&key.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(stored), "# digest: "+ver.Digest().String()) {
				t.Error("the file does not state the message's digest")
			}
		})
	}
}

func readVector(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var h strings.Builder
	for _, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		h.WriteString(strings.ReplaceAll(line, " ", ""))
	}
	raw, err := hex.DecodeString(h.String())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// labelNames of the table in the package's documentation.
var labelNames = map[int64]string{1: "alg", 2: "crit", 3: "content type", 4: "kid", -70001: "version", -70002: "id",
	-70003: "re", -70004: "system", -70005: "to", -70006: "key", -70007: "epoch", -70008: "ledger head",
	-70009: "created", -70010: "expires"}

// annotate writes one line for each CBOR head. It reads only what the strict
// reader accepted, so it has no error paths.
func annotate(title string, raw []byte) string {
	a := &annotator{data: raw}
	fmt.Fprintf(&a.out, "# %s\n", title)
	if raw[0] == 0xd2 {
		u, err := envelope.Parse(raw)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&a.out, "# signer: %v\n# digest: %s\n", u.Header().Signer, digestOf(raw))
		a.sign1(0)
	} else {
		a.item(0, []string{"sealed message", "1 version", "2 protected header (copy)", "3 recipients", "4 ciphertext"}, false)
	}
	return a.out.String()
}

// digestOf computes a message's digest from the description in the
// documentation: SHA-256 of ["privyseal message digest v1", protected, payload].
func digestOf(raw []byte) string {
	r := &annotator{data: raw, pos: 2}
	protected := r.bytes()
	r.pos++
	return envelope.HashOf("privyseal message digest v1", protected, r.bytes()).String()
}

type annotator struct {
	data []byte
	pos  int
	out  strings.Builder
}

func (a *annotator) head() (major byte, arg uint64, enc []byte) {
	from, b := a.pos, a.data[a.pos]
	major, arg = b>>5, uint64(b&31)
	a.pos++
	if arg >= 24 {
		n := 1 << (arg - 24)
		arg = 0
		for range n {
			arg = arg<<8 | uint64(a.data[a.pos])
			a.pos++
		}
	}
	return major, arg, a.data[from:a.pos]
}

func (a *annotator) bytes() []byte {
	_, n, _ := a.head()
	a.pos += int(n)
	return a.data[a.pos-int(n) : a.pos]
}

func (a *annotator) line(indent int, enc []byte, comment string) {
	fmt.Fprintf(&a.out, "%s%x", strings.Repeat("  ", indent), enc)
	if comment != "" {
		fmt.Fprintf(&a.out, "  # %s", comment)
	}
	a.out.WriteByte('\n')
}

// wrapped writes the head of a byte string, then its contents with inside.
func (a *annotator) wrapped(indent int, what string, inside func(b *annotator)) {
	_, n, enc := a.head()
	a.line(indent, enc, fmt.Sprintf("bytes(%d): %s", n, what))
	b := &annotator{data: a.data[a.pos : a.pos+int(n)]}
	inside(b)
	a.out.WriteString(b.out.String())
	a.pos += int(n)
}

func (a *annotator) sign1(indent int) {
	a.line(indent, a.data[:1], "tag 18: COSE_Sign1")
	a.line(indent, a.data[1:2], "array of 4")
	a.pos = 2
	a.wrapped(indent+1, "protected header", func(b *annotator) { b.item(indent+2, nil, true) })
	a.line(indent+1, a.data[a.pos:a.pos+1], "unprotected header: empty")
	a.pos++
	a.wrapped(indent+1, "payload", func(b *annotator) { b.item(indent+2, nil, false) })
	a.item(indent+1, []string{"signature r, s"}, false)
}

// item writes one item; names[0] describes it, names[1:] the values of a map's
// pairs; labels says that a map's keys are header labels.
func (a *annotator) item(indent int, names []string, labels bool) {
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	major, arg, enc := a.head()
	say := func(s string) string {
		if name != "" {
			return s + ": " + name
		}
		return s
	}
	switch major {
	case 0:
		a.line(indent, enc, say(strconv.FormatUint(arg, 10)))
	case 1:
		a.line(indent, enc, say(strconv.FormatInt(-1-int64(arg), 10)))
	case 2, 3:
		s := a.data[a.pos : a.pos+int(arg)]
		if major == 2 && len(s) > 2 && s[0] == 0xd2 { // the message before, in a chain
			a.pos -= len(enc)
			a.wrapped(indent, "the message before", func(b *annotator) { b.sign1(indent + 1) })
			return
		}
		if major == 2 && strings.Contains(name, "protected header") {
			a.pos -= len(enc)
			a.wrapped(indent, name, func(b *annotator) { b.item(indent+1, nil, true) })
			return
		}
		if major == 3 {
			a.line(indent, enc, say(fmt.Sprintf("text(%d) %q", arg, s)))
		} else {
			a.line(indent, enc, say(fmt.Sprintf("bytes(%d)", arg)))
		}
		for len(s) > 0 {
			n := min(32, len(s))
			a.line(indent+1, s[:n], "")
			s = s[n:]
		}
		a.pos += int(arg)
	case 4:
		a.line(indent, enc, say(fmt.Sprintf("array of %d", arg)))
		for range arg {
			if a.data[a.pos]>>5 == 5 {
				a.item(indent+1, []string{"recipient", "1 key id", "2 sealed content key: enc, ct"}, false)
			} else {
				a.item(indent+1, nil, false)
			}
		}
	case 5:
		a.line(indent, enc, say(fmt.Sprintf("map of %d", arg)))
		for i := range arg {
			key := a.pos
			kmajor, karg, kenc := a.head()
			label := int64(karg)
			if kmajor == 1 {
				label = -1 - label
			}
			switch {
			case labels:
				a.line(indent+1, kenc, fmt.Sprintf("%d %s", label, labelNames[label]))
				a.item(indent+2, nil, false)
			case int(i)+1 < len(names):
				a.pos = key + len(kenc)
				a.line(indent+1, kenc, "")
				a.item(indent+2, []string{names[i+1]}, false)
			default:
				a.line(indent+1, kenc, strconv.FormatInt(label, 10))
				a.item(indent+2, nil, false)
			}
		}
	}
}
