package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
	"github.com/privyseal/privyseal/cmd/internal/client/clienttest"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// The tests run the program as people do, with cards behind a real, private
// pcscd and message servers in this process.

const testReaders = 8

var daemon *vpcd.Daemon

func TestMain(m *testing.M) {
	code, err := vpcd.Own(testReaders, func(d *vpcd.Daemon) (int, error) {
		daemon = d
		return m.Run(), nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "these tests need pcscd and vsmartcard-vpcd:", err)
	}
	os.Exit(code)
}

// inserted is a card in a reader.
type inserted struct {
	slot *virtual.Slot
	keys *card.Enrolled
	stop func()
}

// rig is a system, a home that joined it, and officers' cards in readers.
type rig struct {
	*clienttest.Sites
	t     *testing.T
	home  string
	cards map[string]*inserted // by person
}

// newRig makes a system in which these persons have real cards: the ones with
// their serial numbers in ledgertest.
func newRig(t *testing.T, persons ...string) *rig {
	t.Helper()
	return newRigWith(t, nil, persons...)
}

// newRigWith also changes the genesis.
func newRigWith(t *testing.T, change func(*ledger.Genesis), persons ...string) *rig {
	t.Helper()
	r := &rig{t: t, home: filepath.Join(t.TempDir(), "home"), cards: map[string]*inserted{}}
	maker, err := virtual.NewRoot(rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.Sites = clienttest.New(t, func(g *ledger.Genesis) {
		if change != nil {
			change(g)
		}
		for i, name := range persons {
			for j := range g.Persons {
				if p := &g.Persons[j]; p.ID == name {
					c := r.insert(maker, i, p.Cards[0].Serial)
					r.cards[name] = c
					p.Cards[0].Sign, p.Cards[0].Agree = spki(t, c.keys.Sign), spki(t, c.keys.Agree)
				}
			}
		}
	})
	r.ok("", "join", "--url", r.url("server-1"), "--pin", r.pin("server-1"), "--system", r.State.System().String())
	return r
}

func (r *rig) url(server string) string { s, _ := r.State.Server(server); return s.URL }
func (r *rig) pin(server string) string { s, _ := r.State.Server(server); return s.TLS.String() }

func spki(t *testing.T, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// insert makes a card, puts it into a reader and enrols it.
func (r *rig) insert(maker *virtual.Root, reader int, serial uint32) *inserted {
	r.t.Helper()
	state, err := maker.Manufacture(rand.Reader, virtual.Profile57(), serial)
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := virtual.New(state, virtual.Config{})
	if err != nil {
		r.t.Fatal(err)
	}
	c := &inserted{slot: virtual.NewSlot(v)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { vpcd.Serve(ctx, daemon.Addr(reader), c.slot) })
	c.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(c.stop)
	within, cancelWait := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancelWait()
	if _, err := card.Wait(within, serial); err != nil {
		r.t.Fatal(err)
	}
	k, err := card.Open(within, serial, card.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer k.Close()
	if c.keys, err = k.Enrol(within, card.Enrolment{ManagementKey: virtual.DefaultManagementKey(), Now: time.Now()}); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// serial is a person's card as an argument.
func (r *rig) serial(person string) string { return fmt.Sprint(r.Persons[person].Card().Serial) }

// pins types PINs, one after the other, and counts.
type pins struct {
	give  []string
	asked []term.Ask
}

func (p *pins) Secret(_ context.Context, a term.Ask) ([]byte, error) {
	p.asked = append(p.asked, a)
	if len(p.asked) > len(p.give) {
		return nil, fmt.Errorf("asked for a PIN once too often: %s", a.Prompt)
	}
	return []byte(p.give[len(p.asked)-1]), nil
}

// ran is what one run of the program did.
type ran struct {
	code     int
	out, err string
}

// run runs the program. in is what a person at a terminal types, or nil if
// nobody is there.
func (r *rig) run(entry term.Entry, in *string, args ...string) ran {
	r.t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(""), out: &out, err: &errs, getenv: func(string) string { return "" }, now: r.Clock, rand: rand.Reader,
		entry: entry, width: 100,
	}
	if in != nil {
		a.in, a.interactive = strings.NewReader(*in), true
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	code := a.run(ctx, append([]string{"--home", r.home}, args...))
	return ran{code, out.String(), errs.String()}
}

// ok runs the program with one PIN and expects success.
func (r *rig) ok(pin string, args ...string) ran {
	r.t.Helper()
	p := &pins{give: []string{pin}}
	x := r.run(p, nil, args...)
	if x.code != exitOK {
		r.t.Fatalf("privyseal %s: exit %d\n%s%s", strings.Join(args, " "), x.code, x.out, x.err)
	}
	if len(p.asked) > 1 {
		r.t.Errorf("privyseal %s: the PIN was asked for %d times", strings.Join(args, " "), len(p.asked))
	}
	return x
}

// fails runs the program and expects an exit code and words on standard error.
func (r *rig) fails(code int, entry term.Entry, words string, args ...string) ran {
	r.t.Helper()
	x := r.run(entry, nil, args...)
	if x.code != code || !strings.Contains(x.err, words) {
		r.t.Errorf("privyseal %s: exit %d, expected %d and %q\n%s%s", strings.Join(args, " "), x.code, code, words, x.out, x.err)
	}
	return x
}

func (r *rig) nobody() term.Entry { return &pins{} }

// decode reads a run's JSON.
func decode[T any](t *testing.T, x ran) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(x.out), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, x.out)
	}
	return v
}

// file writes a file into a fresh directory.
func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// programKey is the software key of the requester "program".
func (r *rig) programKey() string {
	r.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(r.Persons[ledgertest.Program].Software)
	if err != nil {
		r.t.Fatal(err)
	}
	return file(r.t, "program.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// csr makes a request with openssl's encoding of it.
func (r *rig) csr() string {
	r.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.example.org"}}, ledgertest.NewSigner(r.t, "subject"))
	if err != nil {
		r.t.Fatal(err)
	}
	return file(r.t, "www.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// request asks for a signature as the program and returns the digest.
func (r *rig) request(args ...string) string {
	r.t.Helper()
	x := r.ok("", append([]string{"--json", "request"}, append(args, "--requester-key", r.programKey())...)...)
	return decode[submitted](r.t, x).Request.String()
}
