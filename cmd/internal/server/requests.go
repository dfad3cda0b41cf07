package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// requests are those that this server coordinates. Each has its message and
// its last record in a file; a finished one only its result.
type requests struct {
	admission sync.Mutex // one new request, or system, at a time
	mu        sync.Mutex
	open      map[envelope.Hash]*running
	hall      *hall
}

// running is a request with its coordinator.
type running struct {
	mu      sync.Mutex
	r       *coordinator.Request
	owner   envelope.KeyID
	changed chan struct{} // closed at the next change
	over    bool          // its result is on the disk
	layers  bool          // its key is shared in two layers
	liars   int           // of its tracking, that were told of

	// Effects of steps are carried out in their order. Those of steps that are
	// taken while a record is being written wait, and then need one record, the
	// last one's.
	waiting []coordinator.Effects
	writing bool
	settled *sync.Cond // nothing waits; of mu
}

func newRunning(r *coordinator.Request, owner envelope.KeyID) *running {
	q := &running{r: r, owner: owner, changed: make(chan struct{})}
	q.settled = sync.NewCond(&q.mu)
	return q
}

func newRequests() *requests { return &requests{open: map[envelope.Hash]*running{}, hall: newHall()} }

// Suffixes of a request's files.
const (
	suffixRequest = ".request" // the message
	suffixState   = ".state"   // the coordinator's record
	suffixResult  = ".result"  // api.Tracking, when all is over
)

func (s *Server) requestFile(digest envelope.Hash, suffix string) string {
	return filepath.Join(s.dir, dirRequests, hex.EncodeToString(digest[:])+suffix)
}

func (s *Server) coordinatorConfig(sys *system) coordinator.Config {
	return coordinator.Config{
		State: sys.state, Site: s.cfg.ID, Rand: rand.Reader, Asleep: s.reports.asleep(), Distribution: s.distribution,
		Doubts: s.machines.doubts.use,
	}
}

// everyRequest lists those that are not over.
func (s *Server) everyRequest() []*running {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	all := make([]*running, 0, len(s.requests.open))
	for _, q := range s.requests.open {
		all = append(all, q)
	}
	return all
}

func (s *Server) find(digest envelope.Hash) *running {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return s.requests.open[digest]
}

// run lets a coordinator work.
func (s *Server) run(r *coordinator.Request, owner envelope.KeyID) {
	q := newRunning(r, owner)
	q.layers = s.system().authorityOf(r.Tracking().Key) != nil
	s.requests.mu.Lock()
	s.requests.open[r.Digest()] = q
	s.requests.mu.Unlock()
	s.step(q, func(now int64) coordinator.Effects { return r.Start(now) })
}

// step takes one event through a coordinator and carries out the effects.
func (s *Server) step(q *running, event func(now int64) coordinator.Effects) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || s.ctx.Err() != nil {
		return
	}
	s.carryOut(q, event(s.unix()))
}

// carryOut makes the record durable, then acts; it returns when that is done.
// The caller holds the lock, which is open while the disk is written to.
func (s *Server) carryOut(q *running, e coordinator.Effects) {
	q.waiting = append(q.waiting, e)
	if q.writing {
		q.settle()
		return
	}
	q.writing = true
	for len(q.waiting) > 0 && s.ctx.Err() == nil {
		batch := q.waiting
		q.waiting = nil
		if err := s.writeRecord(q, batch); err != nil {
			s.fatal(err)
			break
		}
		for _, e := range batch {
			s.act(q, e)
		}
	}
	if q.waiting = nil; q.r.Idle() && s.ctx.Err() == nil {
		s.conclude(q)
	}
	q.writing = false
	q.settled.Broadcast()
}

// settle waits until what the steps so far want is done. The caller holds the
// lock.
func (q *running) settle() {
	for q.writing {
		q.settled.Wait()
	}
}

// writeRecord makes the last record of some steps durable.
func (s *Server) writeRecord(q *running, batch []coordinator.Effects) error {
	for _, e := range slices.Backward(batch) {
		if e.Record != nil {
			q.mu.Unlock()
			defer q.mu.Lock()
			return atomicfile.Write(s.requestFile(q.r.Digest(), suffixState), e.Record, 0o600)
		}
	}
	return nil
}

// act does what a step wants, after its record.
func (s *Server) act(q *running, e coordinator.Effects) {
	if e.Changed {
		close(q.changed)
		q.changed = make(chan struct{})
		s.tellLiars(q)
	}
	for _, a := range e.Actions {
		switch a := a.(type) {
		case coordinator.Ask:
			s.spawn(func() { s.carryAsk(q, a) })
		case coordinator.Present:
			s.spawn(func() { s.carryPresent(q, a) })
		case coordinator.Broadcast:
			s.broadcast(a.Packet)
		}
	}
}

func (s *Server) carryAsk(q *running, a coordinator.Ask) {
	ctx, cancel := s.asking()
	defer cancel()
	var raw []byte
	body, err := envelope.Marshal(a.Payload)
	if err == nil {
		raw, err = s.ask(ctx, a.Device, a.Type, body)
	}
	s.step(q, func(now int64) coordinator.Effects {
		if err != nil {
			return q.r.Silent(now, a.ID, bare(theDevice(a.Device), err.Error()))
		}
		return q.r.Answer(now, a.ID, raw)
	})
}

