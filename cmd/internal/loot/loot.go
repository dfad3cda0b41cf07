// Package loot is what a thief makes of what he got: he has read the source,
// and tries everything that he knows with everything that he has. Tests and the
// demo have him fail, and show with the officers' cards that he tries.
package loot

import (
	"bytes"
	"crypto/ecdh"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// Thief collects byte strings, opens every envelope among them with every key
// he has, takes every one apart, and so on until nothing new comes up.
type Thief struct {
	keys   []ecdh.KeyExchanger
	known  map[string]bool // true: not a part of another one
	todo   [][]byte
	sealed map[string]sealedPiece
	pieces map[string]share.Piece
	shares []*share.Stored
	opened int // envelopes and pieces
}

// sealedPiece is a piece under HPKE, with the info that it was sealed with:
// all of that is public.
type sealedPiece struct{ info, sealed []byte }

// NewThief has these keys and nothing else yet.
func NewThief(keys ...ecdh.KeyExchanger) *Thief {
	return &Thief{keys: keys, known: map[string]bool{}, sealed: map[string]sealedPiece{}, pieces: map[string]share.Piece{}}
}

// note takes a byte string in, to be looked at later.
func (f *Thief) note(b []byte, whole bool) {
	if _, ok := f.known[string(b)]; len(b) > 7 && !ok {
		f.known[string(b)] = whole
		f.todo = append(f.todo, b)
	}
}

// Learn takes byte strings in, whatever they are.
func (f *Thief) Learn(all ...[]byte) {
	for _, b := range all {
		f.note(b, true)
	}
	for len(f.todo) > 0 {
		b := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		f.study(b)
	}
	for _, p := range f.sealed {
		for _, k := range f.keys {
			plain, err := envelope.OpenWith(k, p.info, nil, p.sealed)
			if _, had := f.known[string(plain)]; err == nil && !had {
				f.opened++
				f.Learn(plain)
				return // which came back for the rest
			}
		}
	}
}

// study takes one byte string apart.
func (f *Thief) study(b []byte) {
	if to, err := envelope.PeekRecipients(b); err == nil {
		for _, k := range f.keys {
			id, _ := envelope.KeyIDOf(k.PublicKey())
			if raw, err := envelope.Open(b, k); err == nil && slices.Contains(to, id) {
				f.opened++
				f.note(raw, true)
			}
		}
	}
	if u, err := envelope.Parse(b); err == nil {
		f.approvals(u)
		f.note(u.UnverifiedPayload(), false)
	}
	f.recognise(b)
	var any any
	if cbor.Unmarshal(b, &any) == nil {
		f.walk(any)
	}
}

func (f *Thief) walk(v any) {
	switch v := v.(type) {
	case []byte:
		f.note(v, false)
	case string:
		f.note([]byte(v), false)
	case []any:
		for _, x := range v {
			f.walk(x)
		}
	case map[any]any:
		for _, x := range v {
			f.walk(x)
		}
	case cbor.Tag:
		f.walk(v.Content)
	}
}

func number(n uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, byte(n)} }

// recognise looks for what the formats call pieces and shares.
func (f *Thief) recognise(b []byte) {
	var p share.Piece
	if envelope.Unmarshal(b, &p) == nil && p.Value.Len() > 0 {
		f.pieces[string(b)] = p
	}
	if st, err := share.ParseStored(b); err == nil {
		f.shares = append(f.shares, st)
	}
	var lists [][]ceremony.SealedPiece
	var offered firmware.Offered
	if envelope.Unmarshal(b, &offered) == nil {
		lists = append(lists, offered.Pieces)
	}
	var pending ceremony.Pending
	if envelope.Unmarshal(b, &pending) == nil {
		lists = append(lists, pending.Pieces)
	}
	for _, p := range slices.Concat(lists...) {
		h := envelope.HashOf("privyseal piece to card v1", []byte(p.ID), []byte(p.Purpose), []byte(p.Device), []byte(p.Share), number(0), p.Card[:])
		f.sealed[string(p.Sealed)] = sealedPiece{h[:], p.Sealed}
	}
}

