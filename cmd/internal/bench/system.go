package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// system is a running system on this machine, laid out as scripts/demo does it.
type system struct {
	dir       string
	processes []process
	home      *client.System
}

func openSystem(dir string) (*system, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &system{dir: filepath.Join(dir, "system")}
	if s.processes, err = findProcesses(s.dir); err != nil {
		return nil, err
	}
	cards := s.programs("privyseal-virtualcard")
	if len(cards) != 1 || len(s.programs("privyseal-server")) == 0 {
		return nil, fmt.Errorf("no system runs in %s: start one with scripts/demo --keep --dir %s", s.dir, dir)
	}
	if s.home, err = client.Open(filepath.Join(s.dir, "home", "privyseal")); err != nil {
		return nil, err
	}
	// Read by libpcsclite at its first call, which is yet to come.
	return s, os.Setenv("PCSCLITE_CSOCK_NAME", cards[0].flag("--socket"))
}

func (s *system) programs(name string) []process {
	return slices.DeleteFunc(slices.Clone(s.processes), func(p process) bool { return p.program() != name })
}

// memory reads the memory of all processes.
func (s *system) memory() ([]memory, error) {
	var out []memory
	for _, p := range s.processes {
		now, peak, err := resident(p.pid)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", p, err)
		}
		out = append(out, memory{Process: p.String(), Rest: now, After: now, Peak: peak})
	}
	return out, nil
}

// measureSystem measures a running system: its memory, signatures by each key
// that people use, its memory after them, and, if wanted, the start of its
// devices, which are stopped then.
func measureSystem(ctx context.Context, f *flags, r *report) error {
	s, err := openSystem(f.system)
	if err != nil {
		return err
	}
	time.Sleep(settle)
	mem, err := s.memory()
	if err != nil {
		return err
	}
	for _, k := range s.home.State().Keys() {
		if k.Family == ledger.FamilyLedger {
			continue
		}
		f.tell("system: %d signatures by key %s", 2*f.requests, k.ID)
		one, err := s.signatures(ctx, k, f.requests)
		if err != nil {
			return fmt.Errorf("key %s: %w", k.ID, err)
		}
		r.Signatures = append(r.Signatures, *one)
	}
	time.Sleep(settle)
	after, err := s.memory()
	if err != nil {
		return err
	}
	for i := range mem {
		mem[i].After, mem[i].Peak = after[i].Rest, after[i].Peak
	}
	r.addMemory(mem)
	if !f.restart {
		return nil
	}
	f.tell("system: its devices start anew")
	starts, err := s.restartDevices(ctx)
	if err != nil {
		return err
	}
	r.addStarts(starts)
	return nil
}

// restartDevices stops each device of the system and starts it again: locked,
// with all its records. It is ready when it answers an officer who asks to
// unlock it, through its message server.
func (s *system) restartDevices(ctx context.Context) ([]started, error) {
	state := s.home.State()
	var out []started
	for _, p := range s.programs("privyseal-device") {
		id := filepath.Base(p.dir())
		d, ok := state.Device(id)
		if !ok {
			return nil, fmt.Errorf("%v is no device of the system", p)
		}
		srv, _ := state.Server(d.Server)
		conn, err := client.Dial(srv)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		if _, err := conn.Status(ctx); err != nil { // the connection is made beforehand
			return nil, err
		}
		if err := p.end(); err != nil {
			return nil, err
		}
		one := started{name: "commissioned device, locked"}
		argv := append([]string{filepath.Join(s.dir, "bin", p.program())}, p.argv[1:]...)
		up := &marker{text: "link is up", seen: make(chan struct{})}
		err = one.run(ctx, argv, up, func(ctx context.Context) error {
			select {
			case <-up.seen:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			_, err := conn.UnlockAsk(ctx, id)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// end stops a process that is not this one's child.
func (p process) end() error {
	if err := unix.Kill(p.pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("%v: %w", p, err)
	}
	for until := time.Now().Add(stopPatience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if _, _, err := resident(p.pid); err != nil {
			return nil
		}
	}
	return fmt.Errorf("%v does not end", p)
}

// marker is a writer that keeps what is written and tells when it holds a text.
type marker struct {
	text string
	seen chan struct{}

	mu   sync.Mutex
	data []byte
	done bool
}

func (m *marker) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, b...)
	if !m.done && m.text != "" && strings.Contains(string(m.data), m.text) {
		m.done = true
		close(m.seen)
	}
	return len(b), nil
}

func (m *marker) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.data)
}
