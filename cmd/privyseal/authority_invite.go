package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newAuthorityInvite(a *app) *cobra.Command {
	var out string
	var beside bool
	c := &cobra.Command{
		Use:   "invite PLAN --out MEDIUM",
		Short: "Prepare a medium for the distributor: the plan, the ledger, and a one-time key of each device",
		Long: `Check a plan, ask each device that gets a share for a one-time key, and write
all that the off-line distributor needs to a medium. Carry it there:

  privyseal-distributor deal MEDIUM       for a new authority
  privyseal-distributor extend MEDIUM     for one that gains or loses machines

A device keeps its one-time key in memory: if it is locked or restarted before
privyseal authority install, invite and deal again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.invite(c.Context(), args[0], out, beside) },
	}
	c.Flags().StringVar(&out, "out", "", "directory for the medium; nothing is overwritten")
	c.Flags().BoolVar(&beside, "beside", false, "although devices hold shares of an extension that was never entered: safe for the same plan only")
	_ = c.MarkFlagRequired("out")
	return c
}

// invited is a medium that was written.
type invited struct {
	Enterprise uint64   `json:"enterprise"`
	Key        string   `json:"key"`
	Revision   uint64   `json:"revision"`
	Devices    []string `json:"devices"` // invited: those that get a share
	Expires    int64    `json:"expires"` // when the first invitation does; 0: there is none
	Medium     string   `json:"medium"`
}

func (a *app) invite(ctx context.Context, file, out string, beside bool) error {
	p, err := readPlan(file)
	if err != nil {
		return err
	}
	if err := freeMedium(out); err != nil {
		return err
	}
	// The newest ledger: what the distributor is not told it cannot heed.
	s, conn, err := a.online(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := a.prepare(p, s.State()); err != nil {
		return err
	}
	if p.draft.InForce() != nil {
		if err := a.unfinished(ctx, conn, p.plan.Enterprise.Code, beside); err != nil {
			return err
		}
	}
	a.tell("%s\n", strings.Join(medium.ViewPrepared(s.State(), p.draft).Lines(), "\n"))
	done := invited{Enterprise: p.plan.Enterprise.Code, Key: p.plan.Key.ID, Revision: p.draft.Revision(), Devices: []string{}, Medium: out}
	x := &medium.Invited{Plan: p.raw, System: medium.System{Bundle: s.Bundle(), Entries: s.Entries()}, Invitations: map[string][]byte{}}
	var failed []string
	for _, device := range p.plan.Devices() {
		if !p.draft.Fresh(device) {
			a.tell("  %s keeps its share", device)
			continue
		}
		raw, expires, err := a.inviteOne(ctx, conn, s.State(), device, done.Enterprise)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, device)
			a.warn(fmt.Errorf("%s: %w", device, err))
			continue
		}
		a.tell("  %s gave a one-time key, until %s", device, timeText(expires))
		x.Invitations[device] = raw
		done.Devices = append(done.Devices, device)
		if done.Expires == 0 || expires < done.Expires {
			done.Expires = expires
		}
	}
	if len(failed) > 0 {
		return term.WithHint(fmt.Errorf("no invitation of %s: nothing is written", strings.Join(failed, ", ")),
			"see privyseal status: have these devices unlocked and linked, then invite again")
	}
	if err := medium.WriteInvited(out, x); err != nil {
		return err
	}
	return a.result(done, func() {
		a.say("%s written for %d devices of enterprise %d, system %s", out, len(done.Devices), done.Enterprise, s.State().System())
		verb := "deal"
		if done.Revision > 1 {
			verb = "extend"
		}
		if done.Expires > 0 {
			a.tell("carry it to the distributor, and install before %s", timeText(done.Expires))
		}
		a.tell("there: privyseal-distributor %s %s", verb, shellQuote(out))
	})
}

// unfinished refuses an extension while a device says that it holds a share of
// another one, which is not in the ledger. Each is safe, and both need not be: a
// combiner with its shares of both may have the key with too few calculators
// (grouping.TestTwoExtensionsTellMoreThanOne). Devices that are corrupt would not
// say so; one that is honest is enough.
func (a *app) unfinished(ctx context.Context, conn *client.Conn, code uint64, beside bool) error {
	status, err := deviceStatus(ctx, conn)
	if err != nil {
		return err
	}
	var holders []string
	for _, id := range slices.Sorted(maps.Keys(status)) {
		if st := status[id]; st != nil && slices.ContainsFunc(st.Machines, func(m firmware.MachineStatus) bool {
			return m.Enterprise == code && m.State == firmware.MachinePending
		}) {
			holders = append(holders, id)
		}
	}
	if len(holders) == 0 {
		return nil
	}
	err = term.WithHint(fmt.Errorf("an extension was dealt that is not in the ledger: %s hold shares of it, and a combiner that has its shares of two extensions may learn the key",
		strings.Join(holders, ", ")),
		"enter that one: privyseal request entry dealing MEDIUM; if it is lost, deal the very same plan again with --beside")
	if beside {
		a.warn(err)
		return nil
	}
	return err
}

// inviteOne asks one device, and verifies its invitation as the distributor will.
func (a *app) inviteOne(ctx context.Context, conn *client.Conn, s ledger.State, device string, code uint64) ([]byte, int64, error) {
	raw, err := conn.Invite(ctx, s, device, code)
	if err != nil {
		return nil, 0, err
	}
	v, err := firmware.VerifyInvitation(s, raw, a.now().Unix())
	if err != nil {
		return nil, 0, err
	}
	in := v.Invitation()
	if in.Device != device || in.Enterprise != code {
		return nil, 0, fmt.Errorf("the invitation is of device %s for enterprise %d", in.Device, in.Enterprise)
	}
	return raw, in.Expires, nil
}

// online is the home's system with the newest ledger, and a server that answers.
func (a *app) online(ctx context.Context) (*client.System, *client.Conn, error) {
	s, err := a.system()
	if err != nil {
		return nil, nil, err
	}
	conn, err := a.anyServer(ctx, s)
	return s, conn, err
}

// deviceStatus is what every device says of itself; nil for one that is silent.
func deviceStatus(ctx context.Context, conn *client.Conn) (map[string]*firmware.Status, error) {
	got, err := conn.Status(ctx)
	if err != nil {
		return nil, err
	}
	status := map[string]*firmware.Status{}
	for _, x := range got.Servers {
		for _, d := range x.Devices {
			status[d.Device] = d.Status
		}
	}
	return status, nil
}

// anyServer is a connection to a server that answers.
func (a *app) anyServer(ctx context.Context, s *client.System) (*client.Conn, error) {
	conn, err := a.dialAny(ctx, s)
	if err == nil && conn == nil {
		err = term.WithHint(errors.New("no message server can be reached"), "start one, or name it with --server")
	}
	return conn, err
}