// approvals looks for pieces on their way to a one-time key.
func (f *Thief) approvals(u *envelope.Unverified) {
	add := func(id, purpose string, request, offer envelope.Hash, device, shareID string, sealed []byte) {
		officer := u.Header().Signer
		h := envelope.HashOf("privyseal piece to offer v1", []byte(id), []byte(purpose), request[:], offer[:], []byte(device), []byte(shareID), officer[:])
		f.sealed[string(sealed)] = sealedPiece{h[:], sealed}
	}
	var a approval.Approval
	if envelope.Unmarshal(u.UnverifiedPayload(), &a) == nil {
		for _, p := range a.Pieces {
			add(p.Piece, share.PurposeShare, a.Request, p.Offer, p.Device, a.Share, p.Sealed)
		}
	}
	var w approval.UnlockApproval
	if envelope.Unmarshal(u.UnverifiedPayload(), &w) == nil {
		add(w.Piece, share.PurposePIN, envelope.Hash{}, w.Offer, w.Device, "", w.Sealed)
	}
}

// officersKey tries to find the key over a stored share: any two pieces joined,
// or any 32 bytes in a row of anything known.
func (f *Thief) officersKey(st *share.Stored) []byte {
	fits := func(k []byte) bool { return envelope.HashOf("privyseal officers' key check v1", k) == st.KeyCheck }
	var all []share.Piece
	for _, p := range f.pieces {
		all = append(all, p)
	}
	for i, p := range all {
		for _, q := range all[:i] {
			if key, err := share.JoinPieces([]share.Piece{p, q}); err == nil && fits(key.Reveal()) {
				return key.Reveal()
			}
		}
	}
	for b, whole := range f.known {
		for i := 0; whole && i+32 <= len(b); i++ {
			if k := []byte(b[i : i+32]); fits(k) {
				return k
			}
		}
	}
	return nil
}

// Use tries to put every share of a key to work in a token that is open: to
// raise the generator to a sub-share, whose result was published. It returns
// how many sub-shares he tried, and whether one worked.
func (f *Thief) Use(k *ledger.Key, token *devicetoken.Token) (tried int, ok bool) {
	for _, st := range f.shares {
		if st.Key != k.ID {
			continue
		}
		key := f.officersKey(st)
		if key == nil {
			key = make([]byte, 32) // and if it were nothing at all?
		}
		facts := share.Facts{Key: st.Key, Epoch: st.Epoch, ShareID: st.ShareID, Index: st.Index, Modulus: st.N, Version: st.Version}
		for _, sub := range st.Subs {
			subset := threshold.Subset(sub.Label)
			v, err := k.Commitment.Lookup(subset, st.Index)
			if err != nil {
				continue
			}
			tried++
			wrapped, err := st.Open(facts, threshold.NewSecret(bytes.Clone(key)), subset)
			if err != nil {
				wrapped = sub.Ciphertext // perhaps the token opens it as it is
			}
			for _, inToken := range []bool{true, false} {
				e, err := token.Shares(inToken).Unwrap(st.N, wrapped)
				if err != nil {
					continue
				}
				got, err := e.Exp(k.Commitment.G)
				e.Close()
				if err == nil && bytes.Equal(got, v) {
					return tried, true
				}
			}
			if d, err := token.Shares(false).Reveal(st.N, wrapped); err == nil && gives(k, d, v) {
				return tried, true
			}
		}
	}
	return tried, false
}

// gives reports whether d is the sub-share whose published value is v.
func gives(k *ledger.Key, d, v []byte) bool {
	n := len(k.Public.N)
	d = bytes.TrimLeft(d, "\x00")
	mod, err := modexp.New(k.Public.N)
	if err != nil || len(d) > n {
		return false
	}
	got, err := mod.Exp(k.Commitment.G, append(make([]byte, n-len(d)), d...))
	return err == nil && bytes.Equal(got, v)
}

// Found is how far a thief came.
type Found struct {
	Strings int // byte strings, parts counted too
	Opened  int // envelopes, and pieces sealed to keys he has
	Sealed  int // sealed pieces
	Pieces  int // of them open
	Shares  int // at rest
}

// Found counts.
func (f *Thief) Found() Found {
	return Found{len(f.known), f.opened, len(f.sealed), len(f.pieces), len(f.shares)}
}
