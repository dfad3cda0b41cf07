package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// shelf is the part of some message servers that keeps the ledger: it takes
// what continues it, as the real ones do.
type shelf struct {
	*ledgertest.System
	t  *testing.T
	mu sync.Mutex
	// kept is what each server has; away are those that refuse to speak.
	kept map[string][][]byte
	away []string
}

// newShelf starts the servers, which may have more routes.
func newShelf(t *testing.T, more ...func(*shelf) map[string]web.Handler) *shelf {
	s := &shelf{t: t, kept: map[string][][]byte{}}
	dir := t.TempDir()
	s.System = ledgertest.New(t, func(g *ledger.Genesis) {
		for i := range g.Servers {
			x := &g.Servers[i]
			id, err := pinned.LoadIdentity(filepath.Join(dir, x.ID))
			if err != nil {
				t.Fatal(err)
			}
			pin, err := pinned.PinOfIdentity(id)
			if err != nil {
				t.Fatal(err)
			}
			name := x.ID
			routes := map[string]web.Handler{
				api.PathSystemShow: func(_ context.Context, _ string, body []byte) ([]byte, error) { return s.show(name, body) },
				api.PathSystem:     func(_ context.Context, _ string, body []byte) ([]byte, error) { return s.take(name, body) },
				api.PathStatus:     func(context.Context, string, []byte) ([]byte, error) { return s.status() },
			}
			for _, m := range more {
				maps.Copy(routes, m(s))
			}
			srv, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Identity: id, Routes: routes})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { srv.Close() })
			x.TLS, x.URL = envelope.Hash(pin), srv.URL()
		}
	})
	return s
}

func (s *shelf) show(server string, body []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.away, server) {
		return nil, web.Refused(errors.New("it is away"))
	}
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		return nil, err
	}
	var ask api.SystemAsk
	if err := envelope.Unmarshal(body, &ask); err != nil {
		return nil, web.Malformed(err)
	}
	state, err := s.folded(s.kept[server])
	if err != nil {
		return nil, err
	}
	return envelope.Marshal(api.PageOf(bundle, state, s.kept[server], ask))
}

func (s *shelf) folded(list [][]byte) (ledger.State, error) {
	var entries []ledger.SignedEntry
	for _, raw := range list {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			return s.State, web.Malformed(err)
		}
		entries = append(entries, x)
	}
	return ledger.Catchup(s.State, entries)
}

// status: device-1 knows one entry, device-2 none, device-3 says nothing.
func (s *shelf) status() ([]byte, error) {
	return envelope.Marshal(api.SystemStatus{Servers: []api.ServerStatus{{Devices: []api.DeviceStatus{
		{Device: "device-1", Status: &firmware.Status{Height: 1}}, {Device: "device-2", Status: &firmware.Status{}}, {Device: "device-3", Silent: true},
	}}}})
}

func (s *shelf) take(server string, body []byte) ([]byte, error) {
	var in api.System
	if err := envelope.Unmarshal(body, &in); err != nil {
		return nil, web.Malformed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.After != uint64(len(s.kept[server])) {
		return nil, web.Refused(errors.New("not a continuation"))
	}
	all := append(slices.Clone(s.kept[server]), in.Entries...)
	if _, err := s.folded(all); err != nil {
		return nil, web.Denied(err)
	}
	s.kept[server] = all
	return envelope.Marshal(api.SystemTaken{Height: uint64(len(all))})
}

// has is how many entries the servers have.
func (s *shelf) has() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for _, x := range s.State.Servers() {
		out = append(out, len(s.kept[x.ID]))
	}
	return out
}

