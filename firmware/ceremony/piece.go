package ceremony

import (
	"io"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
)

// Custodian is an officer who gets a piece.
type Custodian struct {
	ID     string // of the piece, unique in the system
	Person string
	Agree  []byte // of his card's 9D key, SPKI
}

// Cut splits a secret, a share's key or a PIN of a device, among officers, any l
// of whom bring it back. Each piece is sealed to its officer's card. The secret
// stays the caller's to wipe.
func Cut(rand io.Reader, purpose, device, shareID string, secret []byte, l int, to []Custodian) ([]SealedPiece, error) {
	pieces, err := share.SplitSecret(rand, secret, l, len(to))
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	var out []SealedPiece
	for i, c := range to {
		key, err := envelope.ParseAgreementKey(c.Agree)
		if err != nil {
			return nil, err
		}
		card := envelope.KeyIDOfSPKI(c.Agree)
		sealed, err := share.SealPieceToCard(key, share.PieceContext{ID: c.ID, Purpose: purpose, Device: device, Share: shareID, Card: card}, pieces[i])
		if err != nil {
			return nil, err
		}
		out = append(out, SealedPiece{ID: c.ID, Purpose: purpose, Device: device, Share: shareID, Person: c.Person, Card: card, Sealed: sealed})
	}
	return out, nil
}

// PieceID names a piece after what it opens and whose it is.
func PieceID(purpose, device, shareID, person string) string {
	if purpose == share.PurposePIN {
		return "pin/" + device + "/" + person
	}
	return "share/" + shareID + "/" + person
}
