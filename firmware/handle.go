package firmware

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
)

// ctx is what a handler works with.
type ctx struct {
	Inputs
	draft
	asked  envelope.Header // of the message in hand
	effect *Effects
}

// Handle takes one frame from the link. It never fails: what cannot be
// answered is noted, what is refused is answered with a refusal. Work that the
// frame asks for may be only begun: see [Effects.More].
func (m *Machine) Handle(in Inputs, frame []byte) Effects {
	var e Effects
	c := m.step(in, &e)
	if err := m.lapse(c); err != nil {
		c.note(err.Error())
	}
	m.handle(c, frame)
	return m.end(c)
}

// step begins a step.
func (m *Machine) step(in Inputs, e *Effects) *ctx {
	c := m.begin(in, e)
	m.expire(c.Now)
	return c
}

func (m *Machine) begin(in Inputs, e *Effects) *ctx {
	c := &ctx{Inputs: in, effect: e}
	c.draft = draft{state: m.state, now: m.now(in)}
	c.Now = c.draft.now
	return c
}

// end is what a step wants done.
func (m *Machine) end(c *ctx) Effects {
	c.effect.Records, c.effect.next, c.effect.More = c.draft.records, c.draft.state, m.pending != nil
	return *c.effect
}

func (m *Machine) handle(c *ctx, frame []byte) {
	if isBeat(frame) {
		// Those for the instance before come until their series ends.
		if err := m.beat(c, frame); err != nil && !errors.Is(err, envelope.ErrNotRecipient) {
			c.note("beat dropped: " + err.Error())
		}
		m.report(c)
		return
	}
	v, to, err := m.open(frame)
	if err != nil {
		if isPeers(frame) && m.cfg.Token.Locked() {
			return // every period, from each of them
		}
		c.note("message dropped: " + err.Error())
		c.effect.Reply = m.unopened(c, frame)
		return
	}
	if v.Header().Type == heartbeat.TypeChallenge {
		if err := m.challenged(c, v); err != nil {
			c.note("challenge dropped: " + err.Error())
		}
		return
	}
	c.asked = v.Header()
	m.tidy(c)
	before := c.draft
	typ, payload, err := m.dispatch(c, v)
	if p, ok := payload.(*pending); ok && err == nil {
		p.message, p.to, p.typ = v, to, typ
		m.pending = p
		m.proceed(c)
		return
	}
	m.reply(c, v, to, before, typ, payload, err)
}

// reply answers a message, or refuses it.
func (m *Machine) reply(c *ctx, v *envelope.Verified, to *ecdh.PublicKey, before draft, typ string, payload any, err error) {
	if err != nil {
		// A refusal of what concerns a request is part of its history; nothing
		// else of the failed step remains.
		c.draft = before
		typ, payload = TypeRefusal, m.refusal(c, v, err)
		c.effect.Release = false // Seen stays: the station believes that it is stored
	}
	if c.effect.Reply, err = m.answer(c, to, typ, payload); err != nil {
		c.note("cannot answer: " + err.Error())
	}
}

func (c *ctx) note(text string) {
	if c.effect.Note != "" {
		text = c.effect.Note + "; " + text
	}
	c.effect.Note = text
}

// unopened answers a frame that is sealed to a token that is locked or gone.
// Who sent it cannot be known; that this device is locked is said to its own
// message server alone. Nil for any other frame that was dropped.
func (m *Machine) unopened(c *ctx, frame []byte) []byte {
	self, ok := m.self()
	if !ok {
		return nil
	}
	to, err := envelope.PeekRecipients(frame)
	if err != nil || !slices.Contains(to, envelope.KeyIDOfSPKI(self.Agree)) {
		return nil
	}
	why := m.wrongPhase()
	if !m.cfg.Token.Locked() {
		health := m.cfg.Token.Health()
		if health == HealthOK {
			return nil
		}
		why = refuse(CodeInternal, "the token of device %s is %s", self.ID, health)
	}
	if c.asked, err = envelope.Peek(frame); err != nil {
		return nil
	}
	s, ok := m.state.ledger.Server(self.Server)
	if !ok {
		return nil
	}
	agree, err := envelope.ParseAgreementKey(s.Agree)
	if err != nil {
		return nil
	}
	reply, err := m.answer(c, agree, TypeRefusal, &Refusal{Device: self.ID, Code: codeOf(why), Text: why.Error()})
	if err != nil {
		c.effect.Note += "; cannot answer: " + err.Error()
	}
	return reply
}

func (m *Machine) refusal(c *ctx, v *envelope.Verified, cause error) *Refusal {
	r := &Refusal{Device: m.cfg.Local.ID, Code: codeOf(cause), Text: cause.Error(), Type: v.Header().Type}
	r.Request = requestOf(v)
	c.note("refused " + v.Header().Type + ": " + cause.Error())
	if m.state.genesis != nil && !r.Request.IsZero() && m.mayRecordRefusal(c) {
		if err := c.add(recRefused, refusedBody{Request: r.Request, Code: r.Code, Text: clip(r.Text, 512)}); err != nil {
			c.note("not recorded: " + err.Error())
		}
	}
	return r
}

// mayRecordRefusal holds the log to a size: whoever speaks for the message
// server could otherwise fill the disk, and with it end the device, by asking
// for what is refused.
func (m *Machine) mayRecordRefusal(c *ctx) bool {
	r := &m.refusals
	if c.Now-r.since >= refusalWindow {
		r.since, r.n = c.Now, 0
	}
	if r.n++; r.n > maxRefusals {
		c.note(fmt.Sprintf("not recorded, since there were %d in this hour", r.n))
		return false
	}
	return true
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}

// requestOf finds the request that a refused message concerned, for the log.
func requestOf(v *envelope.Verified) envelope.Hash {
	var raw []byte
	switch typ := v.Header().Type; typ {
	case TypeOfferAsk:
		raw = decoded[OfferAsk](v, typ).Request
	case TypeTask:
		raw = decoded[Task](v, typ).Request
	case TypeCheckAsk:
		raw = decoded[CheckAsk](v, typ).Task.Request
	case TypePowersTask:
		raw = decoded[PowersTask](v, typ).Request
	case TypeCombineTask:
		raw = decoded[CombineTask](v, typ).Request
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return envelope.Hash{}
	}
	return u.UnverifiedDigest()
}

// decoded is a message's payload, or nothing if it is malformed.
func decoded[M any](v *envelope.Verified, typ string) (body M) {
	if envelope.Decode(v, typ, MessageVersion, &body) != nil {
		return *new(M)
	}
	return body
}
