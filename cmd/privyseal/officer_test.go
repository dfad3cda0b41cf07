package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

var officersOfThree = []string{"officer-1a", "officer-1b", "officer-2a", "officer-2b", "officer-3a", "officer-3b"}

// A certificate from a CSR to OpenSSL's kind of file, with six cards.
func TestCertificateWithCards(t *testing.T) {
	r := newRig(t, officersOfThree...)
	digest := r.request("certificate", "--csr", r.csr(), "--profile", "server", "--days", "30", "--devices", "device-1,device-2,device-3")
	x := r.ok("", "request", "status", digest[:10])
	for _, want := range []string{"open", "device-2       missing: Officer 2a, Officer 2b"} {
		if !strings.Contains(x.out, want) {
			t.Errorf("status lacks %q:\n%s", want, x.out)
		}
	}
	inbox := r.ok(virtual.DefaultPIN, "officer", "inbox", "--card", r.serial("officer-1a"))
	for _, want := range []string{digest[:12], "www.example.org", "device-1 (Seal 1)", "Build program (program)"} {
		if !strings.Contains(inbox.out, want) {
			t.Errorf("inbox lacks %q:\n%s", want, inbox.out)
		}
	}
	show := r.ok(virtual.DefaultPIN, "officer", "show", digest[:12], "--card", r.serial("officer-1a"), "--public")
	for _, want := range []string{
		"Certificate for", "DNS", "www.example.org", "CSR", "signature verified", "Findings", "Build program (program), signature verified",
		"device-1 (Seal 1), its one-time key verified", "2 officers of this device", "nobody (as the message server tells it)", "Officer 1b",
	} {
		if !strings.Contains(show.out, want) {
			t.Errorf("show lacks %q:\n%s", want, show.out)
		}
	}
	for n, p := range officersOfThree {
		x := r.ok(virtual.DefaultPIN, "officer", "approve", digest, "--yes", "--card", r.serial(p))
		want := "approved, quorum reached"
		switch {
		case n%2 == 0:
			want = "approved, 1 of 2; missing: Officer " + p[8:9] + "b"
		case n == 5:
			want = "approved, quorum reached, final signature made"
		}
		if !strings.Contains(x.out, want) || !strings.Contains(x.out, "www.example.org") {
			t.Errorf("%s: no %q in:\n%s", p, want, x.out)
		}
	}
	out := filepath.Join(t.TempDir(), "cert.pem")
	x = r.ok("", "request", "status", digest[:10], "--wait", "--out", out)
	if !strings.Contains(x.out, "certificate written to "+out) {
		t.Errorf("%s", x.out)
	}
	r.fails(exitFailed, r.nobody(), "exists already", "request", "status", digest, "--out", out)
	x = r.ok("", "verify", "certificate", out)
	if !strings.Contains(x.out, "good certificate under key certs") || !strings.Contains(x.out, "openssl verify -CAfile certs.pem") {
		t.Errorf("%s", x.out)
	}
	again := decode[[]outcome](t, r.ok("", "--json", "officer", "approve", "--all", "--yes", "--card", r.serial("officer-1a")))
	if len(again) != 0 {
		t.Errorf("still asked: %+v", again)
	}
}

// busy does something else before it gives a PIN, or instead.
type busy struct {
	first func()
	pin   string
	err   error
}

func (b *busy) Secret(context.Context, term.Ask) ([]byte, error) {
	if b.first != nil {
		b.first()
		b.first = nil
	}
	return []byte(b.pin), b.err
}

