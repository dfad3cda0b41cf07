package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// line is a way to a server that is as bad as a test wants.
type line struct {
	addr string // of the server

	mu    sync.Mutex
	up    func(n int) bool // sees what goes to the server; false: it is lost, and all after it
	down  func(n int) bool // and what comes back
	conns []net.Conn
}

func newLine(t *testing.T, base string) (*line, string) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{addr: u.Host}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", l.addr)
			if err != nil {
				c.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, c, s)
			up, down := l.up, l.down
			l.mu.Unlock()
			wg.Go(func() { carry(s, c, up) })
			wg.Go(func() { carry(c, s, down) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		l.mu.Lock()
		for _, c := range l.conns {
			c.Close()
		}
		l.mu.Unlock()
		wg.Wait()
	})
	return l, "https://" + ln.Addr().String()
}

// be makes the connections of now on such.
func (l *line) be(up, down func(n int) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.down = up, down
}

func carry(to, from net.Conn, see func(n int) bool) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && see != nil && !see(n) {
			io.Copy(io.Discard, from) // until the other end gives up
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// after loses what comes after so many octets.
func after(octets int) func(n int) bool {
	return func(n int) bool { octets -= n; return octets > 0 }
}

// TestSlowLine: a page that takes longer than a dead server is waited for comes
// nevertheless, and what has come is kept whatever comes after it.
func TestSlowLine(t *testing.T) {
	const many = 64 // entries, of more than two pages
	w := newWorld(t, ledgertest.WithManyPersons())
	w.Long(many)
	row, _ := w.State.Server("server-1")
	line, base := newLine(t, row.URL)
	dial := func(silence, page time.Duration) *client.Conn {
		t.Helper()
		c, err := client.DialURL(base, row.TLS)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		c.SetPatience(silence, page)
		return c
	}
	home := func() (string, *client.System) {
		t.Helper()
		s, err := client.Verify(w.State.System(), "server-1", w.bundle(), nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "home")
		if err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
		return dir, s
	}
	away := func(what string, err error) {
		t.Helper()
		var e *client.UnreachableError
		if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%s: %v", what, err)
		}
	}

	// The first page takes twice the silence, in its middle. The server has begun to
	// answer.
	const silence = 3 * time.Second
	came := 0
	line.be(nil, func(n int) bool {
		if half := 512 << 10; came <= half && came+n > half {
			time.Sleep(2 * silence)
		}
		came += n
		return true
	})
	var told []string
	_, s := home()
	if err := s.RefreshTelling(t.Context(), dial(silence, time.Minute), func(text string) { told = append(told, text) }); err != nil || s.State().Height() != many {
		t.Errorf("over a slow line: %d entries, %v", s.State().Height(), err)
	}
	if len(told) < 2 || !strings.HasSuffix(told[0], " of 64") {
		t.Errorf("told %q", told)
	}

	// One that says nothing at all is given up long before a page's time is over.
	line.be(nil, after(0))
	dir, s := home()
	away("silence", s.Refresh(t.Context(), dial(100*time.Millisecond, time.Hour)))

	// One that stops in the second page: the first stays, and the next attempt goes
	// on after it, also that of another process.
	line.be(nil, after(1500<<10))
	away("half a ledger", s.Refresh(t.Context(), dial(time.Minute, 5*time.Second)))
	s, err := client.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := s.State().Height()
	if kept == 0 || kept >= many {
		t.Fatalf("%d entries were kept", kept)
	}
	var asked []uint64
	w.Page = func(p *api.SystemPage) { asked = append(asked, p.System.After) }
	line.be(nil, nil)
	if err := s.Refresh(t.Context(), dial(time.Minute, time.Minute)); err != nil || s.State().Height() != many || asked[0] != kept {
		t.Errorf("%d entries, asked for those after %d: %v", s.State().Height(), asked, err)
	}
}

// TestSlowWayThere: a server keeps the pages that it was given before the line
// went dead, and is given the rest.
func TestSlowWayThere(t *testing.T) {
	site := newOwnSite(t)
	sys := ledgertest.New(t, ledgertest.WithManyPersons(), func(g *ledger.Genesis) { g.Servers[0] = *site.row })
	site.start(t, sys)
	bundle, err := envelope.Marshal(sys.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	all := sys.Long(t, 64)
	line, base := newLine(t, site.row.URL)
	give := func(page time.Duration, up func(int) bool) error {
		line.be(up, nil)
		c, err := client.DialURL(base, site.row.TLS)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetPatience(time.Minute, page)
		return c.Commission(t.Context(), bundle, all)
	}
	var e *client.UnreachableError
	if err := give(10*time.Second, after(len(bundle)+1500<<10)); !errors.As(err, &e) {
		t.Errorf("%v", err)
	}
	conn, err := client.Dial(*site.row)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := conn.System(t.Context(), 64, false)
	if err != nil || p.Height == 0 || p.Height >= 64 {
		t.Fatalf("%d entries, %v", p.Height, err)
	}
	given := 0
	if err := give(time.Minute, func(n int) bool { given += n; return true }); err != nil {
		t.Error(err)
	}
	if p, err = conn.System(t.Context(), 64, false); err != nil || p.Height != 64 || given > 2<<20 {
		t.Errorf("%d entries after %d octets more, %v", p.Height, given, err)
	}
}
