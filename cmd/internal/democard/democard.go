// Package democard opens the cards of a demonstration, whose PINs lie in files.
package democard

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/client"
)

// Open opens a card with the PIN in the file of pins that is named like its
// serial number. The caller closes the card.
func Open(ctx context.Context, pins string, serial uint32) (*card.Card, client.Keys, error) {
	pin := func(context.Context, card.Prompt) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(pins, strconv.FormatUint(uint64(serial), 10)))
		return bytes.TrimSpace(b), err
	}
	c, err := card.Open(ctx, serial, card.Options{PIN: pin})
	if err != nil {
		return nil, client.Keys{}, err
	}
	sign, err := c.Signer(ctx)
	if err == nil {
		var agree *card.Agreement
		if agree, err = c.Agreement(ctx); err == nil {
			return c, client.Keys{Sign: sign, Agree: agree}, nil
		}
	}
	return nil, client.Keys{}, errors.Join(err, c.Close())
}
