package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware/envelope"
)

func newInit() *cobra.Command {
	var c source.Config
	var dir, system string
	cmd := &cobra.Command{
		Use:   "init --dir DIR --id ID --name NAME --kind KIND --server ID --link ADDRESS --operator PERSON...",
		Short: "Make a source: its keys, its directory",
		Long: `Make a heartbeat source in a directory: its identity key, its agreement key, its
first beat key and, for a sequence, its secret. Nothing existing is overwritten.

What the ceremony's file says of the source, an entry of its list "sources", is
printed. It holds nothing secret.

Kinds: message (encrypted messages, a minimum number in a lease), sequence (a
synchronised pseudo-random sequence), satellite (signed answers to challenges).

Operators are persons of the ceremony's file. Any one of them may silence the
source for a device, with a card from afar; whoever stands at this machine may
with 'privyseal-heartbeat revoke'.

The source serves the first system that its message server shows and that lists
it, for good. --system fixes that beforehand, which is of use only where the
ceremony was held already. Keys are files: a PKCS#11 token is not supported.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var id envelope.Hash
			var err error
			if system != "" {
				if id, err = envelope.ParseHash(system); err != nil {
					return command.Misused(term.WithHint(fmt.Errorf("--system: %w", err), "it is what the ceremony printed, 64 hex digits"))
				}
			}
			if c.Link, err = absolute(c.Link); err != nil {
				return err
			}
			src, err := source.Init(dir, c, id, time.Now().Unix())
			if err != nil {
				return hint(dir, err)
			}
			if strings.HasPrefix(c.Link, "tls:") {
				pin, err := source.Pin(dir)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "transport key for the server's --device-pin: %s\n", pin)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), source.YAML(src))
			return err
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringVar(&c.ID, "id", "", "permanent id")
	f.StringVar(&c.Name, "name", "", "name, for people")
	f.StringVar(&c.Kind, "kind", "", "message, sequence or satellite")
	f.StringVar(&c.Server, "server", "", "id of its message server")
	f.StringVar(&c.Link, "link", "", "where that is: unix:PATH or tls:HOST:PORT")
	f.StringSliceVar(&c.Pins, "pin", nil, "SHA-256 of the server's transport key (tls only)")
	f.StringSliceVar(&c.Operators, "operator", nil, "person who may silence it, by id; several with commas")
	f.StringVar(&system, "system", "", "id of the system that it is to serve (default: the first that lists it)")
	for _, name := range []string{"id", "name", "kind", "server", "link", "operator"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// absolute makes a socket's path independent of where the source is started. It
// refuses an address that could never be dialled.
func absolute(address string) (string, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok && path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		address = "unix:" + abs
	}
	if err := link.CheckDial(address); err != nil {
		return "", command.Misused(term.WithHint(fmt.Errorf("--link: %w", err), "write it as unix:PATH or tls:HOST:PORT"))
	}
	return address, nil
}
