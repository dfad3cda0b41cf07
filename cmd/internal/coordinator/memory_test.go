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
		runtime.GC() // pools are emptied by the second
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	file := make([]byte, 1<<20)
	k := sys.Keys[ledgertest.KeyFiles].Ledger
	for _, x := range []struct {
		name      string
		documents int
		raw       []byte
	}{
		{"a batch", 60, coordtest.BatchRequest(t, sys, a, 60, "RS256", now, 3600)},
		{"a file", 1, coordtest.SignRequest(t, sys, sys.Persons[ledgertest.Program].Software, document.Request{
			Key: k.ID, Epoch: k.Epoch, Algorithm: "RS256", Kind: document.KindFile, Document: file, Name: "f", Size: uint64(len(file)),
			Route: document.RouteTo(&k, document.ApprovalsSet), Requester: ledgertest.Program, Created: now, Expires: now + 3600,
		})},
	} {
		var all []*coordinator.Request
		take := func() {
			r, err := coordinator.New(w.config("server-1"), bytes.Clone(x.raw), now)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		take() // what is made once is not counted
		before := heap()
		for range 40 {
			take()
		}
		// Devices with their keys are some KiB. Of each document there are the digest and
		// the encoded message, a quarter of a KiB with this key.
		if each := (int(heap()) - int(before)) / 40; each > len(x.raw)*5/4+x.documents<<10+16<<10 {
			t.Errorf("%s: %d octets of heap for a message of %d", x.name, each, len(x.raw))
		}
		runtime.KeepAlive(all)
	}
}
