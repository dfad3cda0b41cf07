package document

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestBackupView: officers who put a backup on record are told when the device may destroy something because of it, and not before.
func TestBackupView(t *testing.T) {
	policy := ledgertest.Policy()
	policy.Destroy = 3 * day
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy()), ledgertest.WithHeartbeat(policy, "device-1"))
	const warning = "from this command on device device-1 destroys its shares once it was powered for 3 days without beats"
	show := func(state ledger.State, kind string, body any) *View {
		t.Helper()
		entry, err := ledger.NewEntry(state, kind, body, s.Now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := CheckIn(state, swaRequest(t, s, KindEntry, entry), s.Now)
		if err != nil {
			t.Fatal(err)
		}
		return c.View()
	}
	state := s.State
	record := func(share, device string) string {
		t.Helper()
		b := ledger.Backup{Device: device, Share: share, Place: "safe 7, second vault", Tested: s.Now - 60}
		v := show(state, ledger.KindBackup, b)
		next, err := ledger.Catchup(state, []ledger.SignedEntry{s.Entry(t, state, ledger.KindBackup, b, s.Now)})
		if err != nil {
			t.Fatal(err)
		}
		// What the view says is what the tables then do.
		becomes := !state.MayDestroy(device) && next.MayDestroy(device)
		if warned := slices.Contains(v.Warnings, warning); warned != becomes {
			t.Errorf("%s: warned %v, yet the device may destroy: %v\n%s", share, warned, becomes, v)
		}
		state = next
		return strings.Join(v.Lines(1000), "\n")
	}
	contains := func(got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is missing in\n%s", w, got)
			}
		}
	}
	contains(record("swa.device-2", "device-2"), "never destroys a share")
	contains(record("swa.device-1", "device-1"), "safe 7, second vault", "swa, Test System Authority", "destroys nothing yet: no backup is on record of certs.device-1, files.device-1")
	contains(record("files.device-1", "device-1"), "no backup is on record of certs.device-1")
	contains(record("certs.device-1", "device-1"), "WARNING: "+warning, "only a maintenance notice suspends that")
	contains(record("certs.device-1", "device-1"), "after 3 days without beats, as before")

	notice := func(device string, length int64) (string, []string) {
		v := show(state, ledger.KindNotice, &ledger.Notice{Text: "power work", From: s.Now, Until: s.Now + length, Device: device})
		return v.String(), v.Warnings
	}
	text, warnings := notice("", 60)
	contains(text, "meanwhile these devices destroy nothing", "device-1")
	if len(warnings) != 0 {
		t.Errorf("a minute of maintenance: %q", warnings)
	}
	if _, warnings = notice("device-1", 365*day); len(warnings) != 1 {
		t.Errorf("a year of maintenance: %q", warnings)
	}
	if text, warnings = notice("device-2", 365*day); strings.Contains(text, "destroy") || len(warnings) != 0 {
		t.Errorf("maintenance of a device that destroys nothing:\n%s", text)
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[uint64]string{60: "1m0s", 7200: "2h0m0s", 2 * day: "2 days", 30*day + 43200: "30.5 days"} {
		if got := span(in); got != want {
			t.Errorf("%d s: %s, want %s", in, got, want)
		}
	}
}
