package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestMain runs a server in a process of its own when it is told to, so that
// tests can kill one as a power cut does.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PRIVYSEAL_TEST_NUMBERS"); dir != "" {
		fmt.Fprintln(os.Stderr, giveNumbers(dir))
		os.Exit(1)
	}
	dir := os.Getenv("PRIVYSEAL_TEST_SERVER")
	if dir == "" {
		os.Exit(m.Run())
	}
	offset, err := strconv.ParseInt(os.Getenv("PRIVYSEAL_TEST_OFFSET"), 10, 64)
	if err == nil {
		var s *Server
		s, err = Start(dir, Options{Now: func() time.Time { return time.Unix(time.Now().Unix()+offset, 0) }})
		if err == nil {
			err = s.Wait(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process starts a server in a process of its own and returns how to kill it.
func (r *rig) process(id string) (kill func()) {
	r.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PRIVYSEAL_TEST_SERVER="+r.dirs[id], fmt.Sprintf("PRIVYSEAL_TEST_OFFSET=%d", r.now))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	dead := false
	kill = func() {
		if !dead {
			dead = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	r.t.Cleanup(kill)
	r.client(id)
	ask, err := envelope.Marshal(api.SystemAsk{})
	if err != nil {
		r.t.Fatal(err)
	}
	for range 100 {
		if _, err := r.clients[id].Post(context.Background(), api.PathSystemShow, ask); err == nil {
			return kill
		} else if status, ok := asStatus(err); ok && status.Code == 404 {
			return kill
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("server %s does not come up", id)
	return nil
}

// TestKill kills the coordinating server (SIGKILL) again and again while
// officers approve and devices sign. What was acknowledged stands, and the
// request comes to its signature.
func TestKill(t *testing.T) {
	for _, m := range []struct{ name, approvals string }{{"certificate", "set"}, {"file", "chain"}} {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t)
			r.commission()
			r.waitStatus()
			r.servers["server-1"].Close()
			kill := r.process("server-1")
			var raw []byte
			if m.name == "file" {
				raw = coordtest.FileRequest(t, r.sys, m.approvals, r.unix(), 3600)
			} else {
				raw = coordtest.CertificateRequest(t, r.sys, m.approvals, r.unix(), 3600)
			}
			digest := r.request("server-1", raw)
			approved := 0
			deadline := time.Now().Add(90 * time.Second)
			for n := 0; time.Now().Before(deadline); n++ {
				if n%3 == 2 && approved < 6 {
					kill()
					kill = r.process("server-1")
				}
				for _, o := range r.sys.Genesis.Officers {
					if r.approveOne(o) {
						approved++
						break
					}
				}
				tr := r.tracking("server-1", digest, 0, 100*time.Millisecond)
				if tr == nil {
					continue
				}
				standing := 0
				for _, d := range tr.Devices {
					standing += len(d.Approved)
				}
				if m.approvals == "set" && tr.State == api.StateOpen && standing != approved {
					t.Fatalf("%d approvals were acknowledged, %d stand: %s", approved, standing, tr.Text)
				}
				if tr.State == api.StateDone {
					if len(tr.Documents) == 0 {
						t.Error("there is no document")
					}
					return
				}
				if tr.State != api.StateOpen {
					t.Fatalf("%s: %s", tr.State, tr.Text)
				}
			}
			t.Fatal("not signed in time")
		})
	}
}

// TestQueuedApproval: an officer approves while the coordinator's site is
// down; his approval is kept at his own site, and counts when it is back.
func TestQueuedApproval(t *testing.T) {
	r := newRig(t)
	r.commission()
	r.waitStatus()
	digest := r.request("server-1", coordtest.CertificateRequest(t, r.sys, "set", r.unix(), 3600, "device-4", "device-5", "device-1"))
	var items []api.InboxItem
	officers := r.sys.Genesis.Officers[6:10] // of devices 4 and 5
	for range 100 {
		items = items[:0]
		for _, o := range officers {
			items = append(items, r.inbox(o)...)
		}
		if len(items) == 4 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(items) != 4 {
		t.Fatalf("%d items at the second site", len(items))
	}
	r.servers["server-1"].Close()
	for i, o := range officers {
		var out api.Approved
		if err := r.post("server-2", api.PathApproval, coordtest.Approve(t, r.sys, r.sys.Persons[o.Person], items[i], r.unix(), ""), &out); err != nil {
			t.Fatal(err)
		}
		if !out.Queued {
			t.Errorf("the approval of %s: %+v", o.Person, out)
		}
	}
	r.start("server-1")
	if out := r.work("server-1", digest, map[string]bool{"officer-4a": true, "officer-4b": true, "officer-5a": true, "officer-5b": true}); out.State != api.StateDone {
		t.Fatalf("%s: %s", out.State, out.Text)
	}
}
