package systemtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/server"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Online is a commissioned system with real message servers: devices hang on
// them by links, sites are joined by the bus, and people come over HTTPS with
// the client that the command line has. Its clock is the machine's.
type Online struct {
	*System
	Home *client.System // of everybody

	t     testing.TB // of the part that runs
	whole testing.TB
	mu    sync.Mutex // of what follows, and Home
	sites map[string]*site
	links map[string]context.CancelFunc // by device
	words map[string]func(*client.Item) string
	again map[string]int // how often they were told to look at everything again
	tap   func(site string, p tolerant.Packet)

	dialling sync.Mutex              // of what follows
	conns    map[string]*client.Conn // by site
}

// site is a message server, in this process or in one of its own.
type site struct {
	dir, link string
	row       ledger.Server
	in        *server.Server
	process   *exec.Cmd
	sent      atomic.Int64 // packets of the broadcast channels
	lose      atomic.Int64 // every so many of them get lost; 0: none
}

// serverProcess names the environment variable by which a process of the test
// binary is told to be a message server, so that tests can kill one as a power
// cut does.
const serverProcess = "PRIVYSEAL_SYSTEMTEST_SERVER"

func runServer(dir string) int {
	s, err := server.Start(dir, server.Options{})
	if err == nil {
		err = s.Wait(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// GoOnline conducts a ceremony for devices d1, d2, … that hang on message
// servers s1, s2, … in turn, and starts all of them. Officers are o1 and o2, at
// every device; more are persons with cards and nothing else. Of the SWA any two
// of d1, d2 and d3 sign.
func GoOnline(t testing.TB, sites, devices int, more ...string) *Online {
	t.Helper()
	s := newSystem(t)
	s.shared.real = true
	o := &Online{System: s, t: t, whole: t, sites: map[string]*site{}, links: map[string]context.CancelFunc{}, conns: map[string]*client.Conn{}, words: map[string]func(*client.Item) string{}, again: map[string]int{}}
	r := newRoomFor(s)
	r.plan.SharedOfficers, r.plan.AcknowledgeNoFault = true, true
	sockets, err := os.MkdirTemp("", "ps")
	s.check(err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	for i := range sites {
		id := fmt.Sprintf("s%d", i+1)
		x := &site{dir: filepath.Join(t.TempDir(), id), link: "unix:" + filepath.Join(sockets, id)}
		row, err := server.Init(x.dir, server.Config{ID: id, Name: "Site " + id, HTTPS: freeAddress(t), Route: freeAddress(t), Links: []string{x.link}})
		s.check(err)
		x.row, o.sites[id] = *row, x
		r.plan.Servers = append(r.plan.Servers, *row)
	}
	for _, who := range append([]string{"o1", "o2"}, more...) {
		r.person(who, "Person "+who, 1)
	}
	var ids []string
	for i := range devices {
		id := fmt.Sprintf("d%d", i+1)
		ids = append(ids, id)
		r.place(id, fmt.Sprintf("s%d", i%sites+1), "host")
		r.officer("o1", id)
		r.officer("o2", id)
	}
	swa := ceremony.PlanKey{
		ID: SWA, Name: "System-wide authority", Family: ledger.FamilyLedger, Scheme: threshold.Additive, T: 2, Devices: ids[:3], Bits: 2048,
		Algorithms: []string{"RS256"}, MaxDays: 400, RootDays: 3650, Quorum: 2, Threshold: 2,
	}
	// A device in the tables holds a share of something.
	rest := swa
	rest.ID, rest.Name, rest.Family, rest.Scheme, rest.Devices, rest.MaxDays, rest.RootDays = Pair, "Files", ledger.FamilyFile, threshold.Multiplicative, ids[3:], 0, 0
	r.plan.Keys = []ceremony.PlanKey{swa, rest}
	r.hold()
	bundle, err := envelope.Marshal(s.Bundle)
	s.check(err)
	o.Home, err = client.Verify(s.State.System(), "s1", bundle, nil)
	s.check(err)
	for id := range o.sites {
		o.StartSite(id)
		s.check(o.Conn(id).Commission(t.Context(), bundle, nil))
	}
	for _, id := range ids {
		o.Connect(id)
	}
	return o
}

// Part runs one part of a test that shares its system with others. The parts
// run one after the other.
func (o *Online) Part(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(sub *testing.T) {
		o.t, o.System.t = sub, sub
		defer func() { o.t, o.System.t = o.whole, o.whole }()
		f(sub)
	})
}

// freeAddress is one that nobody listens on just now, below the ports that the
// kernel hands out: a server that starts again finds it free.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(12000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Tables are the ledger as everybody's home has it.
func (o *Online) Tables() ledger.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Home.State()
}

// StartSite starts a message server in this process.
func (o *Online) StartSite(id string) {
	o.t.Helper()
	x := o.sites[id]
	in, err := server.Start(x.dir, server.Options{Lose: func(p tolerant.Packet) bool {
		o.mu.Lock()
		tap := o.tap
		o.mu.Unlock()
		if tap != nil {
			tap(id, p)
		}
		every := x.lose.Load()
		return every > 0 && x.sent.Add(1)%every == 0
	}})
	o.check(err)
	x.in = in
	o.whole.Cleanup(in.Close)
}

// StartProcess ends a message server of this process and starts it in one of
// its own.
func (o *Online) StartProcess(id string) {
	o.t.Helper()
	o.StopSite(id)
	x := o.sites[id]
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverProcess+"="+x.dir)
	cmd.Stderr = os.Stderr
	o.check(cmd.Start())
	x.process = cmd
	o.whole.Cleanup(func() { o.KillSite(id) })
	o.eventually("server "+id+" is up", func() error {
		_, err := o.Conn(id).System(o.t.Context(), 0, false)
		return err
	})
}

// KillSite kills a process with SIGKILL.
func (o *Online) KillSite(id string) {
	x := o.sites[id]
	if x.process != nil {
		x.process.Process.Kill()
		x.process.Wait()
		x.process = nil
	}
}

// TapPackets has f told of every packet that a message server of this process
// sends; nil ends it.
func (o *Online) TapPackets(f func(site string, p tolerant.Packet)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tap = f
}

// StopSite ends a message server of this process.
func (o *Online) StopSite(id string) {
	x := o.sites[id]
	if x.in != nil {
		x.in.Close()
		x.in = nil
	}
}

// Lose loses every n-th packet of the broadcast channels at all sites, none if
// n is 0.
func (o *Online) Lose(n int64) {
	for _, x := range o.sites {
		x.lose.Store(n)
	}
}

// Conn is a way to a message server, the same for all: a server lets only so many
// in from one address.
func (o *Online) Conn(id string) *client.Conn {
	o.t.Helper()
	o.dialling.Lock()
	defer o.dialling.Unlock()
	if o.conns[id] == nil {
		c, err := client.Dial(o.sites[id].row)
		o.check(err)
		o.whole.Cleanup(c.Close)
		o.conns[id] = c
	}
	return o.conns[id]
}

// Connect keeps a device linked to its server.
func (o *Online) Connect(device string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	o.mu.Lock()
	o.links[device] = func() { cancel(); <-done }
	o.mu.Unlock()
	o.whole.Cleanup(o.links[device])
	row, _ := o.State.Device(device)
	addr, d := o.sites[row.Server].link, o.Devices[device]
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if c, err := link.Dial(ctx, addr, link.Options{ID: device}); err == nil {
				for {
					frame, err := c.Recv(ctx)
					if err != nil {
						break
					}
					if answer, err := d.Relay(frame); err == nil && c.Send(ctx, answer) != nil {
						break
					}
				}
				c.Close()
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
}

// Kill kills a device: its link ends, and its memory is gone.
func (o *Online) Kill(device string) {
	o.t.Helper()
	o.mu.Lock()
	stop := o.links[device]
	o.mu.Unlock()
	stop()
	o.Devices[device].Kill()
}

// Revive starts a killed device, and has o1 and o2 unlock it.
func (o *Online) Revive(device string) {
	o.t.Helper()
	o.Devices[device].Restart(o.t)
	o.Connect(device)
	row, _ := o.State.Device(device)
	c := o.Conn(row.Server)
	for _, who := range []string{"o1", "o2"} {
		card := o.People[who][0]
		officer, err := client.FindOfficer(o.Tables(), card.Describe().Serial, time.Now().Unix())
		o.check(err)
		o.eventually("device "+device+" is unlocked", func() error {
			offered, err := c.UnlockAsk(o.t.Context(), device)
			if err != nil {
				return err
			}
			l, err := client.VerifyUnlockOffer(o.Tables(), officer, device, offered, time.Now().Unix())
			if err != nil {
				return err
			}
			sealed, err := l.Approve(rand.Reader, o.Tables(), client.Keys{Sign: card, Agree: card.Exchange}, row.Server, time.Now().Unix())
			if err != nil {
				return err
			}
			_, err = c.Unlock(o.t.Context(), sealed)
			return err
		})
	}
}

// Refresh takes new entries of the ledger home.
func (o *Online) Refresh(site string) {
	o.t.Helper()
	c := o.Conn(site)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.check(o.Home.Refresh(o.t.Context(), c))
	o.State = o.Home.State()
}

// Put brings a command into the ledger as people do: a request to the SWA,
// whose signature makes it an entry, which goes to every message server.
func (o *Online) Put(kind string, body any) {
	o.t.Helper()
	entry, err := ledger.NewEntry(o.Tables(), kind, body, time.Now().Unix())
	o.check(err)
	key, _ := o.Tables().LedgerKey()
	r := o.Request(Requester, document.Request{
		Key: SWA, Kind: document.KindEntry, Document: entry, Route: document.RouteTo(&key, document.ApprovalsSet), Expires: time.Now().Unix() + 3600,
	})
	signed := &client.Signed{Request: r.Request, Digest: r.Digest, Raw: r.Raw, Server: "s1"}
	c := o.Conn("s1")
	o.check(c.Send(o.t.Context(), rand.Reader, o.Tables(), signed))
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	t, err := c.Follow(ctx, r.Digest, nil)
	if err != nil || len(t.Signatures) != 1 {
		o.t.Fatalf("entry %s: %v, %+v", kind, err, t)
	}
	raw, err := envelope.Marshal(ledger.SignedEntry{Entry: entry, Algorithm: string(threshold.RS256), Signature: t.Signatures[0]})
	o.check(err)
	for id := range o.sites {
		o.check(o.Conn(id).Commission(o.t.Context(), o.Home.Bundle(), append(o.Home.Entries(), raw)))
	}
	o.Refresh("s1")
}

// patience is for what should take a second, on a machine that does ten other
// things.
const patience = 90 * time.Second

func (o *Online) eventually(what string, f func() error) {
	o.t.Helper()
	err := errors.New("not tried")
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	o.t.Fatalf("never: %s: %v", what, err)
}
