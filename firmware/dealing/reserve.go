package dealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Reserve is all that was dealt of an authority, under a fresh key that is cut
// into pieces, each sealed to the card of a keeper (slot 9D). Enough of them
// have the private exponent: they are as powerful together as every machine of
// the authority.
type Reserve struct {
	Format     uint64         `cbor:"1,keyasint"` // reserveFormat
	System     envelope.Hash  `cbor:"2,keyasint"`
	Enterprise uint64         `cbor:"3,keyasint"` // code
	Key        string         `cbor:"4,keyasint"`
	Modulus    []byte         `cbor:"5,keyasint"` // N
	Revision   uint64         `cbor:"6,keyasint"` // of the dealing that it was made with
	Dealing    envelope.Hash  `cbor:"7,keyasint"` // digest of that
	Created    int64          `cbor:"8,keyasint"`
	Need       uint64         `cbor:"9,keyasint"`  // pieces that open it
	KeyCheck   envelope.Hash  `cbor:"10,keyasint"` // recognises the key
	Pieces     []ReservePiece `cbor:"11,keyasint"` // piece i+1 of the key
	Nonce      []byte         `cbor:"12,keyasint"`
	Ciphertext []byte         `cbor:"13,keyasint"` // AES-256-GCM of a dealing's secrets
	// Abandoned are the digests of dealings that were given out, never came into
	// force and were counted in this one. The ledger does not know them: whoever
	// extends of this reserve has to bring them.
	Abandoned []envelope.Hash `cbor:"14,keyasint,omitempty"`
}

// ReservePiece is a keeper's.
type ReservePiece struct {
	Person string         `cbor:"1,keyasint"`
	Card   uint32         `cbor:"2,keyasint"`
	Agree  envelope.KeyID `cbor:"3,keyasint"` // the card's agreement key
	Sealed []byte         `cbor:"4,keyasint"`
}

const (
	reserveFormat   = 1
	reserveDomain   = "privyseal reserve v1"
	keyCheckDomain  = "privyseal reserve key check v1"
	reserveKeySize  = 32
	reserveNonceLen = 12
)

// A ReserveError says why a reserve is not the one that is needed.
type ReserveError struct{ Why string }

func (e *ReserveError) Error() string { return "this is not the reserve that is needed: " + e.Why }

func reserveErr(format string, args ...any) error { return &ReserveError{fmt.Sprintf(format, args...)} }

var (
	// ErrReserveTampered: the key is right and the reserve does not authenticate.
	ErrReserveTampered = errors.New("the reserve was altered: take another copy of it")
	// ErrNoReserve: shares are to be dealt and there is no reserve to deal them of.
	ErrNoReserve = errors.New("the reserve is needed: shares are dealt of it")
)

// makeReserve encrypts all secrets of a dealing and cuts the key for its
// keepers.
func makeReserve(rand io.Reader, s ledger.State, d *ledger.Dealing, digest envelope.Hash, dealt *twolayer.Dealing, need uint64, keepers []keeper, abandoned []envelope.Hash) ([]byte, error) {
	raw := make([]byte, reserveKeySize)
	if _, err := io.ReadFull(rand, raw); err != nil {
		return nil, fmt.Errorf("reserve: key: %w", err)
	}
	key := threshold.NewSecret(raw)
	defer key.Wipe()
	r := &Reserve{
		Format: reserveFormat, System: s.System(), Enterprise: d.Enterprise.Code, Key: d.Key.ID, Modulus: d.Key.Public.N,
		Revision: d.Revision, Dealing: digest, Created: d.Created, Need: need, KeyCheck: envelope.HashOf(keyCheckDomain, key.Reveal()),
		Nonce: make([]byte, reserveNonceLen), Abandoned: abandoned,
	}
	pieces, err := share.SplitSecret(rand, key.Reveal(), int(need), len(keepers))
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range pieces {
			p.Wipe()
		}
	}()
	for i, k := range keepers {
		to, err := envelope.ParseAgreementKey(k.card.Agree)
		if err != nil {
			return nil, fmt.Errorf("reserve: card %d of %s: %w", k.card.Serial, k.person, err)
		}
		p := ReservePiece{Person: k.person, Card: k.card.Serial, Agree: envelope.KeyIDOfSPKI(k.card.Agree)}
		if p.Sealed, err = share.SealPieceToCard(to, r.context(&p), pieces[i]); err != nil {
			return nil, err
		}
		r.Pieces = append(r.Pieces, p)
	}
	if _, err := io.ReadFull(rand, r.Nonce); err != nil {
		return nil, fmt.Errorf("reserve: nonce: %w", err)
	}
	plain, err := envelope.Marshal(dealt)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	aad, err := r.associated()
	if err != nil {
		return nil, err
	}
	r.Ciphertext = aead.Seal(nil, r.Nonce, plain, aad)
	out, err := envelope.Marshal(r)
	if err != nil {
		return nil, err
	}
	if _, err := ParseReserve(out); err != nil { // nobody shall find that out when it is needed
		return nil, err
	}
	return out, nil
}

