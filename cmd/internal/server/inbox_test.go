package server

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestInboxWrites: what asks an officer something is on the disk at once; that
// somebody else has approved, or that nothing is asked any more, soon after. What
// officers see is the latest either way.
func TestInboxWrites(t *testing.T) {
	r := newRig(t)
	r.commission()
	s := r.servers["server-1"]
	card := func(who string) envelope.KeyID {
		id, err := envelope.KeyIDOf(r.sys.Persons[who].Card().Agree.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	set := func(revision uint64, share string, approved []string, officers ...envelope.KeyID) *inboxSet {
		x := &inboxSet{Coordinator: "server-2", Request: envelope.Hash{1}, Device: "device-1", Revision: revision, Expires: r.unix() + 3600, Message: []byte("m")}
		for _, o := range officers {
			x.Items = append(x.Items, inboxEntry{Officer: o, Content: api.InboxItem{Device: "device-1", Share: share, Approved: approved}})
		}
		return x
	}
	a, b := card("officer-1a"), card("officer-1b")
	key := set(1, "", nil).key()
	disk := func() []byte {
		data, err := os.ReadFile(s.inboxFile(key))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return data
	}
	for _, step := range []struct {
		what   string
		set    *inboxSet
		atOnce bool
	}{
		{"a question", set(1, "x", nil, a), true},
		{"one more officer", set(2, "x", nil, a, b), true},
		{"one has approved", set(3, "x", []string{"A"}, b), false},
		{"he is asked again", set(4, "x", nil, a, b), true},
		{"another question", set(5, "y", nil, a, b), true},
		{"no question", set(6, "y", nil), false},
		{"a question again", set(7, "y", nil, a), true},
	} {
		// The server's own writer may come at any time: it is kept away.
		s.inbox.disk.Lock()
		if step.atOnce {
			s.inbox.disk.Unlock()
		}
		before := disk()
		if err := s.takeSet(step.set); err != nil {
			t.Fatal(err)
		}
		_, want, err := hold(step.set)
		if err != nil {
			t.Fatal(err)
		}
		if got := disk(); !step.atOnce && !bytes.Equal(got, before) || step.atOnce && !bytes.Equal(got, want) {
			t.Errorf("%s: on the disk at once: %v, want %v", step.what, bytes.Equal(got, want), step.atOnce)
		}
		if got, err := s.content(key); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: officers see something else: %v", step.what, err)
		}
		if !step.atOnce {
			s.inbox.disk.Unlock()
		}
		s.writeInbox()
		if got := disk(); len(step.set.Items) > 0 && !bytes.Equal(got, want) || len(step.set.Items) == 0 && got != nil {
			t.Errorf("%s: it is not on the disk in the end", step.what)
		}
	}
}

// TestInboxPages: an officer who is asked about many batches gets all of them, in
// answers that are not too long.
func TestInboxPages(t *testing.T) {
	r := newRig(t)
	r.commission()
	s := r.servers["server-1"]
	officer, err := envelope.KeyIDOf(r.sys.Persons["officer-1a"].Card().Agree.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	const batches, size = 13, 700 << 10
	for i := range batches {
		set := &inboxSet{
			Coordinator: "server-2", Request: envelope.Hash{1, byte(i)}, Device: "device-1", Revision: 1, Expires: r.unix() + 3600, Message: make([]byte, size),
			Items: []inboxEntry{{Officer: officer, Content: api.InboxItem{Device: "device-1"}}},
		}
		if err := s.takeSet(set); err != nil {
			t.Fatal(err)
		}
	}
	var since uint64
	pages, items := 0, 0
	for {
		page, err := r.clients["server-1"].Poll(t.Context(), api.PathInbox, web.Poll{Inbox: officer.String(), Since: since})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		pages++
		for _, m := range page {
			if m.Cursor <= since || len(m.Body) < size {
				t.Fatalf("%d octets at %d after %d", len(m.Body), m.Cursor, since)
			}
			since = m.Cursor
			items++
		}
	}
	if items != batches || pages < batches*size/web.MaxBody {
		t.Errorf("%d items of %d in %d pages", items, batches, pages)
	}
}
