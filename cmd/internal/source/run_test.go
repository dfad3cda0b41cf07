package source

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// site is the message server's end of a link: it shows the system to whoever
// dials in.
type site struct {
	*world
	l    *link.Listener
	addr string
	c    *link.Conn
}

func newSite(t testing.TB, kind string) *site {
	t.Helper()
	x := &site{world: newWorld(t, kind)}
	x.addr = x.world.cfg().Link
	x.listen()
	return x
}

func (x *site) listen() {
	x.t.Helper()
	row, _ := x.sys.State.Source(x.id)
	var err error
	x.l, err = link.Listen(x.addr, link.ListenOptions{ID: row.Server, Allow: func(id string, _ pinned.Pin) error {
		if id != x.id {
			return errors.New("not a source of this site")
		}
		return nil
	}})
	must(x.t, err)
	x.t.Cleanup(func() { x.l.Close() })
}

// accept waits for the source to dial in.
func (x *site) accept() {
	x.t.Helper()
	var err error
	x.c, err = x.l.Accept(x.t.Context())
	must(x.t, err)
	must(x.t, x.c.Send(x.t.Context(), x.system()))
}

func (x *site) recv() []byte {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	f, err := x.c.Recv(ctx)
	must(x.t, err)
	return f
}

// run runs the source in this process until the test ends or stop is called.
func (x *site) run(d *disk, log *slog.Logger) (s *Source, stop func() error) {
	x.t.Helper()
	s, err := start(d, x.dir, Options{Log: log, Now: func() int64 { return x.now }})
	must(x.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		must(x.t, s.Close())
		return err
	})
	x.t.Cleanup(func() { stop() })
	return s, stop
}

// TestRun: over a link, each kind begins, beats in its slots and goes on when
// the link comes back.
func TestRun(t *testing.T) {
	for _, kind := range kinds {
		x := newSite(t, kind)
		_, stop := x.run(realDisk(), nil)
		x.accept()
		begun := bootclock.Now()
		must(t, x.c.Send(t.Context(), x.dev.challenge()))
		want(t, kind, kindOf(t, x.dev, [][]byte{x.recv()}), answer)
		if kind != ledger.SourceSatellite {
			var last uint64
			for last < 4 {
				b := x.dev.open(x.recv())
				if b.Slot <= last {
					t.Fatalf("%s: slot %d after %d", kind, b.Slot, last)
				}
				// Never early: the device counts slots from its challenge.
				if passed := bootclock.Now() - begun; passed < int64(b.Slot-1)*period {
					t.Fatalf("%s: slot %d after %v", kind, b.Slot, time.Duration(passed))
				}
				last = b.Slot
			}
		}
		must(t, x.c.Close())
		x.accept()
		x.dev.log = 3
		must(t, x.c.Send(t.Context(), x.dev.challenge()))
		for {
			b := x.dev.open(x.recv())
			if b.Kind == answer {
				break
			}
		}
		st := x.until(func(st *Status) bool { return st.Link && len(st.Devices) == 2 && st.Devices[0].Beating })
		if d := st.Devices[0]; d.Log != 3 || d.Last < 0 || !st.Running {
			t.Errorf("%s: status %+v", kind, st)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: ended with %v", kind, err)
		}
		if st, err := ReadStatus(x.dir); err != nil || st.Running || st.Link || st.Devices[0].Beating || st.Devices[0].Log != 3 {
			t.Errorf("%s: status afterwards %+v, %v", kind, st, err)
		}
	}
}

