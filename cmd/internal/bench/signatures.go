package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/democard"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

const (
	lifetime = 2 * 3600 // of a request, seconds
	// posters bounds what is posted at once, below what a server takes from
	// all together.
	posters = 16
	// patience bounds the wait for one signature, or for one officer's items.
	patience = 2 * time.Minute
)

// prepared is a request that lacks its last approval.
type prepared struct {
	*client.Signed
	last []byte // the last approval, sealed to the last officer's server
}

// signatures makes 2n requests for a key, has all approvals but the last given
// with cards, and then measures: n signatures one after the other, each from
// the last approval to the verified result, and n at once.
func (s *system) signatures(ctx context.Context, k ledger.Key, n int) (*signatures, error) {
	home, err := s.home.Server("")
	if err != nil {
		return nil, err
	}
	conn, err := client.Dial(home)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	route, err := readyDevices(ctx, conn, k)
	if err != nil {
		return nil, err
	}
	requests, err := s.request(ctx, conn, home, k, route, 2*n)
	if err != nil {
		return nil, fmt.Errorf("requests: %w", err)
	}
	approving, say, err := s.approve(ctx, k, route, requests)
	if err != nil {
		return nil, fmt.Errorf("approvals: %w", err)
	}
	defer say.Close()

	finish := func(p *prepared) error {
		ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no signature in time"))
		defer cancel()
		if _, err := say.Say(ctx, p.last); err != nil {
			return err
		}
		t, err := conn.Follow(ctx, p.Digest, nil)
		if err != nil {
			return err
		}
		if t.State != api.StateDone {
			return fmt.Errorf("request %s: %s, %s", p.Digest, t.State, t.Text)
		}
		_, err = p.Result(t)
		return err
	}
	var latency []time.Duration
	for _, p := range requests[:n] {
		t := time.Now()
		if err := finish(p); err != nil {
			return nil, err
		}
		latency = append(latency, time.Since(t))
	}
	t := time.Now()
	if err := each(requests[n:], finish); err != nil {
		return nil, err
	}
	took := time.Since(t)
	return &signatures{
		What:     describe(s.home.State(), k, route),
		Requests: n, P50: ms(quantile(latency, 0.5)), P99: ms(quantile(latency, 0.99)),
		Rate: float64(n) / took.Seconds(), Approval: ms(quantile(approving, 0.5)),
	}, nil
}

// readyDevices returns the first holders of a key that are unlocked now, as many
// as it needs.
func readyDevices(ctx context.Context, conn *client.Conn, k ledger.Key) ([]string, error) {
	status, err := conn.Status(ctx)
	if err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for _, srv := range status.Servers {
		for _, d := range srv.Devices {
			ready[d.Device] = d.Status != nil && d.Status.Phase == firmware.PhaseReady
		}
	}
	var route []string
	for _, h := range k.Holders {
		if ready[h.Device] && uint64(len(route)) < k.T {
			route = append(route, h.Device)
		}
	}
	if uint64(len(route)) < k.T {
		return nil, fmt.Errorf("%d devices are unlocked, and %d are needed", len(route), k.T)
	}
	return route, nil
}

// describe says what a key is and how its shares are used by the devices of a
// route.
func describe(state ledger.State, k ledger.Key, route []string) string {
	order, inToken := "in parallel", 0
	if k.Scheme == threshold.Multiplicative {
		order = "in sequence"
	}
	for _, id := range route {
		if d, _ := state.Device(id); k.UsedInToken(d) {
			inToken++
		}
	}
	return fmt.Sprintf("%s: RSA-%d, %d of %d %s, %d in the token", k.ID, k.Public.Bits(), k.T, k.N, order, inToken)
}

// request makes and sends requests with the card of somebody who is no officer
// of the route.
func (s *system) request(ctx context.Context, conn *client.Conn, home ledger.Server, k ledger.Key, route []string, n int) ([]*prepared, error) {
	state := s.home.State()
	serial, err := s.requester(route)
	if err != nil {
		return nil, err
	}
	c, keys, err := democard.Open(ctx, filepath.Join(s.dir, "pins"), serial)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	wish, err := wishFor(k)
	if err != nil {
		return nil, err
	}
	wish.Devices, wish.Lifetime = route, lifetime
	var out []*prepared
	for range n {
		r, err := client.NewRequest(rand.Reader, state, keys.Sign, *wish, home, time.Now().Unix())
		if err != nil {
			return nil, err
		}
		if err := conn.Send(ctx, rand.Reader, state, r); err != nil {
			return nil, err
		}
		out = append(out, &prepared{Signed: r})
	}
	return out, c.Close()
}

