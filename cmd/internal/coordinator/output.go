package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/tolerant"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// The output interface: what combiners send is verified, and whoever sent what
// is wrong is named (B [0051], [0116]). Signatures are verified as they are.
// Powers need not be: if a combiner says that some were wrong, or cannot tell,
// the calculator proves them right, or is at fault; and a combiner that found
// right ones wrong is. Powers are determined by sub-key and document, so that
// one who signed two kinds has convicted himself.

// accusation is a combiner's word against a calculator. It outlives the
// signature, and a restart.
type accusation struct {
	combiner   *device
	calculator *device
	// claimed are the powers that the combiner says it had, and is certain that
	// they are wrong: it signed that. Zero: it only suspects.
	claimed envelope.Hash
	// shown are the powers that it had by the calculator's own signature; zero:
	// nobody showed them. What the distributor was sent need not be either.
	shown envelope.Hash
	// reason is the combiner's message, raw: without it no desk asks for proofs.
	reason []byte
	until  int64 // when the calculator has had its time
}

func powersHash(p *firmware.Powers) envelope.Hash { return firmware.PowersHash(p.Y) }

// takePowers takes a calculator's powers from B2.
func (r *Request) takePowers(d *device, raw []byte) {
	m := &d.machine
	if d.out() || !d.calculates() || bytes.Equal(raw, m.result) {
		return
	}
	if m.result != nil && r.accused(d) == nil && !m.asked {
		// Only to see whether it says two things.
		if p, err := firmware.VerifyPowers(r.State, &r.key, &r.task.facts, raw); err == nil && p.Device == d.id && powersHash(p) != m.y {
			r.convict(d, "signed two different powers for one task")
		}
		return
	}
	p, err := firmware.VerifyPowers(r.State, &r.key, &r.task.facts, raw)
	if err != nil || p.Device != d.id {
		return
	}
	y := powersHash(p)
	if m.result == nil {
		m.result, m.y = bytes.Clone(raw), y
		d.wait, d.text, r.news = 0, "", true
		d.machine.tries = 0
		r.moved()
		r.vouch(d)
		r.wakeCombiners()
	} else if y != m.y {
		r.convict(d, "signed two different powers for one task")
		return
	}
	if len(p.Proofs) == 0 || !m.proved.IsZero() {
		return
	}
	if err := r.verifyPowers(p); err != nil {
		r.convict(d, "made wrong powers: its proofs do not hold")
		return
	}
	m.proved = y
}

// verifyPowers checks the proofs of all powers.
func (r *Request) verifyPowers(p *firmware.Powers) error {
	b := firmware.PowersBinding(r.State, &r.key, r.digest, p.Share)
	l := int(r.key.Layers.Grouping.L)
	for i, y := range p.Y {
		if p.Proofs[i] == nil {
			return fmt.Errorf("%w: there is none", threshold.ErrProof)
		}
		term := grouping.Term{Calculator: p.Number, Key: uint64(i%l + 1)}
		if err := twolayer.VerifyProof(&r.key.Public, r.key.Layers, b, term, r.x[i/l], y, p.Proofs[i]); err != nil {
			return err
		}
	}
	return nil
}

// wakeCombiners gives those that can combine now a moment to do so before they
// are told again.
func (r *Request) wakeCombiners() {
	var have []uint64
	for _, d := range r.devices {
		if d.calculates() && !d.wrong && d.machine.result != nil {
			have = append(have, d.holder.Index)
		}
	}
	for _, d := range r.devices {
		if !d.calculates() && !d.out() && d.machine.sent && d.complete() && r.serves(d, have) {
			d.machine.tries, d.wait, d.retry = 0, 0, r.now+combineWait+r.work()
		}
	}
}

// takeCombined takes a combiner's signature from B3.
func (r *Request) takeCombined(d *device, p tolerant.Packet) {
	if d.out() || d.calculates() || d.machine.result != nil && bytes.Equal(d.machine.result, p.Message) && !r.unshown(d) {
		return
	}
	c, err := firmware.VerifyCombined(r.State, &r.key, &r.task.facts, p.Message)
	if err != nil || c.Device != d.id {
		return
	}
	switch err := r.verifySignatures(c.Signatures); {
	case errors.Is(err, threshold.ErrSignature):
		r.convict(d, "sent a signature that does not verify")
		return
	case err != nil:
		return // no verdict: it is sent again
	}
	d.machine.result, d.text, r.news = bytes.Clone(p.Message), "", true
	if r.state == api.StateOpen {
		r.release(d, c)
	}
	r.accuse(d, c, p.Evidence)
}

