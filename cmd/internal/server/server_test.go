package server

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// rig is a system of two sites over real sockets: devices 1 to 3 at the first,
// 4 and 5 at the second.
type rig struct {
	t       *testing.T
	sys     *ledgertest.System
	dirs    map[string]string
	servers map[string]*Server
	rows    map[string]*ledger.Server
	clients map[string]*web.Client
	devices map[string]*coordtest.Device
	stops   map[string]context.CancelFunc
	mu      sync.Mutex
	conns   map[string]*link.Conn // of devices and sources
	// beats takes a device's frames that are for its heartbeat, by device.
	beats map[string]func(c *link.Conn, h envelope.Header, frame []byte)
	// says answers messages of a type in a device's place.
	says map[string]func(payload []byte) (typ string, out any)
	now  int64 // offset of the test system's clock from the real one
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newRig(t *testing.T, options ...ledgertest.Option) *rig {
	t.Helper()
	r := &rig{t: t, conns: map[string]*link.Conn{}, beats: map[string]func(*link.Conn, envelope.Header, []byte){}, dirs: map[string]string{}, servers: map[string]*Server{}, rows: map[string]*ledger.Server{},
		clients: map[string]*web.Client{}, devices: map[string]*coordtest.Device{}, stops: map[string]context.CancelFunc{}, says: map[string]func([]byte) (string, any){}}
	sockets, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	for i, id := range []string{"server-1", "server-2"} {
		dir := filepath.Join(t.TempDir(), id)
		row, err := Init(dir, Config{
			ID: id, Name: fmt.Sprintf("Site %d", i+1), HTTPS: freeAddr(t), Route: freeAddr(t), Links: []string{"unix:" + filepath.Join(sockets, id)},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.dirs[id], r.rows[id] = dir, row
	}
	r.sys = ledgertest.New(t, append(options, func(g *ledger.Genesis) {
		g.Servers = []ledger.Server{*r.rows["server-1"], *r.rows["server-2"]}
		for i := range g.Devices {
			g.Devices[i].Server = "server-1"
			if i >= 3 {
				g.Devices[i].Server = "server-2"
			}
		}
	})...)
	r.now = r.sys.Now - time.Now().Unix()
	for id := range r.dirs {
		r.start(id)
	}
	for _, d := range r.sys.Genesis.Devices {
		r.devices[d.ID] = coordtest.NewDevice(t, r.sys, d.ID, r.unix)
		r.connect(d.ID)
	}
	return r
}

func (r *rig) clock() time.Time { return time.Unix(time.Now().Unix()+r.now, 0) }
func (r *rig) unix() int64      { return r.clock().Unix() }

func (r *rig) start(id string) {
	r.t.Helper()
	s, err := Start(r.dirs[id], Options{Now: r.clock})
	if err != nil {
		r.t.Fatal(err)
	}
	r.servers[id] = s
	r.t.Cleanup(s.Close)
	r.client(id)
}

func (r *rig) client(id string) {
	r.t.Helper()
	c, err := web.NewClient(r.rows[id].URL, pinned.Pin(r.rows[id].TLS))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	r.clients[id] = c
}

// connect keeps an emulated device linked to its server.
func (r *rig) connect(id string) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stops[id] = cancel
	r.t.Cleanup(cancel)
	row, _ := r.sys.State.Device(id)
	cfg, err := LoadConfig(r.dirs[row.Server])
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Not link.Keep: these tests end links faster than its pauses allow for.
		for ctx.Err() == nil {
			if c, err := link.Dial(ctx, cfg.Links[0], link.Options{ID: id}); err == nil {
				r.mu.Lock()
				r.conns[id] = c
				r.mu.Unlock()
				r.serve(ctx, id, c)
				c.Close()
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done })
}

func (r *rig) serve(ctx context.Context, id string, c *link.Conn) {
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return
		}
		if h, err := envelope.Peek(frame); err == nil && strings.HasPrefix(h.Type, "beat") {
			if f := r.beats[id]; f != nil {
				f(c, h, frame)
			}
			continue
		}
		if out := r.handle(id, frame); out != nil && c.Send(ctx, out) != nil {
			return
		}
	}
}

