package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Options of a source; the zero value is what a program wants.
type Options struct {
	Log   *slog.Logger // nil: silent
	Clock func() int64 // nanoseconds, nil: the boot-time clock; another one has to go at its pace, for timers go by that
	Now   func() int64 // unix seconds, nil: the wall clock
	// KeepAlive of the link; zero: the link's own.
	KeepAlive time.Duration
}

// Source is a source that runs, or is about to.
type Source struct {
	dir  string
	cfg  *Config
	keys *keys
	row  *ledger.Source
	o    Options
	log  *slog.Logger
	disk *disk
	lock *os.File

	system  envelope.Hash      // zero: not fixed yet
	state   ledger.State       // of the last ledger
	station *heartbeat.Station // nil: the system is not known
	beat    *beatKey
	told    *told
	clocks  clocks
	up      conn // nil: the link is down

	lacks    bool // the message server has more of the ledger
	asked    bool // over this link, for what follows the position askedFor
	askedFor uint64
	askedAt  int64 // by o.Clock

	dead error // why it ended by itself
}

// Start opens a source: it takes the directory's lock, reads the keys and what
// was stored, and puts in force what was told while it did not run. Run begins
// to beat; Close ends.
func Start(dir string, o Options) (*Source, error) { return start(realDisk(), dir, o) }

func start(d *disk, dir string, o Options) (*Source, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = bootclock.Now
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().Unix() }
	}
	c, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, fileLock))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, dir)
	}
	s := &Source{dir: dir, cfg: c, o: o, log: o.Log, disk: d, lock: lock, told: newTold(o.Clock)}
	if err := s.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Source) open() error {
	var err error
	if s.keys, err = loadKeys(s.dir, s.cfg.Kind); err != nil {
		return err
	}
	s.row = s.cfg.source(s.keys)
	if s.beat, err = newest(s.dir, s.row); err != nil {
		return err
	}
	if err := destroyOld(s.disk, s.dir, s.beat.epoch); err != nil {
		return err
	}
	if err := s.disk.destroy(filepath.Join(s.dir, fileRestoreKey)); err != nil { // of an interrupted restore
		return err
	}
	if s.system, err = fixedSystem(s.dir); err != nil {
		return err
	}
	s.clocks = readClocks()
	state, ok, err := readLedger(s.dir, s.system, s.row)
	if err != nil || !ok {
		return err
	}
	return s.begin(state, nil)
}

// begin makes the station. stored is the first page of the ledger, to be written
// down, nil if it is there already.
//
// The table is made before the ledger: a ledger without a table means that the
// table was lost, and with it who was superseded and who was revoked.
func (s *Source) begin(state ledger.State, stored []byte) error {
	table, err := os.ReadFile(filepath.Join(s.dir, fileTable))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	forgot := missing && (s.cfg.Restored != 0 || stored == nil)
	if len(table) == 0 {
		table = nil
	}
	s.station, err = heartbeat.NewStation(heartbeat.StationConfig{
		ID: s.cfg.ID, Secret: s.keys.sequence, Certificate: s.beat.certificate, Restored: forgot,
	}, state, table)
	if err != nil {
		return err
	}
	s.state = state
	if missing {
		if table, err = s.firstTable(forgot); err != nil {
			return err
		}
		if err := s.store(table); err != nil {
			return err
		}
	}
	if stored != nil {
		if err := s.disk.write(filepath.Join(s.dir, fileLedger), stored, 0o600); err != nil {
			return s.fatal(err)
		}
	}
	s.log.Info("the system is known", "system", state.System(), "name", state.Name(), "height", state.Height(), "devices", len(s.station.Devices()))
	_, err = s.heed()
	return err
}

// firstTable is empty for a new source. One that came from a backup, or has
// lost its table, does not know which device was revoked or has another
// instance by now: it is silenced for all of them, and what their officers
// said before counts no more.
func (s *Source) firstTable(forgot bool) ([]byte, error) {
	table := []byte{}
	if !forgot {
		return table, nil
	}
	at := s.cfg.Restored
	if at == 0 {
		at = s.o.Now()
		s.log.Warn("this source's table is gone: it beats for no device before its officers open it anew")
	}
	at = max(at, s.state.Time()) // with a clock that was lost, what is certain
	for _, d := range s.station.Devices() {
		t, err := s.station.Revoke(d.Device, heartbeat.Inputs{Now: at, Boot: s.o.Clock()})
		if err != nil {
			return nil, err
		}
		if t != nil {
			table = t
		}
	}
	return table, nil
}

