package server

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

// alarms are the last ones, each device and source for itself: one that comes
// and goes all day pushes out nobody else's.
type alarms struct {
	mu sync.Mutex
	m  map[string]*alarmsOf // by id of the device, or of the source if it concerns none
}

type alarmsOf struct {
	last []api.Alarm
	// logged since the hour began: what a peer can make come and go does not
	// fill the disk.
	hour   time.Time
	logged int
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
	if len(of.last) == maxAlarmsOf {
		of.last = of.last[1:]
	}
	of.last = append(of.last[:len(of.last):len(of.last)], a)
	if now := time.Now(); now.Sub(of.hour) >= time.Hour {
		of.hour, of.logged = now, 0
	}
	of.logged++
	n := of.logged
	x.mu.Unlock()
	if n > maxLoggedAlarms {
		return
	}
	args := []any{"device", a.Device, "source", a.Source}
	if n == maxLoggedAlarms {
		args = append(args, "note", "more of this hour are not logged")
	}
	s.log.Warn(a.Text, args...)
	s.audit.log.Warn("alarm", append(args, "text", a.Text)...)
}

// all are those that are kept, oldest first.
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
