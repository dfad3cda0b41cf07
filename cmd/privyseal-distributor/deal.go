package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/share"
)

const afterLong = `

What is about to be dealt is shown, with the table of who learns what together.
Type the key's id to go on. The operator's card signs at the end: without it
nothing is written. A crash before that leaves nothing anywhere.`

func newDeal(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "deal MEDIUM",
		Short: "Make the key of a new authority and share it",
		Long: `Make the key of a new authority, have it sign its root certificate, share it in
two layers as the plan on the medium says, and seal each device its share. The
key is then forgotten.` + afterLong,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.deal(c.Context(), args[0]) },
	}
	a.isolationFlag(c)
	return c
}

func newExtend(a *app) *cobra.Command {
	var reserve string
	c := &cobra.Command{
		Use:   "extend MEDIUM [--reserve PATH]",
		Short: "Deal to machines that an authority gains, or take some away",
		Long: `Deal shares to calculators and combiners that the plan on the medium adds to an
authority, and leave out those that it lacks. Shares are dealt of the reserve,
which its keepers open with their cards here, one after the other; a new reserve
replaces it. Where machines are only taken away no reserve is needed.

Dealings that were given out and never came into force are on the medium, if
privyseal authority invite was told of them, and are counted: what machines know
of them and of this one together is safe. The new reserve remembers which.` + afterLong,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.extend(c.Context(), args[0], reserve) },
	}
	c.Flags().StringVar(&reserve, "reserve", "", "the newest reserve: its file, or the medium that it was dealt to")
	a.isolationFlag(c)
	return c
}

func (a *app) isolationFlag(c *cobra.Command) {
	c.Flags().BoolVar(&a.notIsolated, "not-isolated", false, "deal although this machine has a network, or may have; the ledger will say so for ever")
}

func (a *app) deal(ctx context.Context, dir string) error {
	b, d, err := a.begin(dir)
	if err != nil {
		return err
	}
	if d.Revision() != 1 {
		return term.WithHint(dealing.ErrAuthority, "privyseal-distributor extend")
	}
	if err := a.agree(b, d); err != nil {
		return err
	}
	out, err := a.work(ctx, "dealing", func(progress func(string)) (*dealing.Result, error) { return d.Deal(a.inputs(), progress) })
	if err != nil {
		return err
	}
	return a.finish(ctx, b, d, out)
}

func (a *app) extend(ctx context.Context, dir, path string) error {
	b, d, err := a.begin(dir)
	if err != nil {
		return err
	}
	if d.Revision() == 1 {
		return term.WithHint(dealing.ErrNoAuthority, "privyseal-distributor deal")
	}
	raw, reserve, err := a.reserve(b, d, path)
	if err != nil {
		return err
	}
	if err := a.agree(b, d); err != nil {
		return err
	}
	out, err := a.grow(ctx, b, d, raw, reserve)
	if err != nil {
		return err
	}
	if len(out.WrongPieces) > 0 {
		a.tell("WARNING: the pieces of %v were wrong; enough others were right", out.WrongPieces)
	}
	return a.finish(ctx, b, d, out)
}

// begin does what comes before a person is asked anything but the system's id.
func (a *app) begin(dir string) (*brought, *dealing.Prepared, error) {
	if err := a.isolated(); err != nil {
		return nil, nil, err
	}
	switch stage, err := medium.StageOf(dir); {
	case err != nil:
		return nil, nil, err
	case stage == medium.StageDealt:
		return nil, nil, term.WithHint(medium.ErrDealt, "carry it back: privyseal authority install; for another dealing take another medium")
	}
	b, err := a.read(dir, true)
	if err != nil {
		return nil, nil, err
	}
	d, err := a.prepare(b)
	return b, d, err
}

// reserve reads the reserve that an extension needs, or none.
func (a *app) reserve(b *brought, d *dealing.Prepared, path string) ([]byte, *dealing.Reserve, error) {
	switch {
	case !d.NeedsReserve() && path == "":
		return nil, nil, nil
	case !d.NeedsReserve():
		return nil, nil, errors.New("no share is dealt here, and so no reserve is opened: leave --reserve out")
	case path == "":
		return nil, nil, term.WithHint(dealing.ErrNoReserve, "name the newest with --reserve: the file, or the medium of the dealing before")
	}
	raw, err := medium.ReadReserve(path)
	if err != nil {
		return nil, nil, err
	}
	r, err := dealing.ParseReserve(raw)
	if err != nil {
		return nil, nil, err
	}
	return raw, r, d.CheckReserve(r)
}

