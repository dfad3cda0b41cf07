package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// What the device claims is shown before the PIN is asked for, and who takes
// back an older disk types the device's name.
func TestUnlockSaysWhatItMeans(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"), "officer-1a", "officer-2a")
	unlock := []string{"officer", "unlock", "--card", r.serial("officer-1a")}
	var before string
	var errs bytes.Buffer
	a := &app{
		in: strings.NewReader(""), out: new(bytes.Buffer), err: &errs, getenv: func(string) string { return "" }, now: r.Clock, rand: rand.Reader,
		entry: entryFunc(func() (string, error) { before = errs.String(); return "", term.ErrCancelled }),
	}
	if code := a.run(t.Context(), append([]string{"--home", r.home}, unlock...)); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(before, "device-1 (Seal 1) says: my log has 7 records, its head is 070000000000") || !strings.Contains(before, "Its beat sources know how long its log was") {
		t.Errorf("before the PIN was said:\n%s", before)
	}
	restored := append(unlock, "--restored")
	for _, typed := range []string{"", "\n", "yes\n", "device-2\n"} {
		x := r.run(r.nobody(), &typed, restored...)
		if x.code != exitFailed || !strings.Contains(x.err, "disk is older than what its beat sources have seen; whoever approves takes it back") {
			t.Errorf("%q: %d\n%s", typed, x.code, x.err)
		}
	}
	typed := "device-1\n"
	if x := r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, restored...); x.code != exitOK || !strings.Contains(x.out, "1 of 2 officers; missing: Officer 1b") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
	other := []string{"officer", "unlock", "device-2", "--card", r.serial("officer-2a")}
	r.fails(exitUsage, r.nobody(), "leave out --restored", append(other, "--restored")...)
	if x := r.ok(virtual.DefaultPIN, other...); !strings.Contains(x.err, "its disk is an older copy: ask why") {
		t.Errorf("%s", x.err)
	}
}

// A device that is open signs nothing before its first lease: the officer sees
// what it waits for, and what to do if it waits in vain.
func TestAwaitLease(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1"))
	waiting, speaks, refuses := heartbeat.StateWaiting, heartbeat.StateSpeaks, heartbeat.StateRefuses
	seen := func(st *firmware.Status) *deviceBeats {
		return &beatsOf(s.State, told(st), []string{"device-1"}).Devices[0]
	}
	locked := beating(0)
	locked.Phase = firmware.PhaseLocked
	for name, c := range map[string]struct {
		looks []*firmware.Status // the last one stays
		wait  time.Duration
		want  string // in the error, none: the lease came
		hint  string
		says  []string
	}{
		"comes": {[]*firmware.Status{beating(0, waiting, waiting, waiting), beating(0, speaks, waiting, waiting), beating(4900, speaks, speaks, waiting)}, time.Minute, "", "",
			[]string{"0 of 3 sources speak, 2 needed", "1 of 3 sources speak, 2 needed"}},
		"never":   {[]*firmware.Status{beating(0, speaks, waiting, waiting)}, time.Second, "1 of 3 sources speak, 2 are needed", "start or link its sources", nil},
		"locks":   {[]*firmware.Status{beating(0, waiting), locked}, time.Minute, "is locked and has no lease", "unlock it again", nil},
		"refused": {[]*firmware.Status{beating(0, refuses, refuses, speaks)}, time.Minute, "message-1 refuses: source message-1 was silenced", "with --restored if its disk", nil},
		// One refusal can be borne: the others are enough, if they come.
		"one refuses": {[]*firmware.Status{beating(0, refuses, waiting, speaks), beating(4900, refuses, speaks, speaks)}, time.Minute, "", "", nil},
	} {
		var errs bytes.Buffer
		a := &app{err: &errs}
		out := unlocked{Device: "device-1", Phase: firmware.PhaseReady}
		n := 0
		began := time.Now()
		err := a.awaitLease(t.Context(), &out, c.wait, func() (*deviceBeats, error) {
			st := c.looks[min(n, len(c.looks)-1)]
			n++
			return seen(st), nil
		})
		var h term.Hinter
		switch {
		case c.want == "" && (err != nil || out.Lease.Left == 0):
			t.Errorf("%s: %v, %+v", name, err, out.Lease)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &h) || !strings.Contains(h.Hint(), c.hint)):
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.says {
			if strings.Count(errs.String(), "waiting for beats: "+want) != 1 {
				t.Errorf("%s: no %q once in:\n%s", name, want, errs.String())
			}
		}
		if time.Since(began) > 30*time.Second {
			t.Errorf("%s: waited to the end for what cannot come", name)
		}
	}
	// Whoever interrupts it is told so; a server that goes away is no failure of
	// the unlocking.
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{err: new(bytes.Buffer)}
	out := unlocked{Device: "device-1", Phase: firmware.PhaseReady}
	if err := a.awaitLease(ctx, &out, time.Minute, func() (*deviceBeats, error) { cancel(); return seen(beating(0, waiting)), nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := a.awaitLease(t.Context(), &out, time.Minute, func() (*deviceBeats, error) { return nil, errors.New("away") }); err != nil {
		t.Errorf("%v", err)
	}
}

// Whoever takes an older disk back alone is told that it counts for nothing.
func TestDivided(t *testing.T) {
	for _, c := range []struct {
		have     uint64
		restored []string
		told     bool
	}{{1, nil, false}, {1, []string{"Anna"}, false}, {2, []string{"Anna"}, true}, {2, []string{"Anna", "Bert"}, false}, {2, []string{}, false}} {
		u := unlocked{Have: c.have, Restored: c.restored}
		if got := u.divided(); (got != "") != c.told || c.told && !strings.Contains(got, "only Anna took it back") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
