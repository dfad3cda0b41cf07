package scheme

import (
	"errors"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
)

// bySets is package threshold's own way: d split afresh for every set of t
// devices, as a product or as a sum.
type bySets struct{ scheme threshold.Scheme }

func (s bySets) Name() string { return s.scheme.String() }

func (s bySets) Paper() string {
	const from = "Sudia, Freund: Multi-step digital signature method and system (WO 96/39765), "
	if s.scheme == threshold.Multiplicative {
		return from + "multiplicative scheme"
	}
	return from + "additive scheme; Boyd: Digital multisignatures (1989)"
}

// SafePrimes: proofs carry the weight of a sequence (threshold.VerifyProof).
func (s bySets) SafePrimes() bool { return s.scheme == threshold.Multiplicative }

func (s bySets) split(p Params) threshold.Split {
	return threshold.Split{Scheme: s.scheme, T: p.T, N: p.N}
}

func (s bySets) Facts(p Params) (*Facts, error) {
	split := s.split(p)
	if err := errors.Join(p.check(), split.Validate()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	subs, width := split.SubShares(), p.Bits/8
	f := &Facts{
		ShareLen: subs * width, PublicLen: (1 + binomial(p.N, p.T)*int(p.T)) * width,
		Device: []int{p.Bits}, Rounds: 1, Synchronised: true,
		// Other sub-shares for another set: all t begin anew.
		Wrong:  Wrong{Again: int(p.T), Rounds: 1, Sound: s.SafePrimes()},
		Secret: Secret{Devices: p.T, Exact: true, Distance: p.Bits/2 - 2 - log2(subs*int(p.T-1))},
	}
	f.Wrong.proof(p.Bits)
	if s.scheme == threshold.Multiplicative {
		f.Rounds, f.Wrong.Rounds, f.Chained = p.T, p.T, true
	}
	next := split
	next.N++
	if next.Validate() == nil {
		// C(n−1, t−2) sets of the new device with an old one; and all its own.
		f.Join = Join{NewLen: next.SubShares() * width, OldLen: (next.SubShares() - subs) * width, Possible: true}
	}
	return f, nil
}

func (s bySets) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	c := &setCombiner{pub: k.Public(), split: s.split(p)}
	shares, com, err := threshold.Deal(rand, k, c.split)
	if err != nil {
		return nil, err
	}
	c.com = com
	d := &Dealing{Combiner: c}
	for i := range shares {
		d.Devices = append(d.Devices, &setDevice{c, &shares[i]})
	}
	return d, nil
}

type setDevice struct {
	*setCombiner // what is public
	share        *threshold.Share
}

func (d *setDevice) Index() uint64 { return d.share.Index }
func (d *setDevice) Wipe()         { d.share.Wipe() }

func (d *setDevice) Size() (n int) {
	for _, sub := range d.share.Subs {
		n += sub.Value.Len()
	}
	return n
}

func (d *setDevice) sub(set threshold.Subset) (threshold.Secret, error) {
	sub, ok := d.share.Sub(set)
	if !ok {
		return sub, fmt.Errorf("%w: share %d has none for %v", threshold.ErrSubset, d.share.Index, set)
	}
	return sub, nil
}

func (d *setDevice) Partial(task *Task, x []byte) (*Partial, error) {
	sub, err := d.sub(task.Set)
	if err != nil {
		return nil, err
	}
	e, err := threshold.NewHostExponentiator(d.pub, sub)
	return value(d.pub, d.share.Index, x, e, err)
}

func (d *setDevice) Prove(rand io.Reader, task *Task, x []byte, p *Partial, position int) error {
	sub, err := d.sub(task.Set)
	if err := errors.Join(err, own(d.share.Index, p, 1)); err != nil {
		return err
	}
	b := d.binding(task)
	b.Share = shareID(d.share.Index)
	if d.split.Scheme == threshold.Multiplicative {
		b.Position = uint64(position + 1)
	}
	proof, err := threshold.Prove(rand, d.pub, d.com, b, d.share.Index, x, p.Values[0], sub)
	p.Proofs = []*threshold.Proof{proof}
	return err
}

// setCombiner holds no secret.
type setCombiner struct {
	pub   *threshold.PublicKey
	split threshold.Split
	com   *threshold.Commitment
}

func (c *setCombiner) Size() int { return 0 }
func (c *setCombiner) Wipe()     {}

func (c *setCombiner) needsProof(position int) bool { return c.split.NeedsProof(uint64(position)) }

func (c *setCombiner) binding(task *Task) threshold.Binding {
	b := task.Binding
	b.Subset = task.Set
	return b
}

func (c *setCombiner) Next(task *Task, before []*Partial) ([]byte, error) {
	if c.split.Scheme == threshold.Additive || len(before) == 0 {
		return task.EM, nil
	}
	steps, err := signatures(task.Set, before)
	if err != nil {
		return nil, err
	}
	if len(steps)+1 < int(c.split.T) {
		return threshold.VerifySequence(c.pub, c.com, c.binding(task), task.EM, steps)
	}
	return steps[len(steps)-1].Value, nil // for the last, who verifies the signature
}

func (c *setCombiner) Combine(task *Task, partials []*Partial) ([]byte, error) {
	all, err := signatures(task.Set, partials)
	if err != nil {
		return nil, err
	}
	if err := c.split.Check(task.Set); err != nil {
		return nil, err
	}
	if c.split.Scheme == threshold.Additive {
		return threshold.CombineAdditiveVarTime(c.pub, task.Algorithm, task.Digest, all)
	}
	var indices, wrong []uint64
	for _, p := range all {
		indices = append(indices, p.Index)
		if c.pub.CheckPartial(p.Value) != nil {
			wrong = append(wrong, p.Index)
		}
	}
	if set, err := threshold.SubsetOf(indices...); err != nil || set != task.Set {
		return nil, fmt.Errorf("%w: shares %d signed for %v", threshold.ErrSubset, indices, task.Set)
	}
	if len(wrong) > 0 {
		return nil, &threshold.WrongPartialError{Indices: wrong}
	}
	sig, err := threshold.FinishSequentialVarTime(c.pub, task.Algorithm, task.Digest, all[len(all)-1].Value)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", &threshold.CombineError{Subset: task.Set}, err)
	}
	return sig, nil
}

func (c *setCombiner) Blame(task *Task, partials []*Partial) error {
	all, err := signatures(task.Set, partials)
	if err != nil {
		return err
	}
	if c.split.Scheme == threshold.Additive {
		return threshold.VerifyPartials(c.pub, c.com, c.binding(task), task.EM, all)
	}
	_, err = threshold.VerifySequence(c.pub, c.com, c.binding(task), task.EM, all)
	return err
}
