package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/store"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// queueApprovals holds approvals whose coordinator could not be reached.
const queueApprovals = "approvals"

// approvalResult is a coordinator's answer to another site.
type approvalResult struct {
	Approved api.Approved `cbor:"1,keyasint"`
	Refusal  string       `cbor:"2,keyasint"` // one line; empty: it counts
}

// takeApproval is POST /v1/approval.
func (s *Server) takeApproval(ctx context.Context, source string, body []byte) ([]byte, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	u, err := s.unseal(body)
	if err != nil {
		s.audit.refused(source, approval.TypeApproval, err)
		return nil, web.Malformed(err)
	}
	v, err := s.byCard(sys, u)
	if err != nil {
		s.audit.refused(source, approval.TypeApproval, err)
		return nil, web.Denied(err)
	}
	s.audit.message("in", source, v.Header(), v.Digest())
	var a approval.Approval
	if err := envelope.Decode(v, approval.TypeApproval, approval.Version, &a); err != nil {
		return nil, web.Malformed(err)
	}
	sites := s.inbox.coordinators(a.Request, a.Device)
	if len(sites) == 0 {
		return nil, web.Refused(fmt.Errorf("nobody is asked about request %s at device %s here: it was withdrawn, or is another site's", a.Request, a.Device))
	}
	out, err := s.forward(ctx, sites, v.Raw(), a.Expires)
	if err != nil {
		s.audit.refused(source, approval.TypeApproval, err)
		return nil, err
	}
	return envelope.Marshal(out)
}

// byCard verifies that somebody's card signed a message. Whether he may is for
// others; that he is known is the firewall's.
func (s *Server) byCard(sys *system, u *envelope.Unverified) (*envelope.Verified, error) {
	id, ok := sys.state.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerPerson || id.Use != ledger.UseSign {
		return nil, fmt.Errorf("key %s is not the signature key of anybody's card", u.Header().Signer)
	}
	return u.Verify(id.SignKey)
}

// forward brings an approval to who coordinates the request: one server, or in
// the rare case that the requester went to several, each of them.
func (s *Server) forward(ctx context.Context, sites []string, raw []byte, expires int64) (*api.Approved, error) {
	var out *api.Approved
	var refused error
	for _, site := range sites {
		got, err := s.deliverApproval(ctx, site, raw)
		var away *awayError
		if errors.As(err, &away) {
			got, err = s.queueApproval(site, raw, expires)
		}
		if err != nil {
			refused = err
			continue
		}
		if out == nil || out.Queued {
			out = got
		}
	}
	if out == nil {
		return nil, refused
	}
	return out, nil
}

// awayError means that a site cannot be reached now.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }

func (s *Server) deliverApproval(ctx context.Context, site string, raw []byte) (*api.Approved, error) {
	if site == s.cfg.ID {
		return s.approve(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, siteTimeout)
	defer cancel()
	answer, err := s.askSite(ctx, site, raw, "approval")
	var remote *bus.RemoteError
	switch {
	case errors.As(err, &remote):
		return nil, web.Refused(err)
	case err != nil:
		return nil, &awayError{err}
	}
	var r approvalResult
	if err := envelope.Unmarshal(answer, &r); err != nil {
		return nil, err
	}
	if r.Refusal != "" {
		return nil, web.Refused(errors.New(r.Refusal))
	}
	return &r.Approved, nil
}

// approve hands an approval to a coordinator of this server.
func (s *Server) approve(raw []byte) (*api.Approved, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, web.Malformed(err)
	}
	var a approval.Approval
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &a); err != nil {
		return nil, web.Malformed(err)
	}
	q := s.find(a.Request)
	if q == nil {
		t, _, err := s.tracking(a.Request)
		if err != nil {
			return nil, err
		}
		return nil, web.Refused(fmt.Errorf("%w: %s", coordinator.ErrOver, t.Text))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, web.Busy(errors.New("the server is stopping"))
	}
	out, effects, err := q.r.Approve(s.unix(), raw)
	if !q.over {
		s.carryOut(q, effects)
	}
	if err != nil {
		return nil, web.Refused(err)
	}
	if s.ctx.Err() != nil { // the record is not durable: it does not count
		return nil, web.Busy(errors.New("the server is stopping"))
	}
	return &out, nil
}

// serveApproval answers another site.
func (s *Server) serveApproval(_ context.Context, msg []byte) ([]byte, error) {
	var r approvalResult
	out, err := s.approve(msg)
	var known *web.Error
	switch {
	case err == nil:
		r.Approved = *out
	case errors.As(err, &known):
		r.Refusal = err.Error()
	default:
		return nil, err
	}
	return envelope.Marshal(r)
}

// queueApproval keeps an approval durably until its coordinator can be
// reached: an officer's touch is not asked for twice because a site is down.
func (s *Server) queueApproval(site string, raw []byte, expires int64) (*api.Approved, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	digest := u.UnverifiedDigest()
	_, err = s.store.Put(queueApprovals, store.Message{
		ID: store.ID(envelope.HashOf("privyseal queued approval", digest[:], []byte(site))), From: u.Header().Signer.String(), To: site, Body: raw, Expires: expires,
	})
	if err != nil {
		return nil, web.Refused(err)
	}
	return &api.Approved{Queued: true}, nil
}

// sendQueued delivers what was queued.
func (s *Server) sendQueued() {
	d := &store.Deliverer{
		Store: s.store, Queue: queueApprovals, Timeout: siteTimeout + time.Second, Last: 5 * time.Second, Log: s.log,
		Send: func(ctx context.Context, it store.Item) error {
			_, err := s.deliverApproval(ctx, it.To, it.Body)
			var known *web.Error
			if errors.As(err, &known) {
				return fmt.Errorf("%w: %w", store.ErrPermanent, err)
			}
			return err
		},
		Dropped: func(it store.Item, err error) { s.audit.refused(it.To, "queued approval", err) },
	}
	if err := d.Run(s.ctx); err != nil && s.ctx.Err() == nil {
		s.fatal(err)
	}
}
