package coordinator_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// batched are two requests for batches of the authority of newWorld, made once:
// the powers of their documents need not be computed again.
var batched struct {
	sync.Once
	rsa, pss []byte
}

const documents = 3

func batches(t *testing.T) (pkcs1, pss []byte) {
	t.Helper()
	sys, a := printed(t)
	batched.Do(func() {
		now := sys.State.Time()
		batched.rsa = coordtest.BatchRequest(t, sys, a, documents, threshold.RS256, now, 3600)
		batched.pss = coordtest.BatchRequest(t, sys, a, documents, threshold.PS384, now, 3600)
	})
	return batched.rsa, batched.pss
}

// TestBatch: many certificates take the packets of one, and every one is what it
// was asked for.
func TestBatch(t *testing.T) {
	sys, a := printed(t)
	pkcs1, pss := batches(t)
	for _, raw := range [][]byte{pkcs1, pss} {
		w := newWorldOf(t, sys, a)
		g := w.start("server-1", raw)
		w.settle()
		out := g.signed()
		w.pass(30)
		w.over()
		head := sys.State.Head()
		if g.r.Checked(head, w.now) == nil || g.r.Checked(envelope.Hash{1}, w.now) != nil || g.r.Checked(head, out.Expires) != nil || g.r.Checked(head, out.Created-1) != nil {
			t.Error("a check holds where it does not, or not where it does")
		}
		if len(out.Signatures) != documents || len(out.Documents) != documents {
			t.Fatalf("%d signatures, %d documents", len(out.Signatures), len(out.Documents))
		}
		root, err := x509.ParseCertificate(a.Dealing.Key.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		for i, der := range out.Documents {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := cert.CheckSignatureFrom(root); err != nil || !bytes.Equal(cert.Signature, out.Signatures[i]) || cert.Subject.CommonName != fmt.Sprintf("www%d.example.org", i+1) {
				t.Errorf("certificate %d for %s: %v", i+1, cert.Subject, err)
			}
		}
		kinds := map[string]int{}
		for _, p := range w.seen {
			kinds[p.Kind]++
		}
		for kind, n := range map[string]int{tolerant.KindTask: 1, tolerant.KindAck: 8, tolerant.KindConfirmed: 8, tolerant.KindPowers: 5, tolerant.KindDone: 2} {
			if kinds[kind] != n {
				t.Errorf("%d packets %s, not %d", kinds[kind], kind, n)
			}
		}
	}
}

// TestBatchLiars: who lies in one document of a batch is named for it, by all of
// its powers, and the batch is completed without it.
func TestBatchLiars(t *testing.T) {
	sys, a := printed(t)
	raw, _ := batches(t)
	type lie struct {
		fault     coordtest.Fault
		who       int
		documents int
	}
	cases := []struct {
		lies   []lie
		unsure bool // whether it is found out depends on who is used; it may not be
	}{
		{[]lie{{coordtest.Random, 1, 1}}, false}, {[]lie{{coordtest.Random, 2, 3}}, false},
		{[]lie{{coordtest.Zero, 2, 2}}, false}, {[]lie{{coordtest.Negated, 3, 2}}, false},
		{[]lie{{coordtest.OtherInput, 1, 3}}, false}, {[]lie{{coordtest.SwappedKeys, 3, 2}}, false},
		{[]lie{{coordtest.Equivocal, 1, 2}}, false}, {[]lie{{coordtest.Repentant, 2, 3}}, false},
		{[]lie{{coordtest.Random, 1, 1}, {coordtest.Random, 2, 3}}, false},  // each in another
		{[]lie{{coordtest.Random, 1, 2}, {coordtest.Negated, 2, 2}}, false}, // both in one
		{[]lie{{coordtest.Random, 1, 2}, {coordtest.Forger, 6, 3}}, true},
		{[]lie{{coordtest.BadProof, 1, 2}}, true}, {[]lie{{coordtest.NoProof, 1, 2}}, true},
		{[]lie{{coordtest.Forger, 6, 1}}, false}, {[]lie{{coordtest.Forger, 7, 2}}, false}, {[]lie{{coordtest.Forger, 6, 3}, {coordtest.Forger, 7, 3}}, false},
		{[]lie{{coordtest.FalseAccuser, 6, 0}}, false},
		{[]lie{{coordtest.Helpless, 6, 0}, {coordtest.Refuser, 7, 0}}, true},
	}
	for _, x := range cases {
		t.Run(fmt.Sprint(x.lies), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			var liars []string
			for _, l := range x.lies {
				liars = append(liars, device(l.who))
				w.devices[device(l.who)].SetFaultIn(l.fault, l.documents)
			}
			g := w.start("server-1", raw)
			w.settle()
			if state := g.r.Tracking().State; state != api.StateDone {
				t.Errorf("not signed at once: %s: %s", state, g.r.Tracking().Text)
			}
			w.pass(120)
			if !g.r.Idle() {
				t.Error("not idle")
			}
			if !x.unsure {
				g.signed(liars...)
				return
			}
			for _, d := range g.signed(g.r.Tracking().Wrong...).Wrong {
				if !slices.Contains(liars, d) {
					t.Errorf("%s is named", d)
				}
			}
		})
	}
}

