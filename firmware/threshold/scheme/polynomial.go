package scheme

import (
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/half"
	"github.com/privyseal/privyseal/firmware/threshold/integer"
	"github.com/privyseal/privyseal/firmware/threshold/shoup"
)

// polynomialModM is package shoup.
type polynomialModM struct{}

func (polynomialModM) Name() string { return "shoup" }

func (polynomialModM) Paper() string {
	return "Shoup: Practical threshold signatures (Eurocrypt 2000)"
}

func (polynomialModM) SafePrimes() bool { return true }

func (polynomialModM) Facts(p Params) (*Facts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	width := p.Bits / 8
	f := &Facts{
		ShareLen: width, PublicLen: int(p.N+1) * width,
		Device: []int{p.Bits}, Combiner: shoup.CombineExponents(p.N, last(p)), Rounds: 1,
		Wrong: Wrong{Again: 1, Rounds: 1, Sound: true},
		// Only the public Δ changes for those who are there.
		Join:   Join{NewLen: width, Possible: p.N < threshold.MaxDevices},
		Secret: Secret{Devices: p.T, Exact: true, Distance: p.Bits/2 - 2 - log2(int(p.T-1))},
	}
	f.Wrong.proof(p.Bits)
	return f, nil
}

func (polynomialModM) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	shares, public, err := shoup.Deal(rand, k, p.T, p.N)
	if err != nil {
		return nil, err
	}
	c := &pointCombiner{k.Public(), public}
	d := &Dealing{Combiner: c}
	for _, s := range shares {
		e, err := threshold.NewHostExponentiator(c.pub, s.Value)
		if err != nil {
			return nil, err
		}
		d.Devices = append(d.Devices, &pointDevice{c, s.Index, s.Value,
			func(x []byte) ([]byte, error) { return public.Partial(c.pub, x, e) },
			func(rand io.Reader, b threshold.Binding, x, y []byte) (*threshold.Proof, error) {
				return public.Prove(rand, c.pub, b, x, y, &s)
			}})
	}
	return d, nil
}

// polynomialOverZ is package integer.
type polynomialOverZ struct{}

func (polynomialOverZ) Name() string { return "integer" }

func (polynomialOverZ) Paper() string {
	return "Frankel, Gemmell, MacKenzie, Yung: Optimal-resilience proactive public-key cryptosystems (FOCS 1997)"
}

func (polynomialOverZ) SafePrimes() bool { return false }

func (polynomialOverZ) Facts(p Params) (*Facts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	width := integer.ShareLen(p.Bits, p.T, p.N)
	f := &Facts{
		ShareLen: width, PublicLen: int(p.N+1) * p.Bits / 8,
		Device: []int{8 * width}, Combiner: integer.CombineExponents(p.N, last(p)), Rounds: 1,
		Wrong:  Wrong{Again: 1, Rounds: 1},
		Secret: Secret{Devices: p.T, Distance: p.Bits + integer.SlackBits},
	}
	if p.T == 1 {
		f.Secret.Exact = true // fewer than one device hold nothing
	}
	f.Wrong.proof(8 * width)
	if p.N < threshold.MaxDevices { // all values are to be divisible by (n + 1)!
		anew := integer.ShareLen(p.Bits, p.T, p.N+1)
		f.Join = Join{NewLen: anew, OldLen: anew, Anew: true, Possible: true}
	}
	return f, nil
}

func (polynomialOverZ) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	shares, public, err := integer.Deal(rand, k, p.T, p.N)
	if err != nil {
		return nil, err
	}
	c := &pointCombiner{k.Public(), public}
	d := &Dealing{Combiner: c}
	for _, s := range shares {
		e, err := public.NewExponentiator(c.pub, &s)
		if err != nil {
			return nil, err
		}
		d.Devices = append(d.Devices, &pointDevice{c, s.Index, s.Value,
			func(x []byte) ([]byte, error) { return integer.Partial(c.pub, x, e) },
			func(rand io.Reader, b threshold.Binding, x, y []byte) (*threshold.Proof, error) {
				return public.Prove(rand, c.pub, b, x, y, &s)
			}})
	}
	return d, nil
}

// halfLength is package half.
type halfLength struct{}

func (halfLength) Name() string { return "half" }

func (halfLength) Paper() string {
	return "Shoup (2000) with shares over the integers as Damgård, Koprowski (Eurocrypt 2001), of the lower half of d: Boneh, Durfee, Frankel (Asiacrypt 1998)"
}

