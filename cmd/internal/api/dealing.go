package api

import "github.com/privyseal/privyseal/firmware/envelope"

// Invite asks a device, of whatever site, for a one-time key to which an
// enterprise's distributor may seal a share.
type Invite struct {
	Device     string `cbor:"1,keyasint"`
	Enterprise uint64 `cbor:"2,keyasint"` // code
}

// Install hands a device, of whatever site, its share of a dealing. The device
// verifies it.
type Install struct {
	Device  string `cbor:"1,keyasint"`
	Dealing []byte `cbor:"2,keyasint"` // ledger.Dealing, encoded
	Sealed  []byte `cbor:"3,keyasint"` // firmware.DealtShare, sealed to the device's invitation
}

// DeviceAnswer carries what a device answered, a COSE_Sign1 message of its own:
// whoever asked verifies it.
type DeviceAnswer struct {
	Answer []byte `cbor:"1,keyasint"`
}

// Tasks are those of all enterprises at all sites, asked just now.
type Tasks struct {
	Sites []SiteTasks `cbor:"1,keyasint"` // in the order of the ledger
}

// SiteTasks is what the calculators and combiners of one site are asked.
type SiteTasks struct {
	Server  string        `cbor:"1,keyasint"` // id
	Text    string        `cbor:"2,keyasint"` // why it is silent; empty if it answered
	Open    []Task        `cbor:"3,keyasint"`
	Illegal []IllegalTask `cbor:"4,keyasint"`
}

// Task is one that is worked on. Numbers are its enterprise's code, its
// distributor's number, and its own.
type Task struct {
	Enterprise  uint64        `cbor:"1,keyasint"`
	Distributor uint64        `cbor:"2,keyasint"`
	Task        uint64        `cbor:"3,keyasint"`
	Request     envelope.Hash `cbor:"4,keyasint"`
	Key         string        `cbor:"5,keyasint"` // key id
	Created     int64         `cbor:"6,keyasint"` // unix seconds
	Expires     int64         `cbor:"7,keyasint"`
	Devices     []string      `cbor:"8,keyasint"` // of this site, that acknowledged it
	State       string        `cbor:"9,keyasint"` // one line
}

// IllegalTask is one that no operator confirmed, or that is not what it says it
// is. It is kept for a while, to be looked at.
type IllegalTask struct {
	Enterprise  uint64        `cbor:"1,keyasint"`
	Distributor uint64        `cbor:"2,keyasint"`
	Task        uint64        `cbor:"3,keyasint"`
	Request     envelope.Hash `cbor:"4,keyasint"`
	Device      string        `cbor:"5,keyasint"` // that was asked to work on it; empty: none was
	Why         string        `cbor:"6,keyasint"` // one line
	Seen        int64         `cbor:"7,keyasint"` // unix seconds
	Forget      int64         `cbor:"8,keyasint"` // when it will not be kept any longer
}
