package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

var kinds = []string{ledger.SourceMessage, ledger.SourceSequence, ledger.SourceSatellite}

func config() Config {
	return Config{ID: "h1", Name: `Cellar: "east", #2`, Kind: ledger.SourceSequence, Server: "s1", Operators: []string{"no", "bob"}, Link: "unix:/nowhere"}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "h1")
	src, err := Init(dir, config(), envelope.Hash{}, 1)
	must(t, err)
	if kept, err := os.ReadFile(filepath.Join(dir, fileIdentity)); err != nil || string(kept) != YAML(src) {
		t.Errorf("%s: %v\n%s", fileIdentity, err, kept)
	}
	before := snapshot(t, dir)
	if _, err := Init(dir, config(), envelope.Hash{}, 2); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
	if after := snapshot(t, dir); after != before {
		t.Error("the second init changed something")
	}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is for others: %v", path, info.Mode())
		}
		return err
	}))
}

func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, data)
		return err
	}))
	return b.String()
}

// TestInitInterrupted lets each durable step fail, done or not, and begins
// again: until the last step nobody takes the directory for a source, and the
// keys that were made first are those of the source.
func TestInitInterrupted(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		for at := 1; ; at++ {
			dir := filepath.Join(t.TempDir(), "h1")
			steps := 0
			src, err := initialise(faulty(at, persisted, &steps), dir, config(), envelope.Hash{7}, 1)
			if steps < at {
				must(t, err)
				break
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("step %d: %v", at, err)
			}
			first, _ := os.ReadFile(filepath.Join(dir, fileIdentityKey))
			if _, err := LoadConfig(dir); err == nil {
				if at < 7 {
					t.Errorf("step %d: half a source is taken for one", at)
				}
			} else if src, err = Init(dir, config(), envelope.Hash{7}, 2); err != nil {
				t.Fatalf("step %d: again: %v", at, err)
			}
			if second, _ := os.ReadFile(filepath.Join(dir, fileIdentityKey)); first != nil && !bytes.Equal(first, second) {
				t.Errorf("step %d: the identity key was made twice", at)
			}
			s, err := Start(dir, Options{})
			must(t, err)
			if src != nil && !bytes.Equal(src.Sign, s.keys.sign) {
				t.Error("what was printed is not the key")
			}
			must(t, s.Close())
		}
	}
}

