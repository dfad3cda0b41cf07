package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// edited signs an entry that follows state, after a change that NewEntry would not make.
func edited(t testing.TB, s *ledgertest.System, state ledger.State, edit func(*ledger.Entry)) ledger.SignedEntry {
	t.Helper()
	e := ledger.Entry{
		Version: 1, System: state.System(), Position: state.Height() + 1, Prev: state.Head(), Kind: ledger.KindNotice,
		Body: notice(t, s.Now, nil), Created: s.Now,
	}
	edit(&e)
	raw, err := envelope.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	return s.SignEntry(t, raw)
}

func notice(t testing.TB, now int64, edit func(*ledger.Notice)) []byte {
	t.Helper()
	n := ledger.Notice{Text: "power work", From: now, Until: now + 3600}
	if edit != nil {
		edit(&n)
	}
	raw, err := envelope.Marshal(&n)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// grown is the test system with three notices.
func grown(t testing.TB) (*ledgertest.System, []ledger.SignedEntry, ledger.State) {
	t.Helper()
	s := ledgertest.New(t)
	var chain []ledger.SignedEntry
	state := s.State
	for i := range 3 {
		x := s.Entry(t, state, ledger.KindNotice, &ledger.Notice{Text: fmt.Sprint("notice ", i), From: s.Now, Until: s.Now + 60}, s.Now+int64(i))
		v, err := ledger.VerifyEntry(state, x)
		if err != nil {
			t.Fatal(err)
		}
		if state, err = ledger.ApplyVerified(state, v); err != nil {
			t.Fatal(err)
		}
		chain = append(chain, x)
	}
	return s, chain, state
}

func isType[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func TestVerifyEntryRefuses(t *testing.T) {
	s, chain, state := grown(t)
	s.Now += 2 // the time of the last entry
	edit := func(f func(*ledger.Entry)) ledger.SignedEntry { return edited(t, s, state, f) }
	body := func(f func(*ledger.Notice)) ledger.SignedEntry {
		return edit(func(e *ledger.Entry) { e.Body = notice(t, s.Now, f) })
	}
	good := edit(func(*ledger.Entry) {})
	if _, err := ledger.VerifyEntry(state, good); err != nil {
		t.Fatal("the entry that all others differ from:", err)
	}
	altered := func(f func(*ledger.SignedEntry)) ledger.SignedEntry {
		x := ledger.SignedEntry{Entry: bytes.Clone(good.Entry), Algorithm: good.Algorithm, Signature: bytes.Clone(good.Signature)}
		f(&x)
		return x
	}
	for _, c := range []struct {
		name string
		x    ledger.SignedEntry
		is   func(error) bool
		want string
	}{
		{"version", edit(func(e *ledger.Entry) { e.Version = 2 }), isType[*ledger.VersionError], "entry has version 2"},
		{"version zero", edit(func(e *ledger.Entry) { e.Version = 0 }), isType[*ledger.VersionError], "entry has version 0"},
		{"system", edit(func(e *ledger.Entry) { e.System[0] ^= 1 }), isType[*ledger.SystemError], "belongs to system"},
		{"kind", edit(func(e *ledger.Entry) { e.Kind = "officer.add" }), isType[*ledger.KindError], `unknown kind "officer.add"`},
		{"kind empty", edit(func(e *ledger.Entry) { e.Kind = "" }), isType[*ledger.KindError], `unknown kind ""`},
		{"gap", edit(func(e *ledger.Entry) { e.Position += 1 }), isType[*ledger.GapError], "entry 5 does not follow entry 3"},
		{"position zero", edit(func(e *ledger.Entry) { e.Position = 0 }), isType[*ledger.ForkError], "entry 0 forks"},
		{"prev", edit(func(e *ledger.Entry) { e.Prev[0] ^= 1 }), isType[*ledger.ForkError], "entry 4 forks"},
		{"prev is an older entry", edit(func(e *ledger.Entry) { e.Prev = ledger.EntryHash(chain[0].Entry) }), isType[*ledger.ForkError], "entry 4 forks"},
		{"another entry at a position that is taken", edit(func(e *ledger.Entry) { e.Position, e.Prev = 1, state.System() }), isType[*ledger.ForkError], "entry 1 forks"},
		{"replay of the last", chain[2], isType[*ledger.ReplayError], "entry 3 is already in the chain"},
		{"replay of the first", chain[0], isType[*ledger.ReplayError], "entry 1 is already in the chain"},
		{"older than the last", edit(func(e *ledger.Entry) { e.Created = s.Now - 1 }), isType[*ledger.TimeError], "was created at"},
		{"beyond the calendar", edit(func(e *ledger.Entry) { e.Created = 1 << 50 }), isType[*ledger.TimeError], "was created at"},

		{"body empty", edit(func(e *ledger.Entry) { e.Body = nil }), nil, "entry 4, notice"},
		{"body of another kind", edit(func(e *ledger.Entry) { e.Body = []byte{0x01} }), nil, "entry 4, notice"},
		{"body with an unknown field", edit(func(e *ledger.Entry) {
			e.Body[0]++ // map of 4 → of 5
			e.Body = append(e.Body, 0x05, 0x00)
		}), nil, "entry 4, notice"},
		{"body with trailing bytes", edit(func(e *ledger.Entry) { e.Body = append(e.Body, 0) }), nil, "trailing"},
		{"notice without text", body(func(n *ledger.Notice) { n.Text = "" }), nil, "text is empty"},
		{"notice of two lines", body(func(n *ledger.Notice) { n.Text = "a\nb" }), nil, "unprintable"},
		{"notice too long", body(func(n *ledger.Notice) { n.Text = strings.Repeat("x", 513) }), nil, "text has 513 bytes"},
		{"notice window empty", body(func(n *ledger.Notice) { n.Until = n.From }), nil, "is empty or over"},
		{"notice window over", body(func(n *ledger.Notice) { n.From, n.Until = s.Now-100, s.Now }), nil, "is empty or over"},
		{"notice without time", body(func(n *ledger.Notice) { n.From = 0 }), nil, "from 0 is not a time"},
		{"notice without end", body(func(n *ledger.Notice) { n.Until = 1 << 60 }), nil, "is not a time"},
		{"notice for an unknown device", body(func(n *ledger.Notice) { n.Device = "device-9" }), nil, `device "device-9" is unknown`},

		{"signature altered", altered(func(x *ledger.SignedEntry) { x.Signature[7] ^= 1 }), nil, ledger.ErrSignature.Error()},
		{"signature missing", altered(func(x *ledger.SignedEntry) { x.Signature = nil }), nil, ledger.ErrSignature.Error()},
		{"signature of zeros", altered(func(x *ledger.SignedEntry) { clear(x.Signature) }), nil, ledger.ErrSignature.Error()},
		{"entry altered", altered(func(x *ledger.SignedEntry) { x.Entry[len(x.Entry)-1] ^= 1 }), nil, ledger.ErrSignature.Error()},
		{"signed without the prefix", altered(func(x *ledger.SignedEntry) {
			x.Signature = s.Keys[ledgertest.KeyLedger].Sign(t, "RS256", x.Entry)
		}), nil, ledger.ErrSignature.Error()},
		{"signed with a master key", altered(func(x *ledger.SignedEntry) {
			x.Signature = s.Keys[ledgertest.KeyCertificates].Sign(t, "RS256", ledger.ToBeSigned(x.Entry))
		}), nil, ledger.ErrSignature.Error()},
		{"another algorithm than signed", altered(func(x *ledger.SignedEntry) { x.Algorithm = "PS256" }), nil, ledger.ErrSignature.Error()},
		{"unknown algorithm", altered(func(x *ledger.SignedEntry) { x.Algorithm = "none" }), isType[*ledger.AlgorithmError], `algorithm "none"`},
		{"no algorithm", altered(func(x *ledger.SignedEntry) { x.Algorithm = "" }), isType[*ledger.AlgorithmError], `algorithm ""`},
		{"empty", ledger.SignedEntry{}, nil, "entry"},
		{"huge", ledger.SignedEntry{Entry: make([]byte, ledger.MaxEntry+1)}, nil, "at most"},
		{"trailing bytes", altered(func(x *ledger.SignedEntry) { x.Entry = append(x.Entry, 0) }), nil, "trailing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := ledger.VerifyEntry(state, c.x)
			if err == nil || v != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !c.is(err) {
				t.Errorf("got  %v (%T)\nwant …%s…", err, err, c.want)
			}
			if c.want == ledger.ErrSignature.Error() && !errors.Is(err, ledger.ErrSignature) {
				t.Errorf("%v is not ErrSignature", err)
			}
		})
	}
}

// All algorithms of the ledger key sign entries.
func TestEntryAlgorithms(t *testing.T) {
	s := ledgertest.New(t)
	raw := s.Entry(t, s.State, ledger.KindNotice, &ledger.Notice{Text: "t", From: s.Now, Until: s.Now + 1}, s.Now).Entry
	for _, a := range s.Genesis.Keys[0].Algorithms {
		x := ledger.SignedEntry{Entry: raw, Algorithm: a, Signature: s.Keys[ledgertest.KeyLedger].Sign(t, a, ledger.ToBeSigned(raw))}
		if _, err := ledger.VerifyEntry(s.State, x); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// A fork needs the SWA's signature to be called one: nobody else can raise that alarm.
func TestForkIsProof(t *testing.T) {
	s, _, state := grown(t)
	x := edited(t, s, state, func(e *ledger.Entry) { e.Position, e.Prev = 1, state.System() })
	x.Signature[0] ^= 1
	if _, err := ledger.VerifyEntry(state, x); !errors.Is(err, ledger.ErrSignature) || isType[*ledger.ForkError](err) {
		t.Fatal(err)
	}
}

func TestApplyVerifiedRefuses(t *testing.T) {
	s, chain, state := grown(t)
	if _, err := ledger.ApplyVerified(state, nil); err == nil {
		t.Error("applied nil")
	}
	if _, err := ledger.ApplyVerified(state, new(ledger.VerifiedEntry)); err == nil {
		t.Error("applied an entry that was made up")
	}
	v, err := ledger.VerifyEntry(s.State, chain[0])
	if err != nil {
		t.Fatal(err)
	}
	// Verified, but against another state.
	if _, err := ledger.ApplyVerified(state, v); !isType[*ledger.ReplayError](err) {
		t.Error("applied twice:", err)
	}
	other := ledgertest.New(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	if _, err := ledger.ApplyVerified(other.State, v); !isType[*ledger.SystemError](err) {
		t.Error("applied to another system:", err)
	}
}

// Two chains from one state do not touch each other.
func TestStatesBranch(t *testing.T) {
	s, _, state := grown(t)
	next := func(text string) ledger.State {
		x := s.Entry(t, state, ledger.KindNotice, &ledger.Notice{Text: text, From: s.Now, Until: s.Now + 60}, s.Now+2)
		v, err := ledger.VerifyEntry(state, x)
		if err != nil {
			t.Fatal(err)
		}
		out, err := ledger.ApplyVerified(state, v)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	a, b := next("a"), next("b")
	last := func(s ledger.State, now int64) string {
		n := s.Notices("device-1", now)
		return n[len(n)-1].Text
	}
	if a.Head() == b.Head() || last(a, s.Now) != "a" || last(b, s.Now) != "b" || last(state, s.Now) != "notice 2" {
		t.Fatal(last(a, s.Now), last(b, s.Now), last(state, s.Now))
	}
	if _, ok := a.Knows(b.Head()); ok {
		t.Fatal("one branch knows the other's head")
	}
}

func TestHeads(t *testing.T) {
	s, chain, state := grown(t)
	for i := uint64(0); i <= 3; i++ {
		want := state.System()
		if i > 0 {
			want = ledger.EntryHash(chain[i-1].Entry)
		}
		if got, ok := state.HashAt(i); !ok || got != want {
			t.Errorf("hash at %d", i)
		}
		if at, ok := state.Knows(want); !ok || at != i {
			t.Errorf("head %d known at %d, %v", i, at, ok)
		}
	}
	if _, ok := state.HashAt(4); ok {
		t.Error("hash beyond the chain")
	}
	if state.Time() != s.Now+2 || s.State.Time() != ledgertest.Epoch || state.Height() != 3 {
		t.Error("time or height")
	}
}

func TestNotices(t *testing.T) {
	s := ledgertest.New(t)
	state, now := s.State, s.Now
	add := func(n ledger.Notice, created int64) {
		t.Helper()
		var err error
		state, err = ledger.Catchup(state, []ledger.SignedEntry{s.Entry(t, state, ledger.KindNotice, &n, created)})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(ledger.Notice{Text: "all", From: now, Until: now + 10}, now)
	add(ledger.Notice{Text: "one", From: now + 5, Until: now + 20, Device: "device-1"}, now)
	count := func(device string, at int64, want int) {
		t.Helper()
		if got := len(state.Notices(device, at)); got != want {
			t.Errorf("%s at +%d: %d notices, want %d", device, at-now, got, want)
		}
	}
	count("device-1", now, 1)
	count("device-1", now+5, 2)
	count("device-2", now+5, 1)
	count("device-1", now+10, 1)
	count("device-2", now+10, 0)
	count("device-1", now+20, 0)
	count("device-1", now-1, 0)
	// At most 64 live ones; those that are over make room, by the entries' time.
	for i := range 62 {
		add(ledger.Notice{Text: fmt.Sprint(i), From: now, Until: now + 1000}, now)
	}
	if _, err := ledger.NewEntry(state, ledger.KindNotice, &ledger.Notice{Text: "x", From: now, Until: now + 1000}, now); err == nil {
		t.Error("65 notices")
	}
	add(ledger.Notice{Text: "later", From: now, Until: now + 1000}, now+10)
}

func TestCatchup(t *testing.T) {
	s, chain, state := grown(t)
	// The whole chain, from wherever a device stands.
	for i := range chain {
		part, err := ledger.Catchup(s.State, chain[:i])
		if err != nil {
			t.Fatal(err)
		}
		whole, err := ledger.Catchup(part, chain)
		if err != nil || whole.Head() != state.Head() {
			t.Fatalf("from %d: %v", i, err)
		}
	}
	// What was good stays when the rest is not.
	bad := slices.Clone(chain)
	bad[1].Signature = make([]byte, 256)
	got, err := ledger.Catchup(s.State, bad)
	var c *ledger.CatchupError
	if !errors.As(err, &c) || c.Index != 1 || !errors.Is(err, ledger.ErrSignature) || got.Height() != 1 {
		t.Fatal(got.Height(), err)
	}
	// A gap and a fork.
	if got, err := ledger.Catchup(s.State, chain[1:]); !isType[*ledger.GapError](err) || got.Height() != 0 {
		t.Fatal(err)
	}
	fork := edited(t, s, s.State, func(e *ledger.Entry) { e.Created++ })
	if got, err := ledger.Catchup(state, []ledger.SignedEntry{fork}); !isType[*ledger.ForkError](err) || got.Head() != state.Head() {
		t.Fatal(err)
	}
}

func TestDrafts(t *testing.T) {
	s, chain, state := grown(t)
	if _, err := ledger.NewEntry(state, "officer.add", &ledger.Notice{}, s.Now+2); !isType[*ledger.KindError](err) {
		t.Error("draft of an unknown kind:", err)
	}
	if _, err := ledger.NewEntry(state, ledger.KindNotice, &ledger.Notice{}, s.Now+2); err == nil {
		t.Error("draft of an empty notice")
	}
	if e, err := ledger.CheckDraft(s.State, chain[0].Entry); err != nil || e.Position != 1 {
		t.Error("check of a good draft:", err)
	}
	if _, err := ledger.CheckDraft(state, chain[0].Entry); !isType[*ledger.ReplayError](err) {
		t.Error("check of an old draft:", err)
	}
	if _, err := ledger.CheckDraft(s.State, chain[1].Entry); !isType[*ledger.GapError](err) {
		t.Error("check of a later draft:", err)
	}
	other := ledgertest.New(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	if _, err := ledger.CheckDraft(other.State, chain[0].Entry); !isType[*ledger.SystemError](err) {
		t.Error("check of another system's draft:", err)
	}
	// What the authority signs of an entry can never be read as a certificate.
	if tbs := ledger.ToBeSigned(chain[0].Entry); tbs[0] == 0x30 || !bytes.HasSuffix(tbs, chain[0].Entry) {
		t.Errorf("to be signed begins with %x", tbs[0])
	}
}

// Folding a chain in pieces, whatever the pieces, is folding it whole; and handing over what is known already changes nothing.
func TestFoldInPieces(t *testing.T) {
	s := ledgertest.New(t)
	var chain []ledger.SignedEntry
	states := []ledger.State{s.State}
	for i := range 12 {
		last := states[len(states)-1]
		n := ledger.Notice{Text: fmt.Sprint(i), From: s.Now, Until: s.Now + int64(i+2+i%4*3)}
		if i%3 == 0 {
			n.Device = fmt.Sprintf("device-%d", i%5+1)
		}
		chain = append(chain, s.Entry(t, last, ledger.KindNotice, &n, s.Now+int64(i)))
		next, err := ledger.Catchup(last, chain[i:])
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, next)
	}
	rapid.Check(t, func(t *rapid.T) {
		state, done := s.State, 0
		for done < len(chain) {
			from := rapid.IntRange(0, done).Draw(t, "from")
			to := rapid.IntRange(done, len(chain)).Draw(t, "to")
			var err error
			if state, err = ledger.Catchup(state, chain[from:to]); err != nil {
				t.Fatal(err)
			}
			done = to
			want := states[done]
			if state.Head() != want.Head() || state.Height() != want.Height() || state.Time() != want.Time() {
				t.Fatalf("after %d entries: another state", done)
			}
			for d := 1; d <= 5; d++ {
				device := fmt.Sprintf("device-%d", d)
				for at := s.Now; at < s.Now+30; at += 3 {
					if !slices.Equal(state.Notices(device, at), want.Notices(device, at)) {
						t.Fatalf("after %d entries: other notices for %s", done, device)
					}
				}
			}
		}
	})
}
