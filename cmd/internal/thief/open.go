package main

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/loot"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

func newOpen() *cobra.Command {
	var t things
	c := &cobra.Command{
		Use:   "open",
		Short: "Open the token with its PIN, and try to use the share with all there is",
		Long: `Open the token with its PIN, read all objects in it and all records on the disk,
open with every key there is every envelope that ever passed the device's line,
and try to raise a number to each of the device's exponents: that is a partial
signature, and what it should give is published in the genesis.

With --cards the device's officers help, without a request to sign. Then it has
to work: else the attempt without them proves nothing.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withCards(c.Context(), func(cards []ecdh.KeyExchanger) error { return t.open(c.OutOrStdout(), cards) })
		},
	}
	t.flags(c, "home", "device", "pin-file", "server", "recording", "id", "key")
	c.Flags().UintSliceVar(&t.cards, "cards", nil, "serial numbers of officers' cards")
	c.Flags().StringVar(&t.pins, "pins", "", "directory with the cards' PINs")
	return c
}

func (t *things) open(w io.Writer, cards []ecdh.KeyExchanger) error {
	s, d, err := t.row()
	if err != nil {
		return err
	}
	k, ok := s.Key(t.key)
	if !ok {
		return fmt.Errorf("there is no key %q", t.key)
	}
	token, err := t.token()
	if err != nil {
		return err
	}
	defer token.Close()
	f, err := t.learn(w, token, d, cards)
	if err != nil {
		return err
	}
	tried, ok := f.Use(&k, token)
	switch {
	case tried == 0:
		return errors.New("no share of the key was there to try")
	case ok && len(cards) == 0:
		return fmt.Errorf("the share of key %s works", k.ID)
	case !ok && len(cards) > 0:
		return errors.New("not even with the officers' cards does the share work: the attempt proves nothing")
	case ok:
		fmt.Fprintf(w, "with the cards he uses the share of key %s: nothing else was missing\n", k.ID)
	default:
		fmt.Fprintf(w, "no partial signature: not one of the %d exponents of key %s opens: the officers' key over them is nowhere in all that\n", tried, k.ID)
	}
	return nil
}

// learn has the thief look at everything.
func (t *things) learn(w io.Writer, token *devicetoken.Token, d ledger.Device, cards []ecdh.KeyExchanger) (*loot.Thief, error) {
	_, agree, err := token.Keys(d.Sign, d.Agree)
	if err != nil {
		return nil, err
	}
	keys, err := exchangers(filepath.Join(t.device, "boot.key"), filepath.Join(t.server, "sign.key"), filepath.Join(t.server, "agree.key"))
	if err != nil {
		return nil, err
	}
	f := loot.NewThief(slices.Concat([]ecdh.KeyExchanger{agree}, keys, cards)...)
	names, err := token.ListObjects("")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		_, data, err := token.GetObject(n)
		if err != nil {
			return nil, err
		}
		f.Learn(data)
		fmt.Fprintf(w, "in the token: object %s, %d octets\n", n, len(data))
	}
	records, err := t.records()
	if err != nil {
		return nil, err
	}
	to, from, err := readRecording(t.recording)
	if err != nil {
		return nil, err
	}
	f.Learn(slices.Concat(records, to, from)...)
	n := f.Found()
	fmt.Fprintf(w, "the token is open; %d records on the disk, %d messages from the line; with %d keys %d envelopes and pieces open, %d shares are there, each encrypted; %d of %d sealed pieces open\n",
		len(records), len(to)+len(from), 1+len(keys)+len(cards), n.Opened, n.Shares, n.Pieces, n.Sealed)
	return f, nil
}
