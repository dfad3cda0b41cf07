package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// work is a task of an authority in two layers that passed every check that
// needs no share.
type work struct {
	agreed
	packet *Distribution
	dealt  *dealtShare // that its one-time key was made for
	x      [][]byte    // what to exponentiate, for each document, |N| bytes
}

// workBody is the record of what a machine did for a task. It makes the task's
// number taken.
type workBody struct {
	Enterprise  uint64        `cbor:"1,keyasint"`
	Distributor uint64        `cbor:"2,keyasint"`
	Task        uint64        `cbor:"3,keyasint"`
	Until       int64         `cbor:"4,keyasint"` // the number may serve another request from then on
	Request     envelope.Hash `cbor:"5,keyasint"`
	Key         string        `cbor:"6,keyasint"`
	Share       string        `cbor:"7,keyasint"`
	Version     uint64        `cbor:"8,keyasint"`
	Document    envelope.Hash `cbor:"9,keyasint"`  // of the hash to be signed
	Y           envelope.Hash `cbor:"10,keyasint"` // of the powers, or of the signatures; neither is stored
	Officers    []string      `cbor:"11,keyasint"`
	// Combinations that gave the signatures, and calculators that were found wrong;
	// a combiner's.
	Combinations []grouping.Combination `cbor:"12,keyasint,omitempty"`
	Wrong        []uint64               `cbor:"13,keyasint,omitempty"`
}

// work checks a task for a machine of a layer without touching its share.
func (m *Machine) work(c *ctx, layer uint64, distribution, request []byte, approvals [][]byte) (*work, error) {
	if err := m.leased(c); err != nil {
		return nil, err
	}
	a, err := m.acceptable(c, request)
	if err != nil {
		return nil, err
	}
	switch {
	case a.key.Scheme != threshold.TwoLayer || a.key.Layers == nil:
		return nil, refuse(CodeTask, "key %s is not shared in two layers: it has neither calculators nor combiners", a.key.ID)
	case a.holder.Layer != layer:
		return nil, refuse(CodeTask, "device %s is %s %d of key %s and does no work of a %s",
			m.cfg.Local.ID, layerName(a.holder.Layer), a.holder.Index, a.key.ID, layerName(layer))
	}
	w := &work{agreed: agreed{asked: a}}
	if w.packet, err = m.packet(c, a, distribution); err != nil {
		return nil, err
	}
	if w.offer, err = m.offerFor(c, a); err != nil {
		return nil, err
	}
	if w.dealt = c.draft.state.dealtBy(w.offer.dealing); w.dealt == nil {
		return nil, refuse(CodeShare, "share %s, for which officers were asked, is not in device %s any more", a.holder.Share, m.cfg.Local.ID)
	}
	if w.x, err = a.checked.EncodedMessages(a.digest); err != nil {
		return nil, faulty(CodeRequest, err)
	}
	if w.quorum, err = m.quorum(c, a, approvals, nil); err != nil {
		return nil, faulty(CodeQuorum, err)
	}
	return w, nil
}

// packet verifies a task packet, and that it is about this request: M, which it
// brings, has to be the device's own hash of the document (B [0110]).
func (m *Machine) packet(c *ctx, a *asked, raw []byte) (*Distribution, error) {
	s := m.state.ledger
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, faulty(CodeTask, fmt.Errorf("task packet: %w", err))
	}
	// First: what a device that is behind does not know may be the distributor.
	if err := m.knows(u.Header().LedgerHead); err != nil {
		return nil, err
	}
	p, err := VerifyDistribution(s, raw, c.Now)
	var expired *envelope.ExpiredError
	switch {
	case errors.As(err, &expired):
		return nil, faulty(CodeExpired, err)
	case err != nil:
		return nil, faulty(CodeTask, err)
	}
	name := fmt.Sprintf("task %d of distributor %d of enterprise %d", p.Task, p.Distributor, p.Enterprise)
	switch {
	case u.Header().Key != a.key.ID: // the packet's is its enterprise's
		return nil, refuse(CodeTask, "%s: key %s is another enterprise's", name, a.key.ID)
	case p.Request != a.digest:
		return nil, refuse(CodeTask, "%s: is for request %s, not for %s", name, p.Request, a.digest)
	case !bytes.Equal(p.Hash, a.checked.Digest()):
		return nil, refuse(CodeTask, "%s: its hash is not that of the document", name)
	case p.Documents != uint64(len(a.checked.Parts())):
		return nil, refuse(CodeTask, "%s: is about %d documents, the request has %d", name, p.Documents, len(a.checked.Parts()))
	}
	tasks := c.draft.state.tasks
	taken, ok := tasks.find(taskID{p.Enterprise, p.Distributor, p.Task}, c.Now)
	switch {
	case ok && taken.request != a.digest:
		return nil, refuse(CodeTask, "%s: device %s worked under this number for request %s", name, m.cfg.Local.ID, taken.request)
	case !ok && tasks.full(c.Now):
		return nil, refuse(CodeTask, "%s: device %s worked on %d tasks within two days and remembers no more", name, m.cfg.Local.ID, maxTasks)
	}
	return p, nil
}

