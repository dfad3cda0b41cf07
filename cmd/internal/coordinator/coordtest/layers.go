package coordtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Faults of calculators and combiners, besides Random, Zero, Negated, OtherInput
// and BadProof of all.
const (
	Equivocal    Fault = "equivocal"     // calculator: other powers each time
	Repentant    Fault = "repentant"     // calculator: wrong powers, and right ones when it has to prove them
	SwappedKeys  Fault = "swapped keys"  // calculator: its powers in another order
	FalseAccuser Fault = "false accuser" // combiner: a right signature, and says that all calculators were wrong
	Suspecter    Fault = "suspecter"     // combiner: a right signature, and suspects all calculators
	Forger       Fault = "forger"        // combiner: a signature that does not verify
	Helpless     Fault = "helpless"      // combiner: says that it finds no signature
)

// layered is what a device keeps as calculator or combiner.
type layered struct {
	authorities map[string]*ledgertest.Authority // by key id
	numbers     map[[3]uint64]envelope.Hash
}

// Join gives a device its shares of an authority, or of a later revision of it.
func (d *Device) Join(a *ledgertest.Authority) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.layers.authorities == nil {
		d.layers = layered{map[string]*ledgertest.Authority{}, map[[3]uint64]envelope.Hash{}}
	}
	d.layers.authorities[a.Dealing.Key.ID] = a
}

// work checks what a real machine checks of a task. A refusal code means that a
// real one would refuse, as it may happen; what no desk may send fails the test.
func (d *Device) work(layer uint64, distribution, request, offer []byte, approvals [][]byte) (*accepted, *firmware.Distribution, string) {
	d.tasks++
	a := d.accept(request)
	if a.holder.Share == "" {
		return a, nil, firmware.CodeShare
	}
	dist, err := firmware.VerifyDistribution(d.sys.State, distribution, d.now())
	if err != nil {
		d.t.Errorf("device %s was sent a task that nobody distributes: %v", d.ID, err)
		return a, nil, firmware.CodeTask
	}
	e, ok := d.sys.State.EnterpriseOf(a.key.ID)
	if !ok || e.Enterprise.Code != dist.Enterprise || a.holder.Layer != layer || dist.Request != a.digest || !bytes.Equal(dist.Hash, a.checked.Digest()) {
		d.t.Errorf("device %s was sent a task that is not its own: %+v", d.ID, dist)
		return a, nil, firmware.CodeTask
	}
	number := [3]uint64{dist.Enterprise, dist.Distributor, dist.Task}
	if used, ok := d.layers.numbers[number]; ok && used != a.digest {
		return a, nil, firmware.CodeTask
	}
	d.layers.numbers[number] = a.digest
	if o := d.offers[a.digest]; o == nil || !bytes.Equal(o.raw, offer) {
		return a, nil, firmware.CodeOffer
	}
	about := approval.Request{Digest: a.digest, Key: a.key.ID, Epoch: a.key.Epoch, Requester: a.req.Requester, Signer: a.signer, Created: a.req.Created, Expires: a.req.Expires}
	if _, err := approval.VerifySet(d.sys.State, about, d.ID, approvals, d.now()); err != nil {
		d.t.Errorf("device %s was sent a task without its quorum: %v", d.ID, err)
		return a, nil, firmware.CodeQuorum
	}
	if d.closed[a.digest] {
		return a, nil, firmware.CodeClosed
	}
	return a, dist, ""
}

func (d *Device) powersTask(in firmware.PowersTask) (string, any, bool) {
	a, dist, code := d.work(ledger.LayerCalculator, in.Distribution, in.Request, in.Offer, in.Approvals)
	switch {
	case code != "":
		return d.refuse(a.digest, code, "not now")
	case d.Fault == Refuser:
		return d.refuse(a.digest, firmware.CodeShare, "the share cannot be opened")
	case d.Fault == NoProof && in.Prove:
		return d.refuse(a.digest, firmware.CodeInternal, "cannot prove")
	}
	share := d.layers.authorities[a.key.ID].Calculators[a.holder.Index]
	out := firmware.Powers{
		Enterprise: dist.Enterprise, Distributor: dist.Distributor, Task: dist.Task, Request: a.digest, Hash: dist.Hash, Key: a.key.ID,
		Device: d.ID, Share: a.holder.Share, Number: a.holder.Index, Officers: []string{}, Made: d.now(),
	}
	for n, x := range a.xs {
		for i, s := range share.Keys {
			right := power(d.t, &a.key, x, s)
			if d.Fault == Repentant && in.Prove || !d.lies(n) {
				out.Y = append(out.Y, right)
			} else {
				out.Y = append(out.Y, d.wrongPower(a, share, x, i, right))
			}
			if !in.Prove {
				continue
			}
			p := d.prove(a, x, i, right, s)
			if d.Fault == BadProof && d.lies(n) {
				p.Z[len(p.Z)-1] ^= 1
			}
			out.Proofs = append(out.Proofs, p)
		}
	}
	return firmware.TypePowers, out, true
}

