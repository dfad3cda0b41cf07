package coordtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// attempt checks what a real device checks of a task, and finds its input.
func (d *Device) attempt(in firmware.Task) (a *accepted, refusal string) {
	a = d.accept(in.Request)
	o := d.offers[a.digest]
	if o == nil || !bytes.Equal(o.raw, in.Offer) {
		return a, firmware.CodeOffer
	}
	about := approval.Request{Digest: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Requester: a.req.Requester, Signer: a.signer, Created: a.req.Created, Expires: a.req.Expires}
	var err error
	if a.req.Route.Approvals == document.ApprovalsChain {
		var base []byte
		if n := len(in.Prior); n > 0 {
			base = in.Prior[n-1]
		}
		_, err = approval.VerifyChain(d.sys.State, about, d.ID, in.Approvals[0], base, d.now())
	} else {
		_, err = approval.VerifySet(d.sys.State, about, d.ID, in.Approvals, d.now())
	}
	if err != nil {
		d.t.Errorf("device %s was sent a task without its quorum: %v", d.ID, err)
	}
	if in.Order[in.Position] != a.holder.Index {
		d.t.Errorf("device %s was sent a task for place %d of %v", d.ID, in.Position, in.Order)
	}
	for i, raw := range in.Prior {
		p, err := firmware.VerifyPartial(d.sys.State, &a.key, a.digest, in.Order, uint64(i), raw)
		if err != nil {
			d.t.Errorf("device %s was sent a strange prior: %v", d.ID, err)
			continue
		}
		if i+2 < int(a.key.T) {
			b := firmware.PartialBinding(d.sys.State, &a.key, a.digest, in.Order, uint64(i))
			if err := threshold.VerifyProof(&a.key.Public, &a.key.Commitment, b, p.Index, a.x, p.Y, p.Proof); err != nil {
				d.t.Errorf("device %s was sent a prior without a right proof: %v", d.ID, err)
			}
		}
		a.x = p.Y
	}
	return a, ""
}

func (d *Device) task(in firmware.Task) (string, any, bool) {
	d.tasks++
	a, code := d.attempt(in)
	switch {
	case code != "":
		return d.refuse(a.digest, code, "the one-time key is gone")
	case d.Fault == Refuser:
		return d.refuse(a.digest, firmware.CodeShare, "the share cannot be opened")
	case d.Fault == Accuser && in.Position > 0:
		return d.refuse(a.digest, firmware.CodePartial, "the one before is wrong")
	case d.Fault == NoProof && in.Prove:
		return d.refuse(a.digest, firmware.CodeInternal, "cannot prove")
	}
	out := firmware.Partial{
		Request: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Device: d.ID, Share: a.holder.Share, Index: a.holder.Index,
		Order: in.Order, Position: in.Position, Officers: []string{}, Made: d.now(),
	}
	secret := d.secret(a, in.Order)
	out.Y = d.wrong(a, in, raise(d.t, &a.key, a.x, secret))
	needs := a.key.Split().NeedsProof(in.Position)
	row, _ := d.sys.State.Device(d.ID)
	if (in.Prove || needs) && !a.key.UsedInToken(row) {
		b := firmware.PartialBinding(d.sys.State, &a.key, a.digest, in.Order, in.Position)
		var err error
		out.Proof, err = threshold.Prove(rand.Reader, &a.key.Public, &a.key.Commitment, b, a.holder.Index, a.x, raise(d.t, &a.key, a.x, secret), secret)
		if err != nil {
			d.t.Error(err)
		}
		if d.Fault == BadProof {
			out.Proof.Z[len(out.Proof.Z)-1] ^= 1
		}
	}
	if a.key.Scheme == threshold.Multiplicative && in.Position+1 == a.key.T && d.Fault == Good {
		// The last place verifies before it lets go.
		if _, err := threshold.FinishSequentialVarTime(&a.key.Public, a.req.Algorithm, a.checked.Digest(), out.Y); err != nil {
			return d.refuse(a.digest, firmware.CodePartial, "the final signature does not verify")
		}
	}
	return firmware.TypePartial, out, true
}

