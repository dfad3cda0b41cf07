package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Duration is written in configuration as "30s" or "5m".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil {
		*d = Duration(v)
	}
	return err
}

// Rules say what the server takes as an attack and how much work it takes on.
// They can be changed while it runs, and nothing of a signing device depends
// on them.
type Rules struct {
	// A source with MaxFailures failed attempts within Window is denied for
	// Deny. A failure is a request that a handler answered with Denied or
	// Malformed.
	MaxFailures int
	Window      Duration
	Deny        Duration

	// MaxSources bounds the memory of failures. Beyond it the source that was
	// quiet longest is forgotten.
	MaxSources int

	// Requests handled at once, and polls open at once. More are told to come
	// back later.
	MaxRequests int
	MaxPolls    int

	// Connections at once, in all and from one source.
	MaxConnections          int
	MaxConnectionsPerSource int

	// RetryAfter is what a client is told when the server is saturated.
	RetryAfter Duration
}

// DefaultRules suit a site with some dozens of people behind one address.
var DefaultRules = Rules{
	MaxFailures: 20, Window: Duration(time.Minute), Deny: Duration(5 * time.Minute),
	MaxSources: 4096, MaxRequests: 32, MaxPolls: 256,
	MaxConnections: 512, MaxConnectionsPerSource: 128,
	RetryAfter: Duration(2 * time.Second),
}

// ParseRules reads rules as JSON over the default ones. Unknown fields are
// refused: a misspelt rule would silently not hold.
func ParseRules(data []byte) (Rules, error) {
	r := DefaultRules
	if err := unmarshalStrict(data, &r); err != nil {
		return Rules{}, fmt.Errorf("firewall rules: %w", err)
	}
	return r, r.Validate()
}

// Validate refuses rules that deny everybody or nobody.
func (r Rules) Validate() error {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"MaxFailures", int64(r.MaxFailures)}, {"Window", int64(r.Window)}, {"Deny", int64(r.Deny)},
		{"MaxSources", int64(r.MaxSources)}, {"MaxRequests", int64(r.MaxRequests)}, {"MaxPolls", int64(r.MaxPolls)},
		{"MaxConnections", int64(r.MaxConnections)}, {"MaxConnectionsPerSource", int64(r.MaxConnectionsPerSource)},
		{"RetryAfter", int64(r.RetryAfter)},
	} {
		if v.value <= 0 {
			return fmt.Errorf("firewall rule %s must be above zero", v.name)
		}
	}
	return nil
}

// A DeniedError says that a source is denied, and until when.
type DeniedError struct {
	Source string
	Until  time.Time
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("web: too many failed attempts from %s: denied until %s", e.Source, e.Until.UTC().Format(time.RFC3339))
}

// A Limiter counts failed attempts by source and denies who fails too often. A
// source is an address, or any other name that the caller counts by, such as a
// key identifier. A success does not clear failures, else an attacker with
// one valid request could clear his own.
type Limiter struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	rules   Rules
	sources map[string]*source
}

type source struct {
	failures []time.Time // within the window, oldest first
	until    time.Time   // denied; zero: not
	last     time.Time
}

// NewLimiter makes a limiter. log gets a line for each failure and each
// denial (nil: silent); now is the clock (nil: time.Now).
func NewLimiter(r Rules, log *slog.Logger, now func() time.Time) *Limiter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	return &Limiter{log: log, now: now, rules: r, sources: make(map[string]*source)}
}

// SetRules changes the rules from now on. Denials that run keep their end.
func (l *Limiter) SetRules(r Rules) error {
	if err := r.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules = r
	return nil
}

// Rules returns the rules in force.
func (l *Limiter) Rules() Rules {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rules
}

// Allow returns nil, or a *DeniedError.
func (l *Limiter) Allow(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sources[name]; s != nil && l.now().Before(s.until) {
		return &DeniedError{Source: name, Until: s.until}
	}
	return nil
}

// Fail counts a failed attempt.
func (l *Limiter) Fail(name string, reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	s := l.sources[name]
	if s == nil {
		l.forget(now)
		s = &source{}
		l.sources[name] = s
	}
	s.last = now
	// More than MaxFailures times need not be remembered.
	keep := s.failures[:0]
	for _, t := range s.failures {
		if now.Sub(t) < time.Duration(l.rules.Window) {
			keep = append(keep, t)
		}
	}
	s.failures = append(keep, now)
	l.log.Warn("failed attempt", "source", name, "failures", len(s.failures), "reason", reason)
	if len(s.failures) >= l.rules.MaxFailures && !now.Before(s.until) {
		s.until = now.Add(time.Duration(l.rules.Deny))
		s.failures = nil
		l.log.Warn("source denied", "source", name, "until", s.until.UTC().Format(time.RFC3339))
	}
}

// forget makes room for one source: the one not denied and quiet longest, or
// if all are denied the one whose denial ends first.
func (l *Limiter) forget(now time.Time) {
	if len(l.sources) < l.rules.MaxSources {
		return
	}
	victim, best := "", time.Time{}
	victimDenied := true
	for name, s := range l.sources {
		denied, at := now.Before(s.until), s.last
		if denied {
			at = s.until
		}
		if victim == "" || victimDenied && !denied || victimDenied == denied && at.Before(best) {
			victim, victimDenied, best = name, denied, at
		}
	}
	delete(l.sources, victim)
}

// SourceOf names the source of a connection: an IPv4 address, or the /64 of
// an IPv6 address, which is what one subscriber has.
func SourceOf(a net.Addr) string {
	if a == nil {
		return "unknown"
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.Network()
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() || ip.IsLoopback() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}

var errTrailing = errors.New("data after the end")

func unmarshalStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errTrailing
	}
	return nil
}