// associated is all of a reserve but its ciphertext.
func (r *Reserve) associated() ([]byte, error) {
	c := *r
	c.Ciphertext = nil
	raw, err := envelope.Marshal(&c)
	if err != nil {
		return nil, err
	}
	h := envelope.HashOf(reserveDomain, raw)
	return h[:], nil
}

// context says what a keeper's piece is.
func (r *Reserve) context(p *ReservePiece) share.PieceContext {
	return share.PieceContext{
		ID:      fmt.Sprintf("reserve/%d/%d/%s", r.Enterprise, r.Revision, p.Person),
		Purpose: share.PurposeReserve, Device: fmt.Sprintf("enterprise %d", r.Enterprise), Share: r.Key, Version: r.Revision, Card: p.Agree,
	}
}

// ParseReserve reads a reserve. It says nothing yet of who wrote it.
func ParseReserve(data []byte) (*Reserve, error) {
	if len(data) > MaxReserve {
		return nil, fmt.Errorf("reserve: %d bytes, at most %d", len(data), MaxReserve)
	}
	r := new(Reserve)
	if err := envelope.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	switch {
	case r.Format != reserveFormat:
		return nil, fmt.Errorf("reserve: format %d, only %d is understood", r.Format, reserveFormat)
	case r.Need < MinReserveNeed || r.Need > uint64(len(r.Pieces)) || len(r.Pieces) > maxKeepers:
		return nil, fmt.Errorf("reserve: %d of %d pieces", r.Need, len(r.Pieces))
	case len(r.Abandoned) > MaxAbandoned:
		return nil, fmt.Errorf("reserve: %d abandoned dealings, at most %d", len(r.Abandoned), MaxAbandoned)
	case len(r.Nonce) != reserveNonceLen:
		return nil, fmt.Errorf("reserve: nonce of %d bytes", len(r.Nonce))
	}
	return r, nil
}

// CheckReserve reports whether a reserve can be the one for what the ledger has
// of its authority, before anybody is asked for a card. What it looks at is
// authenticated when the reserve is opened. The error is a *ReserveError.
func CheckReserve(s ledger.State, row *ledger.Dealing, r *Reserve) error {
	switch {
	case r.System != s.System():
		return reserveErr("it is of another system (%s)", r.System)
	case r.Enterprise != row.Enterprise.Code:
		return reserveErr("it is of enterprise %d, not of %d", r.Enterprise, row.Enterprise.Code)
	case r.Key != row.Key.ID || string(r.Modulus) != string(row.Key.Public.N):
		return reserveErr("it is of another key than %s", row.Key.ID)
	case r.Revision > row.Revision:
		return reserveErr("it is of revision %d, which the ledger does not have (it has %d): bring the medium's ledger up to date, or take the reserve before", r.Revision, row.Revision)
	}
	return nil
}

// CheckReserve is [CheckReserve] for what was prepared. It also demands that the
// abandoned dealings which the reserve names are counted: a *ForgottenError has
// those that are not.
func (d *Prepared) CheckReserve(r *Reserve) error {
	if d.row == nil {
		return ErrNoAuthority
	}
	if err := CheckReserve(d.state, d.row, r); err != nil {
		return err
	}
	return d.forgotten(r)
}

// OpenPiece opens a keeper's piece with the card. index counts from 0. The
// caller wipes it.
func (r *Reserve) OpenPiece(index int, card ecdh.KeyExchanger) (share.Piece, error) {
	p, err := share.OpenPieceFromCard(card, r.context(&r.Pieces[index]), r.Pieces[index].Sealed)
	if err != nil {
		return share.Piece{}, err
	}
	if p.Index != uint64(index+1) {
		p.Wipe()
		return share.Piece{}, fmt.Errorf("reserve: piece %d is in the place of piece %d: the reserve was altered", p.Index, index+1)
	}
	return p, nil
}

