package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/command/commandtest"
	"github.com/privyseal/privyseal/cmd/internal/medium"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestDealAndExtend is a distributor's life: an authority is dealt, and grows.
func TestDealAndExtend(t *testing.T) {
	r := newRig(t)
	dir := r.invite(r.plan(2, kept))
	before := listing(t, dir)
	id := r.State.System().String()

	// Shown to whoever asks, and nothing done.
	x := r.ok("", "show", dir)
	for _, want := range []string{id, fmt.Sprintf("%x", sha256.Sum256([]byte(r.plan(2, kept)))), "Example Bank", "any 2 calculators sign", "device-4 (Seal 4)", "learned at most by", "any 2 of 3 open it: Officer 1a (officer-1a)", "gets its share"} {
		if !strings.Contains(x.out, want) {
			t.Errorf("show does not say %q\n%s", want, x.out)
		}
	}
	var v struct {
		Stage    medium.Stage
		Isolated *bool
		medium.View
	}
	r.check(json.Unmarshal([]byte(r.ok("", "--json", "show", dir).out), &v))
	if v.Stage != medium.StageInvited || v.Isolated != nil || len(v.Machines) != 5 || v.SubKeys != 2 || len(v.Collusion.Cells) == 0 {
		t.Errorf("%+v", v)
	}

	// Refused, and nothing written.
	r.fails(command.ExitUsage, "MEDIUM is missing\nhint: usage: privyseal-distributor deal MEDIUM", "", "deal")
	r.fails(command.ExitUsage, "hint: see: privyseal-distributor --help", "", "dael")
	if x := r.ok("", "--version"); !strings.HasPrefix(x.out, "privyseal-distributor version ") {
		t.Errorf("%q", x.out)
	}
	r.fails(command.ExitFailed, "belongs to system", "bank-ca\n", "deal", dir, "--system", strings.Repeat("ab", 32))
	r.fails(command.ExitFailed, "that is another", "0123456789\n", "deal", dir)
	r.fails(command.ExitFailed, "was not typed", id[:20]+"\nyes\n", "deal", dir)
	r.fails(command.ExitFailed, "has no authority in the ledger yet", "", "extend", dir, "--system", id)
	quiet := r.kernel
	m := alone()
	m["sys/class/net/eth0/flags"] = "0x1003\n"
	r.kernel = kernel(t, m)
	r.fails(command.ExitFailed, "interface eth0 is up", "bank-ca\n", "deal", dir, "--system", id)
	r.kernel = quiet
	for question, args := range map[string][]string{
		"from that record: ":        {"deal", dir},
		`type "bank-ca" to go on: `: {"deal", dir, "--system", id},
	} {
		c, _, _ := r.command("", args...)
		if code, screen := commandtest.CtrlC(t, c, question); code != command.ExitFailed || !strings.HasSuffix(screen, "error: interrupted\nhint: nothing was dealt: run the same command again\n") {
			t.Errorf("%q: exit %d\n%s", args, code, screen)
		}
	}
	r.slots[ledgertest.Requester].Remove()
	c, _, _ := r.command("bank-ca\n", "deal", dir, "--system", id) // killed while it waits for the operator's card
	r.check(c.Start())
	time.Sleep(1500 * time.Millisecond)
	r.check(c.Process.Kill())
	_ = c.Wait()
	r.slots[ledgertest.Requester].Reinsert()
	if !maps.Equal(listing(t, dir), before) {
		t.Fatal("a refused dealing changed the medium")
	}

	// With the cards, the word and the id.
	x = r.ok(id[:20]+"\nbank-ca\n", "deal", dir)
	if !strings.Contains(x.out, "5 sealed shares written to "+dir) || !strings.Contains(x.err, "shut this machine down now") {
		t.Errorf("%s%s", x.out, x.err)
	}
	if got := listing(t, r.home); len(got) > 0 {
		t.Errorf("left on the machine: %q", got)
	}
	after := listing(t, dir)
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s was overwritten", name)
		}
		delete(after, name)
	}
	want := []string{"DEALT.sha256", "dealing.cbor", "reserve.cbor", "root.pem"}
	for i := range 5 {
		want = append(want, fmt.Sprintf("shares/device-%d.share", i+1))
	}
	if names := slices.Sorted(maps.Keys(after)); !slices.Equal(names, want) {
		t.Errorf("on the medium: %q", names)
	}
	if out, err := exec.Command("sh", "-c", "cd '"+dir+"' && sha256sum -c --quiet --strict *.sha256").CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if out, err := exec.Command("openssl", "verify", "-CAfile", filepath.Join(dir, medium.FileRoot), filepath.Join(dir, medium.FileRoot)).CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	r.fails(command.ExitFailed, "dealt to already", "bank-ca\n", "deal", dir, "--system", id)
	x = r.ok("", "show", dir, "--system", id)
	for _, want := range []string{"isolated     yes", "SHA-256 of the public key", "any 2 of 3 open it: Officer 1a (officer-1a)"} {
		if !strings.Contains(x.out, want) {
			t.Errorf("show does not say %q\n%s", want, x.out)
		}
	}
	first := r.install(dir)
	if !first.Dealing.Isolated || first.Dealing.Revision != 1 {
		t.Errorf("%+v", first.Dealing)
	}

	// A combiner more, of the reserve, with two of the three keepers' cards, on a
	// machine that says it has a network.
	second := r.invite(r.plan(3, kept))
	r.fails(command.ExitFailed, "already", "bank-ca\n", "deal", second, "--system", id)
	r.fails(command.ExitFailed, "the reserve is needed", "bank-ca\n", "extend", second, "--system", id)
	r.slots["officer-1a"].Remove()
	defer r.slots["officer-1a"].Reinsert()
	r.kernel = kernel(t, m)
	x = r.ok("bank-ca\n", "--json", "extend", second, "--system", id, "--reserve", dir, "--not-isolated")
	var done struct {
		Revision uint64
		Isolated bool
		Shares   []string
	}
	r.check(json.Unmarshal([]byte(x.out), &done))
	if done.Revision != 2 || done.Isolated || !slices.Contains(done.Shares, "device-6") || slices.Contains(done.Shares, "device-1") {
		t.Errorf("%+v", done)
	}
	if !strings.Contains(x.err, "may have had a network") || !strings.Contains(x.err, "Officer 3a (card 31)") {
		t.Errorf("%s", x.err)
	}
	grown := r.install(second)
	if grown.Dealing.Revision != 2 || grown.Dealing.Isolated {
		t.Errorf("%+v", grown.Dealing)
	}
	if !strings.Contains(r.ok("", "show", second).out, "a machine that had a network") {
		t.Error("the network is forgotten")
	}
	if got := listing(t, r.home); len(got) > 0 {
		t.Errorf("left on the machine: %q", got)
	}

	// Taking machines away needs neither reserve nor its keepers.
	text := r.plan(3, "keep")
	for _, gone := range []string{"  - {number: 1, device: device-4}\n", "  - {person: officer-4a, device: device-4, card: 41}\n", "  - {person: officer-4b, device: device-4, card: 42}\n"} {
		text = strings.Replace(text, gone, "", 1)
	}
	third := r.invite(text)
	r.kernel = quiet
	r.ok("bank-ca\n", "extend", third, "--system", id)
	if got := r.install(third); len(got.Shares) != 0 || got.Reserve != nil || got.Dealing.Reserve == nil || len(got.Dealing.Reserve.Keepers) != 3 {
		t.Errorf("%d shares, reserve %v", len(got.Shares), got.Dealing.Reserve)
	}
}

