package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// mark is what somebody at the machine leaves to silence the source for a
// device. A running source puts it into its table and takes the mark away; one
// that does not run finds it at its start, before its first beat.
type mark struct {
	At     int64  `json:"at"` // unix seconds
	Reason string `json:"reason,omitempty"`
}

// Silence leaves the mark. When it returns, the source makes no further beat
// for the device, whether it runs or not, until the device's officers open it
// anew. One that was on its way out at that moment may still arrive; like the one
// before, it grants at most a lease from the challenge that it goes back to.
//
// Where the system is known, device has to be one of it.
func Silence(dir, device, reason string, now int64) error {
	return silence(realDisk(), dir, device, reason, now)
}

// CheckSilence says why Silence would refuse, before anybody is asked.
func CheckSilence(dir, device, reason string) error {
	if _, err := LoadConfig(dir); err != nil {
		return err
	}
	if !fileSafe.MatchString(device) {
		return fmt.Errorf("%q is not the id of a device", device)
	}
	if len(reason) > maxReason {
		return fmt.Errorf("the reason has %d bytes, at most %d", len(reason), maxReason)
	}
	switch s, err := System(dir); {
	case err == nil:
		if _, ok := s.Device(device); !ok {
			return fmt.Errorf("the system has no device %q", device)
		}
	case !errors.Is(err, ErrNoSystem):
		return err
	}
	return nil
}

func silence(d *disk, dir, device, reason string, now int64) error {
	if err := CheckSilence(dir, device, reason); err != nil {
		return err
	}
	data, err := json.Marshal(mark{now, reason})
	if err != nil {
		return err
	}
	return d.write(filepath.Join(dir, dirRevoked, device), data, 0o600)
}

// marks are the devices for which marks lie there. A mark counts because it is
// there, whatever is in it.
func marks(dir string, now int64) (map[string]mark, error) {
	entries, err := os.ReadDir(filepath.Join(dir, dirRevoked))
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 {
		return nil, ignoreMissing(err)
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]mark)
	for _, e := range entries {
		if !fileSafe.MatchString(e.Name()) { // temporary files begin with a point
			continue
		}
		m := mark{At: now}
		if data, err := readSmall(filepath.Join(dir, dirRevoked, e.Name())); err == nil {
			var said mark
			// A time in the future would keep officers out until then.
			if decodeJSON(data, &said) == nil && 0 < said.At && said.At <= now {
				m = said
			}
		}
		out[e.Name()] = m
	}
	return out, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// heed puts the marks that lie there into the table and takes them away. It
// returns the devices that were silenced just now.
func (s *Source) heed() ([]string, error) {
	all, err := marks(s.dir, s.o.Now())
	if err != nil {
		// Who cannot see whether he was told to be silent is silent.
		return nil, s.fatal(fmt.Errorf("looking for local revocations: %w", err))
	}
	if len(all) == 0 || s.station == nil {
		return nil, nil
	}
	var silenced []string
	for device, m := range all {
		table, err := s.station.Revoke(device, heartbeat.Inputs{Now: m.At, Boot: s.o.Clock()})
		if err != nil {
			s.told.warn(s.log, "mark "+device, "a local revocation names no device of the system: it stays where it is", "device", device, "err", err)
			continue
		}
		if err := s.store(table); err != nil {
			return nil, err
		}
		// A crash before this line revokes once more at the next start, before
		// anybody is answered: no officers can have come in between.
		if err := remove(filepath.Join(s.dir, dirRevoked, device)); err != nil {
			return nil, s.fatal(fmt.Errorf("local revocation of %s: %w", device, err))
		}
		s.log.Warn("silenced for a device by hand: its officers have to open it anew", "device", device, "at", time.Unix(m.At, 0).UTC().Format(time.RFC3339), "reason", m.Reason)
		silenced = append(silenced, device)
	}
	slices.Sort(silenced)
	return silenced, nil
}

func remove(path string) error { return ignoreMissing(os.Remove(path)) }
