package client_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/client/clienttest"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// world is a system and a home that joined it.
type world struct {
	*clienttest.Sites
	t   *testing.T
	sys *client.System
	dir string
}

func newWorld(t *testing.T, options ...ledgertest.Option) *world {
	t.Helper()
	w := &world{Sites: clienttest.New(t, options...), t: t, dir: filepath.Join(t.TempDir(), "home")}
	b, err := envelope.Marshal(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if w.sys, err = client.Verify(w.State.System(), "server-1", b, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.sys.Save(w.dir); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) unix() int64 { return w.Clock().Unix() }

func (w *world) dial(id string) *client.Conn {
	w.t.Helper()
	srv, err := w.sys.Server(id)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := client.Dial(srv)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func csr(t *testing.T) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "www.example.org"}, DNSNames: []string{"www.example.org"},
	}, ledgertest.NewSigner(t, "subject"))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certificate(t *testing.T) client.Wish {
	t.Helper()
	p, err := profile.Find("server")
	if err != nil {
		t.Fatal(err)
	}
	return client.Wish{Key: ledgertest.KeyCertificates, Kind: document.KindCertificate, CSR: csr(t), Profile: p, Days: 30, Lifetime: 3600}
}

func file(approvals string, devices ...string) client.Wish {
	return client.Wish{
		Key: ledgertest.KeyFiles, Kind: document.KindFile, Name: "release.txt", File: []byte("release 1.0\n"), Lifetime: 3600,
		Approvals: approvals, Devices: devices,
	}
}

