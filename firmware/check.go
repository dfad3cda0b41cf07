package firmware

import (
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// check is a commit-and-open check between its two steps: the device has
// raised the challenge to its sub-share and committed to the result, and gives
// it away only when it has seen how the challenge was made. Until then it
// would be an oracle for any value.
type check struct {
	held  *threshold.HeldAnswer
	key   *ledger.Key
	index uint64
	x     []byte // what the partial signature in question was made of
}

// checkAsk is the first step: everything that a task needs, and the challenge.
func (m *Machine) checkAsk(c *ctx, in CheckAsk) (*CheckCommit, error) {
	t, err := m.attempt(c, in.Task)
	if err != nil {
		return nil, err
	}
	if t.last() {
		// The last place of a chain advances a value that nobody proved, and
		// nobody needs a proof, since it verifies the signature before it lets
		// go of it. An answer here would let go of w = x² for an x of the
		// device before: from the square of a signature and its encoded
		// message follows the signature (e is odd), of whatever x was made of.
		return nil, refuse(CodeMessage, "device %s has the last place of the chain: it verifies the signature itself, there is nothing to check", m.cfg.Local.ID)
	}
	out := &CheckCommit{Request: t.digest, Index: t.holder.Index}
	k := &check{key: &t.key.Key, index: t.holder.Index, x: t.x}
	err = m.useShare(c, t, func(e threshold.Exponentiator, _ *threshold.Secret) error {
		out.Commit, k.held, err = threshold.CommitAnswer(c.Rand, &t.key.Public, m.binding(t, in.Task.Position), k.index, &in.Challenge, e)
		return faulty(CodeMessage, err)
	})
	if err != nil {
		return nil, err
	}
	if err := c.add(recCheck, m.partialBody(t, out.Commit)); err != nil {
		return nil, err
	}
	m.checks[offerKey{t.digest, t.holder.Share}] = k
	c.effect.Release = true
	return out, nil
}

// checkOpen is the second step. A check opens once, whatever comes of it.
func (m *Machine) checkOpen(c *ctx, in CheckOpen) (*CheckAnswer, error) {
	for id, k := range m.checks {
		if id.request != in.Request {
			continue
		}
		delete(m.checks, id)
		answer, err := k.held.Release(&k.key.Commitment, k.x, &in.Opening)
		if err != nil {
			return nil, faulty(CodeMessage, err)
		}
		c.effect.Release = true
		return &CheckAnswer{Request: in.Request, Index: k.index, Answer: *answer}, nil
	}
	return nil, refuse(CodeMessage, "no check of request %s is open here", in.Request)
}
