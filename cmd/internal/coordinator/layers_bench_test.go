package coordinator_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// BenchmarkBatch is what servers do for each certificate of a batch, without
// disks and networks: the distributor, and the desks of five sites together.
// What the emulated machines and officers do is not in it.
func BenchmarkBatch(b *testing.B) {
	const n = 64
	sys := ledgertest.New(b, ledgertest.WithDevices(8))
	a := sys.Authority(b, ledgertest.PrintedPlan(2))
	raw := coordtest.BatchRequest(b, sys, a, n, threshold.RS256, sys.State.Time(), 3600)
	var servers time.Duration
	certificates := 0
	for b.Loop() {
		w := newWorldOf(b, sys, a)
		began := time.Now()
		g := w.start("server-1", raw)
		w.pass(30)
		servers += time.Since(began) - w.elsewhere
		certificates += len(g.signed().Documents)
	}
	b.ReportMetric(float64(servers.Microseconds())/float64(certificates), "us/certificate")
}