// open joins the pieces and decrypts what was dealt. wrong are the keepers whose
// pieces do not fit the others. The caller wipes the dealing.
func (r *Reserve) open(pieces []share.Piece) (out *twolayer.Dealing, wrong []string, err error) {
	key, bad, err := share.Recover(pieces, int(r.Need), func(k []byte) bool { return envelope.HashOf(keyCheckDomain, k) == r.KeyCheck })
	if err != nil {
		return nil, nil, fmt.Errorf("reserve: %w", err)
	}
	defer key.Wipe()
	for _, index := range bad {
		if index <= uint64(len(r.Pieces)) {
			wrong = append(wrong, r.Pieces[index-1].Person)
		}
	}
	aead, err := gcm(key)
	if err != nil {
		return nil, nil, err
	}
	aad, err := r.associated()
	if err != nil {
		return nil, nil, err
	}
	plain, err := aead.Open(nil, r.Nonce, r.Ciphertext, aad)
	if err != nil {
		return nil, nil, ErrReserveTampered
	}
	defer clear(plain)
	out = new(twolayer.Dealing)
	if err := envelope.Unmarshal(plain, out); err != nil {
		out.Wipe()
		return nil, nil, fmt.Errorf("reserve: %w", err)
	}
	return out, wrong, nil
}

// arrange puts what a reserve keeps into the order of the ledger's row, and
// checks each share against what the row publishes. The reserve may be older
// than the row if machines were only taken away since: those count as gone, with
// all that they know. The result shares its secrets with d.
func arrange(d *twolayer.Dealing, row *ledger.Dealing) (*twolayer.Dealing, error) {
	layers, pub := row.Key.Layers, &row.Key.Public
	if err := d.Public.Grouping.Validate(); err != nil {
		return nil, reserveErr("%v", err)
	}
	out := &twolayer.Dealing{Public: *layers, Gone: d.Gone}
	for _, n := range layers.Grouping.Calculators {
		i := indexFunc(d.Calculators, func(c *twolayer.CalculatorShare) bool { return c.Number == n })
		if i < 0 {
			return nil, reserveErr("it was made before calculator %d was added: take the newest", n)
		}
		if err := layers.CheckCalculator(pub, &d.Calculators[i]); err != nil {
			return nil, reserveErr("calculator %d: %v", n, err)
		}
		out.Calculators = append(out.Calculators, d.Calculators[i])
	}
	for _, g := range layers.Grouping.Combiners {
		c, err := partsOf(d, g)
		if err != nil {
			return nil, err
		}
		if err := layers.CheckCombiner(pub, c); err != nil {
			return nil, reserveErr("combiner %d: %v", g.Number, err)
		}
		out.Combiners = append(out.Combiners, *c)
	}
	out.Gone = append(out.Gone, lost(d.Public.Grouping.Combiners, layers.Grouping.Combiners)...)
	return out, nil
}

// partsOf picks a combiner's parts by their combinations.
func partsOf(d *twolayer.Dealing, g grouping.Group) (*twolayer.CombinerShare, error) {
	i := indexFunc(d.Combiners, func(c *twolayer.CombinerShare) bool { return c.Number == g.Number })
	had := combinationsOf(d.Public.Grouping.Combiners, g.Number)
	if i < 0 || len(d.Combiners[i].Parts) != len(had) {
		return nil, reserveErr("it was made before combiner %d was added: take the newest", g.Number)
	}
	out := &twolayer.CombinerShare{Number: g.Number}
	for _, c := range g.Combinations {
		at := indexFunc(had, func(h *grouping.Combination) bool { return slices.Equal(*h, c) })
		if at < 0 {
			return nil, reserveErr("it was made before combiner %d got %v: take the newest", g.Number, c)
		}
		out.Parts = append(out.Parts, d.Combiners[i].Parts[at])
	}
	return out, nil
}

// combinationsOf are those of one combiner.
func combinationsOf(groups []grouping.Group, number uint64) []grouping.Combination {
	for _, g := range groups {
		if g.Number == number {
			return g.Combinations
		}
	}
	return nil
}

// lost is what combiners had before and have no longer.
func lost(before, now []grouping.Group) (out []grouping.Group) {
	for _, g := range before {
		gone := grouping.Group{Number: g.Number}
		for _, c := range g.Combinations {
			if !slices.ContainsFunc(combinationsOf(now, g.Number), func(x grouping.Combination) bool { return slices.Equal(x, c) }) {
				gone.Combinations = append(gone.Combinations, c)
			}
		}
		if gone.Combinations != nil {
			out = append(out, gone)
		}
	}
	return out
}

func indexFunc[T any](list []T, is func(*T) bool) int {
	for i := range list {
		if is(&list[i]) {
			return i
		}
	}
	return -1
}

func gcm(key threshold.Secret) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	return cipher.NewGCM(block)
}
