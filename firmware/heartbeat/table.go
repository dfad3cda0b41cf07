package heartbeat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// tableVersion is the version of the stored table that this code understands.
const tableVersion = 1

// table is what a station knows. It is stored as a whole: a crash leaves the
// old one or the new one.
type table struct {
	Version uint64  `cbor:"1,keyasint"`
	Seen    []seen  `cbor:"2,keyasint"` // by device id
	Spent   []spent `cbor:"3,keyasint"` // oldest first
	// Restored says that the station has lost its memory once: a device of
	// which it knows nothing is not taken for the ceremony's.
	Restored bool `cbor:"4,keyasint,omitempty"`
}

// seen is what is known of one device.
type seen struct {
	Device   string   `cbor:"1,keyasint"`
	Instance [16]byte `cbor:"2,keyasint"` // for which the station beats
	// Enrolled is when the officers opened it, by their clock; 0: it is the
	// instance of the ceremony.
	Enrolled int64         `cbor:"3,keyasint"`
	Log      uint64        `cbor:"4,keyasint"` // the longest log it showed
	Head     envelope.Hash `cbor:"5,keyasint"`
	// Revoked is when the station was silenced for the device, by the station's
	// clock; 0: it was not.
	Revoked int64      `cbor:"6,keyasint"`
	Past    [][16]byte `cbor:"7,keyasint"` // superseded instances, oldest first
}

// spent is a revocation that was carried out.
type spent struct {
	Digest  envelope.Hash `cbor:"1,keyasint"`
	At      int64         `cbor:"2,keyasint"`
	Expires int64         `cbor:"3,keyasint"`
}

func parseTable(raw []byte) (*table, error) {
	if len(raw) > maxTable {
		return nil, fmt.Errorf("heartbeat: table of %d octets, at most %d", len(raw), maxTable)
	}
	var t table
	if err := envelope.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("heartbeat: table: %w", err)
	}
	if t.Version != tableVersion {
		return nil, fmt.Errorf("heartbeat: table of version %d, only %d is understood", t.Version, tableVersion)
	}
	if !slices.IsSortedFunc(t.Seen, func(a, b seen) int { return strings.Compare(a.Device, b.Device) }) {
		return nil, fmt.Errorf("heartbeat: the table is not in order")
	}
	return &t, nil
}

// seen is the row of a device. Without one, the device is the instance that
// the ceremony listed, unless the station lost its memory since.
func (st *Station) seen(d ledger.Device) seen {
	if i, ok := st.find(d.ID); ok {
		return st.table.Seen[i]
	}
	s := seen{Device: d.ID}
	if !st.table.Restored {
		s.Instance = d.Instance
	}
	return s
}

func (st *Station) find(device string) (int, bool) {
	return slices.BinarySearchFunc(st.table.Seen, device, func(s seen, id string) int { return strings.Compare(s.Device, id) })
}

// remember puts a row into the table, and returns the table if it changed.
func (st *Station) remember(s seen) ([]byte, error) {
	i, ok := st.find(s.Device)
	if ok && equalSeen(st.table.Seen[i], s) {
		return nil, nil
	}
	rows := slices.Clone(st.table.Seen)
	if ok {
		rows[i] = s
	} else {
		rows = slices.Insert(rows, i, s)
	}
	t := table{tableVersion, rows, st.table.Spent, st.table.Restored}
	raw, err := envelope.Marshal(t)
	if err != nil {
		return nil, err
	}
	st.table = t
	return raw, nil
}

// Stored is the table as it is to be stored.
func (st *Station) Stored() ([]byte, error) { return envelope.Marshal(st.table) }

func equalSeen(a, b seen) bool {
	return a.Device == b.Device && a.Instance == b.Instance && a.Enrolled == b.Enrolled && a.Log == b.Log && a.Head == b.Head &&
		a.Revoked == b.Revoked && slices.Equal(a.Past, b.Past)
}

// spend adds a revocation, and drops those that have expired: they are refused
// for that.
func (st *Station) spend(x spent, now int64) {
	var left []spent
	for _, old := range st.table.Spent {
		if old.Expires > now {
			left = append(left, old)
		}
	}
	left = append(left, x)
	if n := len(left); n > maxSpent {
		left = left[n-maxSpent:]
	}
	st.table.Spent = left
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "?")
}