// prove proves a power. Tests demand the same proofs over and over.
func (d *Device) prove(a *accepted, x []byte, i int, y []byte, key threshold.Secret) *threshold.Proof {
	name := envelope.HashOf("coordtest proof", a.digest[:], []byte(a.holder.Share), x, y)
	made, ok := proofsMade.Load(name)
	if !ok {
		b := firmware.PowersBinding(d.sys.State, &a.key, a.digest, a.holder.Share)
		term := grouping.Term{Calculator: a.holder.Index, Key: uint64(i + 1)}
		p, err := twolayer.Prove(rand.Reader, &a.key.Public, a.key.Layers, b, term, x, y, key)
		if err != nil {
			d.t.Error(err)
			return nil
		}
		proofsMade.Store(name, p)
		made = p
	}
	p := *made.(*threshold.Proof)
	p.Z = bytes.Clone(p.Z)
	return &p
}

// wrongPower is what a faulty calculator gives in place of y.
func (d *Device) wrongPower(a *accepted, share twolayer.CalculatorShare, x []byte, i int, y []byte) []byte {
	n := new(big.Int).SetBytes(a.key.Public.N)
	switch d.Fault {
	case Random, NoProof, Equivocal, Repentant:
		r, _ := rand.Int(rand.Reader, new(big.Int).Rsh(n, 1))
		if d.Fault != Equivocal { // the same each time
			h := sha256.Sum256(append(bytes.Clone(y), "random"...))
			r.SetBytes(bytes.Repeat(h[:], len(y)/len(h))).Rsh(r, 2)
		}
		return r.FillBytes(make([]byte, len(y)))
	case Zero, Negated, OtherInput:
		return d.wrongValue(&a.key, y, func(em []byte) []byte { return power(d.t, &a.key, em, share.Keys[i]) })
	case SwappedKeys:
		return power(d.t, &a.key, x, share.Keys[len(share.Keys)-1-i])
	}
	return y
}

