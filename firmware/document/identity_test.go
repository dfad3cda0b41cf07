package document

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func keyID(t testing.TB, pub any) envelope.KeyID {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return envelope.KeyIDOfSPKI(der)
}

// swaRequest is a request under the ledger key of the test system.
func swaRequest(t testing.TB, s *ledgertest.System, kind string, doc []byte) *Request {
	t.Helper()
	key, ok := s.State.LedgerKey()
	if !ok {
		t.Fatal("no ledger key")
	}
	r := &Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: threshold.Algorithm(key.Algorithms[0]), Kind: kind, Document: doc,
		Requester: "device-1", Nonce: [16]byte{5}, Created: s.Now, Expires: s.Now + 3600,
		Route: Route{Mode: ModeParallel, Approvals: ApprovalsSet},
	}
	for _, h := range key.Holders {
		r.Route.Devices = append(r.Route.Devices, h.Device)
	}
	return r
}

func identityOf(t testing.TB, s *ledgertest.System, id envelope.KeyID) []byte {
	t.Helper()
	key, _ := s.State.LedgerKey()
	v, err := IdentityValidity(s.State, id, 365, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := IdentityTBS(s.State, id, threshold.Algorithm(key.Algorithms[0]), v, serial(t))
	if err != nil {
		t.Fatal(err)
	}
	return tbs
}

// TestIdentities: devices and officers get certificates under the SWA key that
// OpenSSL verifies, for their signature and their agreement keys (A12, A13).
func TestIdentities(t *testing.T) {
	s := ledgertest.New(t)
	key, _ := s.State.LedgerKey()
	device, officer := s.Devices["device-1"], s.Persons["officer-1a"].Card()
	for name, pub := range map[string]any{
		"device sign": device.Sign.Public(), "device agree": device.Agree.Public(),
		"officer sign": officer.Sign.Public(), "officer agree": officer.Agree.Public(),
	} {
		t.Run(name, func(t *testing.T) {
			id := keyID(t, pub)
			c, err := CheckIn(s.State, swaRequest(t, s, KindIdentity, identityOf(t, s, id)), s.Now)
			if err != nil {
				t.Fatal(err)
			}
			sig := s.Keys[key.ID].Sign(t, key.Algorithms[0], c.ToBeSigned())
			der, err := c.Assemble(sig)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			ca, cert := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "c.pem")
			writePEM(t, ca, "CERTIFICATE", key.Certificate)
			writePEM(t, cert, "CERTIFICATE", der)
			openssl(t, "verify", "-attime", fmt.Sprint(s.Now+60), "-CAfile", ca, cert)
			owner, v, err := VerifyIdentity(s.State, der)
			if err != nil || owner.ID != id || v.NotBefore != s.Now {
				t.Errorf("VerifyIdentity: %v, %v, %v", owner, v, err)
			}
			view := c.View().String()
			if !strings.Contains(view, owner.Owner) || !strings.Contains(view, "What it does") {
				t.Errorf("view:\n%s", view)
			}
			der[len(der)-1] ^= 1
			_, _, err = VerifyIdentity(s.State, der)
			wantError(t, err, ErrIdentity)
		})
	}
}