// entryOf is a request for a notice, and its signature by the authority.
func (s *shelf) entryOf(sys *client.System, text string) (*client.Signed, []byte) {
	s.t.Helper()
	q := asking{command: &ledgerCommand{ledger.KindNotice, ledger.Notice{Text: text, From: s.Now, Until: s.Now + 60}}}
	q.Kind, q.Approvals, q.Lifetime = document.KindEntry, document.ApprovalsSet, 3600
	srv, _ := sys.State().Server("server-1")
	r, err := q.newEntry(rand.Reader, sys.State(), s.Persons["officer-1a"].Card().Sign, srv, s.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	return r, s.SignEntry(s.t, r.Request.Document).Signature
}

func TestEnact(t *testing.T) {
	s := newShelf(t)
	bundle, err := envelope.Marshal(s.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(t.TempDir(), "home")
	join := func() *client.System {
		t.Helper()
		sys, err := client.Verify(s.State.System(), "server-1", bundle, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sys
	}
	sys := join()
	if err := sys.Save(home); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, home: home, now: func() time.Time { return time.Unix(s.Now, 0) }, rand: rand.Reader}
	enact := func(sys *client.System, r *client.Signed, signature []byte, file string) string {
		t.Helper()
		out.Reset()
		errs.Reset()
		if err := a.enact(t.Context(), sys, r, &tracking{}, signature, file); err != nil {
			return err.Error()
		}
		return out.String() + errs.String()
	}
	want := func(got string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(got, p) {
				t.Errorf("no %q in:\n%s", p, got)
			}
		}
	}

	// One server is away, the first one at that; the others and the home have it.
	s.away = []string{"server-1"}
	r, signature := s.entryOf(sys, "new racks")
	if err := sys.Keep(r); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "entry")
	want(enact(sys, r, signature, file), "command 1 of the ledger is in force at server-2, server-3, server-4, server-5", "not yet at server-1", "not yet known to device-2: see privyseal status")
	if got := s.has(); !slices.Equal(got, []int{0, 1, 1, 1, 1}) || sys.State().Height() != 1 {
		t.Errorf("%v, %d", got, sys.State().Height())
	}
	var x ledger.SignedEntry
	if raw, err := readSmall(file, 1<<20); err != nil || envelope.Unmarshal(raw, &x) != nil {
		t.Error("the entry that was written cannot be read")
	} else if _, err := ledger.VerifyEntry(s.State, x); err != nil {
		t.Error(err)
	}

	// When it is back whoever asks after the request brings it up to date.
	s.away = nil
	out.Reset()
	if err := a.requestStatus(t.Context(), r.Digest.String()[:8], waiting{wait: true}); err != nil {
		t.Fatal(err)
	}
	want(out.String(), "command 1 of the ledger is in force at server-1, server-2, server-3, server-4, server-5")
	if got := s.has(); !slices.Equal(got, []int{1, 1, 1, 1, 1}) {
		t.Errorf("%v", got)
	}

	// Two commands for one place: the second is told to ask again.
	late := join()
	if r, signature = s.entryOf(late, "other racks"); r.Request.Document == nil {
		t.Fatal()
	}
	want(enact(late, r, signature, ""), "another command took place 1 of the ledger")
	if err := sys.Keep(r); err != nil {
		t.Fatal(err)
	}
	if err := a.requestStatus(t.Context(), r.Digest.String(), waiting{}); err == nil || !strings.Contains(err.Error(), "another command took place 1") {
		t.Errorf("%v", err)
	}

	// Its officers are not told of a fork: nobody has signed it.
	d := &desk{sys: sys}
	for _, x := range []struct {
		err  error
		want bool
	}{
		{&ledger.ForkError{Position: 1}, true},
		{fmt.Errorf("item: %w", &ledger.ReplayError{Position: 1}), true},
		{&ledger.ForkError{Position: 2}, false}, // follows another chain
		{&ledger.GapError{Position: 3}, false},
	} {
		if got := d.overtaken(x.err); got != x.want {
			t.Errorf("%v: %v", x.err, got)
		}
	}

	// A signature that is none puts nothing into force.
	r, signature = s.entryOf(sys, "no racks")
	signature[7] ^= 1
	want(enact(sys, r, signature, ""), "no message server took it")
	if got := s.has(); !slices.Equal(got, []int{1, 1, 1, 1, 1}) || sys.State().Height() != 1 {
		t.Errorf("%v, %d", got, sys.State().Height())
	}
}

