package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/democard"
	"github.com/privyseal/privyseal/cmd/internal/store/journal"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// records are the device's journal.
func (t *things) records() ([][]byte, error) {
	j, records, err := journal.Open(filepath.Join(t.device, "journal"))
	if err != nil {
		return nil, err
	}
	return records, j.Close()
}

// token opens the device's token with the PIN.
func (t *things) token() (*devicetoken.Token, error) {
	var c struct{ Module, Token string }
	data, err := os.ReadFile(filepath.Join(t.device, "device.json"))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(t.device)
	if err != nil {
		return nil, err
	}
	if err := hsm.UseSoftHSM(dir); err != nil {
		return nil, err
	}
	tok, err := hsm.Open(hsm.Config{Module: c.Module, TokenLabel: c.Token})
	if err != nil {
		return nil, err
	}
	pin, err := os.ReadFile(t.pin)
	if err != nil {
		return nil, err
	}
	out := devicetoken.New(tok)
	return out, out.Unlock(pin)
}

// readKey reads a private key in PEM.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: no ECDSA key", path)
	}
	return key, nil
}

// exchangers opens private keys for key agreement.
func exchangers(paths ...string) (out []ecdh.KeyExchanger, err error) {
	for _, path := range paths {
		k, err := readKey(path)
		if err != nil {
			return nil, err
		}
		x, err := k.ECDH()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// withCards opens the cards' agreement keys for the time of f.
func (t *things) withCards(ctx context.Context, f func([]ecdh.KeyExchanger) error) error {
	var keys []ecdh.KeyExchanger
	for _, serial := range t.cards {
		c, k, err := democard.Open(ctx, t.pins, uint32(serial))
		if err != nil {
			return err
		}
		defer c.Close()
		keys = append(keys, k.Agree)
	}
	return f(keys)
}

func newPIN() *cobra.Command {
	var t things
	return t.flags(&cobra.Command{
		Use:   "pin",
		Short: "Join a token's PIN from the pieces on the disk, with its officers' cards",
		Long: `Join a token's PIN from the pieces on the disk, with its officers' cards. That is
more than a thief can do: the demo does it for him, to show how little the PIN
helps him.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withCards(c.Context(), t.joinPIN)
		},
	}, "device", "cards", "pins", "out")
}

func (t *things) joinPIN(cards []ecdh.KeyExchanger) error {
	records, err := t.records()
	if err != nil {
		return err
	}
	var pieces []share.Piece
	for _, raw := range records {
		var r firmware.Record
		var p ceremony.Pending
		if envelope.Unmarshal(raw, &r) != nil || r.Kind != "prepared" || envelope.Unmarshal(r.Body, &p) != nil {
			continue
		}
		for _, k := range cards {
			id, err := envelope.KeyIDOf(k.PublicKey())
			if err != nil {
				return err
			}
			for _, x := range p.Pieces {
				if x.Purpose != share.PurposePIN || x.Card != id {
					continue
				}
				piece, err := share.OpenPieceFromCard(k, share.PieceContext{
					ID: x.ID, Purpose: x.Purpose, Device: x.Device, Share: x.Share, Card: id,
				}, x.Sealed)
				if err != nil {
					return err
				}
				pieces = append(pieces, piece)
			}
		}
	}
	if len(pieces) == 0 {
		return errors.New("no piece of the PIN is for these cards")
	}
	pin, err := share.JoinPieces(pieces)
	if err != nil {
		return err
	}
	return os.WriteFile(t.out, pin.Reveal(), 0o600)
}