// powers verifies the messages that a combiner is given: each by its
// calculator's token, for this very task. Those of calculators that were taken
// away since are passed over.
func (m *Machine) powers(w *work, raws [][]byte) ([]twolayer.Powers, error) {
	k := &w.key.Key
	if len(raws) > grouping.MaxCalculators {
		return nil, refuse(CodeMessage, "powers of %d calculators, at most %d", len(raws), grouping.MaxCalculators)
	}
	var out []twolayer.Powers
	for _, raw := range raws {
		if m.left(k, raw) {
			continue
		}
		p, err := VerifyPowers(m.state.ledger, k, w.packet, raw)
		if err != nil {
			return nil, faulty(CodePartial, err)
		}
		if slices.ContainsFunc(out, func(x twolayer.Powers) bool { return x.Calculator == p.Number }) {
			return nil, refuse(CodeMessage, "powers of calculator %d come twice", p.Number)
		}
		out = append(out, twolayer.Powers{Calculator: p.Number, Y: p.Y})
	}
	if n := uint64(len(out)); n < k.T {
		return nil, refuse(CodeMessage, "powers of %d calculators of key %s, %d to %d are needed", n, k.ID, k.T, k.N)
	}
	return out, nil
}

// left reports whether a message names as its signer a machine that the key had
// and has no more. Nothing is believed for it.
func (m *Machine) left(k *ledger.Key, raw []byte) bool {
	u, err := envelope.Parse(raw)
	if err != nil {
		return false
	}
	s := m.state.ledger
	d, ok := s.DeviceOfKey(u.Header().Signer)
	if !ok || !s.WasMachine(k.ID, d.ID) {
		return false
	}
	_, is := s.HolderOf(k.ID, d.ID)
	return !is
}

// reach is the sharing without what this combiner's share has no part for: the
// share may be an older or a newer one than the ledger's row. mine are the
// combinations that are left to it.
func (w *work) reach() (*twolayer.Public, []grouping.Combination) {
	p := *w.key.Layers
	p.Grouping.Combiners = slices.Clone(p.Grouping.Combiners)
	var mine []grouping.Combination
	for i := range p.Grouping.Combiners {
		g := &p.Grouping.Combiners[i]
		if g.Number != w.holder.Index {
			continue
		}
		for _, c := range g.Combinations {
			if w.dealt.partOf(c) != 0 {
				mine = append(mine, c)
			}
		}
		g.Combinations = mine
	}
	return &p, mine
}

// body is the record of what was done; results are what leaves the device.
func (w *work) body(c *ctx, results ...[]byte) workBody {
	return workBody{
		Enterprise: w.packet.Enterprise, Distributor: w.packet.Distributor, Task: w.packet.Task,
		Until:   max(c.Now+TaskPeriod, w.packet.Expires),
		Request: w.digest, Key: w.key.ID, Share: w.holder.Share, Version: w.dealt.Version,
		Document: envelope.HashOf("privyseal document", w.checked.Digest()),
		Y:        envelope.HashOf("privyseal powers", results...), Officers: w.quorum.Officers(),
	}
}
