package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/coordinator"
	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// reports are what devices said of themselves last, and what follows from it:
// which of them sleep, that is, cannot sign now.
type reports struct {
	mu sync.Mutex
	m  map[string]*report // by device
	// work is what coordinators are told, in order. A step of each of a thousand
	// requests takes a while, and beats come by the link that brought the news.
	work chan func()
}

type report struct {
	status  *firmware.Status // nil: none yet
	created int64            // of the one that another site passed on last
	// Reasons why the device sleeps; empty: none.
	state, link, quiet string
	asked              time.Time // when it asked its sources last, zero since its link came
	// Changes that coordinators were told of lately.
	told   int
	toldAt time.Time
}

// news reports whether coordinators are to be told of a change. Each time all
// open requests take a step: a device that falls asleep and wakes in turns must
// not keep them busy. They find out for themselves, too.
func (r *report) news(now time.Time) bool {
	if now.Sub(r.toldAt) >= newsWindow {
		r.told, r.toldAt = 0, now
	}
	r.told++
	return r.told <= maxNews
}

// why is the reason to give.
func (r *report) why() string {
	for _, why := range []string{r.link, r.state, r.quiet} {
		if why != "" {
			return why
		}
	}
	return ""
}

func newReports() *reports {
	return &reports{m: map[string]*report{}, work: make(chan func(), maxWork)}
}

// later does something after what came before it, while the caller goes on.
// What finds no room is not done: nothing depends on it but time.
func (s *Server) later(f func()) {
	select {
	case s.reports.work <- f:
	default:
	}
}

// tellCoordinators does what was left for later.
func (s *Server) tellCoordinators() {
	for {
		select {
		case f := <-s.reports.work:
			f()
		case <-s.ctx.Done():
			return
		}
	}
}

// of is a device's; the caller holds the lock.
func (x *reports) of(device string) *report {
	r := x.m[device]
	if r == nil {
		r = &report{}
		x.m[device] = r
	}
	return r
}

// asleep are the devices that cannot sign now, with the reason.
func (x *reports) asleep() map[string]string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[string]string{}
	for id, r := range x.m {
		if why := r.why(); why != "" {
			out[id] = why
		}
	}
	return out
}

// linked begins anew: what was known of the device was known of before.
func (x *reports) linked(device string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.of(device)
	r.state, r.link, r.quiet, r.asked = "", "", "", time.Time{}
}

// heard notes that a device asks its sources. It reports whether that is news.
func (x *reports) heard(device string, now time.Time) (again bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.of(device)
	again = r.quiet != ""
	r.asked, r.quiet = now, ""
	return again
}

// sleeps says why a device that describes itself like this cannot sign.
func sleeps(st *firmware.Status) string {
	switch {
	case st.Phase == firmware.PhaseDestroyed:
		return "it has destroyed its shares"
	case st.Phase == firmware.PhaseLocked:
		return "its token is locked"
	case st.Phase != firmware.PhaseReady:
		return "it is not commissioned"
	case st.Lease != nil && st.Lease.Left <= 0:
		return "it has no lease"
	}
	return ""
}

// takeReport takes what a device said of itself unasked.
func (s *Server) takeReport(sys *system, from peer, frame []byte) error {
	d, _ := sys.state.Device(from.id)
	v, err := s.fromDevice(d, [16]byte{}, frame)
	if err != nil {
		return errReport
	}
	return s.report(d, v)
}

