package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// awaitLeases waits until enough holders of the system-wide authority may sign.
// Devices that live on beats wait for their first ones now, and lock themselves
// if none come: the officers' approvals would be in vain.
func (a *app) awaitLeases(ctx context.Context, conn *client.Conn, s ledger.State) error {
	key, ok := s.LedgerKey()
	if !ok {
		return errors.New("the system has no system-wide authority")
	}
	var holders []string
	guarded := false
	for _, h := range key.Holders {
		holders = append(holders, h.Device)
		d, _ := s.Device(h.Device)
		guarded = guarded || d.Heartbeat != nil
	}
	if !guarded {
		return nil
	}
	var told string
	for until := time.Now().Add(leasePatience); ; {
		b, err := a.beats(ctx, conn, s, holders)
		if err != nil {
			return err
		}
		ready, waiting := b.ready()
		if uint64(ready) >= key.T {
			return nil
		}
		text := fmt.Sprintf("  waiting for beats: %d of %d devices may sign, %d needed; without: %s", ready, len(holders), key.T, strings.Join(waiting, ", "))
		if text != told {
			told = text
			a.tell("%s", text)
		}
		if time.Until(until) <= 0 {
			return term.WithHint(fmt.Errorf("%d of %d devices have no lease: %s", len(waiting), len(holders), strings.Join(waiting, ", ")),
				"start their heartbeat sources ('privyseal-heartbeat run'), have officers unlock the devices that locked themselves, and run the same command again")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(leasePoll):
		}
	}
}

// ready counts the devices that may sign, and names the others.
func (b *beatsJSON) ready() (n int, waiting []string) {
	for _, d := range b.Devices {
		if d.Phase == firmware.PhaseReady && (d.Lease == nil || d.Lease.Left > 0) {
			n++
		} else {
			waiting = append(waiting, d.Device)
		}
	}
	return n, waiting
}
