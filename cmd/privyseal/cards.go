package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/term/cardpin"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// insertPatience is how long a person has to insert the card asked for.
const insertPatience = 2 * time.Minute

// pinEntry is how PINs are asked for. The terminal is opened only then.
func (a *app) pinEntry() (e term.Entry, done func()) {
	if a.entry != nil {
		return a.entry, func() {}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return term.NewEntry(a.pinentry, a.getenv, nil), func() {}
	}
	return term.NewEntry(a.pinentry, a.getenv, tty), func() { tty.Close() }
}

// useCard opens a card and calls f with it. The PIN is asked for once, when
// the card first wants it, kept until f returns, and wiped. why says what it is
// for.
func (a *app) useCard(ctx context.Context, serial uint32, o card.Options, why string, f func(*card.Card) error) (err error) {
	entry, done := a.pinEntry()
	defer done()
	ask := cardpin.Source(entry, why)
	pin, forget := card.Batch(func(ctx context.Context, p card.Prompt) ([]byte, error) {
		secret, err := ask(ctx, p)
		if err != nil {
			err = &askError{err}
		}
		return secret, err
	})
	defer forget()
	o.PIN = pin
	o.Touch = func(p card.Prompt) { a.tell("touch card %d", p.Serial) }
	c, err := a.openCard(ctx, serial, o)
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

// askError: there is no PIN, for whatever reason. It is no fault of what the card
// was wanted for.
type askError struct{ error }

func (e *askError) Unwrap() error { return e.error }

// withCard is useCard for those who need its two keys.
func (a *app) withCard(ctx context.Context, serial uint32, o card.Options, why string, f func(client.Keys) error) error {
	return a.useCard(ctx, serial, o, why, func(c *card.Card) error {
		sign, err := c.Signer(ctx)
		if err != nil {
			return err
		}
		agree, err := c.Agreement(ctx)
		if err != nil {
			return err
		}
		return f(client.Keys{Sign: sign, Agree: agree})
	})
}

// openCard opens a card; a person at the terminal may insert it now.
func (a *app) openCard(ctx context.Context, serial uint32, o card.Options) (*card.Card, error) {
	c, err := card.Open(ctx, serial, o)
	var missing *card.NotFoundError
	if !a.interactive || !errors.As(err, &missing) && !errors.Is(err, card.ErrNoReader) {
		return c, err
	}
	a.tell("insert card %d", serial)
	wait, cancel := context.WithTimeout(ctx, insertPatience)
	defer cancel()
	if _, err := card.Wait(wait, serial); err != nil {
		return nil, err
	}
	return card.Open(ctx, serial, o)
}

// registered makes a card be the one in the tables.
func registered(s ledger.State, c ledger.Card) card.Options {
	var o card.Options
	if id, ok := s.Identity(envelope.KeyIDOfSPKI(c.Sign)); ok {
		o.SignKey = id.SignKey
	}
	if id, ok := s.Identity(envelope.KeyIDOfSPKI(c.Agree)); ok {
		o.AgreeKey = id.AgreeKey
	}
	return o
}

// chooseCard is the card of the flag, or the only card of this system that is
// in a reader.
func (a *app) chooseCard(ctx context.Context, s ledger.State, flag string) (uint32, error) {
	if flag != "" {
		n, err := strconv.ParseUint(flag, 10, 32)
		if err != nil || n == 0 {
			return 0, usage(fmt.Sprintf("%q is no card's serial number", flag), "it is printed on the card")
		}
		return uint32(n), nil
	}
	list, err := card.List(ctx)
	if err != nil {
		return 0, err
	}
	var ours []uint32
	for _, r := range list {
		if _, _, ok := cardOf(s, r.Serial); r.PIV && ok {
			ours = append(ours, r.Serial)
		}
	}
	slices.Sort(ours)
	switch len(ours) {
	case 0:
		return 0, term.WithHint(errors.New("no card of this system is in a reader"), "insert your card, or name it with --card")
	case 1:
		return ours[0], nil
	}
	var names []string
	for _, n := range ours {
		names = append(names, fmt.Sprint(n))
	}
	return 0, usage("several cards are in readers: "+strings.Join(names, ", "), "say which with --card")
}

func cardOf(s ledger.State, serial uint32) (ledger.Person, ledger.Card, bool) {
	for _, p := range s.Persons() {
		for _, c := range p.Cards {
			if c.Serial == serial {
				return p, c, true
			}
		}
	}
	return ledger.Person{}, ledger.Card{}, false
}
