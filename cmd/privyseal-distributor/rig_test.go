package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// The tests run the program as people do, as a process of its own, with cards
// behind a real, private pcscd and a pinentry program.

var daemon *vpcd.Daemon

// TestMain is the program itself when a test starts it as one.
func TestMain(m *testing.M) {
	if root := os.Getenv("PRIVYSEAL_TEST_DISTRIBUTOR"); root != "" {
		os.Exit(start(root))
	}
	code, err := vpcd.Own(4, func(d *vpcd.Daemon) (int, error) {
		daemon = d
		return m.Run(), nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "these tests need pcscd and vsmartcard-vpcd:", err)
	}
	os.Exit(code)
}

// Who has a real card here.
var holders = []string{ledgertest.Requester, "officer-1a", "officer-2a", "officer-3a"}

// rig is a system, cards in readers, and an empty machine.
type rig struct {
	*ledgertest.System
	t        *testing.T
	now      int64
	entries  [][]byte
	oneTime  map[string]*ecdh.PrivateKey
	invited  map[string]envelope.Hash
	slots    map[string]*virtual.Slot
	home     string // of whoever runs the program: empty, and to stay so
	pinentry string
	kernel   string
}

func newRig(t *testing.T, more ...ledgertest.Option) *rig {
	t.Helper()
	r := &rig{t: t, oneTime: map[string]*ecdh.PrivateKey{}, invited: map[string]envelope.Hash{}, slots: map[string]*virtual.Slot{}, home: t.TempDir()}
	maker, err := virtual.NewRoot(rand.Reader, time.Now())
	r.check(err)
	r.System = ledgertest.New(t, append([]ledgertest.Option{ledgertest.WithDevices(7), func(g *ledger.Genesis) {
		for i, name := range holders {
			for j := range g.Persons {
				if p := &g.Persons[j]; p.ID == name {
					k := r.insert(maker, name, i, p.Cards[0].Serial)
					p.Cards[0].Sign, p.Cards[0].Agree = spki(t, k.Sign), spki(t, k.Agree)
				}
			}
		}
	}}, more...)...)
	r.now = time.Now().Unix()
	r.kernel = kernel(t, alone())
	r.pinentry = r.script("pinentry", `#!/bin/sh
echo "OK at your service"
while read -r command rest; do
  case $command in
    GETPIN) echo "D `+virtual.DefaultPIN+`"; echo OK ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
`)
	return r
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) script(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	r.check(os.WriteFile(path, []byte(text), 0o700))
	return path
}

func spki(t *testing.T, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// insert makes a card, puts it into a reader and enrols it.
func (r *rig) insert(maker *virtual.Root, person string, reader int, serial uint32) *card.Enrolled {
	r.t.Helper()
	state, err := maker.Manufacture(rand.Reader, virtual.Profile57(), serial)
	r.check(err)
	v, err := virtual.New(state, virtual.Config{})
	r.check(err)
	slot := virtual.NewSlot(v)
	r.slots[person] = slot
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { vpcd.Serve(ctx, daemon.Addr(reader), slot) })
	r.t.Cleanup(sync.OnceFunc(func() { cancel(); wg.Wait() }))
	within, stop := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer stop()
	_, err = card.Wait(within, serial)
	r.check(err)
	c, err := card.Open(within, serial, card.Options{})
	r.check(err)
	defer c.Close()
	k, err := c.Enrol(within, card.Enrolment{ManagementKey: virtual.DefaultManagementKey(), Now: time.Now()})
	r.check(err)
	return k
}

// plan is the reviewed file, with so many combiners and a line for the reserve.
func (r *rig) plan(combiners int, reserve string) string {
	text := `enterprise: {code: 7, name: Example Bank}
key: {id: bank-ca, name: Example Bank CA, bits: 2048, safe_primes: false, algorithms: [PS256], max_days: 398, root_days: 3650}
need: 2
redundant: 2
quorum: 2
pieces: 2
officer_days: 365
operator: requester
distributors:
  - {number: 1, server: server-1}
calculators:
  - {number: 1, device: device-1}
  - {number: 2, device: device-2}
  - {number: 3, device: device-3}
combiners:
`
	officers := "officers:\n"
	for i := range 3 + combiners {
		if i >= 3 {
			text += fmt.Sprintf("  - {number: %d, device: device-%d}\n", i-2, i+1)
		}
		for j, who := range "ab" {
			officers += fmt.Sprintf("  - {person: officer-%d%c, device: device-%d, card: %d%d}\n", i+1, who, i+1, i+1, j+1)
		}
	}
	return text + officers + "reserve: " + reserve + "\n"
}

