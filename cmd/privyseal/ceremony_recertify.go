package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const (
	// recertifyLife is how long the requests for certificates stand: as long
	// as a ceremony may be interrupted for a night.
	recertifyLife = 24 * time.Hour
	// signPatience is how long devices have to make all the certificates once
	// enough officers approved, before further officers are asked.
	signPatience = 20 * time.Second
	// inboxPatience is how long an officer's workstation waits for an item that
	// is on its way from another site.
	inboxPatience = 30 * time.Second
)

// recertify is stages 4 and 5 (A12, A13): every device asks for a certificate
// of the system-wide authority for itself and for its officers, the officers
// approve each with their cards, and enough devices sign. The certificates go
// back to the devices, which register their officers by them.
func (a *app) recertify(ctx context.Context, r *room, s ledger.State) ([][]byte, error) {
	lead := s.Servers()[0]
	conn, err := client.Dial(lead)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := a.awaitLeases(ctx, conn, s); err != nil {
		return nil, err
	}
	open, err := a.askRecertification(ctx, conn, s, lead)
	if err != nil {
		return nil, err
	}
	key, _ := s.LedgerKey()
	for i, h := range key.Holders {
		if uint64(i) >= key.T && a.allDone(ctx, conn, open) {
			break // enough devices have signed: the other officers need not be asked
		}
		for _, o := range s.OfficersFor(key.ID, h.Device, a.now().Unix()) {
			if err := a.approveAll(ctx, r, s, o, open); err != nil {
				return nil, err
			}
		}
	}
	var certs [][]byte
	for _, signed := range open {
		t, err := conn.Follow(ctx, signed.Digest, nil)
		if err != nil {
			return nil, err
		}
		der, err := signed.Result(t)
		if err != nil {
			return nil, err
		}
		certs = append(certs, der)
	}
	return certs, a.registerAll(ctx, conn, s, certs)
}

// askRecertification has every device make its requests and sends them to one
// server, which coordinates them.
func (a *app) askRecertification(ctx context.Context, conn *client.Conn, s ledger.State, coordinator ledger.Server) (map[envelope.Hash]*client.Signed, error) {
	open := map[envelope.Hash]*client.Signed{}
	now := a.now()
	for _, d := range s.Devices() {
		raws, err := conn.Recertify(ctx, d.ID, now.Add(recertifyLife).Unix())
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", d.ID, err)
		}
		for _, raw := range raws {
			signed, err := deviceRequest(s, raw, coordinator.ID, now.Unix())
			if err != nil {
				return nil, fmt.Errorf("request of device %s: %w", d.ID, err)
			}
			if err := conn.Send(ctx, a.rand, s, signed); err != nil {
				return nil, err
			}
			open[signed.Digest] = signed
		}
	}
	a.tell("  %d certificates are asked for", len(open))
	return open, nil
}

// deviceRequest verifies a request that a device made.
func deviceRequest(s ledger.State, raw []byte, server string, now int64) (*client.Signed, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, err
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerDevice {
		return nil, errors.New("is not signed by a device")
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return nil, err
	}
	out := &client.Signed{Digest: v.Digest(), Raw: raw, Server: server}
	if err := envelope.Decode(v, document.TypeRequest, document.VersionRequest, &out.Request); err != nil {
		return nil, err
	}
	out.Checked, err = document.CheckIn(s, &out.Request, now)
	return out, err
}

// allDone reports whether every request has its signature, after giving the
// devices some time to make it.
func (a *app) allDone(ctx context.Context, conn *client.Conn, open map[envelope.Hash]*client.Signed) bool {
	ctx, cancel := context.WithTimeout(ctx, signPatience)
	defer cancel()
	for digest := range open {
		if t, err := conn.Follow(ctx, digest, nil); err != nil || len(t.Signatures) == 0 {
			return false
		}
	}
	return true
}

// approveAll has one officer approve every certificate, with one PIN entry.
func (a *app) approveAll(ctx context.Context, r *room, s ledger.State, o ledger.Officer, open map[envelope.Hash]*client.Signed) error {
	officer, err := client.FindOfficer(s, o.Card, a.now().Unix())
	if err != nil {
		return err
	}
	d, _ := s.Device(o.Device)
	srv, _ := s.Server(d.Server)
	conn, err := client.Dial(srv)
	if err != nil {
		return err
	}
	defer conn.Close()
	why := fmt.Sprintf("approve %d certificates of the system-wide authority", len(open))
	return r.open(ctx, officer.Person.Name, o.Card, why, func(seat *seat) error {
		keys := client.Keys{Sign: seat.Signer, Agree: seat.agree}
		done := map[envelope.Hash]bool{}
		for deadline := a.now().Add(inboxPatience); len(done) < len(open) && a.now().Before(deadline); {
			items, err := conn.Inbox(ctx, officer, 2*time.Second)
			if err != nil {
				return err
			}
			for _, sealed := range items {
				if err := a.approveOne(ctx, conn, officer, s, keys, sealed, open, done); err != nil {
					return err
				}
			}
			if len(items) == 0 && len(done) > 0 {
				break
			}
		}
		a.tell("  %s approved %d certificates for device %s", officer.Person.Name, len(done), o.Device)
		return nil
	})
}

func (a *app) approveOne(ctx context.Context, conn *client.Conn, officer *client.Officer, s ledger.State, keys client.Keys, sealed []byte, open map[envelope.Hash]*client.Signed, done map[envelope.Hash]bool) error {
	now := a.now().Unix()
	item, err := client.OpenItem(s, officer, keys.Agree, sealed, now)
	if err != nil {
		a.warn(fmt.Errorf("an item of %s is passed over: %w", officer.Person.Name, err))
		return nil
	}
	if open[item.Digest] == nil || done[item.Digest] {
		return nil // another matter: it waits for 'privyseal officer approve'
	}
	approval, err := item.Approve(a.rand, s, keys, now)
	if err != nil {
		return err
	}
	var refused *client.RefusedError
	if _, err := conn.Say(ctx, approval); err != nil && !(errors.As(err, &refused) && refused.Code == http.StatusConflict) {
		return err // a conflict: others were enough meanwhile
	}
	done[item.Digest] = true
	return nil
}

// registerAll hands each device its own certificate and its officers'. A
// device refuses what is not its own, so that each gets just those.
func (a *app) registerAll(ctx context.Context, conn *client.Conn, s ledger.State, certs [][]byte) error {
	out, err := conn.Register(ctx, certs)
	if err != nil {
		return err
	}
	for _, d := range out.Devices {
		if d.Status == nil || !d.Status.Certified {
			return term.WithHint(fmt.Errorf("device %s did not register its certificate: %s", d.Device, d.Text), resumeHint)
		}
	}
	return nil
}
