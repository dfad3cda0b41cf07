package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Status is what a source's directory shows.
type Status struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`
	Server   string        `json:"server"`
	Epoch    uint64        `json:"epoch"` // of the beat key
	Restored int64         `json:"restored,omitempty"`
	Running  bool          `json:"running"`
	Link     bool          `json:"link"` // up
	System   envelope.Hash `json:"system,omitzero"`
	Height   uint64        `json:"height"`
	Devices  []Device      `json:"devices"`
}

// Device is what a source knows of a device.
type Device struct {
	Device   string `json:"device"`
	Instance string `json:"instance"` // hex, empty: none is known
	Log      uint64 `json:"log"`
	Enrolled int64  `json:"enrolled,omitempty"` // when its officers opened it, unix seconds; 0: in the ceremony
	Revoked  int64  `json:"revoked,omitempty"`  // since when the source is silent for it, unix seconds
	Beating  bool   `json:"beating"`
	// Last is how many milliseconds ago its last challenge came, -1: none since
	// the source was started.
	Last int64 `json:"last_ms"`
}

// live is live.json: what a running source knows and forgets when it ends.
type live struct {
	Boot    int64           `json:"boot"` // boot-time clock
	Link    bool            `json:"link"`
	Devices map[string]beat `json:"devices"`
}

type beat struct {
	Beating bool  `json:"beating"`
	Last    int64 `json:"last"` // boot-time clock
}

// show writes live.json. It need not survive anything.
func (s *Source) show() error {
	l := live{Boot: s.o.Clock(), Link: s.up != nil, Devices: map[string]beat{}}
	if s.station != nil {
		for _, k := range s.station.Devices() {
			l.Devices[k.Device] = beat{k.Beating, k.Last}
		}
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, fileLive)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// ReadStatus reads a source's directory, whether the source runs or not.
func ReadStatus(dir string) (*Status, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(dir, c.Kind)
	if err != nil {
		return nil, err
	}
	out := &Status{ID: c.ID, Name: c.Name, Kind: c.Kind, Server: c.Server, Restored: c.Restored, Devices: []Device{}}
	if out.Epoch, err = lastEpoch(dir); err != nil {
		return nil, err
	}
	if out.Running, err = locked(filepath.Join(dir, fileLock)); err != nil {
		return nil, err
	}
	if out.System, err = fixedSystem(dir); err != nil {
		return nil, err
	}
	s, err := system(dir, c.source(k))
	if errors.Is(err, ErrNoSystem) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Height = s.Height()
	return out, out.read(dir, c, k, s)
}

func (out *Status) read(dir string, c *Config, k *keys, s ledger.State) error {
	table, err := os.ReadFile(filepath.Join(dir, fileTable))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if len(table) == 0 {
		table = nil
	}
	st, err := heartbeat.NewStation(heartbeat.StationConfig{ID: c.ID, Secret: k.sequence, Restored: missing}, s, table)
	if err != nil {
		return err
	}
	waiting, err := marks(dir, time.Now().Unix())
	if err != nil {
		return err
	}
	l := out.live(dir)
	for _, k := range st.Devices() {
		d := Device{Device: k.Device, Log: k.Log, Enrolled: k.Enrolled, Revoked: k.Revoked, Last: -1}
		if k.Instance != ([16]byte{}) {
			d.Instance = fmt.Sprintf("%x", k.Instance)
		}
		if m, ok := waiting[k.Device]; ok {
			d.Revoked = max(d.Revoked, m.At)
		}
		if b := l.Devices[k.Device]; b.Last != 0 {
			d.Last = max(0, bootclock.Now()-b.Last) / int64(time.Millisecond)
			d.Beating = b.Beating && d.Revoked == 0
		}
		out.Devices = append(out.Devices, d)
	}
	return nil
}

// live reads what a running source showed last, nothing if that is old.
func (out *Status) live(dir string) (l live) {
	data, err := readSmall(filepath.Join(dir, fileLive))
	if err != nil || !out.Running || decodeJSON(data, &l) != nil {
		return live{}
	}
	if age := bootclock.Now() - l.Boot; age < 0 || age > int64(shown) {
		return live{}
	}
	out.Link = l.Link
	return l
}
