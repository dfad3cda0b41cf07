package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/term/cardpin"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/share"
)

const (
	// insertPatience is how long a person has to insert a card that is asked for.
	insertPatience = 2 * time.Minute

	// readerPoll is how often the readers are looked at meanwhile.
	readerPoll = 500 * time.Millisecond
)

// pinEntry is how PINs are asked for. The terminal is opened only then.
func (a *app) pinEntry() (e term.Entry, done func()) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return term.NewEntry(a.pinentry, a.getenv, nil), func() {}
	}
	return term.NewEntry(a.pinentry, a.getenv, tty), func() { tty.Close() }
}

// useCard opens the first of some cards that is in a reader and calls f with it.
// The PIN is asked for when the card wants it, and wiped.
func (a *app) useCard(ctx context.Context, s ledger.State, why string, cards []ledger.Card, f func(*card.Card) error) (err error) {
	chosen, err := a.inserted(ctx, cards)
	if err != nil {
		return err
	}
	entry, done := a.pinEntry()
	defer done()
	pin, forget := card.Batch(cardpin.Source(entry, why))
	defer forget()
	o := card.Options{PIN: pin, Touch: func(p card.Prompt) { a.tell("touch card %d", p.Serial) }}
	// It has to be the card in the tables, not another with its number.
	if id, ok := s.Identity(envelope.KeyIDOfSPKI(chosen.Sign)); ok {
		o.SignKey = id.SignKey
	}
	if id, ok := s.Identity(envelope.KeyIDOfSPKI(chosen.Agree)); ok {
		o.AgreeKey = id.AgreeKey
	}
	c, err := card.Open(ctx, chosen.Serial, o)
	if err != nil {
		return err
	}
	defer func() {
		// A card that was not reset keeps its PIN verified: that is worth an error.
		if e := c.Close(); err == nil {
			err = e
		}
	}()
	return f(c)
}

// inserted waits for one of some cards.
func (a *app) inserted(ctx context.Context, cards []ledger.Card) (ledger.Card, error) {
	wait, cancel := context.WithTimeout(ctx, insertPatience)
	defer cancel()
	for asked := false; ; asked = true {
		list, err := card.List(wait)
		if err != nil && !errors.Is(err, card.ErrNoReader) {
			return ledger.Card{}, err
		}
		for _, c := range cards {
			for _, r := range list {
				if r.PIV && r.Serial == c.Serial {
					return c, nil
				}
			}
		}
		if !asked {
			var names []string
			for _, c := range cards {
				names = append(names, fmt.Sprint(c.Serial))
			}
			a.tell("insert card %s", strings.Join(names, " or "))
		}
		select {
		case <-ctx.Done():
			return ledger.Card{}, context.Cause(ctx)
		case <-wait.Done():
			return ledger.Card{}, term.WithHint(errors.New("none of the cards that are needed was inserted"), "nothing was dealt: run the same command again")
		case <-time.After(readerPoll):
		}
	}
}

// confirm has the operator's card sign.
func (a *app) confirm(ctx context.Context, s ledger.State, r *dealing.Result) error {
	operator, _ := s.Person(r.Dealing.Operator)
	a.tell("%s (%s) confirms the dealing", operator.Name, operator.ID)
	why := fmt.Sprintf("%s: confirm dealing %d of %s", operator.Name, r.Dealing.Revision, r.Dealing.Enterprise.Name)
	return a.useCard(ctx, s, why, operator.Cards, func(c *card.Card) error {
		signer, err := c.Signer(ctx)
		if err != nil {
			return err
		}
		return r.Confirm(a.rand, a.now().Unix(), s, crypto.Signer(signer))
	})
}

// keepers opens pieces of a reserve with their keepers' cards.
type keepers struct {
	app     *app
	state   ledger.State
	reserve *dealing.Reserve
	pieces  []share.Piece
	used    []int
}

func (k *keepers) wipe() {
	for _, p := range k.pieces {
		p.Wipe()
	}
}

// open has keepers come until there are so many pieces.
func (k *keepers) open(ctx context.Context, n int) error {
	for len(k.pieces) < n {
		if err := k.next(ctx, n-len(k.pieces)); err != nil {
			return err
		}
	}
	return nil
}

// next opens one more piece.
func (k *keepers) next(ctx context.Context, more int) error {
	var cards []ledger.Card
	of := map[uint32]int{}
	var names []string
	for i := range k.reserve.Pieces {
		p := &k.reserve.Pieces[i]
		if slices.Contains(k.used, i) {
			continue
		}
		person, c, ok := k.state.PersonOfKey(p.Agree)
		if !ok || person.ID != p.Person || c.Serial != p.Card {
			continue // a card that the system no longer has
		}
		cards, of[c.Serial] = append(cards, c), i
		names = append(names, fmt.Sprintf("%s (card %d)", person.Name, c.Serial))
	}
	if len(cards) < more {
		return fmt.Errorf("%d more pieces of the reserve are needed, and %d keepers are left", more, len(cards))
	}
	k.app.tell("%d more pieces of the reserve are needed, of: %s", more, strings.Join(names, ", "))
	return k.app.useCard(ctx, k.state, fmt.Sprintf("open the reserve of %s", k.reserve.Key), cards, func(c *card.Card) error {
		agree, err := c.Agreement(ctx)
		if err != nil {
			return err
		}
		i := of[c.Serial()]
		piece, err := k.reserve.OpenPiece(i, agree)
		if err != nil {
			return fmt.Errorf("card %d: %w", c.Serial(), err)
		}
		k.pieces, k.used = append(k.pieces, piece), append(k.used, i)
		return nil
	})
}
