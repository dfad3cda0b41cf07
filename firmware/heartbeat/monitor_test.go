package heartbeat

import (
	"errors"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func monitorPolicy() (ledger.Heartbeat, map[string]string) {
	return ledgertest.Policy(), map[string]string{
		"message-1": ledger.SourceMessage, "sequence-1": ledger.SourceSequence, "satellite-1": ledger.SourceSatellite,
	}
}

const second = int64(time.Second)

// One lease from its first challenge to its end, in plain numbers: period one
// second, lease five, two of three sources, two messages in a lease.
func TestMonitor(t *testing.T) {
	p, kinds := monitorPolicy()
	m := NewMonitor("device-1", p, kinds, 100*second)
	if m.Until() != 0 || m.Lock() != 160*second || m.Over(100*second) {
		t.Fatal(m.Until(), m.Lock())
	}
	views := func(boot int64, want ...string) {
		t.Helper()
		for i, v := range m.Sources(boot) {
			if v.State != want[i] || v.ID != p.Sources[i] || v.Kind != kinds[v.ID] {
				t.Errorf("%+v, want %s", v, want[i])
			}
		}
	}
	n := [32]byte{1}
	c, to, due := m.Challenge(100*second, n)
	if !due || len(to) != 3 || len(c.Begin) != 2 || c.Counter != 1 || m.Next() != 101*second {
		t.Fatalf("%+v %v %v", c, to, due)
	}
	if _, _, due := m.Challenge(100*second+1, n); due {
		t.Fatal("two challenges in a period")
	}
	views(101*second, StateWaiting, StateWaiting, StateWaiting)
	accept := func(boot int64, b Beat, want error) {
		t.Helper()
		if err := m.Accept(boot, &b); !errors.Is(err, want) {
			t.Fatalf("%+v: %v, want %v", b, err, want)
		}
	}
	values := newChain(make([]byte, 32), "device-1", [16]byte{}, n, SeriesSlots)
	accept(100*second+second/2, Beat{Source: "satellite-1", Kind: KindAnswer, Nonce: n}, nil)
	if m.Until() != 0 {
		t.Fatal("one of two sources is enough")
	}
	accept(100*second+second/2, Beat{Source: "sequence-1", Kind: KindAnswer, Nonce: n, Slots: SeriesSlots, Value: values[0]}, nil)
	if m.Until() != 105*second {
		t.Fatalf("the lease ends at %d", m.Until())
	}
	accept(100*second+second/2, Beat{Source: "message-1", Kind: KindAnswer, Nonce: n, Slots: SeriesSlots}, nil)
	accept(101*second, Beat{Source: "satellite-1", Kind: KindAnswer, Nonce: n}, ErrUnasked)
	accept(101*second, Beat{Source: "message-1", Kind: KindMessage, Nonce: n, Slot: 1}, nil)
	accept(101*second, Beat{Source: "message-1", Kind: KindMessage, Nonce: n, Slot: 1}, ErrOld)
	accept(101*second, Beat{Source: "message-1", Kind: KindMessage, Nonce: [32]byte{2}, Slot: 2}, ErrNoSeries)
	accept(102*second, Beat{Source: "message-1", Kind: KindMessage, Nonce: n, Slot: 2}, nil)
	// Two messages: the first of them began 500 ppm before the second second.
	if got := m.Sources(102 * second)[0].Until; got != 106*second-second/2000 {
		t.Fatalf("messages grant up to %d", got)
	}
	accept(102*second, Beat{Source: "sequence-1", Kind: KindValue, Nonce: n, Slot: 2, Value: values[2]}, nil)
	if m.Until() != 106*second-second/2000 {
		t.Fatalf("the lease ends at %d", m.Until())
	}
	accept(102*second, Beat{Source: "sequence-1", Kind: KindValue, Nonce: n, Slot: 1, Value: values[1]}, ErrOld)
	accept(102*second, Beat{Source: "sequence-1", Kind: KindValue, Nonce: n, Slot: 3, Value: values[4]}, ErrValue)
	views(102*second, StateSpeaks, StateSpeaks, StateSpeaks)

	// A refusal is shown, and takes nothing away.
	n2 := [32]byte{2}
	if _, to, due := m.Challenge(102*second, n2); !due || len(to) != 1 {
		t.Fatal(to, due)
	}
	var refused *RefusedError
	if err := m.Accept(102*second, &Beat{Source: "satellite-1", Kind: KindRefusal, Nonce: n2, Code: CodeRevoked, Text: "silenced"}); !errors.As(err, &refused) ||
		refused.Code != CodeRevoked {
		t.Fatal(err)
	}
	views(102*second, StateSpeaks, StateSpeaks, StateRefuses)
	views(105*second+1, StateSilent, StateSilent, StateRefuses)
	m.News()
	if c, to, due := m.Challenge(103*second, [32]byte{3}); !due || len(to) != 3 || len(c.Begin) != 0 {
		t.Fatal("how the log has grown is not shown to all", to)
	}

	for _, b := range []Beat{
		{Source: "nobody", Kind: KindAnswer, Nonce: n}, {Source: "message-1", Kind: KindValue, Nonce: n, Slot: 3},
		{Source: "sequence-1", Kind: KindMessage, Nonce: n, Slot: 3}, {Source: "satellite-1", Kind: KindMessage, Nonce: n, Slot: 3},
		{Source: "message-1", Kind: "", Nonce: n},
	} {
		if m.Accept(103*second, &b) == nil {
			t.Errorf("%+v is taken", b)
		}
	}
	// To the nanosecond, and for good.
	end := m.Until()
	if m.Over(end - 1) {
		t.Fatal("over too early")
	}
	if !m.Over(end) {
		t.Fatal("not over")
	}
	accept(end, Beat{Source: "message-1", Kind: KindMessage, Nonce: n, Slot: 5}, ErrOver)
	if _, _, due := m.Challenge(end, n); due || m.Until() != end {
		t.Fatal("it goes on")
	}
	if !m.Over(100 * second) {
		t.Fatal("a clock that was set back revives it")
	}
}

// A device that was stopped for an hour wakes up expired, with all that came
// meanwhile before it.
func TestMonitorWakesUpExpired(t *testing.T) {
	p, kinds := monitorPolicy()
	m := NewMonitor("device-1", p, kinds, second)
	n := [32]byte{1}
	m.Challenge(second, n)
	for _, id := range []string{"satellite-1", "sequence-1"} {
		if err := m.Accept(second, &Beat{Source: id, Kind: KindAnswer, Nonce: n, Slots: 9}); err != nil {
			t.Fatal(err)
		}
	}
	for k := uint64(1); k <= 9; k++ {
		if err := m.Accept(3600*second, &Beat{Source: "message-1", Kind: KindMessage, Nonce: n, Slot: k}); !errors.Is(err, ErrOver) {
			t.Fatal(err)
		}
	}
	if m.Until() != 6*second || !m.Over(3600*second) {
		t.Fatal(m.Until())
	}
}

func TestGraceEnds(t *testing.T) {
	p, kinds := monitorPolicy()
	m := NewMonitor("device-1", p, kinds, second)
	n := [32]byte{1}
	m.Challenge(second, n)
	// Answers that come after a lease begin none, and end none.
	for _, id := range []string{"satellite-1", "sequence-1"} {
		if err := m.Accept(7*second, &Beat{Source: id, Kind: KindAnswer, Nonce: n, Slots: 9}); !errors.Is(err, ErrUnasked) {
			t.Fatal(err)
		}
	}
	if m.Until() != 0 || m.Over(second+Grace-1) || !m.Over(second+Grace) {
		t.Fatal("not locked after the wait for the first beats")
	}
	if _, _, due := m.Challenge(second+Grace, n); due {
		t.Fatal("it still asks")
	}
}
