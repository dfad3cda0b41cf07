package systemtest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// The second limit of these tests, and what a restart may cost of it: what is
// not on the disk yet, and what was not counted yet.
const (
	secondLimit = 640 * time.Second
	countEvery  = 10 * time.Second
	forgets     = secondLimit/32 + countEvery
)

var errCrash = errors.New("the power is cut")

func (s *System) silence(device string) time.Duration {
	s.t.Helper()
	return time.Duration(s.Status(device).Lease.Silence) * time.Second
}

func (s *System) shareObjects(device string) []string {
	var out []string
	for _, k := range s.State.Keys() {
		if h, ok := s.State.HolderOf(k.ID, device); ok {
			out = append(out, ceremony.ShareObject(h.Share))
		}
	}
	return out
}

// inToken looks what is left of the shares and their keys in a device's token,
// as somebody with the PIN does.
func (s *System) inToken(device string) (objects, keys []string) {
	s.t.Helper()
	tok := s.Devices[device].Token
	if _, open := tok.Login(); !open {
		s.check(tok.Unlock(s.pin(device)))
		defer func() { s.check(tok.Lock()) }()
	}
	for _, name := range s.shareObjects(device) {
		switch _, _, err := tok.GetObject(name); {
		case err == nil:
			objects = append(objects, name)
		case !errors.Is(err, hsm.ErrNotFound):
			s.t.Fatal(err)
		}
	}
	for _, label := range []string{devicetoken.LabelKEKToken, devicetoken.LabelKEKHost} {
		switch _, err := tok.KEKUse(label); {
		case err == nil:
			keys = append(keys, label)
		case !errors.Is(err, hsm.ErrNotFound):
			s.t.Fatal(err)
		}
	}
	return objects, keys
}

// destroyers is a system in which d1 and d2 live on one source and may destroy
// their shares: one more, and the system-wide authority could be lost.
func destroyers(t *testing.T) *System {
	p := ledger.Heartbeat{Sources: []string{"t1"}, Needed: 1, Period: 500, Lease: uint64(lease.Milliseconds()), Destroy: uint64(secondLimit.Seconds())}
	s := New(t, Only(Pair), Quorum(SWA, 3), Beats(p, "d1", "d2"))
	s.Pass(time.Second)
	return s
}

// cut silences the source, and waits until the first limit has passed.
func (s *System) cut() {
	s.t.Helper()
	s.Sources["t1"].Down = true
	s.Pass(lease + time.Second)
	for _, id := range []string{"d1", "d2"} {
		if p := s.Status(id).Phase; p != firmware.PhaseLocked {
			s.t.Fatalf("%s is %s", id, p)
		}
	}
}

// back opens the devices again, with the source.
func (s *System) back() {
	s.t.Helper()
	s.RestartSource(s.Sources["t1"])
	for _, id := range []string{"d1", "d2"} {
		s.Unlock(id)
	}
	s.Pass(time.Second)
	for _, id := range []string{"d1", "d2"} {
		if s.Left(id) == 0 || s.silence(id) != 0 {
			s.t.Fatalf("%s: %+v", id, s.Status(id).Lease)
		}
	}
}

