package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// outputs is this server as output interface, independent of task distributors,
// of the enterprises that its configuration names.
type outputs struct {
	mu   sync.Mutex
	out  *tolerant.Output           // nil: of none, or before there is a system
	deaf func(tolerant.Packet) bool // a test's: does not arrive here

	// What waits for the disk, by request, in order; nil: the file goes.
	disk    sync.Mutex
	waiting map[envelope.Hash]*tolerant.Keep
	turn    []envelope.Hash
	more    chan struct{}                     // holds a token when something may wait
	write   func(path string, b []byte) error // a test's: instead of the disk
	failed  bool                              // at the last try
}

const suffixIssued = ".cbor"

func newOutputs() *outputs {
	return &outputs{waiting: map[envelope.Hash]*tolerant.Keep{}, more: make(chan struct{}, 1), write: func(path string, b []byte) error {
		return atomicfile.Write(path, b, 0o600)
	}}
}

// openOutputs begins with what an earlier run kept.
func (s *Server) openOutputs(sys *system) error {
	if len(s.cfg.Outputs) == 0 {
		return nil
	}
	dir := filepath.Join(s.dir, dirIssued)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	out := tolerant.NewOutput(tolerant.OutputConfig{State: sys.state, Site: s.cfg.ID, Enterprises: s.cfg.Outputs})
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var forget []envelope.Hash
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffixIssued)
		if digest, err := envelope.ParseHash(name); ok && err == nil {
			x, err := s.readIssued(digest)
			if err != nil {
				return err
			}
			forget = append(forget, out.Resume(s.unix(), *x).Forget...)
		}
	}
	for _, code := range s.cfg.Outputs {
		if sys.distributor(code, s.cfg.ID) != 0 {
			s.log.Warn("this server gives out tasks of an enterprise whose independent output interface it is to be: put that at another site", "enterprise", code)
		}
	}
	s.outputs.mu.Lock()
	s.outputs.out = out
	s.outputs.mu.Unlock()
	s.carryOutOutput(tolerant.OutputEffects{Forget: forget})
	s.spawn(s.keepIssued)
	s.spawn(s.survey)
	return nil
}

func (s *Server) issuedFile(request envelope.Hash) string {
	return filepath.Join(s.dir, dirIssued, hex.EncodeToString(request[:])+suffixIssued)
}

func (s *Server) readIssued(request envelope.Hash) (*api.Issued, error) {
	path := s.issuedFile(request)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	x := new(api.Issued)
	if err := envelope.Unmarshal(data, x); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if x.Request != request {
		return nil, fmt.Errorf("%s is about request %s", path, x.Request)
	}
	return x, nil
}

// hearAtIndependentOutput is for packets of whatever site.
func (s *Server) hearAtIndependentOutput(p tolerant.Packet) {
	if p.Channel() == tolerant.B2 {
		return
	}
	s.outputStep(func(o *tolerant.Output, now int64) tolerant.OutputEffects {
		if s.outputs.deaf != nil && s.outputs.deaf(p) {
			return tolerant.OutputEffects{}
		}
		return o.Packet(now, p)
	})
}

// outputStep takes one event through the output interface and carries out its
// effects.
func (s *Server) outputStep(event func(o *tolerant.Output, now int64) tolerant.OutputEffects) {
	x := s.outputs
	x.mu.Lock()
	defer x.mu.Unlock() // effects in the order of steps
	if x.out == nil || s.ctx.Err() != nil {
		return
	}
	s.carryOutOutput(event(x.out, s.unix()))
}

// carryOutOutput waits for nothing.
func (s *Server) carryOutOutput(e tolerant.OutputEffects) {
	x := s.outputs
	for _, a := range e.Alarms {
		s.alarms.raise(s, a)
	}
	for _, f := range e.Fetch {
		s.spawn(func() { s.fetchCopies(s.ctx, f) })
	}
	if len(e.Keep)+len(e.Forget) == 0 {
		return
	}
	x.disk.Lock()
	put := func(request envelope.Hash, k *tolerant.Keep) {
		if _, ok := x.waiting[request]; !ok {
			x.turn = append(x.turn, request)
		}
		x.waiting[request] = k
	}
	for _, k := range e.Keep {
		put(k.Issued.Request, &k)
	}
	for _, request := range e.Forget {
		put(request, nil)
	}
	x.disk.Unlock()
	select {
	case x.more <- struct{}{}:
	default:
	}
}

// keepIssued makes durable what was issued. What the disk does not take is handed
// out again after a while; what is not on it after a crash is asked for anew
// where it was combined.
func (s *Server) keepIssued() {
	x := s.outputs
	for {
		x.disk.Lock()
		if len(x.turn) == 0 {
			x.disk.Unlock()
			select {
			case <-x.more:
				continue
			case <-s.ctx.Done():
				return
			}
		}
		request := x.turn[0]
		k, write := x.waiting[request], x.write
		x.turn = x.turn[1:]
		delete(x.waiting, request)
		x.disk.Unlock()
		if s.ctx.Err() != nil {
			return
		}
		if k == nil {
			if err := os.Remove(s.issuedFile(request)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.log.Error("what was issued cannot be forgotten", "request", request.String(), "err", err)
			}
			continue
		}
		data, err := envelope.Marshal(k.Issued)
		if err == nil {
			err = write(s.issuedFile(request), data)
		}
		if err != nil {
			if !x.failed {
				s.alarms.raise(s, api.Alarm{At: s.unix(), Kind: "not kept", Text: "output interface: what was issued cannot be kept: " + err.Error()})
			}
			x.failed = true
			continue
		}
		x.failed = false
		// A crash before this line finds the file at the next start; whoever asks
		// was told of it already, or will be.
		s.outputStep(func(o *tolerant.Output, now int64) tolerant.OutputEffects { return o.Kept(now, request, k.Version) })
	}
}

