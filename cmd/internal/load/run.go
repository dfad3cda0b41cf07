package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/democard"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
)

const (
	lifetime = 600              // of a request, seconds
	patience = 60 * time.Second // for one signature
	poll     = 2 * time.Second  // how long an officer waits at his server
)

// load is the running of it. A line is printed for each request that ended:
// when, "signed" or "failed", the seconds that it took, and the devices that
// signed, or why none did.
type load struct {
	*options
	home  *client.System
	state ledger.State
	mu    sync.Mutex // of the output
	wrong int
}

func run(ctx context.Context, o *options) error {
	home, err := client.Open(o.home)
	if err != nil {
		return err
	}
	l := &load{options: o, home: home, state: home.State()}
	working, rest := context.WithCancel(context.Background())
	defer rest()
	var officers sync.WaitGroup
	for _, serial := range o.officers {
		officers.Go(func() {
			if err := l.approve(working, serial); err != nil {
				fmt.Fprintf(os.Stderr, "card %d: %v\n", serial, err)
			}
		})
	}
	err = l.request(ctx)
	rest()
	officers.Wait()
	if err == nil && l.wrong > 0 {
		err = fmt.Errorf("%d requests failed", l.wrong)
	}
	return err
}

// request asks for one certificate after the other until ctx ends, and then
// waits for those that are open.
func (l *load) request(ctx context.Context) error {
	server, err := l.home.ServerFor(l.key, "")
	if err != nil {
		return err
	}
	conn, err := client.Dial(server)
	if err != nil {
		return err
	}
	defer conn.Close()
	card, keys, err := democard.Open(context.Background(), l.pins, uint32(l.requester))
	if err != nil {
		return err
	}
	defer card.Close()
	wish := client.Wish{Key: l.key, Kind: document.KindCertificate, Lifetime: lifetime}
	if wish.Profile, err = profile.Find("server"); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	open := make(chan struct{}, l.open)
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for n := 1; l.count == 0 || n <= l.count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		open <- struct{}{}
		if wish.CSR, err = newCSR(fmt.Sprintf("load-%d.example", n)); err != nil {
			return err
		}
		begun := time.Now()
		r, err := client.NewRequest(rand.Reader, l.state, keys.Sign, wish, server, begun.Unix())
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer func() { <-open }()
			signers, err := l.follow(conn, r, n)
			l.told(begun, signers, err)
		})
	}
	return nil
}

func newCSR(name string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
	}, key)
}

// follow sends a request and waits for its certificate, which is verified.
func (l *load) follow(conn *client.Conn, r *client.Signed, n int) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("no signature in time"))
	defer cancel()
	if err := conn.Send(ctx, rand.Reader, l.state, r); err != nil {
		return nil, err
	}
	t, err := conn.Follow(ctx, r.Digest, nil)
	switch {
	case err != nil:
		return nil, errors.Join(err, context.Cause(ctx))
	case t.State != api.StateDone:
		return nil, fmt.Errorf("%s, %s", t.State, t.Text)
	}
	cert, err := r.Result(t)
	if err != nil {
		return nil, err
	}
	if l.out != "" {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
		if err := os.WriteFile(filepath.Join(l.out, fmt.Sprintf("%03d.pem", n)), block, 0o600); err != nil {
			return nil, err
		}
	}
	for _, a := range slices.Backward(t.Attempts) {
		if len(a.Wrong) == 0 { // the others are those that lied on the way
			return a.Devices, nil
		}
	}
	return nil, errors.New("nobody signed")
}

func (l *load) told(begun time.Time, signers []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	word, what := "signed", strings.Join(signers, ",")
	if err != nil {
		l.wrong++
		word, what = "failed", strings.Join(strings.Fields(err.Error()), " ")
	}
	now := time.Now()
	fmt.Printf("%.3f %s %.3f %s\n", float64(now.UnixMilli())/1000, word, now.Sub(begun).Seconds(), what)
}

// approve has an officer approve all that comes to his inbox. The card is open
// only while there is something to approve, so that others may use it.
func (l *load) approve(ctx context.Context, serial uint32) error {
	officer, err := client.FindOfficer(l.state, serial, time.Now().Unix())
	if err != nil {
		return err
	}
	var conns []*client.Conn
	for _, s := range officer.Servers(l.state) {
		conn, err := client.Dial(s)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	var sites sync.WaitGroup
	var card sync.Mutex // it can be open once
	for _, conn := range conns {
		sites.Go(func() { l.approveAt(ctx, conn, officer, serial, &card) })
	}
	sites.Wait()
	return nil
}

// approveAt is that at one site.
func (l *load) approveAt(ctx context.Context, conn *client.Conn, officer *client.Officer, serial uint32, card *sync.Mutex) {
	var since uint64
	for ctx.Err() == nil {
		items, next, err := conn.InboxSince(ctx, officer, since, poll)
		if err == nil && len(items) > 0 {
			card.Lock()
			err = l.approveAll(conn, officer, serial, items)
			card.Unlock()
		}
		if err != nil {
			if ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "card %d: %v\n", serial, err)
				time.Sleep(poll / 4)
			}
			continue
		}
		since = next
	}
}

func (l *load) approveAll(conn *client.Conn, officer *client.Officer, serial uint32, items [][]byte) error {
	ctx := context.Background()
	card, keys, err := democard.Open(ctx, l.pins, serial)
	if err != nil {
		return err
	}
	defer card.Close()
	for _, sealed := range items {
		now := time.Now().Unix()
		item, err := client.OpenItem(l.state, officer, keys.Agree, sealed, now)
		if err == nil {
			var word []byte
			if word, err = item.Approve(rand.Reader, l.state, keys, now); err == nil {
				_, err = conn.Say(ctx, word)
			}
		}
		if err != nil { // the item is stale, or the request is signed by others already
			fmt.Fprintf(os.Stderr, "card %d: %v\n", serial, err)
		}
	}
	return nil
}
