package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// threeSources is a policy of 2 of 3: a source of messages, a satellite and
// another device.
func threeSources() ledger.Heartbeat {
	return ledger.Heartbeat{Sources: []string{"message-1", "satellite-1", "device-2"}, Needed: 2, Period: 1000, Lease: 5000, Minimum: 1}
}

func TestRevoke(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(threeSources(), "device-1"), "officer-1a", "officer-3a", ledgertest.Operator)
	for _, id := range threeSources().Sources {
		r.AddSource(id)
	}
	revoke := func(person string, args ...string) []string {
		return append([]string{"heartbeat", "revoke", "device-1", "--reason", "lost in a train", "--card", r.serial(person)}, args...)
	}
	typed := "device-1\n"
	run := func(args ...string) ran {
		t.Helper()
		return r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, args...)
	}

	// Nothing happens before the device's name is typed, and it is said what will.
	for _, other := range []string{"", "\n", "y\n", "device-2\n"} {
		x := r.run(r.nobody(), &other, revoke("officer-1a")...)
		if x.code != exitFailed || !strings.Contains(x.err, "device-1 (Seal 1) goes on while 2 of 3 sources speak; each beat grants 5 s.") ||
			!strings.Contains(x.err, "It falls silent within 5 s of their word") || !strings.Contains(x.err, "Its officers bring it back, 2 of them") {
			t.Errorf("%q: %d\n%s", other, x.code, x.err)
		}
	}
	for id, s := range r.Sources {
		if len(s.Revoked) != 0 {
			t.Errorf("%s was told", id)
		}
	}

	// An officer silences all three.
	p := &pins{give: []string{virtual.DefaultPIN}}
	x := r.run(p, &typed, append([]string{"--json"}, revoke("officer-1a")...)...)
	got := decode[revoked](t, x)
	if x.code != exitOK || !got.Silenced || got.Confirmed != 3 || got.Until != r.Clock().Unix()+5 || len(p.asked) != 1 {
		t.Errorf("%d, asked %d times, %+v", x.code, len(p.asked), got)
	}
	for id, s := range r.Sources {
		if !slices.Equal(s.Revoked, []string{"device-1 by officer-1a: lost in a train"}) {
			t.Errorf("%s was told %q", id, s.Revoked)
		}
	}

	// An operator silences his two, which suffices; the satellite is not his.
	x = run(revoke(ledgertest.Operator)...)
	if x.code != exitOK || !strings.Contains(x.err, "left out, for you may not silence them: device-2") ||
		!strings.Contains(x.out, "device device-1 falls silent: 2 of its 3 sources beat no more and 2 are needed; it goes on until ") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}

	// One that was named is what was asked for, though it does not silence.
	x = run(revoke("officer-1a", "--source", "satellite-1")...)
	if x.code != exitOK || !strings.Contains(x.err, "That does not silence it: it goes on with the others.") ||
		!strings.Contains(x.out, "device device-1 GOES ON: message-1, device-2 can still keep it alive, and 2 of them are needed") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}

	// A word that is not the source's own does not count; nor does silence.
	r.Sources["message-1"].Signer = ledgertest.NewSigner(t, "thief")
	r.Sources["satellite-1"].Says = func(x *heartbeat.Revoked) { x.Revocation[0] ^= 1 }
	x = run(revoke("officer-1a")...)
	if x.code != exitFailed || strings.Count(x.out, "NOT CONFIRMED: ") != 2 || !strings.Contains(x.out, "device-2       confirmed, ") ||
		!strings.Contains(x.out, "device device-1 GOES ON: message-1, satellite-1 can still keep it alive") || !strings.Contains(x.err, "silence them at their machines") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
	x = run(revoke("officer-1a", "--source", "satellite-1,device-2")...)
	if x.code != exitFailed || !strings.Contains(x.out, "GOES ON") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
	delete(r.Sources, "device-2")
	x = run(append([]string{"--json"}, revoke("officer-1a")...)...)
	if got := decode[revoked](t, x); x.code != exitFailed || got.Silenced || got.Until != 0 || !strings.Contains(got.Sources[2].Error, "no link") {
		t.Errorf("%d, %+v", x.code, got)
	}

	// Refused before the card is used.
	r.fails(exitFailed, r.nobody(), "Officer 3a (officer-3a) may not silence message-1, satellite-1, device-2 for device device-1", revoke("officer-3a")...)
	r.fails(exitFailed, r.nobody(), "may not silence device-2", revoke(ledgertest.Operator, "--source", "message-1,device-2")...)
	r.fails(exitUsage, r.nobody(), `"device-3" is no source of device device-1`, revoke("officer-1a", "--source", "device-3")...)
	r.fails(exitUsage, r.nobody(), "named twice", revoke("officer-1a", "--source", "message-1,message-1")...)
	r.fails(exitUsage, r.nobody(), "needs a reason", append(revoke("officer-1a"), "--reason", " ")...)
	r.fails(exitUsage, r.nobody(), "required flag", "heartbeat", "revoke", "device-1")
	r.fails(exitUsage, r.nobody(), "there is no device", "heartbeat", "revoke", "device-9", "--reason", "x", "--card", r.serial("officer-1a"))
	r.fails(exitFailed, r.nobody(), "needs no beats", "heartbeat", "revoke", "device-2", "--reason", "x", "--card", r.serial("officer-1a"))
}

// A wrong PIN is sent once, however many sources there are.
func TestRevokeWrongPIN(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(threeSources(), "device-1"), "officer-1a")
	for _, id := range threeSources().Sources {
		r.AddSource(id)
	}
	typed := "device-1\n"
	for _, want := range []string{"2 tries left", "1 try left"} {
		p := &pins{give: []string{"654321", "654321", "654321"}}
		x := r.run(p, &typed, "heartbeat", "revoke", "device-1", "--reason", "x", "--card", r.serial("officer-1a"))
		if x.code != exitFailed || !strings.Contains(x.err, want) || len(p.asked) != 1 || strings.Contains(x.out, "device-1") {
			t.Errorf("%d, asked %d times\n%s%s", x.code, len(p.asked), x.out, x.err)
		}
	}
}

// Servers that are away keep nobody from silencing a device.
func TestRevokeWithoutServers(t *testing.T) {
	r := newRigWith(t, ledgertest.WithHeartbeat(threeSources(), "device-1"), "officer-1a")
	for _, id := range threeSources().Sources {
		r.AddSource(id)
	}
	r.Stop("server-1")
	r.Stop("server-2")
	revoke := func() ran {
		typed := "device-1\n"
		return r.run(&pins{give: []string{virtual.DefaultPIN}}, &typed, "heartbeat", "revoke", "device-1", "--reason", "x", "--card", r.serial("officer-1a"))
	}
	x := revoke()
	if x.code != exitOK || !strings.Contains(x.err, "warning: message server server-1 cannot be reached") || strings.Count(x.out, "confirmed, ") != 3 {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
	for id, s := range r.Sources {
		if !slices.Equal(s.Sites, []string{"server-3"}) {
			t.Errorf("%s was told by way of %q", id, s.Sites)
		}
	}
	for _, id := range []string{"server-3", "server-4", "server-5"} {
		r.Stop(id)
	}
	x = revoke()
	if x.code != exitFailed || strings.Count(x.out, "NOT CONFIRMED: message server server-") != 3 {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
}
