package heartbeat

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// StationConfig is what a station is, whatever happens to it.
type StationConfig struct {
	ID string // of a source, or of a device that answers as a satellite
	// Secret is what the sequences of a source of kind sequence come from, 32
	// bytes.
	Secret []byte
	// Certificate is the beat key's, nil for a device.
	Certificate []byte
	// Restored says that the station's keys came from a backup: it does not
	// know what it has seen, so it beats for no device that officers have not
	// opened since.
	Restored bool
}

// Station decides for whom a source beats. What it knows about each device has
// to be durable before a beat leaves that depends on it: a station that forgot
// would beat for a copy. It is not safe for concurrent use.
type Station struct {
	cfg    StationConfig
	kind   string
	ledger ledger.State
	table  table
	// runs are the series that go on and the counters, in memory: what a
	// restart forgets, devices ask for again.
	runs map[string]*run
}

// run is what a station does for a device at present.
type run struct {
	instance [16]byte
	counter  uint64 // of the last challenge
	at       int64  // when it came, boot-time clock
	// begun are the series that go on, the newest last: the device may not have
	// heard of that yet, and lives on the one before.
	begun []*begun
}

// begun is a series as its source sees it.
type begun struct {
	agree *ecdh.PublicKey
	re    [16]byte
	nonce [32]byte
	at    int64 // boot-time clock
	every int64
	slot  uint64          // the last one sent
	chain []envelope.Hash // kind sequence
	cert  []byte          // the certificate that the device was given
}

// Inputs are what a step is given besides its message.
type Inputs struct {
	Now  int64 // unix seconds, by the source's clock
	Boot int64 // boot-time clock, nanoseconds
}

// NewStation goes on from the table that was stored last, nil at the first
// start.
func NewStation(cfg StationConfig, s ledger.State, stored []byte) (*Station, error) {
	st := &Station{cfg: cfg, runs: map[string]*run{}, table: table{Version: tableVersion}}
	if stored != nil {
		t, err := parseTable(stored)
		if err != nil {
			return nil, err
		}
		st.table = *t
	}
	st.table.Restored = st.table.Restored || cfg.Restored
	return st, st.SetLedger(s)
}

// SetLedger takes a ledger that has grown.
func (st *Station) SetLedger(s ledger.State) error {
	if src, ok := s.Source(st.cfg.ID); ok {
		st.kind = src.Kind
	} else if _, ok := s.Device(st.cfg.ID); ok {
		st.kind = ledger.SourceSatellite
	} else {
		return fmt.Errorf("heartbeat: %s is neither a source nor a device of the system", st.cfg.ID)
	}
	if st.kind == ledger.SourceSequence && len(st.cfg.Secret) != 32 {
		return errors.New("heartbeat: a source of kind sequence needs a secret of 32 bytes")
	}
	if s.System() == st.ledger.System() && s.Height() < st.ledger.Height() {
		return fmt.Errorf("heartbeat: a ledger of %d entries, where %d are known", s.Height(), st.ledger.Height())
	}
	st.ledger = s
	return nil
}

// SetCertificate takes another beat key. Series that go on bring it with each
// beat.
func (st *Station) SetCertificate(cert []byte) { st.cfg.Certificate = cert }

// Errors for challenges that get no answer at all: they could be replayed.
var (
	errReplayed = errors.New("heartbeat: the challenge is not newer than the last one of its instance")
	errNoSource = errors.New("heartbeat: the device's policy does not name this source")
)

