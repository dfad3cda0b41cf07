package heartbeat

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// fullTable is as large as a table can become.
func fullTable() table {
	t := table{Version: tableVersion, Restored: true}
	for i := range 64 {
		x := seen{
			Device: fmt.Sprintf("%064d", i), Instance: [16]byte{0xff}, Enrolled: math.MaxInt64, Log: math.MaxUint64, Head: envelope.Hash{1}, Revoked: math.MaxInt64,
		}
		for range maxPast {
			x.Past = append(x.Past, [16]byte{0xff, 1})
		}
		t.Seen = append(t.Seen, x)
	}
	for range maxSpent {
		t.Spent = append(t.Spent, spent{envelope.Hash{1}, math.MaxInt64, math.MaxInt64})
	}
	return t
}

func TestTableFits(t *testing.T) {
	full := fullTable()
	raw, err := envelope.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseTable(raw)
	if err != nil {
		t.Fatalf("the largest table is refused: %v", err)
	}
	if again, err := envelope.Marshal(*got); err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("reads as another: %v", err)
	}
	if _, err := parseTable(append(raw, make([]byte, maxTable)...)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large a table: %v", err)
	}
	for name, change := range map[string]func(*table){
		"version": func(x *table) { x.Version = 2 },
		"order":   func(x *table) { slices.Reverse(x.Seen) },
	} {
		x := fullTable()
		change(&x)
		raw, err := envelope.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTable(raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, raw := range [][]byte{{}, {0xa0}, []byte("no table"), raw[:len(raw)-1]} {
		if _, err := NewStation(StationConfig{ID: "message-1"}, newRig(t).State, raw); err == nil {
			t.Errorf("a station starts with %d octets of nothing", len(raw))
		}
	}
}

// What a station keeps is bounded, and what it drops is safe to drop.
func TestTableIsBounded(t *testing.T) {
	r := newRig(t)
	st, err := NewStation(StationConfig{ID: "message-1"}, r.State, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := r.Now
	var stored []byte
	for i := range maxSpent + 40 {
		v := &VerifiedRevoke{Revoke: Revoke{Device: "device-1", Source: "message-1", Created: now, Expires: now + 600}}
		v.digest[0], v.digest[1] = byte(i), byte(i>>8)
		if _, stored, err = st.TakeRevoke(Inputs{Now: now}, v); err != nil {
			t.Fatal(err)
		}
	}
	if len(st.table.Spent) != maxSpent {
		t.Errorf("%d revocations are remembered, not %d", len(st.table.Spent), maxSpent)
	}
	if _, err := parseTable(stored); err != nil {
		t.Error(err)
	}
	// When they have expired they are refused for that.
	v := &VerifiedRevoke{Revoke: Revoke{Device: "device-1", Source: "message-1", Created: now + 600, Expires: now + 1200}, digest: envelope.Hash{0xff, 0xff}}
	if _, _, err = st.TakeRevoke(Inputs{Now: now + 600}, v); err != nil {
		t.Fatal(err)
	}
	if len(st.table.Spent) != 1 {
		t.Errorf("%d revocations are remembered", len(st.table.Spent))
	}
	// Superseded instances.
	for i := range maxPast + 5 {
		now += 1000
		c := &VerifiedChallenge{Challenge: Challenge{
			Device: "device-1", Sign: []byte{1}, Agree: []byte{byte(i)}, Counter: 1, Log: uint64(i) + 1, Begin: []string{"message-1"},
		}, agree: r.instance.Agree().PublicKey()}
		c.Enrolment = enrolment(t, r.System, &refEvidence{"device-1", c.Instance(), now, 1, envelope.Hash{}, true, true}, now)
		out, raw, err := st.Answer(Inputs{Now: now}, c)
		if err != nil || out.Beat.Kind != KindAnswer {
			t.Fatalf("%+v, %v", out, err)
		}
		if stored = raw; stored == nil {
			t.Fatal("not to be stored")
		}
	}
	row := st.seen(mustDevice(t, r))
	if len(row.Past) != maxPast {
		t.Errorf("%d instances are remembered, not %d", len(row.Past), maxPast)
	}
	// The first is forgotten as a superseded one, and refused all the same.
	c := &VerifiedChallenge{Challenge: Challenge{Device: "device-1", Sign: []byte{1}, Agree: []byte{0}, Counter: 9, Log: 1 << 40}}
	c.Enrolment = enrolment(t, r.System, &refEvidence{"device-1", c.Instance(), r.Now + 1000, 1, envelope.Hash{}, true, true}, r.Now+1000)
	if out, _, err := st.Answer(Inputs{Now: now}, c); err != nil || out.Beat.Code != CodeInstance {
		t.Errorf("%+v, %v", out, err)
	}
	if len(storedTable(t, st)) > maxTable {
		t.Error("the table is too large")
	}
}

func storedTable(t *testing.T, st *Station) []byte {
	t.Helper()
	raw, err := st.Stored()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mustDevice(t *testing.T, r *rig) (d ledger.Device) {
	t.Helper()
	d, ok := r.State.Device("device-1")
	if !ok {
		t.Fatal("no device-1")
	}
	return d
}

func TestRevokeOfUnknownDevice(t *testing.T) {
	r := newRig(t)
	st, err := NewStation(StationConfig{ID: "message-1"}, r.State, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Revoke("nobody", Inputs{Now: r.Now})
	refused(t, err, "not in the ledger")
	// A device that is no client of the source may be silenced all the same.
	if raw, err := st.Revoke("device-3", Inputs{Now: r.Now}); err != nil || raw == nil {
		t.Error(err)
	}
	if got := st.Devices(); len(got) != 1 || got[0].Device != "device-1" || got[0].Revoked != 0 {
		t.Errorf("%+v", got)
	}
	// Even where the clock says 1970.
	if raw, err := st.Revoke("device-1", Inputs{}); err != nil || raw == nil || st.Devices()[0].Revoked == 0 {
		t.Error("not silenced", err)
	}
}

func TestRefusalsFitALine(t *testing.T) {
	for _, s := range []string{strings.Repeat("é", maxText), "short", strings.Repeat("x", maxText+9)} {
		if got := clip(s); len(got) > maxText || !strings.HasPrefix(s, strings.TrimRight(got, "?")) {
			t.Errorf("%q", got)
		}
	}
}