// TestBatchForged: a signature of a batch that belongs to another document of it,
// or is missing, convicts the combiner or is no message at all; nothing of such a
// batch is let out.
func TestBatchForged(t *testing.T) {
	sys, a := printed(t)
	raw, _ := batches(t)
	for name, spoil := range map[string]func(*firmware.Combined){
		"swapped": func(c *firmware.Combined) { slices.Reverse(c.Signatures) },
		"short":   func(c *firmware.Combined) { c.Signatures, c.Combinations = c.Signatures[:2], c.Combinations[:2] },
		"doubled": func(c *firmware.Combined) { c.Signatures[2] = c.Signatures[1] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			w.fault(coordtest.Silent, device(7), device(8))
			// What its desk hears of a combiner is what it says.
			w.answer = func(d string, typ string, out any) any {
				if c, ok := out.(firmware.Combined); ok && d == device(6) {
					c.Signatures, c.Combinations = slices.Clone(c.Signatures), slices.Clone(c.Combinations)
					spoil(&c)
					return c
				}
				return out
			}
			g := w.start("server-1", raw)
			w.pass(30)
			out := g.r.Tracking()
			if len(out.Signatures)+len(out.Documents) > 0 || out.State == api.StateDone {
				t.Fatalf("%s: %d signatures", out.State, len(out.Signatures))
			}
			if named := slices.Contains(out.Wrong, device(6)); named != (name != "short") {
				t.Errorf("named: %v\n%+v", out.Wrong, out.Liars)
			}
			w.answer = nil
			w.fault(coordtest.Good, device(7), device(8))
			w.pass(120)
			g.signed(out.Wrong...)
			w.over()
		})
	}
}

// TestBatchInDisorder: batches and single requests at once, with liars in some
// documents, over bad channels, with restarts.
func TestBatchInDisorder(t *testing.T) {
	sys, a := printed(t)
	pkcs1, pss := batches(t)
	one := coordtest.LayersRequest(t, sys, a, sys.State.Time(), 3600)
	faults := []coordtest.Fault{coordtest.Random, coordtest.Equivocal, coordtest.NoProof, coordtest.BadProof, coordtest.SwappedKeys, coordtest.Silent}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorldOf(t, sys, a)
			w.rng = mathrand.New(mathrand.NewPCG(seed, 3))
			w.lost, w.doubled, w.delay = w.rng.IntN(30), w.rng.IntN(30), w.rng.Int64N(3)
			bad, worse := device(w.rng.IntN(5)+1), device(w.rng.IntN(3)+6)
			w.devices[bad].SetFaultIn(faults[w.rng.IntN(len(faults))], w.rng.IntN(documents+1))
			w.devices[worse].SetFaultIn([]coordtest.Fault{coordtest.Forger, coordtest.Helpless, coordtest.FalseAccuser}[w.rng.IntN(3)], w.rng.IntN(documents+1))
			restart := w.rng.IntN(200)
			var all []*given
			w.before = func(n int) {
				if n != restart || len(all) < 3 {
					return
				}
				for _, g := range all {
					g.restart()
				}
				w.restartDesk("server-3")
				w.restartDesk("server-1")
			}
			all = []*given{w.start("server-1", pkcs1), w.start("server-2", pss), w.start("server-1", one)}
			w.pass(900)
			for _, g := range all {
				out := g.r.Tracking()
				if out.State != api.StateDone {
					t.Fatalf("%s (%s), %s (%s): %s: %s", bad, w.devices[bad].Fault, worse, w.devices[worse].Fault, out.State, out.Text)
				}
				for _, d := range out.Wrong {
					if d != bad && d != worse {
						t.Errorf("%s is named: %+v", d, out.Liars)
					}
				}
				if !g.r.Idle() {
					t.Error("not idle")
				}
			}
		})
	}
}

// TestBatchTakesLonger: machines that compute for seconds are not told again what
// they work on, nor are the powers of a batch repeated, which are long.
func TestBatchTakesLonger(t *testing.T) {
	sys, a := printed(t)
	raw := coordtest.BatchRequest(t, sys, a, 32, threshold.RS256, sys.State.Time(), 3600)
	w := newWorldOf(t, sys, a)
	w.slow = 3
	g := w.start("server-1", raw)
	w.pass(60)
	g.signed()
	w.over()
	kinds := map[string]int{}
	for _, p := range w.seen {
		kinds[p.Kind]++
	}
	if kinds[tolerant.KindPowers] != 5 || kinds[tolerant.KindConfirmed] != 8 {
		t.Errorf("%v", kinds)
	}
}

// TestBatchRestart: what was signed of a batch, and who lied, is there after a
// restart.
func TestBatchRestart(t *testing.T) {
	sys, a := printed(t)
	raw, _ := batches(t)
	for at := 5; at < 190; at += 37 {
		w := newWorldOf(t, sys, a)
		w.devices[device(1)].SetFaultIn(coordtest.Random, 2)
		var g *given
		w.before = func(n int) {
			if n == at && g != nil {
				g.restart()
			}
		}
		g = w.start("server-1", raw)
		w.pass(200)
		before := g.signed(device(1))
		g.restart()
		after := g.signed(device(1))
		if !slices.EqualFunc(before.Documents, after.Documents, bytes.Equal) || !slices.EqualFunc(before.Signatures, after.Signatures, bytes.Equal) {
			t.Error("other documents after a restart")
		}
		w.pass(30)
		if before.Task != after.Task || !g.r.Idle() {
			t.Errorf("task %d, then %d: %s", before.Task, after.Task, after.Text)
		}
	}
}

// TestBatchGrowth: the authority grows, or shrinks, while a batch is under way.
func TestBatchGrowth(t *testing.T) {
	w, a := small(t)
	raw := coordtest.BatchRequest(t, w.sys, a, documents, threshold.RS256, w.now, 3600)
	for at := 1; at < 90; at += 17 {
		for _, next := range []*revision{revisions.grown, revisions.left} {
			w, _ := small(t)
			var g *given
			w.before = func(n int) {
				if n == at && g != nil {
					w.revise(next)
				}
			}
			g = w.start("server-1", raw)
			w.pass(100)
			g.signed()
		}
	}
}