// verifySignatures verifies the signatures of all documents. A document has one
// signature only: its encoded message is fixed, with the salt, and RSA is a
// permutation. When they are out, those of other combiners are equal or wrong.
func (r *Request) verifySignatures(signatures [][]byte) error {
	if r.signatures != nil {
		if !slices.EqualFunc(signatures, r.signatures, bytes.Equal) {
			return fmt.Errorf("%w: it is not the one that verified", threshold.ErrSignature)
		}
		return nil
	}
	v, err := threshold.NewVerifier(&r.key.Public)
	if err != nil {
		return err
	}
	return v.VerifyAll(r.x, signatures)
}

// release lets the signatures out. Each document of a batch may have had a
// combination of its own. Whose powers were in it is the combiner's word, and is
// worth nothing where those powers were never seen: B2 may have lost them on their
// way here, or there were none.
func (r *Request) release(d *device, c *firmware.Combined) {
	h := api.Attempt{Devices: []string{}, Shares: []string{}, Wrong: []string{}}
	r.task.claimed = nil
	for _, x := range r.devices {
		switch {
		case !x.calculates() || !slices.ContainsFunc(c.Combinations, func(a grouping.Combination) bool { return slices.Contains(a.Calculators(), x.holder.Index) }):
		case x.machine.result != nil && !x.wrong:
			h.Devices, h.Shares = append(h.Devices, x.id), append(h.Shares, x.holder.Share)
		default:
			r.task.claimed = append(r.task.claimed, x.id)
		}
	}
	h.Devices, h.Shares = append(h.Devices, d.id), append(h.Shares, d.holder.Share)
	if err := r.done(c.Signatures...); err != nil {
		// The bare signature verifies, so nobody was wrong; the document does not:
		// it is no use to try again.
		h.Outcome = "the finished document is not acceptable: " + clip(err.Error())
		r.remember(h)
		r.finish(api.StateFailed, h.Outcome)
		return
	}
	h.Outcome = outcomeSigned
	r.remember(h)
}

// vouch takes a calculator's powers that came after the signatures as a sign that it
// took part in them, as their combiner said.
func (r *Request) vouch(d *device) {
	i := slices.Index(r.task.claimed, d.id)
	at := r.signing()
	if i < 0 || at < 0 {
		return
	}
	r.task.claimed = slices.Delete(r.task.claimed, i, i+1)
	h := &r.history[at]
	n := len(h.Devices) - 1 // the combiner's place
	h.Devices, h.Shares = slices.Insert(slices.Clone(h.Devices), n, d.id), slices.Insert(slices.Clone(h.Shares), n, d.holder.Share)
	r.dirty = true
}

const outcomeSigned = "signed"

func (r *Request) remember(h api.Attempt) {
	if len(r.history) == maxHistory {
		i := 0
		if r.history[0].Outcome == outcomeSigned {
			i = 1
		}
		r.history = slices.Delete(r.history, i, i+1)
	}
	r.history, r.dirty = append(r.history, h), true
}

// convict names a machine that said what is not so. The others go on without it.
func (r *Request) convict(d *device, what string) {
	if d.wrong {
		return
	}
	text := fmt.Sprintf("%s %d (%s) %s", layerName(d), d.holder.Index, d.id, what)
	d.wrong, d.text, r.dirty = true, text, true
	r.task.liars = append(r.task.liars, api.Liar{Device: d.id, Layer: d.holder.Layer, Number: d.holder.Index, Text: what})
	r.remember(api.Attempt{Devices: []string{d.id}, Shares: []string{d.holder.Share}, Outcome: text, Wrong: []string{d.id}})
	r.task.accusations = slices.DeleteFunc(r.task.accusations, func(a *accusation) bool { return a.calculator == d })
}

func layerName(d *device) string {
	if d.calculates() {
		return "calculator"
	}
	return "combiner"
}

// accuse takes a combiner's word against calculators, with what it shows of
// what they sent it.
func (r *Request) accuse(d *device, c *firmware.Combined, evidence [][]byte) {
	if len(c.Wrong) == 0 && len(c.Suspects) == 0 {
		return
	}
	shown := map[uint64]envelope.Hash{}
	for _, raw := range evidence {
		if p, err := firmware.VerifyPowers(r.State, &r.key, &r.task.facts, raw); err == nil {
			shown[p.Number] = powersHash(p)
		}
	}
	for _, x := range r.devices {
		j := x.holder.Index
		if !x.calculates() {
			continue
		}
		if i := slices.Index(c.Wrong, j); i >= 0 {
			r.suspect(d, x, c.Given[i], shown[j], d.machine.result)
		} else if slices.Contains(c.Suspects, j) {
			r.suspect(d, x, envelope.Hash{}, shown[j], d.machine.result)
		}
	}
}

