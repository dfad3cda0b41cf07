package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const (
	// leasePatience is how long a device that was opened has for its first lease:
	// after that it locks itself again.
	leasePatience = time.Duration(heartbeat.Grace) + 5*time.Second
	// leasePoll is the pause between two looks meanwhile.
	leasePoll = 500 * time.Millisecond
	// refusalPatience is how long sources may refuse, so many that no lease can
	// come, before the officer is told: some were perhaps asked before they heard
	// of him.
	refusalPatience = 4 * time.Second
)

func newUnlock(a *app, serial *string) *cobra.Command {
	var restored bool
	var wait time.Duration
	c := &cobra.Command{
		Use:   "unlock [DEVICE]",
		Short: "Say that a locked device may open its token",
		Long: `Say that a locked device may open its token, and hand over your piece of its PIN,
sealed to a key that the device made for this one unlocking. The token opens
when enough of its officers have done so. Without DEVICE it is the one that you
serve.

By the same word you tell the device's beat sources that this is the device: from
then on they beat for it and for no other copy. They remember how long its log
was, and refuse it if it is shorter now: then its disk is an older copy. If you
know why, for it was restored from a backup, say so with --restored; it counts if
all who unlock it do.

When the device is open the command waits for its first lease, as it signs
nothing before.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.unlock(c.Context(), *serial, strings.Join(args, ""), restored, wait)
		},
	}
	c.Flags().BoolVar(&restored, "restored", false, "take a device back whose disk is older than what its beat sources have seen")
	c.Flags().DurationVar(&wait, "wait", leasePatience, "how long to wait for the first lease")
	return c
}

// unlocked is the result of one word to unlock.
type unlocked struct {
	Device   string        `json:"device"`
	Log      uint64        `json:"log"` // records, as the device says
	LogHead  envelope.Hash `json:"log_head"`
	Have     uint64        `json:"have"`
	Need     uint64        `json:"need"`
	Missing  []string      `json:"missing"`
	Restored []string      `json:"restored"`        // who took it back
	Phase    string        `json:"phase,omitempty"` // once the quorum is complete
	Lease    *leaseJSON    `json:"lease,omitempty"` // then, of a device that needs beats
}

func (a *app) unlock(ctx context.Context, serial, device string, restored bool, wait time.Duration) error {
	d, err := a.sit(ctx, serial)
	if err != nil {
		return err
	}
	defer d.close()
	if device == "" {
		if len(d.officer.Devices) > 1 {
			return usage("you serve several devices: "+strings.Join(d.officer.Devices, ", "), "say which")
		}
		device = d.officer.Devices[0]
	}
	s := d.sys.State()
	dev, ok := s.Device(device)
	switch {
	case !ok:
		return usage(fmt.Sprintf("there is no device %q", device), "privyseal system show lists them")
	case !slices.Contains(d.officer.Devices, device):
		return fmt.Errorf("%s is an officer of %s, not of device %s", personName(s, d.officer.Person.ID), strings.Join(d.officer.Devices, ", "), device)
	case dev.Unattended:
		return fmt.Errorf("device %s is unattended: it unlocks itself", deviceName(dev))
	}
	// Asked at the device's own site, which collects the officers' words.
	server := dev.Server
	if a.server != "" {
		server = a.server
	}
	conn, ok := d.conns[server]
	if !ok {
		if conn, _, err = a.dial(ctx, d.sys, server); err != nil {
			return err
		}
		d.conns[server] = conn
	}
	offered, err := conn.UnlockAsk(ctx, device)
	if errors.As(err, new(*client.RefusedError)) {
		return term.WithHint(err, "see: privyseal status")
	}
	if err != nil {
		return err
	}
	locked, err := client.VerifyUnlockOffer(s, d.officer, device, offered, a.now().Unix())
	if err != nil {
		return err
	}
	if err := a.explainUnlock(dev, locked, restored); err != nil {
		return err
	}
	locked.Restored = restored
	why := fmt.Sprintf("%s, %s: unlock device %s", s.Name(), d.officer.Person.Name, deviceName(dev))
	var sealed []byte
	if err := a.withCard(ctx, d.officer.Card.Serial, registered(s, d.officer.Card), why, func(k client.Keys) error {
		sealed, err = locked.Approve(a.rand, s, k, server, a.now().Unix())
		return err
	}); err != nil {
		return err
	}
	got, err := conn.Unlock(ctx, sealed)
	if err != nil {
		return err
	}
	out := unlocked{
		Device: device, Log: locked.Log, LogHead: locked.LogHead,
		Have: got.Have, Need: got.Need, Missing: got.Missing, Restored: append([]string{}, got.Restored...),
	}
	var late error
	if got.Status != nil {
		out.Phase, out.Lease = got.Status.Phase, leaseOf(dev, got.Status.Lease)
		if dev.Heartbeat != nil && wait > 0 {
			late = a.awaitLease(ctx, &out, wait, func() (*deviceBeats, error) {
				b, err := a.beats(ctx, conn, s, []string{device})
				if err != nil || len(b.Devices) == 0 {
					return nil, err
				}
				return &b.Devices[0], nil
			})
		}
	}
	if err := a.result(out, func() {
		if text := out.divided(); text != "" {
			a.tell("%s", text)
		}
		switch {
		case out.Phase != "" && out.Lease != nil:
			a.say("device %s: %d of %d officers; it is %s, %s", deviceName(dev), out.Have, out.Need, out.Phase, out.Lease.text(true))
		case out.Phase != "":
			a.say("device %s: %d of %d officers; it is %s", deviceName(dev), out.Have, out.Need, out.Phase)
		default:
			a.say("device %s: %d of %d officers; missing: %s", deviceName(dev), out.Have, out.Need, listOr(out.Missing, "nobody is left"))
		}
	}); err != nil {
		return err
	}
	return late
}

// divided says that some took the device back with an older disk and others did
// not, which counts for nothing.
func (u *unlocked) divided() string {
	if n := uint64(len(u.Restored)); n == 0 || n >= u.Have {
		return ""
	}
	return fmt.Sprintf("only %s took it back with its older disk: that counts if all who unlock it say --restored", strings.Join(u.Restored, ", "))
}

// explainUnlock says, before the PIN is asked for, what the device claims and
// what the officer's word will mean.
func (a *app) explainUnlock(d ledger.Device, l *client.Locked, restored bool) error {
	if restored && d.Heartbeat == nil {
		return usage(fmt.Sprintf("device %s has no beat sources that could have seen its log", d.ID), "leave out --restored")
	}
	a.tell("%s says: my log has %d records, its head is %s", deviceName(d), l.Log, short(l.LogHead))
	a.tell("You open instance %s. The device says at its console which it is: if that is another, this is a copy.", approval.Fingerprint(l.Instance))
	if d.Heartbeat == nil {
		a.tell("If you know of a longer log ('privyseal status' shows it), its disk is an older copy: ask why before you go on.")
		return nil
	}
	if !restored {
		a.tell("Its beat sources know how long its log was. If this one is shorter its disk is an older copy, and they refuse it.")
		return nil
	}
	a.tell("--restored: you say that this device's disk is older than what its beat sources have seen; whoever approves takes it back.")
	a.tell("What it signed since then is missing in its log, and requests that it closed are open again. Go on if you know that its")
	a.tell("disk was restored, and by whom; if not, somebody may have put a copy in its place. All who unlock it must say so.")
	return term.Confirm(a.in, a.err, d.ID)
}

// awaitLease waits for the first lease of a device that was opened, and tells
// what it waits for. look is how the device is now.
func (a *app) awaitLease(ctx context.Context, out *unlocked, wait time.Duration, look func() (*deviceBeats, error)) error {
	until := time.Now().Add(wait)
	var told string
	var hopeless time.Time // since when no lease can come
	for {
		d, err := look()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			a.warn(err)
			return nil // it is open; who looks later sees its lease
		case d != nil && d.Phase != "":
			out.Phase, out.Lease = d.Phase, d.Lease
		}
		l := out.Lease
		if out.Phase != firmware.PhaseReady || l != nil && l.Left > 0 {
			break
		}
		if l != nil {
			if text := fmt.Sprintf("waiting for beats: %d of %d sources speak, %d needed", l.Speaking, l.Known, l.Needed); text != told {
				told = text
				a.tell("%s", text)
			}
		}
		switch {
		case l == nil || l.Known-uint64(len(l.refusals())) >= l.Needed:
			hopeless = time.Time{}
		case hopeless.IsZero():
			hopeless = time.Now()
		case time.Since(hopeless) >= refusalPatience:
			until = time.Time{}
		}
		if time.Until(until) <= 0 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(leasePoll):
		}
	}
	return out.noLease()
}

// refusals are what sources say that refuse to beat, a line each.
func (l *leaseJSON) refusals() []string {
	var out []string
	for _, s := range l.Sources {
		if s.State == heartbeat.StateRefuses {
			out = append(out, s.Source+" refuses: "+s.Text)
		}
	}
	return out
}

// noLease says why an open device signs nothing, and what to do; nil if it has
// a lease.
func (u *unlocked) noLease() error {
	if u.Lease != nil && u.Lease.Left > 0 {
		return nil
	}
	again := "see 'privyseal heartbeat status " + u.Device + "'; without a lease it locks itself again within a minute: start or link its sources, then unlock it again"
	if u.Lease == nil {
		return term.WithHint(fmt.Errorf("device %s is %s and has no lease: it signs nothing", u.Device, u.Phase), again)
	}
	text := fmt.Sprintf("device %s is %s and has no lease: it signs nothing; %d of %d sources speak, %d are needed", u.Device, u.Phase, u.Lease.Speaking, u.Lease.Known, u.Lease.Needed)
	refusals := u.Lease.refusals()
	if len(refusals) > 0 {
		again = "without a lease it locks itself again within a minute; then all of its officers unlock it again, " +
			"with --restored if its disk is an older copy and you know why"
	}
	return term.WithHint(errors.New(strings.Join(append([]string{text}, refusals...), "\n")), again)
}