// TestIdentityRefusals: nothing but what follows from the tables is certified.
func TestIdentityRefusals(t *testing.T) {
	s := ledgertest.New(t)
	key, _ := s.State.LedgerKey()
	device := s.Devices["device-1"]
	deviceID := keyID(t, device.Sign.Public())
	alg := threshold.Algorithm(key.Algorithms[0])
	reparse := func(der []byte, change func(*TBS)) []byte {
		x, err := ParseTBS(der)
		if err != nil {
			t.Fatal(err)
		}
		change(x)
		out, err := x.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := identityOf(t, s, deviceID)
	officer := s.Persons["officer-1a"]
	officerGood := identityOf(t, s, keyID(t, officer.Card().Sign.Public()))
	p, _ := s.State.Person("officer-1a")
	expires := s.State.Registrations(p.ID)[0].Expires
	for _, test := range []struct {
		name string
		tbs  []byte
		want error
	}{
		{"good", good, nil},
		{"another name", reparse(good, func(x *TBS) {
			x.Subject = bytes.Replace(x.Subject, []byte("device-1"), []byte("device-2"), 1)
		}), ErrIdentity},
		{"another device's key", reparse(good, func(x *TBS) {
			x.SPKI, _ = x509.MarshalPKIXPublicKey(s.Devices["device-2"].Sign.Public())
		}), ErrIdentity},
		{"an unknown key", reparse(good, func(x *TBS) { x.SPKI = mustParseCSR(t, opensslCSR(t, newEC)).PublicKeyInfo() }), ErrIdentity},
		{"a boot key", reparse(good, func(x *TBS) { x.SPKI, _ = x509.MarshalPKIXPublicKey(device.Boot.Public()) }), ErrIdentity},
		{"a server's key", reparse(good, func(x *TBS) { x.SPKI, _ = x509.MarshalPKIXPublicKey(s.Servers["server-1"].Sign.Public()) }), ErrIdentity},
		{"an unregistered card", reparse(officerGood, func(x *TBS) { x.SPKI, _ = x509.MarshalPKIXPublicKey(officer.Cards[1].Sign.Public()) }), ErrIdentity},
		{"a software key", reparse(officerGood, func(x *TBS) {
			x.SPKI, _ = x509.MarshalPKIXPublicKey(s.Persons["program"].Software.Public())
		}), ErrIdentity},
		{"CA:TRUE", reparse(good, func(x *TBS) { x.Extensions[0].Value = []byte{0x30, 3, 1, 1, 0xff} }), ErrIdentity},
		{"one more extension", reparse(good, func(x *TBS) { x.Extensions = append(x.Extensions, ExtKeyUsage(UsageTLSServer)) }), ErrIdentity},
		{"issuer", reparse(good, func(x *TBS) { x.Issuer = x.Subject }), ErrIssuer},
		{"short serial", reparse(good, func(x *TBS) { x.Serial = []byte{1} }), ErrSerial},
		{"too long", reparse(good, func(x *TBS) { x.NotAfter = x.NotBefore + int64(key.MaxDays)*day }), ErrValidity},
		{"beyond the registration", reparse(officerGood, func(x *TBS) { x.NotAfter = expires }), ErrValidity},
		{"not DER", append(bytes.Clone(good), 0), ErrMalformed},
		{"empty", nil, ErrRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			// At the edge of the registration nothing else must be in the way.
			at := s.Now
			r := swaRequest(t, s, KindIdentity, test.tbs)
			if test.name == "beyond the registration" {
				at = expires - 100
				x, _ := ParseTBS(test.tbs)
				x.NotBefore = at
				r.Document, _ = x.Marshal()
				r.Created, r.Expires = at, at+50
			}
			_, err := CheckIn(s.State, r, at)
			if test.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
		})
	}
	r := swaRequest(t, s, KindIdentity, good)
	_, err := Check(r, key, s.Now)
	wantError(t, err, ErrNeedsTables)
	for _, kind := range []string{KindCertificate, KindFile, KindDigest, ""} {
		r := swaRequest(t, s, kind, good)
		_, err := CheckIn(s.State, r, s.Now)
		wantError(t, err, ErrFamily)
	}
	r.Key = "nobody"
	_, err = CheckIn(s.State, r, s.Now)
	wantError(t, err, ErrRequest)
	_, err = IdentityTBS(s.State, deviceID, alg, Validity{s.Now, s.Now + day}, []byte{0x80})
	wantError(t, err, ErrSerial)
}

func mustParseCSR(t testing.TB, der []byte) *CSR {
	t.Helper()
	c, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEntry: a ledger command is signed as package ledger verifies it, only in
// its place, and never dated ahead.
func TestEntry(t *testing.T) {
	s := ledgertest.New(t)
	key, _ := s.State.LedgerKey()
	notice := ledger.Notice{Text: "New disks", From: s.Now + 10, Until: s.Now + 4000, Device: "device-2"}
	entry, err := ledger.NewEntry(s.State, ledger.KindNotice, notice, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := CheckIn(s.State, swaRequest(t, s, KindEntry, entry), s.Now)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := c.Assemble(s.Keys[key.ID].Sign(t, key.Algorithms[0], c.ToBeSigned()))
	if err != nil {
		t.Fatal(err)
	}
	v, err := ledger.VerifyEntry(s.State, ledger.SignedEntry{Entry: entry, Algorithm: key.Algorithms[0], Signature: sig})
	if err != nil {
		t.Fatal(err)
	}
	if view := c.View().String(); !strings.Contains(view, "New disks") || !strings.Contains(view, "device device-2") {
		t.Errorf("view:\n%s", view)
	}
	next, err := ledger.ApplyVerified(s.State, v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckIn(next, swaRequest(t, s, KindEntry, entry), s.Now); err == nil {
		t.Error("an entry was accepted again after it was applied")
	}
	later := s.Now + maxClockSkew + 1
	notice.Until = later + 4000
	ahead, err := ledger.NewEntry(s.State, ledger.KindNotice, notice, later)
	if err != nil {
		t.Fatal(err)
	}
	_, err = CheckIn(s.State, swaRequest(t, s, KindEntry, ahead), s.Now)
	wantError(t, err, ErrNotYet)

	// What the ledger key signs is no file, in any disguise.
	files, _ := fileKey(t)
	for _, doc := range [][]byte{c.ToBeSigned(), []byte(hex.EncodeToString(c.ToBeSigned()))} {
		var d *DisguiseError
		_, err := Check(fileRequest(files, doc), files, now)
		wantAs(t, err, &d)
	}
}
