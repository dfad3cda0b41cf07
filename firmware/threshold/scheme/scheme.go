package scheme

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/threshold"
)

var (
	// ErrUnknown is returned for the name of no scheme.
	ErrUnknown = errors.New("scheme: unknown")

	// ErrParams is returned for numbers that a scheme does not work with.
	ErrParams = errors.New("scheme: cannot be had")
)

// Params is what is asked of a scheme: any T of N devices sign, with a modulus of
// so many bits.
type Params struct {
	T    uint64 `json:"t"`
	N    uint64 `json:"n"`
	Bits int    `json:"bits"`
}

func (p Params) String() string { return fmt.Sprintf("%d of %d devices, %d bits", p.T, p.N, p.Bits) }

// Scheme is one way of sharing.
type Scheme interface {
	Name() string
	Paper() string    // where it is from
	SafePrimes() bool // whether the key's primes must be safe

	// Facts are what the scheme costs and promises, or ErrParams with the limit
	// that the numbers exceed. For two layers they come from a search, so that
	// they are asked for once.
	Facts(p Params) (*Facts, error)

	// Deal shares a key of p.Bits bits. It does not wipe the key.
	Deal(rand io.Reader, k *threshold.WholeKey, p Params) (*Dealing, error)
}

// All returns the family.
func All() []Scheme {
	return []Scheme{bySets{threshold.Multiplicative}, bySets{threshold.Additive}, groups{}, polynomialModM{}, polynomialOverZ{}, halfLength{}, twoLayers{}}
}

// Lookup returns the scheme of a name, or ErrUnknown.
func Lookup(name string) (Scheme, error) {
	var names []string
	for _, s := range All() {
		if s.Name() == name {
			return s, nil
		}
		names = append(names, s.Name())
	}
	return nil, fmt.Errorf("%w: %q is not one of %s", ErrUnknown, name, strings.Join(names, ", "))
}

// Dealing is a key that was shared.
type Dealing struct {
	Devices  []Device // device i is Devices[i−1]
	Combiner Combiner
}

// Task is what is to be signed.
type Task struct {
	Algorithm  threshold.Algorithm
	Digest, EM []byte
	// Set is who signs. Facts.Synchronised says whether a device has to know it; the
	// other schemes take no notice.
	Set threshold.Subset
	// Binding says what proofs are about: system, key, epoch, request. The rest is
	// set here.
	Binding threshold.Binding
}

// Partial is what one device sends. Values are min(y, N − y), |N| bytes each; of
// one proof for each, or none.
type Partial struct {
	Index  uint64
	Values [][]byte
	Proofs []*threshold.Proof
}

// Device is one device with its share.
type Device interface {
	Index() uint64
	// Partial exponentiates x: what Combiner.Next returned. In constant time.
	Partial(task *Task, x []byte) (*Partial, error)
	// Prove adds proofs to the device's own partial signature of x. position counts
	// from 0 in a sequence.
	Prove(rand io.Reader, task *Task, x []byte, p *Partial, position int) error
	// Size is the length of the share's secret numbers in bytes.
	Size() int
	Wipe()
}

// Combiner is whoever combines. In two layers he holds secrets, else nothing.
type Combiner interface {
	// Next returns what the next device exponentiates after these partial
	// signatures: the encoded message or, in a sequence, the last one's value. It
	// is the device itself that must ask this, of what it verified: it returns
	// WrongPartialError unless the proofs hold. The last device of a sequence
	// needs no proofs, as it verifies the signature.
	Next(task *Task, before []*Partial) ([]byte, error)
	// Combine makes the signature from partial signatures of t devices, in a
	// sequence in the order in which they were made, and verifies it. Errors wrap
	// threshold.ErrSubset for the wrong devices, WrongPartialError for values out
	// of range, threshold.ErrSignature if something else is wrong.
	Combine(task *Task, partials []*Partial) ([]byte, error)
	// Blame verifies proofs and returns a WrongPartialError that names the devices
	// whose proofs do not hold or are missing; of a sequence, the first.
	Blame(task *Task, partials []*Partial) error
	Size() int
	Wipe()
}

// Wipe erases all shares.
func (d *Dealing) Wipe() {
	for _, x := range d.Devices {
		x.Wipe()
	}
	d.Combiner.Wipe()
}

// Sign lets the devices of task.Set sign, in ascending order, with the proofs that
// a sequence demands.
func (d *Dealing) Sign(rand io.Reader, task *Task) ([]byte, error) {
	var made []*Partial
	for position, i := range task.Set.Indices() {
		if i > uint64(len(d.Devices)) {
			return nil, fmt.Errorf("%w: share %d of %d", threshold.ErrSubset, i, len(d.Devices))
		}
		x, err := d.Combiner.Next(task, made)
		if err != nil {
			return nil, err
		}
		p, err := d.Devices[i-1].Partial(task, x)
		if err != nil {
			return nil, err
		}
		if s, ok := d.Combiner.(sequence); ok && s.needsProof(position) {
			if err := d.Devices[i-1].Prove(rand, task, x, p, position); err != nil {
				return nil, err
			}
		}
		made = append(made, p)
	}
	return d.Combiner.Combine(task, made)
}

// sequence is a Combiner of signatures made one after the other.
type sequence interface{ needsProof(position int) bool }

// signatures are partial signatures as package threshold has them, for a set or
// (0) for all.
func signatures(set threshold.Subset, partials []*Partial) ([]threshold.PartialSignature, error) {
	var out []threshold.PartialSignature
	for _, p := range partials {
		if p == nil || len(p.Values) != 1 || len(p.Proofs) > 1 {
			return nil, fmt.Errorf("%w: one value of each device", threshold.ErrSubset)
		}
		s := threshold.PartialSignature{Index: p.Index, Share: shareID(p.Index), Subset: set, Value: p.Values[0]}
		if len(p.Proofs) == 1 {
			s.Proof = p.Proofs[0]
		}
		out = append(out, s)
	}
	return out, nil
}

func shareID(index uint64) string { return fmt.Sprintf("share %d", index) }

// value is a device's one power of x.
func value(pub *threshold.PublicKey, index uint64, x []byte, e threshold.Exponentiator, err error) (*Partial, error) {
	if err != nil {
		return nil, err
	}
	y, err := threshold.Partial(pub, x, e)
	if err != nil {
		return nil, err
	}
	return &Partial{Index: index, Values: [][]byte{y}}, nil
}

// own checks that a device proves a value of its own.
func own(index uint64, p *Partial, values int) error {
	if p == nil || p.Index != index || len(p.Values) != values {
		return fmt.Errorf("%w: not of share %d", threshold.ErrSubset, index)
	}
	return nil
}

// check refuses what no scheme takes.
func (p Params) check() error {
	if p.T < 1 || p.T > p.N || p.N > threshold.MaxDevices {
		return fmt.Errorf("%w: %d of %d devices; need 1 ≤ t ≤ n ≤ %d", ErrParams, p.T, p.N, threshold.MaxDevices)
	}
	if !slices.Contains([]int{2048, 3072, 4096}, p.Bits) {
		return fmt.Errorf("%w: %d bits; need 2048, 3072 or 4096", ErrParams, p.Bits)
	}
	return nil
}

// fits checks a key against what was asked.
func (p Params) fits(k *threshold.WholeKey) error {
	if err := p.check(); err != nil {
		return err
	}
	if bits := k.Public().Bits(); bits != p.Bits {
		return fmt.Errorf("%w: a key of %d bits for %d", ErrParams, bits, p.Bits)
	}
	return nil
}
