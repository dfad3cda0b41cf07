package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// authority is a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate; parent nil makes it self-signed.
func issue(t testing.TB, parent *authority, pub crypto.PublicKey, key *ecdsa.PrivateKey, edit func(*x509.Certificate)) *authority {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    now.AddDate(-10, 0, 0),
		NotAfter:     now.AddDate(40, 0, 0), // piv-go looks at today's clock
	}
	edit(c)
	p := &authority{c, key}
	if parent != nil {
		p = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, c, p.cert, pub, p.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// world is a maker with one card.
type world struct {
	root, card *authority
	key        *ecdsa.PrivateKey // the attested key
}

func isCA(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid = true, true
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	k, f9 := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	root := issue(t, nil, k.Public(), k, isCA("Maker"))
	return &world{root, issue(t, root, f9.Public(), f9, isCA("PIV Attestation")), newKey(t, elliptic.P256())}
}

func (w *world) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(w.root.cert)
	return p
}

func ext(last int, value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, last}, Value: value}
}

// good are the extensions of card 12345678, version 5.7.1, PIN always, touch
// cached, USB-C keychain.
func good() []pkix.Extension {
	return []pkix.Extension{
		ext(3, []byte{5, 7, 1}),
		ext(7, []byte{0x02, 0x04, 0x00, 0xbc, 0x61, 0x4e}),
		ext(8, []byte{3, 3}),
		ext(9, []byte{3}),
	}
}

// slot attests a key.
func (w *world) slot(t testing.TB, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	return issue(t, w.card, w.key.Public(), nil, func(c *x509.Certificate) {
		c.Subject.CommonName = "YubiKey PIV Attestation 9c"
		c.ExtraExtensions = good()
		if edit != nil {
			edit(c)
		}
	}).cert
}

// oracle is piv-go's verdict. It has no clock, so it is asked about
// certificates that are valid today.
func oracle(roots *x509.CertPool, slot, f9 *x509.Certificate) (*piv.Attestation, error) {
	f9, err := x509.ParseCertificate(f9.Raw) // Verify edits what it is given
	if err != nil {
		return nil, err
	}
	return (&piv.Verifier{Roots: roots}).Verify(f9, slot)
}

