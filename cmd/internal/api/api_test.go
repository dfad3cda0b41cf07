package api

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestEncoding holds every struct to the strict encoding: what Marshal writes
// Unmarshal takes, with and without its optional parts.
func TestEncoding(t *testing.T) {
	status := &firmware.Status{Device: "d", Phase: firmware.PhaseReady, Shares: []string{"s"}, Officers: []string{}}
	for _, v := range []any{
		&Relay{Device: "d", Frame: []byte{1}}, &Relayed{}, &System{}, &System{Bundle: []byte{1}, After: 1, Entries: [][]byte{{1}}}, &SystemAsk{}, &SystemPage{}, &SystemTaken{}, &Accepted{}, &InboxItem{}, &Approved{},
		&UnlockAsk{}, &Unlocked{}, &Unlocked{Status: status}, &Register{Certificates: [][]byte{{1}}},
		&Registered{Devices: []DeviceStatus{{Device: "d", Status: status}}}, &Recertify{},
		&SourceSend{Source: "s", Frame: []byte{1}}, &SourceSent{},
		&Tracking{}, &Tracking{Devices: []DeviceTracking{{Rejected: []Rejection{{"n", "r"}}}}, Attempts: []Attempt{{}}},
		&Tracking{Enterprise: 1, Liars: []Liar{{}}, Devices: []DeviceTracking{{Layer: 1}}}, &Invite{}, &Install{}, &DeviceAnswer{},
		&Tasks{}, &Tasks{Sites: []SiteTasks{{}, {Open: []Task{{}, {Devices: []string{"d"}}}, Illegal: []IllegalTask{{}}}}},
		&SystemStatus{}, &SystemStatus{Servers: []ServerStatus{{Devices: []DeviceStatus{{}, {Status: status}}}}},
		&ServerStatus{Sources: []SourceStatus{{}, {Devices: []string{"d"}}}, Alarms: []Alarm{{}, {Count: 2, First: 1}}},
	} {
		b, err := envelope.Marshal(v)
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		into := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := envelope.Unmarshal(b, into); err != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
}

// TestPageOf: a page has at least one entry, so that whoever asks gets on, but
// for a bundle that leaves no room.
func TestPageOf(t *testing.T) {
	entries := [][]byte{make([]byte, PageOctets/2), make([]byte, PageOctets/2), make([]byte, 2*PageOctets), {1}, {2}}
	for _, c := range []struct {
		after  uint64
		bundle int // octets; 0: not asked for
		want   int
	}{
		{0, 0, 2}, {1, 0, 1}, {2, 0, 1}, {3, 0, 2}, {5, 0, 0}, {1 << 63, 0, 0},
		{0, 1, 1}, {3, 10, 2}, {0, PageOctets - 1, 1}, {0, PageOctets, 0}, {0, 4 * PageOctets, 0},
	} {
		p := PageOf(make([]byte, c.bundle), ledger.State{}, entries, SystemAsk{After: c.after, Bundle: c.bundle > 0})
		if len(p.System.Entries) != c.want || len(p.System.Bundle) != c.bundle || p.System.After != c.after {
			t.Errorf("%+v: %d entries, a bundle of %d, after %d", c, len(p.System.Entries), len(p.System.Bundle), p.System.After)
		}
	}
}

// FuzzSystem: what is decoded of a page encodes to itself.
func FuzzSystem(f *testing.F) {
	for _, v := range []any{&System{Bundle: []byte{1}, Entries: [][]byte{{2}}}, &SystemAsk{After: 3}, &SystemPage{Height: 4}, &SystemTaken{Height: 5}} {
		b, err := envelope.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, v := range []any{&System{}, &SystemAsk{}, &SystemPage{}, &SystemTaken{}} {
			if envelope.Unmarshal(in, v) != nil {
				continue
			}
			if b, err := envelope.Marshal(v); err != nil || !bytes.Equal(b, in) {
				t.Fatalf("%T encodes to something else: %v", v, err)
			}
		}
	})
}
