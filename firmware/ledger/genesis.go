package ledger

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// TypeGenesisSign is the type of the messages with which the administrator and the devices sign a genesis. They are made before
// commissioning, so their header names no system; the payload is the CBOR byte string of the system's id.
const TypeGenesisSign = "genesis.sign"

// SystemID is the id of the system that begins with the encoded genesis: its SHA-256, so that people can compute it with any tool.
// It needs no domain prefix: a genesis and an entry, the other thing hashed here, never have the same encoding.
func SystemID(genesis []byte) envelope.Hash { return sha256.Sum256(genesis) }

// DecodeGenesis reads an encoded genesis and refuses all that [Genesis.Validate] refuses. What it returns is well-formed, not
// verified: anybody can make one.
func DecodeGenesis(raw []byte) (*Genesis, error) {
	t, err := decodeTables(raw)
	if err != nil {
		return nil, err
	}
	return &t.genesis, nil
}

func largeGenesis(size int) error {
	return fmt.Errorf("ledger: genesis has %d bytes, at most %d go through a device's link: plan fewer keys or fewer holders, whose commitments are most of it", size, MaxGenesis)
}

func decodeTables(raw []byte) (*tables, error) {
	if len(raw) > MaxGenesis {
		return nil, largeGenesis(len(raw))
	}
	var g Genesis
	if err := envelope.Unmarshal(raw, &g); err != nil {
		return nil, fmt.Errorf("ledger: genesis: %w", err)
	}
	return newTables(g)
}

// Encode validates g and returns its deterministic encoding.
func (g *Genesis) Encode() ([]byte, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	raw, err := envelope.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("ledger: genesis: %w", err)
	}
	if len(raw) > MaxGenesis {
		return nil, largeGenesis(len(raw))
	}
	return raw, nil
}

// SignGenesis makes the message with which the administrator's card or a device's token signs a genesis. It validates the genesis
// first. now must lie in the administrator's window, where the message expires.
func SignGenesis(rand io.Reader, signer crypto.Signer, genesis []byte, now int64) ([]byte, error) {
	g, err := DecodeGenesis(genesis)
	if err != nil {
		return nil, err
	}
	if now < g.Ceremony.NotBefore || now >= g.Ceremony.NotAfter {
		return nil, &InvalidError{"ceremony", "the administrator's window is over or has not begun: begin a new attempt"}
	}
	payload, err := envelope.Marshal(SystemID(genesis))
	if err != nil {
		return nil, err
	}
	return envelope.Sign(rand, signer, envelope.Header{
		Type: TypeGenesisSign, Version: GenesisVersion, Created: now, Expires: g.Ceremony.NotAfter,
	}, payload)
}

// VerifiedGenesis is a genesis signed by its administrator and all its devices. Only [VerifyGenesis] and [VerifyGenesisOf] make one.
type VerifiedGenesis struct {
	raw    []byte
	system envelope.Hash
	t      *tables
}

// System is the system's id.
func (v *VerifiedGenesis) System() envelope.Hash { return v.system }

// Raw is the encoded genesis.
func (v *VerifiedGenesis) Raw() []byte { return slices.Clone(v.raw) }

// Genesis is a copy of the tables.
func (v *VerifiedGenesis) Genesis() Genesis { return v.t.genesis.clone() }

// VerifyGenesis checks that b holds a valid genesis with exactly one signature of the administrator's card and of every device, all
// made in the administrator's window.
//
// A genesis vouches for itself: whoever makes up all keys can make up all signatures. It says who the system is only to those who
// took part or who know its id from elsewhere; the latter use [VerifyGenesisOf].
//
// Errors: *InvalidError, *VersionError, *BundleError, *MissingSignaturesError, those of envelope.Unmarshal.
func VerifyGenesis(b Bundle) (*VerifiedGenesis, error) {
	t, err := decodeTables(b.Genesis)
	if err != nil {
		return nil, err
	}
	g := &t.genesis
	system := SystemID(b.Genesis)
	if len(b.Signatures) > len(g.Devices)+1 {
		return nil, fmt.Errorf("ledger: genesis has %d signatures where %d are expected", len(b.Signatures), len(g.Devices)+1)
	}
	signed := make(map[envelope.KeyID]bool)
	for i, raw := range b.Signatures {
		if err := t.verifyGenesisSign(raw, system, signed); err != nil {
			err.Index = i
			return nil, err
		}
	}
	var missing []string
	if !signed[g.Ceremony.AdminKey] {
		missing = append(missing, fmt.Sprintf("administrator %q", g.Ceremony.Administrator))
	}
	for _, d := range g.Devices {
		if !signed[envelope.KeyIDOfSPKI(d.Sign)] {
			missing = append(missing, fmt.Sprintf("device %q", d.ID))
		}
	}
	if missing != nil {
		return nil, &MissingSignaturesError{missing}
	}
	return &VerifiedGenesis{slices.Clone(b.Genesis), system, t}, nil
}

// VerifyGenesisOf is VerifyGenesis for those who know the system's id, and refuses any other (*SystemError).
func VerifyGenesisOf(system envelope.Hash, b Bundle) (*VerifiedGenesis, error) {
	if got := SystemID(b.Genesis); got != system {
		return nil, &SystemError{Got: got, Want: system}
	}
	return VerifyGenesis(b)
}

// verifyGenesisSign checks one signature and notes its signer.
func (t *tables) verifyGenesisSign(raw []byte, system envelope.Hash, signed map[envelope.KeyID]bool) *BundleError {
	if len(raw) > MaxSignature {
		return &BundleError{Err: fmt.Errorf("has %d bytes, at most %d", len(raw), MaxSignature)}
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return &BundleError{Err: err}
	}
	h := u.Header()
	id, known := t.identities[h.Signer]
	fail := func(err error) *BundleError { return &BundleError{Signer: h.Signer, Name: id.name(), Err: err} }
	c := &t.genesis.Ceremony
	switch {
	case !known:
		return fail(fmt.Errorf("unknown signer"))
	case h.Signer != c.AdminKey && (id.Kind != OwnerDevice || id.Use != UseSign):
		return fail(fmt.Errorf("only the administrator's card and the devices' token keys sign a genesis"))
	case signed[h.Signer]:
		return fail(fmt.Errorf("signed twice"))
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return fail(err)
	}
	var got envelope.Hash
	if err := envelope.Decode(v, TypeGenesisSign, GenesisVersion, &got); err != nil {
		return fail(err)
	}
	switch {
	case got != system:
		return fail(&SystemError{Got: got, Want: system})
	case !h.System.IsZero():
		return fail(fmt.Errorf("header names a system, which does not exist yet"))
	case h.Created < c.NotBefore || h.Created >= c.NotAfter:
		return fail(fmt.Errorf("made at %d, outside the administrator's window %d to %d", h.Created, c.NotBefore, c.NotAfter))
	}
	signed[h.Signer] = true
	return nil
}
