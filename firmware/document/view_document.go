package document

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// requestView adds what the request says besides the document.
func requestView(v *View, r *Request, key *ledger.Key) {
	v.section("Request")
	v.text("key", fmt.Sprintf("%s (%s), epoch %d, for documents of family %s", key.ID, key.Name, key.Epoch, key.Family))
	v.raw("algorithm", string(r.Algorithm))
	if r.Kind == KindCertificates {
		v.raw("documents", fmt.Sprintf("%d certificates: your word is for all of them", len(r.Batch)))
	}
	v.text("requester", r.Requester)
	v.raw("route", fmt.Sprintf("%s, approvals as a %s", r.Route.Mode, r.Route.Approvals))
	if key.Scheme == threshold.TwoLayer {
		calculators, combiners := r.Route.Machines(key)
		v.text("calculators", fmt.Sprintf("%d of: %s", key.T, devicesOf(calculators)))
		v.text("combiners", "1 of: "+devicesOf(combiners))
	} else {
		v.text("devices", fmt.Sprintf("%d of: %s", key.T, strings.Join(r.Route.Devices, ", ")))
	}
	v.raw("created", formatTime(r.Created))
	v.raw("expires", formatTime(r.Expires))
	if r.Comment != "" {
		v.text("comment (a claim)", r.Comment)
	}
}

// devicesOf lists machines by their devices.
func devicesOf(machines []ledger.Holder) string {
	var out []string
	for _, h := range machines {
		out = append(out, fmt.Sprintf("%s (%d)", h.Device, h.Index))
	}
	return strings.Join(out, ", ")
}

// certificateContent is a checked certificate for an end entity.
type certificateContent struct {
	tbs     *TBS
	facts   *facts
	csr     *CSR
	subject []attribute
	root    *root
	now     int64
	alike   []string // what earlier certificates of its batch have too
}

func (c *certificateContent) view(v *View) {
	t := c.tbs
	v.Title = "Certificate for " + c.name()
	v.section("Subject")
	for _, a := range c.subject {
		v.text(a.label(), a.value)
	}
	if len(c.facts.names) > 0 {
		v.raw("alternative names", linesOf(c.facts.names)...)
	}
	v.section("Public key")
	v.raw("type", c.csr.key.describe())
	fingerprint := c.csr.key.fingerprint()
	v.raw("SHA-256 of the key", hex.EncodeToString(fingerprint[:]))
	v.raw("CSR", "signature verified: the requester has the private key")
	validityView(v, t)
	v.section("Issuer")
	issuer, _ := parseName(t.Issuer) // the root's own, parsed before
	v.raw("name", oneLine(issuer))
	v.raw("serial number", hex.EncodeToString(t.Serial))
	extensionsView(v, t, c.facts)
	c.compare(v)
}

// name is whom it certifies, safe to print.
func (c *certificateContent) name() string {
	if len(c.subject) == 0 {
		return strings.Join(linesOf(c.facts.names), ", ")
	}
	return oneLine(c.subject)
}

// compare tells officers where certificate and request differ: an approval of
// a name that nobody asked for should be a decision, not an accident.
func (c *certificateContent) compare(v *View) {
	for _, what := range c.alike {
		v.warn("%s", what)
	}
	if !bytes.Equal(c.tbs.Subject, c.csr.subject) {
		v.warn("the CSR asks for another subject: %s", oneLine(c.csr.attributes))
	}
	for _, n := range c.facts.names {
		if !slices.Contains(c.csr.names, n) {
			v.warn("the CSR does not ask for the name %s", n)
		}
		if strings.HasPrefix(n.value, "*.") {
			v.warn("%s is good for every host of that domain", n)
		}
	}
	for _, n := range c.csr.names {
		if !slices.Contains(c.facts.names, n) {
			v.warn("the CSR asks for the name %s, which the certificate leaves out", n)
		}
	}
	for _, e := range c.tbs.Extensions {
		if _, ok := c.facts.shown[e.ID]; !ok {
			v.warn("extension %s is not understood and shown as octets", ExtensionLabel(e.ID))
		}
	}
	if c.tbs.extension(oidExtKeyUsage) == nil {
		v.warn("no extended key usage: the certificate is good for any use")
	}
	if c.tbs.NotBefore < c.now-day {
		v.warn("the validity begins before yesterday")
	}
}

func validityView(v *View, t *TBS) {
	v.section("Validity")
	v.raw("not before", formatTime(t.NotBefore))
	v.raw("not after", formatTime(t.NotAfter))
	v.raw("length", days(t.NotAfter-t.NotBefore+1))
}

func extensionsView(v *View, t *TBS, f *facts) {
	v.section("Extensions")
	for _, e := range t.Extensions {
		label := extensionNames[e.ID]
		if label == "" {
			label = e.ID.String()
		}
		if e.Critical {
			label += ", critical"
		}
		if lines, ok := f.shown[e.ID]; ok {
			v.raw(label, lines...)
		} else {
			v.raw(label, fmt.Sprintf("%d octets: %x", len(e.Value), e.Value))
		}
	}
	if raw, err := t.Marshal(); err == nil {
		v.raw("size", fmt.Sprintf("%d octets to be signed", len(raw)))
	}
}

