package systemtest

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/approval"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestBackdatedUnlock has one officer date his word back. Sources order
// enrolments by the oldest word in them: the device would open, and none would
// beat for it.
func TestBackdatedUnlock(t *testing.T) {
	s := New(t, Only(Pair), Beats(mixed(), "d1"))
	s.Pass(2 * time.Second)
	s.Lock("d1")
	offer, err := s.AskUnlock("d1")
	s.check(err)
	words := func(created int64) (out [][]byte) {
		for i, o := range s.Officers("d1") {
			sealed, piece := s.Piece(o, offer.Pieces)
			raw := s.UnlockApproval(o, "d1", offer, sealed.ID, piece)
			if i == 0 {
				var a approval.UnlockApproval
				u, err := envelope.Parse(raw)
				s.check(err)
				s.check(envelope.Unmarshal(u.UnverifiedPayload(), &a))
				a.Created = created
				body, err := envelope.Marshal(a)
				s.check(err)
				h := u.Header()
				h.Created = created
				raw, err = envelope.Sign(rand.Reader, o.Card, h, body)
				s.check(err)
			}
			out = append(out, raw)
		}
		return out
	}
	now := s.Now().Unix()
	for _, created := range []int64{1, now - 3600, now - 301} {
		if err := s.SendUnlock("d1", offer, words(created)); err == nil || !strings.Contains(err.Error(), "before the device asked") {
			t.Errorf("%d s before: %v", now-created, err)
		}
	}
	s.check(s.SendUnlock("d1", offer, words(now-299)))
}
