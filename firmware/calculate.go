package firmware

import (
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// calculation is a calculator's work: what is signed is raised to each of its
// sub-keys, for each document. A piece is one power, with its proof.
type calculation struct {
	*work
	prove   bool
	binding threshold.Binding
	l       int               // sub-keys
	bases   []*threshold.Base // of documents; each checked once for all sub-keys
	out     *Powers
	next    int
}

// powersTask begins a calculator's work, in the order of design.md §5.2 as task
// does.
func (m *Machine) powersTask(c *ctx, in PowersTask) (*pending, error) {
	w, err := m.work(c, ledger.LayerCalculator, in.Distribution, in.Request, in.Approvals)
	if err != nil {
		return nil, err
	}
	k := &w.key.Key
	j := &calculation{work: w, prove: in.Prove, l: int(k.Layers.Grouping.L), bases: make([]*threshold.Base, len(w.x)), out: &Powers{
		Enterprise: w.packet.Enterprise, Distributor: w.packet.Distributor, Task: w.packet.Task, Request: w.digest, Hash: w.packet.Hash,
		Key: k.ID, Device: m.cfg.Local.ID, Share: w.holder.Share, Number: w.holder.Index, Officers: w.quorum.Officers(),
	}}
	j.out.Y = make([][]byte, len(w.x)*j.l)
	if in.Prove {
		j.out.Proofs = make([]*threshold.Proof, len(j.out.Y))
		j.binding = PowersBinding(m.state.ledger, k, w.digest, w.holder.Share)
	}
	parts, err := m.openParts(w)
	if err != nil {
		return nil, err
	}
	if parts.Len() != j.l {
		return nil, refuse(CodeShare, "share %s has %d sub-keys, not %d", w.holder.Share, parts.Len(), j.l)
	}
	return &pending{work: w, job: j, parts: parts}, nil
}

// piece takes one sub-key after the other, each for all documents.
func (j *calculation) piece(_ *Machine, c *ctx, parts *openParts) (last bool, err error) {
	i, n := j.next/len(j.x), j.next%len(j.x)
	k, x := &j.key.Key, j.x[n]
	if j.bases[n] == nil {
		if j.bases[n], err = threshold.NewBase(&k.Public, x); err != nil {
			return false, faulty(CodeRequest, err)
		}
	}
	d, err := parts.use(i + 1)
	if err != nil {
		return false, err
	}
	at := n*j.l + i
	if j.out.Y[at], err = j.bases[n].Partial(d); err != nil {
		return false, err
	}
	if j.prove {
		term := grouping.Term{Calculator: j.holder.Index, Key: uint64(i + 1)}
		if j.out.Proofs[at], err = twolayer.Prove(c.Rand, &k.Public, k.Layers, j.binding, term, x, j.out.Y[at], d.Secret()); err != nil {
			return false, err
		}
	}
	j.next++
	return j.next == len(j.out.Y), nil
}

func (j *calculation) finish(m *Machine, c *ctx) (any, error) {
	if err := c.add(recPowers, j.body(c, j.out.Y...)); err != nil {
		return nil, err
	}
	j.out.Made, j.out.LogHead = c.Now, c.draft.state.head
	c.effect.Release = true
	m.made += uint64(len(j.x))
	return j.out, nil
}