// report takes a status that a device of this site signed, asked or unasked.
func (s *Server) report(d ledger.Device, v *envelope.Verified) error {
	var st firmware.Status
	if err := envelope.Decode(v, firmware.TypeStatus, firmware.MessageVersion, &st); err != nil || st.Device != d.ID {
		return errReport
	}
	s.reports.mu.Lock()
	r := s.reports.of(d.ID)
	before, was, wasState := r.status, r.why(), r.state
	r.status, r.state = &st, sleeps(&st)
	if r.state != "" {
		r.quiet = "" // the better reason
	}
	is, state := r.why(), r.state
	fell, woke := state != "" && state != wasState, was != "" && is == ""
	if fell || woke {
		if !r.news(time.Now()) {
			fell, woke = false, false
		}
	}
	s.reports.mu.Unlock()
	for _, a := range changes(d, before, &st) {
		a.At = s.unix()
		s.alarms.raise(s, a)
	}
	switch {
	case fell:
		s.cut(d.ID, state)
		s.later(func() { s.asleep(d.ID, &st, state) })
		s.tellAsleep(v.Raw())
	case woke:
		s.later(func() { s.awake(d.ID) })
	}
	return nil
}

// changes are the alarms that a report is worth.
func changes(d ledger.Device, before, now *firmware.Status) []api.Alarm {
	var out []api.Alarm
	raise := func(source, kind, format string, args ...any) {
		text := fmt.Sprintf("device %s: ", d.ID) + fmt.Sprintf(format, args...)
		out = append(out, api.Alarm{Device: d.ID, Source: source, Kind: kind, Text: text})
	}
	if now.Lease != nil && d.Heartbeat != nil && now.Phase == firmware.PhaseReady {
		left, was := speaking(now), map[string]string{}
		if before != nil && before.Lease != nil {
			for _, x := range before.Lease.Sources {
				was[x.ID] = x.State
			}
		}
		for _, x := range now.Lease.Sources {
			if !slices.Contains(d.Heartbeat.Sources, x.ID) || was[x.ID] == x.State {
				continue
			}
			switch x.State {
			case heartbeat.StateSilent:
				raise(x.ID, x.State, "source %s fell silent: %s", x.ID, outlook(d, now, left))
			case heartbeat.StateRefuses:
				raise(x.ID, x.State, "source %s refuses to beat (%s): %s", x.ID, line(x.Text), outlook(d, now, left))
			case heartbeat.StateSpeaks:
				if s := was[x.ID]; s == heartbeat.StateSilent || s == heartbeat.StateRefuses {
					raise(x.ID, x.State, "source %s beats again: %s", x.ID, outlook(d, now, left))
				}
			}
		}
	}
	was, is := "", sleeps(now)
	if before != nil {
		was = sleeps(before)
	}
	switch {
	case is == was:
	case is == "":
		raise("", "", "can sign again")
	case now.Phase == firmware.PhaseLocked && before != nil && before.Lease != nil && before.Phase == firmware.PhaseReady:
		raise("", "", "its lease is over or it was locked: its officers open it with 'privyseal officer unlock %s'", d.ID)
	default:
		raise("", "", "cannot sign: %s", is)
	}
	return out
}

// speaking counts the sources that beat for a device.
func speaking(st *firmware.Status) int {
	n := 0
	for _, x := range st.Lease.Sources {
		if x.State == heartbeat.StateSpeaks {
			n++
		}
	}
	return n
}

// outlook says how near a device is to its end.
func outlook(d ledger.Device, now *firmware.Status, left int) string {
	need := int(d.Heartbeat.Needed)
	text := fmt.Sprintf("%d of %d sources beat, %d are needed", left, len(d.Heartbeat.Sources), need)
	switch {
	case left < need && now.Lease.Left == 0: // just opened
		return text + "; it has no lease"
	case left < need:
		return text + fmt.Sprintf("; the device locks itself within %v", time.Duration(d.Heartbeat.Lease)*time.Millisecond)
	case left == need:
		return text + "; one more and the device falls silent"
	}
	return text
}

// line is text of a device's choosing for a line in a log. A source's reason
// with its remedy fits.
func line(s string) string {
	const most = 256
	if len(s) > most {
		return document.Escape(s[:most]) + "…"
	}
	return document.Escape(s)
}

// asleep makes coordinators here go on without a device of this or another
// site. What it was asked to sign is not waited for: its gate is closed.
func (s *Server) asleep(device string, st *firmware.Status, why string) {
	s.cut(device, why)
	locked := st != nil && st.Phase != firmware.PhaseReady
	for _, q := range s.everyRequest() {
		s.step(q, func(now int64) coordinator.Effects { return q.r.Asleep(now, device, locked, why) })
	}
}

