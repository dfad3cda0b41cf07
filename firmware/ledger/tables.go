package ledger

import (
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Conventions of all tables: times are Unix seconds; public keys are SubjectPublicKeyInfo (SPKI) in DER; certificates are DER; ids
// and names follow the rules in limits.go; all ids (persons, devices, servers, master keys, shares) live in one namespace, and all
// public keys in another, whatever their role. "Row" is a row of the requirements.

// GenesisVersion is the version of [Genesis] that this code understands.
const GenesisVersion = 1

// Genesis is what the ceremony establishes: the first state of all tables. The hash of its deterministic encoding is the system's
// id (see [SystemID]). It holds nothing secret. Rows A3, A10, A12, A13, A15.
type Genesis struct {
	// Version of this structure: GenesisVersion.
	Version uint64 `cbor:"1,keyasint"`
	// Name of the system, for people.
	Name string `cbor:"2,keyasint"`
	// Ceremony says who made this and from which reviewed file. Rows A8, A9.
	Ceremony Ceremony `cbor:"3,keyasint"`
	// Created is when the lead device made the genesis. It lies within the administrator's window.
	Created int64 `cbor:"4,keyasint"`
	// Firmware is the SHA-256 of the device binary, the same on all devices. Row A8.
	Firmware envelope.Hash `cbor:"5,keyasint"`
	// Servers are the message servers of the sites. Row A5.
	Servers []Server `cbor:"6,keyasint"`
	// Devices are the signing devices. Row A3.
	Devices []Device `cbor:"7,keyasint"`
	// Persons are all people the system knows: officers, requesters, the administrator. Rows A3, A13.
	Persons []Person `cbor:"8,keyasint"`
	// Officers say which person may approve for which device and keys. Rows A13, A15, A17.
	Officers []Officer `cbor:"9,keyasint"`
	// Models are the makers and models that are approved, cards and devices. Row A18.
	Models []Model `cbor:"10,keyasint"`
	// Keys are the split keys; exactly one is of family "ledger": the system-wide authority. Rows A10, A28.
	Keys []Key `cbor:"11,keyasint"`
	// SharedOfficers allows a person to serve several devices of one key. Row A21, design §3.
	SharedOfficers bool `cbor:"12,keyasint"`
	// UnattestedCards allows cards without a manufacturer's attestation (laboratories, CI). Rows A7, A17.
	UnattestedCards bool `cbor:"13,keyasint"`
	// AcknowledgeNoFault says that people saw and accepted that the ledger key's quorum tolerates no lying device (f = 0).
	// Design §4.
	AcknowledgeNoFault bool `cbor:"14,keyasint"`
	// Sources are the heartbeat sources and satellites. Rows A24 to A27.
	Sources []Source `cbor:"15,keyasint,omitempty"`
}

// Ceremony records how the genesis came about. Rows A8, A9.
type Ceremony struct {
	// File is the SHA-256 of the reviewed ceremony file.
	File envelope.Hash `cbor:"1,keyasint"`
	// Attempt counts from 1; a dead lead device means a new attempt. Design §6.
	Attempt uint64 `cbor:"2,keyasint"`
	// Administrator is the person id of the temporary administrator. He is no officer. Row A9.
	Administrator string `cbor:"3,keyasint"`
	// AdminKey is the signature key of the administrator's card.
	AdminKey envelope.KeyID `cbor:"4,keyasint"`
	// Witnesses are the names of those who watched. Row A9.
	Witnesses []string `cbor:"5,keyasint"`
	// NotBefore and NotAfter bound the administrator's power: hours, not days. Row A9.
	NotBefore int64 `cbor:"6,keyasint"`
	NotAfter  int64 `cbor:"7,keyasint"`
	// Vault says that devices were compared by hand under physical protection, without manufacturer certificates. Row A8.
	Vault bool `cbor:"8,keyasint"`
}

// Server is the message server of a site. It is trusted with nothing but its own transport keys. Row A5.
type Server struct {
	ID   string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	// Sign and Agree are its P-256 keys. Row A5.
	Sign  []byte `cbor:"3,keyasint"`
	Agree []byte `cbor:"4,keyasint"`
	// TLS is the SHA-256 of the SPKI of its TLS key, pinned by devices and people.
	TLS envelope.Hash `cbor:"5,keyasint"`
	// URL is where people and programs reach it (https).
	URL string `cbor:"6,keyasint"`
	// Route is where other servers reach it: host:port of NATS, empty for a server that only dials out.
	Route string `cbor:"7,keyasint"`
}

// Device is a signing device: permanent id, logical name, two key pairs made in its token. Row A3.
type Device struct {
	// ID is permanent.
	ID string `cbor:"1,keyasint"`
	// Name is the logical name; it may change one day.
	Name string `cbor:"2,keyasint"`
	// Serial and Model are the token's, as the manufacturer states them.
	Serial string `cbor:"3,keyasint"`
	Model  string `cbor:"4,keyasint"`
	// Server is the id of the message server it hangs on.
	Server string `cbor:"5,keyasint"`
	// Sign and Agree are P-256 keys in the token.
	Sign  []byte `cbor:"6,keyasint"`
	Agree []byte `cbor:"7,keyasint"`
	// Boot is a P-256 signature key outside the token, with which a locked device speaks to its server and offers a one-time key
	// for its unlocking. It signs nothing else. Empty only for an unattended device.
	Boot []byte `cbor:"8,keyasint"`
	// SignCert and AgreeCert are the manufacturer's certificates, leaf first, without the root (which is in Models). Empty only
	// when the ceremony was held in a vault. Row A8.
	SignCert  [][]byte `cbor:"9,keyasint"`
	AgreeCert [][]byte `cbor:"10,keyasint"`
	// Firmware is the SHA-256 of its binary. Row A8.
	Firmware envelope.Hash `cbor:"11,keyasint"`
	// Unattended devices unlock themselves; for laboratories and CI, shown wherever the device is shown. Design §6.
	Unattended bool `cbor:"12,keyasint"`
	// InToken says that the device's token can exponentiate, so that shares are used inside it where the key allows: see
	// [Key.UsedInToken]. Row P1.
	InToken bool `cbor:"13,keyasint"`
	// UnlockQuorum is the number of officers' pieces that open the token's PIN; 0 only for an unattended device. Row A22.
	UnlockQuorum uint64 `cbor:"14,keyasint"`
	// Heartbeat is the policy under which the device may use its shares; nil: it needs no beats. Never for an unattended device, which
	// would open itself again. Rows C4, A24 to A27.
	Heartbeat *Heartbeat `cbor:"15,keyasint,omitempty"`
	// Instance is the id of the process that took part in the ceremony. Beat sources know it as this device until the officers unlock
	// another (design §7).
	Instance [16]byte `cbor:"16,keyasint,omitzero"`
}

// Kinds of heartbeat sources.
const (
	SourceMessage   = "message"   // row A24: encrypted messages, a minimum number of them in a period
	SourceSequence  = "sequence"  // row A25: a synchronised pseudo-random sequence
	SourceSatellite = "satellite" // row A27: signed answers to fresh challenges
)

// Source is a heartbeat source or satellite: a process in another room, which hangs on the message server of a site. Rows A24 to A27.
type Source struct {
	ID   string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	// Kind is SourceMessage, SourceSequence or SourceSatellite.
	Kind string `cbor:"3,keyasint"`
	// Server is the id of the message server it hangs on.
	Server string `cbor:"4,keyasint"`
	// Sign is its identity: it certifies the beat keys, which change, and confirms revocations. P-256.
	Sign []byte `cbor:"5,keyasint"`
	// Agree is the P-256 key that challenges and revocations are sealed to.
	Agree []byte `cbor:"6,keyasint"`
	// Operators are persons, any one of whom may silence the source for a device. Officers of the device may, too.
	Operators []string `cbor:"7,keyasint"`
}

// Heartbeat is a device's policy. At least Needed of its sources must have spoken within the lease. Rows A24 to A27, design §7.
type Heartbeat struct {
	// Sources are ids of sources, and of other devices of the system, which answer as satellites do.
	Sources []string `cbor:"1,keyasint"`
	// Needed is how many of them must speak: 1 to len(Sources).
	Needed uint64 `cbor:"2,keyasint"`
	// Period is the time between two beats, in milliseconds.
	Period uint64 `cbor:"3,keyasint"`
	// Lease is the first limit in milliseconds: what a beat grants, counted from the moment the device asked for it or from the
	// beginning of its time slot. When no lease is left the token is locked.
	Lease uint64 `cbor:"4,keyasint"`
	// Minimum is how many beats of a source of kind message have to fall into a lease; 0 where there is no such source.
	Minimum uint64 `cbor:"5,keyasint"`
	// Loss is how many values in a row of a source of kind sequence may be lost; 0 means none.
	Loss uint64 `cbor:"6,keyasint"`
	// Destroy is the second limit: after as many seconds of powered time without a lease the device's shares are destroyed; 0: never.
	// It is not active before a tested backup of each share is on record ([State.MayDestroy]).
	Destroy uint64 `cbor:"7,keyasint"`
}

// Person is a human. Quorums count persons, never keys or cards. Rows A3, A13, design §3.
type Person struct {
	ID   string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	// Title is the office held, may be empty. Row A17.
	Title string `cbor:"3,keyasint"`
	// Cards are all cards of this person. Row A7.
	Cards []Card `cbor:"4,keyasint"`
	// Software is a P-256 signature key in software, with which the person may make requests and never approve. May be empty.
	Software []byte `cbor:"5,keyasint"`
}

// Card is a PIV card. Rows A7, A13, A17.
type Card struct {
	// Serial is the manufacturer's number, unique in the system.
	Serial uint32 `cbor:"1,keyasint"`
	Model  string `cbor:"2,keyasint"`
	// Sign and Agree are the P-256 keys of slots 9C and 9D.
	Sign  []byte `cbor:"3,keyasint"`
	Agree []byte `cbor:"4,keyasint"`
	// AttestSign and AttestAgree are the card's statements that the keys were made in it and cannot leave; Intermediate is the
	// certificate of the card's attestation key (slot F9). Empty only when Genesis.UnattestedCards. Row A17.
	AttestSign   []byte `cbor:"5,keyasint"`
	AttestAgree  []byte `cbor:"6,keyasint"`
	Intermediate []byte `cbor:"7,keyasint"`
}

// Classes of officers (row A17). Both approve signatures.
const (
	ClassOfficer       = "officer"
	ClassAdministrator = "administrator"
)

// Officer registers one card of a person at one device. A person has at most one row for a device. Rows A13, A17.
type Officer struct {
	Person string `cbor:"1,keyasint"`
	// Card is the serial of the card with which he approves for this device.
	Card   uint32 `cbor:"2,keyasint"`
	Device string `cbor:"3,keyasint"`
	// Class is ClassOfficer or ClassAdministrator.
	Class string `cbor:"4,keyasint"`
	// Expires is the first second at which the row no longer counts.
	Expires int64 `cbor:"5,keyasint"`
	// Keys are the ids of the master keys he may approve for, all held by the device; never empty. Row A17 ("master keys"), A30.
	Keys []string `cbor:"6,keyasint"`
}

// Kinds of approved models.
const (
	ModelCard   = "card"
	ModelDevice = "device"
)

// Model is an approved model of card or device. Row A18.
type Model struct {
	// Kind is ModelCard or ModelDevice.
	Kind         string `cbor:"1,keyasint"`
	Manufacturer string `cbor:"2,keyasint"`
	// Model equals Card.Model or Device.Model.
	Model string `cbor:"3,keyasint"`
	// Root is the certificate that the attestations of this model chain to.
	Root []byte `cbor:"4,keyasint"`
	// Standard is the security standard it meets, as text.
	Standard string `cbor:"5,keyasint"`
}

// Families of documents (design §4). A key signs one family for life.
const (
	FamilyLedger      = "ledger"
	FamilyCertificate = "certificate"
	FamilyFile        = "file"
)

// Key is a split RSA key. Rows A10, A15, A28.
type Key struct {
	ID   string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	// Family is what the key may sign: FamilyLedger, FamilyCertificate or FamilyFile.
	Family string `cbor:"3,keyasint"`
	// Scheme, T and N say how the private exponent is shared: any T of N devices sign. Rows A1, A2, A15.
	Scheme threshold.Scheme `cbor:"4,keyasint"`
	T      uint64           `cbor:"5,keyasint"`
	N      uint64           `cbor:"6,keyasint"`
	// Public is the RSA public key.
	Public threshold.PublicKey `cbor:"7,keyasint"`
	// SafePrimes says that the primes are safe, as proofs of correctness need (row P3).
	SafePrimes bool `cbor:"8,keyasint"`
	// Epoch counts splits of the key, from 1.
	Epoch uint64 `cbor:"9,keyasint"`
	// Algorithms are the signature algorithms it may be used with: "RS256" … "PS512".
	Algorithms []string `cbor:"10,keyasint"`
	// AllowDigest allows requests that carry only a digest, which officers sign blind. Only for FamilyFile. Design §4.
	AllowDigest bool `cbor:"11,keyasint"`
	// Certificate is the self-signed root that the lead made before the split; empty for FamilyFile. Row A10.
	Certificate []byte `cbor:"12,keyasint"`
	// MaxDays is the longest validity it may certify; 0 for FamilyFile.
	MaxDays uint64 `cbor:"13,keyasint"`
	// Commitment holds g^d mod N of every sub-share, against which proofs are checked.
	Commitment threshold.Commitment `cbor:"14,keyasint"`
	// Holders are the devices that hold the shares, one for each index 1..N; of a key in two layers one for each machine.
	Holders []Holder `cbor:"15,keyasint"`
	// Layers is the sharing of a key in two layers (threshold.TwoLayer), which has no Commitment; nil for any other. Row B1.
	Layers *twolayer.Public `cbor:"16,keyasint,omitempty"`
}

// Split is the key's sharing as threshold understands it.
func (k Key) Split() threshold.Split { return threshold.Split{Scheme: k.Scheme, T: k.T, N: k.N} }

// UsedInToken says whether a device uses its share of the key inside its token. A token makes no Schnorr-type proofs, and in a chain
// of more than two devices all but the last owe one (design §5.3): such shares are used in the host everywhere. So are those of a key
// in two layers: a token could not raise to half-length sub-keys in half the time, and an accused calculator owes proofs. Row P1.
func (k Key) UsedInToken(d Device) bool {
	return d.InToken && (k.Scheme == threshold.Additive || k.Scheme == threshold.Multiplicative && k.T == 2)
}

// Machine is the row of a machine of a key in two layers, by its layer and number.
func (k Key) Machine(layer, number uint64) (Holder, bool) {
	for _, h := range k.Holders {
		if layer != 0 && h.Layer == layer && h.Index == number {
			return h, true
		}
	}
	return Holder{}, false
}

// Holder says which device holds a share, and what its officers must do. Rows A15, A22.
type Holder struct {
	// Index of the share, 1..N; of a key in two layers the number of the machine.
	Index uint64 `cbor:"1,keyasint"`
	// Share is the share's id, unique in the system.
	Share string `cbor:"2,keyasint"`
	// Device is the id of the device.
	Device string `cbor:"3,keyasint"`
	// Quorum is the number of persons that must approve: at least 2.
	Quorum uint64 `cbor:"4,keyasint"`
	// Pieces is M, the number of pieces of the share's decryption key: one for each officer of the device for this key. Row A22.
	Pieces uint64 `cbor:"5,keyasint"`
	// Threshold is L, the number of pieces that open the share: 2 ≤ L ≤ Quorum ≤ M.
	Threshold uint64 `cbor:"6,keyasint"`
	// Layer of the device in a key of two layers, LayerCalculator or LayerCombiner, where Index is its machine number among those of
	// its layer; 0 for any other key. Row B1.
	Layer uint64 `cbor:"7,keyasint,omitempty"`
	// Version of the share at rest, from 1: grows when the distributor deals a combiner more combinations. 0 for a key of the genesis,
	// which means 1. Row B9.
	Version uint64 `cbor:"8,keyasint,omitempty"`
}

// Layers of a key in two layers.
const (
	LayerCalculator = 1
	LayerCombiner   = 2
)

// EntryVersion is the version of [Entry] that this code understands.
const EntryVersion = 1

// Kinds of entries.
const (
	KindNotice = "notice" // its body is a [Notice]
	KindBackup = "backup" // its body is a [Backup]
	// KindDealing enters a certificate authority in two layers, or a new revision of one; its body is a [Dealing].
	KindDealing = "dealing"
)

// Entry is one command of the chain. Positions count from 1; the genesis is position 0. Row A16, design §4.
type Entry struct {
	// Version is EntryVersion.
	Version uint64 `cbor:"1,keyasint"`
	// System is the system's id.
	System envelope.Hash `cbor:"2,keyasint"`
	// Position in the chain.
	Position uint64 `cbor:"3,keyasint"`
	// Prev is the hash of the entry before, or the system's id at position 1.
	Prev envelope.Hash `cbor:"4,keyasint"`
	// Kind names the command; unknown kinds are refused.
	Kind string `cbor:"5,keyasint"`
	// Body is the deterministic CBOR of the kind's structure.
	Body []byte `cbor:"6,keyasint"`
	// Created is when the command was drafted. It never falls along the chain.
	Created int64 `cbor:"7,keyasint"`
}

// SignedEntry is an entry with the signature of the system-wide authority. Row A16.
type SignedEntry struct {
	// Entry is the deterministic CBOR of Entry.
	Entry []byte `cbor:"1,keyasint"`
	// Algorithm is one of the ledger key's.
	Algorithm string `cbor:"2,keyasint"`
	// Signature is |N| bytes, over [ToBeSigned](Entry).
	Signature []byte `cbor:"3,keyasint"`
}

// Notice announces maintenance. It suspends nothing by itself: see design §7.
type Notice struct {
	Text string `cbor:"1,keyasint"`
	// From and Until bound the window, Until exclusive.
	From  int64 `cbor:"2,keyasint"`
	Until int64 `cbor:"3,keyasint"`
	// Device is the device it concerns, empty for all.
	Device string `cbor:"4,keyasint"`
}

// Backup puts a tested off-line backup of a share on record. Without one for each of its shares no device destroys anything (design §7).
type Backup struct {
	// Device and Share name the share.
	Device string `cbor:"1,keyasint"`
	Share  string `cbor:"2,keyasint"`
	// Place says where the backup is, for people.
	Place string `cbor:"3,keyasint"`
	// Tested is when its restoration was tried last.
	Tested int64 `cbor:"4,keyasint"`
}

// Bundle is a genesis with the signatures that make it one.
type Bundle struct {
	// Genesis is the deterministic CBOR of Genesis.
	Genesis []byte `cbor:"1,keyasint"`
	// Signatures are COSE_Sign1 messages of type TypeGenesisSign, one by the administrator's card and one by every device, in any
	// order. Their payload is the CBOR byte string of the system's id.
	Signatures [][]byte `cbor:"2,keyasint"`
}
