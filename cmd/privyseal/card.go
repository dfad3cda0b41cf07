package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/term/cardpin"
	"github.com/privyseal/privyseal/firmware/attest"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// factoryManagementKey is the management key that every PIV card of the
// YubiKey family leaves the factory with (Yubico, "PIV management key").
const factoryManagementKey = "010203040506070801020304050607080102030405060708"

func newCard(a *app) *cobra.Command {
	return command.Group("card", "Prepare officers' cards", newCardList(a), newCardEnrol(a))
}

func newCardList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the readers and the cards in them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			readers, err := card.List(c.Context())
			if err != nil {
				return err
			}
			type row struct {
				Reader string `json:"reader"`
				Serial uint32 `json:"serial,omitempty"`
				Text   string `json:"text,omitempty"`
			}
			var rows []row
			for _, r := range readers {
				x := row{Reader: r.Name, Serial: r.Serial}
				switch {
				case !r.Present:
					x.Text = "empty"
				case r.Err != nil:
					x.Text = r.Err.Error()
				case !r.PIV:
					x.Text = "no PIV card"
				default:
					x.Text = "PIV card, version " + r.Version.String()
				}
				rows = append(rows, x)
			}
			return a.result(rows, func() {
				for _, x := range rows {
					a.say("%-40s %-10s %s", x.Reader, serialText(x.Serial), x.Text)
				}
			})
		},
	}
}

func serialText(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func newCardEnrol(a *app) *cobra.Command {
	var serial uint32
	var name, touch string
	var ask, overwrite bool
	c := &cobra.Command{
		Use:   "enrol --card SERIAL",
		Short: "Make an officer's keys in a card (slots 9C and 9D)",
		Long: `Make an officer's keys in a card: the signature key in slot 9C, which asks for the
PIN before each signature, and the agreement key in slot 9D. Both stay in the
card, and the card attests that. Change the card's PIN, PUK and management key
from the factory's before you hand it out.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.enrolCard(c.Context(), serial, ask, name, touch, overwrite)
		},
	}
	f := c.Flags()
	f.Uint32Var(&serial, "card", 0, "serial number of the card")
	f.BoolVar(&ask, "ask-management-key", false, "ask for the card's management key, in hex, instead of trying the factory's")
	f.StringVar(&name, "name", "", "the officer's name, for the certificates on the card")
	f.StringVar(&touch, "touch", "never", "when the signature key wants a touch: never, always, cached")
	f.BoolVar(&overwrite, "overwrite", false, "replace keys that are there; what was sealed to them is lost")
	_ = c.MarkFlagRequired("card")
	return c
}

func (a *app) enrolCard(ctx context.Context, serial uint32, ask bool, name, touch string, overwrite bool) error {
	policy, ok := map[string]attest.TouchPolicy{"never": attest.TouchNever, "always": attest.TouchAlways, "cached": attest.TouchCached}[touch]
	if !ok {
		return usage(fmt.Sprintf("--touch %q", touch), "choose never, always or cached")
	}
	if overwrite {
		a.tell("This destroys the keys in slots 9C and 9D of card %d.", serial)
		if err := term.Confirm(a.in, a.err, fmt.Sprint(serial)); err != nil {
			return err
		}
	}
	entry, done := a.pinEntry()
	defer done()
	key := []byte(factoryManagementKey)
	if ask {
		var err error
		if key, err = entry.Secret(ctx, term.Ask{Title: "Privyseal", Text: fmt.Sprintf("Management key of card %d, in hex", serial), Prompt: "Key:"}); err != nil {
			return err
		}
	}
	defer clear(key)
	management, err := hex.DecodeString(strings.TrimSpace(string(key)))
	if err != nil {
		return fmt.Errorf("the management key is not hex: %w", err)
	}
	pin, forget := card.Batch(cardpin.Source(entry, "make keys"))
	defer forget()
	c, err := a.openCard(ctx, serial, card.Options{PIN: pin})
	if err != nil {
		return err
	}
	defer c.Close()
	e, err := c.Enrol(ctx, card.Enrolment{ManagementKey: management, Touch: policy, Overwrite: overwrite, Name: name, Now: a.now()})
	if err != nil {
		return err
	}
	sign, err := envelope.KeyIDOf(e.Sign)
	if err != nil {
		return err
	}
	agree, err := envelope.KeyIDOf(e.Agree)
	if err != nil {
		return err
	}
	return a.result(struct {
		Serial uint32         `json:"serial"`
		Sign   envelope.KeyID `json:"sign"`
		Agree  envelope.KeyID `json:"agree"`
	}{e.Serial, sign, agree}, func() {
		a.say("card %d: signature key %s, agreement key %s", e.Serial, short(sign), short(agree))
	})
}
