package scheme

import (
	"fmt"
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/ittc"
)

// groups is package ittc: additive, by a few groups.
type groups struct{}

func (groups) Name() string { return "groups" }

func (groups) Paper() string {
	return "Wu, Malkin, Boneh: Building intrusion tolerant applications (USENIX Security 1999)"
}

func (groups) SafePrimes() bool { return false }

func (groups) Facts(p Params) (*Facts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	family, err := ittc.Find(p.T, p.N)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	g, width := len(family.Groups), p.Bits/8
	f := &Facts{
		ShareLen: g * width, PublicLen: g * int(p.T+1) * width,
		Device: []int{p.Bits}, Rounds: 1, Synchronised: true,
		// Unless the new set has the same group, all t begin anew with another.
		Wrong:  Wrong{Again: int(p.T), Rounds: 1},
		Secret: Secret{Devices: p.T, Exact: true, Distance: p.Bits/2 - 2 - log2(g*int(p.T-1))},
	}
	f.Wrong.proof(p.Bits)
	if grown, err := family.Grow(); err == nil {
		more := len(grown.Groups)
		f.Join = Join{NewLen: more * width, OldLen: (more - g) * width, Possible: true}
	}
	return f, nil
}

func (groups) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	family, err := ittc.Find(p.T, p.N)
	if err != nil {
		return nil, err
	}
	shares, com, err := ittc.Deal(rand, k, family)
	if err != nil {
		return nil, err
	}
	c := &groupCombiner{k.Public(), family, com}
	d := &Dealing{Combiner: c}
	for i := range shares {
		d.Devices = append(d.Devices, &groupDevice{c, &shares[i]})
	}
	return d, nil
}

type groupDevice struct {
	*groupCombiner // what is public
	share          *ittc.Share
}

func (d *groupDevice) Index() uint64 { return d.share.Index }
func (d *groupDevice) Wipe()         { d.share.Wipe() }

func (d *groupDevice) Size() (n int) {
	for _, part := range d.share.Parts {
		n += part.Len()
	}
	return n
}

func (d *groupDevice) Partial(task *Task, x []byte) (*Partial, error) {
	part, err := d.share.Part(d.family, task.Set)
	if err != nil {
		return nil, err
	}
	e, err := threshold.NewHostExponentiator(d.pub, part)
	return value(d.pub, d.share.Index, x, e, err)
}

func (d *groupDevice) Prove(rand io.Reader, task *Task, x []byte, p *Partial, _ int) error {
	if err := own(d.share.Index, p, 1); err != nil {
		return err
	}
	b := d.binding(task)
	b.Share = shareID(d.share.Index)
	proof, err := d.share.Prove(rand, d.pub, d.family, d.com, b, x, p.Values[0])
	p.Proofs = []*threshold.Proof{proof}
	return err
}

// groupCombiner holds no secret.
type groupCombiner struct {
	pub    *threshold.PublicKey
	family *ittc.Family
	com    *ittc.Commitment
}

func (c *groupCombiner) Size() int { return 0 }
func (c *groupCombiner) Wipe()     {}

func (c *groupCombiner) binding(task *Task) threshold.Binding {
	b := task.Binding
	b.Subset = task.Set
	return b
}

func (c *groupCombiner) Next(task *Task, _ []*Partial) ([]byte, error) { return task.EM, nil }

func (c *groupCombiner) Combine(task *Task, partials []*Partial) ([]byte, error) {
	all, err := signatures(task.Set, partials)
	if err != nil {
		return nil, err
	}
	return ittc.CombineVarTime(c.pub, c.family, task.Algorithm, task.Digest, all)
}

func (c *groupCombiner) Blame(task *Task, partials []*Partial) error {
	all, err := signatures(task.Set, partials)
	if err != nil {
		return err
	}
	return ittc.VerifyPartials(c.pub, c.family, c.com, c.binding(task), task.EM, all)
}
