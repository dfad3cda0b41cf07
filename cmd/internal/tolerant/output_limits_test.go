package tolerant

import (
	"bytes"
	mathrand "math/rand/v2"
	"slices"
	"testing"
)

// TestOutputDisorder: packets of many tasks are lost, doubled, late and forged in
// any order; what combiners' sites have brings what is missing.
func TestOutputDisorder(t *testing.T) {
	for seed := range uint64(6) {
		rng := mathrand.New(mathrand.NewPCG(seed, 7))
		l := newListener(t)
		sites := map[TaskName][]Packet{}
		var all []Packet
		for n := range uint64(12) {
			p := l.task(l.a, n+1, l.request(l.a))
			sites[nameOf(&p)] = []Packet{p, l.combined(l.a, p, "device-4")}
			for _, x := range []Packet{p, l.combined(l.a, p, "device-4"), l.combined(l.a, p, "device-5", spoilt(0)), l.over(l.a, p)} {
				for range rng.IntN(3) { // none: lost
					all = append(all, x)
				}
				forged := x
				forged.Message = bytes.Clone(x.Message)
				if len(forged.Message) > 0 {
					forged.Message[rng.IntN(len(forged.Message))] ^= 1
				} else {
					forged.Signatures = slices.Clone(x.Signatures)
					forged.Signatures[0] = bytes.Clone(forged.Signatures[0])
					forged.Signatures[0][0] ^= 1
				}
				all = append(all, forged)
			}
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			if l.hear(p); rng.IntN(8) == 0 {
				l.now++
				l.do(l.out.Tick(l.now))
			}
			if rng.IntN(20) == 0 {
				l.begin(1, 2)
			}
		}
		var names []TaskName
		for n := range sites {
			names = append(names, n)
		}
		for _, f := range l.out.Combined(l.now, "server-1", names).Fetch {
			l.hear(sites[f.TaskName]...)
		}
		for name := range sites {
			l.certificates(l.a, name.Request, 1)
		}
		for _, a := range l.alarms {
			if a.Device != "device-5" {
				t.Errorf("seed %d: %s: %s", seed, a.Device, a.Text)
			}
		}
	}
}

// TestOutputKept: what cannot be made durable is handed out again until it is,
// and a restart before and after that loses nothing.
func TestOutputKept(t *testing.T) {
	l := newListener(t)
	l.full = true
	p := l.task(l.a, 1, l.request(l.a))
	made := l.combined(l.a, p, "device-4")
	l.hear(p, made)
	if e := l.out.Tick(l.now + keepAgain - 1); len(e.Keep) != 0 {
		t.Error("handed out at every tick")
	}
	l.now += keepAgain
	if e := l.out.Tick(l.now); len(e.Keep) != 1 || e.Keep[0].Issued.Request != p.Request {
		t.Fatalf("%+v", e.Keep)
	}
	l.begin(1) // it had not become durable
	if e := l.out.Combined(l.now, "server-1", []TaskName{nameOf(&p)}); len(e.Fetch) != 1 {
		t.Fatal("it is not asked for again")
	}
	l.full = false
	l.hear(p, made)
	l.certificates(l.a, p.Request, 1)
	l.begin(1) // it had
	l.now += patience - 1
	l.hear(p, made, l.over(l.a, p))
	if x := l.certificates(l.a, p.Request, 1); x.Done != l.now || len(l.told()) != 0 {
		t.Errorf("%+v", x)
	}
	// An old version that becomes durable late does not let the new one go.
	q := l.task(l.a, 2, l.request(l.a))
	l.full = true
	l.hear(q, l.combined(l.a, q, "device-4"), l.over(l.a, q))
	l.do(l.out.Kept(l.now, q.Request, 1))
	if l.out.issued[q.Request].record == nil {
		t.Fatal("the last version is lost")
	}
	l.full = false
	l.now += keepAgain
	l.do(l.out.Tick(l.now))
	if x := l.certificates(l.a, q.Request, 1); x.Done == 0 || l.out.issued[q.Request].record != nil {
		t.Errorf("%+v", x)
	}
	l.now += KeepIssued
	l.do(l.out.Tick(l.now))
	if len(l.disk)+len(l.out.issued)+len(l.out.tasks)+len(l.out.numbers)+len(l.out.order) != 0 {
		t.Errorf("%d are kept for ever", len(l.disk))
	}
}

// TestOutputLimits: a flood of tasks takes bounded room, and hides nothing.
func TestOutputLimits(t *testing.T) {
	l := newListener(t)
	p := l.task(l.a, 1, l.request(l.a))
	l.hear(p)
	w := l.out.load[1]
	// Another distributor's, not in the list, leaves room for one of them: a
	// signature in DER may be a few octets longer than another.
	w.add(9, 0, outputOctets-w.octets-64)
	q := l.task(l.a, 2, l.request(l.a))
	l.hear(q)
	if len(l.out.open) != 1 || l.out.open[0].number.task != 2 && l.out.open[0].number.task != 1 {
		t.Fatalf("%d wait", len(l.out.open))
	}
	w.add(9, 0, -w.by(9).octets)
	for _, x := range []Packet{p, q} {
		made := l.combined(l.a, x, "device-4")
		l.hear(made)
		for _, f := range l.asked {
			if f.TaskName == nameOf(&x) {
				l.hear(x, made)
			}
		}
		l.certificates(l.a, x.Request, 1)
	}
	// Numbers: the oldest give way.
	dist := l.out.tasks[nameOf(&p)].facts
	for i := range uint64(outputNumbers + 10) {
		n := TaskName{1, 2, 1000 + i, p.Request}
		l.out.watch(n, &dist)
	}
	if len(l.out.tasks) != outputNumbers || len(l.out.numbers) != outputNumbers || len(l.out.order[distributor{1, 2}]) != outputNumbers {
		t.Errorf("%d tasks, %d numbers", len(l.out.tasks), len(l.out.numbers))
	}
	// What was signed and is not settled: nothing displaces it, and what finds no
	// room comes later.
	x := l.task(l.a, 7, l.request(l.a))
	fresh := &l.out.kept[1].fresh
	fresh.octets += outputFreshOctets
	l.hear(x, l.combined(l.a, x, "device-4"))
	if _, ok := l.disk[x.Request]; ok {
		t.Error("more is fresh than there may be")
	}
	fresh.octets -= outputFreshOctets
	l.hear(l.combined(l.a, x, "device-4"))
	l.certificates(l.a, x.Request, 1)
	// What is kept of one enterprise.
	l.out.kept[1].octets += MaxIssuedOctets - 100
	y := l.task(l.a, 8, l.request(l.a))
	l.hear(y, l.combined(l.a, y, "device-5"))
	if _, ok := l.disk[p.Request]; ok {
		t.Error("the oldest does not give way")
	}
}
