package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newAuthorityInstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "install MEDIUM",
		Short: "Hand each device the share that the distributor sealed to it",
		Long: `Hand each device the share that the distributor sealed to its one-time key. The
device checks it and stores it, and uses it when the ledger has the dealing:
privyseal request entry dealing. It may be repeated.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.install(c.Context(), args[0]) },
	}
}

// installed is what one device made of its share.
type installed struct {
	Device  string `json:"device"`
	Share   string `json:"share"`
	Version uint64 `json:"version"`
	State   string `json:"state"` // "installed", "keeps" (it gets none with this dealing) or "failed"
	Text    string `json:"text,omitempty"`
}

func (a *app) install(ctx context.Context, dir string) error {
	x, err := medium.ReadDealt(dir)
	if errors.Is(err, medium.ErrNotDealt) {
		return a.notDealt(dir, err)
	}
	if err != nil {
		return err
	}
	s, conn, err := a.online(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := a.dealable(s.State(), &x.Dealing); err != nil {
		return err
	}
	raw, err := envelope.Marshal(&x.Dealing)
	if err != nil {
		return err
	}
	out := struct {
		Enterprise uint64      `json:"enterprise"`
		Key        string      `json:"key"`
		Revision   uint64      `json:"revision"`
		Devices    []installed `json:"devices"`
	}{x.Dealing.Enterprise.Code, x.Dealing.Key.ID, x.Dealing.Revision, nil}
	var failed []string
	for _, h := range x.Dealing.Key.Holders {
		j := installed{Device: h.Device, Share: h.Share, Version: h.Version, State: "keeps"}
		if sealed, ok := x.Shares[h.Device]; ok {
			j.State = "installed"
			if err := a.installOne(ctx, conn, s.State(), h, raw, sealed); err != nil {
				if ctx.Err() != nil {
					return err
				}
				j.State, j.Text = "failed", err.Error()
				failed = append(failed, h.Device)
			}
		}
		out.Devices = append(out.Devices, j)
	}
	if err := a.result(out, func() {
		for _, j := range out.Devices {
			switch j.State {
			case "installed":
				a.say("  %-14s has its share %s, version %d", j.Device, j.Share, j.Version)
			case "keeps":
				a.say("  %-14s keeps its share %s, version %d", j.Device, j.Share, j.Version)
			default:
				a.say("  %-14s FAILED: %s", j.Device, j.Text)
			}
		}
	}); err != nil {
		return err
	}
	if len(failed) > 0 {
		return term.WithHint(fmt.Errorf("%d devices have no share of this dealing: %s", len(failed), strings.Join(failed, ", ")),
			"run it again when they answer; one that was locked or restarted since has lost its one-time key: then invite and deal again")
	}
	if d, ok := s.State().Enterprise(out.Enterprise); ok && d.Revision >= out.Revision {
		return nil
	}
	a.tell("not in force yet: privyseal request entry dealing %s", shellQuote(filepath.Join(dir, medium.FileDealing)))
	return nil
}

// notDealt says what is to be done with a medium before it is brought here.
func (a *app) notDealt(dir string, err error) error {
	verb := "deal MEDIUM, or extend MEDIUM for an authority that is in the ledger already"
	if x, e := medium.ReadInvited(dir); e == nil {
		if p, e := medium.ParsePlan(x.Plan); e == nil {
			if s, e := a.system(); e == nil {
				verb = "deal " + shellQuote(dir)
				if _, ok := s.State().Enterprise(p.Enterprise.Code); ok {
					verb = "extend " + shellQuote(dir)
				}
			}
		}
	}
	return term.WithHint(err, "carry it to the distributor: privyseal-distributor "+verb)
}

// dealable refuses a dealing that is neither in force nor can be.
func (a *app) dealable(s ledger.State, d *ledger.Dealing) error {
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	if row, ok := s.Enterprise(d.Enterprise.Code); ok {
		if known, err := row.Digest(); err == nil && known == digest {
			return nil
		}
	}
	if err := ledger.CheckDealing(s, d, max(a.now().Unix(), s.Time())); err != nil {
		return fmt.Errorf("what is on the medium cannot come into force: %w", err)
	}
	return nil
}

func (a *app) installOne(ctx context.Context, conn *client.Conn, s ledger.State, h ledger.Holder, dealing, sealed []byte) error {
	got, err := conn.InstallDealing(ctx, s, h.Device, dealing, sealed)
	if err != nil {
		return err
	}
	if got.Share != h.Share || got.Version != h.Version {
		return fmt.Errorf("it installed share %.130q, version %d", got.Share, got.Version)
	}
	return nil
}

// allInstalled asks the devices that a dealing gives shares to whether they have
// them: one that has not, when the dealing comes into force, goes without until
// it is dealt again. Who does not answer is named, and nothing more.
func (a *app) allInstalled(ctx context.Context, s *client.System, d *ledger.Dealing, incomplete bool) error {
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	conn, err := a.anyServer(ctx, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	status, err := deviceStatus(ctx, conn)
	if err != nil {
		return err
	}
	row, _ := s.State().Enterprise(d.Enterprise.Code)
	var lacking, silent []string
	for _, h := range d.Key.Holders {
		if old, ok := row.Key.Machine(h.Layer, h.Index); ok && old.Version == h.Version {
			continue // it keeps the one it has
		}
		st := status[h.Device]
		switch {
		case st == nil:
			silent = append(silent, h.Device)
		case !slices.ContainsFunc(st.Machines, func(m firmware.MachineStatus) bool { return m.Dealing == digest && m.Share == h.Share }):
			lacking = append(lacking, h.Device)
		}
	}
	if len(silent) > 0 {
		a.warn(fmt.Errorf("whether they have installed their shares is not known, as they do not answer: %s", strings.Join(silent, ", ")))
	}
	if len(lacking) == 0 {
		return nil
	}
	err = term.WithHint(fmt.Errorf("these devices have not installed their shares of this dealing, and would be without: %s", strings.Join(lacking, ", ")),
		"privyseal authority install MEDIUM; or go on with --incomplete, and deal to them again later")
	if incomplete {
		a.warn(err)
		return nil
	}
	return err
}
