package ledger

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"fmt"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// Kinds of those who own keys.
const (
	OwnerPerson = "person"
	OwnerDevice = "device"
	OwnerServer = "server"
	OwnerSource = "source" // a heartbeat source or satellite
)

// Use is what a key may do. A message is believed only from a key of the right use.
type Use string

const (
	// UseSign is the signature key of a device's token, of slot 9C of a card, of a server or of a source.
	UseSign Use = "sign"
	// UseAgree is the agreement key of a token, of slot 9D, of a server or of a source. It signs nothing.
	UseAgree Use = "agree"
	// UseBoot is a device's key outside the token: it speaks for a locked device and nothing else.
	UseBoot Use = "boot"
	// UseSoftware is a requester's key in software: it makes requests and never approves.
	UseSoftware Use = "software"
)

// Identity is what the tables know about a public key. The key pointers are shared: do not write through them.
type Identity struct {
	ID envelope.KeyID
	// Kind is OwnerPerson, OwnerDevice, OwnerServer or OwnerSource, and Owner the id of that person, device, server or source.
	Kind, Owner string
	Use         Use
	// Card is the serial of the card that holds the key, 0 if none.
	Card uint32
	// SignKey verifies the owner's signatures; nil for UseAgree.
	SignKey *ecdsa.PublicKey
	// AgreeKey seals to the owner; nil but for UseAgree.
	AgreeKey *ecdh.PublicKey
}

func (i Identity) name() string {
	if i.Kind == "" {
		return ""
	}
	return fmt.Sprintf("%s %q (%s key)", i.Kind, i.Owner, i.Use)
}

// keyOf is a public key and its use.
type keyOf struct {
	use  Use
	spki []byte
}

// register adds keys of one owner to the tables and refuses one that is there already, in whatever role.
func (t *tables) register(owner Identity, keys ...keyOf) error {
	for _, k := range keys {
		sign, err := envelope.ParseSigningKey(k.spki)
		if err != nil {
			return fmt.Errorf("%s key: %w", k.use, err)
		}
		id := owner
		id.ID, id.Use = envelope.KeyIDOfSPKI(k.spki), k.use
		if other, ok := t.identities[id.ID]; ok {
			return fmt.Errorf("%s key is also the %s key of %s %q: every role has its own key", id.Use, other.Use, other.Kind, other.Owner)
		}
		if id.Use == UseAgree {
			if id.AgreeKey, err = sign.ECDH(); err != nil {
				return fmt.Errorf("%s key: %w", k.use, err)
			}
		} else {
			id.SignKey = sign
		}
		t.identities[id.ID] = id
	}
	return nil
}
