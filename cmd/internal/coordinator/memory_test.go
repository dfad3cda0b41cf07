package coordinator_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestOpenRequestsAreSmall: of a request that waits for its officers a coordinator
// keeps the message once, and little besides. One requester may have hundreds.
func TestOpenRequestsAreSmall(t *testing.T) {
	sys, a := printed(t)
	now := sys.State.Time()
	w := newWorldOf(t, sys, a)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	file := make([]byte, 1<<20)
	k := sys.Keys[ledgertest.KeyFiles].Ledger
	for name, raw := range map[string][]byte{
		"a batch": coordtest.BatchRequest(t, sys, a, 60, "RS256", now, 3600),
		"a file": coordtest.SignRequest(t, sys, sys.Persons[ledgertest.Program].Software, document.Request{
			Key: k.ID, Epoch: k.Epoch, Algorithm: "RS256", Kind: document.KindFile, Document: file, Name: "f", Size: uint64(len(file)),
			Route: document.RouteTo(&k, document.ApprovalsSet), Requester: ledgertest.Program, Created: now, Expires: now + 3600,
		}),
	} {
		before := heap()
		var all []*coordinator.Request
		for range 20 {
			r, err := coordinator.New(w.config("server-1"), bytes.Clone(raw), now)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		// Devices with their keys are some KiB, and so are encoded messages.
		if each := int(heap()-before) / len(all); each > len(raw)*5/4+16<<10 {
			t.Errorf("%s: %d octets of heap for a message of %d", name, each, len(raw))
		}
		runtime.KeepAlive(all)
	}
}