const kept = "{need: 2, persons: [{person: officer-1a}, {person: officer-2a}, {person: officer-3a}]}"

// invite writes a medium as "privyseal authority invite" does.
func (r *rig) invite(plan string, abandoned ...ledger.Dealing) string {
	r.t.Helper()
	p, err := medium.ParsePlan([]byte(plan))
	r.check(err)
	bundle, err := envelope.Marshal(r.Bundle)
	r.check(err)
	system, err := medium.SystemOf(bundle, r.entries)
	r.check(err)
	x := &medium.Invited{Plan: []byte(plan), System: system, Invitations: map[string][]byte{}, Abandoned: abandoned}
	for _, d := range p.Devices() {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		r.check(err)
		in := firmware.Invitation{
			Enterprise: 7, Device: d, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: r.now, Expires: r.now + 3600,
		}
		payload, err := envelope.Marshal(&in)
		r.check(err)
		raw, err := envelope.Sign(rand.Reader, r.Devices[d].Sign, envelope.Header{
			Type: firmware.TypeInvitation, Version: 1, System: r.State.System(), LedgerHead: r.State.Head(), Created: in.Created, Expires: in.Expires,
		}, payload)
		r.check(err)
		u, err := envelope.Parse(raw)
		r.check(err)
		x.Invitations[d], r.oneTime[d], r.invited[d] = raw, key, u.UnverifiedDigest()
	}
	dir := filepath.Join(r.t.TempDir(), "medium")
	r.check(medium.WriteInvited(dir, x, nil))
	return dir
}

// ran is what one run did.
type ran struct {
	code     int
	out, err string
}

// command is the program, on the empty machine.
func (r *rig) command(typed string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	c := exec.CommandContext(r.t.Context(), os.Args[0], args...)
	c.Env = []string{
		"PRIVYSEAL_TEST_DISTRIBUTOR=" + r.kernel, "PCSCLITE_CSOCK_NAME=" + daemon.Socket, "PRIVYSEAL_PINENTRY=" + r.pinentry,
		"HOME=" + r.home, "TMPDIR=" + r.home, "XDG_CONFIG_HOME=" + r.home, "XDG_CACHE_HOME=" + r.home, "XDG_RUNTIME_DIR=" + r.home, "PATH=/usr/bin:/bin",
	}
	c.Dir, c.Stdin, c.Stdout, c.Stderr = r.home, strings.NewReader(typed), &out, &errs
	return c, &out, &errs
}

func (r *rig) run(typed string, args ...string) ran {
	r.t.Helper()
	c, out, errs := r.command(typed, args...)
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return ran{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

func (r *rig) ok(typed string, args ...string) ran {
	r.t.Helper()
	x := r.run(typed, args...)
	if x.code != command.ExitOK {
		r.t.Fatalf("%q: exit %d\n%s%s", args, x.code, x.out, x.err)
	}
	return x
}

func (r *rig) fails(code int, words, typed string, args ...string) ran {
	r.t.Helper()
	x := r.run(typed, args...)
	if x.code != code || !strings.Contains(x.err, words) {
		r.t.Errorf("%q: exit %d, expected %d and %q\n%s%s", args, x.code, code, words, x.out, x.err)
	}
	return x
}

// listing is every file below a directory, with its content.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// install does what devices and the ledger do with a medium.
func (r *rig) install(dir string) *medium.Dealt {
	r.t.Helper()
	x, err := medium.ReadDealt(dir)
	r.check(err)
	digest, err := x.Dealing.Digest()
	r.check(err)
	k := &x.Dealing.Key
	for _, h := range k.Holders {
		sealed, ok := x.Shares[h.Device]
		if !ok {
			continue
		}
		invitation := r.invited[h.Device]
		info := envelope.HashOf("privyseal dealt share v1", invitation[:], digest[:])
		plain, err := envelope.OpenWith(r.oneTime[h.Device], info[:], nil, sealed)
		r.check(err)
		var s firmware.DealtShare
		r.check(envelope.Unmarshal(plain, &s))
		if h.Layer == ledger.LayerCalculator {
			r.check(k.Layers.CheckCalculator(&k.Public, &twolayer.CalculatorShare{Number: h.Index, Keys: s.Parts}))
		} else {
			r.check(k.Layers.CheckCombiner(&k.Public, &twolayer.CombinerShare{Number: h.Index, Parts: s.Parts}))
		}
	}
	e := r.Entry(r.t, r.State, ledger.KindDealing, &x.Dealing, time.Now().Unix())
	r.State, err = ledger.Catchup(r.State, []ledger.SignedEntry{e})
	r.check(err)
	raw, err := envelope.Marshal(&e)
	r.check(err)
	r.entries = append(r.entries, raw)
	return x
}
