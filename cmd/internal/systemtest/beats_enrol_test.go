package systemtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// TestInstanceOfTheCeremony: the genesis enrols the instance that went through
// the ceremony. One that died before the commitment is another, and its
// officers have to open it.
func TestInstanceOfTheCeremony(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1", "d2"), DiesBeforeCommit("d2"))
	s.Pass(2 * time.Second)
	if s.Left("d1") == 0 {
		t.Fatalf("d1: %v", s.Status("d1").Lease)
	}
	d, _ := s.State.Device("d1")
	for _, x := range s.Sources {
		i := slices.IndexFunc(x.Station.Devices(), func(k heartbeat.Known) bool { return k.Device == "d1" })
		if k := x.Station.Devices()[i]; k.Instance != d.Instance || k.Enrolled != 0 {
			t.Errorf("%s knows %+v", x.ID, k)
		}
	}
	if s.Left("d2") != 0 {
		t.Fatal("d2 lives, and was not in the ceremony as it is now")
	}
	if !slices.ContainsFunc(s.Devices["d2"].Notes, func(n string) bool { return strings.Contains(n, "does not know this instance of device d2") }) {
		t.Errorf("d2 noted %q", s.Devices["d2"].Notes)
	}
	s.Pass(time.Duration(heartbeat.Grace))
	if p := s.Status("d2").Phase; p != firmware.PhaseLocked {
		t.Fatalf("d2 is %s", p)
	}
	s.Unlock("d2")
	s.Pass(2 * time.Second)
	if !s.signs(t, "d2") {
		t.Errorf("opened by its officers: %v", s.Status("d2").Lease)
	}
}

// TestEnrolment has a thief with a device's token and boot key ask for beats,
// with all that officers ever said and some of what they say now.
func TestEnrolment(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1", "d2"))
	s.Pass(2 * time.Second)
	x := s.Sources["t1"]
	boot := s.BootKeys["d1"]
	f := s.newRogue("d1")
	officers := s.Officers("d1")
	offer := f.offer(boot)
	code := func(what string, e *approval.Enrolment, code string, words string) {
		t.Helper()
		b := f.ask(t, x, e)
		if b.Kind != heartbeat.KindRefusal || b.Code != code || !strings.Contains(b.Text, words) {
			t.Errorf("%s: %s %q %q, want %q", what, b.Kind, b.Code, b.Text, words)
		}
	}
	code("nothing", nil, heartbeat.CodeInstance, "does not know this instance")
	code("no officer", f.words(offer, nil), heartbeat.CodeInstance, "0 of 2 officers")
	code("one officer", f.words(offer, officers[:1]), heartbeat.CodeInstance, "1 of 2 officers")
	code("one officer twice", f.words(offer, []Officer{officers[0], officers[0]}), heartbeat.CodeInstance, "1 of 2 officers")
	second := officers[0]
	second.Card = s.People[TwoCards][1]
	code("one officer and his other card", f.words(offer, []Officer{officers[0], second}), heartbeat.CodeInstance, "is not an officer of device d1")
	code("another device's officers", f.words(offer, s.Officers("d2")), heartbeat.CodeInstance, "is not an officer of device d1")
	requester := officers[1]
	requester.Card = s.People[Requester][0]
	code("a requester", f.words(offer, []Officer{officers[0], requester}), heartbeat.CodeInstance, "not an officer")
	code("words about another device", f.words(offer, officers, func(a *approval.UnlockApproval) { a.Device = "d2" }), heartbeat.CodeInstance, "another offer")
	other := f.offer(boot)
	code("words about another offer", f.words(offer, officers, func(a *approval.UnlockApproval) { a.Offer = other.Digest }), heartbeat.CodeInstance, "another offer")
	code("an offer for another device", f.words(f.offer(boot, func(o *approval.UnlockOffer) { o.Device = "d2" }), officers), heartbeat.CodeInstance, "another device's")
	code("an offer for another instance", f.words(f.offer(boot, func(o *approval.UnlockOffer) { o.Instance[0] ^= 1 }), officers), heartbeat.CodeInstance, "another instance")
	code("an offer by another device's boot key", f.words(f.offer(s.BootKeys["d2"]), officers), heartbeat.CodeInstance, "unlock offer")
	code("an offer by the token", f.words(f.offer(s.SignKey("d1")), officers), heartbeat.CodeInstance, "unlock offer")
	code("a year early", f.words(offer, officers, func(a *approval.UnlockApproval) {
		a.Created, a.Expires = a.Created+365*86400, a.Expires+365*86400
	}), heartbeat.CodeInstance, "name different times")
	d2 := s.newRogue("d2")
	code("the enrolment of another device", d2.words(d2.offer(s.BootKeys["d2"]), s.Officers("d2")), heartbeat.CodeInstance, "unlock offer")

	// Officers who fall for an offer that the thief made with the boot key
	// enrol him, and the source forgets the original: this is what they are
	// asked by voice for. When they open the original again he is out for good.
	good := f.words(offer, officers)
	wantBeat(t, f.ask(t, x, good), heartbeat.KindAnswer, "")
	s.Pass(time.Second)
	if st := s.Status("d1").Lease; st.Sources[2].State != heartbeat.StateRefuses {
		t.Errorf("beside a thief whom its officers enrolled, the original sees %+v", st.Sources[2])
	}
	s.Lock("d1")
	s.Unlock("d1")
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Fatalf("the original: %v %q", s.Status("d1").Lease, s.Devices["d1"].Notes)
	}
	for _, x := range s.Sources {
		f.log += 1000
		wantBeat(t, f.ask(t, x, good), heartbeat.KindRefusal, heartbeat.CodeInstance)
		s.RestartSource(x)
		wantBeat(t, f.ask(t, x, good), heartbeat.KindRefusal, heartbeat.CodeInstance)
		wantBeat(t, f.ask(t, x, nil), heartbeat.KindRefusal, heartbeat.CodeInstance)
	}
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Errorf("the original: %v", s.Status("d1").Lease)
	}
}

// TestRestoredNeedsThemAll: one officer who knows of an older disk and one who
// does not are no quorum that takes it back.
func TestRestoredNeedsThemAll(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	d := s.Devices["d1"]
	snapshot := slices.Clone(d.Journal)
	if !s.signs(t, "d1") {
		t.Fatal("d1 does not sign")
	}
	s.Pass(2 * time.Second)
	d.Journal = snapshot
	s.Restart("d1")
	one := 0
	s.Unlock("d1", func(a *approval.UnlockApproval) { one++; a.Restored = one == 1 })
	s.Pass(2 * time.Second)
	if s.Left("d1") > 0 || s.signs(t, "d1") {
		t.Fatal("one officer's word took the older disk back")
	}
	s.Lock("d1")
	s.Unlock("d1", Restored)
	s.Pass(2 * time.Second)
	if !s.signs(t, "d1") {
		t.Errorf("taken back: %v %q", s.Status("d1").Lease, d.Notes)
	}
}
