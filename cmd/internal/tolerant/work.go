package tolerant

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// confirmed is the distributor's word that the operators of a machine agree. It
// is repeated while the distributor lacks what the machine makes of it.
func (d *Desk) confirmed(a *authority, p *Packet) {
	if _, own := a.own[p.Device]; !own {
		return
	}
	t := d.find(p)
	if t == nil {
		d.askAgain(p)
		return
	}
	m := t.machine(p.Device)
	if m == nil || m.no || !d.operatorsAgree(t, m, p) {
		return
	}
	m.paused = false
	if m.combines() {
		if m.result != nil {
			d.sendCombined(t, m)
			return
		}
		d.combine(t, m)
		return
	}
	prove := len(p.Doubt) > 0 && !m.proved && d.doubted(a, t, m, p.Doubt)
	switch {
	case m.result != nil && !prove:
		d.sendPowers(t, m)
	case !m.working && (!t.signed || prove):
		m.prove, m.working = prove, true
		d.enqueue(t, m, firmware.TypePowersTask)
	}
}

// askAgain asks for a task that this site does not know, or knows no more, and
// that a machine of it has part in.
func (d *Desk) askAgain(p *Packet) {
	if u := d.used[numberOf(p)]; (u == nil || u.request == p.Request && !u.over) && d.unknown[p.Enterprise] < maxUnknown {
		d.unknown[p.Enterprise]++
		d.send(numberOf(p), p.Request, Packet{Kind: KindUnknown, Device: p.Device})
	}
}

// doubted reports whether a message is the word of a combiner of the task against
// a calculator: that its powers are wrong or may be, or that there is no signature
// in any. A proof takes twice the time of its power, and packets are not signed:
// without a machine that answers for it any site could have all tasks take three
// times as long. One that doubts what is proved right is named, or seen.
func (d *Desk) doubted(a *authority, t *task, m *machine, raw []byte) bool {
	u, err := envelope.Parse(raw)
	if err != nil {
		return false
	}
	if u.Header().Type == firmware.TypeCombined {
		x, err := firmware.VerifyCombined(d.cfg.State, &a.key, &t.distribution, raw)
		return err == nil && slices.Contains(t.request.Route.Devices, x.Device) &&
			(slices.Contains(x.Wrong, m.holder.Index) || slices.Contains(x.Suspects, m.holder.Index))
	}
	row, _ := d.cfg.State.DeviceOfKey(u.Header().Signer)
	h, ok := d.cfg.State.HolderOf(a.key.ID, row.ID)
	id, _ := d.cfg.State.Identity(u.Header().Signer)
	if !ok || h.Layer != ledger.LayerCombiner || id.Use != ledger.UseSign || id.SignKey == nil || !slices.Contains(t.request.Route.Devices, row.ID) {
		return false
	}
	v, err := u.Verify(id.SignKey)
	if err != nil || v.Header().System != d.cfg.State.System() {
		return false
	}
	var f firmware.Refusal
	return envelope.Decode(v, firmware.TypeRefusal, firmware.MessageVersion, &f) == nil &&
		f.Type == firmware.TypeCombineTask && f.Code == firmware.CodePartial && f.Request == t.about.Digest
}

// operatorsAgree verifies a confirmation and keeps it. What was made up must not
// reach the device, nor displace what is right.
func (d *Desk) operatorsAgree(t *task, m *machine, p *Packet) bool {
	digest := envelope.HashOf("privyseal confirmed", slices.Concat([][]byte{p.Offer}, p.Approvals)...)
	if m.offer != nil && digest == m.confirmed {
		return true
	}
	o, err := approval.VerifyOffer(d.cfg.State, p.Offer, d.now)
	if err != nil || o.For(t.about.Digest) != nil {
		return false
	}
	if of := o.Offer(); of.Device != m.device || of.Share != m.holder.Share || m.offer != nil && of.Created < m.offered {
		return false
	}
	_, err = approval.VerifySet(d.cfg.State, t.about, m.device, p.Approvals, d.now)
	size := len(p.Offer)
	for _, raw := range p.Approvals {
		size += len(raw)
	}
	if err != nil || !d.hold(t, size) {
		return false
	}
	m.offer, m.offered, m.approvals, m.confirmed = p.Offer, o.Offer().Created, p.Approvals, digest
	m.tried = envelope.Hash{}
	return true
}

// rejected is the no of a machine's operator: the machine does not work on the
// task, whatever else is said.
func (d *Desk) rejected(a *authority, p *Packet) {
	if _, own := a.own[p.Device]; !own {
		return
	}
	t := d.find(p)
	if t == nil {
		d.askAgain(p)
		return
	}
	m := t.machine(p.Device)
	if m == nil || m.no {
		return
	}
	_, err := approval.Verify(d.cfg.State, t.about, m.device, p.Message, d.now)
	var no *approval.RejectedError
	if !errors.As(err, &no) {
		return
	}
	m.no = true
	d.outlaw(t.number, t.about.Digest, m.device, "rejected by "+no.Name, "rejected by "+no.Name+": "+no.Reason)
}

