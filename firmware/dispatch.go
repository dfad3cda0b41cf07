package firmware

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// dispatch hands a verified message to its handler. Every type that a device
// knows is in this list; any other is refused by name.
func (m *Machine) dispatch(c *ctx, v *envelope.Verified) (string, any, error) {
	typ := v.Header().Type
	if typ == ceremony.TypeHello {
		return m.hello(c, v)
	}
	if err := faulty(CodeExpired, v.CheckFresh(c.Now, requestSkew)); err != nil {
		return "", nil, err
	}
	if err := m.unoccupied(typ); err != nil {
		return "", nil, err
	}
	switch typ {
	case TypeStatusAsk:
		return handle(m, c, v, typ, TypeStatus, anyPhase, (*Machine).status)
	case TypeUnlockAsk:
		return handle(m, c, v, typ, TypeUnlockOffered, PhaseLocked, (*Machine).unlockAsk)
	case TypeUnlock:
		return handle(m, c, v, typ, TypeStatus, PhaseLocked, (*Machine).unlock)
	case TypeLock:
		return handle(m, c, v, typ, TypeStatus, PhaseReady, (*Machine).lock)
	case TypeOfferAsk:
		return m.offerAsk(c, v)
	case TypeTask:
		return handle(m, c, v, typ, TypePartial, PhaseReady, (*Machine).task)
	case TypeCheckAsk:
		return handle(m, c, v, typ, TypeCheckCommit, PhaseReady, (*Machine).checkAsk)
	case TypeCheckOpen:
		return handle(m, c, v, typ, TypeCheckAnswer, PhaseReady, (*Machine).checkOpen)
	case TypePowersTask:
		return handle(m, c, v, typ, TypePowers, PhaseReady, (*Machine).powersTask)
	case TypeCombineTask:
		return handle(m, c, v, typ, TypeCombined, PhaseReady, (*Machine).combineTask)
	case TypeInviteAsk:
		return handle(m, c, v, typ, TypeInvited, PhaseReady, (*Machine).invite)
	case TypeDeal:
		return handle(m, c, v, typ, TypeDealt, PhaseReady, (*Machine).install)
	case TypeClose:
		return handle(m, c, v, typ, TypeClosed, PhaseReady, (*Machine).close)
	case TypeCatchup:
		return handle(m, c, v, typ, TypeStatus, anyPhase, (*Machine).catchup)
	case TypeRecertify:
		return handle(m, c, v, typ, TypeRequests, PhaseReady, (*Machine).recertify)
	case heartbeat.TypeRevoke:
		return "", nil, m.silenced(c, v)
	case TypeRegister:
		return handle(m, c, v, typ, TypeStatus, PhaseReady, (*Machine).register)
	}
	if m.session != nil && m.state.genesis == nil {
		return m.ceremony(c, v)
	}
	return "", nil, refuse(CodeMessage, "a device takes no message of type %q", typ)
}

const anyPhase = ""

func handle[M, R any](m *Machine, c *ctx, v *envelope.Verified, typ, reply, phase string, do func(*Machine, *ctx, M) (*R, error)) (string, any, error) {
	if phase != anyPhase && m.Phase() != phase {
		return "", nil, m.wrongPhase()
	}
	var body M
	if err := envelope.Decode(v, typ, MessageVersion, &body); err != nil {
		return "", nil, faulty(CodeMessage, err)
	}
	out, err := do(m, c, body)
	if err != nil {
		return "", nil, err
	}
	return reply, out, nil
}

func (m *Machine) wrongPhase() error {
	switch m.Phase() {
	case PhaseLocked:
		return refuse(CodePhase, "device %s is locked: its officers open it with 'privyseal officer unlock %s'", m.cfg.Local.ID, m.cfg.Local.ID)
	case PhaseReady:
		return refuse(CodePhase, "device %s is unlocked already: its officers open it anew after its process was started again; without a lease it locks itself within a minute", m.cfg.Local.ID)
	case PhaseDestroyed:
		return refuse(CodePhase, "device %s has destroyed its shares: only a restore from a backup brings it back", m.cfg.Local.ID)
	}
	return refuse(CodePhase, "device %s has not been through a ceremony", m.cfg.Local.ID)
}

// hello begins or repeats a ceremony, or resumes one whose desk was lost.
func (m *Machine) hello(c *ctx, v *envelope.Verified) (string, any, error) {
	var h ceremony.Hello
	if err := envelope.Decode(v, ceremony.TypeHello, ceremony.MessageVersion, &h); err != nil {
		return "", nil, faulty(CodeMessage, err)
	}
	if m.state.genesis != nil {
		// Commissioned: whoever asks may have what is public anyway, so that a
		// ceremony that was interrupted among the commits can be finished.
		return m.showGenesis()
	}
	if m.session == nil && m.state.pending != nil {
		s, err := ceremony.Resume(m.cfg.Local, m.state.pending)
		if err != nil {
			return "", nil, faulty(CodePhase, err)
		}
		m.session = s
	}
	if m.session != nil {
		if a, err := m.session.Again(m.ceremonyInputs(c), v); err == nil {
			return a.Type, a.Payload, nil
		}
		o, err := ceremony.VerifyOpen(h.Open, c.Now)
		if err != nil {
			return "", nil, faulty(CodeMessage, err)
		}
		if err := m.session.MayLeaveFor(o); err != nil {
			return "", nil, faulty(CodePhase, err)
		}
		if m.state.pending != nil && !h.Leave {
			// The new desk of the same administrator may commit what was
			// prepared, or say that it was committed nowhere.
			a, err := m.session.Adopt(m.ceremonyInputs(c), o)
			if err != nil {
				return "", nil, faulty(CodeInternal, err)
			}
			return a.Type, a.Payload, nil
		}
		if m.state.pending != nil {
			if err := ceremony.MayForget(m.state.pending, o); err != nil {
				return "", nil, faulty(CodePhase, err)
			}
		}
	}
	// The new attempt begins before the old one is forgotten: an opening that
	// this device refuses costs it nothing.
	s, a, err := ceremony.Begin(m.ceremonyInputs(c), m.cfg.Local, v)
	if err != nil {
		return "", nil, faulty(CodeMessage, err)
	}
	if err := m.forget(c); err != nil {
		return "", nil, err
	}
	m.session = s
	return a.Type, a.Payload, nil
}