func (s *Server) carryPresent(q *running, p coordinator.Present) {
	err := s.present(q.r.Raw(), q.r.Digest(), q.r.Expires(), p)
	if err != nil {
		s.audit.refused(p.Device, "inbox", err)
	}
	s.step(q, func(now int64) coordinator.Effects { return q.r.Presented(now, p, err == nil) })
}

// conclude keeps the result of a request for which nothing is left to do, and
// forgets the rest. A crash before the last line repeats what is idempotent.
func (s *Server) conclude(q *running) {
	digest := q.r.Digest()
	data, err := envelope.Marshal(q.r.Tracking())
	if err == nil {
		err = atomicfile.Write(s.requestFile(digest, suffixResult), data, 0o600)
	}
	if err != nil {
		s.fatal(err)
		return
	}
	q.over = true
	for _, suffix := range []string{suffixState, suffixRequest} {
		if err := os.Remove(s.requestFile(digest, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot remove", "err", err)
		}
	}
	s.requests.mu.Lock()
	delete(s.requests.open, digest)
	s.requests.mu.Unlock()
	s.audit.log.Info("request over", "request", digest.String(), "state", q.r.Tracking().State)
}

func (s *Server) tickRequests() {
	for _, q := range s.everyRequest() {
		s.step(q, func(now int64) coordinator.Effects { return q.r.Tick(now) })
	}
}

// resume goes on with what was open when the server stopped. All of them are here
// before it returns. Each is checked as if it had just come, of which batches take
// tens of milliseconds: as many at a time as there are processors.
func (s *Server) resume() error {
	sys := s.system()
	files, err := filepath.Glob(filepath.Join(s.dir, dirRequests, "*"+suffixRequest))
	if err != nil {
		return err
	}
	next, failed := make(chan string), make(chan error, len(files))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for path := range next {
				if err := s.resumeFile(sys, path); err != nil {
					failed <- err
				}
			}
		})
	}
	for _, path := range files {
		next <- path
	}
	close(next)
	wg.Wait()
	close(failed)
	return <-failed
}

func (s *Server) resumeFile(sys *system, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := s.resumeOne(sys, raw, strings.TrimSuffix(path, suffixRequest)); err != nil {
		// One that cannot be read any more must not keep the server down.
		s.log.Error("a request is set aside", "file", path, "err", err)
		return os.Rename(path, path+".bad")
	}
	return nil
}

func (s *Server) resumeOne(sys *system, raw []byte, base string) error {
	u, err := envelope.Parse(raw)
	if err != nil {
		return err
	}
	var r *coordinator.Request
	state, err := os.ReadFile(base + suffixState)
	switch {
	case err == nil:
		r, err = coordinator.Resume(s.coordinatorConfig(sys), raw, state, s.unix())
	case errors.Is(err, fs.ErrNotExist):
		r, err = coordinator.New(s.coordinatorConfig(sys), raw, s.unix())
	}
	if err != nil {
		return err
	}
	s.run(r, u.Header().Signer)
	return nil
}

// track is GET /v1/tracking.
func (s *Server) track(ctx context.Context, _ string, p web.Poll) (web.Batch, error) {
	digest, err := envelope.ParseHash(p.Inbox)
	if err != nil {
		return nil, web.Malformed(err)
	}
	deadline := time.NewTimer(p.Wait)
	defer deadline.Stop()
	for {
		t, changed, err := s.tracking(digest)
		if err != nil {
			return nil, err
		}
		if t.Revision > p.Since {
			body, err := envelope.Marshal(t)
			return web.Batch{{Cursor: t.Revision, Body: body}}, err
		}
		if changed == nil {
			return nil, nil // it will not change any more
		}
		if !s.await(ctx, changed, deadline) {
			return nil, nil
		}
	}
}

// tracking says where a request stands, and how to learn of a change; nil if
// there will be none.
func (s *Server) tracking(digest envelope.Hash) (*api.Tracking, <-chan struct{}, error) {
	if q := s.find(digest); q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.settle() // nobody is told what is not durable
		t := q.r.Tracking()
		return &t, q.changed, nil
	}
	data, err := os.ReadFile(s.requestFile(digest, suffixResult))
	if err != nil {
		return nil, nil, web.NotFound(fmt.Errorf("request %s is not known at server %s", digest, s.cfg.ID))
	}
	var t api.Tracking
	if err := envelope.Unmarshal(data, &t); err != nil {
		return nil, nil, err
	}
	return &t, nil, nil
}

// sweep removes results that nobody may ask for any more, and what has expired
// in inboxes and queues.
func (s *Server) sweep() {
	files, _ := filepath.Glob(filepath.Join(s.dir, dirRequests, "*"+suffixResult))
	for _, path := range files {
		if info, err := os.Stat(path); err != nil || s.now().Sub(info.ModTime()) < keepResults {
			continue
		}
		var t api.Tracking
		data, err := os.ReadFile(path)
		if err == nil && envelope.Unmarshal(data, &t) == nil && time.Unix(t.Expires, 0).Add(keepResults).Before(s.now()) {
			os.Remove(path)
		}
	}
	s.sweepInbox()
	if _, err := s.store.Sweep(); err != nil {
		s.log.Warn("sweeping the queue", "err", err)
	}
}