// powers takes a calculator's powers from B2, for the combiners of this site.
// The first message of each counts: one that says two things is wrong in one of
// them, and the distributor sees both.
func (d *Desk) powers(p *Packet) {
	t := d.find(p)
	if t == nil || t.signed || !slices.ContainsFunc(t.machines, (*machine).combines) {
		return
	}
	a := d.authorities[t.number.enterprise]
	for _, h := range a.key.Holders {
		if h.Device == p.Device && t.powers[h.Index] != nil {
			return
		}
	}
	x, err := firmware.VerifyPowers(d.cfg.State, &a.key, &t.distribution, p.Message)
	if err != nil {
		d.otherHash(a, t, p.Message)
		return
	}
	if t.powers[x.Number] != nil || !slices.Contains(t.request.Route.Devices, x.Device) || !d.hold(t, len(p.Message)) {
		return
	}
	t.powers[x.Number] = bytes.Clone(p.Message)
	d.combineAll(t)
}

// otherHash looks whether a calculator worked on another document under this
// number: then one of them was lied to.
func (d *Desk) otherHash(a *authority, t *task, raw []byte) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return
	}
	var x firmware.Powers
	if envelope.Unmarshal(u.UnverifiedPayload(), &x) != nil || bytes.Equal(x.Hash, t.distribution.Hash) {
		return
	}
	other := t.distribution
	other.Hash = x.Hash
	if _, err := firmware.VerifyPowers(d.cfg.State, &a.key, &other, raw); err == nil {
		d.outlaw(t.number, t.about.Digest, x.Device, "powers", "the powers of "+x.Device+" name another hash")
	}
}

func (d *Desk) combineAll(t *task) {
	for _, m := range t.machines {
		if m.combines() {
			d.combine(t, m)
		}
	}
}

// combine lets a combiner try, if its operators agreed and a combination of its
// matches the powers that are here (B [0113]); again only with others than it
// could do nothing with.
func (d *Desk) combine(t *task, m *machine) {
	if m.offer == nil || m.no || m.working || m.paused || m.result != nil || t.signed || !d.matches(t, m) || t.given() == m.tried {
		return
	}
	m.working = true
	d.enqueue(t, m, firmware.TypeCombineTask)
}

func (d *Desk) matches(t *task, m *machine) bool {
	have := slices.Collect(maps.Keys(t.powers))
	g := &d.authorities[t.number.enterprise].key.Layers.Grouping
	return uint64(len(have)) >= g.T && len(g.Match(m.holder.Index, have)) > 0
}

// numbers are the calculators whose powers are here, ascending.
func (t *task) numbers() []uint64 { return slices.Sorted(maps.Keys(t.powers)) }

// given is the digest of the powers that are here.
func (t *task) given() envelope.Hash {
	var all [][]byte
	for _, j := range t.numbers() {
		all = append(all, t.powers[j])
	}
	return envelope.HashOf("privyseal powers", all...)
}

// payload is what a job sends, nil if nobody wants it any more.
func (d *Desk) payload(j *job) any {
	t, m := j.t, j.m
	if t.over || m.gone || m.no {
		return nil
	}
	switch j.typ {
	case firmware.TypeOfferAsk:
		return firmware.OfferAsk{Request: t.raw}
	case firmware.TypePowersTask:
		if m.offer == nil || t.signed && !m.prove {
			return nil
		}
		return firmware.PowersTask{Distribution: t.packet, Request: t.raw, Offer: m.offer, Approvals: m.approvals, Prove: m.prove}
	case firmware.TypeCombineTask:
		if m.offer == nil || t.signed || !d.matches(t, m) {
			return nil
		}
		out := firmware.CombineTask{Distribution: t.packet, Request: t.raw, Offer: m.offer, Approvals: m.approvals}
		for _, n := range t.numbers() {
			out.Powers = append(out.Powers, t.powers[n])
		}
		m.tried = t.given()
		return out
	}
	return nil
}

