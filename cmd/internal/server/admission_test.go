package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func nothing() error { return nil }

// TestHall: requests of one requester are checked one after the other, those of
// others meanwhile, and one that comes twice once.
func TestHall(t *testing.T) {
	h := newHall()
	ctx := context.Background()
	visitOf := func(owner, n int) *visit {
		return &visit{owner: envelope.KeyID{byte(owner)}, digest: envelope.Hash{byte(owner), byte(n)}}
	}
	var inside, most, checks atomic.Int64
	began, end := make(chan struct{}, 100), make(chan struct{})
	check := func() error {
		checks.Add(1)
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		began <- struct{}{}
		<-end
		inside.Add(-1)
		return errors.New("refused")
	}
	var all sync.WaitGroup
	var busy, refused atomic.Int64
	came := func(v *visit) {
		all.Add(1)
		go func() {
			defer all.Done()
			var status *web.Error
			switch err := h.enter(ctx, v, time.Now, nothing, check); {
			case errors.As(err, &status) && status.Status == http.StatusServiceUnavailable:
				busy.Add(1)
			case err != nil && err.Error() == "refused":
				refused.Add(1)
			}
		}()
	}
	came(visitOf(1, 0))
	<-began
	waiting := func() (n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.queues[envelope.KeyID{1}].waiting
	}
	for n := 1; n < maxWaiting; n++ {
		came(visitOf(1, n))
		came(visitOf(1, n)) // the same
	}
	eventually(t, "all wait", func() bool { return waiting() == maxWaiting })
	came(visitOf(1, 100))
	eventually(t, "one too many is turned away", func() bool { return busy.Load() == 1 })
	other := false
	if err := h.enter(ctx, visitOf(2, 0), time.Now, nothing, func() error { other = true; return nil }); err != nil || !other {
		t.Fatalf("another requester waits: %v", err)
	}
	if inside.Load() != 1 || checks.Load() != 1 {
		t.Errorf("%d checks, %d at once", checks.Load(), inside.Load())
	}
	close(end)
	all.Wait()
	// A copy that came when the other was over is checked again; here none did.
	if n := checks.Load(); most.Load() != 1 || n < maxWaiting || n > 2*maxWaiting-1 || busy.Load() != 1 || refused.Load() != 2*maxWaiting-1 {
		t.Errorf("%d checks, %d at once, %d refused, %d turned away", n, most.Load(), refused.Load(), busy.Load())
	}
	if len(h.checks) != 0 || waiting() != 0 {
		t.Errorf("%d are still being checked, %d wait", len(h.checks), waiting())
	}
	// Nothing is checked for which there is no room, and a check that panics leaves
	// nobody waiting.
	full := errors.New("full")
	if err := h.enter(ctx, visitOf(1, 50), time.Now, func() error { return full }, check); err != full || checks.Load() > 2*maxWaiting-1 {
		t.Errorf("%v", err)
	}
	func() {
		defer func() { recover() }()
		h.enter(ctx, visitOf(1, 51), time.Now, nothing, func() error { panic("a defect") })
	}()
	if err := h.enter(ctx, visitOf(1, 51), time.Now, nothing, nothing); err != nil {
		t.Error(err)
	}
}

// TestHallCopies: who posts copies of what waits to be checked gets as many turns as his
// requests do, and no more: the others are told at once to come again.
func TestHallCopies(t *testing.T) {
	h := newHall()
	owner := envelope.KeyID{1}
	began, end := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		h.enter(context.Background(), &visit{owner: owner, digest: envelope.Hash{1}}, time.Now, nothing, func() error { close(began); <-end; return nil })
	})
	<-began
	var busy, accepted atomic.Int64
	const n = 5 * maxWaiting
	for range n {
		all.Go(func() {
			if h.enter(context.Background(), &visit{owner: owner, digest: envelope.Hash{1}}, time.Now, nothing, nothing) == nil {
				accepted.Add(1)
			} else {
				busy.Add(1)
			}
		})
	}
	eventually(t, "the rest is turned away", func() bool { return busy.Load() == n-maxWaiting })
	if 2*maxWaiting > web.DefaultRules.MaxRequests/2 {
		t.Errorf("one requester takes %d of %d turns", 2*maxWaiting, web.DefaultRules.MaxRequests)
	}
	close(end)
	all.Wait()
	if accepted.Load() != maxWaiting || h.queues[owner].copies != 0 {
		t.Errorf("%d accepted, %d copies are left", accepted.Load(), h.queues[owner].copies)
	}
}

