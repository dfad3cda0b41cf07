package scheme

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// twoLayers is package twolayer: devices are calculators. The combiners, as many as
// the grouping needs, are shown as one.
type twoLayers struct{}

func (twoLayers) Name() string { return threshold.TwoLayer.String() }

func (twoLayers) Paper() string {
	return "Tolerant digital certificate distribute system and distribute method (PCT/CN02/00684)"
}

func (twoLayers) SafePrimes() bool { return false }

// found keeps groupings, which are searched for seconds where there are many
// calculators: facts and dealing are of the same. Nobody changes one.
var found sync.Map // of Params without Bits: *grouping.Grouping

// find returns the grouping with the fewest sub-keys and combiners found.
func find(p Params) (*grouping.Grouping, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	wanted := Params{T: p.T, N: p.N}
	if g, ok := found.Load(wanted); ok {
		return g.(*grouping.Grouping), nil
	}
	g, err := grouping.Find(grouping.Params{K: p.N, T: p.T}, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	found.Store(wanted, g)
	return g, nil
}

func (twoLayers) Facts(p Params) (*Facts, error) {
	g, err := find(p)
	if err != nil {
		return nil, err
	}
	width, sub := p.Bits/8, twolayer.SubKeyLen(p.Bits)
	held := 0
	for _, c := range g.Combiners {
		held += len(c.Combinations)
	}
	f := &Facts{
		ShareLen: int(g.L) * sub, CombinerLen: held * width, PublicLen: (1 + int(g.L*p.N)) * width,
		Device: repeat(int(g.L), 8*sub), Combiner: []int{p.Bits}, Rounds: 1,
		Wrong: Wrong{Again: 1, Rounds: 1},
		// Old calculators keep their sub-keys; each new machine set needs a part.
		Join:   Join{NewLen: int(g.L) * sub, CombinerLen: binomial(p.N, p.T-1) * width, Possible: p.N < grouping.MaxCalculators},
		Secret: Secret{Devices: p.T, Combiners: 1, Distance: p.Bits/2 + twolayer.SlackBits},
	}
	f.Wrong.proof(f.Device...)
	for _, c := range g.Combiners { // a combiner with any t − 1 calculators
		for _, set := range (threshold.Split{Scheme: threshold.Additive, T: max(p.T-1, 1), N: p.N}).Subsets() {
			b, err := twolayer.Hiding(g, []uint64{c.Number}, set.Indices()[:p.T-1])
			if err != nil {
				return nil, err
			}
			f.Secret.Distance = min(f.Secret.Distance, b)
		}
	}
	for _, w := range g.Table().Weak {
		f.Secret.Besides = append(f.Secret.Besides, w.String())
	}
	return f, nil
}

func (twoLayers) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	g, err := find(p)
	if err != nil {
		return nil, err
	}
	dealt, err := twolayer.Deal(rand, k, *g)
	if err != nil {
		return nil, err
	}
	c := &layerCombiner{k.Public(), dealt}
	d := &Dealing{Combiner: c}
	for i := range dealt.Calculators {
		d.Devices = append(d.Devices, &calculator{c.pub, &dealt.Public, &dealt.Calculators[i]})
	}
	return d, nil
}

type calculator struct {
	pub    *threshold.PublicKey
	public *twolayer.Public
	share  *twolayer.CalculatorShare
}

func (d *calculator) Index() uint64 { return d.share.Number }
func (d *calculator) Wipe()         { d.share.Wipe() }

func (d *calculator) Size() (n int) {
	for _, key := range d.share.Keys {
		n += key.Len()
	}
	return n
}

func (d *calculator) Partial(_ *Task, x []byte) (*Partial, error) {
	p := &Partial{Index: d.share.Number}
	for _, key := range d.share.Keys {
		e, err := twolayer.NewExponentiator(d.pub, key)
		if err != nil {
			return nil, err
		}
		y, err := twolayer.Power(d.pub, x, e)
		if err != nil {
			return nil, err
		}
		p.Values = append(p.Values, y)
	}
	return p, nil
}

