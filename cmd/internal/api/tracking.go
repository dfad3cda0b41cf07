package api

import (
	"cmp"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// States of a request.
const (
	StateOpen     = "open"     // waiting for officers or devices
	StateDone     = "done"     // signed
	StateRejected = "rejected" // too few devices are left whose officers have not rejected it
	StateFailed   = "failed"   // too few devices are left that work rightly
	StateExpired  = "expired"
)

// Tracking is where a request stands (A29). It says who is missing.
type Tracking struct {
	Request     envelope.Hash `cbor:"1,keyasint"`
	Revision    uint64        `cbor:"2,keyasint"` // rises with every change
	State       string        `cbor:"3,keyasint"`
	Text        string        `cbor:"4,keyasint"` // one line: what is missing, or why it failed
	Key         string        `cbor:"5,keyasint"`
	Epoch       uint64        `cbor:"6,keyasint"`
	Algorithm   string        `cbor:"7,keyasint"`
	Kind        string        `cbor:"8,keyasint"`
	Mode        string        `cbor:"9,keyasint"`
	Approvals   string        `cbor:"10,keyasint"` // "set" or "chain"
	Requester   string        `cbor:"11,keyasint"`
	Coordinator string        `cbor:"12,keyasint"` // server id
	Created     int64         `cbor:"13,keyasint"`
	Expires     int64         `cbor:"14,keyasint"`

	Need    uint64           `cbor:"15,keyasint"` // partial signatures needed
	Made    uint64           `cbor:"16,keyasint"` // in the present attempt, or in the one that led to the signature
	Devices []DeviceTracking `cbor:"17,keyasint"` // of the route, in its order

	Attempts []Attempt `cbor:"18,keyasint"`
	Wrong    []string  `cbor:"19,keyasint"` // devices proved to have made a wrong partial signature

	// One for each document, in the order of the request; empty until done.
	Signatures [][]byte `cbor:"20,keyasint"` // bare RSA signatures, |N| octets
	Documents  [][]byte `cbor:"21,keyasint"` // what the requester gets: certificate DER, or the signature

	// Of an authority in two layers: the enterprise's code, the number of its
	// task distributor, which coordinates, and that of the task.
	Enterprise  uint64 `cbor:"22,keyasint,omitempty"`
	Distributor uint64 `cbor:"23,keyasint,omitempty"`
	Task        uint64 `cbor:"24,keyasint,omitempty"`
	Liars       []Liar `cbor:"25,keyasint,omitempty"`
}

// Liar is a machine of an authority in two layers that was found to have said
// what is not so: a calculator that made a wrong power, a combiner that made a
// wrong signature or accused a calculator wrongly.
type Liar struct {
	Device string `cbor:"1,keyasint"` // id
	Layer  uint64 `cbor:"2,keyasint"` // 1: calculator, 2: combiner
	Number uint64 `cbor:"3,keyasint"` // in its layer
	Text   string `cbor:"4,keyasint"` // what it did, one line
}

// DeviceTracking is one device's part.
type DeviceTracking struct {
	Device   string      `cbor:"1,keyasint"`
	Name     string      `cbor:"2,keyasint"`
	Share    string      `cbor:"3,keyasint"`
	Index    uint64      `cbor:"4,keyasint"`
	Offered  bool        `cbor:"5,keyasint"` // its one-time key is in force
	Need     uint64      `cbor:"6,keyasint"` // approvals
	Approved []string    `cbor:"7,keyasint"` // names
	Missing  []string    `cbor:"8,keyasint"` // names of officers who may still approve; empty when complete
	Rejected []Rejection `cbor:"9,keyasint"`
	Signed   bool        `cbor:"10,keyasint"` // its partial signature of the present attempt is there
	Wrong    bool        `cbor:"11,keyasint"` // proved to have made a wrong partial signature
	Text     string      `cbor:"12,keyasint"` // its last refusal or silence, in words
	// Layer is 1 for a calculator and 2 for a combiner of an authority in two
	// layers, whose number Index is; Signed says then that its powers, or its
	// signature, are there.
	Layer uint64 `cbor:"13,keyasint,omitempty"`
}

// Rejection is an officer's no.
type Rejection struct {
	Name   string `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
}

// Attempt is one choice of devices.
type Attempt struct {
	Devices []string `cbor:"1,keyasint"` // ids, in the order of signing
	Shares  []string `cbor:"2,keyasint"` // share ids, likewise
	Outcome string   `cbor:"3,keyasint"` // "" while it goes on
	Wrong   []string `cbor:"4,keyasint"` // ids of the devices found at fault
}

// SystemStatus is how everything is, asked just now.
type SystemStatus struct {
	System  envelope.Hash  `cbor:"1,keyasint"` // zero before the ceremony
	Name    string         `cbor:"2,keyasint"`
	Height  uint64         `cbor:"3,keyasint"` // of the ledger, as this server knows it
	Head    envelope.Hash  `cbor:"4,keyasint"`
	Server  string         `cbor:"5,keyasint"` // the server that answers
	Servers []ServerStatus `cbor:"6,keyasint"`
	Now     int64          `cbor:"7,keyasint"`
}

// ServerStatus is one site. Without a system there is only the server that
// answers, with the devices that have a link to it and no status.
type ServerStatus struct {
	ID      string         `cbor:"1,keyasint"`
	Name    string         `cbor:"2,keyasint"`
	Silent  bool           `cbor:"3,keyasint"` // could not be reached
	Text    string         `cbor:"4,keyasint"` // why
	Version string         `cbor:"5,keyasint"`
	Open    uint64         `cbor:"6,keyasint"` // requests that it coordinates and that are not finished
	Devices []DeviceStatus `cbor:"7,keyasint"`
	Sources []SourceStatus `cbor:"8,keyasint"` // heartbeat sources of this site
	// Alarms are the last ones of this site's devices and sources, oldest first.
	Alarms []Alarm `cbor:"9,keyasint"`
}

// SourceStatus is a heartbeat source as its message server sees it. Whether it
// beats for a device, the device says (firmware.Status.Lease).
type SourceStatus struct {
	ID      string   `cbor:"1,keyasint"`
	Name    string   `cbor:"2,keyasint"`
	Kind    string   `cbor:"3,keyasint"` // ledger.Source…
	Linked  bool     `cbor:"4,keyasint"` // it has a link to its server
	Since   int64    `cbor:"5,keyasint"` // since when it has, or has not, unix seconds; the server's start at the earliest
	Devices []string `cbor:"6,keyasint"` // ids of the devices whose policies name it
	Silent  bool     `cbor:"7,keyasint"` // its message server could not be reached: Linked and Since are not known
}

// Alarm is what somebody should look at before it matters: a source that fell
// silent, a lease that ended. News that it is over is one, too. What happens again
// to the same device or source is the same alarm, with the text and the time of the
// last time.
type Alarm struct {
	At     int64  `cbor:"1,keyasint"` // unix seconds, by the server's clock
	Text   string `cbor:"2,keyasint"` // one line
	Device string `cbor:"3,keyasint"` // id of the device concerned, or empty
	Source string `cbor:"4,keyasint"` // id of the source concerned, or empty
	// Count is how often it happened, since First; both are 0 of what happened once.
	Count uint64 `cbor:"5,keyasint,omitempty"`
	First int64  `cbor:"6,keyasint,omitempty"` // unix seconds
	// Kind is what makes two of them the same, without what differs from one to the
	// other; the text if it is empty. It stays in the process.
	Kind string `cbor:"-"`
}

// Again reports whether one is about what another one told of.
func (a *Alarm) Again(b *Alarm) bool {
	return a.Device == b.Device && a.Source == b.Source && cmp.Or(a.Kind, a.Text) == cmp.Or(b.Kind, b.Text)
}

// Since is when it happened first.
func (a *Alarm) Since() int64 { return cmp.Or(a.First, a.At) }

// Times is how often it happened.
func (a *Alarm) Times() uint64 { return max(a.Count, 1) }

// DeviceStatus is what one device answered.
type DeviceStatus struct {
	Device string           `cbor:"1,keyasint"`
	Name   string           `cbor:"2,keyasint"`
	Linked bool             `cbor:"3,keyasint"` // it has a link to its server
	Silent bool             `cbor:"4,keyasint"` // no answer
	Text   string           `cbor:"5,keyasint"` // refusal, or why there is no answer
	Status *firmware.Status `cbor:"6,keyasint"` // nil if silent or refused
}
