package ceremony

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Plan is the reviewed ceremony file as devices read it. It holds no secrets.
type Plan struct {
	Name string        `cbor:"1,keyasint"` // of the system
	File envelope.Hash `cbor:"2,keyasint"` // SHA-256 of the reviewed file, byte for byte
	Lead string        `cbor:"3,keyasint"` // device id

	Servers            []ledger.Server `cbor:"4,keyasint"`
	Devices            []PlanDevice    `cbor:"5,keyasint"`
	Persons            []PlanPerson    `cbor:"6,keyasint"`
	Officers           []PlanOfficer   `cbor:"7,keyasint"`
	Models             []ledger.Model  `cbor:"8,keyasint"`
	Keys               []PlanKey       `cbor:"9,keyasint"`
	Witnesses          []string        `cbor:"10,keyasint"`
	Administrator      string          `cbor:"11,keyasint"` // person id; his card is among Persons
	Hours              uint64          `cbor:"12,keyasint"` // for which temporary certificates hold, 1..12
	Vault              bool            `cbor:"13,keyasint"` // no manufacturer's certificates: physical protection instead (A8)
	SharedOfficers     bool            `cbor:"14,keyasint"` // a person may serve several devices of a key (A21)
	AcknowledgeNoFault bool            `cbor:"15,keyasint"` // f = 0 lying devices tolerated is accepted (design.md §4)
	OfficerDays        uint64          `cbor:"16,keyasint"` // for which officers are registered
	Sources            []ledger.Source `cbor:"17,keyasint,omitempty"`
}

// PlanDevice is a signing device that shall take part.
type PlanDevice struct {
	ID           string `cbor:"1,keyasint"` // permanent id
	Name         string `cbor:"2,keyasint"` // logical name
	Server       string `cbor:"3,keyasint"`
	Model        string `cbor:"4,keyasint"`
	Serial       string `cbor:"5,keyasint"`
	Unattended   bool   `cbor:"6,keyasint"` // PIN kept by the machine: laboratories and CI only
	Use          string `cbor:"7,keyasint"` // "token", "host", or "auto": the self-test decides
	UnlockQuorum uint64 `cbor:"8,keyasint"` // officers whose pieces open the token
	// Heartbeat is the policy under which the device may use its shares; nil:
	// it needs no beats.
	Heartbeat *ledger.Heartbeat `cbor:"9,keyasint,omitempty"`
}

// PlanPerson is a person, or a program with a software key, who may only ask.
type PlanPerson struct {
	ID       string   `cbor:"1,keyasint"`
	Name     string   `cbor:"2,keyasint"`
	Title    string   `cbor:"3,keyasint"`
	Cards    []uint32 `cbor:"4,keyasint"` // serial numbers
	Software []byte   `cbor:"5,keyasint"` // SPKI of a requester's software key
}

// PlanOfficer gives a person's card to a device.
type PlanOfficer struct {
	Person string `cbor:"1,keyasint"`
	Card   uint32 `cbor:"2,keyasint"`
	Device string `cbor:"3,keyasint"`
	Class  string `cbor:"4,keyasint"`
}

// PlanKey is a key that the lead shall make.
type PlanKey struct {
	ID          string           `cbor:"1,keyasint"`
	Name        string           `cbor:"2,keyasint"` // common name of its root certificate
	Family      string           `cbor:"3,keyasint"`
	Scheme      threshold.Scheme `cbor:"4,keyasint"`
	T           uint64           `cbor:"5,keyasint"`
	Devices     []string         `cbor:"6,keyasint"` // holders; share index is the place, from 1
	Bits        uint64           `cbor:"7,keyasint"`
	SafePrimes  bool             `cbor:"8,keyasint"`
	Algorithms  []string         `cbor:"9,keyasint"` // the first signs the root certificate
	AllowDigest bool             `cbor:"10,keyasint"`
	MaxDays     uint64           `cbor:"11,keyasint"` // longest validity it may certify
	RootDays    uint64           `cbor:"12,keyasint"` // validity of its root certificate
	Quorum      uint64           `cbor:"13,keyasint"` // officers who must approve, at each holder
	Threshold   uint64           `cbor:"14,keyasint"` // pieces that open a share; at most Quorum
}