// Answer decides about a challenge. A table that is not nil has to be durable
// before the answer leaves, which may be a refusal. An error means that there
// is nothing to answer.
func (st *Station) Answer(in Inputs, c *VerifiedChallenge) (*Out, []byte, error) {
	d, ok := st.ledger.Device(c.Device)
	if !ok || d.Heartbeat == nil || !slices.Contains(d.Heartbeat.Sources, st.cfg.ID) {
		return nil, nil, errNoSource
	}
	id := c.Instance()
	r := st.runs[d.ID]
	if r != nil && r.instance == id && c.Counter <= r.counter {
		return nil, nil, errReplayed
	}
	out := &Out{To: c.agree, Re: c.id, Beat: Beat{
		Source: st.cfg.ID, Device: d.ID, Instance: id, Kind: KindAnswer, Nonce: c.Nonce, Key: st.cfg.Certificate,
	}}
	next, refusal := st.known(in, d, c)
	if refusal != nil {
		out.Beat.Kind, out.Beat.Code, out.Beat.Text = KindRefusal, refusal.code, clip(refusal.text)
		return out, nil, nil
	}
	stored, err := st.remember(next)
	if err != nil {
		return nil, nil, err
	}
	if r == nil || r.instance != id {
		r = &run{instance: id}
		st.runs[d.ID] = r
	}
	r.counter, r.at = c.Counter, in.Boot
	if st.kind == ledger.SourceSatellite {
		return out, stored, nil
	}
	if !slices.Contains(c.Begin, st.cfg.ID) {
		return nil, stored, nil // it only shows how its log has grown
	}
	b := &begun{
		agree: c.agree, re: c.id, nonce: c.Nonce, at: in.Boot, every: int64(d.Heartbeat.Period) * 1_000_000, cert: st.cfg.Certificate,
	}
	out.Beat.Slots = SeriesSlots
	if st.kind == ledger.SourceSequence {
		b.chain = newChain(st.cfg.Secret, d.ID, id, c.Nonce, SeriesSlots)
		out.Beat.Value = b.chain[0]
	}
	if r.begun = append(r.begun, b); len(r.begun) > maxBegun {
		r.begun = r.begun[1:]
	}
	return out, stored, nil
}

// refusal is why a station does not beat.
type refusal struct{ code, text string }

// known decides whether the instance that challenges is the device, and gives
// what is known of the device from now on.
func (st *Station) known(in Inputs, d ledger.Device, c *VerifiedChallenge) (seen, *refusal) {
	s := st.seen(d)
	behind := c.Log < s.Log || c.Log == s.Log && s.Log > 0 && c.LogHead != s.Head
	if id := c.Instance(); s.Instance == id && id != ([16]byte{}) {
		switch {
		case s.Revoked != 0:
			return s, &refusal{CodeRevoked, fmt.Sprintf("source %s was silenced for device %s: its officers have to open it anew", st.cfg.ID, d.ID)}
		case behind:
			return s, st.behind(d, s, c)
		}
		s.Log, s.Head = c.Log, c.LogHead
		return s, nil
	}
	e, err := approval.VerifyEnrolment(st.ledger, d.ID, c.Enrolment, in.Now)
	switch {
	case err != nil:
		return s, &refusal{CodeInstance, fmt.Sprintf("source %s does not know this instance of device %s: %v", st.cfg.ID, d.ID, err)}
	case e.Instance != c.Instance():
		return s, &refusal{CodeInstance, fmt.Sprintf("the officers of device %s opened another instance", d.ID)}
	case slices.Contains(s.Past, e.Instance):
		return s, &refusal{CodeInstance, fmt.Sprintf("the officers of device %s have opened another instance since", d.ID)}
	case e.At <= s.Revoked:
		why := "silenced for device " + d.ID
		if st.table.Restored && s.Instance == [16]byte{} {
			why = "restored and knows no device"
		}
		return s, &refusal{CodeRevoked, fmt.Sprintf("source %s was %s, at %s by its clock; the officers of device %s opened it before, at %s by theirs: they open it anew",
			st.cfg.ID, why, utc(s.Revoked), d.ID, utc(e.At))}
	case e.At < s.Enrolled:
		return s, &refusal{CodeInstance, fmt.Sprintf("the officers of device %s have opened another instance since", d.ID)}
	case c.Log < e.Log:
		return s, st.behind(d, s, c)
	// Also by what the officers were shown: an older disk may have grown past
	// the newer one since.
	case !e.Restored && (behind || e.Log < s.Log || e.Log == s.Log && s.Log > 0 && e.LogHead != s.Head):
		return s, st.behind(d, s, c)
	}
	if s.Instance != ([16]byte{}) {
		s.Past = append(slices.Clone(s.Past), s.Instance)
		if n := len(s.Past); n > maxPast {
			s.Past = s.Past[n-maxPast:]
		}
	}
	s.Instance, s.Enrolled, s.Revoked, s.Log, s.Head = e.Instance, e.At, 0, c.Log, c.LogHead
	return s, nil
}