func TestInitRefuses(t *testing.T) {
	for what, alter := range map[string]func(*Config){
		"id":        func(c *Config) { c.ID = "../x" },
		"name":      func(c *Config) { c.Name = "" },
		"kind":      func(c *Config) { c.Kind = "drum" },
		"server":    func(c *Config) { c.Server = "" },
		"operators": func(c *Config) { c.Operators = nil },
		"link":      func(c *Config) { c.Link = "" },
		"pin":       func(c *Config) { c.Link = "tls:a:1" },
		"bad pin":   func(c *Config) { c.Pins = []string{"12"} },
	} {
		c := config()
		alter(&c)
		if _, err := Init(filepath.Join(t.TempDir(), "x"), c, envelope.Hash{}, 1); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	must(t, os.Mkdir(open, 0o755))
	if _, err := Init(open, config(), envelope.Hash{}, 1); err == nil || !strings.Contains(err.Error(), "others may look") {
		t.Errorf("a directory for everybody: %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, _, err := w.start(realDisk(), nil)
	must(t, err)
	if _, _, err := w.start(realDisk(), nil); !errors.Is(err, ErrRunning) {
		t.Fatalf("a second one: %v", err)
	}
	if st, err := ReadStatus(w.dir); err != nil || !st.Running {
		t.Errorf("status %+v, %v", st, err)
	}
	must(t, s.Close())
	if st, err := ReadStatus(w.dir); err != nil || st.Running {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, _, err := w.start(realDisk(), nil); err != nil {
		t.Fatal(err)
	}
}

// TestStartsWithoutServer: what the server said of the system is on the disk.
func TestStartsWithoutServer(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	s, l := w.running()
	w.dev.log = 3
	want(t, "first", w.ask(s, l, w.dev), answer)
	must(t, s.Close())
	s, l, err := w.start(realDisk(), nil)
	must(t, err)
	w.dev.log = 2
	want(t, "shorter", w.ask(s, l, w.dev), refusedBehind)
	w.dev.log = 4
	want(t, "longer", w.ask(s, l, w.dev), answer)
}

// TestHostileSystem: of what a message server says of the system only the
// truth is believed, and no step backwards.
func TestHostileSystem(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	ctx := context.Background()
	s, _, err := w.start(realDisk(), nil)
	must(t, err)
	if err := s.handle(ctx, w.dev.challenge()); err == nil {
		t.Fatal("answered without a system")
	}
	if err := s.handle(ctx, w.systemBy(ledgertest.NewSigner(t, "somebody"))); err == nil {
		t.Error("believed somebody")
	}
	forged := w.system()
	forged[len(forged)/2] ^= 1
	if err := s.handle(ctx, forged); err == nil {
		t.Error("believed an altered one")
	}
	missing := *w
	sys := *w.sys
	sys.Bundle.Signatures = sys.Bundle.Signatures[1:]
	missing.sys = &sys
	if err := s.handle(ctx, missing.system()); err == nil {
		t.Error("believed one that not all have signed")
	}
	if !s.system.IsZero() || s.station != nil {
		t.Fatal("something of it stayed")
	}
	notice := ledger.Notice{Text: "works", From: w.now, Until: w.now + 10}
	e1 := w.sys.Entry(t, w.sys.State, ledger.KindNotice, notice, w.now)
	notice.Text = "other works"
	fork := w.sys.Entry(t, w.sys.State, ledger.KindNotice, notice, w.now)
	must(t, s.handle(ctx, w.system()))
	must(t, s.handle(ctx, w.system(e1)))
	if err := s.handle(ctx, w.system()); err == nil || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("an older ledger: %v", err)
	}
	if err := s.handle(ctx, w.system(fork)); err == nil || !strings.Contains(err.Error(), "differs") {
		t.Errorf("a fork: %v", err)
	}
	must(t, s.handle(ctx, w.system(e1)))
	// A second system that is as valid, and lists the source as well.
	another, first := newSystem(t, ledger.SourceSatellite, func(g *ledger.Genesis) { g.Name = "Another" })
	other := worldOf(t, ledger.SourceSatellite, another, first)
	if err := s.handle(ctx, other.system()); err == nil || !strings.Contains(err.Error(), "where this source is in") {
		t.Errorf("a second system: %v", err)
	}
	must(t, s.Close())
	s, l, err := w.start(realDisk(), nil)
	must(t, err)
	if s.state.Height() != 1 || s.system != w.sys.State.System() {
		t.Errorf("after a restart: height %d of %s", s.state.Height(), s.system)
	}
	want(t, "beats for its system", w.ask(s, l, w.dev), answer)
	if got := w.hand(s, l, w.dev, other.dev.challenge()); got != "" {
		t.Errorf("a challenge of another system: %q", got)
	}
}

// TestSystemFixedBeforehand: --system leaves no choice to the server.
func TestSystemFixedBeforehand(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	must(t, fixSystem(realDisk(), w.dir, envelope.Hash{1}))
	s, _, err := w.start(realDisk(), nil)
	must(t, err)
	if err := s.handle(context.Background(), w.system()); err == nil {
		t.Fatal("another system was taken")
	}
	if err := fixSystem(realDisk(), w.dir, w.sys.State.System()); !errors.Is(err, ErrOtherSystem) {
		t.Errorf("fixed anew: %v", err)
	}
}

// TestHostileChallenges replays, reorders, delays and forges them.
func TestHostileChallenges(t *testing.T) {
	for _, kind := range kinds {
		w := newWorld(t, kind)
		s, l := w.running()
		first, second, third := w.dev.challenge(), w.dev.challenge(), w.dev.challenge()
		want(t, "second, first to come", w.hand(s, l, w.dev, second), answer)
		want(t, "second again", w.hand(s, l, w.dev, second), "")
		want(t, "first, an hour late", w.hand(s, l, w.dev, first), "")
		want(t, "third", w.hand(s, l, w.dev, third), answer)
		bad := w.dev.challenge()
		bad[len(bad)-1] ^= 1
		want(t, "altered", w.hand(s, l, w.dev, bad), "")
		// The token alone is not the instance.
		thief := &emulator{w: w, inst: newInstance(t), counter: 100}
		want(t, "another instance", w.ask(s, l, thief), refusedInstance)
		// Officers open it, and what was before is over, whatever is replayed.
		next := w.dev.unlocked(w.now, false)
		kept := next.challenge()
		want(t, "opened", w.ask(s, l, next), answer)
		want(t, "the one before", w.ask(s, l, w.dev), refusedInstance)
		want(t, "held back", w.hand(s, l, next, kept), "")
		again := w.dev.unlocked(w.now+1, false)
		w.now += 10
		want(t, "opened again", w.ask(s, l, again), answer)
		want(t, "the enrolment before", w.ask(s, l, next), refusedInstance)
	}
}

// TestRevocations: one person silences, a replay does not silence again, and
// strangers and the late are not heard.
func TestRevocations(t *testing.T) {
	w := newWorld(t, ledger.SourceMessage)
	ctx := context.Background()
	s, l := w.running()
	want(t, "before", w.ask(s, l, w.dev), answer)
	stranger, _, _ := w.revoke("officer-2a")
	if err := s.handle(ctx, stranger); err == nil {
		t.Error("an officer of another device silenced it")
	}
	late, _, _ := w.revoke(ledgertest.Operator)
	w.now += 4000
	if err := s.handle(ctx, late); err == nil {
		t.Error("an old revocation was carried out")
	}
	frame, digest, reply := w.revoke(ledgertest.Operator)
	must(t, s.handle(ctx, frame))
	got := l.take()
	if len(got) != 1 {
		t.Fatalf("%d frames confirm", len(got))
	}
	r, err := heartbeat.OpenRevoked(w.sys.State, w.id, got[0], reply, digest)
	must(t, err)
	if r.At != w.now {
		t.Errorf("revoked at %d", r.At)
	}
	w.boot += 10 * period
	must(t, s.due(ctx))
	if n := len(l.take()); n != 0 {
		t.Fatalf("%d beats after the revocation", n)
	}
	want(t, "after", w.ask(s, l, w.dev), refusedRevoked)
	next := w.dev.unlocked(w.now+1, false)
	w.now += 2
	want(t, "opened", w.ask(s, l, next), answer)
	must(t, s.handle(ctx, frame))
	l.take()
	want(t, "replayed", w.ask(s, l, next), answer)
	officer, _, _ := w.revoke("officer-1a")
	must(t, s.handle(ctx, officer))
	l.take()
	want(t, "by its officer", w.ask(s, l, next), refusedRevoked)
}

// TestSeries: beats come in their slots, and those of a pause are skipped.
func TestSeries(t *testing.T) {
	for _, kind := range []string{ledger.SourceMessage, ledger.SourceSequence} {
		w := newWorld(t, kind)
		ctx := context.Background()
		s, l := w.running()
		want(t, "begin", w.ask(s, l, w.dev), answer)
		var slots []uint64
		for _, step := range []int64{1, 1, 1, 30, 1, 0, 1} {
			w.boot += step * period
			must(t, s.due(ctx))
			for _, f := range l.take() {
				slots = append(slots, w.dev.open(f).Slot)
			}
		}
		if got := fmt.Sprint(slots); got != "[1 2 3 33 34 35]" {
			t.Errorf("%s: slots %s", kind, got)
		}
		s.up = nil // the link is down: what is due is lost
		w.boot += period
		must(t, s.due(ctx))
		s.up = l
		must(t, s.due(ctx))
		if n := len(l.take()); n != 0 {
			t.Errorf("%s: %d beats were made up for", kind, n)
		}
	}
}
