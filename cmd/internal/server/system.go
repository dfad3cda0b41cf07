package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// system is what this server knows of the ledger. It is never changed, only
// replaced.
type system struct {
	bundle  []byte   // ledger.Bundle
	entries [][]byte // ledger.SignedEntry, of all that state has folded
	size    int      // their octets
	state   ledger.State
	peers   *peers
	// authorities are those in two layers: the ledger hands out copies, which
	// are large.
	authorities []ledger.Dealing
}

// authorityOf finds the authority in two layers that has a key, nil if there is
// none.
func (sys *system) authorityOf(key string) *ledger.Dealing {
	for i := range sys.authorities {
		if sys.authorities[i].Key.ID == key {
			return &sys.authorities[i]
		}
	}
	return nil
}

// distributor returns the number under which a server gives out an enterprise's
// tasks, 0 if it does not.
func (sys *system) distributor(code uint64, server string) uint64 {
	for i := range sys.authorities {
		if sys.authorities[i].Enterprise.Code != code {
			continue
		}
		for _, d := range sys.authorities[i].Distributors {
			if d.Server == server {
				return d.Number
			}
		}
	}
	return 0
}

// system returns nil before the ceremony.
func (s *Server) system() *system { return s.sys.Load() }

// must returns the system or the refusal that there is none.
func (s *Server) must() (*system, error) {
	if sys := s.system(); sys != nil {
		return sys, nil
	}
	return nil, web.Refused(fmt.Errorf("server %s belongs to no system yet: hold the ceremony first", s.cfg.ID))
}

// loadSystem reads what earlier runs were given: a journal of api.System, page
// by page as they came. A crash leaves each page whole or not at all.
func (s *Server) loadSystem() error {
	j, pages, err := journal.Open(filepath.Join(s.dir, fileSystem))
	if err != nil {
		return err
	}
	s.ledger = j
	var sys *system
	for i, raw := range pages {
		var page api.System
		err := envelope.Unmarshal(raw, &page)
		if err == nil && i == 0 {
			sys, err = s.verifyBundle(page.Bundle)
		}
		if err == nil {
			err = sys.fold(&page)
		}
		if err != nil {
			return fmt.Errorf("%s, page %d: %w", fileSystem, i+1, err)
		}
	}
	if sys != nil {
		sys.tables()
		s.sys.Store(sys)
		s.warnOfSize(sys)
	}
	return nil
}

// verifyBundle verifies a genesis and finds this server in it.
func (s *Server) verifyBundle(bundle []byte) (*system, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(bundle, &b); err != nil {
		return nil, err
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return nil, err
	}
	sys := &system{bundle: bundle, state: ledger.New(g)}
	own, err := s.keys.identity(s.cfg)
	if err != nil {
		return nil, err
	}
	row, ok := sys.state.Server(s.cfg.ID)
	if !ok || !bytes.Equal(row.Sign, own.Sign) || !bytes.Equal(row.Agree, own.Agree) || row.TLS != own.TLS {
		return nil, fmt.Errorf("the system does not list server %s with this server's keys", s.cfg.ID)
	}
	return sys, nil
}

// Refusals of a page.
var (
	errFork = errors.New("these entries are not a continuation of those that are known here")
	errFull = fmt.Errorf("the ledger of a system has at most %d octets", api.MaxLedger)
)

// fold adds the entries of a page. Those that are known may come again. What
// was added before an entry that is refused stays.
func (sys *system) fold(page *api.System) error {
	if at := sys.state.Height(); page.After > at {
		return &gapError{page.After, at}
	}
	for i, raw := range page.Entries {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			return fmt.Errorf("entry %d: %w", page.After+uint64(i)+1, err)
		}
		if sys.state.Has(x) {
			continue
		}
		v, err := ledger.VerifyEntry(sys.state, x)
		var fork *ledger.ForkError
		switch {
		case errors.As(err, &fork):
			return fmt.Errorf("%w: %w", errFork, err)
		case err != nil:
			return err
		case sys.size+len(raw) > api.MaxLedger:
			return errFull
		}
		if sys.state, err = ledger.ApplyVerified(sys.state, v); err != nil {
			return err
		}
		sys.entries, sys.size = append(sys.entries, raw), sys.size+len(raw)
	}
	return nil
}

// A gapError is a page that follows entries which the server does not have.
type gapError struct{ after, height uint64 }

