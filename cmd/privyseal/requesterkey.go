package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
)

func newRequesterKey(a *app) *cobra.Command {
	return command.Group("requester-key", "Software keys that may ask for signatures and never approve", &cobra.Command{
		Use:   "new FILE",
		Short: "Make a key, and print its public half for the ceremony file",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.newRequesterKey(args[0]) },
	})
}

func (a *app) newRequesterKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), a.rand)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(private)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(text)
	if err := writeNew(path, text, 0o600); err != nil {
		return err
	}
	out := struct {
		File     string         `json:"file"`
		ID       envelope.KeyID `json:"id"`
		Software string         `json:"software"` // the ceremony file's field: SPKI in PEM
	}{path, envelope.KeyIDOfSPKI(spki), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}
	return a.result(out, func() {
		for line := range strings.Lines(out.Software) {
			a.say("%s", strings.TrimSuffix(line, "\n"))
		}
		a.tell("the private key is in %s, its id is %s; put the public one above under \"software\" into the ceremony file, for the person or program that asks with it", path, out.ID)
	})
}

// readRequesterKey reads a P-256 key in PEM, as requester-key and openssl
// write it.
func readRequesterKey(path string) (crypto.Signer, error) {
	data, err := readSmall(path, 64<<10)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	bad := func(err error) error {
		return term.WithHint(fmt.Errorf("%s: %w", path, err), "make one with: privyseal requester-key new FILE")
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, bad(errors.New("it holds no private key in PEM"))
		}
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		default:
			return nil, bad(fmt.Errorf("it holds a %.40q, not a private key", block.Type))
		}
		if err != nil {
			return nil, bad(err)
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok || ec.Curve != elliptic.P256() {
			return nil, bad(errors.New("the key is not on P-256"))
		}
		return ec, nil
	}
}
