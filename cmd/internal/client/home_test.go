package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func (w *world) entry(s ledger.State, text string) (ledger.State, []byte) {
	w.t.Helper()
	x := w.Entry(w.t, s, ledger.KindNotice, &ledger.Notice{Text: text, From: w.unix(), Until: w.unix() + 60}, w.unix())
	v, err := ledger.VerifyEntry(s, x)
	if err != nil {
		w.t.Fatal(err)
	}
	next, err := ledger.ApplyVerified(s, v)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := envelope.Marshal(x)
	if err != nil {
		w.t.Fatal(err)
	}
	return next, raw
}

func (w *world) bundle() []byte {
	w.t.Helper()
	b, err := envelope.Marshal(w.Bundle)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func TestHome(t *testing.T) {
	w := newWorld(t)
	s, err := client.Open(w.dir)
	if err != nil || s.ID() != w.State.System() || s.State().Head() != w.State.Head() {
		t.Fatal(err)
	}
	if _, err := s.Server("server-9"); err == nil || !strings.Contains(err.Error(), "server-1, server-2") {
		t.Errorf("%v", err)
	}
	if _, err := client.Open(t.TempDir()); !errors.Is(err, client.ErrNoSystem) {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(filepath.Join(w.dir, client.FileSystem))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// A home whose genesis does not verify against its id is refused, whatever was
// changed.
func TestTamperedHome(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, client.FileSystem)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(data, &whole); err != nil {
		t.Fatal(err)
	}
	other := w.Bundle
	other.Signatures = other.Signatures[1:]
	unsigned, _ := envelope.Marshal(other)
	for name, c := range map[string]struct {
		field string
		value any
		want  string
	}{
		"another id":    {"system", strings.Repeat("0", 64), "refused"},
		"a signature":   {"bundle", unsigned, "signed by"},
		"no bundle":     {"bundle", []byte{}, "genesis"},
		"server":        {"server", "server-9", "no message server"},
		"version":       {"version", 2, "version 2"},
		"unknown field": {"trust", "me", "unknown field"},
		"entry":         {"entries", [][]byte{{0xa0}}, "ledger entry 1"},
	} {
		m := maps.Clone(whole)
		m[c.field] = c.value
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Open(w.dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLedgerOfHome(t *testing.T) {
	w := newWorld(t)
	one, first := w.entry(w.State, "first")
	_, second := w.entry(one, "second")
	_, fork := w.entry(w.State, "fork")
	s, err := client.Verify(w.State.System(), "server-1", w.bundle(), [][]byte{first})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(w.dir); err != nil {
		t.Fatal(err)
	}
	// Joining again with what an older server has loses nothing.
	old, err := client.Verify(w.State.System(), "server-2", w.bundle(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Save(w.dir); err != nil {
		t.Fatal(err)
	}
	again, err := client.Open(w.dir)
	if err != nil || again.State().Height() != 1 {
		t.Fatal(again.State().Height(), err)
	}
	if srv, _ := again.Server(""); srv.ID != "server-2" {
		t.Errorf("server %s", srv.ID)
	}
	// A server without the entry, as those of the test are, changes nothing.
	if err := again.Refresh(t.Context(), w.dial("server-1")); err != nil || again.State().Height() != 1 {
		t.Errorf("%d, %v", again.State().Height(), err)
	}
	forked, err := client.Verify(w.State.System(), "server-1", w.bundle(), [][]byte{fork})
	if err != nil {
		t.Fatal(err)
	}
	if err := forked.Save(w.dir); err == nil || !strings.Contains(err.Error(), "differs from this home's at position 1") {
		t.Errorf("%v", err)
	}
	if _, err := client.Verify(w.State.System(), "server-1", w.bundle(), [][]byte{second}); err == nil {
		t.Error("an entry without the one before is taken")
	}
	if two, err := client.Verify(w.State.System(), "server-1", w.bundle(), [][]byte{first, second}); err != nil || two.State().Height() != 2 {
		t.Errorf("%v", err)
	}
}

func TestOtherSystem(t *testing.T) {
	w := newWorld(t)
	x := ledgertest.New(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	b, err := envelope.Marshal(x.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.Verify(x.State.System(), "server-1", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(w.dir); !errors.Is(err, client.ErrOtherSystem) {
		t.Errorf("%v", err)
	}
	if _, err := client.Verify(w.State.System(), "server-1", b, nil); err == nil {
		t.Error("another system's genesis is taken for this one's")
	}
}

func TestConn(t *testing.T) {
	w := newWorld(t)
	srv, _ := w.sys.Server("server-2")
	srv.TLS[0] ^= 1
	c, err := client.Dial(srv)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.System(t.Context(), 0, true)
	var away *client.UnreachableError
	if !errors.As(err, &away) || !strings.Contains(away.Hint(), "pin") {
		t.Errorf("wrong key: %v", err)
	}
	conn := w.dial("server-2")
	if _, err := conn.Tracking(t.Context(), envelope.Hash{1}); !client.NotFound(err) {
		t.Errorf("unknown request: %v", err)
	}
	w.Stop("server-2")
	if _, err := conn.System(t.Context(), 0, true); !errors.As(err, &away) || away.Server != "server-2" {
		t.Errorf("stopped: %v", err)
	}
	// A server that accepts connections and says nothing.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	c, err = client.DialURL("https://"+mute.Addr().String(), srv.TLS)
	if err != nil {
		t.Fatal(err)
	}
	within, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.System(within, 0, true); !errors.As(err, &away) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("mute: %v", err)
	}
	if got, err := w.dial("").Status(t.Context()); err != nil || len(got.Servers) != 5 {
		t.Errorf("%v", err)
	}
	if _, err := w.dial("").Recertify(t.Context(), "device-1", w.unix()+60); err == nil {
		t.Errorf("a path that is not there: %v", http.StatusText(404))
	}
}
