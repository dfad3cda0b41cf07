package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newRevoke() *cobra.Command {
	var dir, reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke DEVICE --dir DIR",
		Short: "Silence the source for a device, at this machine",
		Long: `Silence the source for a device: when this command returns, the source makes no
further beat for it, whether it runs or not. Asks for the device's id to be
typed.

Do it when a device was stolen or is not where it should be; ask questions
afterwards. An unnecessary revocation costs its officers an unlocking: nothing
here takes it back, only the device's officers do, with 'privyseal officer
unlock DEVICE', later than the revocation.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			device := args[0]
			if err := source.CheckSilence(dir, device, reason); err != nil {
				return hint(dir, err)
			}
			if !yes {
				fmt.Fprintf(cmd.ErrOrStderr(), "This source makes no more beats for device %s until its officers unlock it.\n", term.Clean(device))
				if err := term.Confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), device); err != nil {
					return err
				}
			}
			if err := source.Silence(dir, device, reason, time.Now().Unix()); err != nil {
				return hint(dir, err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is silenced\n", device)
			return err
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
