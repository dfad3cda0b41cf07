package api

import (
	"reflect"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
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
		&ServerStatus{Sources: []SourceStatus{{}, {Devices: []string{"d"}}}, Alarms: []Alarm{{}}},
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
