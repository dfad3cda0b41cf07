package server

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestAlarmsBounded: a device that changes its mind all day pushes out nobody
// else's alarms, and does not fill the log.
func TestAlarmsBounded(t *testing.T) {
	b := newBeatRig(t)
	s := b.servers["server-1"]
	s.alarms.raise(s, api.Alarm{At: 1, Source: "source-1", Text: "quiet"})
	for i := range 10 * maxLoggedAlarms {
		s.alarms.raise(s, api.Alarm{At: int64(i), Device: "device-1", Text: fmt.Sprintf("noise %d", i)})
	}
	all := s.alarms.all()
	if len(all) != maxAlarmsOf+1 || all[0].Text != "quiet" || all[maxAlarmsOf].Text != fmt.Sprintf("noise %d", 10*maxLoggedAlarms-1) {
		t.Errorf("%d: %+v", len(all), all[0])
	}
	if n := strings.Count(b.audited("server-1"), `"noise `); n != maxLoggedAlarms {
		t.Errorf("%d lines", n)
	}
}

// audited are the lines of a server's audit log that tell of alarms.
func (b *beatRig) audited(server string) string {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.dirs[server], fileAudit))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	var out strings.Builder
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), `"msg":"alarm"`) {
			out.WriteString(lines.Text() + "\n")
		}
	}
	return out.String()
}

// TestAlarmsCounted: what a machine does in every task is one alarm, and does not
// hide what it does besides, neither in the status nor in the log.
func TestAlarmsCounted(t *testing.T) {
	b := newBeatRig(t)
	s := b.servers["server-1"]
	lie := func(at int, device, kind string) {
		s.alarms.raise(s, api.Alarm{At: int64(at), Device: device, Kind: kind, Text: fmt.Sprintf("%s lied in task %d: %s", device, at, kind)})
	}
	const times = 3 * maxLoggedAlarms
	lie(1, "device-1", "seldom")
	for i := range times {
		lie(10+i, "device-1", "often")
		lie(10+i, "device-2", "often")
	}
	lie(10+times, "device-1", "late")
	all := s.alarms.all()
	want := []api.Alarm{
		{At: 1, Device: "device-1", Kind: "seldom", Text: "device-1 lied in task 1: seldom"},
		{At: 9 + times, First: 10, Count: times, Device: "device-1", Kind: "often", Text: fmt.Sprintf("device-1 lied in task %d: often", 9+times)},
		{At: 9 + times, First: 10, Count: times, Device: "device-2", Kind: "often", Text: fmt.Sprintf("device-2 lied in task %d: often", 9+times)},
		{At: 10 + times, Device: "device-1", Kind: "late", Text: fmt.Sprintf("device-1 lied in task %d: late", 10+times)},
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%+v", all)
	}
	if all[0].Times() != 1 || all[0].Since() != 1 || all[1].Times() != times || all[1].Since() != 10 {
		t.Error("wrong counts")
	}
	logged := b.audited("server-1")
	if n := strings.Count(logged, "device-1 lied"); n != 3+maxLoggedRepeats || !strings.Contains(logged, ": late") {
		t.Errorf("%d lines:\n%s", n, logged)
	}
	// Others are shown the counts, and not what the kinds are called.
	data, err := envelope.Marshal(all[1])
	var told api.Alarm
	if err == nil {
		err = envelope.Unmarshal(data, &told)
	}
	want[1].Kind = ""
	if err != nil || told != want[1] {
		t.Errorf("%+v: %v", told, err)
	}
}

// TestIllegalCounted: so it is with illegal tasks, each distributor and reason for
// itself.
func TestIllegalCounted(t *testing.T) {
	b := newBeatRig(t)
	s := b.servers["server-1"]
	task := func(number, distributor uint64, why string) api.IllegalTask {
		return api.IllegalTask{Enterprise: 7, Distributor: distributor, Task: number, Why: why}
	}
	kind := func(x api.IllegalTask) string {
		if strings.HasPrefix(x.Why, "its number") {
			return "number"
		}
		return ""
	}
	tasks := []api.IllegalTask{task(1, 1, "its number is that of request a"), task(2, 1, "its number is that of request b")}
	s.tellIllegal(tasks, kind)
	s.tellIllegal(append(tasks, task(3, 1, "its number is that of request c"), task(4, 2, "its number is that of request d"),
		task(5, 1, "its hash is not that of the document"), task(6, 1, "rejected by A: no"), task(7, 1, "rejected by B: no")), kind)
	var got []string
	for _, x := range s.alarms.all() {
		got = append(got, fmt.Sprintf("%d: %s", x.Times(), x.Text))
	}
	want := []string{
		"3: illegal task 3 of distributor 1 of enterprise 7: its number is that of request c",
		"1: illegal task 4 of distributor 2 of enterprise 7: its number is that of request d",
		"1: illegal task 5 of distributor 1 of enterprise 7: its hash is not that of the document",
		"1: illegal task 6 of distributor 1 of enterprise 7: rejected by A: no",
		"1: illegal task 7 of distributor 1 of enterprise 7: rejected by B: no",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