// Who approves what others finished meanwhile has done nothing wrong.
func TestApproveTooLate(t *testing.T) {
	r := newRig(t, "officer-1a")
	digest := r.request("file", file(t, "a.txt", []byte("a")))
	late := &busy{pin: virtual.DefaultPIN, first: func() { r.officers("device-2", "device-3", "device-4") }}
	x := r.run(late, nil, "officer", "approve", digest, "--yes", "--card", r.serial("officer-1a"))
	if x.code != exitOK || !strings.Contains(x.out, "device-1: not needed any more: the request was signed meanwhile") {
		t.Errorf("exit %d\n%s%s", x.code, x.out, x.err)
	}
	// A rejection that comes too late is not what the officer wanted.
	digest = r.request("file", file(t, "b.txt", []byte("b")))
	late.first = func() { r.officers("device-2", "device-3", "device-4") }
	r.fails(exitFailed, late, "", "officer", "reject", digest, "--reason", "no", "--yes", "--card", r.serial("officer-1a"))
}

// An inbox that could not be read is not an empty one.
func TestInboxWithoutPIN(t *testing.T) {
	r := newRig(t, "officer-1a")
	r.request("file", file(t, "a.txt", []byte("a")))
	r.request("file", file(t, "b.txt", []byte("b")))
	broken := &busy{err: errors.New("the program that asks is broken")}
	x := r.fails(exitFailed, broken, "the program that asks is broken", "officer", "inbox", "--card", r.serial("officer-1a"))
	if x.out != "" || strings.Contains(x.err, "envelope") || strings.Count(x.err, "broken") != 1 {
		t.Errorf("%s%s", x.out, x.err)
	}
}

// Several requests, one PIN, one question.
func TestBatch(t *testing.T) {
	r := newRig(t, "officer-1a")
	var digests []string
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		digests = append(digests, r.request("file", file(t, name, []byte(name))))
	}
	approve := []string{"officer", "approve", "--all", "--card", r.serial("officer-1a")}
	for _, answer := range []string{"n\n", "\n", "", "maybe\n"} {
		p := &pins{give: []string{virtual.DefaultPIN}}
		x := r.run(p, &answer, approve...)
		if x.code != exitFailed || !strings.Contains(x.err, "approve these 3 requests? [y/N]") || !strings.Contains(x.err, "not confirmed") {
			t.Errorf("%q: %d\n%s", answer, x.code, x.err)
		}
	}
	// Nobody there to say yes is no yes, also with --json.
	r.fails(exitUsage, &pins{give: []string{virtual.DefaultPIN}}, "--yes", approve...)
	r.fails(exitUsage, &pins{give: []string{virtual.DefaultPIN}}, "--yes", append([]string{"--json"}, approve...)...)
	yes := "y\n"
	p := &pins{give: []string{virtual.DefaultPIN}}
	x := r.run(p, &yes, approve...)
	if x.code != exitOK || len(p.asked) != 1 {
		t.Fatalf("exit %d, PIN asked %d times\n%s", x.code, len(p.asked), x.err)
	}
	for _, d := range digests {
		if !strings.Contains(x.out, d[:12]+"  device-1: approved, 1 of 2; missing: Officer 1b") {
			t.Errorf("%s was not approved:\n%s", d, x.out)
		}
	}
	if !strings.Contains(p.asked[0].Text, "Officer 1a: approve requests") || p.asked[0].Prompt != "PIN of card 11" {
		t.Errorf("%+v", p.asked[0])
	}
}

// A wrong PIN is sent once, the tries left are told, nothing is approved.
func TestWrongPIN(t *testing.T) {
	r := newRig(t, "officer-1a")
	digest := r.request("file", file(t, "a.txt", []byte("a")))
	args := []string{"officer", "approve", digest, "--yes", "--card", r.serial("officer-1a")}
	for _, want := range []string{"2 tries left", "1 try left", "PIN blocked"} {
		p := &pins{give: []string{"654321"}}
		r.fails(exitFailed, p, want, args...)
		if len(p.asked) != 1 {
			t.Errorf("asked %d times", len(p.asked))
		}
	}
	r.fails(exitFailed, &pins{give: []string{virtual.DefaultPIN}}, "PIN blocked", args...)
}

