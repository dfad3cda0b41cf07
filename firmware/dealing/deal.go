package dealing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Result is a dealing as it leaves the distributor: public or sealed, all of it.
type Result struct {
	// Dealing is what the ledger is to take in; Confirm signs it.
	Dealing ledger.Dealing
	// Sealed are the shares (firmware.DealtShare), by device, each sealed to the
	// one-time key of its invitation. A device that keeps its share has none.
	Sealed map[string][]byte
	// Reserve is a [Reserve], encoded; nil if there is none, or if that in force is
	// kept.
	Reserve []byte
	// WrongPieces are the keepers whose pieces of the old reserve were wrong.
	WrongPieces []string
}

// Wipe erases what is sealed: nothing of a dealing that nobody confirmed is to
// stay anywhere.
func (r *Result) Wipe() {
	for _, b := range r.Sealed {
		clear(b)
	}
	clear(r.Reserve)
	r.Sealed, r.Reserve = nil, nil
}

// Deal prepares and deals a new authority. See [Prepare] and [Prepared.Deal].
func Deal(in Inputs, s ledger.State, p *Plan, invitations [][]byte, progress func(string)) (*Result, error) {
	d, err := Prepare(in, s, p, invitations, progress)
	if err != nil {
		return nil, err
	}
	return d.Deal(in, progress)
}

// Deal makes the key of a new authority, has it sign its root certificate,
// shares it in two layers, tests the shares and seals them. The key exists from
// the first line that calls GenerateKey to the end of this function, in memory
// only: a crash means that nothing was dealt. Errors are ErrAuthority, and those
// of the packages it calls.
func (d *Prepared) Deal(in Inputs, progress func(string)) (*Result, error) {
	if d.row != nil {
		return nil, ErrAuthority
	}
	if progress == nil {
		progress = func(string) {}
	}
	progress("making a key")
	whole, err := threshold.GenerateKey(in.Rand, int(d.plan.Key.Bits), d.plan.Key.SafePrimes, func(tests int) {
		progress(fmt.Sprintf("making a key: %d candidates", tests))
	})
	if err != nil {
		return nil, err
	}
	return d.deal(in, whole, progress)
}

// deal takes the key and wipes it.
func (d *Prepared) deal(in Inputs, whole *threshold.WholeKey, progress func(string)) (*Result, error) {
	defer whole.Wipe()
	p := &d.plan.Key
	key := ledger.Key{
		ID: p.ID, Name: p.Name, Family: ledger.FamilyCertificate, Scheme: threshold.TwoLayer, T: d.Grouping.T,
		N: uint64(len(d.Grouping.Calculators)), Public: *whole.Public(), SafePrimes: p.SafePrimes, Epoch: 1, Algorithms: p.Algorithms,
		MaxDays: p.MaxDays, Holders: d.machines,
	}
	var err error
	key.Certificate, err = document.SignRoot(in.Rand, whole, document.Name{Organization: d.plan.Enterprise.Name, CommonName: p.Name},
		threshold.Algorithm(p.Algorithms[0]), document.Validity{NotBefore: in.Now, NotAfter: in.Now + int64(p.RootDays)*86400})
	if err != nil {
		return nil, err
	}
	if err := document.VerifyRoot(key.Certificate, &key.Public); err != nil {
		return nil, err
	}
	progress("sharing the key in two layers")
	dealt, err := twolayer.Deal(in.Rand, whole, d.Grouping)
	if err != nil {
		return nil, err
	}
	defer dealt.Wipe()
	whole.Wipe()
	return d.finish(in, key, dealt, nil, progress)
}

// Extend deals to machines that are new, and to combiners that get more
// combinations, of the reserve, which enough pieces open. It takes machines away
// as well; where that is all, reserve and pieces are nil, unless a new reserve is
// asked for. The pieces stay the caller's to wipe. Errors are ErrNoAuthority,
// ErrNoReserve, ErrReserveTampered, *ReserveError, *ForgottenError, those of share.Recover, and
// those of the packages it calls.
func (d *Prepared) Extend(in Inputs, reserve []byte, pieces []share.Piece, progress func(string)) (*Result, error) {
	if d.row == nil {
		return nil, ErrNoAuthority
	}
	if progress == nil {
		progress = func(string) {}
	}
	key := d.row.Key
	key.N, key.Holders = uint64(len(d.Grouping.Calculators)), d.machines
	if !d.NeedsReserve() {
		layers := d.fewer(key.Layers)
		return d.finish(in, key, &twolayer.Dealing{Public: layers}, nil, progress)
	}
	if len(reserve) == 0 {
		return nil, ErrNoReserve
	}
	r, err := ParseReserve(reserve)
	if err != nil {
		return nil, err
	}
	if err := d.CheckReserve(r); err != nil {
		return nil, err
	}
	progress("opening the reserve")
	opened, wrong, err := r.open(pieces)
	if err != nil {
		return nil, err
	}
	defer opened.Wipe()
	old, err := arrange(opened, d.row)
	if err != nil {
		return nil, err
	}
	old.Gone = d.gone(old)
	progress("sharing the key among more machines")
	dealt, err := old.Extend(in.Rand, d.Grouping, &key.Public)
	if err != nil {
		return nil, err
	}
	defer dealt.Wipe()
	return d.finish(in, key, dealt, wrong, progress)
}

