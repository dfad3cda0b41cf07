package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// maxSecretFile bounds a file with a PIN: eight bytes and a newline are meant.
const maxSecretFile = 64

type createFlags struct {
	profile          string
	serial           uint32
	pinFile, pukFile string
	ask, json        bool
}

func newCreate(dir *string) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create --dir DIR",
		Short: "Make a card and personalise it",
		Long: `Make a card with a random serial number and print the number. PIN and PUK are
123456 and 12345678, as on a card from the factory, unless files say otherwise
or --ask asks for them. A running "run" does not plug the card in, but "fault
swap" can.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := virtual.ProfileNamed(f.profile)
			if err != nil {
				return err
			}
			d, err := virtual.OpenDir(*dir, time.Now())
			if err != nil {
				return err
			}
			serial, err := d.Create(p, f.serial, func(s *virtual.State) error { return f.personalise(cmd.Context(), s) })
			if err != nil {
				return err
			}
			if f.json {
				return term.PrintJSON(cmd.OutOrStdout(), cardJSON{Serial: serial, Profile: p.Name})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), serial)
			return err
		},
	}
	cmd.Flags().StringVar(&f.profile, "profile", "5.7", "kind of card: 5.4 (3DES management key) or 5.7 (AES)")
	cmd.Flags().Uint32Var(&f.serial, "serial", 0, "serial number (default random)")
	cmd.Flags().StringVar(&f.pinFile, "pin-file", "", "file with the PIN, 6 to 8 characters")
	cmd.Flags().StringVar(&f.pukFile, "puk-file", "", "file with the PUK, 6 to 8 characters")
	cmd.Flags().BoolVar(&f.ask, "ask", false, "ask for PIN and PUK at the terminal")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("ask", "pin-file")
	cmd.MarkFlagsMutuallyExclusive("ask", "puk-file")
	return cmd
}

// personalise sets PIN and PUK as the flags say.
func (f *createFlags) personalise(ctx context.Context, s *virtual.State) error {
	for _, secret := range []struct {
		name, file string
		set        func(string) error
	}{
		{"PIN", f.pinFile, s.SetPIN},
		{"PUK", f.pukFile, s.SetPUK},
	} {
		var b []byte
		var err error
		switch {
		case f.ask:
			b, err = ask(ctx, fmt.Sprintf("%s of card %d", secret.name, s.Serial))
		case secret.file != "":
			b, err = readSecret(secret.file)
		default:
			continue
		}
		if err != nil {
			return err
		}
		err = secret.set(string(b))
		clear(b)
		if err != nil {
			return fmt.Errorf("%s: %w", secret.name, err)
		}
	}
	return nil
}

// ask asks for a new secret twice.
func ask(ctx context.Context, what string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, term.WithHint(errors.New("there is no terminal to ask at"), "give --pin-file and --puk-file instead of --ask")
	}
	defer tty.Close()
	t := term.NewTerminal(tty)
	first, err := t.Secret(ctx, term.Ask{Prompt: "New " + what})
	if err != nil {
		return nil, err
	}
	again, err := t.Secret(ctx, term.Ask{Prompt: "The same again"})
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(first, again) {
		clear(first)
		return nil, errors.New("the two entries differ")
	}
	return first, nil
}

// readSecret reads a secret from a file, less the newline that editors add.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("%s is too long for a PIN or PUK", path)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}
