package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// system is what this server knows of the ledger. It is never changed, only
// replaced.
type system struct {
	raw   []byte // api.System
	api   api.System
	state ledger.State
	peers *peers
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

// loadSystem reads what an earlier run was given.
func (s *Server) loadSystem() error {
	raw, err := os.ReadFile(filepath.Join(s.dir, fileSystem))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sys, err := s.verifySystem(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", fileSystem, err)
	}
	s.sys.Store(sys)
	return nil
}

// verifySystem folds a genesis and its entries, and finds this server in it.
func (s *Server) verifySystem(raw []byte) (*system, error) {
	out := &system{raw: bytes.Clone(raw)}
	if err := envelope.Unmarshal(raw, &out.api); err != nil {
		return nil, err
	}
	var b ledger.Bundle
	if err := envelope.Unmarshal(out.api.Bundle, &b); err != nil {
		return nil, err
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return nil, err
	}
	var entries []ledger.SignedEntry
	for _, e := range out.api.Entries {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(e, &x); err != nil {
			return nil, err
		}
		entries = append(entries, x)
	}
	if out.state, err = ledger.Catchup(ledger.New(g), entries); err != nil {
		return nil, err
	}
	own, err := s.keys.identity(s.cfg)
	if err != nil {
		return nil, err
	}
	row, ok := out.state.Server(s.cfg.ID)
	if !ok || !bytes.Equal(row.Sign, own.Sign) || !bytes.Equal(row.Agree, own.Agree) || row.TLS != own.TLS {
		return nil, fmt.Errorf("the system does not list server %s with this server's keys", s.cfg.ID)
	}
	out.peers, out.authorities = peersOf(out.state), out.state.Enterprises()
	return out, nil
}

// takeSystem is POST /v1/system: the first system that lists this server's own
// keys, and later the same one with as many entries or more.
func (s *Server) takeSystem(_ context.Context, source string, body []byte) ([]byte, error) {
	sys, err := s.verifySystem(body)
	if err != nil {
		s.audit.refused(source, "system", err)
		return nil, web.Denied(err)
	}
	s.requests.admission.Lock() // one at a time
	defer s.requests.admission.Unlock()
	old := s.system()
	switch {
	case old == nil:
	case old.state.System() != sys.state.System():
		return nil, web.Refused(fmt.Errorf("server %s belongs to another system (%s)", s.cfg.ID, old.state.System()))
	case sys.state.Height() <= old.state.Height():
		return bytes.Clone(old.raw), nil
	default:
		if _, ok := sys.state.Knows(old.state.Head()); !ok {
			return nil, web.Refused(errors.New("these entries are not a continuation of those that are known here"))
		}
	}
	// A crash before this line leaves a server without a system, which is handed
	// it again; after it, one that finds it at the start.
	if err := atomicfile.Write(filepath.Join(s.dir, fileSystem), sys.raw, 0o600); err != nil {
		return nil, err
	}
	s.sys.Store(sys)
	s.audit.log.Info("system", "source", source, "system", sys.state.System().String(), "height", sys.state.Height())
	s.log.Info("this server belongs to a system", "name", sys.state.Name(), "system", sys.state.System().String())
	if old == nil {
		if err := s.join(); err != nil {
			// It is durable: the next start tries again, and says why it cannot.
			s.fatal(err)
			return nil, err
		}
	}
	if old != nil {
		if err := s.grown(sys); err != nil {
			s.fatal(err)
			return nil, err
		}
	}
	s.regard(sys)
	return bytes.Clone(sys.raw), nil
}

func (s *Server) showSystem(context.Context, string, []byte) ([]byte, error) {
	sys := s.system()
	if sys == nil {
		return nil, web.NotFound(fmt.Errorf("server %s belongs to no system yet", s.cfg.ID))
	}
	return sys.raw, nil
}
