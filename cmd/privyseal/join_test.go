package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestJoinGoesOn: whoever is interrupted while he joins a system with a long
// ledger goes on where he was.
func TestJoinGoesOn(t *testing.T) {
	r := newRigWith(t, ledgertest.WithManyPersons())
	const many = 64 // entries, of more than two pages
	r.Long(many)
	r.home = filepath.Join(t.TempDir(), "home")
	var asked []uint64
	r.Page = func(p *api.SystemPage) {
		if asked = append(asked, p.System.After); len(asked) == 3 {
			p.System.After++ // the answer to something else
		}
	}
	join := []string{"join", "--url", r.url("server-1"), "--pin", r.pin("server-1"), "--system", r.State.System().String()}
	x := r.fails(exitFailed, r.nobody(), "asked for it after", join...)
	if !strings.Contains(x.err, "join again, and it goes on there") {
		t.Error(x.err)
	}
	kept := asked[2]
	if asked[1] == 0 || kept <= asked[1] || kept >= many {
		t.Fatalf("asked for what is after %d", asked)
	}
	asked = make([]uint64, 10) // and no lie
	r.ok("", join...)
	asked = asked[10:]
	// The first page brings the bundle, which is not taken from an old home.
	if len(asked) != 2 || asked[0] != 0 || asked[1] != kept {
		t.Errorf("asked for what is after %d; %d entries were kept", asked, kept)
	}
	asked = make([]uint64, 10)
	r.ok("", "system", "show")
	r.ok("", "status")
	if asked = asked[10:]; len(asked) == 0 || asked[0] != many {
		t.Errorf("asked for what is after %d", asked)
	}
}

// A home whose own server is down asks another, unless one is named.
func TestServerDown(t *testing.T) {
	r := newRig(t)
	r.Stop("server-1")
	for _, args := range [][]string{{"status"}, {"heartbeat", "status", "device-2"}, {"request", "file", file(t, "a.txt", []byte("a")), "--requester-key", r.programKey()}} {
		x := r.ok("", args...)
		if !strings.Contains(x.err, "message server server-1 cannot be reached") || !strings.Contains(x.err, "message server server-2 is asked") {
			t.Errorf("%v: %s", args, x.err)
		}
		r.fails(exitFailed, r.nobody(), "message server server-1 cannot be reached", append(args, "--server", "server-1")...)
	}
	r.fails(exitFailed, r.nobody(), "message server server-2 is asked", "authority", "tasks") // it has none
	r.fails(exitUsage, r.nobody(), "there is no message server", "status", "--server", "server-9")
	if n := len(r.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}
