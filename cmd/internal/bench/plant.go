package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/desk"
	"github.com/privyseal/privyseal/cmd/internal/server"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// People of a plant. Both officers serve every device.
const (
	plantAdmin = "admin"
	plantAsker = "asker" // asks for everything, and confirms what is dealt
)

var plantOfficers = []string{"o1", "o2"}

// plant is a whole system on this machine: the products' programs, each device
// in front of a SoftHSM2 token of its own, and people whose cards are here.
type plant struct {
	t       testing.TB
	device  string // the program privyseal-device
	server  string // the program privyseal-server
	dir     string
	sockets string
	sites   []ledger.Server
	devices []string
	running map[string]*exec.Cmd // by id
	logs    map[string]*marker
	serials map[uint32]*firmwaretest.Card
	cards   map[string]*firmwaretest.Card // by person
	conns   map[string]*client.Conn       // by server
	at      map[string]string             // server by device
	home    *client.System
}

// newPlant makes a system of message servers and devices, d1, d2, … , that hang
// on the servers in turn, conducts its ceremony and lets it run.
func newPlant(ctx context.Context, t testing.TB, device, server string, sites, devices int) (*plant, error) {
	sockets, err := os.MkdirTemp("", "ps-") // a Unix socket's path has at most 107 octets
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	p := &plant{
		t: t, device: device, server: server, dir: t.TempDir(), sockets: sockets, running: map[string]*exec.Cmd{}, logs: map[string]*marker{},
		serials: map[uint32]*firmwaretest.Card{}, cards: map[string]*firmwaretest.Card{}, conns: map[string]*client.Conn{}, at: map[string]string{},
	}
	t.Cleanup(p.close)
	return p, p.begin(ctx, sites, devices)
}

func (p *plant) begin(ctx context.Context, sites, devices int) error {
	plan := p.plan()
	for i := range sites {
		row, err := p.newSite(fmt.Sprintf("s%d", i+1))
		if err != nil {
			return err
		}
		plan.Servers = append(plan.Servers, *row)
	}
	for i := range devices {
		id, site := fmt.Sprintf("d%d", i+1), p.sites[i%sites].ID
		p.devices = append(p.devices, id)
		p.at[id] = site
		out, err := exec.CommandContext(ctx, p.device, "init", "--dir", p.dirOf(id), "--id", id, "--serial", id, "--model", "bench",
			"--link", "unix:"+filepath.Join(p.sockets, site)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s init: %w\n%s", p.device, err, out)
		}
		if err := p.start(id, p.device); err != nil {
			return err
		}
		plan.Devices = append(plan.Devices, ceremony.PlanDevice{ID: id, Name: "Device " + id, Server: site, Model: "bench", Serial: id, Use: "host", UnlockQuorum: 2})
		for _, who := range plantOfficers {
			plan.Officers = append(plan.Officers, ceremony.PlanOfficer{
				Person: who, Card: p.cards[who].Describe().Serial, Device: id, Class: ledger.ClassOfficer,
			})
		}
	}
	plan.Keys = plantKeys(p.devices)
	if err := p.linked(ctx); err != nil {
		return err
	}
	result, err := desk.Run(ctx, desk.Config{
		Plan: *plan, Dir: filepath.Join(p.dir, "desk"), Sites: p, Cards: p, Rand: rand.Reader, Now: time.Now, Say: func(string, ...any) {},
	})
	if err != nil {
		return fmt.Errorf("ceremony: %w", err)
	}
	bundle, err := envelope.Marshal(result.Bundle)
	if err != nil {
		return err
	}
	for _, s := range p.sites {
		if err := p.conns[s.ID].Commission(ctx, bundle, nil); err != nil {
			return err
		}
	}
	p.home, err = client.Verify(result.State.System(), p.sites[0].ID, bundle, nil)
	return err
}

func (p *plant) plan() *ceremony.Plan {
	cards := firmwaretest.NewCardMaker(p.t)
	plan := &ceremony.Plan{
		Name: "Bench", File: envelope.HashOf("ceremony file of the bench"), Lead: "d1", Witnesses: []string{"Wilma"}, Administrator: plantAdmin,
		Hours: 4, OfficerDays: 30, Vault: true, SharedOfficers: true, AcknowledgeNoFault: true,
		Models: []ledger.Model{{Kind: ledger.ModelCard, Manufacturer: "C", Model: firmwaretest.CardModel, Root: cards.Root.Raw}},
	}
	for i, who := range append([]string{plantAdmin, plantAsker}, plantOfficers...) {
		serial := uint32(1000 + i)
		c := cards.New(p.t, serial)
		p.serials[serial], p.cards[who] = c, c
		plan.Persons = append(plan.Persons, ceremony.PlanPerson{ID: who, Name: "Person " + who, Cards: []uint32{serial}})
	}
	return plan
}

