package scheme

import (
	"io"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/half"
	"github.com/privyseal/privyseal/firmware/threshold/integer"
	"github.com/privyseal/privyseal/firmware/threshold/internal/polynomial"
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
	return dealPoints(rand, k, p, shoup.Deal)
}

// polynomialOverZ is package integer.
type polynomialOverZ struct{}

func (polynomialOverZ) Name() string { return "integer" }

func (polynomialOverZ) Paper() string {
	return "Frankel, Gemmell, MacKenzie, Yung: Optimal-resilience proactive public-key cryptosystems (FOCS 1997)"
}

func (polynomialOverZ) SafePrimes() bool { return false }

func (polynomialOverZ) Facts(p Params) (*Facts, error) {
	f, err := overZ(p, integer.ShareLen)
	if err != nil {
		return nil, err
	}
	f.Combiner = integer.CombineExponents(p.N, last(p))
	f.Secret.Distance = p.Bits + integer.SlackBits
	return f, nil
}

func (polynomialOverZ) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	return dealPoints(rand, k, p, integer.Deal)
}

// halfLength is package half.
type halfLength struct{}

func (halfLength) Name() string { return "half" }

func (halfLength) Paper() string {
	return "Shoup (2000) with shares over the integers as Damgård, Koprowski (Eurocrypt 2001), of the lower half of d: Boneh, Durfee, Frankel (Asiacrypt 1998)"
}

func (halfLength) SafePrimes() bool { return false }

func (halfLength) Facts(p Params) (*Facts, error) {
	f, err := overZ(p, half.ShareLen)
	if err != nil {
		return nil, err
	}
	f.PublicLen += 8 // κ
	f.Combiner = half.CombineExponents(p.Bits, p.N, last(p))
	f.Secret.Distance = half.SlackBits
	return f, nil
}

func (halfLength) Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error) {
	return dealPoints(rand, k, p, half.Deal)
}

// overZ is what schemes over the integers have in common: (n + 1)! takes the place
// of n! if a device joins, so that all shares are made anew.
func overZ(p Params, shareLen func(bits int, t, n uint64) int) (*Facts, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	width := shareLen(p.Bits, p.T, p.N)
	f := &Facts{
		ShareLen: width, PublicLen: int(p.N+1) * p.Bits / 8, Device: []int{8 * width}, Rounds: 1,
		Wrong:  Wrong{Again: 1, Rounds: 1},
		Secret: Secret{Devices: p.T, Exact: p.T == 1}, // fewer than one device hold nothing
	}
	f.Wrong.proof(8 * width)
	if p.N < threshold.MaxDevices {
		anew := shareLen(p.Bits, p.T, p.N+1)
		f.Join = Join{NewLen: anew, OldLen: anew, Anew: true, Possible: true}
	}
	return f, nil
}

// last is the set of the last t devices, whose coefficients are longest.
func last(p Params) threshold.Subset {
	return threshold.Subset((1<<p.T - 1) << (p.N - p.T))
}

// sharer is shoup.Public, integer.Public or half.Public.
type sharer interface {
	Sharing(pub *threshold.PublicKey) (*polynomial.Sharing, error)
}

func dealPoints[P sharer](rand io.Reader, k *threshold.WholeKey, p Params, deal func(io.Reader, *threshold.WholeKey, uint64, uint64) ([]polynomial.Share, P, error)) (*Dealing, error) {
	if err := p.fits(k); err != nil {
		return nil, err
	}
	shares, public, err := deal(rand, k, p.T, p.N)
	if err != nil {
		return nil, err
	}
	sharing, err := public.Sharing(k.Public())
	if err != nil {
		return nil, err
	}
	c := &pointCombiner{sharing}
	d := &Dealing{Combiner: c}
	for i := range shares {
		e, err := sharing.NewExponentiator(&shares[i])
		if err != nil {
			return nil, err
		}
		d.Devices = append(d.Devices, &pointDevice{c, &shares[i], e})
	}
	return d, nil
}

// pointDevice holds one point of a polynomial.
type pointDevice struct {
	*pointCombiner // what is public
	share          *polynomial.Share
	exp            threshold.Exponentiator
}

func (d *pointDevice) Index() uint64 { return d.share.Index }
func (d *pointDevice) Size() int     { return d.share.Value.Len() }
func (d *pointDevice) Wipe()         { d.share.Value.Wipe() }

func (d *pointDevice) Partial(_ *Task, x []byte) (*Partial, error) {
	y, err := d.sharing.Partial(x, d.exp)
	if err != nil {
		return nil, err
	}
	return &Partial{Index: d.share.Index, Values: [][]byte{y}}, nil
}

func (d *pointDevice) Prove(rand io.Reader, task *Task, x []byte, p *Partial, _ int) error {
	if err := own(d.share.Index, p, 1); err != nil {
		return err
	}
	b := task.Binding
	b.Share = shareID(d.share.Index)
	proof, err := d.sharing.Prove(rand, b, x, p.Values[0], d.share)
	p.Proofs = []*threshold.Proof{proof}
	return err
}

// pointCombiner holds no secret.
type pointCombiner struct{ sharing *polynomial.Sharing }

func (c *pointCombiner) Size() int { return 0 }
func (c *pointCombiner) Wipe()     {}

func (c *pointCombiner) Next(task *Task, _ []*Partial) ([]byte, error) { return task.EM, nil }

func (c *pointCombiner) Combine(task *Task, partials []*Partial) ([]byte, error) {
	all, err := signatures(0, partials)
	if err != nil {
		return nil, err
	}
	return c.sharing.CombineVarTime(task.Algorithm, task.Digest, task.EM, all)
}

func (c *pointCombiner) Blame(task *Task, partials []*Partial) error {
	all, err := signatures(0, partials)
	if err != nil {
		return err
	}
	return c.sharing.VerifyPartials(task.Binding, task.EM, all)
}
