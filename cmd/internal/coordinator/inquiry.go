package coordinator

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// inquiry finds out whose partial signature was wrong (P4). Shares used in the
// host prove theirs; for those in a token there is the commit-and-open check.
//
// What a device signed is compared: partial signatures are determined by share
// and input, so one that proves another value than it gave before has convicted
// itself.
type inquiry struct {
	suspects []*suspect
	// reporter is a device of a sequence that refused to go on because of what
	// came before; nil if all signed.
	reporter *device
}

type verdict int

const (
	open     verdict = iota
	innocent         // proved right
	guilty           // proved wrong
	unclear          // refused or was silent
)

type suspect struct {
	place   int
	verdict verdict
	text    string

	challenge *threshold.Challenge
	opening   *threshold.Opening
	commit    []byte
}

// inquire begins an inquiry among the places before the given one that have
// not proved their part.
func (r *Request) inquire(t *attempt, before int) {
	q := &inquiry{}
	if before < len(t.devices) {
		q.reporter = t.devices[before]
	}
	t.inquiry = q
	for i := range before {
		if r.proves(t, i) {
			continue // was checked when it came
		}
		q.suspects = append(q.suspects, &suspect{place: i})
	}
	if r.sequential() && before == len(t.devices) && before > 1 && len(q.suspects) == 1 {
		// All before the last place are proved, and the last did not end in a
		// signature.
		r.judge(t, q.suspects[0], guilty, "the final signature does not verify, though every partial before it is proved")
		return
	}
	for _, s := range q.suspects {
		if t.devices[s.place].inToken {
			r.challenge(t, s)
		} else {
			r.askProof(t, s)
		}
		if r.attempt != t {
			return
		}
	}
	r.conclude(t)
}

// judge records a verdict. The first one stands.
func (r *Request) judge(t *attempt, s *suspect, v verdict, text string) {
	if s.verdict == open {
		s.verdict, s.text = v, text
	}
	r.conclude(t)
}

func (r *Request) askProof(t *attempt, s *suspect) {
	d := t.devices[s.place]
	r.send(d, firmware.TypeTask, firmware.TypePartial, r.taskOf(t, s.place, true),
		func(v *envelope.Verified) error {
			p, err := firmware.VerifyPartial(r.State, &r.key, r.digest, t.order, uint64(s.place), v.Raw())
			switch {
			case err != nil:
				return err
			case r.verifyProof(t, s.place, p) != nil:
				r.judge(t, s, guilty, "its proof does not hold")
			case !bytes.Equal(p.Y, t.partials[s.place].Y):
				r.judge(t, s, guilty, "it proved another value than it had given")
			default:
				r.judge(t, s, innocent, "")
			}
			return nil
		},
		func(_, text string) { r.judge(t, s, unclear, text) })
}

// challenge is the first step of the commit-and-open check.
func (r *Request) challenge(t *attempt, s *suspect) {
	d := t.devices[s.place]
	if r.outOfRange(t.partials[s.place].Y) {
		r.judge(t, s, guilty, "its partial signature is out of range")
		return
	}
	var err error
	s.challenge, s.opening, err = threshold.NewChallenge(r.Rand, &r.key.Public, &r.key.Commitment, r.input(t, s.place))
	if err != nil {
		r.judge(t, s, unclear, err.Error())
		return
	}
	ask := firmware.CheckAsk{Task: r.taskOf(t, s.place, false), Challenge: *s.challenge}
	r.send(d, firmware.TypeCheckAsk, firmware.TypeCheckCommit, ask,
		func(v *envelope.Verified) error {
			var in firmware.CheckCommit
			if err := envelope.Decode(v, firmware.TypeCheckCommit, firmware.MessageVersion, &in); err != nil {
				return err
			}
			if in.Request != r.digest || in.Index != d.holder.Index {
				return errors.New("it committed to another check")
			}
			s.commit = in.Commit
			r.openCheck(t, s)
			return nil
		},
		func(_, text string) { r.judge(t, s, unclear, text) })
}

// openCheck is the second step: the device has committed itself.
func (r *Request) openCheck(t *attempt, s *suspect) {
	d := t.devices[s.place]
	r.send(d, firmware.TypeCheckOpen, firmware.TypeCheckAnswer, firmware.CheckOpen{Request: r.digest, Opening: *s.opening},
		func(v *envelope.Verified) error {
			var in firmware.CheckAnswer
			if err := envelope.Decode(v, firmware.TypeCheckAnswer, firmware.MessageVersion, &in); err != nil {
				return err
			}
			if in.Request != r.digest || in.Index != d.holder.Index {
				return errors.New("it answered another check")
			}
			r.judgeAnswer(t, s, &in.Answer)
			return nil
		},
		func(_, text string) { r.judge(t, s, unclear, text) })
}

func (r *Request) judgeAnswer(t *attempt, s *suspect, a *threshold.Answer) {
	b := firmware.PartialBinding(r.State, &r.key, r.digest, t.order, uint64(s.place))
	p := t.partials[s.place]
	err := threshold.VerifyAnswer(&r.key.Public, &r.key.Commitment, b, p.Index, r.input(t, s.place), p.Y, s.challenge, s.opening, s.commit, a)
	var wrong *threshold.WrongPartialError
	switch {
	case err == nil:
		r.judge(t, s, innocent, "")
	case errors.As(err, &wrong):
		r.judge(t, s, guilty, "the check shows it wrong")
	default:
		r.judge(t, s, unclear, err.Error())
	}
}

// outOfRange reports whether a value can be no partial signature at all.
func (r *Request) outOfRange(y []byte) bool {
	_, err := threshold.FinishSequentialVarTime(&r.key.Public, r.checked.Algorithm(), r.checked.Digest(), y)
	return errors.Is(err, threshold.ErrValue)
}

// conclude ends the inquiry when every suspect has been heard.
func (r *Request) conclude(t *attempt) {
	if r.attempt != t {
		return
	}
	q := t.inquiry
	var wrong []*device
	names, silent := []string{}, []string{}
	for _, s := range q.suspects {
		d := t.devices[s.place]
		switch s.verdict {
		case open:
			return
		case guilty:
			wrong, names = append(wrong, d), append(names, d.id)
		case unclear:
			silent = append(silent, d.id)
		}
	}
	switch {
	case len(wrong) > 0:
		// Those who would not speak are left alone only if nobody else is to blame.
		r.end(fmt.Sprintf("wrong partial signature by %v", names), wrong...)
	case len(silent) > 0:
		for _, s := range q.suspects {
			if s.verdict == unclear {
				r.rest(t.devices[s.place], inquiryWait, "one of several was wrong, and it did not show that it was right: "+s.text)
			}
		}
		r.end(fmt.Sprintf("a partial signature was wrong; one of %v, who did not show theirs right", silent))
	case q.reporter != nil:
		text := fmt.Sprintf("device %s refused to go on (%s), but every partial signature before it is proved right", q.reporter.id, q.reporter.text)
		r.end(text, q.reporter)
	case r.sequential():
		// The places before are right, so the last one is not.
		last := t.devices[len(t.devices)-1]
		r.end(fmt.Sprintf("wrong partial signature by [%s]", last.id), last)
	default:
		for _, d := range t.devices {
			r.rest(d, inquiryWait, "the partial signatures are proved right and yet do not combine")
		}
		r.end(fmt.Sprintf("the partial signatures of %v are proved right and yet do not combine", t.ids()))
	}
}