// A pinentry program that is not there is said once, and is no fault of what is
// in the inbox.
func TestNoPinentry(t *testing.T) {
	r := newRig(t, "officer-1a")
	digest := r.request("file", file(t, "a.txt", []byte("a")))
	x := r.fails(exitFailed, nil, "the pinentry program cannot be started",
		"officer", "approve", digest, "--yes", "--pinentry", filepath.Join(t.TempDir(), "none"), "--card", r.serial("officer-1a"))
	if strings.Contains(x.err, "refused") {
		t.Errorf("%s", x.err)
	}
}

// What the requester wrote cannot steer the officer's terminal.
func TestHostileText(t *testing.T) {
	r := newRig(t, "officer-1a")
	path := file(t, "a.txt", []byte("one\r\x1b[2Jcleared\x07\u202etxt.exe"))
	digest := r.request("file", path, "--comment", "\x1b]0;owned\x07")
	for _, args := range [][]string{{"inbox"}, {"show", digest}, {"--json", "show", digest}, {"approve", digest, "--yes"}} {
		x := r.ok(virtual.DefaultPIN, append(append([]string{"officer"}, args...), "--card", r.serial("officer-1a"))...)
		if strings.ContainsAny(x.out+x.err, "\x1b\x07\r\u202e") {
			t.Errorf("%v: %q", args, x.out)
		}
	}
}

// A card that leaves its reader in the middle is named, and what was said
// before it left is reported.
func TestCardRemoved(t *testing.T) {
	r := newRig(t, "officer-1a")
	first := r.request("file", file(t, "a.txt", []byte("a")))
	r.request("file", file(t, "b.txt", []byte("b")))
	// The second signature in 9C never comes.
	if err := r.cards["officer-1a"].slot.Inject(virtual.Fault{
		Action: virtual.Unplug, Instruction: 0x87, P2: 0x9c, After: 1, Delay: 2 * time.Second,
	}); err != nil {
		t.Fatal(err)
	}
	x := r.fails(exitFailed, &pins{give: []string{virtual.DefaultPIN}}, "card removed",
		"officer", "approve", "--all", "--yes", "--card", r.serial("officer-1a"))
	if !strings.Contains(x.out, first[:12]+"  device-1: approved, 1 of 2") {
		t.Errorf("%s", x.out)
	}
	if !strings.Contains(x.err, "hint: insert the card and begin again") {
		t.Errorf("%s", x.err)
	}
	within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := card.Wait(within, 11); err != nil {
		t.Fatal(err)
	}
	x = r.ok(virtual.DefaultPIN, "officer", "approve", "--all", "--yes", "--card", r.serial("officer-1a"))
	if strings.Count(x.out, "approved, 1 of 2") != 1 || strings.Contains(x.out, first[:12]) {
		t.Errorf("%s", x.out)
	}
}

// An officer's own request is refused before the card is used: no PIN is asked
// for, whichever of his cards he asked with.
func TestOwnRequestWithCards(t *testing.T) {
	r := newRig(t, "officer-1a", "officer-1b")
	x := r.ok(virtual.DefaultPIN, "--json", "request", "file", file(t, "a.txt", []byte("a")), "--card", r.serial("officer-1a"), "--as", "officer-1a")
	digest := decode[submitted](t, x).Request.String()
	for _, name := range []string{digest, digest[:12]} {
		r.fails(exitFailed, r.nobody(), "Officer 1a (officer-1a) made the request and cannot approve it, on card 11 or any other",
			"officer", "approve", name, "--yes", "--card", r.serial("officer-1a"))
	}
	// Another home knows it from the servers.
	home := r.home
	r.home = filepath.Join(t.TempDir(), "other")
	r.ok("", "join", "--url", r.url("server-2"), "--pin", r.pin("server-2"), "--system", r.State.System().String())
	r.fails(exitFailed, r.nobody(), "cannot approve it", "officer", "approve", digest, "--yes", "--card", r.serial("officer-1a"))
	r.home = home
	r.ok(virtual.DefaultPIN, "officer", "approve", digest, "--yes", "--card", r.serial("officer-1b"))
	r.fails(exitFailed, r.nobody(), "belongs to officer-1a, not to officer-2a",
		"request", "file", file(t, "b.txt", []byte("b")), "--card", r.serial("officer-1a"), "--as", "officer-2a")
}

