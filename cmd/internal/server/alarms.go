package server

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

// alarms are the last ones, each device and source for itself: one that comes
// and goes all day pushes out nobody else's. What happens again is counted in the
// alarm that is there, so that it does not hide what is new.
type alarms struct {
	mu sync.Mutex
	m  map[string]*alarmsOf // by id of the device, or of the source if it concerns none
}

type alarmsOf struct {
	last []api.Alarm // oldest first, by their last time
	// logged since the hour began: what a peer can make come and go does not
	// fill the disk.
	hour    time.Time
	logged  int // in all
	repeats int // of those, of what happened before
}

func newAlarms() *alarms { return &alarms{m: map[string]*alarmsOf{}} }

// raise keeps an alarm and tells the operator.
func (x *alarms) raise(s *Server, a api.Alarm) {
	subject := cmp.Or(a.Device, a.Source)
	x.mu.Lock()
	of := x.m[subject]
	if of == nil {
		of = &alarmsOf{}
		x.m[subject] = of
	}
	again := of.add(a)
	write, note := of.write(time.Now(), again)
	x.mu.Unlock()
	if !write {
		return
	}
	args := []any{"device", a.Device, "source", a.Source}
	if note != "" {
		args = append(args, "note", note)
	}
	s.log.Warn(a.Text, args...)
	s.audit.log.Warn("alarm", append(args, "text", a.Text)...)
}

// add keeps an alarm, and reports whether it is one that is known.
func (of *alarmsOf) add(a api.Alarm) (again bool) {
	i := slices.IndexFunc(of.last, func(b api.Alarm) bool { return a.Again(&b) })
	if again = i >= 0; again {
		a.Count, a.First = of.last[i].Times()+1, of.last[i].Since()
	} else if len(of.last) == maxAlarmsOf {
		i = 0
	}
	if i >= 0 {
		of.last = slices.Delete(of.last, i, i+1)
	}
	of.last = append(of.last, a)
	return again
}

// write reports whether an alarm goes into the logs, with a note for the last of the
// hour that does. What is new has room there whatever happens again and again.
func (of *alarmsOf) write(now time.Time, again bool) (ok bool, note string) {
	if now.Sub(of.hour) >= time.Hour {
		of.hour, of.logged, of.repeats = now, 0, 0
	}
	switch {
	case of.logged == maxLoggedAlarms, again && of.repeats == maxLoggedRepeats:
		return false, ""
	case again:
		of.repeats++
	}
	of.logged++
	switch {
	case of.logged == maxLoggedAlarms:
		note = "more of this hour are not logged"
	case again && of.repeats == maxLoggedRepeats:
		note = "what happens again in this hour is not logged"
	}
	return true, note
}

// all are those that are kept, oldest first, by their last time.
func (x *alarms) all() []api.Alarm {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := []api.Alarm{}
	for _, of := range x.m {
		out = append(out, of.last...)
	}
	slices.SortStableFunc(out, func(a, b api.Alarm) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Source, b.Source))
	})
	return out
}
