package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// script is an interpreter that does what a test says: it grants itself leases
// and answers with what a share would have made. The token is a real one.
type script struct {
	interpreter
	handle  func(in firmware.Inputs, frame []byte) firmware.Effects
	piece   func(in firmware.Inputs) firmware.Effects // of what handle began
	tick    func(in firmware.Inputs) firmware.Effects
	durable func()
	destroy func() error

	mu    sync.Mutex
	lease firmware.Lease
	next  int64
}

func (s *script) grant(until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = firmware.Lease{Guarded: true, Until: until, Lock: until}
}

// fall is what a machine does when it finds its token locked.
func (s *script) fall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = firmware.Lease{Guarded: true}
}

func (s *script) Handle(in firmware.Inputs, frame []byte) firmware.Effects {
	return s.handle(in, frame)
}

func (s *script) Continue(in firmware.Inputs) firmware.Effects { return s.piece(in) }

func (s *script) Tick(in firmware.Inputs) (e firmware.Effects) {
	if s.tick != nil {
		e = s.tick(in)
	}
	return e
}

func (s *script) Lease() firmware.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

func (s *script) Next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *script) Durable(e *firmware.Effects) {
	if s.durable != nil {
		s.durable()
	}
	s.interpreter.Durable(e)
}

func (s *script) Destroy() error { return s.destroy() }

// scripted opens a device and puts a script in its interpreter's place.
func scripted(dir string, log *slog.Logger) (*device, *script, error) {
	d, err := start(dir, log)
	if err != nil {
		return nil, nil, err
	}
	s := &script{interpreter: d.machine}
	d.machine = s
	return d, s, nil
}

// share is an exponent in the device's token.
func (s *script) share(d *device) (use func() ([]byte, error), err error) {
	n := bytes.Repeat([]byte{0xff}, 256)
	rand.Read(n[1:255])
	wrapped, err := d.token.WrapExponent(devicetoken.LabelKEKToken, n, bytes.Repeat([]byte{0x55}, 256))
	if err != nil {
		return nil, err
	}
	return func() ([]byte, error) {
		e, err := d.token.UnwrapExponent(devicetoken.LabelKEKToken, n, wrapped)
		if err != nil {
			return nil, err
		}
		defer e.Close()
		return e.Exp(bytes.Repeat([]byte{0x33}, 256))
	}, nil
}

// loggedIn asks the PKCS#11 module itself, in a session of the test's own,
// whether this process is logged in to the device's token.
func loggedIn(c *config) (bool, error) {
	ctx := pkcs11.New(hsm.DefaultModule()) // loaded already, and initialised by the device
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return false, err
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err != nil || info.Label != c.Token {
			continue
		}
		s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return false, err
		}
		defer ctx.CloseSession(s)
		info, err := ctx.GetSessionInfo(s)
		return info.State != pkcs11.CKS_RO_PUBLIC_SESSION, err
	}
	return false, fmt.Errorf("no token %q", c.Token)
}

// running is a scripted device at work.
type running struct {
	*device
	*script
	listen func() *link.Conn // accepts its link
	locked chan struct{}     // the watchdog locked the token
	ended  chan error
}

func soon() int64 { return bootclock.Now() + int64(300*time.Millisecond) }
func late() int64 { return bootclock.Now() + int64(time.Hour) }

// runScript runs a scripted device until the test ends.
func runScript(t *testing.T, prepare func(d *device, s *script)) *running {
	t.Helper()
	dir, c := newDevice(t)
	d, s, err := scripted(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	r := &running{device: d, script: s, locked: make(chan struct{}, 10), ended: make(chan error, 1)}
	d.watch.closed = func(end, now int64) {
		if now < end {
			t.Errorf("locked %d ns early", end-now)
		}
		if in, err := loggedIn(c); in || err != nil {
			t.Errorf("the token is said to be locked; logged in: %v, %v", in, err)
		}
		r.locked <- struct{}{}
	}
	d.watch.die = func(err error) { t.Error(err) }
	r.listen = func() *link.Conn {
		t.Helper()
		l, err := link.Listen(c.Link, link.ListenOptions{ID: "s", Allow: func(string, pinned.Pin) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		conn, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	prepare(d, s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- d.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func send(t *testing.T, c *link.Conn, frame string) {
	t.Helper()
	if err := c.Send(t.Context(), []byte(frame)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *link.Conn, want string) {
	t.Helper()
	got, err := c.Recv(t.Context())
	if err != nil || string(got) != want {
		t.Fatalf("received %.80q, %v; want %q", got, err, want)
	}
}

// sealed is a frame whose outside says that it is of a type.
func sealed(t *testing.T, typ string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kx, err := key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	h := envelope.Header{Type: typ, Version: 1, Created: 1, Expires: 2}
	rand.Read(h.ID[:])
	raw, err := envelope.Sign(rand.Reader, key, h, []byte{0xa0})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{kx.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func readPIN(dir string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, filePIN)) }

func (b *inbox) waiting(l lane) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.frames[l])
}