// ask makes a request through server-1 and sends it.
func (w *world) ask(signer crypto.Signer, wish client.Wish) *client.Signed {
	w.t.Helper()
	srv, _ := w.sys.Server("")
	r, err := client.NewRequest(rand.Reader, w.State, signer, wish, srv, w.unix())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.dial("").Send(w.t.Context(), rand.Reader, w.State, r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) program() crypto.Signer { return w.Persons[ledgertest.Program].Software }

// officer is an officer with his first card in software.
func (w *world) officer(person string) (*client.Officer, client.Keys, *client.Conn) {
	w.t.Helper()
	c := w.Persons[person].Card()
	o, err := client.FindOfficer(w.State, c.Serial, w.unix())
	if err != nil {
		w.t.Fatal(err)
	}
	return o, client.Keys{Sign: c.Sign, Agree: c.Agree}, w.dial(o.Servers(w.State)[0].ID)
}

// items opens a person's inbox. Every item must be good.
func (w *world) items(person string) []*client.Item {
	w.t.Helper()
	items, err := w.tryItems(person)
	if err != nil {
		w.t.Fatalf("inbox of %s: %v", person, err)
	}
	return items
}

func (w *world) tryItems(person string) (out []*client.Item, err error) {
	w.t.Helper()
	o, k, conn := w.officer(person)
	sealed, err := conn.Inbox(w.t.Context(), o, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, raw := range sealed {
		i, err := client.OpenItem(w.State, o, k.Agree, raw, w.unix())
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// approve approves everything in a person's inbox.
func (w *world) approve(person string) []*api.Approved {
	w.t.Helper()
	var out []*api.Approved
	for _, i := range w.items(person) {
		_, k, conn := w.officer(person)
		sealed, err := i.Approve(rand.Reader, w.State, k, w.unix())
		if err != nil {
			w.t.Fatalf("%s: %v", person, err)
		}
		got, err := conn.Say(w.t.Context(), sealed)
		if err != nil {
			w.t.Fatalf("%s: %v", person, err)
		}
		out = append(out, got)
	}
	return out
}

func (w *world) follow(r *client.Signed) *api.Tracking {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	t, err := w.dial("").Follow(ctx, r.Digest, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func TestCertificate(t *testing.T) {
	w := newWorld(t)
	r := w.ask(w.program(), certificate(t))
	for _, device := range []string{"device-2", "device-4", "device-5"} {
		for n, p := range w.Officers(device) {
			items := w.items(p.ID)
			if len(items) != 1 || items[0].Digest != r.Digest || items[0].Device.ID != device || items[0].Requester.Owner != ledgertest.Program {
				t.Fatalf("%s: %+v", p.ID, items)
			}
			view := items[0].View().String()
			if !strings.Contains(view, "www.example.org") {
				t.Errorf("the view does not show the name:\n%s", view)
			}
			if l := items[0].Lint(true); len(l) > 1 || len(l) == 1 && l[0].Err != nil {
				t.Errorf("%+v", l)
			}
			if n == 1 && !slices.Equal(items[0].Claimed, []string{"Officer " + device[7:] + "a"}) {
				t.Errorf("approved already: %q", items[0].Claimed)
			}
			got := w.approve(p.ID)
			if len(got) != 1 || got[0].Have != uint64(n+1) || got[0].Need != 2 {
				t.Errorf("%s: %+v", p.ID, got[0])
			}
			if len(w.items(p.ID)) != 0 {
				t.Errorf("%s is asked again", p.ID)
			}
		}
	}
	der, err := r.Result(w.follow(r))
	if err != nil {
		t.Fatal(err)
	}
	k, cert, err := client.VerifyCertificate(w.State, der, w.unix())
	if err != nil || k.ID != ledgertest.KeyCertificates || cert.DNSNames[0] != "www.example.org" {
		t.Errorf("%s, %v, %v", k.ID, cert, err)
	}
	if _, _, err := client.VerifyCertificate(w.State, der, w.unix()+100*86400); err == nil {
		t.Error("an expired certificate is good")
	}
	der[len(der)-1] ^= 1
	if _, _, err := client.VerifyCertificate(w.State, der, w.unix()); !errors.Is(err, client.ErrNotSigned) {
		t.Errorf("altered: %v", err)
	}
}

// A chain in sequential signing: each officer covers what was signed before,
// and the officers of a device are asked when the device before has signed.
func TestChain(t *testing.T) {
	w := newWorld(t)
	r := w.ask(w.program(), file(document.ApprovalsChain, "device-3", "device-1", "device-5"))
	follows := ""
	for _, device := range []string{"device-3", "device-1", "device-5"} {
		officers := w.Officers(device)
		for n, p := range officers {
			items := w.items(p.ID)
			if len(items) != 1 {
				t.Fatalf("%s has %d items", p.ID, len(items))
			}
			i := items[0]
			if i.Signed != follows || len(i.Approved) != n {
				t.Errorf("%s: follows %q, approved %q", p.ID, i.Signed, i.Approved)
			}
			w.approve(p.ID)
		}
		d, _ := w.State.Device(device)
		follows = d.ID + " (" + d.Name + ")"
	}
	sig, err := r.Result(w.follow(r))
	if err != nil {
		t.Fatal(err)
	}
	alg, err := client.VerifyFile(w.State, ledgertest.KeyFiles, "", strings.NewReader("release 1.0\n"), sig)
	if err != nil || alg != "RS256" {
		t.Error(alg, err)
	}
	for name, f := range map[string]func() error{
		"another file": func() error {
			_, err := client.VerifyFile(w.State, ledgertest.KeyFiles, "", strings.NewReader("release 1.1\n"), sig)
			return err
		},
		"another algorithm": func() error {
			_, err := client.VerifyFile(w.State, ledgertest.KeyFiles, "PS256", strings.NewReader("release 1.0\n"), sig)
			return err
		},
		"cut": func() error {
			_, err := client.VerifyFile(w.State, ledgertest.KeyFiles, "", strings.NewReader("release 1.0\n"), sig[1:])
			return err
		},
	} {
		if err := f(); !errors.Is(err, client.ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An officer who approves from a stale item of a chain is told to look again.
func TestStaleItem(t *testing.T) {
	w := newWorld(t)
	w.ask(w.program(), file(document.ApprovalsChain, "device-3", "device-1", "device-5"))
	old := w.items("officer-3b")[0]
	w.approve("officer-3a")
	_, k, conn := w.officer("officer-3b")
	sealed, err := old.Approve(rand.Reader, w.State, k, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Say(t.Context(), sealed)
	var no *client.RefusedError
	if !errors.As(err, &no) || no.Code != 409 || !strings.Contains(err.Error(), "look at the inbox again") {
		t.Errorf("%v", err)
	}
}

func TestReject(t *testing.T) {
	w := newWorld(t)
	r := w.ask(w.program(), file(document.ApprovalsSet, "device-1", "device-2", "device-3"))
	i := w.items("officer-2b")[0]
	_, k, conn := w.officer("officer-2b")
	if _, err := i.Reject(rand.Reader, w.State, k, "", w.unix()); err == nil {
		t.Error("rejected without a reason")
	}
	sealed, err := i.Reject(rand.Reader, w.State, k, "not a release day", w.unix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Say(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	_, err = r.Result(w.follow(r))
	var unfinished *client.UnfinishedError
	if !errors.As(err, &unfinished) || unfinished.Tracking.State != api.StateRejected || !strings.Contains(err.Error(), "rejected by Officer 2b (not a release day)") {
		t.Errorf("%v", err)
	}
}

func TestWhoIsMissing(t *testing.T) {
	w := newWorld(t)
	w.Devices["device-4"].SetFault(coordtest.Silent)
	r := w.ask(w.program(), file(document.ApprovalsSet, "device-1", "device-2", "device-4"))
	w.approve("officer-1a")
	w.approve("officer-1b")
	w.approve("officer-2a")
	got, err := w.dial("").Tracking(t.Context(), r.Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Result(got)
	for _, want := range []string{"is open", "device-2 (Seal 2): approved by Officer 2a; missing: Officer 2b", "device-4 (Seal 4): ", "it has no link"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	last, err := w.dial("").Follow(ctx, r.Digest, nil)
	if last == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", last, err)
	}
	w.Pass(3601)
	if _, err := r.Result(w.follow(r)); err == nil || !strings.Contains(err.Error(), "is expired") {
		t.Errorf("%v", err)
	}
}

// A requester never approves, whichever card he asked with, and his card is
// not used.
func TestOwnRequest(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.Persons["officer-1a"].Cards {
		r := w.ask(c.Sign, file(document.ApprovalsSet))
		if r.Request.Requester != "officer-1a" {
			t.Fatalf("asked by %s", r.Request.Requester)
		}
	}
	if n := len(w.items("officer-1a")); n != 0 {
		t.Errorf("the requester is asked %d times", n)
	}
	for _, i := range w.items("officer-1b") {
		if err := i.Own(); err != nil {
			t.Errorf("another's request: %v", err)
		}
	}
	// A server that asks him all the same gets nothing from the card.
	o, _, _ := w.officer("officer-1a")
	var own *approval.RequesterApprovedError
	if err := client.OwnRequest(o, "officer-1a"); !errors.As(err, &own) || own.Name != "Officer 1a" || own.Card != 11 {
		t.Errorf("%v", err)
	}
}

func TestFindOfficer(t *testing.T) {
	w := newWorld(t, func(g *ledger.Genesis) { g.Officers[3].Expires = ledgertest.Epoch + 3000 })
	for serial, want := range map[uint32]string{
		999: "does not know it", 90: "is not registered at any device", 91: "is not registered", 111: "approves with card 11", 22: "expired on",
	} {
		_, err := client.FindOfficer(w.State, serial, w.unix())
		var no *client.NotOfficerError
		if !errors.As(err, &no) || !strings.Contains(err.Error(), want) {
			t.Errorf("card %d: %v", serial, err)
		}
	}
}

// A wrong signature from the server is not delivered.
func TestForgedResult(t *testing.T) {
	w := newWorld(t)
	r := w.ask(w.program(), file(document.ApprovalsSet))
	forged := &api.Tracking{Request: r.Digest, State: api.StateDone, Signatures: [][]byte{make([]byte, 256)}, Documents: [][]byte{make([]byte, 256)}}
	forged.Signatures[0][255] = 2
	if out, err := r.Result(forged); err == nil || out != nil {
		t.Errorf("%x, %v", out, err)
	}
	other := w.Keys[ledgertest.KeyFiles].Sign(t, "RS256", []byte("release 1.1\n"))
	forged.Signatures = [][]byte{other}
	if out, err := r.Result(forged); err == nil || out != nil {
		t.Errorf("%x, %v", out, err)
	}
}

func TestNewRequestRefuses(t *testing.T) {
	w := newWorld(t)
	srv, _ := w.sys.Server("")
	for name, c := range map[string]struct {
		signer crypto.Signer
		wish   func(*client.Wish)
		want   string
	}{
		"unknown key":      {w.program(), func(x *client.Wish) { x.Key = "seal" }, "there is no key"},
		"wrong family":     {w.program(), func(x *client.Wish) { x.Key = ledgertest.KeyFiles }, "not certificates"},
		"stranger":         {ledgertest.NewSigner(t, "stranger"), func(*client.Wish) {}, "is nobody's"},
		"device's token":   {w.Sites.System.Devices["device-1"].Sign, func(*client.Wish) {}, "makes no requests"},
		"server":           {w.Servers["server-1"].Sign, func(*client.Wish) {}, "makes no requests"},
		"too few devices":  {w.program(), func(x *client.Wish) { x.Devices = []string{"device-1", "device-2"} }, "needs 3"},
		"unknown device":   {w.program(), func(x *client.Wish) { x.Devices = []string{"device-1", "device-2", "device-9"} }, "holds no share"},
		"unknown mode":     {w.program(), func(x *client.Wish) { x.Approvals = "heap" }, "neither"},
		"too long":         {w.program(), func(x *client.Wish) { x.Days = 100000 }, "days"},
		"a broken CSR":     {w.program(), func(x *client.Wish) { x.CSR = slices.Clone(x.CSR); x.CSR[len(x.CSR)-1] ^= 1 }, "signature"},
		"other algorithm":  {w.program(), func(x *client.Wish) { x.Algorithm = "ES256" }, "unknown"},
		"no life":          {w.program(), func(x *client.Wish) { x.Lifetime = 0 }, "leaves no time"},
		"a short life":     {w.program(), func(x *client.Wish) { x.Lifetime = api.MinLifetime - 1 }, "60 s at least"},
		"ledger documents": {w.program(), func(x *client.Wish) { x.Kind = document.KindEntry }, "not made here"},
	} {
		wish := certificate(t)
		c.wish(&wish)
		_, err := client.NewRequest(rand.Reader, w.State, c.signer, wish, srv, w.unix())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A certificate dressed as a file is found before anybody is asked.
	disguised := file(document.ApprovalsSet)
	r, err := client.NewRequest(rand.Reader, w.State, w.program(), certificate(t), srv, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	disguised.File = r.Request.Document
	if _, err := client.NewRequest(rand.Reader, w.State, w.program(), disguised, srv, w.unix()); err == nil {
		t.Error("a TBSCertificate passes as a file")
	}
}

func TestKept(t *testing.T) {
	w := newWorld(t)
	r := w.ask(w.program(), certificate(t))
	if err := w.sys.Keep(r); err != nil {
		t.Fatal(err)
	}
	again, err := client.Open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{r.Digest.String(), r.Digest.String()[:8]} {
		k, err := again.Kept(name)
		if err != nil || k.Digest != r.Digest || k.Server != "server-1" || k.Request.Key != r.Request.Key {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "../..", "zz", strings.Repeat("0", 64)} {
		if _, err := again.Kept(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