// tellAsleep hands other sites what the device signed.
func (s *Server) tellAsleep(raw []byte) {
	sys, b := s.system(), s.theBus()
	if b == nil {
		return
	}
	for _, row := range sys.state.Servers() {
		if row.ID == s.cfg.ID {
			continue
		}
		s.spawn(func() {
			ctx, cancel := context.WithTimeout(s.ctx, siteTimeout)
			defer cancel()
			// A site that does not hear of it finds out when it asks the device.
			_, _ = b.Request(ctx, bus.Subject(row.ID, "asleep"), raw)
		})
	}
}

// serveAsleep hears of a device of another site, in its own words. Who repeats
// them makes coordinators look for others for some seconds.
func (s *Server) serveAsleep(_ context.Context, msg []byte) ([]byte, error) {
	sys := s.system()
	if len(msg) > maxReport {
		return nil, errSize
	}
	u, err := envelope.Parse(msg)
	if err != nil {
		return nil, err
	}
	d, ok := sys.state.DeviceOfKey(u.Header().Signer)
	if !ok || d.Server == s.cfg.ID {
		return nil, errors.New("no device of another site said this")
	}
	v, err := verifyDevice(d, u)
	if err != nil {
		return nil, err
	}
	h := v.Header()
	if h.System != sys.state.System() || max(h.Created-s.unix(), s.unix()-h.Created) > reportAge {
		return nil, errors.New("the report is old, or of another system")
	}
	var st firmware.Status
	if err := envelope.Decode(v, firmware.TypeStatus, firmware.MessageVersion, &st); err != nil {
		return nil, err
	}
	why := sleeps(&st)
	if why == "" || st.Device != d.ID {
		return nil, errors.New("the report does not say so")
	}
	s.reports.mu.Lock()
	r := s.reports.of(d.ID)
	old := h.Created < r.created
	if !old {
		r.created, r.state = h.Created, why
	}
	tell := !old && r.news(time.Now())
	s.reports.mu.Unlock()
	if tell {
		s.asleep(d.ID, &st, why)
	}
	return nil, nil
}

// watchDevices notices what no device says of itself: that its link is gone
// for longer than links are, or that it has not asked its sources for as long
// as its lease would last.
func (s *Server) watchDevices() {
	sys := s.system()
	if sys == nil {
		return
	}
	for _, p := range sys.peers.m {
		if !p.device || p.server != s.cfg.ID {
			continue
		}
		if why := s.unreachable(p.id); why != "" {
			s.asleep(p.id, nil, why)
			continue
		}
		if !sys.peers.asks[p.id] {
			continue
		}
		lease := time.Duration(sys.peers.needs[p.id].Lease) * time.Millisecond
		s.reports.mu.Lock()
		r := s.reports.of(p.id)
		quiet := r.why() == "" && !r.asked.IsZero() && time.Since(r.asked) > lease+linkGrace
		if quiet {
			r.quiet = fmt.Sprintf("it has not asked its sources for beats for %v", time.Since(r.asked).Round(time.Second))
		}
		why := r.quiet
		s.reports.mu.Unlock()
		if quiet {
			s.alarms.raise(s, api.Alarm{At: s.unix(), Device: p.id, Kind: "quiet", Text: fmt.Sprintf("device %s cannot sign: %s", p.id, why)})
			s.asleep(p.id, nil, why)
		}
	}
}

// unreachable returns the reason once when a device's link has been gone for
// too long.
func (s *Server) unreachable(device string) string {
	p := s.port(device)
	s.mu.Lock()
	gone := p.conn == nil && time.Since(p.lost) > linkGrace
	s.mu.Unlock()
	s.reports.mu.Lock()
	defer s.reports.mu.Unlock()
	r := s.reports.of(device)
	if !gone || r.link != "" {
		return ""
	}
	r.link = "it has no link to its message server"
	return r.link
}