// answer lets f answer messages of a type in a device's place.
func (r *rig) answer(device, typ string, f func(payload []byte) (typ string, out any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.says[device+" "+typ] = f
}

// handle is a device's side of a frame: only its own server may speak to it.
func (r *rig) handle(id string, frame []byte) []byte {
	d := r.devices[id]
	raw := frame
	if to, err := envelope.PeekRecipients(frame); err == nil {
		key := d.Agree
		if one := d.OneTime(); one != nil {
			if id, _ := envelope.KeyIDOf(one.PublicKey()); len(to) == 1 && to[0] == id {
				key = one
			}
		}
		if raw, err = envelope.Open(frame, key); err != nil {
			r.t.Errorf("device %s: %v", id, err)
			return nil
		}
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		r.t.Errorf("device %s: %v", id, err)
		return nil
	}
	row, _ := r.sys.State.Device(id)
	server, _ := r.sys.State.Server(row.Server)
	key, err := envelope.ParseSigningKey(server.Sign)
	if err != nil {
		r.t.Error(err)
	}
	v, err := u.Verify(key)
	if err != nil {
		r.t.Errorf("device %s was spoken to by another than its server: %v", id, err)
		return nil
	}
	r.mu.Lock()
	says := r.says[id+" "+v.Header().Type]
	r.mu.Unlock()
	var typ string
	var payload any
	ok := true
	if says != nil {
		typ, payload = says(v.Payload())
		ok = typ != "" // else it is silent
	} else {
		typ, payload, ok = d.Handle(v.Header().Type, v.Payload())
	}
	if !ok {
		return nil
	}
	agree, err := envelope.ParseAgreementKey(server.Agree)
	if err != nil {
		r.t.Error(err)
	}
	to, _ := envelope.KeyIDOf(agree)
	sealed, err := envelope.Seal(rand.Reader, d.Sign(typ, payload, v.Header().ID, to), []*ecdh.PublicKey{agree})
	if err != nil {
		r.t.Error(err)
	}
	return sealed
}

// post sends a message of people, sealed to the server.
func (r *rig) post(server, path string, raw []byte, into any) error {
	r.t.Helper()
	agree, err := envelope.ParseAgreementKey(r.rows[server].Agree)
	if err != nil {
		r.t.Fatal(err)
	}
	sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{agree})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.send(server, path, sealed, into)
}

func (r *rig) send(server, path string, body []byte, into any) error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	out, err := r.clients[server].Post(ctx, path, body)
	if err != nil {
		return err
	}
	if err := envelope.Unmarshal(out, into); err != nil {
		r.t.Fatal(err)
	}
	return nil
}

// commission hands both servers the system.
func (r *rig) commission() {
	r.t.Helper()
	b, err := envelope.Marshal(r.sys.Bundle)
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := envelope.Marshal(api.System{Bundle: b})
	if err != nil {
		r.t.Fatal(err)
	}
	for id := range r.dirs {
		var out api.SystemTaken
		if err := r.send(id, api.PathSystem, body, &out); err != nil {
			r.t.Fatal(err)
		}
	}
}

// page asks a server for a page of the system.
func (r *rig) page(server string, after uint64, bundle bool) *api.SystemPage {
	r.t.Helper()
	body, err := envelope.Marshal(api.SystemAsk{After: after, Bundle: bundle})
	if err != nil {
		r.t.Fatal(err)
	}
	var out api.SystemPage
	if err := r.send(server, api.PathSystemShow, body, &out); err != nil {
		r.t.Fatal(err)
	}
	return &out
}

// tryHand hands a server a page of the system; it answers how many entries it has.
func (r *rig) tryHand(server string, page *api.System) (uint64, error) {
	r.t.Helper()
	body, err := envelope.Marshal(page)
	if err != nil {
		r.t.Fatal(err)
	}
	var out api.SystemTaken
	err = r.send(server, api.PathSystem, body, &out)
	return out.Height, err
}

func (r *rig) hand(server string, page *api.System) uint64 {
	r.t.Helper()
	height, err := r.tryHand(server, page)
	if err != nil {
		r.t.Fatal(err)
	}
	return height
}

func TestTwoSites(t *testing.T) {
	r := newRig(t)
	var status api.SystemStatus
	if err := r.send("server-1", api.PathStatus, nil, &status); err != nil {
		t.Fatal(err)
	}
	if !status.System.IsZero() || len(status.Servers) != 1 {
		t.Errorf("before the ceremony: %+v", status)
	}
	r.commission()
	r.waitStatus()
	for _, m := range []string{"set", "chain"} {
		t.Run("certificate "+m, func(t *testing.T) {
			digest := r.request("server-1", coordtest.CertificateRequest(t, r.sys, m, r.unix(), 3600))
			if out := r.work("server-1", digest, nil); out.State != api.StateDone || len(out.Documents) == 0 {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
		})
		t.Run("file "+m, func(t *testing.T) {
			// By devices of both sites, coordinated by the one with fewer of them.
			digest := r.request("server-2", coordtest.FileRequest(t, r.sys, m, r.unix(), 3600, "device-5", "device-1", "device-2"))
			if out := r.work("server-2", digest, nil); out.State != api.StateDone || len(out.Signatures) == 0 {
				t.Fatalf("%s: %s", out.State, out.Text)
			}
		})
	}
}
