package server

import (
	"fmt"
	"testing"
	"time"
)

// TestOutboxFair: one origin floods, and another's frames still come in turn;
// of the flood the last few remain.
func TestOutboxFair(t *testing.T) {
	o, now := newOutbox(), time.Now()
	dropped := 0
	for i := range 1000 {
		if o.put("flood", fmt.Appendf(nil, "flood %d", i), now) {
			dropped++
		}
	}
	o.put("quiet", []byte("quiet 0"), now)
	o.put("quiet", []byte("quiet 1"), now)
	if dropped != 1000-maxWaitingBeats {
		t.Errorf("%d dropped", dropped)
	}
	var got []string
	for f := o.next(now); f != nil; f = o.next(now) {
		got = append(got, string(f))
	}
	if len(got) != maxWaitingBeats+2 || got[1] != "quiet 0" || got[3] != "quiet 1" || got[0] != fmt.Sprintf("flood %d", 1000-maxWaitingBeats) {
		t.Errorf("%q", got)
	}
	if len(o.held) != 0 || len(o.turn) != 0 {
		t.Error("it holds on to origins that have nothing in it")
	}
}

// TestOutboxAge: what waited too long is passed over.
func TestOutboxAge(t *testing.T) {
	o, now := newOutbox(), time.Now()
	o.put("a", []byte("old"), now)
	o.put("b", []byte("new"), now.Add(beatAge))
	if f := o.next(now.Add(beatAge)); string(f) != "new" {
		t.Errorf("%q", f)
	}
	if f := o.next(now.Add(beatAge)); f != nil {
		t.Errorf("%q", f)
	}
}

// TestMeter: a peer that sends what its policies make it send is never held
// up, one that sends much more is held to that, and counting goes on.
func TestMeter(t *testing.T) {
	var m meter
	now := time.Now()
	for range 1000 { // ten a second, in bursts of twenty
		for range 20 {
			if !m.take(10, now) {
				t.Fatal("an honest peer is held up")
			}
		}
		now = now.Add(2 * time.Second)
	}
	passed := 0
	for range 100_000 { // for ten seconds
		if m.take(10, now) {
			passed++
		}
		now = now.Add(100 * time.Microsecond)
	}
	if limit := int(beatSlack*(10+otherFrames)*(10+beatBurst.Seconds())) + 1; passed > limit || passed < limit/2 {
		t.Errorf("%d of a flood passed, the limit is %d", passed, limit)
	}
	if m.take(10, now.Add(-time.Hour)) && m.take(10, now.Add(-time.Hour)) && m.take(10, now.Add(-time.Hour)) {
		t.Error("a clock that falls gives credit")
	}
	if !m.drop("flood", now) || m.drop("flood", now) || !m.drop("role", now) {
		t.Error("the first of each reason is news, and no other")
	}
	if _, _, ok := m.due(now.Add(time.Minute), time.Hour); ok {
		t.Error("due too early")
	}
	passedBy, dropped, ok := m.due(now.Add(2*time.Hour), time.Hour)
	if !ok || len(passedBy) != 0 || dropped["flood"] != 2 || !m.drop("flood", now) {
		t.Errorf("%v %v", dropped, ok)
	}
}
