package firmware

import (
	"crypto/ecdh"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
)

// Work on a batch takes seconds, and a device that hears no beat for so long loses
// its lease. So it is done in pieces of one exponentiation: [Effects.More] says
// that there is another one, and between two of them whoever has the machine hands
// it what may not wait. The share stays open meanwhile, in locked memory, and with
// it only what is told apart from other work here:
//
//   - one task is under way at a time, and until it is answered no other message
//     opens a share;
//   - each piece looks again at all that may have changed since the one before;
//   - whatever takes the one-time key takes the open share with it, in that step;
//   - nothing is recorded or answered before the last piece. A crash leaves no
//     trace, and the same task can be asked for again.

// job is what a machine makes of its open share for a task.
type job interface {
	// piece does the next part of it and reports whether it was the last.
	piece(m *Machine, c *ctx, parts *openParts) (last bool, err error)
	// finish adds the record to what is the newest state by now, and returns the
	// answer.
	finish(m *Machine, c *ctx) (answer any, err error)
}

// pending is work that was begun and is not answered.
type pending struct {
	*work
	job   job        // nil: the work has ended
	parts *openParts // nil: the share is erased

	message *envelope.Verified // that is to be answered
	to      *ecdh.PublicKey
	typ     string // of the answer
}

// end erases the share and drops what was made. That the work ended is said by the
// next piece, with the reason that there is by then.
func (p *pending) end() {
	if p == nil || p.parts == nil {
		return
	}
	p.parts.close()
	p.parts, p.job = nil, nil
}

// Continue does the next piece of what is under way; nothing if nothing is. It is
// called after a step that says More, when what may not wait was handed over, until
// a step says so no more.
func (m *Machine) Continue(in Inputs) Effects {
	var e Effects
	if m.pending == nil {
		return e
	}
	// Not step: it looks at every one-time key, and a piece at its own.
	c := m.begin(in, &e)
	if err := m.lapse(c); err != nil {
		c.note(err.Error())
	}
	c.asked = m.pending.message.Header()
	m.proceed(c)
	return m.end(c)
}

// proceed does a piece, and answers if it was the last or there may be none.
func (m *Machine) proceed(c *ctx) {
	p, before := m.pending, c.draft
	answer, err := m.piece(c, p)
	if err == nil && answer == nil {
		return
	}
	p.end() // before anything is said
	m.pending = nil
	m.reply(c, p.message, p.to, before, p.typ, answer, err)
}

// piece returns the answer after the last one.
func (m *Machine) piece(c *ctx, p *pending) (any, error) {
	if err := m.mayGoOn(c, p); err != nil {
		return nil, err
	}
	last, err := p.job.piece(m, c, p.parts)
	if err != nil || !last {
		return nil, faulty(CodeInternal, err)
	}
	return p.job.finish(m, c)
}

// mayGoOn looks again at what allowed the work to begin and does not hold by
// itself, in the order in which a task is refused for it. That the offer is the same
// says that the device is the same instance: it goes with the instance.
func (m *Machine) mayGoOn(c *ctx, p *pending) error {
	if m.Phase() != PhaseReady {
		return m.wrongPhase()
	}
	if err := m.leased(c); err != nil {
		return err
	}
	if err := m.isOpen(p.digest); err != nil {
		return err
	}
	if now := m.state.ledger.Head(); now != p.head {
		return refuse(CodeLedger, "the ledger grew to %s while device %s worked for request %s: ask again", now, m.cfg.Local.ID, p.digest)
	}
	if until := p.checked.HoldsUntil(); until != 0 && c.Now >= until {
		return refuse(CodeExpired, "request %s, or a document in it, ended while device %s worked for it", p.digest, m.cfg.Local.ID)
	}
	if o, err := m.standing(c, p.asked); err != nil {
		return err
	} else if o != p.offer || p.parts == nil {
		return noOffer(p.asked)
	}
	return nil
}

// forsake ends the work if its one-time key is gone.
func (m *Machine) forsake() {
	if p := m.pending; p != nil && m.offers[offerKey{p.digest, p.holder.Share}] != p.offer {
		p.end()
	}
}

// opensShare reports whether a device opens its share, or takes another, for a
// message of a type.
func opensShare(typ string) bool {
	switch typ {
	case TypeTask, TypeCheckAsk, TypePowersTask, TypeCombineTask, TypeDeal:
		return true
	}
	return false
}

// unoccupied refuses to open a share beside the one that is open.
func (m *Machine) unoccupied(typ string) error {
	if m.pending == nil || !opensShare(typ) {
		return nil
	}
	return refuse(CodeBusy, "device %s works for request %s: ask again when it has answered", m.cfg.Local.ID, m.pending.digest)
}

// openParts is a share in use, with the one part in memory that was used last:
// documents of a batch use the same one after the other. Parts are used in the
// host: a token could not raise to half a length in half the time, and makes no
// proofs.
type openParts struct {
	*share.Parts
	last int                 // counted from 1
	d    *share.HostExponent // nil: none
}

// openParts opens the share with the officers' pieces. That counts as an answer to
// the request, whatever becomes of it.
func (m *Machine) openParts(w *work) (*openParts, error) {
	facts := w.dealt.facts(&w.key.Key)
	stored, officers, err := m.openStored(&w.agreed, slotObject(w.dealt.Slot), facts)
	if err != nil {
		return nil, err
	}
	defer officers.Wipe()
	parts, err := stored.OpenParts(m.cfg.Token.Shares(false), m.cfg.Memory, facts, officers)
	if err != nil {
		return nil, faulty(CodeShare, err)
	}
	return &openParts{Parts: parts}, nil
}

// use gives a part, counted from 1, until another is asked for.
func (p *openParts) use(part int) (_ *share.HostExponent, err error) {
	if p.d != nil && p.last == part {
		return p.d, nil
	}
	p.close()
	if p.d, err = p.Exponent(part); err != nil {
		return nil, faulty(CodeShare, err)
	}
	p.last = part
	return p.d, nil
}

func (p *openParts) close() {
	if p.d != nil {
		p.d.Close()
		p.d = nil
	}
}
