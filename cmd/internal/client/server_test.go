package client_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/server"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
)

// ownSite is a message server in this process.
type ownSite struct {
	row         *ledger.Server
	dir, socket string
}

func newOwnSite(t *testing.T) *ownSite {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	free := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		fail(err)
		defer ln.Close()
		return ln.Addr().String()
	}
	sockets, err := os.MkdirTemp("", "pc") // short: a socket's path has at most 107 bytes
	fail(err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	s := &ownSite{dir: filepath.Join(t.TempDir(), "server-1"), socket: "unix:" + filepath.Join(sockets, "link")}
	s.row, err = server.Init(s.dir, server.Config{ID: "server-1", Name: "Site 1", HTTPS: free(), Route: free(), Links: []string{s.socket}})
	fail(err)
	return s
}

// start starts it by a system's clock, which it returns.
func (s *ownSite) start(t *testing.T, sys *ledgertest.System) func() time.Time {
	t.Helper()
	ahead := time.Until(time.Unix(sys.Now, 0))
	clock := func() time.Time { return time.Now().Add(ahead) }
	srv, err := server.Start(s.dir, server.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return clock
}

// TestServer runs the library against the message server itself: one site with
// all devices, over its real link and HTTPS.
func TestServer(t *testing.T) {
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	site := newOwnSite(t)
	row := site.row
	sys := ledgertest.New(t, func(g *ledger.Genesis) {
		g.Servers = []ledger.Server{*row}
		for i := range g.Devices {
			g.Devices[i].Server = row.ID
		}
	})
	clock := site.start(t, sys)
	now := func() int64 { return clock().Unix() }
	for id := range sys.Devices {
		d := coordtest.NewDevice(t, sys, id, now)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			link.Keep(ctx, site.socket, link.Options{ID: id}, func(ctx context.Context, c *link.Conn) error { return attend(ctx, t, sys, d, c) })
		}()
		t.Cleanup(func() { cancel(); <-done })
	}

	conn, err := client.Dial(*row)
	fail(err)
	t.Cleanup(conn.Close)
	if _, err := conn.System(t.Context(), 0, true); !client.NotFound(err) {
		t.Errorf("a system before the ceremony: %v", err)
	}
	bundle, err := envelope.Marshal(sys.Bundle)
	fail(err)
	fail(conn.Commission(t.Context(), bundle, nil))
	got, err := conn.System(t.Context(), 0, true)
	fail(err)
	home, err := client.Verify(sys.State.System(), row.ID, got.System.Bundle, got.System.Entries)
	fail(err)
	fail(home.Refresh(t.Context(), conn))

	wish := certificate(t)
	wish.Approvals = document.ApprovalsChain
	wish.Devices = []string{"device-1", "device-2", "device-3"}
	r, err := client.NewRequest(rand.Reader, sys.State, sys.Persons[ledgertest.Program].Software, wish, *row, now())
	fail(err)
	fail(conn.Send(t.Context(), rand.Reader, sys.State, r))
	for _, device := range wish.Devices {
		for n, p := range sys.Officers(device) {
			o, err := client.FindOfficer(sys.State, p.Card().Serial, now())
			fail(err)
			keys := client.Keys{Sign: p.Card().Sign, Agree: p.Card().Agree}
			sealed, err := conn.Inbox(t.Context(), o, 20*time.Second)
			fail(err)
			if len(sealed) != 1 {
				t.Fatalf("%s has %d items", p.ID, len(sealed))
			}
			i, err := client.OpenItem(sys.State, o, keys.Agree, sealed[0], now())
			fail(err)
			word, err := i.Approve(rand.Reader, sys.State, keys, now())
			fail(err)
			said, err := conn.Say(t.Context(), word)
			fail(err)
			if said.Have != uint64(n+1) || said.Need != 2 {
				t.Errorf("%s: %+v", p.ID, said)
			}
			// The item of the next officer changes when this one has signed.
			for end := time.Now().Add(20 * time.Second); n == 0; time.Sleep(20 * time.Millisecond) {
				next, err := client.FindOfficer(sys.State, sys.Officers(device)[1].Card().Serial, now())
				fail(err)
				sealed, err := conn.Inbox(t.Context(), next, 0)
				fail(err)
				if len(sealed) == 1 {
					x, err := client.OpenItem(sys.State, next, sys.Officers(device)[1].Card().Agree, sealed[0], now())
					fail(err)
					if len(x.Approved) == 1 {
						break
					}
				}
				if time.Now().After(end) {
					t.Fatal("the chain does not grow")
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	end, err := conn.Follow(ctx, r.Digest, nil)
	fail(err)
	der, err := r.Result(end)
	fail(err)
	if _, _, err := client.VerifyCertificate(sys.State, der, now()); err != nil {
		t.Error(err)
	}
	// A finished request does not make a follower spin or wait.
	if again, err := conn.Follow(ctx, r.Digest, nil); err != nil || again.State != end.State {
		t.Errorf("%v", err)
	}
	st, err := conn.Status(t.Context())
	fail(err)
	if len(st.Servers) != 1 || len(st.Servers[0].Devices) != 5 || st.Servers[0].Devices[2].Status == nil {
		t.Errorf("%+v", st)
	}
}

// attend is a device's end of its link: it opens what its server sends, with
// real pieces beside its offers, and seals the answer.
func attend(ctx context.Context, t *testing.T, sys *ledgertest.System, d *coordtest.Device, c *link.Conn) error {
	row, _ := sys.State.Server("server-1")
	sign, _ := sys.State.Identity(envelope.KeyIDOfSPKI(row.Sign))
	agree, _ := sys.State.Identity(envelope.KeyIDOfSPKI(row.Agree))
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		raw, err := envelope.Open(frame, d.Agree)
		if err != nil {
			raw = frame // status before it is unlocked
		}
		u, err := envelope.Parse(raw)
		if err != nil {
			t.Errorf("device %s: %v", d.ID, err)
			return err
		}
		v, err := u.Verify(sign.SignKey)
		if err != nil {
			t.Errorf("device %s: %v", d.ID, err)
			return err
		}
		typ, payload, ok := d.Handle(v.Header().Type, v.Payload())
		if !ok {
			continue
		}
		if o, is := payload.(firmware.Offered); is {
			o.Pieces = sealedPieces(t, sys, d.ID, o.Pieces)
			payload = o
		}
		out, err := envelope.Seal(rand.Reader, d.Sign(typ, payload, v.Header().ID, agree.ID), []*ecdh.PublicKey{agree.AgreeKey})
		if err != nil {
			t.Errorf("device %s: %v", d.ID, err)
			return err
		}
		if err := c.Send(ctx, out); err != nil {
			return err
		}
	}
}

// sealedPieces replaces what an emulated device hands out by pieces that cards
// open.
func sealedPieces(t *testing.T, sys *ledgertest.System, device string, like []ceremony.SealedPiece) []ceremony.SealedPiece {
	pieces, err := share.SplitSecret(rand.Reader, make([]byte, 32), 2, len(like))
	if err != nil {
		t.Error(err)
		return nil
	}
	for i := range like {
		p := &like[i]
		p.Sealed, err = share.SealPieceToCard(sys.Persons[p.Person].Card().Agree.PublicKey(), share.PieceContext{
			ID: p.ID, Purpose: p.Purpose, Device: device, Share: p.Share, Card: p.Card,
		}, pieces[i])
		if err != nil {
			t.Error(err)
		}
	}
	return like
}