// plantKeys are those of the system itself: any two of the first three devices
// sign commands of the ledger. A device in the tables holds a share of
// something.
func plantKeys(devices []string) []ceremony.PlanKey {
	swa := ceremony.PlanKey{
		ID: "swa", Name: "System-wide authority", Family: ledger.FamilyLedger, Scheme: threshold.Additive, T: 2, Devices: devices[:3], Bits: 2048,
		Algorithms: []string{"RS256"}, MaxDays: 400, RootDays: 3650, Quorum: 2, Threshold: 2,
	}
	files := swa
	files.ID, files.Name, files.Family, files.Devices, files.MaxDays, files.RootDays = "files", "Files", ledger.FamilyFile, devices[3:], 0, 0
	return []ceremony.PlanKey{swa, files}
}

func (p *plant) newSite(id string) (*ledger.Server, error) {
	var addr [2]string
	for i := range addr {
		// Free just now; a port is not given out twice soon.
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addr[i] = ln.Addr().String()
		ln.Close()
	}
	row, err := server.Init(p.dirOf(id), server.Config{
		ID: id, Name: "Site " + id, HTTPS: addr[0], Route: addr[1], Links: []string{"unix:" + filepath.Join(p.sockets, id)},
	})
	if err != nil {
		return nil, err
	}
	if err := p.start(id, p.server); err != nil {
		return nil, err
	}
	p.sites = append(p.sites, *row)
	p.conns[id], err = client.Dial(*row)
	return row, err
}

func (p *plant) dirOf(id string) string { return filepath.Join(p.dir, id) }

func (p *plant) start(id, program string) error {
	cmd := exec.Command(program, "run", "--dir", p.dirOf(id))
	p.logs[id] = new(marker)
	cmd.Stderr = p.logs[id]
	if err := cmd.Start(); err != nil {
		return err
	}
	p.running[id] = cmd
	return nil
}

// kill ends processes as a power cut does.
func (p *plant) kill(ids ...string) {
	for _, id := range ids {
		if cmd := p.running[id]; cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			delete(p.running, id)
		}
	}
}

func (p *plant) close() {
	for _, c := range p.conns {
		c.Close()
	}
	for id := range p.running {
		p.kill(id)
	}
}

// until waits for something that takes a moment.
func (p *plant) until(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// linked waits until every device has its link.
func (p *plant) linked(ctx context.Context) error {
	return p.until(ctx, "links of the devices", func() error {
		n := 0
		for _, c := range p.conns {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			for _, x := range s.Servers {
				n += len(x.Devices)
			}
		}
		if n < len(p.devices) {
			return fmt.Errorf("%d of %d", n, len(p.devices))
		}
		return nil
	})
}

// partials is how many messages with powers or signatures a device has made
// since it was started.
func (p *plant) partials(ctx context.Context) (map[string]uint64, error) {
	made := map[string]uint64{}
	s, err := p.conns[p.sites[0].ID].Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range s.Servers {
		for _, d := range x.Devices {
			if d.Status != nil {
				made[d.Device] = d.Status.Partials
			}
		}
	}
	return made, nil
}

// Relay is the desk's way to a device.
func (p *plant) Relay(ctx context.Context, device string, frame []byte) ([]byte, error) {
	return p.conns[p.at[device]].Relay(ctx, device, frame)
}

// Use hands the desk a card.
func (p *plant) Use(_ context.Context, person, _ string, serial uint32, _ string, with func(desk.Card) error) error {
	c, ok := p.serials[serial]
	if !ok {
		return fmt.Errorf("card %d of %s is not here", serial, person)
	}
	return with(c)
}

// worked is the processor time of the plant since its processes were started,
// and of this process.
type worked struct{ devices, servers, here time.Duration }

func (w worked) since(b worked) worked {
	return worked{w.devices - b.devices, w.servers - b.servers, w.here - b.here}
}

func (p *plant) worked() (w worked, err error) {
	for id, cmd := range p.running {
		t, err := processTime(cmd.Process.Pid)
		if err != nil {
			return w, fmt.Errorf("processor time of %s: %w\n%s", id, err, p.logs[id])
		}
		if _, ok := p.at[id]; ok {
			w.devices += t
		} else {
			w.servers += t
		}
	}
	w.here, err = processTime(os.Getpid())
	return w, err
}

// processTime is the processor time of a process, user and system
// (clock_getcpuclockid(3)).
func processTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	if pid <= 0 || pid > math.MaxInt32>>3 {
		return 0, errors.New("no such process")
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// onAllCores runs f over and over on every processor for some time, and returns
// what one run takes with all of them at work, by the clock, and of processor
// time.
func onAllCores(cores int, during time.Duration, f func() error) (wall, cpu time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var runs int64
	var errs []error
	var spent time.Duration
	began := time.Now()
	for range cores {
		wg.Go(func() {
			n := int64(0)
			var err error
			c := processorTime(func() {
				for err == nil && time.Since(began) < during {
					err = f()
					n++
				}
			})
			mu.Lock()
			defer mu.Unlock()
			runs, spent, errs = runs+n, spent+c, append(errs, err)
		})
	}
	wg.Wait()
	return time.Since(began) / time.Duration(runs), spent / time.Duration(runs), errors.Join(errs...)
}
