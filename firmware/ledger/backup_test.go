package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// destroying is the test system with a policy for every device, of which device-1 may destroy its shares.
func destroying(t testing.TB) *ledgertest.System {
	t.Helper()
	h := ledgertest.Policy()
	h.Destroy = 86400
	return ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy()), ledgertest.WithHeartbeat(h, "device-1"))
}

func fold(t testing.TB, s *ledgertest.System, state ledger.State, kind string, body any, created int64) ledger.State {
	t.Helper()
	next, err := ledger.Catchup(state, []ledger.SignedEntry{s.Entry(t, state, kind, body, created)})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestBackupRefuses(t *testing.T) {
	s := destroying(t)
	good := ledger.Backup{Device: "device-1", Share: "swa.device-1", Place: "safe 7", Tested: s.Now - 60}
	state := fold(t, s, s.State, ledger.KindBackup, &good, s.Now)
	for _, c := range []struct {
		name string
		edit func(*ledger.Backup)
		want string
	}{
		{"no device", func(b *ledger.Backup) { b.Device = "" }, `device "" is unknown`},
		{"unknown device", func(b *ledger.Backup) { b.Device = "device-9" }, `device "device-9" is unknown`},
		{"no share", func(b *ledger.Backup) { b.Share = "" }, `holds no share ""`},
		{"share of another device", func(b *ledger.Backup) { b.Share = "swa.device-2" }, `device "device-1" holds no share "swa.device-2"`},
		{"key for share", func(b *ledger.Backup) { b.Share = "swa" }, "holds no share"},
		{"no place", func(b *ledger.Backup) { b.Place = "" }, "place is empty"},
		{"place of two lines", func(b *ledger.Backup) { b.Place = "a\nb" }, "unprintable"},
		{"place too long", func(b *ledger.Backup) { b.Place = strings.Repeat("x", 129) }, "place has 129 bytes"},
		{"never tested", func(b *ledger.Backup) { b.Tested = 0 }, "tested at 0, not between"},
		{"tested before the ceremony", func(b *ledger.Backup) { b.Tested = ledgertest.Epoch - 601 }, "not between the ceremony"},
		{"tested tomorrow", func(b *ledger.Backup) { b.Tested = s.Now + 1 }, "and this entry"},
		{"tested before the record", func(b *ledger.Backup) { b.Tested = good.Tested - 1 }, "an older one replaces nothing"},
	} {
		b := good
		c.edit(&b)
		raw, err := envelope.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		x := edited(t, s, state, func(e *ledger.Entry) { e.Kind, e.Body = ledger.KindBackup, raw })
		if _, err := ledger.VerifyEntry(state, x); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "entry 2, backup") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The body of one kind is not that of another.
	x := edited(t, s, state, func(e *ledger.Entry) { e.Kind = ledger.KindBackup })
	if _, err := ledger.VerifyEntry(state, x); err == nil || !strings.Contains(err.Error(), "entry 2, backup") {
		t.Error("a notice as a backup:", err)
	}
}

// A device may destroy when the last of its shares is on record, and every branch of the chain has its own records.
func TestMayDestroy(t *testing.T) {
	s := destroying(t)
	state := s.State
	backup := func(device, share, place string, tested int64) *ledger.Backup {
		return &ledger.Backup{Device: device, Share: share, Place: place, Tested: tested}
	}
	for i, share := range []string{"files.device-1", "swa.device-1", "certs.device-1"} {
		if state.MayDestroy("device-1") {
			t.Fatalf("may destroy with %d of 3 backups", i)
		}
		if got := len(state.MissingBackups("device-1")); got != 3-i {
			t.Fatalf("%d backups are missing, not %d", got, 3-i)
		}
		before := state
		state = fold(t, s, state, ledger.KindBackup, backup("device-1", share, "safe", s.Now), s.Now)
		other := fold(t, s, before, ledger.KindBackup, backup("device-2", share[:len(share)-1]+"2", "safe", s.Now), s.Now)
		if other.MayDestroy("device-1") || len(before.Backups("device-1")) != i || len(other.Backups("device-1")) != i {
			t.Fatal("a record of one branch is in another")
		}
	}
	if !state.MayDestroy("device-1") {
		t.Fatal("may not destroy with all backups")
	}
	for _, share := range []string{"files.device-2", "swa.device-2", "certs.device-2"} {
		state = fold(t, s, state, ledger.KindBackup, backup("device-2", share, "safe", s.Now), s.Now)
	}
	if state.MayDestroy("device-2") || state.MayDestroy("device-9") || state.MayDestroy("") {
		t.Fatal("may destroy against its policy")
	}
	// A newer test replaces the record of the older one, in its place.
	state = fold(t, s, state, ledger.KindBackup, backup("device-1", "files.device-1", "another safe", s.Now+5), s.Now+5)
	want := []ledger.Backup{*backup("device-1", "certs.device-1", "safe", s.Now), *backup("device-1", "files.device-1", "another safe", s.Now+5),
		*backup("device-1", "swa.device-1", "safe", s.Now)}
	if got := state.Backups("device-1"); !slices.Equal(got, want) {
		t.Errorf("backups %+v", got)
	}
	got := state.Backups("device-1")
	got[0].Share = ""
	if !state.MayDestroy("device-1") {
		t.Error("a caller changed the state")
	}
	state = fold(t, s, state, ledger.KindNotice, &ledger.Notice{Text: "power work", From: s.Now + 10, Until: s.Now + 20, Device: "device-1"}, s.Now+5)
	for at, want := range map[int64]bool{s.Now + 9: false, s.Now + 10: true, s.Now + 19: true, s.Now + 20: false} {
		if state.Maintained("device-1", at) != want || state.Maintained("device-2", at) {
			t.Errorf("maintained at %+d", at-s.Now)
		}
	}
	if !state.MayDestroy("device-1") {
		t.Error("a notice is no answer to whether the device may ever destroy")
	}
}

// Whatever policies and backups there are: if the genesis is valid, and all devices that may destroy their shares do so, enough shares of
// every key remain. And every genesis of which that can be said is valid, so that the rule forbids nothing else.
func TestDestructionNeverLosesAKey(t *testing.T) {
	base := ledgertest.Unsigned(t)
	rapid.Check(t, func(t *rapid.T) {
		s := base.Genesis
		s.Devices = slices.Clone(s.Devices)
		s.Sources = nil
		ledgertest.WithHeartbeat(ledgertest.Policy())(&s)
		destroyers := 0
		for i := range s.Devices {
			if rapid.Bool().Draw(t, fmt.Sprint("destroys ", i+1)) {
				s.Devices[i].Heartbeat.Destroy = uint64(rapid.IntRange(ledger.MinDestroy, ledger.MaxDestroy).Draw(t, "after"))
				destroyers++
			}
		}
		safe := true
		for _, k := range s.Keys {
			safe = safe && int(k.N)-destroyers >= int(k.T)
		}
		if err := s.Validate(); (err == nil) != safe {
			t.Fatalf("%d devices may destroy: %v", destroyers, err)
		}
	})
}

// The order in which shares come on record, and what is on record twice, does not change what is known of them.
func TestBackupsInAnyOrder(t *testing.T) {
	s := destroying(t)
	shares := []string{"swa", "certs", "files"}
	rapid.Check(t, func(rt *rapid.T) {
		state := s.State
		known := map[string]int64{}
		for i := range rapid.IntRange(1, 8).Draw(rt, "entries") {
			share := rapid.SampledFrom(shares).Draw(rt, "share") + ".device-1"
			b := ledger.Backup{Device: "device-1", Share: share, Place: "safe", Tested: s.Now + int64(rapid.IntRange(0, i).Draw(rt, "tested"))}
			raw, err := ledger.NewEntry(state, ledger.KindBackup, &b, s.Now+int64(i))
			if last, ok := known[share]; ok && b.Tested < last {
				if err == nil {
					rt.Fatal("an older test was taken")
				}
				continue
			}
			if err != nil {
				rt.Fatal(err)
			}
			known[share] = b.Tested
			if state, err = ledger.Catchup(state, []ledger.SignedEntry{s.SignEntry(t, raw)}); err != nil {
				rt.Fatal(err)
			}
		}
		got := state.Backups("device-1")
		if !slices.IsSortedFunc(got, func(a, b ledger.Backup) int { return strings.Compare(a.Share, b.Share) }) || len(got) != len(known) {
			rt.Fatalf("%+v", got)
		}
		for _, b := range got {
			if known[b.Share] != b.Tested {
				rt.Fatalf("%s: tested at %d, not %d", b.Share, b.Tested, known[b.Share])
			}
		}
		if state.MayDestroy("device-1") != (len(known) == len(shares)) || len(state.MissingBackups("device-1")) != len(shares)-len(known) {
			rt.Fatalf("may destroy with %d backups", len(known))
		}
	})
}
