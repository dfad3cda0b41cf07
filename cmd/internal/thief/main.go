// Command thief is what the demo's thief has of his own: a tap on a device's
// line, a message server that does what he likes, and software that speaks for
// the device whose disk, token and PIN he has. It fails where he succeeds.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/ledger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cobra.Command{Use: "thief", Short: "What the demo's thief tries", SilenceErrors: true, SilenceUsage: true}
	c.AddCommand(newTap(), newPIN(), newReplay(), newPatched(), newChallenge(), newOpen())
	if err := c.ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		term.PrintError(os.Stderr, err)
		os.Exit(1)
	}
}

// things are what the verbs are given.
type things struct {
	home      string // the system's tables, which everybody may have
	device    string // a copy of the device's directory
	pin       string // file with the token's PIN
	server    string // a copy of the message server's directory
	recording string // what the tap has heard
	cards     []uint
	pins      string // the cards' PINs
	link      string
	id        string
	key       string
	out       string
}

// flags adds the named ones, all of them required.
func (t *things) flags(c *cobra.Command, names ...string) *cobra.Command {
	f := c.Flags()
	for _, name := range names {
		switch name {
		case "home":
			f.StringVar(&t.home, name, "", "directory with the system's tables")
		case "device":
			f.StringVar(&t.device, name, "", "copy of the device's directory")
		case "pin-file":
			f.StringVar(&t.pin, name, "", "file with the token's PIN")
		case "server":
			f.StringVar(&t.server, name, "", "copy of the message server's directory")
		case "recording":
			f.StringVar(&t.recording, name, "", "what a tap has heard")
		case "cards":
			f.UintSliceVar(&t.cards, name, nil, "serial numbers of cards")
		case "pins":
			f.StringVar(&t.pins, name, "", "directory with the cards' PINs")
		case "link":
			f.StringVar(&t.link, name, "", "unix:PATH")
		case "id":
			f.StringVar(&t.id, name, "", "id of the device")
		case "key":
			f.StringVar(&t.key, name, "", "id of the key")
		case "out":
			f.StringVar(&t.out, name, "", "file to write")
		}
		_ = c.MarkFlagRequired(name)
	}
	c.Args = cobra.NoArgs
	return c
}

// row is the device in the tables.
func (t *things) row() (ledger.State, ledger.Device, error) {
	home, err := client.Open(t.home)
	if err != nil {
		return ledger.State{}, ledger.Device{}, err
	}
	s := home.State()
	d, ok := s.Device(t.id)
	if !ok {
		return s, d, fmt.Errorf("there is no device %q", t.id)
	}
	return s, d, nil
}
