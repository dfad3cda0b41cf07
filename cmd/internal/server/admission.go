package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// takeRequest is POST /v1/request.
func (s *Server) takeRequest(ctx context.Context, source string, body []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	u, err := s.unseal(body)
	if err != nil {
		s.audit.refused(source, "request", err)
		return nil, web.Malformed(err)
	}
	raw := u.Raw()
	if len(raw) > maxRequest {
		return nil, web.Refused(fmt.Errorf("the request has %d octets, at most %d travel: sign a digest of it with a key that allows this", len(raw), maxRequest))
	}
	digest := u.UnverifiedDigest()
	if s.known(digest) {
		return envelope.Marshal(api.Accepted{Request: digest})
	}
	// Everything from here on counts for the requester: it has to be his.
	if err := signedBySomebody(sys, u); err != nil {
		s.audit.refused(source, "request", err)
		return nil, classify(err)
	}
	owner := u.Header().Signer
	if err := s.heard(owner); err != nil {
		return nil, err
	}
	// Whoever came to the wrong server is told which is the right one.
	var about document.Request
	if envelope.Unmarshal(u.UnverifiedPayload(), &about) == nil {
		if err := s.mayDistribute(sys, about.Key); err != nil {
			s.audit.refused(source, "request", err)
			return nil, web.Refused(err)
		}
		// One that is over is for the coordinator to refuse.
		if left := about.Expires - s.unix(); left > 0 && left < minLeft {
			err := fmt.Errorf("the request expires in %d s, and officers and devices need longer: ask for %d s at least (--expires)", left, api.MinLifetime)
			s.audit.refused(source, "request", err)
			return nil, web.Refused(err)
		}
	}
	v := &visit{owner: owner, digest: digest, weight: about.Weight(), created: about.Created, batch: len(about.Batch) > 0}
	if err := s.requests.hall.remembered(digest, sys.state.Head(), s.now()); err != nil {
		s.audit.refused(source, "request", err)
		return nil, classify(err)
	}
	err = s.requests.hall.enter(ctx, v, s.now, func() error { return s.room(owner) }, func() error {
		if s.known(digest) { // it came twice at the same time
			return nil
		}
		if err := s.heard(owner); err != nil { // it waited behind others that were refused
			return err
		}
		return s.admit(sys, source, u, v)
	})
	if err != nil {
		return nil, err
	}
	return envelope.Marshal(api.Accepted{Request: digest})
}

// heard refuses a requester whom the firewall denies, before his request costs more
// than its signature.
func (s *Server) heard(owner envelope.KeyID) error {
	if err := s.limiter.Allow(nameOf(owner)); err != nil {
		return &web.Error{Status: http.StatusTooManyRequests, Err: fmt.Errorf("too many batches of this requester were refused: %w", err)}
	}
	return nil
}

// signedBySomebody verifies the signature of a request.
func signedBySomebody(sys *system, u *envelope.Unverified) error {
	id, ok := sys.state.Identity(u.Header().Signer)
	if !ok || id.SignKey == nil {
		return fmt.Errorf("%w: key %s is in no table, or signs nothing", coordinator.ErrSigner, u.Header().Signer)
	}
	if _, err := u.Verify(id.SignKey); err != nil {
		return fmt.Errorf("%w: %w", coordinator.ErrSigner, err)
	}
	return nil
}

// admit checks a request and begins it. A batch takes long to check, and nobody
// else's request waits for that: it is done before the lock is taken, and again if
// the ledger grew meanwhile.
func (s *Server) admit(sys *system, source string, u *envelope.Unverified, v *visit) error {
	for {
		r, err := coordinator.New(s.coordinatorConfig(sys), u.Raw(), s.unix())
		if err != nil {
			s.audit.refused(source, "request", err)
			s.refuse(sys, v, err)
			return classify(err)
		}
		s.requests.admission.Lock()
		if now := s.system(); now != sys {
			s.requests.admission.Unlock()
			sys = now
			continue
		}
		defer s.requests.admission.Unlock()
		if err := s.room(v.owner); err != nil { // others came in meanwhile
			return err
		}
		s.audit.message("in", source, u.Header(), v.digest)
		// The message first: a crash between the two files makes the next start
		// begin the request anew, which loses nothing.
		if err := atomicfile.Write(s.requestFile(v.digest, suffixRequest), u.Raw(), 0o600); err != nil {
			return err
		}
		s.run(r, v.owner)
		v.pay()
		return nil
	}
}

// refuse notes that a batch was refused. It counts against its requester only while
// it is new: nobody has kept one of his that was sound once.
func (s *Server) refuse(sys *system, v *visit, err error) {
	if !v.batch {
		return
	}
	s.requests.hall.remember(v.digest, sys.state.Head(), s.now(), err)
	if v.created > s.unix()-blameFor {
		s.limiter.Fail(nameOf(v.owner), err)
		v.pay()
	}
}

// classify turns a coordinator's refusal of a request into an HTTP answer.
func classify(err error) error {
	var form *envelope.HeaderError
	var encoding *envelope.EncodingError
	switch {
	case errors.Is(err, coordinator.ErrSigner):
		return web.Denied(err)
	case errors.As(err, &form), errors.As(err, &encoding):
		return web.Malformed(err)
	}
	return web.Refused(err)
}

func (s *Server) known(digest envelope.Hash) bool {
	if s.find(digest) != nil {
		return true
	}
	_, err := os.Stat(s.requestFile(digest, suffixResult))
	return err == nil
}

// room refuses what would saturate the server, each requester for himself.
func (s *Server) room(owner envelope.KeyID) error {
	all, own := 0, 0
	for _, q := range s.everyRequest() {
		q.mu.Lock()
		open := q.r.Open()
		q.mu.Unlock()
		if open {
			all++
			if q.owner == owner {
				own++
			}
		}
	}
	if all >= maxOpen || own >= maxOpenOf {
		return web.Busy(fmt.Errorf("too many requests are open (%d, %d of them yours)", all, own))
	}
	return nil
}

// visit is a request that has come and is not checked yet.
type visit struct {
	owner   envelope.KeyID
	digest  envelope.Hash
	weight  int   // of its keys
	created int64 // as it says
	batch   bool
	rest    time.Duration // that its requester's next one waits
}

// nameOf is a requester's at the firewall.
func nameOf(owner envelope.KeyID) string { return "requester " + owner.String() }

// pay has the requester rest for what the check took.
func (v *visit) pay() { v.rest = time.Duration(v.weight) * restOfProof }