// view shows a root that is about to sign itself.
func (r *root) view(v *View) {
	name, _ := parseName(r.tbs.Subject)
	v.Title = "Root certificate of " + oneLine(name)
	v.section("Subject and issuer")
	for _, a := range name {
		v.text(a.label(), a.value)
	}
	validityView(v, r.tbs)
	if f, _, err := readExtensions(r.tbs.Extensions); err == nil {
		extensionsView(v, r.tbs, f)
	}
}

func fileView(v *View, r *Request) {
	v.Title = "File " + Escape(r.Name)
	v.section("File")
	v.text("name", r.Name)
	v.raw("size", fmt.Sprintf("%d octets", len(r.Document)))
	v.raw("SHA-256", fmt.Sprintf("%x", sha256.Sum256(r.Document)))
	if h := r.Algorithm.Hash().New(); h.Size() != sha256.Size {
		h.Write(r.Document)
		v.raw(r.Algorithm.Hash().String(), hex.EncodeToString(h.Sum(nil)))
	}
	kind, text := guess(r.Document)
	v.raw("looks like", kind)
	head := r.Document[:min(len(r.Document), viewHead)]
	label := "begins with"
	if len(head) == len(r.Document) {
		label = "content"
	}
	if text {
		v.text(label, strings.Split(strings.ToValidUTF8(string(head), ""), "\n")...)
		return
	}
	var lines []string
	for chunk := range slices.Chunk(head[:min(len(head), 128)], 16) {
		lines = append(lines, fmt.Sprintf("% x", chunk))
	}
	v.raw("begins with", lines...)
	v.warn("the file is not text: compare its SHA-256 with what you mean to sign")
}

func digestView(v *View, r *Request) {
	v.Title = "DIGEST ONLY of " + Escape(r.Name)
	v.warn("you sign BLIND: no device and no officer sees this file, only its digest")
	v.section("File, as the requester describes it")
	v.text("name (a claim)", r.Name)
	v.raw("size (a claim)", fmt.Sprintf("%d octets", r.Size))
	v.raw(r.Algorithm.Hash().String(), hex.EncodeToString(r.Digest))
}

func identityView(v *View, s *identitySubject, t *TBS) {
	name, _ := parseName(t.Subject)
	v.Title = fmt.Sprintf("Identity in this system for %s %s", s.id.Kind, Escape(s.id.Owner))
	v.section("What it does")
	v.raw("effect", "certifies under the system-wide authority a key that the tables hold", "and gives no right that the tables do not give")
	v.text("owner", s.lines...)
	v.raw("subject", oneLine(name))
	v.raw("use of the key", string(s.id.Use))
	v.raw("SHA-256 of the key", envelope.KeyIDOfSPKI(s.spki).String())
	validityView(v, t)
	if f, _, err := readExtensions(t.Extensions); err == nil {
		extensionsView(v, t, f)
	}
}

// magics: how common files begin. A guess for people, never a check.
var magics = []struct{ prefix, name string }{
	{"%PDF-", "a PDF document"},
	{"\x7fELF", "an ELF program or library"},
	{"MZ", "a Windows program"},
	{"\xfe\xed\xfa\xcf", "a macOS program"},
	{"\xcf\xfa\xed\xfe", "a macOS program"},
	{"PK\x03\x04", "a ZIP archive (also JAR, APK, office documents)"},
	{"\x1f\x8b", "gzip data"},
	{"BZh", "bzip2 data"},
	{"\xfd7zXZ\x00", "xz data"},
	{"\x28\xb5\x2f\xfd", "Zstandard data"},
	{"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
	{"!<arch>\n", "an ar archive (also Debian packages)"},
	{"\xed\xab\xee\xdb", "an RPM package"},
	{"\x89PNG", "a PNG image"},
	{"\xff\xd8\xff", "a JPEG image"},
	{"\x00asm", "a WebAssembly module"},
	{"SSHSIG", "OpenSSH signature input"},
	{"\x00\x00\x00\x1cssh-rsa-cert-v01@openssh.com", "an OpenSSH certificate"},
	{"                                                                TLS 1.3", "TLS 1.3 HANDSHAKE SIGNATURE INPUT"},
	{"#!", "a script"},
	{"<?xml", "XML"},
	{"-----BEGIN ", "PEM"},
}

// guess says what a file looks like, and whether it is text.
func guess(file []byte) (kind string, text bool) {
	text = utf8.Valid(file) && !bytes.ContainsAny(file, "\x00")
	for _, m := range magics {
		if bytes.HasPrefix(file, []byte(m.prefix)) {
			return m.name, text
		}
	}
	switch {
	case len(file) > 262 && string(file[257:262]) == "ustar":
		return "a tar archive", text
	case text:
		return "text", true
	case len(file) > 1 && file[0] == 0x30:
		return "unknown data, perhaps ASN.1", false
	}
	return "unknown data", false
}