// fewer is what remains published when machines are taken away.
func (d *Prepared) fewer(old *twolayer.Public) twolayer.Public {
	out := twolayer.Public{Grouping: d.Grouping, H: old.H}
	l := int(old.Grouping.L)
	for i, n := range old.Grouping.Calculators {
		for _, m := range d.Grouping.Calculators {
			if n == m {
				out.V = append(out.V, old.V[i*l:(i+1)*l]...)
			}
		}
	}
	return out
}

// finish checks what was dealt, makes the row, and seals the shares. dealt holds
// no shares where none is dealt.
func (d *Prepared) finish(in Inputs, key ledger.Key, dealt *twolayer.Dealing, wrong []string, progress func(string)) (*Result, error) {
	layers := dealt.Public
	key.Layers = &layers
	if err := layers.Validate(&key.Public); err != nil {
		return nil, err
	}
	if len(dealt.Combiners) > 0 {
		if err := test(&key, dealt, progress); err != nil {
			return nil, err
		}
	}
	out := &Result{Sealed: map[string][]byte{}, WrongPieces: wrong, Dealing: d.revision(in, key)}
	// What the ledger would refuse is not let out.
	if err := ledger.CheckUnconfirmed(d.state, &out.Dealing, in.Now); err != nil {
		return nil, err
	}
	digest, err := out.Dealing.Digest()
	if err != nil {
		return nil, err
	}
	progress("sealing the shares")
	if err := d.seal(out, digest, dealt); err != nil {
		out.Wipe()
		return nil, err
	}
	if d.plan.Reserve != nil {
		out.Reserve, err = makeReserve(in.Rand, d.state, &out.Dealing, digest, dealt, d.plan.Reserve.Need, d.keepers, d.remember())
		if err != nil {
			out.Wipe()
			return nil, err
		}
	}
	return out, nil
}

// revision is the row to come, of a key that has its layers.
func (d *Prepared) revision(in Inputs, key ledger.Key) ledger.Dealing {
	out := ledger.Dealing{
		Enterprise: d.plan.Enterprise, Revision: d.Revision(), Key: key, Distributors: d.plan.Distributors, Officers: d.officers,
		Operator: d.plan.Operator, Created: in.Now, Isolated: in.Isolated, Counted: d.tell(),
	}
	switch {
	case d.plan.KeepReserve:
		out.Reserve = d.row.Reserve
	case d.plan.Reserve != nil:
		out.Reserve = &ledger.Reserve{Need: d.plan.Reserve.Need}
		for _, k := range d.keepers {
			out.Reserve.Keepers = append(out.Reserve.Keepers, ledger.Keeper{Person: k.person, Card: k.card.Serial})
		}
	}
	return out
}

// rehearse shows the ledger an extension before devices are asked for
// invitations and keepers for their cards: its check values are missing yet, and
// others stand in for them.
func (d *Prepared) rehearse(in Inputs) error {
	if d.row == nil {
		return nil // there is no key yet that the ledger could look at
	}
	key, old := d.row.Key, d.row.Key.Layers
	key.N, key.Holders = uint64(len(d.Grouping.Calculators)), d.machines
	layers := d.fewer(old)
	layers.V = nil
	l := int(old.Grouping.L)
	n, x := new(big.Int).SetBytes(key.Public.N), new(big.Int).SetBytes(old.H)
	for _, c := range d.Grouping.Calculators {
		if at := slices.Index(old.Grouping.Calculators, c); at >= 0 {
			layers.V = append(layers.V, old.V[at*l:(at+1)*l]...)
			continue
		}
		for range l { // powers of h are as good as any
			x.Mul(x, new(big.Int).SetBytes(old.H)).Mod(x, n)
			layers.V = append(layers.V, x.FillBytes(make([]byte, len(key.Public.N))))
		}
	}
	key.Layers = &layers
	row := d.revision(in, key)
	return ledger.CheckUnconfirmed(d.state, &row, max(in.Now, d.state.Time()))
}

