package card

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
)

// The tests use virtual cards behind a real, private pcscd.

const testReaders = 6

var (
	daemon      *vpcd.Daemon
	maker       *virtual.Root
	freeReaders = make(chan int, testReaders)
	lastSerial  atomic.Uint32
)

func TestMain(m *testing.M) {
	if os.Getenv(noServiceVar) != "" {
		os.Exit(m.Run()) // TestNoService in a process of its own
	}
	code, err := vpcd.Own(testReaders, func(d *vpcd.Daemon) (code int, err error) {
		if maker, err = virtual.NewRoot(rand.Reader, time.Now()); err != nil {
			return 1, err
		}
		for i := range testReaders {
			freeReaders <- i
		}
		lastSerial.Store(7_000_000)
		daemon = d
		return m.Run(), nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "these tests need pcscd and vsmartcard-vpcd:", err)
	}
	os.Exit(code)
}

// rig is a virtual card in a reader of its own.
type rig struct {
	serial uint32
	reader string
	state  *virtual.State // read only while no one uses the card
	slot   *virtual.Slot
}

func manufacture(t *testing.T, p virtual.Profile, serial uint32) (*virtual.Card, *virtual.State) {
	t.Helper()
	s, err := maker.Manufacture(rand.Reader, p, serial)
	if err != nil {
		t.Fatal(err)
	}
	c, err := virtual.New(s, virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// takeReader gives the test a reader of its own until its end.
func takeReader(t *testing.T) int {
	i := <-freeReaders
	t.Cleanup(func() { freeReaders <- i })
	return i
}

// plug puts a new, empty card into a reader.
func plug(t *testing.T, p virtual.Profile) *rig {
	t.Helper()
	r := insert(t, p)
	if _, err := Wait(deadline(t, 10*time.Second), r.serial); err != nil {
		t.Fatal(err)
	}
	return r
}

// insert is plug without waiting until PC/SC sees the card.
func insert(t *testing.T, p virtual.Profile) *rig {
	t.Helper()
	i := takeReader(t)
	serial := lastSerial.Add(1)
	c, s := manufacture(t, p, serial)
	r := &rig{serial: serial, reader: daemon.Readers[i], state: s, slot: virtual.NewSlot(c)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { vpcd.Serve(ctx, daemon.Addr(i), r.slot) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// open opens the rig's card until the end of the test.
func (r *rig) open(t *testing.T, o Options) *Card {
	t.Helper()
	c, err := Open(deadline(t, 20*time.Second), r.serial, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// enrolled plugs a card in and enrols it.
func enrolled(t *testing.T, p virtual.Profile) (*rig, *Enrolled) {
	t.Helper()
	r := plug(t, p)
	return r, r.enrol(t)
}

func (r *rig) enrol(t *testing.T) *Enrolled {
	t.Helper()
	c := r.open(t, Options{})
	e, err := c.Enrol(t.Context(), Enrolment{ManagementKey: virtual.DefaultManagementKey(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return e
}

// pins is a PINSource that gives one PIN after the other, then fails.
type pins struct {
	mu      sync.Mutex
	give    []string
	prompts []Prompt
	given   [][]byte // the slices handed out
}

var errNoMorePINs = errors.New("asked for one PIN too many")

func (p *pins) source(_ context.Context, prompt Prompt) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prompts = append(p.prompts, prompt)
	if len(p.give) == 0 {
		return nil, errNoMorePINs
	}
	pin := []byte(p.give[0])
	p.give = p.give[1:]
	p.given = append(p.given, pin)
	return pin, nil
}

// right is a PINSource for a new card.
func right(context.Context, Prompt) ([]byte, error) { return []byte(virtual.DefaultPIN), nil }

func roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(maker.Certificate)
	return p
}

// changeling is a card slot whose card is exchanged so fast that pcscd does not
// see it: the connection to the reader stays.
type changeling struct {
	mu     sync.Mutex
	card   *virtual.Card
	tamper func(apdu, answer []byte) []byte
}

// become exchanges the card for one with its PIV application selected or not.
func (c *changeling) become(card *virtual.Card, selected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	card.Reset()
	if selected {
		card.Transmit(append([]byte{0, 0xa4, 4, 0, byte(len(aidPIV))}, aidPIV...))
	}
	c.card = card
}

func (c *changeling) answer(frame []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(frame) == 1 {
		if frame[0] == 4 { // ATR
			return c.card.ATR()
		}
		c.card.Reset()
		return nil
	}
	a := c.card.Transmit(frame)
	if c.tamper != nil {
		a = c.tamper(frame, a)
	}
	return a
}

// plugChangeling puts a changeling into a reader.
func plugChangeling(t *testing.T, card *virtual.Card) *changeling {
	t.Helper()
	i := takeReader(t)
	c := &changeling{card: card}
	conn, err := net.Dial("tcp", daemon.Addr(i))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var head [2]byte
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return
		}
		for {
			// vpcd sends length and payload apart; without an acknowledgement
			// at once every command costs 44 ms.
			raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint16(head[:]))
			raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
			if _, err := io.ReadFull(conn, frame); err != nil {
				return
			}
			if a := c.answer(frame); a != nil {
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
					return
				}
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	if _, err := Wait(deadline(t, 10*time.Second), card.Serial()); err != nil {
		t.Fatal(err)
	}
	return c
}
