package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ebfe/scard"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// presentTimeout is how long pcscd may take to see all cards; it looks for
// them every 400 ms.
const presentTimeout = 20 * time.Second

type runFlags struct {
	cards        int
	profile      string
	socket, name string
	pcscdLog     bool
}

// runJSON is what run prints when the cards are ready.
type runJSON struct {
	Socket  string     `json:"socket"`  // for PCSCLITE_CSOCK_NAME
	Root    string     `json:"root"`    // file of the root certificate that the cards attest with
	Readers []string   `json:"readers"` // with a card each
	Serials []uint32   `json:"serials"` // of the cards, in the readers' order
	Cards   []cardJSON `json:"cards"`
}

func newRun(dir *string) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Plug cards in behind a private pcscd, until interrupted",
		Long: `Start a private pcscd, plug in cards and print, as JSON, its socket, the readers
and the cards. Programs reach the cards when PCSCLITE_CSOCK_NAME names the socket:

  PCSCLITE_CSOCK_NAME=DIR/pcscd.comm opensc-tool --list-readers

Cards are made as needed and kept in the directory, so that their serial numbers
stay. The machine's own pcscd and readers are not touched.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, *dir) },
	}
	cmd.Flags().IntVar(&f.cards, "cards", 0, fmt.Sprintf("how many cards, at most %d (default all that there are, or 1)", vpcd.MaxReaders))
	cmd.Flags().StringVar(&f.profile, "profile", "mixed", "kind of cards to make: 5.4, 5.7, or mixed, which alternates")
	cmd.Flags().StringVar(&f.socket, "socket", "", "path of the daemon's socket (default DIR/pcscd.comm)")
	cmd.Flags().StringVar(&f.name, "name", "Virtual PIV", "how the readers' names begin; some programs look for \"YubiKey\"")
	cmd.Flags().BoolVar(&f.pcscdLog, "pcscd-log", false, "show what pcscd prints")
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, path string) error {
	if f.cards < 0 || f.cards > vpcd.MaxReaders {
		return fmt.Errorf("--cards %d: a daemon has 1 to %d readers", f.cards, vpcd.MaxReaders)
	}
	path, err := filepath.Abs(path) // pcscd has another working directory
	if err != nil {
		return err
	}
	d, err := virtual.OpenDir(path, time.Now())
	if err != nil {
		return err
	}
	unlock, err := lock(path)
	if err != nil {
		return err
	}
	defer unlock()
	serials, err := f.prepare(d)
	if err != nil {
		return err
	}
	// A run that was killed left its daemon's files; the daemon died with it.
	stale, _ := filepath.Glob(filepath.Join(path, "pcscd-*"))
	for _, s := range stale {
		os.RemoveAll(s)
	}

	c := vpcd.Config{Dir: path, Readers: len(serials), Name: f.name, Socket: f.socket}
	if c.Socket == "" {
		c.Socket = filepath.Join(path, "pcscd.comm")
	}
	if f.pcscdLog {
		c.Log = cmd.ErrOrStderr()
	}
	daemon, err := c.Start()
	if err != nil {
		return err
	}
	defer daemon.Close()
	h, err := newHost(d, serials, daemon.Readers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i, slot := range h.slots {
		wg.Go(func() { _ = vpcd.Serve(ctx, daemon.Addr(i), slot) }) // ends with ctx only
	}
	if err := awaitCards(ctx, daemon); err != nil {
		return err
	}
	stop, err := h.control(ctx, path)
	if err != nil {
		return err
	}
	defer stop()

	out := runJSON{Socket: daemon.Socket, Root: d.RootPath(), Readers: daemon.Readers, Serials: serials}
	for i, serial := range serials {
		out.Cards = append(out.Cards, cardJSON{Serial: serial, Profile: h.cards[serial].Profile().Name, Reader: daemon.Readers[i], Present: true})
	}
	if err := term.PrintJSON(cmd.OutOrStdout(), out); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d cards are plugged in. Programs find them with\n  export PCSCLITE_CSOCK_NAME=%s\nInterrupt to stop.\n", len(serials), daemon.Socket)
	select {
	case <-ctx.Done():
		return nil
	case <-daemon.Done():
		return term.WithHint(errors.New("pcscd ended by itself"), "--pcscd-log shows what it says")
	}
}

// prepare returns the serial numbers of the cards to plug in, and makes those
// that are missing.
func (f *runFlags) prepare(d *virtual.Dir) ([]uint32, error) {
	serials, err := d.Serials()
	if err != nil {
		return nil, err
	}
	n := f.cards
	if n == 0 {
		n = min(max(len(serials), 1), vpcd.MaxReaders)
	}
	for i := len(serials); i < n; i++ {
		name := f.profile
		if name == "mixed" {
			name = []string{"5.7", "5.4"}[i%2]
		}
		p, err := virtual.ProfileNamed(name)
		if err != nil {
			return nil, err
		}
		serial, err := d.Create(p, 0, nil)
		if err != nil {
			return nil, err
		}
		serials = append(serials, serial)
	}
	serials = serials[:n]
	slices.Sort(serials) // as the next run will have them
	return serials, nil
}

// lock makes sure that one process alone runs the cards of a directory: two
// would overwrite each other's states.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, term.WithHint(fmt.Errorf("the cards in %s are in use", dir), "stop the other privyseal-virtualcard run, or choose another --dir")
	}
	return func() { f.Close() }, nil
}

// awaitCards waits until pcscd shows every card to its clients.
func awaitCards(ctx context.Context, d *vpcd.Daemon) error {
	// libpcsclite reads the variable at its first call, which follows.
	if err := os.Setenv("PCSCLITE_CSOCK_NAME", d.Socket); err != nil {
		return err
	}
	client, err := scard.EstablishContext()
	if err != nil {
		return fmt.Errorf("talking to pcscd: %w", err)
	}
	defer client.Release()
	for deadline := time.Now().Add(presentTimeout); ; {
		states := make([]scard.ReaderState, len(d.Readers))
		for i, r := range d.Readers {
			states[i].Reader = r
		}
		if err := client.GetStatusChange(states, 0); err != nil && err != scard.ErrTimeout {
			return fmt.Errorf("talking to pcscd: %w", err)
		}
		missing := ""
		for _, s := range states {
			if s.EventState&scard.StatePresent == 0 {
				missing = s.Reader
			}
		}
		switch {
		case missing == "":
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("pcscd sees no card in %q", missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.Done():
			return errors.New("pcscd ended by itself")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
