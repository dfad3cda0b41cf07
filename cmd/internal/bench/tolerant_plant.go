package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// deal is all of a dealing: invitations, shares and the entry of the ledger.
func (p *plant) deal(ctx context.Context, code uint64, bits int) (*plantAuthority, error) {
	s, conn := p.home.State(), p.conns[p.sites[0].ID]
	plan := &dealing.Plan{
		Enterprise: ledger.Enterprise{Code: code, Name: fmt.Sprintf("Enterprise %d", code)},
		Key: dealing.PlanKey{
			ID: fmt.Sprintf("ca-%d", bits), Name: fmt.Sprintf("Root %d", bits), Bits: uint64(bits), Algorithms: []string{"RS256"}, MaxDays: 400, RootDays: 3650,
		},
		Need: quorum, Redundant: redundant, Quorum: 2, Pieces: 2, OfficerDays: 20, Operator: plantAsker, NoReserve: true,
		Distributors: []ledger.Distributor{{Number: 1, Server: p.sites[0].ID}},
	}
	for i, id := range p.devices {
		if i < calculators {
			plan.Calculators = append(plan.Calculators, dealing.Machine{Number: uint64(i + 1), Device: id})
		} else {
			plan.Combiners = append(plan.Combiners, dealing.Machine{Number: uint64(i + 1 - calculators), Device: id})
		}
		for _, who := range plantOfficers {
			plan.Officers = append(plan.Officers, dealing.Officer{Person: who, Device: id})
		}
	}
	in := dealing.Inputs{Now: time.Now().Unix(), Rand: rand.Reader, Isolated: true}
	var invitations [][]byte
	for _, id := range p.devices {
		raw, err := conn.Invite(ctx, s, id, code)
		if err != nil {
			return nil, err
		}
		invitations = append(invitations, raw)
	}
	result, err := dealing.Deal(in, s, plan, invitations, nil)
	if err != nil {
		return nil, err
	}
	defer result.Wipe()
	if err := result.Confirm(rand.Reader, in.Now, s, p.cards[plantAsker]); err != nil {
		return nil, err
	}
	body, err := envelope.Marshal(&result.Dealing)
	if err != nil {
		return nil, err
	}
	for id, sealed := range result.Sealed {
		if _, err := conn.InstallDealing(ctx, s, id, body, sealed); err != nil {
			return nil, err
		}
	}
	if err := p.enter(ctx, ledger.KindDealing, &result.Dealing); err != nil {
		return nil, err
	}
	key, _ := p.home.State().Key(plan.Key.ID)
	return &plantAuthority{plant: p, key: key}, nil
}

// enter has the system-wide authority sign a command of the ledger.
func (p *plant) enter(ctx context.Context, kind string, body any) error {
	s, now := p.home.State(), time.Now().Unix()
	entry, err := ledger.NewEntry(s, kind, body, now)
	if err != nil {
		return err
	}
	key, _ := s.LedgerKey()
	r := document.Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: threshold.RS256, Kind: document.KindEntry, Document: entry, Route: document.RouteTo(&key, document.ApprovalsSet),
		Requester: plantAsker, Created: now, Expires: now + lifetime,
	}
	if r.Nonce, err = envelope.NewID(rand.Reader); err != nil {
		return err
	}
	payload, err := envelope.Marshal(r)
	if err != nil {
		return err
	}
	raw, err := envelope.Sign(rand.Reader, p.cards[plantAsker], envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.System(), LedgerHead: s.Head(),
		Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
	}, payload)
	if err != nil {
		return err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return err
	}
	conn := p.conns[p.sites[0].ID]
	one := &asked{Signed: &client.Signed{Request: r, Digest: u.UnverifiedDigest(), Raw: raw, Server: p.sites[0].ID}}
	if err := conn.Send(ctx, rand.Reader, s, one.Signed); err != nil {
		return err
	}
	if err := p.approve(ctx, []*asked{one}, r.Route.Devices); err != nil {
		return err
	}
	if err := post(ctx, []*asked{one}); err != nil {
		return err
	}
	t, err := conn.Follow(ctx, one.Digest, nil)
	if err != nil {
		return err
	}
	if t.State != api.StateDone || len(t.Signatures) != 1 {
		return fmt.Errorf("entry %s: %s, %s", kind, t.State, t.Text)
	}
	signed, err := envelope.Marshal(ledger.SignedEntry{Entry: entry, Algorithm: string(threshold.RS256), Signature: t.Signatures[0]})
	if err != nil {
		return err
	}
	for _, c := range p.conns {
		if err := c.Commission(ctx, p.home.Bundle(), append(p.home.Entries(), signed)); err != nil {
			return err
		}
	}
	return p.home.Refresh(ctx, conn)
}

// asked is a request that was sent, with the approvals that officers gave and
// nobody has posted.
type asked struct {
	*client.Signed
	words []word
}

// word is an officer's approval at a device.
type word struct {
	from   string // officer and device
	to     *client.Conn
	sealed []byte
}

// post posts the approvals of requests: every officer those for a device, in
// the order of the requests, and all of them at the same time. The server
// refuses what comes when others have signed already: how a request ended is
// seen elsewhere.
func post(ctx context.Context, requests []*asked) error {
	streams := map[string][]word{}
	for _, r := range requests {
		for _, w := range r.words {
			streams[w.from] = append(streams[w.from], w)
		}
	}
	return each(slices.Collect(maps.Values(streams)), func(words []word) error {
		for _, w := range words {
			_, err := w.to.Say(ctx, w.sealed)
			var refused *client.RefusedError
			if err != nil && !errors.As(err, &refused) {
				return err
			}
		}
		return nil
	})
}

// approve has the officers of the devices, which have to be alive, approve all
// requests.
func (p *plant) approve(ctx context.Context, requests []*asked, devices []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("not all requests came to the inbox in time"))
	defer cancel()
	s := p.home.State()
	want := map[envelope.Hash]*asked{}
	for _, r := range requests {
		want[r.Digest] = r
	}
	for _, who := range plantOfficers {
		card := p.cards[who]
		officer, err := client.FindOfficer(s, card.Describe().Serial, time.Now().Unix())
		if err != nil {
			return err
		}
		for _, site := range p.sites {
			conn := p.conns[site.ID]
			missing := 0
			for _, id := range devices {
				if p.at[id] == site.ID {
					missing += len(requests)
				}
			}
			done := map[string]bool{}
			for since := uint64(0); len(done) < missing; {
				items, next, err := conn.InboxSince(ctx, officer, since, time.Second)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					return err
				}
				since = next
				for _, sealed := range items {
					now := time.Now().Unix()
					item, err := client.OpenItem(s, officer, card.Exchange, sealed, now)
					if err != nil {
						return err
					}
					name := item.Digest.String() + item.Device.ID
					r := want[item.Digest]
					if r == nil || done[name] || !slices.Contains(devices, item.Device.ID) {
						continue
					}
					raw, err := item.Approve(rand.Reader, s, client.Keys{Sign: card, Agree: card.Exchange}, now)
					if err != nil {
						return err
					}
					done[name] = true
					r.words = append(r.words, word{who + " " + item.Device.ID, conn, raw})
				}
			}
		}
	}
	return nil
}
