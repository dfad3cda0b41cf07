package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
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

// device is the process around the interpreter: three goroutines, of which the
// loop alone has the interpreter, the watchdog locks the token when the lease
// is over, and the third keeps and reads the link.
type device struct {
	dir     string
	cfg     *config
	token   *devicetoken.Token
	machine interpreter
	journal *journal.Journal
	log     *slog.Logger

	clock   clock
	gate    gate
	watch   *watchdog
	silent  bool // the watchdog locked the token, and nobody unlocked it since
	ticks   *bootclock.Timer
	ticked  int64 // when the interpreter was last told the time
	more    bool  // the interpreter has work under way
	between int   // messages since its last piece
	inbox   *inbox
	link    atomic.Pointer[link.Conn] // nil: there is none
	step    func(string)              // tests stop the process here
}

func run(ctx context.Context, dir string, log *slog.Logger) error {
	if err := harden(); err != nil {
		return fmt.Errorf("cannot protect this process's memory: %w", err)
	}
	debug.SetGCPercent(gcPercent)
	d, err := start(dir, log)
	if err != nil {
		return err
	}
	defer d.stop()
	return d.run(ctx)
}

// run keeps the link and works until ctx ends or something fails that the next
// start has to mend.
func (d *device) run(ctx context.Context) error {
	o, err := linkOptions(d.cfg, d.log)
	if err != nil {
		return err
	}
	d.log.Info("device runs", "id", d.cfg.ID, "phase", d.machine.Phase(), "unattended", d.machine.Unattended())
	ctx, end := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { end(link.Keep(ctx, d.cfg.Link, o, d.attach)) }) // while ctx lasts, what no redialling mends
	err = d.loop(ctx)
	end(err)
	wg.Wait()
	return err
}

// stop ends what start began. The watchdog goes last: until then the lease is
// kept, whatever the rest waits for.
func (d *device) stop() {
	d.gate.close(d.interrupt)
	if err := d.machine.LockDown(); err != nil {
		d.log.Warn("locking", "err", err)
	}
	d.watch.stop()
	d.ticks.Close()
	d.token.Close()
	d.journal.Close()
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
