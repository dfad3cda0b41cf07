package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
)

func newUnlock(a *app, serial *string) *cobra.Command {
	return &cobra.Command{
		Use:   "unlock [DEVICE]",
		Short: "Say that a locked device may open its token",
		Long: `Say that a locked device may open its token, and hand over your piece of its PIN,
sealed to a key that the device made for this one unlocking. The token opens
when enough of its officers have done so. Without DEVICE it is the one that you
serve.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.unlock(c.Context(), *serial, strings.Join(args, ""))
		},
	}
}

// unlocked is the result of one word to unlock.
type unlocked struct {
	Device  string   `json:"device"`
	Have    uint64   `json:"have"`
	Need    uint64   `json:"need"`
	Missing []string `json:"missing"`
	Phase   string   `json:"phase,omitempty"` // once the quorum is complete
}

func (a *app) unlock(ctx context.Context, serial, device string) error {
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
	if err != nil {
		return err
	}
	locked, err := client.VerifyUnlockOffer(s, d.officer, device, offered, a.now().Unix())
	if err != nil {
		return err
	}
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
	out := unlocked{Device: device, Have: got.Have, Need: got.Need, Missing: got.Missing}
	if got.Status != nil {
		out.Phase = got.Status.Phase
	}
	return a.result(out, func() {
		switch {
		case out.Phase != "":
			a.say("device %s: %d of %d officers; it is %s", deviceName(dev), out.Have, out.Need, out.Phase)
		default:
			a.say("device %s: %d of %d officers; missing: %s", deviceName(dev), out.Have, out.Need, listOr(out.Missing, "nobody is left"))
		}
	})
}
