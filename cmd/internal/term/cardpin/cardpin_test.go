package cardpin

import (
	"context"
	"errors"
	"testing"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func TestQuestion(t *testing.T) {
	for _, c := range []struct {
		p    card.Prompt
		what string
		want term.Ask
	}{
		{card.Prompt{Serial: 7, Retries: 3}, "", term.Ask{Title: "Privyseal", Prompt: "PIN of card 7"}},
		{card.Prompt{Serial: 7, Retries: -1}, "Approve.", term.Ask{Title: "Privyseal", Text: "Approve.", Prompt: "PIN of card 7"}},
		{card.Prompt{Serial: 7, Retries: 2, Touch: true}, "Approve.", term.Ask{Title: "Privyseal", Text: "Approve.\nThe card will want a touch after the PIN.", Prompt: "PIN of card 7", Error: "Two tries left."}},
		{card.Prompt{Serial: 7, Retries: 1, Touch: true}, "", term.Ask{Title: "Privyseal", Text: "The card will want a touch after the PIN.", Prompt: "PIN of card 7", Error: "One try left: another wrong PIN blocks the card."}},
	} {
		if got := Question(c.p, c.what); got != c.want {
			t.Errorf("%+v\nwant %+v", got, c.want)
		}
	}
}

type entry func(term.Ask) ([]byte, error)

func (e entry) Secret(_ context.Context, a term.Ask) ([]byte, error) { return e(a) }

func TestSource(t *testing.T) {
	src := Source(entry(func(a term.Ask) ([]byte, error) {
		if a.Prompt != "PIN of card 7" {
			t.Errorf("%+v", a)
		}
		return nil, term.ErrCancelled
	}), "")
	if _, err := src(t.Context(), card.Prompt{Serial: 7}); !errors.Is(err, term.ErrCancelled) || err.Error() != "the PIN of card 7 was not given: cancelled" {
		t.Error(err)
	}
}