// agree shows what is about to happen and asks for the word.
func (a *app) agree(b *brought, d *dealing.Prepared) error {
	a.print(a.err, b, medium.ViewPrepared(b.state, d))
	if a.notIsolated {
		a.tell("WARNING      the dealing will say for ever that this machine may have had a network")
	}
	a.tell("\n%s. Is this the plan that was reviewed, and the right system?", d.Searched)
	return term.Confirm(a.in, a.err, b.plan.Key.ID)
}

// work runs what takes long, with progress. Whoever interrupts it ends the
// process: nothing was written, and the kernel takes the memory back.
func (a *app) work(ctx context.Context, label string, f func(progress func(string)) (*dealing.Result, error)) (*dealing.Result, error) {
	p := term.StartProgress(a.err, a.terminal, label)
	defer p.Done()
	type result struct {
		out *dealing.Result
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := f(p.Set)
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return r.out, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// grow opens the reserve and deals of it. When the pieces do not fit, another
// keeper is asked: then the wrong one is found.
func (a *app) grow(ctx context.Context, b *brought, d *dealing.Prepared, raw []byte, reserve *dealing.Reserve) (*dealing.Result, error) {
	k := &keepers{app: a, state: b.state, reserve: reserve}
	defer k.wipe()
	for need := 0; ; need++ {
		if reserve != nil {
			if err := k.open(ctx, int(reserve.Need)+need); err != nil {
				return nil, err
			}
		}
		out, err := a.work(ctx, "dealing", func(progress func(string)) (*dealing.Result, error) {
			return d.Extend(a.inputs(), raw, k.pieces, progress)
		})
		if reserve == nil || !errors.Is(err, share.ErrWrongPieces) || len(k.used) == len(reserve.Pieces) {
			return out, err
		}
		a.tell("these pieces do not fit each other: one more is needed to tell which is wrong")
	}
}

// finish has the operator sign and writes the medium.
func (a *app) finish(ctx context.Context, b *brought, d *dealing.Prepared, out *dealing.Result) error {
	defer out.Wipe()
	if err := a.confirm(ctx, b.state, out); err != nil {
		return fmt.Errorf("not confirmed, nothing is written: %w", err)
	}
	// A cable may have been put in meanwhile.
	if err := a.isolated(); err != nil {
		return fmt.Errorf("nothing is written: %w", err)
	}
	if err := medium.WriteDealt(b.dir, &medium.Dealt{Dealing: out.Dealing, Shares: out.Sealed, Reserve: out.Reserve}); err != nil {
		return err
	}
	digest, err := out.Dealing.Digest()
	if err != nil {
		return err
	}
	done := struct {
		Enterprise uint64   `json:"enterprise"`
		Key        string   `json:"key"`
		Revision   uint64   `json:"revision"`
		Dealing    string   `json:"dealing"`
		Isolated   bool     `json:"isolated"`
		Shares     []string `json:"shares"` // devices that get one
		Reserve    bool     `json:"reserve_written"`
		Counted    []string `json:"counted"` // digests of abandoned dealings
	}{out.Dealing.Enterprise.Code, out.Dealing.Key.ID, out.Dealing.Revision, digest.String(), out.Dealing.Isolated, []string{}, out.Reserve != nil, []string{}}
	for _, x := range d.Abandoned() {
		done.Counted = append(done.Counted, x.Digest.String())
	}
	for _, h := range out.Dealing.Key.Holders {
		if out.Sealed[h.Device] != nil {
			done.Shares = append(done.Shares, h.Device)
		}
	}
	if a.json {
		if err := term.PrintJSON(a.out, done); err != nil {
			return err
		}
	} else {
		a.say("dealing %d of enterprise %d (%s), key %s", done.Revision, done.Enterprise, out.Dealing.Enterprise.Name, done.Key)
		a.say("digest %s", done.Dealing)
		for _, x := range done.Counted {
			a.say("safe beside the abandoned dealing %s", x)
		}
		a.say("%d sealed shares written to %s", len(done.Shares), b.dir)
		if out.Reserve != nil {
			a.say("reserve written to %s: copy it to a place of its own", filepath.Join(b.dir, medium.FileReserve))
		}
	}
	a.tell("shut this machine down now, and carry the medium back: privyseal authority install")
	return nil
}