// A command is asked for with a card and shown to officers of the ledger's key.
func TestRequestEntry(t *testing.T) {
	p := ledgertest.Policy()
	p.Destroy = 30 * 86400
	r := newRigWith(t, ledgertest.WithHeartbeat(p, "device-1"), "officer-1a", "officer-1b")
	ask := func(args ...string) ran {
		return r.ok(virtual.DefaultPIN, append(append([]string{"--json", "request", "entry"}, args...), "--card", r.serial("officer-1a"))...)
	}
	show := func(x ran) string {
		t.Helper()
		digest := decode[submitted](t, x).Request.String()
		return r.ok(virtual.DefaultPIN, "officer", "show", digest, "--card", r.serial("officer-1b")).out
	}
	notice := show(ask("notice", "--text", "new racks", "--until", "+12h", "--device", "device-1"))
	for _, want := range []string{"Command 1 of the ledger: notice", "new racks", "these devices destroy nothing", "device-1"} {
		if !strings.Contains(notice, want) {
			t.Errorf("no %q in:\n%s", want, notice)
		}
	}
	tested := time.Unix(r.State.Ceremony().NotBefore, 0).UTC().Format(time.RFC3339)
	backup := show(ask("backup", "device-1", "--share", "swa.device-1", "--place", "safe 7", "--tested", tested))
	for _, want := range []string{"Command 1 of the ledger: backup", "safe 7", "swa.device-1", "the device destroys nothing yet"} {
		if !strings.Contains(backup, want) {
			t.Errorf("no %q in:\n%s", want, backup)
		}
	}
	r.fails(exitUsage, r.nobody(), "it holds swa.device-1", "request", "entry", "backup", "device-1", "--share", "x", "--place", "safe 7", "--tested", tested)
	r.fails(exitUsage, r.nobody(), "there is no device", "request", "entry", "backup", "device-9", "--share", "x", "--place", "safe 7", "--tested", tested)
	r.fails(exitUsage, r.nobody(), "is no time", "request", "entry", "notice", "--text", "x", "--until", "tomorrow")
	r.fails(exitUsage, r.nobody(), "required flag", "request", "entry", "notice", "--text", "x")
	for words, args := range map[string][]string{
		"--until is over already":       {"--text", "x", "--until", "2020-01-01"},
		"--until is not after --from":   {"--text", "x", "--from", "+2h", "--until", "+1h"},
		"--text is empty":               {"--text", " ", "--until", "+1h"},
		"there is no device \"seal-9\"": {"--text", "x", "--until", "+1h", "--device", "seal-9"},
	} {
		r.fails(exitUsage, r.nobody(), words, append([]string{"request", "entry", "notice"}, args...)...)
	}
	r.fails(exitUsage, r.nobody(), "say what to do", "request", "entry")
	nopin := &pins{give: []string{virtual.DefaultPIN}}
	r.fails(exitFailed, nopin, "notice: text", "request", "entry", "notice", "--text", strings.Repeat("x", 100_000), "--until", "+1h", "--card", r.serial("officer-1a"))
	if len(nopin.asked) > 0 {
		t.Error("a PIN was asked for")
	}
}

// A dealing that is in force is not asked for again.
func TestDealingInForce(t *testing.T) {
	r := newRig(t)
	r.Authority(ledgertest.SmallPlan(1))
	r.ok("", "status") // from here on the home knows
	d := r.State.Enterprises()[0]
	ask := func(words string, d ledger.Dealing) {
		t.Helper()
		raw, err := envelope.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		r.fails(exitFailed, r.nobody(), words, "request", "entry", "dealing", file(t, "dealing.cbor", raw), "--requester-key", r.programKey())
	}
	n := len(r.Requests())
	ask("this dealing is in force already", d)
	d.Created++
	ask("is overtaken: revision 1 is in force", d)
	if len(r.Requests()) != n {
		t.Error("it was asked for")
	}
}