// survey asks all sites, now and then, what their combiners made: packets are
// lost, and the server may have been down.
func (s *Server) survey() {
	for {
		var wg sync.WaitGroup
		var silent atomic.Bool
		for _, row := range s.system().state.Servers() {
			wg.Go(func() {
				if !s.surveySite(row) {
					silent.Store(true)
				}
			})
		}
		wg.Wait()
		pause := surveyEvery
		if silent.Load() { // it may have kept copies that it soon has no more
			pause = surveyAgain
		}
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return
		}
	}
}

// surveySite asks one site for what is not known here, one task after the other.
// A site that makes tasks up wastes its own time.
func (s *Server) surveySite(row ledger.Server) (answered bool) {
	ctx, cancel := context.WithTimeout(s.ctx, surveyEvery)
	defer cancel()
	for _, code := range s.cfg.Outputs {
		names, err := s.combinedAt(ctx, row.ID, code)
		if err != nil {
			return false
		}
		var missing []tolerant.Fetch
		s.outputStep(func(o *tolerant.Output, now int64) tolerant.OutputEffects {
			e := o.Combined(now, row.ID, names)
			missing, e.Fetch = e.Fetch, nil
			return e
		})
		for _, f := range missing {
			if f.Enterprise == code {
				s.fetchCopies(ctx, f)
			}
		}
	}
	return true
}

// combinedAt is what a site says that its combiners made.
func (s *Server) combinedAt(ctx context.Context, site string, code uint64) (names []tolerant.TaskName, err error) {
	body, err := envelope.Marshal(code)
	if err != nil {
		return nil, err
	}
	answer, err := s.askCombined(ctx, site, "combined", body, s.serveCombined)
	if err != nil {
		return nil, err
	}
	return names, envelope.Unmarshal(answer, &names)
}

// fetchCopies asks a site for its copies of a task, and hears them.
func (s *Server) fetchCopies(ctx context.Context, f tolerant.Fetch) {
	body, err := envelope.Marshal(f.TaskName)
	if err != nil {
		return
	}
	answer, err := s.askCombined(ctx, f.Site, "copies", body, s.serveCopies)
	var packets []tolerant.Packet
	if err == nil {
		packets, err = tolerant.UnmarshalCopies(answer, f.TaskName)
	}
	if err != nil {
		s.packetRefused(f.Site, fmt.Errorf("copies of task %d of distributor %d of enterprise %d: %w", f.Task, f.Distributor, f.Enterprise, err))
		return
	}
	for _, p := range packets {
		s.outputStep(func(o *tolerant.Output, now int64) tolerant.OutputEffects { return o.Packet(now, p) })
	}
}

func (s *Server) askCombined(ctx context.Context, site, what string, body []byte, own bus.Handler) ([]byte, error) {
	if site == s.cfg.ID {
		return own(ctx, body)
	}
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	return s.askSite(ctx, site, body, what)
}

// serveCombined tells an output interface what combiners of this site made.
func (s *Server) serveCombined(_ context.Context, body []byte) ([]byte, error) {
	var code uint64
	if err := envelope.Unmarshal(body, &code); err != nil {
		return nil, err
	}
	names := []tolerant.TaskName{}
	s.atDesk(func(d *tolerant.Desk) { names = d.Combined(code) })
	return envelope.Marshal(names)
}

// serveCopies gives an output interface what it missed.
func (s *Server) serveCopies(_ context.Context, body []byte) ([]byte, error) {
	var name tolerant.TaskName
	if err := envelope.Unmarshal(body, &name); err != nil {
		return nil, err
	}
	var packets []tolerant.Packet
	s.atDesk(func(d *tolerant.Desk) { packets = d.Copies(name) })
	return tolerant.MarshalCopies(packets)
}

func (s *Server) atDesk(f func(*tolerant.Desk)) {
	s.machines.mu.Lock()
	defer s.machines.mu.Unlock()
	if s.machines.desk != nil {
		f(s.machines.desk)
	}
}

// showIssued is POST /v1/issued: what is durable, and nothing else.
func (s *Server) showIssued(_ context.Context, _ string, body []byte) ([]byte, error) {
	if _, err := s.must(); err != nil {
		return nil, err
	}
	var ask api.IssuedAsk
	if err := envelope.Unmarshal(body, &ask); err != nil {
		return nil, web.Malformed(err)
	}
	if len(s.cfg.Outputs) == 0 {
		return nil, web.NotFound(fmt.Errorf("server %s is no independent output interface", s.cfg.ID))
	}
	x, err := s.readIssued(ask.Request)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, web.NotFound(fmt.Errorf("server %s saw nothing signed for request %s of enterprises %v", s.cfg.ID, ask.Request, slices.Sorted(slices.Values(s.cfg.Outputs))))
	}
	if err != nil {
		return nil, err
	}
	return envelope.Marshal(x)
}