// utc is a wall clock's time, for people.
func utc(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02 15:04:05 UTC") }

func (st *Station) behind(d ledger.Device, s seen, c *VerifiedChallenge) *refusal {
	return &refusal{CodeBehind, fmt.Sprintf("the log of device %s has %d records, source %s has seen %d: its disk is an older copy, or another's; "+
		"its officers take it back with 'privyseal officer unlock %s --restored'", d.ID, c.Log, st.cfg.ID, s.Log, d.ID)}
}

// Due are the one-way beats that are due at boot. Slots that were missed, in a
// pause of the source, are not made up for.
func (st *Station) Due(boot int64) []Out {
	var out []Out
	for _, d := range st.ledger.Devices() {
		r := st.runs[d.ID]
		if r == nil {
			continue
		}
		if s := st.seen(d); s.Revoked != 0 || s.Instance != r.instance {
			r.begun = nil
		}
		r.begun = slices.DeleteFunc(r.begun, func(b *begun) bool { return b.due(boot) > SeriesSlots })
		for _, b := range r.begun {
			k := b.due(boot)
			if k <= b.slot {
				continue
			}
			b.slot = k
			beat := Beat{Source: st.cfg.ID, Device: d.ID, Instance: r.instance, Kind: KindMessage, Nonce: b.nonce, Slot: k}
			if b.chain != nil {
				beat.Kind, beat.Value = KindValue, b.chain[k]
			}
			if !bytes.Equal(b.cert, st.cfg.Certificate) {
				beat.Key = st.cfg.Certificate
			}
			out = append(out, Out{Beat: beat, To: b.agree, Re: b.re})
		}
	}
	return out
}

// due is the slot that a series is in.
func (b *begun) due(boot int64) uint64 { return uint64(max(0, boot-b.at) / b.every) }

// Next is when the next one-way beat is due; 0: none.
func (st *Station) Next() int64 {
	var next int64
	for _, r := range st.runs {
		for _, b := range r.begun {
			if at := b.at + int64(b.slot+1)*b.every; next == 0 || at < next {
				next = at
			}
		}
	}
	return next
}

// Revoke silences the station for a device until the device's officers open it
// anew. The table has to be durable before anybody is told.
func (st *Station) Revoke(device string, in Inputs) ([]byte, error) {
	d, ok := st.ledger.Device(device)
	if !ok {
		return nil, fmt.Errorf("heartbeat: device %.64q is not in the ledger", device)
	}
	// At once, whatever becomes of the table.
	delete(st.runs, d.ID)
	s := st.seen(d)
	// No enrolment up to the present one counts again, even if the station's
	// clock was set back.
	s.Revoked = max(s.Revoked, in.Now, s.Enrolled, 1)
	return st.remember(s)
}

// TakeRevoke does the same at a person's word. A revocation that was carried
// out before is confirmed again, and not carried out again: the officers may
// have taken the device back since.
func (st *Station) TakeRevoke(in Inputs, v *VerifiedRevoke) (*Revoked, []byte, error) {
	r := &Revoked{Device: v.Device, Source: st.cfg.ID, Revocation: v.digest, At: in.Now}
	if i := slices.IndexFunc(st.table.Spent, func(x spent) bool { return x.Digest == v.digest }); i >= 0 {
		r.At = st.table.Spent[i].At
		return r, nil, nil
	}
	st.spend(spent{Digest: v.digest, At: in.Now, Expires: v.Expires}, in.Now)
	stored, err := st.Revoke(v.Device, in)
	if err == nil && stored == nil { // it was silenced already; that this was carried out is news
		stored, err = envelope.Marshal(st.table)
	}
	if err != nil {
		return nil, nil, err
	}
	return r, stored, nil
}

// Known is what a station knows of a device, for people.
type Known struct {
	Device   string
	Instance [16]byte
	Log      uint64
	Enrolled int64 // when the officers spoke, unix seconds; 0: in the ceremony
	Revoked  int64 // unix seconds; 0: not
	Beating  bool
	Last     int64 // when its last challenge came, boot-time clock; 0: none since the start
}

// Devices are the devices whose policy names this station.
func (st *Station) Devices() []Known {
	var out []Known
	for _, d := range st.ledger.Devices() {
		if d.Heartbeat == nil || !slices.Contains(d.Heartbeat.Sources, st.cfg.ID) {
			continue
		}
		s := st.seen(d)
		k := Known{Device: d.ID, Instance: s.Instance, Log: s.Log, Enrolled: s.Enrolled, Revoked: s.Revoked}
		if r := st.runs[d.ID]; r != nil {
			k.Last, k.Beating = r.at, r.instance == s.Instance && s.Revoked == 0 && (st.kind == ledger.SourceSatellite || len(r.begun) > 0)
		}
		out = append(out, k)
	}
	return out
}