// Whoever looks for a request that is not in his inbox is told why, without
// waiting where that is no use.
func TestNotInInbox(t *testing.T) {
	r := newRig(t, "officer-1a", "officer-4a")
	digest := r.request("file", file(t, "a.txt", []byte("a")), "--devices", "device-1,device-2,device-3")
	began := time.Now()
	for _, verb := range [][]string{{"approve", "--yes"}, {"reject", "--yes", "--reason", "no"}, {"show"}} {
		r.fails(exitFailed, r.nobody(), "asks the officers of device-1, device-2, device-3; Officer 4a (officer-4a) is an officer of device-4",
			append(append([]string{"officer"}, verb...), digest, "--card", r.serial("officer-4a"))...)
	}
	approve := []string{"officer", "approve", digest, "--yes", "--card", r.serial("officer-1a")}
	x := r.ok(virtual.DefaultPIN, approve...)
	if !strings.Contains(x.out, "others who may              Officer 1b (officer-1b)\n") {
		t.Errorf("%s", x.out)
	}
	r.fails(exitFailed, r.nobody(), "you approved it for device device-1", approve...)
	if d := time.Since(began); d > arrivalPatience {
		t.Errorf("it took %v to say that waiting is in vain", d)
	}
	r.fails(exitFailed, r.nobody(), "is not in your inbox", "officer", "show", strings.Repeat("ab", 32), "--wait", "0s", "--card", r.serial("officer-1a"))
}

func TestReject(t *testing.T) {
	r := newRig(t, "officer-1a")
	digest := r.request("file", file(t, "a.txt", []byte("a")), "--devices", "device-1,device-2,device-3")
	args := []string{"officer", "reject", digest, "--yes", "--card", r.serial("officer-1a")}
	r.fails(exitUsage, r.nobody(), "needs a reason", args...)
	x := r.ok(virtual.DefaultPIN, append(args, "--reason", "not today")...)
	if !strings.Contains(x.out, "rejected") {
		t.Errorf("%s", x.out)
	}
	r.fails(exitFailed, r.nobody(), "rejected by Officer 1a (not today)", "request", "status", digest, "--wait")
}

func TestUnlockWithCards(t *testing.T) {
	r := newRig(t, "officer-1a", "officer-1b", "officer-2a")
	r.fails(exitFailed, r.nobody(), "is an officer of device-1, not of device device-2", "officer", "unlock", "device-2", "--card", r.serial("officer-1a"))
	r.fails(exitUsage, r.nobody(), "there is no device", "officer", "unlock", "device-9", "--card", r.serial("officer-1a"))
	r.fails(exitFailed, &pins{give: []string{"000000"}}, "2 tries left", "officer", "unlock", "--card", r.serial("officer-1a"))
	x := r.ok(virtual.DefaultPIN, "officer", "unlock", "--card", r.serial("officer-1a"))
	if !strings.Contains(x.out, "1 of 2 officers; missing: Officer 1b") {
		t.Errorf("%s", x.out)
	}
	got := decode[unlocked](t, r.ok(virtual.DefaultPIN, "--json", "officer", "unlock", "device-1", "--card", r.serial("officer-1b")))
	if got.Have != 2 || got.Phase != "ready" {
		t.Errorf("%+v", got)
	}
}

func TestWhichCard(t *testing.T) {
	r := newRig(t, "officer-1a", "officer-1b")
	r.fails(exitUsage, r.nobody(), "several cards are in readers: 11, 12", "officer", "inbox")
	r.fails(exitUsage, r.nobody(), "no card's serial number", "officer", "inbox", "--card", "x")
	r.fails(exitFailed, r.nobody(), "does not know it", "officer", "inbox", "--card", "424242")
	r.cards["officer-1b"].stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		x := r.run(r.nobody(), nil, "officer", "inbox")
		if x.code == exitOK && strings.Contains(x.out, "nothing to approve for Officer 1a (card 11)") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the only card is not chosen: %d\n%s%s", x.code, x.out, x.err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	r.request("file", file(t, "a.txt", []byte("a")))
	r.fails(exitFailed, r.nobody(), "card 12 not found", "officer", "inbox", "--card", "12")
}

