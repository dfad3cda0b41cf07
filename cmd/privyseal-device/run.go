package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

func newRun() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Run the device",
		Long: `Run the device: open the token, fold the records, dial the message server.
A commissioned device starts locked; its officers open it with
'privyseal officer unlock ID'.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), dir, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the device's directory")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}

// device is the process around the interpreter.
type device struct {
	dir     string
	cfg     *config
	token   *devicetoken.Token
	machine *firmware.Machine
	journal *journal.Journal
	gate    gate
	started time.Time
	end     context.CancelCauseFunc // ends the process with a reason
	log     *slog.Logger
}

func run(ctx context.Context, dir string, log *slog.Logger) error {
	if err := harden(); err != nil {
		return fmt.Errorf("cannot protect this process's memory: %w", err)
	}
	d, err := start(dir, log)
	if err != nil {
		return err
	}
	defer d.stop()
	o, err := linkOptions(d.cfg, log)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	d.end = end
	log.Info("device runs", "id", d.cfg.ID, "phase", d.machine.Phase(), "unattended", d.machine.Unattended())
	err = link.Keep(ctx, d.cfg.Link, o, d.serve)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func linkOptions(c *config, log *slog.Logger) (link.Options, error) {
	o := link.Options{ID: c.ID, Log: log}
	for _, p := range c.Pins {
		pin, err := pinned.ParsePin(p)
		if err != nil {
			return o, fmt.Errorf("%s: %w", fileConfig, err)
		}
		o.Pins = append(o.Pins, pin)
	}
	if len(o.Pins) > 0 {
		id, err := pinned.NewIdentity()
		if err != nil {
			return o, err
		}
		o.Identity = &id
	}
	return o, nil
}

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
	d := &device{dir: dir, cfg: c, token: devicetoken.New(t), started: time.Now(), log: log}
	if err := d.begin(id); err != nil {
		t.Close()
		return nil, err
	}
	return d, nil
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
	local.Sign, local.Agree = sign, agree.PublicKey()
	d.machine, err = firmware.New(firmware.Config{
		Local: *local, Agree: agree, Boot: boot, Token: d.token, Memory: lockedMemory{},
	}, records, firmware.Inputs{Now: d.now(), Rand: rand.Reader})
	if err != nil {
		return err
	}
	return d.openWithFile()
}

// now is the machine's clock, or where it would stand by now had nobody set it
// back since the process began: a request that expired stays so.
func (d *device) now() int64 {
	return max(time.Now().Unix(), d.started.Add(time.Since(d.started)).Unix()) // Since goes by the monotonic clock
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

func (d *device) stop() {
	d.gate.close()
	if err := d.machine.LockDown(); err != nil {
		d.log.Warn("locking", "err", err)
	}
	d.token.Close()
	d.journal.Close()
}

// serve answers the messages of one link, one after the other.
func (d *device) serve(ctx context.Context, c *link.Conn) error {
	d.log.Info("link is up", "server", c.Peer())
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		if err := d.answer(ctx, c, frame); err != nil {
			return err
		}
	}
}

// answer takes one message through the interpreter and carries out what it
// decided: records first, durable; then the PIN; then the answer.
func (d *device) answer(ctx context.Context, c *link.Conn, frame []byte) error {
	before := d.machine.Commissioned()
	e := d.machine.Handle(firmware.Inputs{Now: d.now(), Rand: rand.Reader}, frame)
	if e.Note != "" {
		d.log.Info(e.Note)
	}
	for _, r := range e.Records {
		if err := d.journal.Append(r); err != nil {
			// What was decided is not on the disk: nothing of it may leave, and
			// a journal that failed once is not trusted again.
			return d.fatal(fmt.Errorf("journal: %w", err))
		}
	}
	d.machine.Durable(&e)
	if !before && d.machine.Commissioned() {
		// Decoding made copies of shares, and at the lead of everybody's seeds,
		// that nobody can wipe. The collector gives their pages back, and the
		// kernel clears them.
		debug.FreeOSMemory()
	}
	if e.SetPIN != nil {
		if err := d.commissioned(e.SetPIN); err != nil {
			return d.fatal(err)
		}
	}
	if e.Reply == nil {
		return nil
	}
	if !e.Release {
		return c.Send(ctx, e.Reply)
	}
	err := d.gate.release(func() error { return c.Send(ctx, e.Reply) })
	if errors.Is(err, errLocked) {
		d.log.Warn(err.Error())
		return nil
	}
	return err
}

func (d *device) commissioned(next []byte) error {
	defer clear(next)
	old, err := os.ReadFile(filepath.Join(d.dir, filePIN))
	if err != nil {
		return err
	}
	defer clear(old)
	return d.setPIN(old, next)
}

// fatal ends the process: the next start begins from what is durable.
func (d *device) fatal(err error) error {
	d.end(err)
	return err
}
