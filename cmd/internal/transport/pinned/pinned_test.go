package pinned

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func identity(t *testing.T) (tls.Certificate, Pin) {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p, err := PinOfIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	return id, p
}

// handshake runs both sides to the end and returns both errors.
func handshake(t *testing.T, server, client *tls.Config) (serr, cerr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		_, err := s.Read(make([]byte, 1))
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	c := tls.Client(b, client)
	cerr = c.Handshake()
	if cerr != nil {
		b.Close()
		return <-done, cerr
	}
	_, cerr = c.Write([]byte{1})
	return <-done, cerr
}

func TestHandshake(t *testing.T) {
	s, sp := identity(t)
	c, cp := identity(t)
	x, xp := identity(t)
	var wrong *WrongPinError
	if serr, cerr := handshake(t, Server(s, Among(cp)), Client(&c, xp, sp)); serr != nil || cerr != nil {
		t.Error(serr, cerr)
	}
	if serr, cerr := handshake(t, Server(s, nil), Client(nil, sp)); serr != nil || cerr != nil {
		t.Error(serr, cerr)
	}
	if serr, cerr := handshake(t, Mutual(s, Among(cp)), Mutual(c, Among(sp))); serr != nil || cerr != nil {
		t.Error(serr, cerr)
	}
	if _, cerr := handshake(t, Server(s, nil), Client(nil, cp)); !errors.As(cerr, &wrong) || wrong.Got != sp {
		t.Error(cerr)
	}
	if serr, _ := handshake(t, Server(s, Among(cp)), Client(&x, sp)); !errors.As(serr, &wrong) || wrong.Got != xp {
		t.Error(serr)
	}
	for name, c := range map[string][2]*tls.Config{
		"no pin at all":       {Server(s, nil), Client(nil)},
		"zero pin":            {Server(s, nil), Client(nil, Pin{})},
		"no client key":       {Server(s, Among(cp)), Client(nil, sp)},
		"nobody is allowed":   {Server(s, Among()), Client(&c, sp)},
		"mutual without rule": {Mutual(s, nil), Client(&c, sp)},
	} {
		if serr, cerr := handshake(t, c[0], c[1]); serr == nil {
			t.Errorf("%s: let in (client: %v)", name, cerr)
		}
	}
	old := Client(&c, sp)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if serr, _ := handshake(t, Server(s, Among(cp)), old); serr == nil {
		t.Error("TLS 1.2 let in")
	}
}

func TestLoadIdentity(t *testing.T) {
	p := filepath.Join(t.TempDir(), "key.pem")
	a, err := LoadIdentity(p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadIdentity(p)
	if err != nil {
		t.Fatal(err)
	}
	pa, _ := PinOfIdentity(a)
	pb, _ := PinOfIdentity(b)
	if pa != pb {
		t.Fatal("two loads, two keys")
	}
	os.Chmod(p, 0o640)
	if _, err := LoadIdentity(p); err == nil {
		t.Fatal("a key that others may read was taken")
	}
	os.Chmod(p, 0o600)
	os.WriteFile(p, []byte("junk"), 0o600)
	if _, err := LoadIdentity(p); err == nil {
		t.Fatal("junk was taken")
	}
}

func TestPinText(t *testing.T) {
	_, p := identity(t)
	b, _ := p.MarshalText()
	var q Pin
	if err := q.UnmarshalText(b); err != nil || q != p {
		t.Fatal(q, err)
	}
	for _, bad := range []string{"", string(b[1:]), string(b) + "0", "zz" + string(b[2:])} {
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("%q", bad)
		}
	}
}