// TestAbandoned: an extension is dealt and never entered; the next one counts it,
// says so, and has the reserve remember it.
func TestAbandoned(t *testing.T) {
	r := newRig(t)
	id := r.State.System().String()
	first := r.invite(r.plan(2, kept))
	r.ok("bank-ca\n", "deal", first, "--system", id)
	r.install(first)
	lost := r.invite(r.plan(3, kept))
	r.ok("bank-ca\n", "extend", lost, "--system", id, "--reserve", first)
	x, err := medium.ReadDealt(lost)
	r.check(err)
	digest, err := x.Dealing.Digest()
	r.check(err)

	// Another combiner, without the one that the lost extension added.
	other := r.plan(4, kept)
	for _, line := range []string{"  - {number: 3, device: device-6}\n", "  - {person: officer-6a, device: device-6, card: 61}\n", "  - {person: officer-6b, device: device-6, card: 62}\n"} {
		other = strings.Replace(other, line, "", 1)
	}
	next := r.invite(other, x.Dealing)
	for _, out := range []string{r.ok("", "show", next).out, r.run("no\n", "extend", next, "--system", id, "--reserve", first).err} {
		for _, want := range []string{"counted      revision 2 of ", "digest " + digest.String(), "combiner 3 (device-6)", "until this is in the ledger, which then counts it for ever"} {
			if !strings.Contains(out, want) {
				t.Errorf("does not say %q\n%s", want, out)
			}
		}
	}
	// It is as well kept as everything else there.
	for _, change := range []func(path string) error{
		os.Remove,
		func(path string) error { return os.WriteFile(path, []byte{0xa0}, 0o600) },
	} {
		copied := filepath.Join(t.TempDir(), "medium")
		r.check(os.CopyFS(copied, os.DirFS(next)))
		r.check(change(filepath.Join(copied, "abandoned", "01.dealing")))
		r.fails(command.ExitFailed, "abandoned/01.dealing", "bank-ca\n", "extend", copied, "--system", id, "--reserve", first)
	}
	var done struct{ Counted []string }
	r.check(json.Unmarshal([]byte(r.ok("bank-ca\n", "--json", "extend", next, "--system", id, "--reserve", first).out), &done))
	if !slices.Equal(done.Counted, []string{digest.String()}) {
		t.Errorf("counted %q", done.Counted)
	}
	r.install(next)

	// Nobody brings it again: the ledger has it, as the officers of the SWA saw.
	again := other + "redundant: 3\n"
	again = strings.Replace(again, "redundant: 2\n", "", 1)
	grown := strings.Replace(again, "  - {number: 4, device: device-7}\n", "  - {number: 4, device: device-7, again: true}\n", 1)
	if out := r.ok("", "show", next).out; !strings.Contains(out, "digest "+digest.String()) {
		t.Errorf("what was dealt does not say what it counts\n%s", out)
	}
	third := r.invite(grown)
	if out := r.ok("", "show", third).out; !strings.Contains(out, "in the ledger: "+digest.String()) {
		t.Errorf("it does not say what the ledger counts\n%s", out)
	}
	r.ok("bank-ca\n", "extend", third, "--system", id, "--reserve", next)
	if x, err := medium.ReadDealt(third); err != nil || len(x.Dealing.Counted) != 0 {
		t.Errorf("counted twice: %v", err)
	}
	r.ok("bank-ca\n", "extend", r.invite(grown, x.Dealing), "--system", id, "--reserve", next)

	// What is none of this authority is not counted.
	forged := x.Dealing
	forged.Created++
	r.fails(command.ExitFailed, "confirmation: it is of another dealing", "", "show", r.invite(grown, forged))
}