func (d *Device) secret(a *accepted, order []uint64) threshold.Secret {
	subset, err := threshold.SubsetOf(order...)
	if err != nil {
		d.t.Error(err)
	}
	share := d.Shares[a.key.ID]
	s, ok := share.Sub(subset)
	if !ok {
		d.t.Errorf("device %s is not in %v", d.ID, subset)
	}
	return s
}

// raise is x^d as it travels.
func raise(t testing.TB, k *ledger.Key, x []byte, d threshold.Secret) []byte {
	e, err := threshold.NewHostExponentiator(&k.Public, d)
	if err != nil {
		t.Error(err)
		return nil
	}
	y, err := threshold.Partial(&k.Public, x, e)
	if err != nil {
		t.Error(err)
	}
	return y
}

// wrong is what a faulty device gives in place of y.
func (d *Device) wrong(a *accepted, in firmware.Task, y []byte) []byte {
	n := new(big.Int).SetBytes(a.key.Public.N)
	switch d.Fault {
	case Random, NoProof:
		r, _ := rand.Int(rand.Reader, new(big.Int).Rsh(n, 1))
		return r.FillBytes(make([]byte, len(y)))
	case Zero, Negated, OtherInput:
		return d.wrongValue(&a.key, y, func(em []byte) []byte { return raise(d.t, &a.key, em, d.secret(a, in.Order)) })
	case WrongShare:
		for _, s := range d.Shares[a.key.ID].Subs {
			if !slices.Equal(s.Subset.Indices(), slices.Sorted(slices.Values(in.Order))) {
				return raise(d.t, &a.key, a.x, s.Value)
			}
		}
	}
	return y
}

// wrongValue is what a device gives in place of y whose fault is the same in all
// schemes; of raises another encoded message as it would have raised the right one.
func (d *Device) wrongValue(k *ledger.Key, y []byte, of func(em []byte) []byte) []byte {
	switch d.Fault {
	case Zero:
		return make([]byte, len(y))
	case Negated:
		n := new(big.Int).SetBytes(k.Public.N)
		return n.Sub(n, new(big.Int).SetBytes(y)).FillBytes(make([]byte, len(y)))
	case OtherInput:
		h := sha256.Sum256([]byte("another document"))
		em, err := threshold.Encode("RS256", h[:], nil, k.Public.Bits())
		if err != nil {
			d.t.Error(err)
		}
		return of(em)
	}
	return y
}

func (d *Device) checkAsk(in firmware.CheckAsk) (string, any, bool) {
	a, code := d.attempt(in.Task)
	if code != "" || d.Fault == NoProof {
		return d.refuse(a.digest, firmware.CodeOffer, "no check")
	}
	e, err := threshold.NewHostExponentiator(&a.key.Public, d.secret(a, in.Task.Order))
	if err != nil {
		d.t.Error(err)
	}
	b := firmware.PartialBinding(d.sys.State, &a.key, a.digest, in.Task.Order, in.Task.Position)
	c := &check{key: a.key, x: a.x}
	out := firmware.CheckCommit{Request: a.digest, Index: a.holder.Index}
	if out.Commit, c.held, err = threshold.CommitAnswer(rand.Reader, &a.key.Public, b, a.holder.Index, &in.Challenge, e); err != nil {
		d.t.Error(err)
	}
	d.checks[a.digest] = c
	return firmware.TypeCheckCommit, out, true
}

func (d *Device) checkOpen(in firmware.CheckOpen) (string, any, bool) {
	c := d.checks[in.Request]
	if c == nil {
		return d.refuse(in.Request, firmware.CodeMessage, "no check is open")
	}
	delete(d.checks, in.Request)
	answer, err := c.held.Release(&c.key.Commitment, c.x, &in.Opening)
	if err != nil {
		return d.refuse(in.Request, firmware.CodeMessage, fmt.Sprint(err))
	}
	h, _ := d.sys.State.HolderOf(c.key.ID, d.ID)
	return firmware.TypeCheckAnswer, firmware.CheckAnswer{Request: in.Request, Index: h.Index, Answer: *answer}, true
}
