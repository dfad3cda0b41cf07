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