// seal seals each device that gets one its share.
func (d *Prepared) seal(out *Result, digest envelope.Hash, dealt *twolayer.Dealing) error {
	for _, h := range d.machines {
		if !d.fresh[h.Device] {
			continue
		}
		s := firmware.DealtShare{Dealing: digest, Device: h.Device, Share: h.Share, Version: h.Version, Layer: h.Layer, Number: h.Index}
		if h.Layer == ledger.LayerCalculator {
			i := indexFunc(dealt.Calculators, func(c *twolayer.CalculatorShare) bool { return c.Number == h.Index })
			s.Parts = dealt.Calculators[i].Keys
		} else {
			i := indexFunc(dealt.Combiners, func(c *twolayer.CombinerShare) bool { return c.Number == h.Index })
			s.Parts = dealt.Combiners[i].Parts
		}
		sealed, err := d.invitations[h.Device].Seal(&s)
		if err != nil {
			return fmt.Errorf("share of device %s: %w", h.Device, err)
		}
		out.Sealed[h.Device] = sealed
	}
	return nil
}

// test has every machine set sign with every combiner that serves it, in every
// combination, and checks every share against what is published: a wrong share
// is found now, not at a task.
func test(key *ledger.Key, dealt *twolayer.Dealing, progress func(string)) error {
	pub, layers := &key.Public, &dealt.Public
	digest := testDigest(pub)
	x, err := threshold.Encode(threshold.RS256, digest, nil, pub.Bits())
	if err != nil {
		return err
	}
	var powers []twolayer.Powers
	for i := range dealt.Calculators {
		c := &dealt.Calculators[i]
		progress(fmt.Sprintf("testing calculator %d", c.Number))
		if err := layers.CheckCalculator(pub, c); err != nil {
			return err
		}
		p := twolayer.Powers{Calculator: c.Number}
		for _, k := range c.Keys {
			y, err := power(pub, x, k)
			if err != nil {
				return fmt.Errorf("calculator %d: %w", c.Number, err)
			}
			p.Y = append(p.Y, y)
		}
		powers = append(powers, p)
	}
	total, done := combinations(&layers.Grouping), 0
	var first []byte
	for i, g := range layers.Grouping.Combiners {
		c := &dealt.Combiners[i]
		if err := layers.CheckCombiner(pub, c); err != nil {
			return err
		}
		for j, a := range g.Combinations {
			done++
			progress(fmt.Sprintf("test signatures: %d of %d", done, total))
			y, err := power(pub, x, c.Parts[j])
			if err != nil {
				return fmt.Errorf("combiner %d: %w", g.Number, err)
			}
			sig, err := twolayer.CombineVarTime(pub, threshold.RS256, digest, a, powers, y)
			if err != nil {
				return fmt.Errorf("test signature of combiner %d in %v: %w", g.Number, a, err)
			}
			if first == nil {
				first = sig
			} else if !bytes.Equal(sig, first) {
				return fmt.Errorf("test signature of combiner %d in %v differs from the others", g.Number, a)
			}
		}
	}
	return nil
}

func power(pub *threshold.PublicKey, x []byte, d threshold.Secret) ([]byte, error) {
	e, err := twolayer.NewExponentiator(pub, d)
	if err != nil {
		return nil, err
	}
	return twolayer.Power(pub, x, e)
}

func combinations(g *grouping.Grouping) (n int) {
	for _, c := range g.Combiners {
		n += len(c.Combinations)
	}
	return n
}

// testDigest is what the machines sign to show that their shares fit: the digest
// of 32 bytes that are themselves a hash. No certificate and no command has 32
// bytes, and nobody chooses them.
func testDigest(pub *threshold.PublicKey) []byte {
	h := envelope.HashOf("privyseal dealing test signature", pub.N)
	sum := sha256.Sum256(h[:])
	return sum[:]
}

// Confirm has the operator's card sign the dealing (B [0062]). It then is what
// the ledger takes.
func (r *Result) Confirm(rand io.Reader, now int64, s ledger.State, operator crypto.Signer) error {
	id, err := envelope.KeyIDOf(operator.Public())
	if err != nil {
		return err
	}
	if x, ok := s.Identity(id); !ok || x.Kind != ledger.OwnerPerson || x.Owner != r.Dealing.Operator || x.Use != ledger.UseSign {
		return fmt.Errorf("this is no card of %s, who confirms this dealing", r.Dealing.Operator)
	}
	if err := r.Dealing.Confirm(rand, operator, s.System(), now); err != nil {
		return err
	}
	return ledger.CheckDealing(s, &r.Dealing, now)
}
