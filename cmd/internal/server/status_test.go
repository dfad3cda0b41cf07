package server

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
)

func TestStatus(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	r.devices["device-2"].SetFault(coordtest.Locked)
	r.stops["device-3"]()
	r.stops["device-4"]()
	eventually(t, "that its site says that its link is gone", func() bool {
		_, err := r.servers["server-1"].unlockOffer(t.Context(), "device-4")
		return err != nil && err.Error() == "device device-4: site server-2 says: it has no link to its message server"
	})
	r.servers["server-2"].Close()
	for range 50 {
		var status api.SystemStatus
		if err := r.send("server-1", api.PathStatus, nil, &status); err != nil {
			t.Fatal(err)
		}
		d := map[string]api.DeviceStatus{}
		for _, s := range status.Servers {
			for _, x := range s.Devices {
				d[x.Device] = x
			}
		}
		if d["device-1"].Status != nil && d["device-2"].Status != nil && d["device-2"].Status.Phase == firmware.PhaseLocked &&
			d["device-3"].Silent && d["device-4"].Silent && status.Servers[1].Silent && !status.Servers[0].Silent {
			// Names stand before these texts already.
			if got := status.Servers[1].Text; got != "it does not answer" {
				t.Errorf("a site that is away: %q", got)
			}
			if got := d["device-3"].Text; got != "it has no link to its message server" {
				t.Errorf("a device without a link: %q", got)
			}
			var tasks api.Tasks
			if err := r.send("server-1", api.PathTasks, nil, &tasks); err != nil || tasks.Sites[0].Text != "" || tasks.Sites[1].Text != "it does not answer" {
				t.Errorf("tasks: %v: %+v", err, tasks)
			}
			_, err := r.servers["server-1"].unlockOffer(t.Context(), "device-4")
			if err == nil || err.Error() != "device device-4: site server-2 does not answer" {
				t.Errorf("a device of a site that is away: %v", err)
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the status does not show who is locked, who is silent and who is away")
}

// TestStatusPassesTask: how a device is can be asked while it works on something for
// long.
func TestStatusPassesTask(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	r.answer("device-1", firmware.TypeOfferAsk, func([]byte) (string, any) { return "", nil })
	r.request("server-1", coordtest.CertificateRequest(t, r.sys, "set", r.unix(), 3600))
	s := r.servers["server-1"]
	working := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := s.ports["device-1"]
		return p.work.answer != nil && p.work.typ == firmware.TypeOfferAsk
	}
	eventually(t, "a task under way", working)
	var status api.SystemStatus
	if err := r.send("server-1", api.PathStatus, nil, &status); err != nil {
		t.Fatal(err)
	}
	for _, site := range status.Servers {
		for _, d := range site.Devices {
			if d.Device == "device-1" && (d.Status == nil || d.Silent) {
				t.Errorf("its status waits for the task: %+v", d)
			}
		}
	}
	if !working() {
		t.Error("the task is not under way any more")
	}
}