// agree compares with piv-go's reading of the same certificate.
func agree(t *testing.T, a *Attestation, o *piv.Attestation) {
	t.Helper()
	if a.Serial != o.Serial || int(a.Version.Major) != o.Version.Major || int(a.Version.Minor) != o.Version.Minor ||
		int(a.Version.Patch) != o.Version.Patch || int(a.PINPolicy) != int(o.PINPolicy) ||
		int(a.TouchPolicy) != int(o.TouchPolicy) || uint32(a.Slot) != o.Slot.Key || int(a.Formfactor) != int(o.Formfactor) {
		t.Errorf("read %+v; piv-go %+v", a, o)
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	cert := w.slot(t, nil)
	a, err := Verify(w.roots(), cert, w.card.cert, now)
	if err != nil {
		t.Fatal(err)
	}
	want := Attestation{
		Serial: 12345678, Version: Version{5, 7, 1}, PINPolicy: PINAlways, TouchPolicy: TouchCached,
		Slot: 0x9c, PublicKey: a.PublicKey, Formfactor: 3,
	}
	if *a != want || !a.PublicKey.Equal(w.key.Public()) {
		t.Errorf("%+v", a)
	}
}

// TestRefused: each is refused with an error that names why.
func TestRefused(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	p384 := newKey(t, elliptic.P384())
	drop := func(last int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			var keep []pkix.Extension
			for _, e := range c.ExtraExtensions {
				if e.Id[len(e.Id)-1] != last {
					keep = append(keep, e)
				}
			}
			c.ExtraExtensions = keep
		}
	}
	replace := func(last int, value ...byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			drop(last)(c)
			c.ExtraExtensions = append(c.ExtraExtensions, ext(last, value))
		}
	}
	named := func(cn string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = cn }
	}
	for name, c := range map[string]struct {
		edit func(*x509.Certificate)
		want string
	}{
		"no version":          {drop(3), "no firmware version"},
		"no serial number":    {drop(7), "no serial number"},
		"no policy":           {drop(8), "no key policy"},
		"short version":       {replace(3, 5, 7), "version of 2 bytes"},
		"negative serial":     {replace(7, 0x02, 0x01, 0x80), "malformed serial"},
		"serial over 32 bits": {replace(7, 0x02, 0x05, 0x01, 0, 0, 0, 1), "malformed serial"},
		"serial with a tail":  {replace(7, 0x02, 0x01, 0x05, 0x00), "malformed serial"},
		"serial no integer":   {replace(7, 0x04, 0x01, 0x05), "malformed serial"},
		"PIN policy 0":        {replace(8, 0, 1), "unknown PIN policy 0"},
		"PIN policy 6":        {replace(8, 6, 1), "unknown PIN policy 6"},
		"touch policy 0":      {replace(8, 3, 0), "unknown touch policy 0"},
		"touch policy 4":      {replace(8, 3, 4), "unknown touch policy 4"},
		"long policy":         {replace(8, 3, 1, 1), "policy of 3 bytes"},
		"empty form factor":   {replace(9), "form factor of 0 bytes"},
		"another name":        {named("9c"), "names no slot"},
		"no slot":             {named("YubiKey PIV Attestation "), "names no slot"},
		"slot with a tail":    {named("YubiKey PIV Attestation 9c0"), "names no slot"},
		"slot F9":             {named("YubiKey PIV Attestation f9"), "unknown slot f9"},
		"slot 9B":             {named("YubiKey PIV Attestation 9b"), "unknown slot 9b"},
		"a CA":                {isCA("YubiKey PIV Attestation 9c"), "is a CA's"},
		"expired":             {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "no approved manufacturer"},
		"not yet valid":       {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, "no approved manufacturer"},
		"unknown and critical": {func(c *x509.Certificate) {
			e := ext(99, []byte{1})
			e.Critical = true
			c.ExtraExtensions = append(c.ExtraExtensions, e)
		}, "no approved manufacturer"},
	} {
		if a, err := Verify(w.roots(), w.slot(t, c.edit), w.card.cert, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}

	slot := w.slot(t, nil)
	big384 := issue(t, w.card, p384.Public(), nil, func(c *x509.Certificate) {
		named("YubiKey PIV Attestation 9c")(c)
		c.ExtraExtensions = good()
	}).cert
	// The key in the card's slot 9A makes a certificate: the same form as one
	// of the card's own, one link further down.
	byUser := &authority{w.slot(t, nil), w.key}
	forged := issue(t, byUser, newKey(t, elliptic.P256()).Public(), nil, func(c *x509.Certificate) {
		named("YubiKey PIV Attestation 9c")(c)
		c.ExtraExtensions = good()
	}).cert
	f9NoCA := issue(t, w.root, w.card.key.Public(), w.card.key, func(c *x509.Certificate) { named("PIV Attestation")(c) })
	for name, c := range map[string]struct {
		roots    *x509.CertPool
		slot, f9 *x509.Certificate
		want     string
	}{
		"no roots":             {nil, slot, w.card.cert, "no manufacturer's root"},
		"empty roots":          {x509.NewCertPool(), slot, w.card.cert, "no approved manufacturer"},
		"another root":         {other.roots(), slot, w.card.cert, "no approved manufacturer"},
		"another card":         {w.roots(), slot, other.card.cert, "not of this card"},
		"no slot certificate":  {w.roots(), nil, w.card.cert, "missing"},
		"no card certificate":  {w.roots(), slot, nil, "missing"},
		"P-384":                {w.roots(), big384, w.card.cert, "not on P-256"},
		"made by a slot's key": {w.roots(), forged, byUser.cert, "not of this card"},
		"card is no CA":        {w.roots(), slot, f9NoCA.cert, "not of this card"},
		"the card itself":      {w.roots(), w.card.cert, w.root.cert, "is a CA's"},
	} {
		if a, err := Verify(c.roots, c.slot, c.f9, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestCheckPair(t *testing.T) {
	k := []*ecdsa.PublicKey{&newKey(t, elliptic.P256()).PublicKey, &newKey(t, elliptic.P256()).PublicKey}
	pair := func() (*Attestation, *Attestation) {
		return &Attestation{Serial: 1, Slot: 0x9c, PINPolicy: PINAlways, PublicKey: k[0]},
			&Attestation{Serial: 1, Slot: 0x9d, PINPolicy: PINOnce, PublicKey: k[1]}
	}
	if err := CheckPair(pair()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(s, a *Attestation){
		"slots exchanged":   func(s, a *Attestation) { *s, *a = *a, *s },
		"sign in 9A":        func(s, a *Attestation) { s.Slot = 0x9a },
		"agree in 9E":       func(s, a *Attestation) { a.Slot = 0x9e },
		"two cards":         func(s, a *Attestation) { a.Serial++ },
		"two versions":      func(s, a *Attestation) { a.Version.Minor++ },
		"sign without PIN":  func(s, a *Attestation) { s.PINPolicy = PINNever },
		"sign PIN once":     func(s, a *Attestation) { s.PINPolicy = PINOnce },
		"agree without PIN": func(s, a *Attestation) { a.PINPolicy = PINNever },
		"one key":           func(s, a *Attestation) { a.PublicKey = s.PublicKey },
	} {
		s, a := pair()
		spoil(s, a)
		if CheckPair(s, a) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzAgainstPivGo gives both readers the same extensions. What Verify accepts
// piv-go accepts and reads alike; what only piv-go accepts lacks a statement,
// or is a number that it cuts short.
func FuzzAgainstPivGo(f *testing.F) {
	w := newWorld(f)
	f.Add("YubiKey PIV Attestation 9c", []byte{5, 7, 1}, []byte{2, 4, 0, 0xbc, 0x61, 0x4e}, []byte{3, 3}, []byte{3})
	f.Add("YubiKey PIV Attestation 82", []byte{5, 4, 3}, []byte{2, 1, 0}, []byte{5, 1}, []byte{0x81})
	f.Add("YubiKey PIV Attestation 9D", []byte{}, []byte{2, 5, 1, 0, 0, 0, 0}, []byte{1}, []byte{})
	f.Add("YubiKey PIV Attestation 9c", []byte{5, 7, 1}, []byte{2, 4, 0, 0xbc, 0x61, 0x4e, 0}, []byte{3, 3}, []byte{3})
	f.Fuzz(func(t *testing.T, cn string, version, serial, policy, form []byte) {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtraExtensions: []pkix.Extension{ext(3, version), ext(7, serial), ext(8, policy), ext(9, form)},
		}
		der, err := x509.CreateCertificate(rand.Reader, c, w.card.cert, w.key.Public(), w.card.key)
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		card, err := x509.ParseCertificate(w.card.cert.Raw)
		if err != nil {
			t.Fatal(err)
		}
		a, ourErr := Verify(w.roots(), cert, card, time.Now())
		o, theirErr := oracle(w.roots(), cert, card)
		switch {
		case ourErr == nil && theirErr != nil:
			t.Errorf("accepted %+v; piv-go: %v", a, theirErr)
		case ourErr == nil:
			agree(t, a, o)
		case theirErr == nil:
			for _, known := range []string{"names no slot", "unknown slot", "malformed serial"} {
				if strings.Contains(ourErr.Error(), known) {
					return
				}
			}
			t.Errorf("refused with %v; piv-go: %+v", ourErr, o)
		}
	})
}

// TestNeedsNoCard: the package is used where there is no PC/SC.
func TestNeedsNoCard(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		// A dot in the first element: not of the standard library.
		if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") && !strings.HasSuffix(dep, "firmware/attest") {
			t.Errorf("imports %s", dep)
		}
	}
}
