package server

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestUnlock: officers unlock a device of another site by way of their own
// server; the one who completes the quorum opens it.
func TestUnlock(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	r.devices["device-4"].SetFault(coordtest.Locked)
	// A request of the other site waits for it.
	digest := r.request("server-1", coordtest.FileRequest(t, r.sys, "set", r.unix(), 3600, "device-4", "device-1", "device-2"))
	offered4 := func(want bool) {
		t.Helper()
		for range 100 {
			out := r.tracking("server-1", digest, 0, 100*time.Millisecond)
			if out != nil && out.Devices[0].Offered == want && (want || out.Devices[0].Text != "") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("device 4 offered a key: not %v", want)
	}
	offered4(false)
	body, err := envelope.Marshal(api.UnlockAsk{Device: "device-4"})
	if err != nil {
		t.Fatal(err)
	}
	var offered firmware.UnlockOffered
	if err := r.send("server-1", api.PathUnlockAsk, body, &offered); err != nil {
		t.Fatal(err)
	}
	unlock := func(person string) (out api.Unlocked, err error) {
		err = r.post("server-1", api.PathUnlock, coordtest.Unlock(t, r.sys, r.sys.Persons[person], "device-4", offered, r.unix()), &out)
		return out, err
	}
	_, err = unlock("officer-1a")
	refused(t, "an officer of another device", err, http.StatusConflict, "not an officer")
	for range 2 { // twice the same officer is one
		out, err := unlock("officer-4a")
		if err != nil || out.Have != 1 || out.Need != 2 || out.Status != nil || len(out.Missing) != 1 || out.Missing[0] != "Officer 4b" {
			t.Fatalf("%+v %v", out, err)
		}
	}
	out, err := unlock("officer-4b")
	if err != nil || out.Status == nil || out.Status.Phase != firmware.PhaseReady {
		t.Fatalf("%+v %v", out, err)
	}
	offered4(true) // and not only when its pause is over
}

// TestUnlockRestored: it is said who took a device back whose log is shorter
// than it was: beat sources count that only if all of the quorum did.
func TestUnlockRestored(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	r.devices["device-1"].SetFault(coordtest.Locked)
	body, err := envelope.Marshal(api.UnlockAsk{Device: "device-1"})
	if err != nil {
		t.Fatal(err)
	}
	var offered firmware.UnlockOffered
	if err := r.send("server-1", api.PathUnlockAsk, body, &offered); err != nil {
		t.Fatal(err)
	}
	var first, second api.Unlocked
	if err := r.post("server-1", api.PathUnlock, coordtest.TakeBack(t, r.sys, r.sys.Persons["officer-1a"], "device-1", offered, r.unix()), &first); err != nil {
		t.Fatal(err)
	}
	if err := r.post("server-1", api.PathUnlock, coordtest.Unlock(t, r.sys, r.sys.Persons["officer-1b"], "device-1", offered, r.unix()), &second); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Restored, []string{"Officer 1a"}) || !slices.Equal(second.Restored, []string{"Officer 1a"}) || second.Status == nil {
		t.Errorf("%+v %+v", first, second)
	}
}
