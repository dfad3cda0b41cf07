package desk

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// newSource is a heartbeat source at server sd1.
func newSource(t testing.TB, id, kind string, operators ...string) ledger.Source {
	t.Helper()
	p := ledgertest.NewPair(t, "source "+id)
	return ledger.Source{
		ID: id, Name: `The "red" room: ` + id, Kind: kind, Server: "sd1", Operators: operators,
		Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.PublicKey()),
	}
}

// heartbeatFile is a ceremony file of three devices. sources is its list, policy the fields of d1's.
func heartbeatFile(t testing.TB, sources, policy string) []byte {
	t.Helper()
	var b strings.Builder
	b.WriteString("system: Test\nlead: d1\nhours: 4\nofficer_days: 365\nwitnesses: [Wilma]\nadministrator: admin\nvault: true\nservers:\n")
	for i := 1; i <= 3; i++ {
		s := newSource(t, fmt.Sprint("server ", i), "")
		y := source.YAML(&ledger.Source{ID: fmt.Sprint("sd", i), Name: "Site", Sign: s.Sign, Agree: s.Agree})
		y = y[:strings.Index(y, "    kind:")] + y[strings.Index(y, "    sign:"):strings.Index(y, "    operators:")]
		b.WriteString(y + fmt.Sprintf("    tls: \"%064x\"\n    url: https://s%d.test\n", i, i))
	}
	b.WriteString("sources:\n" + sources + "devices:\n")
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(&b, "  - {id: d%d, name: Device %d, server: sd%d, model: M, serial: \"%d\", use: auto, unlock_quorum: 2", i, i, i, i)
		if i == 1 {
			fmt.Fprintf(&b, ", heartbeat: {%s}", policy)
		}
		b.WriteString("}\n")
	}
	b.WriteString("persons:\n  - {id: admin, name: Ada, cards: [1]}\n")
	var officers strings.Builder
	for i := 10; i < 16; i++ {
		fmt.Fprintf(&b, "  - {id: o%d, name: Officer %d, cards: [%d]}\n", i, i, i)
		fmt.Fprintf(&officers, "  - {person: o%d, device: d%d, class: officer}\n", i, i%3+1)
	}
	b.WriteString("officers:\n" + officers.String())
	b.WriteString("acknowledge_no_fault: true\nkeys:\n  - {id: swa, name: SWA, family: ledger, mode: parallel, need: 2, devices: [d1, d2, d3], " +
		"bits: 2048, algorithms: [RS256], max_days: 400, root_days: 3650, quorum: 2, pieces: 2}\n")
	return []byte(b.String())
}

const goodPolicy = `sources: [m1, "no", d2], needed: 2, period: 500ms, lease: 5s, minimum: 3, loss: 4, destroy: 720h`

