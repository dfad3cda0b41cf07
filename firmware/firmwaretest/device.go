// Package firmwaretest makes signing devices for tests: the real interpreter
// in front of real SoftHSM2 tokens, in this process, with a journal in memory
// that can fail and a clock that stands where the test puts it.
package firmwaretest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

// Model is the device model that the tests' manufacturer makes.
const Model = "Privyseal test device"

// Firmware is the hash that all devices report unless a test says otherwise.
var Firmware = envelope.HashOf("privyseal test firmware")

// ErrJournal is what a journal that a test broke answers.
var ErrJournal = errors.New("firmwaretest: the journal fails")

// Device is one device. Its methods may be called from several goroutines.
type Device struct {
	ID    string
	Token *hsmtest.Token
	Now   func() time.Time
	// Journal holds the durable records.
	Journal [][]byte
	// Break, if not nil, is asked before a record is written: an error kills
	// the device, with the record persisted or not.
	Break func(record []byte) (persist bool, err error)
	// Notes are what the operator would see.
	Notes []string
	// Boot is the boot-time clock, in nanoseconds; Now's if it is nil.
	Boot func() int64
	// Up is the clock that stands while the machine is suspended; Boot if it is
	// nil.
	Up func() int64
	// BeforeDestroy, if not nil, is asked when the second limit has passed and
	// the record of it is durable: an error kills the device.
	BeforeDestroy func() error
	// BeforeRelease, if not nil, is called when an answer is about to be handed
	// over, as if the process stood still there.
	BeforeRelease func()
	// Between, if not nil, is called between two pieces of work, without the
	// device's lock: it may Take, Tick, Interject, Kill and Restart.
	Between func()
	// Send, if not nil, takes the frames that answer nothing. It is called
	// without the device's lock.
	Send func(frame []byte)
	// Seen is what the device stored of those that it beats for.
	Seen []byte

	work    sync.Mutex // held for a whole message, whatever comes in between
	mu      sync.Mutex
	cfg     firmware.Config
	machine *firmware.Machine
	pin     []byte // the transport PIN, until it is replaced
	dead    bool
}

// Option changes a device before it starts.
type Option func(*firmware.Config)

// Maker is a manufacturer of devices.
type Maker struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewMaker makes a manufacturer with its own root.
func NewMaker(t testing.TB) *Maker {
	t.Helper()
	key, root := newRoot(t, "test manufacturer")
	return &Maker{root, key}
}

// New makes a device with a fresh token and keys certified by the maker.
func (m *Maker) New(t testing.TB, id string, now func() time.Time, options ...Option) *Device {
	t.Helper()
	tok := hsmtest.NewUnlocked(t)
	return m.with(t, id, now, tok, options...)
}

// NewTraced is New with a recorder of all that crosses the PKCS#11 boundary.
func (m *Maker) NewTraced(t testing.TB, id string, now func() time.Time, trace hsm.TraceFunc, options ...Option) *Device {
	t.Helper()
	tok := hsmtest.NewTraced(t, trace)
	tok.MustUnlock(t)
	return m.with(t, id, now, tok, options...)
}

func (m *Maker) with(t testing.TB, id string, now func() time.Time, tok *hsmtest.Token, options ...Option) *Device {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sign, err := tok.GenerateSigner(devicetoken.LabelSign)
	check(err)
	agree, err := tok.GenerateKeyExchanger(devicetoken.LabelAgree)
	check(err)
	check(tok.GenerateKEK(devicetoken.LabelKEKToken, hsm.InToken))
	check(tok.GenerateKEK(devicetoken.LabelKEKHost, hsm.InHost))
	check(tok.Lock())
	boot, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	bootSPKI, err := x509.MarshalPKIXPublicKey(boot.Public())
	check(err)
	signSPKI, err := x509.MarshalPKIXPublicKey(sign.Public())
	check(err)
	agreeSPKI, err := x509.MarshalPKIXPublicKey(agree.PublicKey())
	check(err)

	wrapped := devicetoken.New(tok.Token)
	check(wrapped.Unlock([]byte(hsmtest.PIN)))
	signer, exchanger, err := wrapped.Keys(signSPKI, agreeSPKI)
	check(err)
	serial := "serial-" + id
	d := &Device{ID: id, Token: tok, Now: now, pin: []byte(hsmtest.PIN), cfg: firmware.Config{
		Local: ceremony.Local{
			ID: id, Serial: serial, Model: Model, Sign: signer, Agree: exchanger.PublicKey(), Boot: bootSPKI,
			SignCert:  [][]byte{m.Certify(t, serial, sign.Public())},
			AgreeCert: [][]byte{m.Certify(t, serial, mustECDSA(t, agree.PublicKey()))},
			Firmware:  Firmware, InToken: true,
		},
		Agree: exchanger, Boot: boot, Token: wrapped, Memory: heap{},
	}}
	for _, o := range options {
		o(&d.cfg)
	}
	d.Restart(t)
	return d
}