func (x *site) until(ok func(*Status) bool) *Status {
	x.t.Helper()
	for {
		st, err := ReadStatus(x.dir)
		must(x.t, err)
		if ok(st) {
			return st
		}
		if err := x.t.Context().Err(); err != nil {
			x.t.Fatalf("%v; status %+v", err, st)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestRunUnattended: what is told to a source without a link is put in force
// by itself.
func TestRunUnattended(t *testing.T) {
	x := newSite(t, ledger.SourceMessage)
	_, stop := x.run(realDisk(), nil)
	x.accept()
	must(t, x.c.Send(t.Context(), x.dev.challenge()))
	want(t, "first", kindOf(t, x.dev, [][]byte{x.recv()}), answer)
	must(t, x.l.Close())
	x.until(func(st *Status) bool { return !st.Link })
	must(t, Silence(x.dir, device, "", x.now))
	for {
		entries, err := os.ReadDir(filepath.Join(x.dir, dirRevoked))
		must(t, err)
		if len(entries) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if st, err := ReadStatus(x.dir); err != nil || st.Devices[0].Revoked != x.now {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestRunEnds: a source that cannot store its table ends before it answers.
func TestRunEnds(t *testing.T) {
	x := newSite(t, ledger.SourceSatellite)
	d := realDisk()
	write := d.write
	d.write = func(p string, b []byte, m os.FileMode) error {
		if filepath.Base(p) == fileTable && len(b) > 0 {
			return errFault
		}
		return write(p, b, m)
	}
	var log strings.Builder
	_, stop := x.run(d, slog.New(slog.NewTextHandler(&log, nil)))
	x.accept()
	x.dev.log = 1
	must(t, x.c.Send(t.Context(), x.dev.challenge()))
	if f, err := x.c.Recv(t.Context()); err == nil {
		t.Errorf("it answered: %s", x.dev.open(f).Kind)
	}
	if err := stop(); !errors.Is(err, errFault) {
		t.Errorf("ended with %v", err)
	}
}

// TestRunTLS pins both ends' keys.
func TestRunTLS(t *testing.T) {
	x := newSite(t, ledger.SourceSatellite)
	must(t, x.l.Close())
	id, err := pinned.NewIdentity()
	must(t, err)
	pin, err := pinned.PinOfIdentity(id)
	must(t, err)
	row, _ := x.sys.State.Source(x.id)
	var dials []pinned.Pin
	x.l, err = link.Listen("tls:127.0.0.1:0", link.ListenOptions{
		ID: row.Server, Identity: &id, Allow: func(string, pinned.Pin) error { return nil },
		AllowKey: func(p pinned.Pin) bool { dials = append(dials, p); return true },
	})
	must(t, err)
	t.Cleanup(func() { x.l.Close() })
	x.dir = filepath.Join(t.TempDir(), "tls")
	x.seedKeys(x.dir)
	_, err = Init(x.dir, Config{
		ID: row.ID, Name: row.Name, Kind: row.Kind, Server: row.Server, Operators: row.Operators,
		Link: x.l.Addr(), Pins: []string{pin.String()},
	}, x.sys.State.System(), x.now)
	must(t, err)
	_, stop := x.run(realDisk(), nil)
	x.accept()
	must(t, x.c.Send(t.Context(), x.dev.challenge()))
	want(t, "over TLS", kindOf(t, x.dev, [][]byte{x.recv()}), answer)
	own, err := Pin(x.dir)
	must(t, err)
	if x.c.PeerKey() != own {
		t.Error("it dials with another key than it shows")
	}
	stop()
}

// TestTold: a device that is refused in every period fills no log.
func TestTold(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	var log strings.Builder
	s, l, err := w.start(realDisk(), &log)
	must(t, err)
	must(t, s.handle(context.Background(), w.system()))
	stranger := &emulator{w: w, inst: newInstance(t)}
	for range 50 {
		want(t, "stranger", w.ask(s, l, stranger), refusedInstance)
	}
	if n := strings.Count(log.String(), "challenge refused"); n != 1 {
		t.Errorf("told %d times", n)
	}
	w.boot += int64(quiet) + 1
	want(t, "stranger", w.ask(s, l, stranger), refusedInstance)
	if !strings.Contains(log.String(), "before=49") {
		t.Errorf("not told again:\n%s", log.String())
	}
}

// TestClocks compares two looks at the clocks.
func TestClocks(t *testing.T) {
	sec := int64(time.Second)
	for says, now := range map[string]clocks{
		"":                      {wall: sec, boot: sec, up: sec},
		"machine was suspended": {wall: 3600 * sec, boot: 3600 * sec, up: sec},
		"wall clock was set":    {wall: -365 * 86400 * sec, boot: sec, up: sec},
		"by=8760h":              {wall: 365 * 86400 * sec, boot: 0, up: 0},
		"stopped or starved":    {wall: 60 * sec, boot: 60 * sec, up: 60 * sec},
	} {
		var log strings.Builder
		clocks{}.compare(now, slog.New(slog.NewTextHandler(&log, nil)))
		if got := log.String(); (says == "") != (got == "") || !strings.Contains(got, says) {
			t.Errorf("%+v: %q", now, got)
		}
	}
}

// BenchmarkAnswer is a satellite's work for one period of one device: it opens
// the challenge, looks at its directory, signs and seals.
func BenchmarkAnswer(b *testing.B) {
	w := newWorld(b, ledger.SourceSatellite)
	s, l := w.running()
	for b.Loop() {
		b.StopTimer()
		frame := w.dev.challenge()
		b.StartTimer()
		must(b, s.handle(context.Background(), frame))
		b.SetBytes(int64(len(frame) + len(l.take()[0])))
	}
}

// BenchmarkBeat is the same for a source of one-way beats.
func BenchmarkBeat(b *testing.B) {
	w := newWorld(b, ledger.SourceMessage)
	s, l := w.running()
	for n := 0; b.Loop(); n++ {
		if n%256 == 0 {
			b.StopTimer()
			must(b, s.handle(context.Background(), w.dev.challenge()))
			b.StartTimer()
		}
		w.boot += period
		must(b, s.due(context.Background()))
		l.take()
	}
}
