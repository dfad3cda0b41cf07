package server

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// pollInbox is GET /v1/inbox: items sealed to the officer's 9D key, so that
// nobody else learns what he is asked.
func (s *Server) pollInbox(ctx context.Context, source string, p web.Poll) (web.Batch, error) {
	sys, err := s.must()
	if err != nil {
		return nil, err
	}
	officer, err := envelope.ParseKeyID(p.Inbox)
	if err != nil {
		return nil, web.Malformed(err)
	}
	id, ok := sys.state.Identity(officer)
	if !ok || id.AgreeKey == nil || id.Kind != ledger.OwnerPerson {
		return nil, web.Denied(fmt.Errorf("key %s is not the agreement key of anybody's card", officer))
	}
	deadline := time.NewTimer(p.Wait)
	defer deadline.Stop()
	for {
		keys, seqs, changed := s.inbox.due(officer, p.Since, s.unix())
		if len(keys) > 0 {
			return s.sealItems(sys, source, id, keys, seqs)
		}
		if !s.await(ctx, changed, deadline) {
			return nil, nil
		}
	}
}

// await waits for news, and reports false if there were none while whoever asks, or
// the server, was there.
func (s *Server) await(ctx context.Context, changed <-chan struct{}, deadline *time.Timer) bool {
	select {
	case <-changed:
		return true
	case <-deadline.C:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}

func (s *Server) sealItems(sys *system, source string, officer ledger.Identity, keys []envelope.Hash, seqs []uint64) (web.Batch, error) {
	var batch web.Batch
	octets := 0
	for i, key := range keys {
		sealed, err := s.sealItem(sys, source, officer, key)
		if err != nil {
			return nil, err
		}
		if sealed == nil {
			continue // withdrawn meanwhile
		}
		if octets += len(sealed); octets > web.MaxBody/2 && len(batch) > 0 {
			break // the next poll brings the rest
		}
		batch = append(batch, web.Message{Cursor: seqs[i], Body: sealed})
	}
	return batch, nil
}

// content is a set, encoded; nil if there is none any more.
func (s *Server) content(key envelope.Hash) ([]byte, error) {
	s.inbox.mu.Lock()
	h := s.inbox.sets[key]
	var data []byte
	if h != nil {
		data = h.pending
	}
	s.inbox.mu.Unlock()
	if data != nil {
		return data, nil
	}
	data, err := os.ReadFile(s.inboxFile(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (s *Server) sealItem(sys *system, source string, officer ledger.Identity, key envelope.Hash) ([]byte, error) {
	data, err := s.content(key)
	if data == nil || err != nil {
		return nil, err
	}
	var set inboxSet
	if err := envelope.Unmarshal(data, &set); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(set.Items, func(e inboxEntry) bool { return e.Officer == officer.ID })
	if i < 0 {
		return nil, nil
	}
	item := set.Items[i].Content
	item.Request = set.Message
	body, err := envelope.Marshal(item)
	if err != nil {
		return nil, err
	}
	now := s.unix()
	if set.Expires <= now {
		return nil, nil
	}
	raw, err := envelope.Sign(rand.Reader, s.keys.sign, envelope.Header{
		Type: api.TypeInboxItem, Version: api.InboxItemVersion, System: sys.state.System(), LedgerHead: sys.state.Head(),
		To: []envelope.KeyID{officer.ID}, Created: now, Expires: set.Expires,
	}, body)
	if err != nil {
		return nil, err
	}
	if u, err := envelope.Parse(raw); err == nil {
		s.audit.message("out", source, u.Header(), u.UnverifiedDigest(), "request", set.Request.String(), "device", set.Device)
	}
	return envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{officer.AgreeKey})
}