func (d *calculator) Prove(rand io.Reader, task *Task, x []byte, p *Partial, _ int) error {
	if err := own(d.share.Number, p, len(d.share.Keys)); err != nil {
		return err
	}
	b := task.Binding
	b.Share = shareID(d.share.Number)
	p.Proofs = nil
	for i, key := range d.share.Keys {
		proof, err := twolayer.Prove(rand, d.pub, d.public, b, grouping.Term{Calculator: p.Index, Key: uint64(i + 1)}, x, p.Values[i], key)
		if err != nil {
			return err
		}
		p.Proofs = append(p.Proofs, proof)
	}
	return nil
}

// layerCombiner is all combiners.
type layerCombiner struct {
	pub   *threshold.PublicKey
	dealt *twolayer.Dealing
}

func (c *layerCombiner) Size() (n int) {
	for _, s := range c.dealt.Combiners {
		for _, part := range s.Parts {
			n += part.Len()
		}
	}
	return n
}

func (c *layerCombiner) Wipe() { c.dealt.Wipe() }

func (c *layerCombiner) Next(task *Task, _ []*Partial) ([]byte, error) { return task.EM, nil }

// Combine asks the first combiner that serves exactly these calculators.
func (c *layerCombiner) Combine(task *Task, partials []*Partial) ([]byte, error) {
	g := &c.dealt.Public.Grouping
	powers, set, err := c.powers(partials)
	if err != nil {
		return nil, err
	}
	if uint64(set.Len()) != g.T {
		return nil, fmt.Errorf("%w: %v is not %d calculators", threshold.ErrSubset, set, g.T)
	}
	for i, s := range c.dealt.Combiners {
		if len(g.Match(s.Number, set.Indices())) == 0 {
			continue
		}
		solution, err := twolayer.Solve(c.pub, task.Algorithm, task.Digest, &c.dealt.Public, s.Number, powers, func(part int) ([]byte, error) {
			e, err := twolayer.NewExponentiator(c.pub, c.dealt.Combiners[i].Parts[part])
			if err != nil {
				return nil, err
			}
			return twolayer.Power(c.pub, task.EM, e)
		})
		var unsolved *twolayer.UnsolvedError
		if errors.As(err, &unsolved) && len(unsolved.Wrong) > 0 {
			return nil, fmt.Errorf("%w (%w)", &threshold.WrongPartialError{Indices: unsolved.Wrong}, err)
		}
		if err != nil {
			return nil, err
		}
		return solution.Signature, nil
	}
	return nil, fmt.Errorf("%w: no combiner serves %v", threshold.ErrSubset, set)
}

func (c *layerCombiner) powers(partials []*Partial) ([]twolayer.Powers, threshold.Subset, error) {
	var powers []twolayer.Powers
	var numbers []uint64
	for _, p := range partials {
		if p == nil || !slices.Contains(c.dealt.Public.Grouping.Calculators, p.Index) {
			return nil, 0, fmt.Errorf("%w: not of a calculator", threshold.ErrSubset)
		}
		powers = append(powers, twolayer.Powers{Calculator: p.Index, Y: p.Values})
		numbers = append(numbers, p.Index)
	}
	set, err := threshold.SubsetOf(numbers...)
	return powers, set, err
}

func (c *layerCombiner) Blame(task *Task, partials []*Partial) error {
	if _, _, err := c.powers(partials); err != nil {
		return err
	}
	var wrong []uint64
	for _, p := range partials {
		ok := uint64(len(p.Values)) == c.dealt.Public.Grouping.L && len(p.Values) == len(p.Proofs)
		for i := 0; ok && i < len(p.Values); i++ {
			b := task.Binding
			b.Share = shareID(p.Index)
			term := grouping.Term{Calculator: p.Index, Key: uint64(i + 1)}
			ok = twolayer.VerifyProof(c.pub, &c.dealt.Public, b, term, task.EM, p.Values[i], p.Proofs[i]) == nil
		}
		if !ok {
			wrong = append(wrong, p.Index)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return &threshold.WrongPartialError{Indices: wrong}
}
