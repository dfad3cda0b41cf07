package ledger

import (
	"crypto"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// Dealing is the body of a [KindDealing] entry: the certificate authority of one enterprise, shared in two layers by an off-line
// distributor and confirmed there by an operator's card. Its first revision brings a new key; each later one replaces the row of the
// one before, for machines that were added or taken away. Rows B1, B2, B9, B12.
type Dealing struct {
	Enterprise Enterprise `cbor:"1,keyasint"`
	// Revision counts the dealings of an enterprise, from 1.
	Revision uint64 `cbor:"2,keyasint"`
	// Key is of family certificate and scheme threshold.TwoLayer; its id and its public key never change. T is t, N the number of
	// calculators. Its holders are the calculators in ascending order, then the combiners.
	Key Key `cbor:"3,keyasint"`
	// Distributors are the message servers that may give out tasks (row B4).
	Distributors []Distributor `cbor:"4,keyasint"`
	// Officers are the enterprise's own: rows that name Key.ID and nothing else.
	Officers []Officer `cbor:"5,keyasint"`
	// Operator is the person who confirmed the dealing at the distributor (row B2).
	Operator string `cbor:"6,keyasint"`
	// Created is when the distributor dealt.
	Created int64 `cbor:"7,keyasint"`
	// Isolated says that the distributor's machine had no network when it dealt, as far as the machine could tell.
	Isolated bool `cbor:"8,keyasint"`
	// Reserve says who keeps the encrypted reserve of the dealing; nil: there is none, and the authority can lose machines but never gain
	// one.
	Reserve *Reserve `cbor:"9,keyasint,omitempty"`
	// Confirmation is the operator's signature, a COSE_Sign1 message "dealing.confirm" whose payload is a [Confirm] with the hash of this
	// structure without it.
	Confirmation []byte `cbor:"10,keyasint"`
	// Counted are dealings of this key that were given out and never entered, and that no earlier revision counts, ascending by digest. From
	// now on they count as what machines were ever dealt.
	Counted []Counted `cbor:"11,keyasint,omitempty"`
}

// Reserve is an encrypted copy of all that was dealt, as the ledger knows it: any Need of its keepers open it with their cards. They are as
// powerful together as all machines.
type Reserve struct {
	Need    uint64   `cbor:"1,keyasint"`
	Keepers []Keeper `cbor:"2,keyasint"`
}

// Keeper is a person with the card to which a piece of the reserve's key was sealed.
type Keeper struct {
	Person string `cbor:"1,keyasint"`
	Card   uint32 `cbor:"2,keyasint"`
}

// Enterprise is who an authority in two layers belongs to. Row B12.
type Enterprise struct {
	// Code travels in every packet and tells enterprises apart: 1 to MaxEnterpriseCode.
	Code uint64 `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
}

// Distributor is a message server in its role as an enterprise's task distributor. Row B4.
type Distributor struct {
	// Number travels in every packet (B [0099]): 1 to MaxDistributorNumber, unique in the enterprise.
	Number uint64 `cbor:"1,keyasint"`
	// Server is the id of the message server.
	Server string `cbor:"2,keyasint"`
}

// TypeConfirm is the type of the message by which an operator confirms a dealing, and ConfirmVersion its version.
const (
	TypeConfirm    = "dealing.confirm"
	ConfirmVersion = 1
)

// Confirm is its payload.
type Confirm struct {
	Dealing envelope.Hash `cbor:"1,keyasint"` // [Dealing.Digest]
}

const dealingDomain = "privyseal dealing"

// DecodeDealing reads an encoded dealing strictly. What it says is not looked at: see [CheckDealing].
func DecodeDealing(raw []byte) (*Dealing, error) {
	if len(raw) > MaxEntry {
		return nil, fmt.Errorf("ledger: dealing has %d bytes, at most %d", len(raw), MaxEntry)
	}
	var d Dealing
	if err := envelope.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("ledger: dealing: %w", err)
	}
	return &d, nil
}

// Digest is what the operator confirms: the hash of the dealing without his confirmation.
func (d *Dealing) Digest() (envelope.Hash, error) {
	c := *d
	c.Confirmation = nil
	raw, err := envelope.Marshal(&c)
	if err != nil {
		return envelope.Hash{}, fmt.Errorf("ledger: dealing: %w", err)
	}
	return envelope.HashOf(dealingDomain, raw), nil
}

// Confirm sets the confirmation of a dealing, signed by the operator's card (slot 9C) at now. It holds for ConfirmationLife.
func (d *Dealing) Confirm(rand io.Reader, operator crypto.Signer, system envelope.Hash, now int64) error {
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	payload, err := envelope.Marshal(&Confirm{Dealing: digest})
	if err != nil {
		return err
	}
	d.Confirmation, err = envelope.Sign(rand, operator, envelope.Header{
		Type: TypeConfirm, Version: ConfirmVersion, System: system, Key: d.Key.ID, Epoch: d.Key.Epoch,
		Created: now, Expires: now + ConfirmationLife,
	}, payload)
	return err
}

// ServerOf is the message server that gives out tasks under a distributor's number.
func (d *Dealing) ServerOf(distributor uint64) (server string, ok bool) {
	for _, x := range d.Distributors {
		if x.Number == distributor {
			return x.Server, true
		}
	}
	return "", false
}

// DistributorOf is the number under which a message server gives out tasks.
func (d *Dealing) DistributorOf(server string) (distributor uint64, ok bool) {
	for _, x := range d.Distributors {
		if x.Server == server {
			return x.Number, true
		}
	}
	return 0, false
}
