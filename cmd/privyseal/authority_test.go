package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestAuthority takes an authority from its plan into the ledger.
func TestAuthority(t *testing.T) {
	v := newInvitees(t)
	home := v.home(t)
	ok := func(args ...string) ran {
		t.Helper()
		x := v.run(t, home, "", args...)
		if x.code != exitOK {
			t.Fatalf("%q: exit %d\n%s%s", args, x.code, x.out, x.err)
		}
		return x
	}
	fails := func(code int, words string, args ...string) ran {
		t.Helper()
		x := v.run(t, home, "", args...)
		if x.code != code || !strings.Contains(x.err, words) {
			t.Errorf("%q: exit %d, expected %d and %q\n%s%s", args, x.code, code, words, x.out, x.err)
		}
		return x
	}
	says := func(text string, words ...string) { t.Helper(); says(t, text, words...) }

	// A plan is wrong in one line, which is named.
	for _, c := range map[string]struct{ old, new, words string }{
		"unknown field": {"need: 2\n", "need: 2\nneeds: 3\n", "line 4: needs: there is no such field here; known are enterprise, key, need"},
		"field twice":   {"need: 2\n", "need: 2\nneed: 3\n", "line 4: need: is there twice, first on line 3"},
		"no number":     {"need: 2\n", "need: two\n", `line 3: need: "two" is no whole number`},
		"quorum":        {"quorum: 2\n", "quorum: 1\n", "line 4: plan: quorum: 1 officers: at least 2"},
		"person":        {"officer-3a", "mallory", `line 23: plan: officers.4.person: the system knows no person "mallory"`},
		"reserve":       {"reserve: none\n", "reserve: nobody\n", `line 8: reserve: "nobody": write none, keep`},
		"no reserve":    {"reserve: none\n", "", "plan: reserve: say who keeps it"},
		"impossible":    {"need: 2\n", "need: 2\nsub_keys: 1\n", "cannot be had"},
	} {
		plan := file(t, "plan.yaml", []byte(strings.Replace(bank, c.old, c.new, 1)))
		fails(exitFailed, c.words, "authority", "check", plan)
	}
	plan := file(t, "plan.yaml", []byte(bank))
	says(ok("authority", "check", plan).out, "7, Example Bank", "any 2 calculators sign", "learned at most by", "WARNING", "there is no reserve")
	says(ok("authority", "show").out, "no authority in two layers")
	fails(exitUsage, "there is no authority", "authority", "show", "7")

	// A device that gives no invitation: nothing is written, and it is named.
	out := filepath.Join(t.TempDir(), "medium")
	v.sick = "device-3"
	fails(exitFailed, "no invitation of device-3", "authority", "invite", plan, "--out", out)
	if _, err := os.Stat(out); err == nil {
		t.Error("a medium was written")
	}
	v.sick = ""
	var made invited
	if err := json.Unmarshal([]byte(ok("--json", "authority", "invite", plan, "--out", out).out), &made); err != nil {
		t.Fatal(err)
	}
	if made.Key != "bank-ca" || made.Revision != 1 || len(made.Devices) != 5 || made.Expires != v.Now+3600 {
		t.Errorf("%+v", made)
	}
	fails(exitFailed, "is a medium already", "authority", "invite", plan, "--out", out)
	fails(exitFailed, "hint: carry it to the distributor: privyseal-distributor deal "+out+"\n", "authority", "install", out)
	nothere := filepath.Join(t.TempDir(), "nothere")
	fails(exitFailed, "no medium: open "+nothere+": no such file or directory\nhint: name the directory that", "authority", "install", nothere)
	fails(exitFailed, "no such file or directory\nhint: name the reviewed plan", "authority", "check", nothere)
	fails(exitFailed, "plan.yaml is no directory\nhint: nothing is overwritten", "authority", "invite", plan, "--out", plan)

	r := distribute(t, v.State, v.Persons["requester"], out, v.Now)
	v.sick = "device-2"
	x := fails(exitFailed, "device-2", "authority", "install", out)
	says(x.out, "device-1       has its share bank-ca.calculator-1, version 1", "device-2       FAILED", "it has no such one-time key")
	v.sick = ""
	x = ok("authority", "install", out)
	says(x.out, "device-2       has its share bank-ca.calculator-2, version 1")
	says(x.err, "request entry dealing "+filepath.Join(out, "dealing.cbor"))
	if len(v.got) != 5 || v.got["device-4"].Layer != ledger.LayerCombiner {
		t.Errorf("%d devices have shares", len(v.got))
	}

	// In force: everybody's home says so.
	e := v.Entry(t, v.State, ledger.KindDealing, &r.Dealing, v.Now)
	raw, err := envelope.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range v.State.Servers() {
		v.kept[s.ID] = [][]byte{raw}
	}
	x = ok("authority", "install", out) // once more, after the entry
	if strings.Contains(x.err, "not in force yet") {
		t.Error(x.err)
	}
	for _, name := range []string{"7", "bank-ca"} {
		says(ok("authority", "show", name).out, "7, Example Bank", "combiner   2    device-5 (Seal 5) at server-5", "officer-5a, card 51", "isolated     yes", "distributor  1: server-2")
	}
	says(ok("system", "show").out, "2 of 3 calculators with one combiner, two-layer", "combiner 2: device-5 (2 officers)", "privyseal authority show bank-ca")
	var views []medium.View
	if err := json.Unmarshal([]byte(ok("--json", "authority", "show").out), &views); err != nil || len(views) != 1 || len(views[0].Machines) != 5 || !*views[0].Isolated {
		t.Errorf("%v, %+v", err, views)
	}
	fails(exitFailed, "line 1: plan: enterprise.name", "authority", "invite", file(t, "plan.yaml", []byte(strings.Replace(bank, "Example Bank}", "Other Bank}", 1))), "--out", filepath.Join(t.TempDir(), "m"))

	// An extension beside one that was dealt and never entered.
	pending := func(code uint64) {
		v.status = api.SystemStatus{System: v.State.System(), Servers: []api.ServerStatus{{ID: "server-4", Devices: []api.DeviceStatus{{
			Device: "device-4", Status: &firmware.Status{Machines: []firmware.MachineStatus{{Enterprise: code, Key: "bank-ca", State: firmware.MachinePending}}},
		}}}}}
	}
	pending(7)
	says(ok("authority", "invite", plan, "--out", filepath.Join(t.TempDir(), "next")).err,
		"device-4 hold shares of", "with --abandoned now, and the ledger counts it from then on") // that deals nothing, and is only told
	pending(8)
	next := filepath.Join(t.TempDir(), "next")
	if x := ok("authority", "invite", plan, "--out", next); strings.Contains(x.err, "hold shares") {
		t.Error(x.err)
	}
	fails(exitFailed, "hint: carry it to the distributor: privyseal-distributor extend "+next+"\n", "authority", "install", next)

	// A forged dealing goes to no device.
	forged := filepath.Join(t.TempDir(), "forged")
	y, err := medium.ReadInvited(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := medium.WriteInvited(forged, y, nil); err != nil {
		t.Fatal(err)
	}
	z, err := medium.ReadDealt(out)
	if err != nil {
		t.Fatal(err)
	}
	z.Dealing.Operator = "officer-1a"
	if err := medium.WriteDealt(forged, z); err != nil {
		t.Fatal(err)
	}
	fails(exitFailed, "cannot come into force", "authority", "install", forged)

	// Tasks, as the servers tell it.
	v.tasks = api.Tasks{Sites: []api.SiteTasks{
		{Server: "server-1", Open: []api.Task{{
			Enterprise: 7, Distributor: 1, Task: 99, Request: envelope.Hash{1}, Key: "bank-ca", Expires: v.Now + 60, Devices: []string{"device-1"}, State: "calculator 1 (device-1) waits for its operators",
		}}},
		{Server: "server-2", Open: []api.Task{
			{Enterprise: 7, Distributor: 1, Task: 9, Request: envelope.Hash{3}, Key: "bank-ca", Expires: v.Now + 60, State: "in some other words"},
			{
				Enterprise: 7, Distributor: 1, Task: 99, Request: envelope.Hash{1}, Key: "bank-ca", Expires: v.Now + 60, Devices: []string{"device-2"},
				State: "calculator 10 (device-10) waits for its operators; calculator 2 (device-2) waits for its operators; combiner 1 (device-4) is confirmed and waits for powers",
			},
		}, Illegal: []api.IllegalTask{{Enterprise: 7, Distributor: 1, Task: 98, Request: envelope.Hash{2}, Device: "device-2", Why: "nobody confirmed it", Seen: v.Now}}},
		{Server: "server-3", Text: "it does not answer"},
		{Server: "server-4", Illegal: []api.IllegalTask{{Enterprise: 7, Distributor: 1, Task: 98, Request: envelope.Hash{2}, Device: "device-2", Why: "nobody confirmed it", Seen: v.Now + 1}}},
	}}
	until := timeText(v.Now + 60)
	if got, want := ok("authority", "tasks").out, `7/1/9      request 030000000000, key bank-ca, until `+until+`
           in some other words: at server-2
7/1/99     request 010000000000, key bank-ca, until `+until+`
           is confirmed and waits for powers: combiner 1 (device-4)
           waits for its operators: calculator 1 (device-1), calculator 2 (device-2), calculator 10 (device-10)
7/1/98     ILLEGAL, request 020000000000, asked of device-2, seen `+timeText(v.Now)+` by server-2, server-4: nobody confirmed it
server-3 is silent: it does not answer
`; got != want {
		t.Errorf("%s", got)
	}
	x = fails(exitFailed, "", "authority", "tasks", "--illegal")
	if strings.Contains(x.out, "7/1/99") || !strings.Contains(x.out, "7/1/98") {
		t.Errorf("%s", x.out)
	}
	all := v.tasks
	v.tasks = api.Tasks{Sites: []api.SiteTasks{{Server: "server-1"}, {Server: "server-3", Text: "it does not answer"}}}
	says(ok("authority", "tasks", "--illegal").out, "no illegal tasks at the other sites\n")
	v.tasks = api.Tasks{Sites: []api.SiteTasks{{Server: "server-1"}}}
	says(ok("authority", "tasks").out, "no tasks\n")
	v.tasks = all
	var sites []siteTasksJSON
	if err := json.Unmarshal([]byte(ok("--json", "authority", "tasks").out), &sites); err != nil || len(sites) != 4 || len(sites[1].Illegal) != 1 {
		t.Errorf("%v, %+v", err, sites)
	}
}

// TestAbandoned: an extension was dealt, a device has its share, and it was never
// entered. The next one has to count it.
func TestAbandoned(t *testing.T) {
	v := newInvitees(t)
	home := v.home(t)
	run := func(code int, typed string, args ...string) ran {
		t.Helper()
		x := v.run(t, home, typed, args...)
		if x.code != code {
			t.Fatalf("%q: exit %d, expected %d\n%s%s", args, x.code, code, x.out, x.err)
		}
		return x
	}
	says := func(text string, words ...string) { t.Helper(); says(t, text, words...) }
	kept := strings.Replace(bank, "reserve: none", "reserve: {need: 2, persons: [{person: officer-1a}, {person: officer-2a}]}", 1)
	small := kept
	for _, line := range []string{"  - {number: 2, device: device-5}\n", "  - {person: officer-5a, device: device-5}\n", "  - {person: officer-5b, device: device-5}\n"} {
		small = strings.Replace(small, line, "", 1)
	}
	redundant := func(n int) string {
		return file(t, "plan.yaml", []byte(strings.Replace(kept, "need: 2\nquorum", fmt.Sprintf("need: 2\nredundant: %d\nquorum", n), 1)))
	}
	path := func(name string) string { return filepath.Join(t.TempDir(), name) }

	first := path("first")
	run(exitOK, "", "authority", "invite", file(t, "plan.yaml", []byte(small)), "--out", first)
	r := distribute(t, v.State, v.Persons["requester"], first, v.Now)
	e := v.Entry(t, v.State, ledger.KindDealing, &r.Dealing, v.Now)
	var err error
	if v.State, err = ledger.Catchup(v.State, []ledger.SignedEntry{e}); err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range v.State.Servers() {
		v.kept[s.ID] = [][]byte{raw}
	}

	one := path("one")
	run(exitOK, "", "authority", "invite", redundant(1), "--out", one)
	lost := grow(t, v, one, r.Reserve)
	digest, err := lost.Dealing.Digest()
	if err != nil {
		t.Fatal(err)
	}
	run(exitOK, "", "authority", "install", one)
	h, ok := lost.Dealing.Key.Machine(ledger.LayerCombiner, 2)
	if !ok || h.Device != "device-5" {
		t.Fatalf("%+v", h)
	}
	pending := firmware.MachineStatus{
		Enterprise: 7, Key: "bank-ca", Share: h.Share, Layer: h.Layer, Number: h.Index, Version: h.Version, State: firmware.MachinePending, Dealing: digest,
	}
	tell := func() {
		v.status = api.SystemStatus{System: v.State.System(), Servers: []api.ServerStatus{{ID: "server-5", Devices: []api.DeviceStatus{
			{Device: "device-1"}, {Device: "device-5", Status: &firmware.Status{Machines: []firmware.MachineStatus{pending}}},
		}}}}
	}
	tell()

	// Refused, with the remedies; nothing is written.
	next := path("next")
	says(run(exitFailed, "", "authority", "invite", redundant(2), "--out", next).err, "device-5 hold shares of "+digest.String(), "--abandoned MEDIUM", "--same-plan")
	says(run(exitFailed, "", "authority", "invite", redundant(2), "--out", next, "--abandoned", next).err, "--abandoned "+next, "no such file")
	says(run(exitFailed, "", "authority", "invite", redundant(2), "--out", next, "--abandoned", file(t, "x", []byte("x"))).err, "ledger: dealing")
	says(run(exitFailed, "", "authority", "invite", redundant(2), "--out", next, "--abandoned", first).err, "it is in force: leave it out")
	if _, err := os.Stat(next); err == nil {
		t.Error("a medium was written")
	}

	// By its file or its medium: counted, shown and carried.
	for _, name := range []string{one, filepath.Join(one, medium.FileDealing)} {
		next := path("next")
		x := run(exitOK, "", "--json", "authority", "invite", redundant(2), "--out", next, "--abandoned", name)
		if made := decode[invited](t, x); !slices.Equal(made.Counted, []string{digest.String()}) || made.Revision != 2 {
			t.Errorf("%+v", made)
		}
		says(x.err, "counted", "given out and never entered", "digest "+digest.String(), "combiner 2 (device-5)")
		back, err := medium.ReadInvited(next)
		if err != nil || len(back.Abandoned) != 1 {
			t.Fatalf("%v, %d abandoned", err, len(back.Abandoned))
		}
		if got, err := back.Abandoned[0].Digest(); err != nil || got != digest {
			t.Errorf("%v, %v", got, err)
		}
	}
	says(run(exitOK, "", "authority", "check", redundant(2), "--abandoned", one).out, "counted", digest.String())

	// A medium brings what was to be counted there, too.
	two := path("two")
	run(exitOK, "", "authority", "invite", redundant(2), "--out", two, "--abandoned", one)
	grow(t, v, two, r.Reserve)
	x := run(exitOK, "", "--json", "authority", "invite", redundant(3), "--out", path("three"), "--abandoned", two)
	if made := decode[invited](t, x); len(made.Counted) != 2 || !slices.Contains(made.Counted, digest.String()) {
		t.Errorf("%+v", made)
	}

	// All is lost: the same plan, if a person says so and the devices do not object.
	says(run(exitFailed, "yes\n", "authority", "invite", redundant(1), "--out", next, "--same-plan").err, "was not typed", "may give the key away")
	run(exitOK, "bank-ca\n", "authority", "invite", redundant(1), "--out", next, "--same-plan")
	pending.Number = 3
	tell()
	says(run(exitFailed, "bank-ca\n", "authority", "invite", redundant(1), "--out", path("next"), "--same-plan").err, "not the plan", "device-5 (combiner 3, version 1)")
}

// TestRequestDealing asks for a dealing's entry, and an officer of the
// authority of the whole system looks at it.
func TestRequestDealing(t *testing.T) {
	r := newRig(t, "officer-1b")
	bundle, err := envelope.Marshal(r.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "medium")
	system, err := medium.SystemOf(bundle, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &medium.Invited{Plan: []byte(bank), System: system, Invitations: map[string][]byte{}}
	now := r.Clock().Unix()
	for i := range ledgertest.Devices {
		device := fmt.Sprintf("device-%d", i+1)
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		in := firmware.Invitation{Enterprise: 7, Device: device, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: now, Expires: now + 600}
		body, err := envelope.Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		if x.Invitations[device], err = envelope.Sign(rand.Reader, r.System.Devices[device].Sign, envelope.Header{
			Type: firmware.TypeInvitation, Version: 1, System: r.State.System(), LedgerHead: r.State.Head(), Created: in.Created, Expires: in.Expires,
		}, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := medium.WriteInvited(dir, x, nil); err != nil {
		t.Fatal(err)
	}
	distribute(t, r.State, r.Persons["requester"], dir, now)
	// These devices installed nothing, and one of them does not even answer.
	r.Sites.Devices["device-5"].Fault = coordtest.Silent
	refused := r.fails(exitFailed, r.nobody(), "would be without: device-1, device-2, device-3, device-4", "request", "entry", "dealing", dir, "--requester-key", r.programKey())
	if !strings.Contains(refused.err, "do not answer: device-5") {
		t.Error(refused.err)
	}
	for _, path := range []string{dir, filepath.Join(dir, medium.FileDealing)} {
		asked := r.ok("", "--json", "request", "entry", "dealing", path, "--incomplete", "--requester-key", r.programKey())
		digest := decode[submitted](t, asked).Request.String()
		if !strings.Contains(asked.err, "Example Bank") {
			t.Errorf("the requester is not shown what he asks for:\n%s", asked.err)
		}
		if !slices.Contains(r.Requests(), decode[submitted](t, asked).Request) {
			t.Error("no server has the request")
		}
		shown := r.ok(virtual.DefaultPIN, "officer", "show", digest, "--card", r.serial("officer-1b")).out
		for _, want := range []string{"Command 1 of the ledger: dealing", "Example Bank", "device-4"} {
			if !strings.Contains(shown, want) {
				t.Errorf("no %q in:\n%s", want, shown)
			}
		}
	}
	r.fails(exitFailed, r.nobody(), "ledger: dealing", "request", "entry", "dealing", file(t, "x", []byte("x")), "--requester-key", r.programKey())
	r.fails(exitFailed, r.nobody(), "no such file", "request", "entry", "dealing", dir+"x", "--requester-key", r.programKey())
	r.fails(exitUsage, r.nobody(), "FILE is missing", "request", "entry", "dealing")
}

// TestMachineStatus: a device says what it is in each authority, and a missing
// share stands out.
func TestMachineStatus(t *testing.T) {
	s := ledgertest.New(t)
	site := siteOf(s.State, api.ServerStatus{ID: "server-1", Devices: []api.DeviceStatus{{Device: "device-1", Status: &firmware.Status{Machines: []firmware.MachineStatus{
		{Enterprise: 7, Key: "bank-ca", Layer: ledger.LayerCalculator, Number: 3, Version: 1, State: firmware.MachineReady},
		{Enterprise: 8, Key: "other-ca", Layer: ledger.LayerCombiner, Number: 2, Version: 4, State: firmware.MachineMissing},
		{Enterprise: 9, Key: "third-ca", Layer: ledger.LayerCombiner, Number: 1, Version: 1, State: firmware.MachinePending},
	}}}}}, s.Now)
	var out bytes.Buffer
	(&app{out: &out}).printSite(site)
	for _, want := range []string{
		"calculator 3 of enterprise 7 (bank-ca), share version 1: ready",
		"combiner 2 of enterprise 8 (other-ca), share version 4: WARNING: its share is MISSING: deal it again",
		"combiner 1 of enterprise 9 (third-ca), share version 1: has its share, which the ledger does not have yet",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