func (m *Machine) ceremonyInputs(c *ctx) ceremony.Inputs {
	return ceremony.Inputs{Now: c.Now, Rand: c.Rand, Token: m.cfg.Token, Memory: m.cfg.Memory}
}

// forget drops an attempt with everything that it left in the token.
func (m *Machine) forget(c *ctx) error {
	if m.session != nil {
		m.session.Wipe()
		m.session = nil
	}
	if m.state.pending == nil {
		return nil
	}
	for _, id := range m.state.pending.Shares {
		if err := m.cfg.Token.DeleteObject(ceremony.ShareObject(id)); err != nil && !isNotFound(err) {
			return faulty(CodeInternal, err)
		}
	}
	if err := m.cfg.Token.DeleteObject(ceremony.PINObject); err != nil && !isNotFound(err) {
		return faulty(CodeInternal, err)
	}
	return c.add(recAborted, nil)
}

// ceremony hands a message of the desk to the session and carries out what it
// decided.
func (m *Machine) ceremony(c *ctx, v *envelope.Verified) (string, any, error) {
	a, err := m.session.Handle(m.ceremonyInputs(c), v)
	if err != nil {
		c.note(err.Error())
		return "", nil, faulty(CodeMessage, err)
	}
	switch {
	case a.Prepared != nil:
		err = c.add(recPrepared, a.Prepared)
	case a.Bundle != nil:
		err = m.commission(c, a)
	case a.Forget:
		err = m.forget(c)
	}
	if err != nil {
		// The session is ahead of the records. What is in them is resumed at
		// the next hello; an attempt that is not in them begins anew.
		if m.session != nil {
			m.session.Wipe()
			m.session = nil
		}
		return "", nil, err
	}
	return a.Type, a.Payload, nil
}

// commission records the genesis. The new PIN takes effect when the record is
// durable; see Finish for a crash in between.
func (m *Machine) commission(c *ctx, a *ceremony.Answer) error {
	raw, err := envelope.Marshal(a.Bundle)
	if err != nil {
		return err
	}
	// A crash while an attempt was being forgotten may have cost the shares:
	// better no device than one that cannot do what the genesis says.
	if m.state.pending != nil {
		for _, id := range m.state.pending.Shares {
			if _, _, err := m.cfg.Token.GetObject(ceremony.ShareObject(id)); err != nil {
				return faulty(CodeShare, fmt.Errorf("share %s is not in the token any more; begin a new attempt: %w", id, err))
			}
		}
	}
	if err := c.add(recCommissioned, raw); err != nil {
		return err
	}
	if err := c.add(recUnlocked, unlockedBody{}); err != nil {
		return err
	}
	if err := m.cfg.Token.KeepPIN(m.mayComeToDestroy(c.draft.state), m.cfg.Memory); err != nil {
		c.note(err.Error()) // the PIN of the next opening will be kept
	}
	m.watch(c.draft.state, c.Boot)
	c.note("commissioned in system " + a.Genesis.System().String())
	c.effect.SetPIN, err = m.nextPIN(c.draft.state)
	return err
}

// nextPIN reads the PIN that the officers hold in pieces. Nil for a device
// that the ledger lets keep its own.
func (m *Machine) nextPIN(s *state) ([]byte, error) {
	d, ok := s.ledger.Device(m.cfg.Local.ID)
	if !ok || d.Unattended {
		return nil, nil
	}
	_, pin, err := m.cfg.Token.GetObject(ceremony.PINObject)
	return pin, err
}

// Finish completes a commissioning that a crash interrupted: the caller has
// unlocked the token with the transport PIN, which is still there, and gets
// the PIN to set. After the caller set it, it calls Finished.
func (m *Machine) Finish() ([]byte, error) {
	if m.state.genesis == nil {
		return nil, errors.New("firmware: not commissioned")
	}
	return m.nextPIN(m.state)
}

// Finished destroys the copy of the PIN that the token itself held.
func (m *Machine) Finished() error {
	if err := m.cfg.Token.DeleteObject(ceremony.PINObject); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

func (m *Machine) showGenesis() (string, any, error) {
	if m.state.genesis == nil {
		return "", nil, refuse(CodePhase, "device %s holds no committed genesis", m.cfg.Local.ID)
	}
	return TypeGenesis, &Genesis{Bundle: m.state.genesis}, nil
}

// catchup applies entries of the ledger, and passes over those that it has. A
// locked device takes them too: a maintenance notice is for a silent one.
func (m *Machine) catchup(c *ctx, in Catchup) (*Status, error) {
	if len(in.Entries) > MaxCatchup {
		return nil, refuse(CodeMessage, "%d entries at once, at most %d", len(in.Entries), MaxCatchup)
	}
	for _, raw := range in.Entries {
		var e ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &e); err != nil {
			return nil, faulty(CodeMessage, err)
		}
		if c.draft.state.ledger.Has(e) {
			continue
		}
		if err := c.add(recEntry, raw); err != nil {
			return nil, faulty(CodeLedger, err)
		}
	}
	return m.describe(c.draft.state, c.Boot), nil
}

// isNotFound reports whether an object was not there to be destroyed.
func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
