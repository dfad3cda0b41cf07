package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// start opens the token and folds the records, and finishes what a crash
// interrupted.
func start(dir string, log *slog.Logger) (*device, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c, id, err := load(dir)
	if err != nil {
		return nil, err
	}
	t, err := openToken(dir, c)
	if errors.Is(err, hsm.ErrTokenNotFound) {
		return nil, term.WithHint(err, "bring the token back; without it this device's shares are lost, and the other devices have to do")
	}
	if err != nil {
		return nil, err
	}
	d := &device{dir: dir, cfg: c, token: devicetoken.New(t), clock: newClock(), inbox: newInbox(), log: log}
	d.gate.clock = d.clock.boot
	err = d.begin(id)
	if err == nil {
		err = d.beginWatch()
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return d, nil
}

// beginWatch starts the watchdog. An error here ends the process.
func (d *device) beginWatch() (err error) {
	if d.watch, err = newWatchdog(&d.gate, d.token, d.log); err != nil {
		return err
	}
	d.watch.interrupt = d.interrupt
	d.watch.die = func(err error) {
		d.log.Error(err.Error())
		os.Exit(1) // now: nothing that stop waits for may hold up the end of the sessions
	}
	if d.ticks, err = bootclock.NewTimer(); err != nil {
		return err
	}
	go d.watch.run()
	return nil
}

func (d *device) begin(id *identity) error {
	j, records, err := journal.Open(filepath.Join(d.dir, fileJournal))
	if err != nil {
		return err
	}
	d.journal = j
	local, err := d.local(id)
	if err != nil {
		return err
	}
	sign, agree, err := d.token.Keys(id.Sign, id.Agree)
	if err != nil {
		return err
	}
	boot, err := readBootKey(d.dir)
	if err != nil {
		return err
	}
	seen, err := os.ReadFile(filepath.Join(d.dir, fileSeen))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	local.Sign, local.Agree = sign, agree.PublicKey()
	d.machine, err = firmware.New(firmware.Config{
		Local: *local, Agree: agree, Boot: boot, Token: d.token, Memory: lockedMemory{}, Seen: seen,
	}, records, d.clock.inputs())
	if err != nil {
		return err
	}
	if err := d.openWithFile(); err != nil {
		return err
	}
	if d.machine.Destroyed() {
		// The last process may have died between its record and the deed.
		if err := d.machine.Destroy(); err != nil {
			d.log.Error("the second limit has passed, and the shares are not destroyed yet", "err", err)
		}
	}
	return nil
}

func (d *device) local(id *identity) (*ceremony.Local, error) {
	l := &ceremony.Local{ID: id.ID, Serial: id.Serial, Model: id.Model, Boot: id.Boot, InToken: id.InToken}
	var err error
	if l.SignCert, err = readChain(filepath.Join(d.dir, fileSignCert)); err != nil {
		return nil, err
	}
	if l.AgreeCert, err = readChain(filepath.Join(d.dir, fileAgreeCert)); err != nil {
		return nil, err
	}
	if l.Firmware, err = firmwareHash(); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(rand.Reader, l.Instance[:])
	return l, err
}

// openWithFile unlocks the token with the PIN in the directory, which is there
// before the ceremony, and after it only where the ledger says unattended. If
// it is there otherwise, a crash interrupted the commissioning: the PIN that
// the officers hold is set now, and the file goes.
func (d *device) openWithFile() error {
	pin, err := os.ReadFile(filepath.Join(d.dir, filePIN))
	if errors.Is(err, fs.ErrNotExist) {
		if !d.machine.Commissioned() {
			return errors.New("the transport PIN is gone, but the device was never commissioned; make the device anew with 'reset' and 'init'")
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(pin)
	if err := d.token.Unlock(pin); err != nil {
		// The new PIN may have been set already; then only the file is left.
		if d.machine.Commissioned() && !d.machine.Unattended() && errors.Is(err, hsm.ErrPINIncorrect) {
			return os.Remove(filepath.Join(d.dir, filePIN))
		}
		return fmt.Errorf("the token does not open with the transport PIN: %w", err)
	}
	if !d.machine.Commissioned() || d.machine.Unattended() {
		return nil
	}
	next, err := d.machine.Finish()
	if err != nil {
		return fmt.Errorf("finishing an interrupted commissioning: %w", err)
	}
	defer clear(next)
	if err := d.setPIN(pin, next); err != nil {
		return err
	}
	return d.token.Lock() // from now on only its officers open it
}

// setPIN gives the token the PIN that its officers hold in pieces. The order
// is that of a crash: the PIN is set, then its copy in the token goes, then
// the transport PIN's file. After each of these the next start finishes.
func (d *device) setPIN(old, next []byte) error {
	if !bytes.Equal(old, next) {
		if err := d.token.SetPIN(hsm.PIN(old), hsm.PIN(next)); err != nil {
			return fmt.Errorf("setting the PIN that the officers hold: %w", err)
		}
	}
	if err := d.machine.Finished(); err != nil {
		return err
	}
	return os.Remove(filepath.Join(d.dir, filePIN))
}