// A server that puts something into an inbox that does not verify: the officer
// is warned, and --all does not succeed.
func TestRefusedItems(t *testing.T) {
	r := newRig(t, "officer-1a")
	r.Item = func(i *api.InboxItem) { i.Need, i.Mode = 1, "heap" }
	r.request("file", file(t, "a.txt", []byte("a")))
	x := r.ok(virtual.DefaultPIN, "officer", "inbox", "--card", r.serial("officer-1a"))
	if !strings.Contains(x.err, "an item from message server server-1 is refused") || !strings.Contains(x.out, "nothing that can be approved") {
		t.Errorf("%s%s", x.out, x.err)
	}
	r.fails(exitFailed, &pins{give: []string{virtual.DefaultPIN}}, "is refused", "officer", "approve", "--all", "--yes", "--card", r.serial("officer-1a"))
	r.Item = nil
	r.request("file", file(t, "b.txt", []byte("b")))
	x = r.fails(exitFailed, &pins{give: []string{virtual.DefaultPIN}}, "is refused", "officer", "approve", "--all", "--yes", "--card", r.serial("officer-1a"))
	if !strings.Contains(x.out, "approved, 1 of 2") {
		t.Errorf("%s", x.out)
	}
}

func TestSitesAway(t *testing.T) {
	r := newRig(t, "officer-1a")
	r.Stop("server-1")
	r.fails(exitFailed, r.nobody(), "message server server-1 cannot be reached", "officer", "inbox", "--card", r.serial("officer-1a"))
	r.fails(exitFailed, r.nobody(), "cannot be reached", "status", "--server", "server-1")
	r.ok("", "status", "--server", "server-2")
}

// entryFunc asks a function.
type entryFunc func() (string, error)

func (f entryFunc) Secret(context.Context, term.Ask) ([]byte, error) {
	pin, err := f()
	return []byte(pin), err
}

// In a chain a colleague approves between this officer's look into the inbox
// and his own word: the word is given again, over the colleague's.
func TestColleagueWasFaster(t *testing.T) {
	r := newRig(t, "officer-1b")
	digest := r.request("file", file(t, "a.txt", []byte("a")), "--mode", "chain", "--devices", "device-1,device-3,device-5")
	asked := 0
	x := r.run(entryFunc(func() (string, error) {
		asked++
		r.approve("officer-1a")
		return virtual.DefaultPIN, nil
	}), nil, "officer", "approve", digest, "--yes", "--card", r.serial("officer-1b"))
	if x.code != exitOK || asked != 1 || !strings.Contains(x.out, "device-1: approved, quorum reached; 1 of 3 devices have signed") {
		t.Errorf("%d, asked %d times\n%s%s", x.code, asked, x.out, x.err)
	}
}

// Who names a request waits for its item: in a chain it comes when the devices
// before have signed.
func TestWaitForItem(t *testing.T) {
	r := newRig(t, "officer-3a")
	digest := r.request("file", file(t, "a.txt", []byte("a")), "--mode", "chain", "--devices", "device-1,device-3,device-5")
	done := make(chan ran)
	go func() {
		done <- r.run(&pins{give: []string{virtual.DefaultPIN}}, nil, "officer", "approve", digest, "--yes", "--card", r.serial("officer-3a"))
	}()
	time.Sleep(300 * time.Millisecond)
	r.officers("device-1")
	if x := <-done; x.code != exitOK || !strings.Contains(x.out, "the partial signature of device-1 (Seal 1)") {
		t.Errorf("%d\n%s%s", x.code, x.out, x.err)
	}
	r.fails(exitFailed, r.nobody(), "is not in your inbox", "officer", "show", digest, "--wait", "0s", "--card", r.serial("officer-3a"))
}
