package firmware

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// combination is a combiner's work: it makes the signatures of the powers of
// enough calculators. A piece is one of its own powers, which gives the signature of a
// document where nobody lies.
type combination struct {
	*work
	powers []twolayer.Powers
	mine   []grouping.Combination
	solver *twolayer.Solver
	search *twolayer.Search // for the next document; nil: not begun
	out    *Combined
}

// combineTask begins a combiner's work. It lets go of nothing that does not verify.
func (m *Machine) combineTask(c *ctx, in CombineTask) (*pending, error) {
	w, err := m.work(c, ledger.LayerCombiner, in.Distribution, in.Request, in.Approvals)
	if err != nil {
		return nil, err
	}
	j := &combination{work: w}
	if j.powers, err = m.powers(w, in.Powers); err != nil {
		return nil, err
	}
	k := &w.key.Key
	public, mine := w.reach()
	j.mine = mine
	j.out = &Combined{
		Enterprise: w.packet.Enterprise, Distributor: w.packet.Distributor, Task: w.packet.Task, Request: w.digest,
		Key: k.ID, Device: m.cfg.Local.ID, Share: w.holder.Share, Number: w.holder.Index, Officers: w.quorum.Officers(),
	}
	if j.solver, err = twolayer.NewSolver(&k.Public, w.checked.Algorithm(), public, w.holder.Index); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	parts, err := m.openParts(w)
	if err != nil {
		return nil, err
	}
	return &pending{work: w, job: j, parts: parts}, nil
}

func (j *combination) piece(_ *Machine, _ *ctx, parts *openParts) (last bool, err error) {
	k, n := &j.key.Key, len(j.out.Signatures)
	if j.search == nil {
		powers := twolayer.OfDocument(j.powers, n, int(k.Layers.Grouping.L))
		if j.search, err = j.solver.Begin(j.checked.Parts()[n].Digest(), powers); err != nil {
			return false, err
		}
	}
	solved, err := j.search.Try(func(i int) ([]byte, error) {
		c, err := parts.use(j.dealt.partOf(j.mine[i]))
		if err != nil {
			return nil, err
		}
		return twolayer.Power(&k.Public, j.x[n], c)
	})
	if errors.Is(err, threshold.ErrSignature) {
		err = faulty(CodePartial, fmt.Errorf("combiner %d of key %s: %w", j.holder.Index, k.ID, err))
	}
	if err != nil || solved == nil {
		return false, err
	}
	j.out.add(solved)
	j.search = nil
	return n+1 == len(j.x), nil
}

func (j *combination) finish(m *Machine, c *ctx) (any, error) {
	j.out.Given = given(j.powers, j.out.Wrong)
	body := j.body(c, j.out.Signatures...)
	body.Combinations, body.Wrong = j.out.Combinations, j.out.Wrong
	if err := c.add(recCombined, body); err != nil {
		return nil, err
	}
	j.out.Made, j.out.LogHead = c.Now, c.draft.state.head
	c.effect.Release = true
	m.made += uint64(len(j.x))
	return j.out, nil
}

// add puts in what was found for the next document. Who is wrong in one is not
// suspected in another.
func (out *Combined) add(s *twolayer.Solution) {
	out.Combinations, out.Signatures = append(out.Combinations, s.Combination), append(out.Signatures, s.Signature)
	out.Wrong = union(out.Wrong, s.Wrong)
	out.Suspects = slices.DeleteFunc(union(out.Suspects, s.Suspects), func(j uint64) bool { return slices.Contains(out.Wrong, j) })
}

// union is ascending, and nil if it is empty.
func union(a, b []uint64) []uint64 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// given are the hashes of what some calculators sent.
func given(powers []twolayer.Powers, of []uint64) []envelope.Hash {
	var out []envelope.Hash
	for _, j := range of {
		i := slices.IndexFunc(powers, func(p twolayer.Powers) bool { return p.Calculator == j })
		out = append(out, PowersHash(powers[i].Y)) // none other is ever wrong
	}
	return out
}