// suspectAll is for a combiner that found no signature in the powers it was
// given, and cannot tell whose are wrong.
func (r *Request) suspectAll(d *device, refusal []byte) {
	d.machine.doubts = nil
	for _, x := range r.devices {
		if x.calculates() && x.machine.result != nil && !x.out() {
			d.machine.doubts = append(d.machine.doubts, x)
			r.suspect(d, x, envelope.Hash{}, x.machine.y, refusal)
		}
	}
}

func (r *Request) suspect(combiner, x *device, claimed, shown envelope.Hash, reason []byte) {
	if x.out() {
		return
	}
	if !shown.IsZero() && !x.machine.y.IsZero() && shown != x.machine.y {
		r.convict(x, "signed two different powers for one task")
		return
	}
	for _, a := range r.task.accusations {
		if a.combiner == combiner && a.calculator == x {
			if a.shown.IsZero() {
				a.shown = shown
			}
			return
		}
	}
	a := r.newAccusation(combiner, x, claimed, shown, bytes.Clone(reason))
	r.task.accusations = append(r.task.accusations, a)
	r.dirty = true
	if !a.held() {
		r.hurry(x)
	}
}

// proveUntil is when a calculator has had its time to prove its powers: those who
// have to prove a batch are heard one after the other.
func (r *Request) proveUntil() int64 { return r.now + proveFor + int64(r.key.N)*r.work() }

// unshown reports whether a combiner accuses calculators and nobody has shown
// yet what they had sent it: packets are not signed, and one that lacks the
// evidence may be somebody else's.
func (r *Request) unshown(combiner *device) bool {
	return slices.ContainsFunc(r.task.accusations, func(a *accusation) bool { return a.combiner == combiner && a.shown.IsZero() })
}

// accused returns the word against a calculator that owes proofs, or nil.
func (r *Request) accused(d *device) *accusation {
	i := slices.IndexFunc(r.task.accusations, func(a *accusation) bool { return a.calculator == d && !a.held() })
	if i < 0 || !d.machine.proved.IsZero() {
		return nil
	}
	return r.task.accusations[i]
}

// judgeAll decides what can be decided.
func (r *Request) judgeAll() {
	r.holdTrials()
	var open []*accusation
	var verdicts []func()
	for _, a := range r.task.accusations {
		proved := a.calculator.machine.proved
		switch {
		case a.calculator.out():
		case proved.IsZero() && r.now < a.until && r.state != api.StateFailed && r.state != api.StateRejected && r.state != api.StateExpired:
			open = append(open, a)
			continue
		case proved.IsZero():
			a.calculator.text = fmt.Sprintf("combiner %d suspects it, and it did not show its powers right", a.combiner.holder.Index)
		case a.claimed == proved:
			verdicts = append(verdicts, func() {
				r.convict(a.combiner, fmt.Sprintf("said that the powers of calculator %d were wrong, which are proved right", a.calculator.holder.Index))
			})
		case !a.shown.IsZero() && a.shown != proved:
			verdicts = append(verdicts, func() {
				r.convict(a.calculator, fmt.Sprintf("proved other powers than it had sent to combiner %d", a.combiner.holder.Index))
			})
		}
		// Or one of them lied about what the calculator had sent the combiner, and
		// nobody can show which.
		r.dirty = true
	}
	r.task.accusations = open
	for _, convict := range slices.Backward(verdicts) {
		convict()
	}
	r.endTrials()
	r.showHelpless()
}

// showHelpless tells of combiners that found no signature in powers that are all
// proved right. Nobody is named for it: the sites of such a combiner may have
// handed it others than were sent here.
func (r *Request) showHelpless() {
	for _, d := range r.devices {
		m := &d.machine
		if len(m.doubts) == 0 || slices.ContainsFunc(m.doubts, func(x *device) bool { return x.machine.proved.IsZero() || x.wrong }) {
			continue
		}
		m.doubts = nil
		if !d.out() && m.result == nil {
			d.text, r.dirty = textHelpless, true
		}
	}
}

// textHelpless is of a combiner.
const textHelpless = "found no signature, and all powers that were sent are proved right"

// demandProofs goes on asking after the signature is out.
func (r *Request) demandProofs() {
	if r.task.packet == nil || len(r.task.accusations) == 0 {
		return
	}
	r.repeatTask() // for desks that do not know it any more
	for _, d := range r.devices {
		if a := r.accused(d); a != nil && !d.out() && d.complete() && r.now >= d.retry {
			r.sendConfirmed(d, a)
		}
	}
}
