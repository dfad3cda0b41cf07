package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// inboxSet is all that the officers of one device are asked about one request.
// It replaces the one before it, if its revision is not lower, so that it can
// be sent again and arrive in any order. One without items withdraws them.
type inboxSet struct {
	Coordinator string        `cbor:"1,keyasint"` // server id
	Request     envelope.Hash `cbor:"2,keyasint"`
	Device      string        `cbor:"3,keyasint"`
	Revision    uint64        `cbor:"4,keyasint"`
	Expires     int64         `cbor:"5,keyasint"`
	Message     []byte        `cbor:"6,keyasint"` // the request message, once for all items; empty without items
	Items       []inboxEntry  `cbor:"7,keyasint"`
}

type inboxEntry struct {
	Officer envelope.KeyID `cbor:"1,keyasint"` // of the 9D key
	Content api.InboxItem  `cbor:"2,keyasint"` // Request empty: it is Message
}

// inbox is what officers of this site's devices are asked. Contents are on the
// disk; in memory there is only who has something.
//
// What is asked of anybody is durable before its coordinator hears that it is
// here. That others have approved meanwhile, or that an officer is asked no
// more, is written soon after: a crash before that makes an officer see a
// question again that he has answered.
type inbox struct {
	disk    sync.Mutex // one writer at a time; taken before mu
	mu      sync.Mutex
	sets    map[envelope.Hash]*heldSet
	seq     uint64
	changed chan struct{} // closed at the next change
}

type heldSet struct {
	seq         uint64 // cursor: rises with every change
	coordinator string
	request     envelope.Hash
	device      string
	revision    uint64
	expires     int64
	officers    map[envelope.KeyID]envelope.Hash // digests of what each is asked
	pending     []byte                           // the content that is not on the disk yet
}

func newInbox() *inbox {
	return &inbox{sets: map[envelope.Hash]*heldSet{}, changed: make(chan struct{})}
}

func (x *inboxSet) key() envelope.Hash {
	return envelope.HashOf("privyseal inbox set", []byte(x.Coordinator), x.Request[:], []byte(x.Device))
}

func (s *Server) inboxFile(key envelope.Hash) string {
	return filepath.Join(s.dir, dirInbox, hex.EncodeToString(key[:])+".set")
}

// present hands officers of a device, at whatever site, their items.
func (s *Server) present(message []byte, digest envelope.Hash, expires int64, p coordinator.Present) error {
	sys := s.system()
	d, ok := sys.state.Device(p.Device)
	if !ok {
		return fmt.Errorf("device %s is not in the ledger", p.Device)
	}
	set := inboxSet{Coordinator: s.cfg.ID, Request: digest, Device: p.Device, Revision: p.Revision, Expires: expires}
	for _, it := range p.Items {
		c := it.Content
		c.Request, set.Message = nil, message
		set.Items = append(set.Items, inboxEntry{it.Officer, c})
	}
	if d.Server == s.cfg.ID {
		return s.takeSet(&set)
	}
	msg, err := envelope.Marshal(set)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, siteTimeout)
	defer cancel()
	_, err = s.askSite(ctx, d.Server, msg, "inbox")
	return err
}

// serveInbox takes a set from another site. What it says is not believed:
// officers verify what they are asked.
func (s *Server) serveInbox(_ context.Context, msg []byte) ([]byte, error) {
	var set inboxSet
	if err := envelope.Unmarshal(msg, &set); err != nil {
		return nil, err
	}
	return nil, s.takeSet(&set)
}

func (s *Server) takeSet(set *inboxSet) error {
	sys := s.system()
	if d, ok := sys.state.Device(set.Device); !ok || d.Server != s.cfg.ID {
		return fmt.Errorf("device %s is not of this site", set.Device)
	}
	if _, ok := sys.state.Server(set.Coordinator); !ok {
		return fmt.Errorf("server %s is not in the ledger", set.Coordinator)
	}
	for _, e := range set.Items {
		if id, ok := sys.state.Identity(e.Officer); !ok || id.AgreeKey == nil {
			return fmt.Errorf("key %s is no officer's", e.Officer)
		}
	}
	h, data, err := hold(set)
	if err != nil {
		return err
	}
	key := set.key()
	x := s.inbox
	done, err := x.update(key, h, data)
	if err != nil || done {
		return err
	}
	x.disk.Lock()
	defer x.disk.Unlock()
	if x.overtaken(key, h) {
		return nil
	}
	if err := atomicfile.Write(s.inboxFile(key), data, 0o600); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.sets[key]; old == nil || old.revision <= h.revision { // else what is pending has overtaken it
		x.put(key, h)
	}
	s.audit.log.Info("inbox", "coordinator", set.Coordinator, "request", set.Request.String(), "device", set.Device, "revision", set.Revision, "items", len(set.Items))
	return nil
}

