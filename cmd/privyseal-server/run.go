package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/server"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

// Memory: a message server holds little and passes much through. When batches are
// on their way the collector would cost as much as all else that the server does
// for them, were the heap as small between collections as it is at rest. The soft
// limit makes it work harder where hundreds of batches are open.
const (
	gcPercent   = 200
	memoryLimit = 512 << 20
)

func newRun() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Run the message server",
		Long: `Run the message server. Before the ceremony it relays the ceremony's messages to
its devices and nothing else; with the system that the ceremony hands it, it
takes requests, keeps officers' inboxes and joins the other sites.

It goes on with every request that was open when it stopped, however it stopped.
DIR/audit.log has a line for every message in and out. DIR/rules.json, if there,
holds the firewall's rules and is read again when it changes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			debug.SetGCPercent(gcPercent)
			debug.SetMemoryLimit(memoryLimit)
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if _, err := server.LoadConfig(dir); errors.Is(err, fs.ErrNotExist) {
				return term.WithHint(fmt.Errorf("%s is not a message server's directory", dir), "make one with 'privyseal-server init --dir "+dir+"'")
			}
			s, err := server.Start(dir, server.Options{Log: log})
			if err != nil {
				return err
			}
			defer s.Close()
			debug.FreeOSMemory()
			log.Info("message server runs", "id", s.ID(), "url", s.URL())
			return s.Wait(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the server's directory")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}
