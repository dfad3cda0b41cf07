// Package cardpin asks for a card's PIN. It stands apart from package term so
// that programs without a card reader do not link PC/SC.
package cardpin

import (
	"context"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// Source returns a PINSource that asks through entry. what says what the PIN is
// for ("approve request 3f2a on device alpha"); it may be empty.
func Source(entry term.Entry, what string) card.PINSource {
	return func(ctx context.Context, p card.Prompt) ([]byte, error) {
		pin, err := entry.Secret(ctx, Question(p, what))
		if errors.Is(err, term.ErrCancelled) {
			err = fmt.Errorf("the PIN of card %d was not given: %w", p.Serial, err)
		}
		return pin, err
	}
}

// Question words a card's prompt.
func Question(p card.Prompt, what string) term.Ask {
	a := term.Ask{
		Title:  "Privyseal",
		Text:   what,
		Prompt: fmt.Sprintf("PIN of card %d", p.Serial),
	}
	switch {
	case p.Retries == 1:
		a.Error = "One try left: another wrong PIN blocks the card."
	case p.Retries == 2:
		a.Error = "Two tries left."
	}
	if p.Touch {
		a.Text += touchLine(a.Text)
	}
	return a
}

func touchLine(before string) string {
	const s = "The card will want a touch after the PIN."
	if before == "" {
		return s
	}
	return "\n" + s
}