func (e *gapError) Error() string {
	return fmt.Sprintf("the page follows entry %d of the ledger, and this server has %d", e.after, e.height)
}

// tables makes what is looked up often.
func (sys *system) tables() { sys.peers, sys.authorities = peersOf(sys.state), sys.state.Enterprises() }

// takeSystem is POST /v1/system: the first system that lists this server's own
// keys, and later more entries of the same one, page by page. Of a page with an
// entry that is refused, those before it are kept.
func (s *Server) takeSystem(_ context.Context, source string, body []byte) ([]byte, error) {
	var page api.System
	if err := envelope.Unmarshal(body, &page); err != nil {
		return nil, web.Malformed(err)
	}
	s.taking.Lock() // one at a time; nothing else waits while a page is verified
	defer s.taking.Unlock()
	old := s.system()
	next, err := s.nextSystem(old, &page)
	if err != nil {
		s.audit.refused(source, "system", err)
		return nil, err
	}
	refused := next.fold(&page)
	if refused != nil {
		s.audit.refused(source, "system", refused)
	}
	if old == nil || next.state.Height() > old.state.Height() {
		if err := s.keepSystem(source, old, next); err != nil {
			return nil, err
		}
	}
	var gap *gapError
	switch {
	case refused == nil:
		return envelope.Marshal(api.SystemTaken{Height: next.state.Height()})
	case errors.Is(refused, errFork), errors.Is(refused, errFull), errors.As(refused, &gap):
		return nil, web.Refused(refused)
	}
	return nil, web.Denied(refused)
}

// nextSystem is what a page is folded on: a copy of the known system, or the one
// that the page begins.
func (s *Server) nextSystem(old *system, page *api.System) (*system, error) {
	switch {
	case old == nil && len(page.Bundle) == 0:
		return nil, web.Refused(fmt.Errorf("server %s belongs to no system yet: begin with the bundle", s.cfg.ID))
	case len(page.Bundle) > 0 && (old == nil || !bytes.Equal(page.Bundle, old.bundle)):
		began, err := s.verifyBundle(page.Bundle)
		if err != nil {
			return nil, web.Denied(err)
		}
		if old == nil {
			return began, nil
		}
		if old.state.System() != began.state.System() {
			return nil, web.Refused(fmt.Errorf("server %s belongs to another system (%s)", s.cfg.ID, old.state.System()))
		}
	}
	next := *old
	return &next, nil
}

// keepSystem makes a system durable and puts it in force.
func (s *Server) keepSystem(source string, old, next *system) error {
	page := api.System{Bundle: next.bundle, Entries: next.entries}
	if old != nil {
		at := old.state.Height()
		page = api.System{After: at, Entries: next.entries[at:]}
	}
	raw, err := envelope.Marshal(&page)
	if err != nil {
		return err
	}
	next.tables()
	s.requests.admission.Lock() // no new request meanwhile
	defer s.requests.admission.Unlock()
	// A crash before the end of this line leaves what there was, and the page is
	// handed over again; after it, the next start finds it.
	if err := s.ledger.Append(raw); err != nil {
		s.fatal(err)
		return err
	}
	s.sys.Store(next)
	s.audit.log.Info("system", "source", source, "system", next.state.System().String(), "height", next.state.Height())
	s.warnOfSize(next)
	if old == nil {
		s.log.Info("this server belongs to a system", "name", next.state.Name(), "system", next.state.System().String())
		err = s.join()
	} else {
		err = s.grown(next)
	}
	if err != nil {
		// It is durable: the next start tries again, and says why it cannot.
		s.fatal(err)
		return err
	}
	s.regard(next)
	return nil
}

// warnOfSize tells the operator in time of a ledger that comes to its limit.
func (s *Server) warnOfSize(sys *system) {
	if sys.size > api.MaxLedger/2 {
		s.log.Warn("the ledger has come to more than half of its limit", "octets", sys.size, "most", api.MaxLedger)
	}
}

// showSystem is POST /v1/system/show.
func (s *Server) showSystem(_ context.Context, _ string, body []byte) ([]byte, error) {
	sys := s.system()
	if sys == nil {
		return nil, web.NotFound(fmt.Errorf("server %s belongs to no system yet", s.cfg.ID))
	}
	var ask api.SystemAsk
	if err := envelope.Unmarshal(body, &ask); err != nil {
		return nil, web.Malformed(err)
	}
	return envelope.Marshal(api.PageOf(sys.bundle, sys.state, sys.entries, ask))
}