// hold is what is kept of a set in memory, and on the disk.
func hold(set *inboxSet) (*heldSet, []byte, error) {
	h := &heldSet{
		coordinator: set.Coordinator, request: set.Request, device: set.Device, revision: set.Revision, expires: set.Expires,
		officers: map[envelope.KeyID]envelope.Hash{},
	}
	for _, e := range set.Items {
		e.Content.Approved = nil // is for people to see
		asked, err := envelope.Marshal(e.Content)
		if err != nil {
			return nil, nil, err
		}
		h.officers[e.Officer] = envelope.HashOf("privyseal inbox item", asked)
	}
	data, err := envelope.Marshal(set)
	return h, data, err
}

// update takes a set that asks nobody anything new, and reports whether nothing
// more is to be done now.
func (x *inbox) update(key envelope.Hash, h *heldSet, data []byte) (bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.sets[key]
	switch {
	case old == nil && len(x.sets) >= maxSets:
		return false, errors.New("the inboxes of this site are full")
	case old == nil:
		return false, nil
	case old.revision > h.revision:
		return true, nil // overtaken
	}
	for officer, asked := range h.officers {
		if old.officers[officer] != asked {
			return false, nil
		}
	}
	h.pending = data
	x.put(key, h)
	return true, nil
}

func (x *inbox) overtaken(key envelope.Hash, h *heldSet) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.sets[key]
	return old != nil && old.revision > h.revision
}

// keepInbox writes what is pending, now and then.
func (s *Server) keepInbox() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.ctx.Done():
			s.writeInbox()
			return
		}
		s.writeInbox()
	}
}

func (s *Server) writeInbox() {
	x := s.inbox
	x.mu.Lock()
	var keys []envelope.Hash
	for key, h := range x.sets {
		if h.pending != nil {
			keys = append(keys, key)
		}
	}
	x.mu.Unlock()
	for _, key := range keys {
		if err := s.writeSet(key); err != nil {
			s.audit.refused(s.cfg.ID, "inbox", err)
		}
	}
}

// writeSet writes a set as it is now, if that is pending. One that asks nobody
// anything needs no file.
func (s *Server) writeSet(key envelope.Hash) error {
	x := s.inbox
	x.disk.Lock()
	defer x.disk.Unlock()
	x.mu.Lock()
	h := x.sets[key]
	x.mu.Unlock()
	if h == nil || h.pending == nil {
		return nil
	}
	var err error
	if len(h.officers) == 0 {
		if err = os.Remove(s.inboxFile(key)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	} else {
		err = atomicfile.Write(s.inboxFile(key), h.pending, 0o600)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		h.pending = nil
	}
	return err
}

// put notes a set; the caller holds the lock.
func (x *inbox) put(key envelope.Hash, h *heldSet) {
	x.seq++
	h.seq = x.seq
	x.sets[key] = h
	close(x.changed)
	x.changed = make(chan struct{})
}

// loadInbox reads what an earlier run kept.
func (s *Server) loadInbox() error {
	files, err := filepath.Glob(filepath.Join(s.dir, dirInbox, "*.set"))
	if err != nil {
		return err
	}
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var set inboxSet
		if err := envelope.Unmarshal(data, &set); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		h, _, err := hold(&set)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		s.inbox.put(set.key(), h)
	}
	return nil
}

func (s *Server) sweepInbox() {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	for key, h := range s.inbox.sets {
		if h.expires <= s.unix() {
			os.Remove(s.inboxFile(key))
			delete(s.inbox.sets, key)
		}
	}
}

// due lists an officer's sets after a cursor, oldest first.
func (x *inbox) due(officer envelope.KeyID, since uint64, now int64) (keys []envelope.Hash, seqs []uint64, changed <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	type entry struct {
		key envelope.Hash
		seq uint64
	}
	var found []entry
	for key, h := range x.sets {
		if _, ok := h.officers[officer]; ok && h.seq > since && h.expires > now {
			found = append(found, entry{key, h.seq})
		}
	}
	slices.SortFunc(found, func(a, b entry) int { return int(int64(a.seq) - int64(b.seq)) })
	for _, e := range found[:min(len(found), maxBatch)] {
		keys, seqs = append(keys, e.key), append(seqs, e.seq)
	}
	return keys, seqs, x.changed
}

// coordinators are the servers that asked about a request at a device, also
// those that do not ask any more: they say best why.
func (x *inbox) coordinators(request envelope.Hash, device string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for _, h := range x.sets {
		if h.request == request && h.device == device && !slices.Contains(out, h.coordinator) {
			out = append(out, h.coordinator)
		}
	}
	slices.Sort(out)
	return out
}