// TestSecondLimit takes two devices through it: d1 as it should be, d2 dying in
// between.
func TestSecondLimit(t *testing.T) {
	s := destroyers(t)
	armed := func(want bool, why string) {
		t.Helper()
		if got := s.Status("d1").Lease.Armed; got != want {
			t.Fatalf("%s: armed %v", why, got)
		}
	}
	// Off, for as long as not every share has a backup on record.
	s.cut()
	s.Coarse(3*secondLimit, time.Minute)
	s.back()
	armed(false, "without backups")
	s.Backup("d1", SWA)
	s.Backup("d2", Pair)
	armed(false, "with a backup of one share, and of another device's")
	s.cut()
	s.Coarse(3*secondLimit, time.Minute)
	if got := s.silence("d1"); got != 0 {
		t.Fatalf("counts %v before it is armed", got)
	}
	s.back()
	s.Backup("d1", Pair)
	armed(true, "with backups of both")
	s.Backup("d2", SWA)

	s.cut()
	s.Coarse(secondLimit/2, countEvery)
	if got := s.silence("d1"); got < secondLimit/2-countEvery || got > secondLimit/2+countEvery {
		t.Fatalf("after %v it counts %v", secondLimit/2, got)
	}
	// A machine that slept, a process that stood still: one late tick counts as
	// one tick.
	for what, pause := range map[string]func(time.Duration){"suspended": s.Suspend, "stopped": s.Stall} {
		before := s.silence("d1")
		pause(24 * time.Hour)
		s.tick()
		if got := s.silence("d1") - before; got < 0 || got > countEvery {
			t.Fatalf("a day in which it was %s counts as %v", what, got)
		}
	}
	// Restarts lose a little and never count twice.
	before := s.silence("d1")
	for range 5 {
		s.Restart("d1")
		s.tick()
	}
	if got := s.silence("d1"); got > before || got < before-forgets {
		t.Fatalf("restarts make %v of %v", got, before)
	}
	// One that is restarted all the time still gets there, if its process runs
	// for longer than what a restart forgets.
	before = s.silence("d1")
	for range 3 {
		s.Coarse(60*time.Second, countEvery)
		s.Restart("d1")
	}
	if got := s.silence("d1") - before; got < 3*(60*time.Second-forgets) || got > 3*60*time.Second {
		t.Fatalf("three minutes with restarts count as %v", got)
	}
	// A lease begins the count anew, durably.
	s.back()
	s.Restart("d1")
	if got := s.silence("d1"); got != 0 {
		t.Fatalf("after a lease and a restart it counts %v", got)
	}
	s.Unlock("d1")
	s.Pass(time.Second)

	// A maintenance notice suspends the second limit, never the first.
	now := s.Now().Unix()
	s.Enter(ledger.KindNotice, ledger.Notice{Text: "works on the power supply", From: now, Until: now + 2000})
	s.cut()
	s.Coarse(1900*time.Second, countEvery)
	if st := s.Status("d1").Lease; !st.Maintained || st.Silence != 0 {
		t.Fatalf("under maintenance: %+v", st)
	}
	s.Coarse(100*time.Second, countEvery)
	left := secondLimit - s.silence("d1")

	if o, k := s.inToken("d1"); len(o) != 2 || len(k) != 2 {
		t.Fatalf("before the limit the token holds %q and %q", o, k)
	}
	// d2's first decision is lost with its disk's cache; what it did not record
	// it does not do.
	d2 := s.Devices["d2"]
	decided := 0
	d2.Break = func(raw []byte) (bool, error) {
		var r firmware.Record
		s.check(envelope.Unmarshal(raw, &r))
		if r.Kind != "destroyed" {
			return true, nil
		}
		decided++
		return decided > 1, map[bool]error{true: errCrash}[decided == 1]
	}
	d2.BeforeDestroy = func() error { // the second time it dies over the deed
		s.check(d2.Token.DestroyPublicObjects(s.shareObjects("d2")[0]))
		return errCrash
	}
	pass := func(d time.Duration) {
		for end := s.Boot() + int64(d); s.Boot() < end; {
			s.Stall(countEvery)
			for _, id := range []string{"d1", "d2"} {
				if d := s.Devices[id]; !d.Dead() {
					if err := d.Tick(); err != nil && !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
				}
			}
		}
	}
	pass(left - 2*countEvery)
	for _, id := range []string{"d1", "d2"} {
		if p := s.Status(id).Phase; p != firmware.PhaseLocked {
			t.Fatalf("%s is %s before the limit", id, p)
		}
	}
	pass(4 * countEvery)
	if !d2.Dead() || decided != 1 {
		t.Fatalf("d2 dead %v, decided %d", d2.Dead(), decided)
	}
	if o, k := s.inToken("d1"); len(o)+len(k) != 0 {
		t.Errorf("d1 holds %q and %q", o, k)
	}
	if o, k := s.inToken("d2"); len(o) != 2 || len(k) != 2 {
		t.Errorf("d2 recorded nothing, and holds %q and %q", o, k)
	}
	s.Restart("d2")
	if p := s.Status("d2").Phase; p != firmware.PhaseLocked {
		t.Fatalf("d2 is %s", p)
	}
	pass(forgets + 2*countEvery)
	if !d2.Dead() || decided != 2 {
		t.Fatalf("d2 dead %v, decided %d", d2.Dead(), decided)
	}
	if o, _ := s.inToken("d2"); len(o) != 1 {
		t.Errorf("d2 died over the deed, and holds %q", o)
	}
	// The next start finishes. The PIN is gone with the process that kept it,
	// and with it the way to the keys, which open nothing any more.
	d2.BeforeDestroy, d2.Break = nil, nil
	s.Restart("d2")
	if o, k := s.inToken("d2"); len(o) != 0 || len(k) != 2 {
		t.Errorf("d2 holds %q and %q", o, k)
	}
	for _, id := range []string{"d1", "d2"} {
		if p := s.Status(id).Phase; p != firmware.PhaseDestroyed {
			t.Errorf("%s is %s", id, p)
		}
		_, err := s.AskUnlock(id)
		wantRefusal(t, err, firmware.CodePhase, "only a restore from a backup")
		s.Restart(id)
		if d := s.Devices[id]; d.Machine().Phase() != firmware.PhaseDestroyed || d.Machine().Next() != 0 {
			t.Errorf("%s forgot it", id)
		}
	}
	// The others go on.
	r := s.File(Pair, []byte("release"), Via("d4", "d5"))
	s.MustSign(r, 4, 5)
	if !slices.ContainsFunc(s.Reports, func(c Carried) bool { return s.report(c).Phase == firmware.PhaseDestroyed }) {
		t.Error("no server was told")
	}
}

// report opens a device's report with its server's key.
func (s *System) report(c Carried) *firmware.Status {
	s.t.Helper()
	raw, err := envelope.Open(c.Frame, s.Servers[c.From].Agree)
	s.check(err)
	u, err := envelope.Parse(raw)
	s.check(err)
	d, _ := s.State.Device(c.From)
	key := d.Sign
	if u.Header().Signer == envelope.KeyIDOfSPKI(d.Boot) {
		key = d.Boot
	}
	v, err := u.Verify(signKey(s.t, key))
	s.check(err)
	var out firmware.Status
	s.check(envelope.Decode(v, firmware.TypeStatus, firmware.MessageVersion, &out))
	return &out
}
