package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/source"
)

func newRotate() *cobra.Command {
	var dir string
	var epoch uint64
	cmd := &cobra.Command{
		Use:   "rotate --dir DIR",
		Short: "Make the next beat key",
		Long: `Make the next beat key, certified by the identity key, and destroy the one
before. A running source takes it over with its next beat, without a restart;
devices that have heard it go back to no earlier one. The ledger does not
change. The epoch of the new key is printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := source.Rotate(dir, epoch, time.Now().Unix())
			if err != nil {
				return hint(dir, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d\n", n)
			return err
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "go on to this epoch, for a source whose devices have heard a later one (default: the next)")
	return cmd
}
