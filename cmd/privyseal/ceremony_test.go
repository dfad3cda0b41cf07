package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// Whoever reviews a ceremony file reads what its heartbeats mean, and is warned
// before he reads about the vault.
func TestPlanShowsPolicies(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	h := ledgertest.Policy()
	h.Needed, h.Destroy = 1, 30*86400
	a.sayPlan(&ceremony.Plan{
		Sources: []ledger.Source{
			{ID: "message-1", Name: "Cellar", Kind: ledger.SourceMessage, Server: "site-1", Operators: []string{"anna", "bert"}},
			{ID: "sequence-1", Name: "Attic", Kind: ledger.SourceSequence, Server: "site-2", Operators: []string{"anna"}},
			{ID: "satellite-1", Name: "Shed", Kind: ledger.SourceSatellite, Server: "site-2", Operators: []string{"anna"}},
		},
		Devices: []ceremony.PlanDevice{{ID: "d1", Server: "site-1", Heartbeat: &h}, {ID: "d2", Server: "site-2"}},
		Vault:   true,
	})
	for _, want := range []string{
		"source          message-1 (Cellar), kind message, server site-1, operated by anna, bert\n",
		"heartbeat       d1 goes on while 1 of 3 sources speak; each beat grants 5 s\n                its sources: message-1, sequence-1, satellite-1",
		"its shares are destroyed after 30 days without beats",
		"WARNING         d1: message-1 at its own site, site-1, suffice to keep it going (1 needed)",
		"WARNING         d2: no heartbeat is needed there: once stolen it signs on until somebody locks it\nVAULT",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// Whoever was away can come back, and the ceremony goes on; what is wrong stays
// wrong and gets no such advice.
func TestResumable(t *testing.T) {
	hint := func(err error) string {
		var h term.Hinter
		if errors.As(resumable(err), &h) {
			return h.Hint()
		}
		return ""
	}
	for _, err := range []error{
		fmt.Errorf("device d1 cannot be reached: %w", &client.UnreachableError{Server: "s1", Err: syscall.ECONNREFUSED}),
		fmt.Errorf("device d1 cannot be reached: %w", &client.RefusedError{Server: "s1", Text: "no link"}),
	} {
		if hint(err) != resumeHint {
			t.Errorf("%v: hint %q", err, hint(err))
		}
	}
	for _, err := range []error{
		errors.New("device d2 runs other firmware"),
		&client.UnreachableError{Server: "s1", Err: &pinned.WrongPinError{}},
	} {
		if hint(err) == resumeHint {
			t.Errorf("%v: going on is advised", err)
		}
	}
	if resumable(nil) != nil {
		t.Error("success became an error")
	}
}