func (halfLength) SafePrimes() bool { return false }

func (halfLength) Facts(p Params) (*Facts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	width := half.ShareLen(p.Bits, p.T, p.N)
	f := &Facts{
		ShareLen: width, PublicLen: int(p.N+1)*p.Bits/8 + 8,
		Device: []int{8 * width}, Combiner: half.CombineExponents(p.Bits, p.N, last(p)), Rounds: 1,
		Wrong:  Wrong{Again: 1, Rounds: 1},
		Secret: Secret{Devices: p.T, Distance: half.SlackBits},
	}
	if p.T == 1 {
		f.Secret.Exact = true // fewer than one device hold nothing
	}
	f.Wrong.proof(8 * width)
	if p.N < threshold.MaxDevices { // the hiding polynomial needs (n + 1)!
		anew := half.ShareLen(p.Bits, p.T, p.N+1)
		f.Join = Join{NewLen: anew, OldLen: anew, Anew: true, Possible: true}
	}
	return f, nil
}

func (halfLength) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	shares, public, err := half.Deal(rand, k, p.T, p.N)
	if err != nil {
		return nil, err
	}
	c := &pointCombiner{k.Public(), public}
	d := &Dealing{Combiner: c}
	for _, s := range shares {
		e, err := public.NewExponentiator(c.pub, &s)
		if err != nil {
			return nil, err
		}
		d.Devices = append(d.Devices, &pointDevice{c, s.Index, s.Value,
			func(x []byte) ([]byte, error) { return public.Partial(c.pub, x, e) },
			func(rand io.Reader, b threshold.Binding, x, y []byte) (*threshold.Proof, error) {
				return public.Prove(rand, c.pub, b, x, y, &s)
			}})
	}
	return d, nil
}

// last is the set of the last t devices, whose coefficients are longest.
func last(p Params) threshold.Subset {
	return threshold.Subset((1<<p.T - 1) << (p.N - p.T))
}

// points is what shoup.Public, integer.Public and half.Public have in common.
type points interface {
	CombineVarTime(pub *threshold.PublicKey, a threshold.Algorithm, digest, em []byte, partials []threshold.PartialSignature) ([]byte, error)
	VerifyPartials(pub *threshold.PublicKey, b threshold.Binding, em []byte, partials []threshold.PartialSignature) error
}

// pointDevice holds one point of a polynomial.
type pointDevice struct {
	*pointCombiner // what is public
	index          uint64
	share          threshold.Secret
	partial        func(x []byte) ([]byte, error)
	prove          func(rand io.Reader, b threshold.Binding, x, y []byte) (*threshold.Proof, error)
}

func (d *pointDevice) Index() uint64 { return d.index }
func (d *pointDevice) Size() int     { return d.share.Len() }
func (d *pointDevice) Wipe()         { d.share.Wipe() }

func (d *pointDevice) Partial(_ *Task, x []byte) (*Partial, error) {
	y, err := d.partial(x)
	if err != nil {
		return nil, err
	}
	return &Partial{Index: d.index, Values: [][]byte{y}}, nil
}

func (d *pointDevice) Prove(rand io.Reader, task *Task, x []byte, p *Partial, _ int) error {
	if err := own(d.index, p, 1); err != nil {
		return err
	}
	b := task.Binding
	b.Share = shareID(d.index)
	proof, err := d.prove(rand, b, x, p.Values[0])
	p.Proofs = []*threshold.Proof{proof}
	return err
}

// pointCombiner holds no secret.
type pointCombiner struct {
	pub *threshold.PublicKey
	points
}

func (c *pointCombiner) Size() int { return 0 }
func (c *pointCombiner) Wipe()     {}

func (c *pointCombiner) Next(task *Task, _ []*Partial) ([]byte, error) { return task.EM, nil }

func (c *pointCombiner) Combine(task *Task, partials []*Partial) ([]byte, error) {
	all, err := signatures(0, partials)
	if err != nil {
		return nil, err
	}
	return c.CombineVarTime(c.pub, task.Algorithm, task.Digest, task.EM, all)
}

func (c *pointCombiner) Blame(task *Task, partials []*Partial) error {
	all, err := signatures(0, partials)
	if err != nil {
		return err
	}
	return c.VerifyPartials(c.pub, task.Binding, task.EM, all)
}