// requester is the card of a person who approves at no device of the route.
func (s *system) requester(route []string) (uint32, error) {
	state := s.home.State()
	busy := map[string]bool{}
	for _, d := range route {
		for _, o := range state.OfficersOf(d, time.Now().Unix()) {
			busy[o.Person] = true
		}
	}
	for _, p := range state.Persons() {
		if !busy[p.ID] && len(p.Cards) > 0 {
			return p.Cards[0].Serial, nil
		}
	}
	return 0, errors.New("everybody who has a card is an officer of the devices that sign")
}

// wishFor is what is signed: a server's certificate, or a small file.
func wishFor(k ledger.Key) (*client.Wish, error) {
	w := &client.Wish{Key: k.ID, Kind: document.KindFile, Name: "file", File: []byte("what is measured\n")}
	if k.Family != ledger.FamilyCertificate {
		return w, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	w.Kind = document.KindCertificate
	w.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "bench.example"}, DNSNames: []string{"bench.example"},
	}, key)
	if err != nil {
		return nil, err
	}
	w.Profile, err = profile.Find("server")
	return w, err
}

// approve has a quorum of each device's officers approve all requests, card by
// card, and posts all approvals but the last officer's, which it leaves in the
// requests with a connection to the server they are for. It returns how long
// approvals took.
func (s *system) approve(ctx context.Context, k ledger.Key, route []string, requests []*prepared) (took []time.Duration, say *client.Conn, err error) {
	state := s.home.State()
	var officers []ledger.Officer
	for _, id := range route {
		h, _ := state.HolderOf(k.ID, id)
		all := state.OfficersFor(k.ID, id, time.Now().Unix())
		if uint64(len(all)) < h.Quorum {
			return nil, nil, fmt.Errorf("device %s has %d officers, and needs %d", id, len(all), h.Quorum)
		}
		officers = append(officers, all[:h.Quorum]...)
	}
	for i, o := range officers {
		d, _ := state.Device(o.Device)
		srv, _ := state.Server(d.Server)
		conn, err := client.Dial(srv)
		if err != nil {
			return took, nil, err
		}
		last := i == len(officers)-1
		t, err := s.approveAll(ctx, conn, o, requests, last)
		if err != nil {
			conn.Close()
			return took, nil, fmt.Errorf("%s: %w", o.Person, err)
		}
		took = append(took, t...)
		if last {
			return took, conn, nil
		}
		conn.Close()
	}
	return nil, nil, fmt.Errorf("key %s has no officers", k.ID)
}

// approveAll opens an officer's card once and approves every request; hold
// keeps the approvals back.
func (s *system) approveAll(ctx context.Context, conn *client.Conn, o ledger.Officer, requests []*prepared, hold bool) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("not all requests came to the inbox in time"))
	defer cancel()
	state := s.home.State()
	officer, err := client.FindOfficer(state, o.Card, time.Now().Unix())
	if err != nil {
		return nil, err
	}
	c, keys, err := democard.Open(ctx, filepath.Join(s.dir, "pins"), o.Card)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	want := map[envelope.Hash]*prepared{}
	for _, p := range requests {
		want[p.Digest] = p
	}
	var took []time.Duration
	for len(want) > 0 {
		items, err := conn.Inbox(ctx, officer, time.Second)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for _, sealed := range items {
			t := time.Now()
			item, err := client.OpenItem(state, officer, keys.Agree, sealed, t.Unix())
			if err != nil {
				return nil, err
			}
			p := want[item.Digest]
			if p == nil || item.Device.ID != o.Device {
				continue // somebody else's, or approved already
			}
			approval, err := item.Approve(rand.Reader, state, keys, t.Unix())
			if err != nil {
				return nil, err
			}
			if hold {
				p.last = approval
			} else if _, err := conn.Say(ctx, approval); err != nil {
				return nil, err
			}
			took = append(took, time.Since(t))
			delete(want, item.Digest)
		}
	}
	return took, c.Close()
}

// each does something with all requests, several at a time, and returns the
// first error.
func each[T any](requests []T, do func(T) error) error {
	todo := make(chan T, len(requests))
	for _, p := range requests {
		todo <- p
	}
	close(todo)
	errs := make([]error, posters)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for p := range todo {
				if errs[i] = do(p); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