// TestTamperedMedium changes each file of a medium, and leaves some half written.
func TestTamperedMedium(t *testing.T) {
	r := newRig(t)
	id := r.State.System().String()
	text := r.plan(2, "none")
	dir := r.invite(text)
	for _, name := range slices.Sorted(maps.Keys(listing(t, dir))) {
		copied := filepath.Join(t.TempDir(), "medium")
		r.check(os.CopyFS(copied, os.DirFS(dir)))
		path := filepath.Join(copied, name)
		data, err := os.ReadFile(path)
		r.check(err)
		data[len(data)/2] ^= 1
		r.check(os.WriteFile(path, data, 0o600))
		if x := r.fails(command.ExitFailed, "", "bank-ca\n", "deal", copied, "--system", id); !strings.Contains(x.err, "sha256") && !strings.Contains(x.err, name) {
			t.Errorf("%s changed:\n%s", name, x.err)
		}
	}
	// Somebody was interrupted.
	half := filepath.Join(t.TempDir(), "medium")
	r.check(os.CopyFS(half, os.DirFS(dir)))
	r.check(os.WriteFile(filepath.Join(half, medium.FileDealing), []byte{1}, 0o600))
	x := r.fails(command.ExitFailed, "half written: dealing.cbor without DEALT.sha256", "bank-ca\n", "deal", half, "--system", id)
	if !strings.Contains(x.err, "remove these files") {
		t.Error(x.err)
	}
	if x := r.fails(command.ExitFailed, "half written", "", "show", half); !strings.Contains(x.out, "Example Bank") {
		t.Errorf("a half written medium is not shown:\n%s%s", x.out, x.err)
	}
	r.fails(command.ExitFailed, "nothing was written here", "bank-ca\n", "deal", t.TempDir(), "--system", id)
	// A plan that does not fit the system: the line is named.
	r.check(os.Remove(filepath.Join(half, medium.FileDealing)))
	wrong := r.invite(strings.Replace(text, "server-1", "server-9", 1))
	r.fails(command.ExitFailed, "plan.yaml: line 10", "bank-ca\n", "deal", wrong, "--system", id)
}
