package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newReset() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "reset --dir DIR",
		Short: "Destroy a device: its token, its share, its records",
		Long: `Destroy a device with everything in its directory. Its shares are gone for good;
the keys they belong to go on while enough other devices hold theirs. Asks for
the device's id to be typed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(dir)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "This destroys device %s and every share it holds.\n", c.ID)
			if err := term.Confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), c.ID); err != nil {
				return err
			}
			return destroy(dir, c)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the device's directory")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}

// destroy removes a device's files, the token first: a crash half-way leaves
// device.json, so that reset can be repeated.
func destroy(dir string, c *config) error {
	if !c.SoftHSM {
		return term.WithHint(errors.New("the token is not in the device's directory"), "initialise it anew with its maker's tool, then remove the directory")
	}
	for _, name := range []string{"tokens", "softhsm2.conf", filePIN, fileJournal, fileSeen, fileBootKey, fileSignCert, fileAgreeCert, fileIdentity, fileConfig} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