// answered takes what a device answered to a job.
func (d *Desk) answered(j *job, raw []byte) {
	t, m := j.t, j.m
	u, err := envelope.Parse(raw)
	if err != nil {
		d.silent(j, "its answer is malformed")
		return
	}
	typ := u.Header().Type
	if typ == firmware.TypeRefusal {
		d.refused(j, raw, u)
		return
	}
	a := d.authorities[t.number.enterprise]
	switch {
	case j.typ == firmware.TypeOfferAsk && typ == firmware.TypeOffered && len(raw) > maxAnswer:
		d.silent(j, "its offer is too long")
	case j.typ == firmware.TypeOfferAsk && typ == firmware.TypeOffered:
		m.answer = nil // one takes the place of the other
		if !d.hold(t, len(raw)) {
			d.silent(j, "its site has no room for its offer now")
			return
		}
		m.answer, m.answered, m.refusal = bytes.Clone(raw), d.now, ""
		d.send(t.number, t.about.Digest, Packet{Kind: KindAck, Device: m.device, Message: m.answer})
	case j.typ == firmware.TypePowersTask && typ == firmware.TypePowers:
		x, err := firmware.VerifyPowers(d.cfg.State, &a.key, &t.distribution, raw)
		if err != nil || x.Device != m.device {
			d.silent(j, "its powers are not those of the task")
			return
		}
		if d.keepResult(j, raw) {
			m.proved = len(x.Proofs) > 0
			d.sendPowers(t, m)
		}
	case j.typ == firmware.TypeCombineTask && typ == firmware.TypeCombined:
		x, err := firmware.VerifyCombined(d.cfg.State, &a.key, &t.distribution, raw)
		if err != nil || x.Device != m.device {
			d.silent(j, "its signature is not that of the task")
			return
		}
		if d.keepResult(j, raw) {
			d.sendCombined(t, m)
		}
	default:
		d.silent(j, "it answered with a "+document.Escape(typ))
	}
}

// keepResult keeps what a machine made, to repeat it.
func (d *Desk) keepResult(j *job, raw []byte) bool {
	before := j.m.result
	j.m.result = nil
	if !d.hold(j.t, len(raw)) {
		j.m.result = before
		d.silent(j, "its site has no room for what it made now")
		return false
	}
	j.m.result, j.m.refusal = bytes.Clone(raw), ""
	return true
}

// refused passes a device's refusal on.
func (d *Desk) refused(j *job, raw []byte, u *envelope.Unverified) {
	t, m := j.t, j.m
	var f firmware.Refusal
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &f); err != nil {
		d.silent(j, "its refusal is malformed")
		return
	}
	m.refusal = document.Escape(clip(f.Text))
	if j.typ == firmware.TypeOfferAsk {
		m.answer = nil
		d.send(t.number, t.about.Digest, Packet{Kind: KindAck, Device: m.device, Message: raw})
		return
	}
	// A combiner that found nothing in these powers waits for others; everything
	// else waits for the distributor, who gets new approvals where the old ones
	// are worth nothing any more.
	switch {
	case f.Code == firmware.CodeOffer || f.Code == firmware.CodePhase:
		m.answer, m.offer, m.approvals, m.tried = nil, nil, nil, envelope.Hash{}
	case m.combines() && f.Code == firmware.CodePartial:
		defer d.combine(t, m) // others may have come meanwhile
	case f.Code == firmware.CodeTask: // the number is another request's: devices do not forget it at a restart
		d.outlaw(t.number, t.about.Digest, m.device, "refused", m.refusal)
		fallthrough
	default:
		m.paused, m.tried = true, envelope.Hash{}
	}
	d.send(t.number, t.about.Digest, Packet{Kind: KindFailed, Device: m.device, Message: raw})
}

// silent is for a device that said nothing, or nothing of use.
func (d *Desk) silent(j *job, why string) {
	t, m := j.t, j.m
	m.refusal = document.Escape(clip(why))
	if j.typ != firmware.TypeOfferAsk {
		m.paused, m.tried = true, envelope.Hash{}
	}
	text := clip(m.refusal)
	if text == "" {
		text = "no answer"
	}
	d.send(t.number, t.about.Digest, Packet{Kind: KindFailed, Device: m.device, Text: text})
}

func (d *Desk) sendPowers(t *task, m *machine) {
	d.send(t.number, t.about.Digest, Packet{Kind: KindPowers, Device: m.device, Message: m.result})
}

// sendCombined adds what the combiner was given by those that it says were
// wrong, or suspects: they signed it.
func (d *Desk) sendCombined(t *task, m *machine) {
	p := Packet{Kind: KindCombined, Device: m.device, Message: m.result}
	a := d.authorities[t.number.enterprise]
	if x, err := firmware.VerifyCombined(d.cfg.State, &a.key, &t.distribution, m.result); err == nil {
		for _, j := range t.numbers() {
			if slices.Contains(x.Wrong, j) || slices.Contains(x.Suspects, j) {
				p.Evidence = append(p.Evidence, t.powers[j])
			}
		}
	}
	d.send(t.number, t.about.Digest, p)
}

// combined looks whether a task has its signature: then nobody need work on it
// any more, but a calculator that has to prove what it made.
func (d *Desk) combined(p *Packet) {
	t := d.find(p)
	if t == nil || t.signed {
		return
	}
	a := d.authorities[t.number.enterprise]
	if x, err := firmware.VerifyCombined(d.cfg.State, &a.key, &t.distribution, p.Message); err == nil {
		d.verified(t, x.Signatures)
	}
}
