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
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func newAuthorityInvite(a *app) *cobra.Command {
	var o inviting
	c := &cobra.Command{
		Use:   "invite PLAN --out MEDIUM",
		Short: "Prepare a medium for the distributor: the plan, the ledger, and a one-time key of each device",
		Long: `Check a plan, ask each device that gets a share for a one-time key, and write
all that the off-line distributor needs to a medium. Carry it there:

  privyseal-distributor deal MEDIUM       for a new authority
  privyseal-distributor extend MEDIUM     for one that gains or loses machines

A device keeps its one-time key in memory: if it is locked or restarted before
privyseal authority install, invite and deal again.

An extension whose medium was dealt to, and that was then never entered, counts
for ever: a combiner with its shares of that one and of another may learn the
key. Name it with --abandoned, by its medium or its dealing.cbor; what is dealt
then is safe beside it, and once that is entered, the ledger counts it. Where it
is lost, devices cannot give it back: the very same plan may be dealt again
(--same-plan), and else a new authority is due.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.invite(c.Context(), args[0], o) },
	}
	c.Flags().StringVar(&o.out, "out", "", "directory for the medium; nothing is overwritten")
	c.Flags().StringArrayVar(&o.abandoned, "abandoned", nil, abandonedUsage)
	c.Flags().BoolVar(&o.samePlan, "same-plan", false, "devices hold shares of an extension that is lost, and this is the very plan that it was dealt by")
	_ = c.MarkFlagRequired("out")
	return c
}

const abandonedUsage = "medium or dealing.cbor of an extension that was dealt and never entered, to be counted (may be repeated)"

// inviting is what is asked of invite besides the plan.
type inviting struct {
	out       string
	abandoned []string // media or files
	samePlan  bool
}

// invited is a medium that was written.
type invited struct {
	Enterprise uint64   `json:"enterprise"`
	Key        string   `json:"key"`
	Revision   uint64   `json:"revision"`
	Devices    []string `json:"devices"` // invited: those that get a share
	Expires    int64    `json:"expires"` // when the first invitation does; 0: there is none
	Medium     string   `json:"medium"`
	Counted    []string `json:"counted"` // digests of abandoned dealings
}

func (a *app) invite(ctx context.Context, file string, o inviting) error {
	p, err := readPlan(file)
	if err != nil {
		return err
	}
	if err := freeMedium(o.out); err != nil {
		return err
	}
	if err := p.count(o.abandoned); err != nil {
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
		if err := a.unfinished(ctx, conn, p, o.samePlan); err != nil {
			return err
		}
	}
	a.tell("%s\n", strings.Join(medium.ViewPrepared(s.State(), p.draft).Lines(), "\n"))
	done := invited{Enterprise: p.plan.Enterprise.Code, Key: p.plan.Key.ID, Revision: p.draft.Revision(), Devices: []string{}, Medium: o.out, Counted: []string{}}
	system, err := medium.SystemOf(s.Bundle(), s.Entries())
	if err != nil {
		return err
	}
	x := &medium.Invited{Plan: p.raw, System: system, Invitations: map[string][]byte{}}
	for _, d := range p.draft.Abandoned() {
		if d.Dealing != nil { // else another one that is brought has all of it
			x.Abandoned = append(x.Abandoned, *d.Dealing)
		}
		done.Counted = append(done.Counted, d.Digest.String())
	}
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
	if err := a.writeInvited(o.out, x); err != nil {
		return err
	}
	return a.result(done, func() {
		a.say("%s written for %d devices of enterprise %d, system %s", o.out, len(done.Devices), done.Enterprise, s.State().System())
		verb := "deal"
		if done.Revision > 1 {
			verb = "extend"
		}
		if done.Expires > 0 {
			a.tell("carry it to the distributor, and install before %s", timeText(done.Expires))
		}
		a.tell("there: privyseal-distributor %s %s", verb, shellQuote(o.out))
	})
}

// writeInvited writes the medium, with progress: a stick is slow, and a ledger may
// be long.
func (a *app) writeInvited(dir string, x *medium.Invited) error {
	bar := term.StartProgress(a.err, a.terminal, "writing the medium")
	defer bar.Done()
	return medium.WriteInvited(dir, x, bar.Set)
}

// count reads dealings that were given out and never entered, from media or
// files.
func (p *planned) count(names []string) error {
	for _, name := range names {
		d, err := medium.ReadAbandoned(name)
		if err != nil {
			return fmt.Errorf("--abandoned %s: %w", name, err)
		}
		p.abandoned = append(p.abandoned, d...)
	}
	return nil
}

// unfinished refuses an extension while a device says that it holds a share of
// another one, which is neither in the ledger nor counted. Each is safe, and both
// need not be: a combiner with its shares of both may have the key with too few
// calculators (dealing.TestTwoExtensions). Devices that are corrupt would not say
// so; one that is honest is enough.
func (a *app) unfinished(ctx context.Context, conn *client.Conn, p *planned, samePlan bool) error {
	status, err := deviceStatus(ctx, conn)
	if err != nil {
		return err
	}
	counted := map[envelope.Hash]bool{}
	for _, d := range p.draft.Abandoned() {
		counted[d.Digest] = true
	}
	for _, c := range p.draft.Counted() {
		counted[c.Dealing] = true
	}
	holders := map[string][]string{} // by digest
	var others []string              // that this plan does not deal the same
	for _, id := range slices.Sorted(maps.Keys(status)) {
		if status[id] == nil {
			continue
		}
		for _, m := range status[id].Machines {
			if m.Enterprise != p.plan.Enterprise.Code || m.State != firmware.MachinePending || counted[m.Dealing] {
				continue
			}
			holders[m.Dealing.String()] = append(holders[m.Dealing.String()], id)
			if !deals(p.draft, id, m) {
				others = append(others, fmt.Sprintf("%s (%s %d, version %d)", id, medium.Layer(m.Layer), m.Number, m.Version))
			}
		}
	}
	if len(holders) == 0 {
		return nil
	}
	var what []string
	for _, digest := range slices.Sorted(maps.Keys(holders)) {
		what = append(what, fmt.Sprintf("%s hold shares of %s", strings.Join(holders[digest], ", "), digest))
	}
	err = term.WithHint(fmt.Errorf("an extension was dealt that is not in the ledger, and a combiner that has its shares of two extensions may learn the key: %s",
		strings.Join(what, "; ")),
		"enter it (privyseal request entry dealing MEDIUM), or have it counted: --abandoned MEDIUM, or its dealing.cbor; if that is lost: --same-plan, or a new authority")
	switch {
	case !p.draft.NeedsReserve():
		// Nothing is dealt, so nobody learns more, and a machine may have to go now.
		a.warn(err)
		a.warn(errors.New("devices drop those shares when this revision is entered: name what was given out with --abandoned now, and the ledger counts it from then on; else keep its dealing.cbor, for --abandoned with the next revision"))
		return nil
	case !samePlan:
		return err
	case len(others) > 0:
		return fmt.Errorf("this is not the plan that the lost extension was dealt by: it does not deal the same to %s", strings.Join(others, ", "))
	}
	a.warn(err)
	a.warn(errors.New("the same plan finds the same combinations, which tells nobody more; if anything in it differs, or in the software, then this may give the key away"))
	return term.Confirm(a.in, a.err, p.plan.Key.ID)
}

// deals reports whether a dealing gives a device the share that it says it has.
func deals(d *dealing.Prepared, device string, m firmware.MachineStatus) bool {
	return d.Fresh(device) && slices.ContainsFunc(d.Machines(), func(h ledger.Holder) bool {
		return h.Device == device && h.Layer == m.Layer && h.Index == m.Number && h.Version == m.Version
	})
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