// Restart kills the device and starts it again from its journal: memory is
// gone, and a commissioned device is locked.
func (d *Device) Restart(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.Seen = d.Seen
	if err := d.cfg.Token.KeepPIN(false, nil); err != nil { // it was in memory
		t.Fatal(err)
	}
	m, err := firmware.New(d.cfg, d.Journal, d.inputs())
	if err != nil {
		t.Fatal(err)
	}
	d.machine, d.dead = m, false
	if m.Destroyed() { // the last process may have died between its record and the deed
		if err := m.Destroy(); err != nil && !errors.Is(err, devicetoken.ErrKeysLeft) {
			t.Fatal(err)
		}
	}
	if m.Commissioned() && d.pin == nil {
		if !d.cfg.Token.Locked() {
			if err := d.cfg.Token.Lock(); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if d.cfg.Token.Locked() {
		if err := d.cfg.Token.Unlock(d.pin); err != nil {
			t.Fatal(err)
		}
	}
	if m.Commissioned() && !m.Unattended() { // a crash interrupted the commissioning
		pin, err := m.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.setPIN(pin); err != nil {
			t.Fatal(err)
		}
		if err := d.cfg.Token.Lock(); err != nil {
			t.Fatal(err)
		}
	}
}

// Machine is the interpreter.
func (d *Device) Machine() *firmware.Machine { return d.machine }

func (d *Device) inputs() firmware.Inputs {
	boot := d.Now().UnixNano()
	if d.Boot != nil {
		boot = d.Boot()
	}
	up := boot
	if d.Up != nil {
		up = d.Up()
	}
	return firmware.Inputs{Now: d.Now().Unix(), Boot: boot, Up: up, Rand: rand.Reader}
}

// Relay hands one frame to the device and returns its answer, as its link
// does: records first, then the answer, and only within the lease. Work in pieces is
// carried to its end.
func (d *Device) Relay(frame []byte) ([]byte, error) {
	d.work.Lock()
	defer d.work.Unlock()
	e, err := d.handle(frame)
	for err == nil && e.More {
		if d.Between != nil {
			d.Between()
		}
		e, err = d.step(func(in firmware.Inputs) firmware.Effects { return d.machine.Continue(in) })
	}
	if err == nil && e.Reply == nil {
		err = fmt.Errorf("firmwaretest: device %s says nothing: %v", d.ID, d.Notes[max(0, len(d.Notes)-1):])
	}
	return e.Reply, err
}

// Interject is Relay for what is handed over between two pieces of work.
func (d *Device) Interject(frame []byte) ([]byte, error) {
	e, err := d.handle(frame)
	return e.Reply, err
}

// Take hands a frame to the device that it need not answer.
func (d *Device) Take(frame []byte) error {
	_, err := d.handle(frame)
	return err
}

func (d *Device) handle(frame []byte) (firmware.Effects, error) {
	return d.step(func(in firmware.Inputs) firmware.Effects { return d.machine.Handle(in, frame) })
}

// Tick lets the device do what is due.
func (d *Device) Tick() error {
	_, err := d.step(func(in firmware.Inputs) firmware.Effects { return d.machine.Tick(in) })
	return err
}

func (d *Device) pass(frames [][]byte) {
	for _, f := range frames {
		if d.Send != nil {
			d.Send(f)
		}
	}
}

// ErrHeld is the answer to a message whose answer the release gate held back.
var ErrHeld = errors.New("firmwaretest: the answer was held back: no lease")

// step carries out what the machine decides. What it returns has the answer only
// if that was let go.
func (d *Device) step(do func(firmware.Inputs) firmware.Effects) (firmware.Effects, error) {
	e, err := d.carryOut(do)
	d.pass(e.Send)
	return e, err
}

func (d *Device) carryOut(do func(firmware.Inputs) firmware.Effects) (firmware.Effects, error) {
	none := firmware.Effects{}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return none, errors.New("firmwaretest: the device is dead")
	}
	e := do(d.inputs())
	if e.Note != "" {
		d.Notes = append(d.Notes, e.Note)
	}
	for _, r := range e.Records {
		if d.Break != nil {
			persist, err := d.Break(r)
			if persist {
				d.Journal = append(d.Journal, r)
			}
			if err != nil {
				d.dead = true
				return none, err
			}
			if persist {
				continue
			}
		}
		d.Journal = append(d.Journal, r)
	}
	d.machine.Durable(&e)
	if e.Seen != nil {
		d.Seen = e.Seen
	}
	if e.Destroy {
		if d.BeforeDestroy != nil {
			if err := d.BeforeDestroy(); err != nil {
				d.dead = true
				return none, err
			}
		}
		if err := d.machine.Destroy(); err != nil {
			return none, err
		}
	}
	if e.SetPIN != nil {
		if err := d.setPIN(e.SetPIN); err != nil {
			return none, err
		}
	}
	if d.BeforeRelease != nil && e.Release {
		d.BeforeRelease()
	}
	if l := d.machine.Lease(); e.Release && l.Guarded && d.inputs().Boot >= l.Until {
		e.Reply = nil
		return e, ErrHeld
	}
	return e, nil
}

func (d *Device) setPIN(next []byte) error {
	if err := d.token().SetPIN(hsm.PIN(d.pin), hsm.PIN(next)); err != nil {
		return err
	}
	d.pin = nil
	return d.machine.Finished()
}

// token is the token as the interpreter has it; a test may have put something
// in front of it.
func (d *Device) token() interface{ SetPIN(old, new hsm.PIN) error } {
	if t, ok := d.cfg.Token.(interface{ SetPIN(old, new hsm.PIN) error }); ok {
		return t
	}
	return d.Token
}

// Dead reports whether the device was killed, by a test or by its journal.
func (d *Device) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Kill makes the device silent until Restart.
func (d *Device) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// Certify makes a certificate of a key in a device with this serial number.
func (m *Maker) Certify(t testing.TB, serial string, pub any) []byte {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: n, Subject: pkix.Name{CommonName: Model, SerialNumber: serial},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}, m.Root, pub, m.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newRoot(t testing.TB, name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, rootTemplate(name), rootTemplate(name), key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, root
}

func rootTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func mustECDSA(t testing.TB, pub *ecdh.PublicKey) *ecdsa.PublicKey {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*ecdsa.PublicKey)
}

// heap is ordinary memory that insists on being wiped before it is freed.
type heap struct{}

func (heap) Alloc(n int) ([]byte, error) { return make([]byte, n), nil }

func (heap) Free(b []byte) {
	for _, x := range b {
		if x != 0 {
			panic("firmwaretest: a secret was freed before it was wiped")
		}
	}
}

// Copy is a second machine with the same token, disk and PIN, as a thief makes
// it who copied everything but the memory. The token is open for it when it is
// open for the original.
func (d *Device) Copy(t testing.TB) *Device {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Device{ID: d.ID, Token: d.Token, Now: d.Now, Boot: d.Boot, Up: d.Up, Journal: slices.Clone(d.Journal), Seen: d.Seen, cfg: d.cfg}
	c.cfg.Seen = d.Seen
	m, err := firmware.New(c.cfg, c.Journal, c.inputs())
	if err != nil {
		t.Fatal(err)
	}
	c.machine = m
	return c
}