// store makes a table durable. Nothing that was decided by it has left yet, and
// if it cannot be written nothing will: the source ends, and begins from what
// is on the disk.
func (s *Source) store(table []byte) error {
	if table == nil {
		return nil
	}
	if err := s.disk.write(filepath.Join(s.dir, fileTable), table, 0o600); err != nil {
		return s.fatal(fmt.Errorf("the table cannot be stored: %w", err))
	}
	return nil
}

// fatal ends the source for good.
func (s *Source) fatal(err error) error {
	if s.dead == nil {
		s.dead = err
	}
	return s.dead
}

// Close gives the directory free. Run must have returned.
func (s *Source) Close() error {
	remove(filepath.Join(s.dir, fileLive))
	return s.lock.Close()
}

// conn is what a source needs of a link.
type conn interface {
	Send(ctx context.Context, frame []byte) error
	Err() error // nil while it lives
}

// arrival is what a link brings to the one goroutine that decides.
type arrival struct {
	conn  *link.Conn
	frame []byte // nil: the link has come up
}

// Run keeps the link to the message server, answers, and beats, until ctx ends
// or the source has to end itself.
func (s *Source) Run(ctx context.Context) error {
	if s.dead != nil {
		return s.dead
	}
	id, pins, err := transport(s.dir, s.cfg)
	if err != nil {
		return err
	}
	timer, err := bootclock.NewTimer()
	if err != nil {
		return err
	}
	defer timer.Close()
	ctx, cancel := context.WithCancel(ctx)
	arrivals, kept := make(chan arrival), make(chan error, 1)
	go func() {
		kept <- link.Keep(ctx, s.cfg.Link, link.Options{ID: s.cfg.ID, Identity: id, Pins: pins, KeepAlive: s.o.KeepAlive, Log: s.log},
			func(ctx context.Context, c *link.Conn) error { return receive(ctx, c, arrivals) })
	}()
	defer func() {
		cancel()
		<-kept
		s.up = nil
	}()
	look := time.NewTicker(glance)
	defer look.Stop()
	s.log.Info("source runs", "id", s.cfg.ID, "kind", s.cfg.Kind, "epoch", s.beat.epoch)
	for {
		if err := s.setTimer(timer); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-kept:
			kept <- err
			return err
		case a := <-arrivals:
			err = s.arrive(ctx, a)
		case <-timer.C:
			err = s.due(ctx)
		case <-look.C:
			if err = s.glance(); err == nil {
				err = s.askMore(ctx)
			}
		}
		if s.dead != nil {
			return s.dead
		}
		if err != nil && ctx.Err() == nil {
			s.log.Debug("not done", "err", err)
		}
	}
}

// receive hands on what a link brings, in order, after the link itself.
func receive(ctx context.Context, c *link.Conn, to chan<- arrival) error {
	hand := func(a arrival) bool {
		select {
		case to <- a:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if !hand(arrival{conn: c}) {
		return ctx.Err()
	}
	for {
		frame, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		if !hand(arrival{conn: c, frame: frame}) {
			return ctx.Err()
		}
	}
}

func (s *Source) setTimer(t *bootclock.Timer) error {
	if s.station == nil {
		return t.Reset(0)
	}
	next := s.station.Next()
	if next == 0 {
		return t.Reset(0)
	}
	// By the clock that the timer goes by.
	return t.Reset(bootclock.Now() + max(next-s.o.Clock(), 0))
}

// takeOver takes a beat key that was made since.
func (s *Source) takeOver() error {
	epoch, err := lastEpoch(s.dir)
	if err != nil {
		return s.fatal(err)
	}
	if epoch == s.beat.epoch {
		return nil
	}
	next, err := newest(s.dir, s.row)
	if err != nil {
		return s.fatal(err)
	}
	if next.epoch < s.beat.epoch {
		return s.fatal(fmt.Errorf("the beat key of epoch %d is gone, and devices that know it take no earlier one: rotate", s.beat.epoch))
	}
	s.log.Info("a new beat key", "epoch", next.epoch, "before", s.beat.epoch)
	s.beat = next
	if s.station != nil {
		s.station.SetCertificate(next.certificate)
	}
	return nil
}

// glance is what a source does once in a while, beats or not.
func (s *Source) glance() error {
	if s.up != nil && s.up.Err() != nil {
		s.up = nil
	}
	now := readClocks()
	s.clocks.compare(now, s.log)
	s.clocks = now
	if _, err := s.heed(); err != nil {
		return err
	}
	if err := s.takeOver(); err != nil {
		return err
	}
	return s.show()
}