func TestHeartbeatFile(t *testing.T) {
	want := []ledger.Source{newSource(t, "m1", ledger.SourceMessage, "o10"), newSource(t, "no", ledger.SourceSequence, "o11", "o12")}
	var list string
	for _, s := range want {
		list += source.YAML(&s)
	}
	path := filepath.Join(t.TempDir(), "ceremony.yaml")
	if err := os.WriteFile(path, heartbeatFile(t, list, goodPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.Sources, want) {
		t.Errorf("sources %+v", p.Sources)
	}
	if h := p.Devices[0].Heartbeat; h == nil || !reflect.DeepEqual(*h, ledger.Heartbeat{
		Sources: []string{"m1", "no", "d2"}, Needed: 2, Period: 500, Lease: 5000, Minimum: 3, Loss: 4, Destroy: 720 * 3600,
	}) || p.Devices[1].Heartbeat != nil {
		t.Errorf("policies %+v, %+v", h, p.Devices[1].Heartbeat)
	}
	lines := strings.Join(HeartbeatLines(p), "\n")
	for _, line := range []string{
		`source no (The "red" room: no): sequence, server sd1, silenced by o11, o12 or by an officer of the device`,
		"device d1 goes on while 2 of 3 sources speak; each beat grants 5 s\nits sources: m1, no, d2; asked every 0.5 s",
		"its shares are destroyed after 30 days without beats",
		"device d2 needs NO BEATS",
	} {
		if !strings.Contains(lines, line) {
			t.Errorf("%q is missing in\n%s", line, lines)
		}
	}
	p.Sources, p.Devices[0].Heartbeat = nil, nil
	if got := HeartbeatLines(p); got != nil {
		t.Errorf("of a plan without sources: %q", got)
	}

	for _, c := range []struct{ old, new, want string }{
		{"period: 500ms", "period: 500", `device d1: heartbeat: period: 500 is no duration; write it with its unit`},
		{"period: 500ms", `period: "500"`, `"500" is no duration; write it with its unit`},
		{"period: 500ms, ", "", "period: missing"},
		{"period: 500ms", "period: 0s", `"0s" is not a positive duration`},
		{"period: 500ms", "period: 0", `0 is no duration`},
		{"period: 500ms", "period: -1s", `"-1s" is not a positive duration`},
		{"period: 500ms", "period: 500.5ms", `"500.5ms" is no multiple of 1ms`},
		{"period: 500ms", "period: 1ms", "period is 1 ms, 50 to 20000"},
		{"lease: 5s", "lease: [5s]", "lease: [5s] is no duration"},
		{"lease: 5s", "lease: 1s", "less than 3 periods"},
		{"lease: 5s", "lease: true", "lease: true is no duration"},
		{"lease: 5s", "lease: 9000000000h", "is no duration"},
		{"destroy: 720h", "destroy: 30d", `"30d" is no duration; the longest unit is the hour`},
		{"destroy: 720h", "destroy: 0", "destroy: 0 is no duration"},
		{"destroy: 720h", "destroy: 500ms", `"500ms" is no multiple of 1s`},
		{"destroy: 720h", "destroy: 1s", "destroys after 1 s"},
		{"needed: 2", "needed: -1", "needed"},
		{"needed: 2", "quorum: 2", "devices.0.heartbeat.quorum: there is no such field here; known are sources, needed, period"},
		{"needed: 2, ", "", "0 of 3 sources are needed"},
		{"[m1, ", "[m2, ", `"m2" is neither a source nor a device`},
		{"kind: \"message\"", "kind: message\n    period: 5s", "sources.0.period: there is no such field here; known are id, name, kind"},
		{"operators: [\"o10\"]", "operators: [\"nobody\"]", `operator "nobody"`},
	} {
		data := string(heartbeatFile(t, list, goodPolicy))
		if !strings.Contains(data, c.old) {
			t.Fatalf("%q is not in the file", c.old)
		}
		if _, err := ParseFile([]byte(strings.Replace(data, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
	for _, never := range []string{"destroy: never", "destroy: null", "loss: 4"} {
		p, err := ParseFile(heartbeatFile(t, list, strings.Replace(goodPolicy, ", destroy: 720h", ", "+strings.Replace(never, "loss: 4", "destroy: ", 1), 1)))
		if err != nil || p.Devices[0].Heartbeat.Destroy != 0 {
			t.Errorf("%s: %v", never, err)
		}
	}
}

// TestHeartbeatCeremony: a ceremony with sources ends in a system whose devices are known to them by the instance that took part.
func TestHeartbeatCeremony(t *testing.T) {
	r := newRoom(t)
	r.plan.Keys = r.plan.Keys[:2] // the third takes safe primes, and time
	r.plan.Sources = []ledger.Source{newSource(t, "m1", ledger.SourceMessage, "officer-1a")}
	r.plan.Devices[0].Heartbeat = &ledger.Heartbeat{Sources: []string{"m1", "d2"}, Needed: 1, Period: 1000, Lease: 5000, Minimum: 1}
	res, err := r.run(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d, _ := res.State.Device("d1")
	if d.Heartbeat == nil || d.Instance == [16]byte{} || len(res.State.Sources()) != 1 {
		t.Errorf("device d1: %+v, instance %x, sources %v", d.Heartbeat, d.Instance, res.State.Sources())
	}
	if d, _ := res.State.Device("d2"); d.Heartbeat != nil || d.Instance != [16]byte{} {
		t.Errorf("device d2: %+v, instance %x", d.Heartbeat, d.Instance)
	}
	want := "  device d1 goes on while 1 of 2 sources speak; each beat grants 5 s"
	if !slices.Contains(r.said, want) {
		t.Errorf("people were not told the policy: %q", r.said)
	}
}