// TestHallRest: who cost much waits before the next, and nobody else does.
func TestHallRest(t *testing.T) {
	h := newHall()
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	costly := &visit{owner: envelope.KeyID{1}, digest: envelope.Hash{1}, weight: 3600000}
	if err := h.enter(context.Background(), costly, clock, nothing, func() error { costly.pay(); return nil }); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	checked := 0
	check := func() error { checked++; return nil }
	enter := func(ctx context.Context, owner byte) {
		h.enter(ctx, &visit{owner: envelope.KeyID{owner}, digest: envelope.Hash{9}}, clock, nothing, check)
	}
	if enter(gone, 1); checked != 0 {
		t.Error("it was checked before its requester had rested")
	}
	if enter(context.Background(), 2); checked != 1 {
		t.Error("another requester rests")
	}
	if len(h.queues) != 2 {
		t.Errorf("%d requesters", len(h.queues))
	}
	now = now.Add(2 * time.Hour)
	if enter(context.Background(), 3); len(h.queues) != 1 {
		t.Errorf("%d requesters are remembered", len(h.queues))
	}
	if enter(context.Background(), 1); checked != 3 {
		t.Error("it rests for ever")
	}

	// What was refused is remembered for a while, under one ledger.
	why := errors.New("why")
	for i := range maxRefused + 10 {
		h.remember(envelope.Hash{byte(i), byte(i >> 8)}, envelope.Hash{1}, now, why)
	}
	if len(h.refused) != maxRefused || h.remembered(envelope.Hash{5}, envelope.Hash{1}, now) != why || h.remembered(envelope.Hash{5}, envelope.Hash{2}, now) != nil {
		t.Errorf("%d are remembered", len(h.refused))
	}
	now = now.Add(keepRefused)
	if h.remembered(envelope.Hash{5}, envelope.Hash{1}, now) != nil {
		t.Error("it is remembered for ever")
	}
	if h.remember(envelope.Hash{1, 1, 1}, envelope.Hash{1}, now, why); len(h.refused) != 1 {
		t.Errorf("%d are remembered", len(h.refused))
	}
}

// TestRefusedBatches: a requester whose batches are refused again and again is not
// heard for a while. Others are, and who repeats what he once asked cannot do that to
// him.
func TestRefusedBatches(t *testing.T) {
	r, a := newAuthorityRig(t)
	good := coordtest.BatchRequest(t, r.sys, a, 2, "RS256", r.unix(), 3600)
	u, err := envelope.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(created int64) []byte {
		var req document.Request
		if err := envelope.Unmarshal(u.UnverifiedPayload(), &req); err != nil {
			t.Fatal(err)
		}
		req.Created = created
		csr := req.Batch[1].CSR
		csr[len(csr)-1] ^= 1
		return coordtest.SignRequest(t, r.sys, r.sys.Persons[ledgertest.Program].Software, req)
	}
	post := func(raw []byte) error { return r.post("server-1", api.PathRequest, raw, &api.Accepted{}) }
	old := r.unix() - blameFor - 1
	for i := range web.DefaultRules.MaxFailures + 1 {
		refused(t, fmt.Sprintf("old batch %d", i), post(bad(old)), http.StatusConflict, "signature does not verify")
	}
	again := bad(r.unix())
	for i := range web.DefaultRules.MaxFailures - 1 {
		refused(t, fmt.Sprintf("the same batch, %d", i), post(again), http.StatusConflict, "signature does not verify")
	}
	if err := post(good); err != nil {
		t.Fatal(err)
	}
	for i := range web.DefaultRules.MaxFailures - 1 {
		refused(t, fmt.Sprintf("batch %d", i), post(bad(r.unix())), http.StatusConflict, "signature does not verify")
	}
	refused(t, "one too many", post(bad(r.unix())), http.StatusTooManyRequests, "were refused")
	if err := post(good); err != nil {
		t.Errorf("what was accepted: %v", err)
	}
	officer := r.sys.Officers("device-1")[0]
	if err := post(coordtest.CertificateRequestBy(t, r.sys, officer.ID, officer.Card().Sign, "set", r.unix(), 3600)); err != nil {
		t.Errorf("another requester: %v", err)
	}
	trail := r.servers["server-1"].limiter.Allow("requester " + u.Header().Signer.String())
	if trail == nil || !strings.Contains(trail.Error(), "denied") {
		t.Errorf("the requester is not denied: %v", trail)
	}
}

// TestManyRequestsAtOnce: a program that makes many requests at once has all of them
// taken. Most are turned away at first, and its commands come again.
func TestManyRequestsAtOnce(t *testing.T) {
	r, a := newAuthorityRig(t)
	state := r.servers["server-1"].system().state
	row, _ := state.Server("server-1")
	var all sync.WaitGroup
	const n = 100
	for range n {
		raw := coordtest.BatchRequest(t, r.sys, a, 1, "RS256", r.unix(), 3600)
		u, err := envelope.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			c, err := client.Dial(row)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.Send(t.Context(), rand.Reader, state, &client.Signed{Raw: raw, Digest: u.UnverifiedDigest(), Server: "server-1"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(r.servers["server-1"].everyRequest()); got != n {
		t.Errorf("%d requests of %d", got, n)
	}
}

// TestRequestTwiceAtOnce: the same request by several ways at the same time is one.
func TestRequestTwiceAtOnce(t *testing.T) {
	r, a := newAuthorityRig(t)
	raw := coordtest.BatchRequest(t, r.sys, a, 3, "RS256", r.unix(), 3600)
	var all sync.WaitGroup
	for range 6 {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := r.post("server-1", api.PathRequest, raw, &api.Accepted{}); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	if n := len(r.servers["server-1"].everyRequest()); n != 1 {
		t.Errorf("%d requests", n)
	}
}