func (d *Device) combineTask(in firmware.CombineTask) (string, any, bool) {
	a, dist, code := d.work(ledger.LayerCombiner, in.Distribution, in.Request, in.Offer, in.Approvals)
	switch {
	case code != "":
		return d.refuse(a.digest, code, "not now")
	case d.Fault == Refuser:
		return d.refuse(a.digest, firmware.CodeShare, "the share cannot be opened")
	case d.Fault == Helpless:
		return d.refuse(a.digest, firmware.CodePartial, "no combination gives a signature")
	}
	var powers []twolayer.Powers
	var all []uint64
	for _, raw := range in.Powers {
		p, err := firmware.VerifyPowers(d.sys.State, &a.key, dist, raw)
		if err != nil && d.takenAway(a, raw) {
			return d.refuse(a.digest, firmware.CodePartial, err.Error())
		}
		if err != nil {
			d.t.Errorf("combiner %s was sent strange powers: %v", d.ID, err)
			continue
		}
		powers, all = append(powers, twolayer.Powers{Calculator: p.Number, Y: p.Y}), append(all, p.Number)
	}
	out := firmware.Combined{
		Enterprise: dist.Enterprise, Distributor: dist.Distributor, Task: dist.Task, Request: a.digest, Key: a.key.ID,
		Device: d.ID, Share: a.holder.Share, Number: a.holder.Index, Wrong: []uint64{}, Officers: []string{}, Made: d.now(),
	}
	share := d.layers.authorities[a.key.ID].Combiners[a.holder.Index]
	wrong, suspects := map[uint64]bool{}, map[uint64]bool{}
	for n, part := range a.checked.Parts() {
		s, err := twolayer.Solve(&a.key.Public, part.Algorithm(), part.Digest(), a.key.Layers, a.holder.Index, twolayer.OfDocument(powers, n, int(a.key.Layers.Grouping.L)), func(i int) ([]byte, error) {
			return power(d.t, &a.key, a.xs[n], share.Parts[i]), nil
		})
		if err != nil && !errors.Is(err, threshold.ErrSignature) {
			d.t.Errorf("combiner %s: %v", d.ID, err)
		}
		if err != nil {
			return d.refuse(a.digest, firmware.CodePartial, err.Error())
		}
		if (d.Fault == Forger || d.Fault == Random) && d.lies(n) {
			s.Signature[len(s.Signature)-1] ^= 1
		}
		out.Combinations, out.Signatures = append(out.Combinations, s.Combination), append(out.Signatures, s.Signature)
		for _, j := range s.Wrong {
			wrong[j] = true
		}
		for _, j := range s.Suspects {
			suspects[j] = true
		}
	}
	maps.DeleteFunc(suspects, func(j uint64, _ bool) bool { return wrong[j] })
	out.Wrong, out.Suspects = slices.AppendSeq(out.Wrong, maps.Keys(wrong)), slices.Sorted(maps.Keys(suspects))
	slices.Sort(out.Wrong)
	if d.Fault == FalseAccuser {
		out.Wrong, out.Suspects = all, nil
	}
	if d.Fault == Suspecter {
		out.Wrong, out.Suspects = []uint64{}, all
	}
	for _, j := range out.Wrong {
		for _, p := range powers {
			if p.Calculator == j {
				out.Given = append(out.Given, firmware.PowersHash(p.Y))
			}
		}
	}
	return firmware.TypeCombined, out, true
}

// takenAway reports whether powers are of a calculator that the desk does not
// know to be gone yet.
func (d *Device) takenAway(a *accepted, raw []byte) bool {
	u, err := envelope.Parse(raw)
	if err != nil {
		return false
	}
	row, _ := d.sys.State.DeviceOfKey(u.Header().Signer)
	_, ok := d.sys.State.HolderOf(a.key.ID, row.ID)
	return !ok
}

// power is x^d as it travels. Tests raise the same over and over.
func power(t testing.TB, k *ledger.Key, x []byte, d threshold.Secret) []byte {
	key := envelope.HashOf("coordtest power", k.Public.N, x, d.Reveal())
	if y, ok := powersMade.Load(key); ok {
		return bytes.Clone(y.([]byte))
	}
	e, err := twolayer.NewExponentiator(&k.Public, d)
	if err != nil {
		t.Error(err)
		return nil
	}
	y, err := twolayer.Power(&k.Public, x, e)
	if err != nil {
		t.Error(err)
	}
	powersMade.Store(key, y)
	return bytes.Clone(y)
}

var powersMade, proofsMade sync.Map

// LayersRequest is a request of the program for a certificate of an authority in
// two layers. Without devices the route has all its machines.
func LayersRequest(t testing.TB, sys *ledgertest.System, a *ledgertest.Authority, now, life int64, devices ...string) []byte {
	t.Helper()
	return certificateRequest(t, sys, a.Dealing.Key, ledgertest.Program, sys.Persons[ledgertest.Program].Software, "set", now, life, devices...)
}

// BatchRequest is one for a batch of n certificates.
func BatchRequest(t testing.TB, sys *ledgertest.System, a *ledgertest.Authority, n int, alg threshold.Algorithm, now, life int64, devices ...string) []byte {
	t.Helper()
	if len(devices) == 0 {
		for _, h := range a.Dealing.Key.Holders {
			devices = append(devices, h.Device)
		}
	}
	r := document.Request{
		Key: a.Dealing.Key.ID, Epoch: a.Dealing.Key.Epoch, Algorithm: alg, Kind: document.KindCertificates,
		Route:     document.Route{Mode: document.ModeParallel, Approvals: document.ApprovalsSet, Devices: devices},
		Requester: ledgertest.Program, Created: now, Expires: now + life,
	}
	for i := range n {
		r.Batch = append(r.Batch, draft(t, a.Dealing.Key, fmt.Sprintf("www%d.example.org", i+1), alg, now))
	}
	return SignRequest(t, sys, sys.Persons[ledgertest.Program].Software, r)
}
