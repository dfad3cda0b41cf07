package server

import (
	"context"
	"crypto/ecdh"
	"net/http"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// work lets officers approve what their inboxes hold, at their own sites,
// until the request is over.
func (r *rig) work(coordinator string, digest envelope.Hash, idle map[string]bool) *api.Tracking {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	var last *api.Tracking
	for time.Now().Before(deadline) {
		for _, o := range r.sys.Genesis.Officers {
			if !idle[o.Person] {
				r.approveAll(o)
			}
		}
		t := r.tracking(coordinator, digest, 0, 200*time.Millisecond)
		if t != nil {
			last = t
			if t.State != api.StateOpen {
				return t
			}
		}
	}
	r.t.Fatalf("not over in time: %+v", last)
	return nil
}

func (r *rig) tracking(server string, digest envelope.Hash, since uint64, wait time.Duration) *api.Tracking {
	r.t.Helper()
	batch, err := r.clients[server].Poll(context.Background(), api.PathTracking, web.Poll{Inbox: digest.String(), Since: since, Wait: wait})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(batch) == 0 {
		return nil
	}
	var t api.Tracking
	if err := envelope.Unmarshal(batch[0].Body, &t); err != nil {
		r.t.Fatal(err)
	}
	return &t
}

func (r *rig) inbox(o ledger.Officer) []api.InboxItem {
	r.t.Helper()
	p := r.sys.Persons[o.Person]
	row, _ := r.sys.State.Device(o.Device)
	id, err := envelope.KeyIDOf(p.Card().Agree.PublicKey())
	if err != nil {
		r.t.Fatal(err)
	}
	batch, err := r.clients[row.Server].Poll(context.Background(), api.PathInbox, web.Poll{Inbox: id.String()})
	if err != nil {
		r.t.Fatal(err)
	}
	var items []api.InboxItem
	for _, m := range batch {
		raw, err := envelope.Open(m.Body, p.Card().Agree)
		if err != nil {
			r.t.Fatal(err)
		}
		u, err := envelope.Parse(raw)
		if err != nil {
			r.t.Fatal(err)
		}
		key, _ := envelope.ParseSigningKey(r.rows[row.Server].Sign)
		v, err := u.Verify(key)
		if err != nil {
			r.t.Fatal(err)
		}
		var it api.InboxItem
		if err := envelope.Decode(v, api.TypeInboxItem, api.InboxItemVersion, &it); err != nil {
			r.t.Fatal(err)
		}
		items = append(items, it)
	}
	return items
}

// approveAll has an officer approve what his inbox holds.
func (r *rig) approveAll(o ledger.Officer) {
	r.t.Helper()
	for _, it := range r.inbox(o) {
		r.approve(o, it)
	}
}

// approveOne has him approve one item, and reports whether it counts.
func (r *rig) approveOne(o ledger.Officer) bool {
	r.t.Helper()
	for _, it := range r.inbox(o) {
		if r.approve(o, it) {
			return true
		}
	}
	return false
}

func (r *rig) approve(o ledger.Officer, it api.InboxItem) bool {
	r.t.Helper()
	row, _ := r.sys.State.Device(o.Device)
	var out api.Approved
	err := r.post(row.Server, api.PathApproval, coordtest.Approve(r.t, r.sys, r.sys.Persons[o.Person], it, r.unix(), ""), &out)
	if status, ok := asStatus(err); ok && status.Code == http.StatusConflict {
		return false // the item was overtaken, or approved already
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return !out.Queued
}

func ecdhKeys(p ledgertest.Pair) []*ecdh.PublicKey { return []*ecdh.PublicKey{p.Agree.PublicKey()} }

func (r *rig) request(server string, raw []byte) envelope.Hash {
	r.t.Helper()
	var out api.Accepted
	if err := r.post(server, api.PathRequest, raw, &out); err != nil {
		r.t.Fatal(err)
	}
	return out.Request
}

// waitStatus waits until both sites see each other and all devices.
func (r *rig) waitStatus() {
	r.t.Helper()
	var status api.SystemStatus
	for range 100 {
		if err := r.send("server-1", api.PathStatus, nil, &status); err != nil {
			r.t.Fatal(err)
		}
		ready := 0
		for _, s := range status.Servers {
			for _, d := range s.Devices {
				if d.Status != nil {
					ready++
				}
			}
		}
		if ready == ledgertest.Devices {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("not all are ready: %+v", status)
}
