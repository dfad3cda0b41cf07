package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/server"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

func newInit() *cobra.Command {
	var c server.Config
	var dir string
	var outputs []uint
	cmd := &cobra.Command{
		Use:   "init --dir DIR --id ID --name NAME --https HOST:PORT --link ADDRESS",
		Short: "Make a message server: its keys, its directory",
		Long: `Make a message server in a directory: its signature, agreement and TLS keys, its
configuration, and DIR/identity.json, which the ceremony's file names. Nothing
existing is overwritten.

The identity is printed. It holds nothing secret.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := absolute(c.Links); err != nil {
				return err
			}
			for _, p := range slices.Concat(c.DevicePins, c.SourcePins) {
				if _, err := pinned.ParsePin(p); err != nil {
					return command.Misused(term.WithHint(err, "a pin is the SHA-256 of a transport key; 'privyseal-heartbeat init' prints a source's"))
				}
			}
			for _, code := range outputs {
				c.Outputs = append(c.Outputs, uint64(code))
			}
			id, err := server.Init(dir, c)
			if errors.Is(err, server.ErrExists) {
				return term.WithHint(err, "choose another directory, or start that server with 'privyseal-server run --dir "+dir+"'")
			}
			if err != nil {
				return err
			}
			return term.PrintJSON(cmd.OutOrStdout(), id)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the server's directory")
	f.StringVar(&c.ID, "id", "", "permanent id")
	f.StringVar(&c.Name, "name", "", "name of the site, for people")
	f.StringVar(&c.HTTPS, "https", "", "host:port where people and programs reach it")
	f.StringVar(&c.Route, "route", "", "host:port where other sites reach it (default: it only dials out)")
	f.StringSliceVar(&c.Links, "link", nil, "where its devices and heartbeat sources dial in: unix:PATH or tls:HOST:PORT, several with commas")
	f.StringVar(&c.ListenHTTPS, "listen-https", "", "host:port to listen on for people, if not the one above")
	f.StringVar(&c.ListenRoute, "listen-route", "", "host:port to listen on for sites, if not the one above")
	f.StringSliceVar(&c.DevicePins, "device-pin", nil, "SHA-256 of the transport keys that devices may have (tls links; default, with no --source-pin either: any)")
	f.StringSliceVar(&c.SourcePins, "source-pin", nil, "SHA-256 of the transport keys that heartbeat sources may have (tls links)")
	f.UintSliceVar(&outputs, "output", nil, "codes of enterprises whose independent output interface it is, several with commas")
	for _, name := range []string{"dir", "id", "name", "https", "link"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// absolute makes socket paths independent of where the server is started. It
// refuses addresses at which no server could listen.
func absolute(links []string) error {
	for i, l := range links {
		if path, ok := strings.CutPrefix(l, "unix:"); ok && path != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			links[i] = "unix:" + abs
		}
		if err := link.CheckListen(links[i]); err != nil {
			return command.Misused(term.WithHint(fmt.Errorf("--link: %w", err), "write it as unix:PATH or tls:HOST:PORT"))
		}
	}
	return nil
}
