// Command privyseal-virtualcard puts virtual PIV cards behind a private pcscd,
// for demonstrations and tests. The cards are files; they protect nothing.
package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func main() { command.Main(newCommand()) }

func newCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "privyseal-virtualcard",
		Short: "Virtual PIV cards behind the real pcscd",
		Long: `Virtual PIV cards behind the real pcscd, for demonstrations and tests.

The cards live as files in a directory, keys, PIN and PUK in clear: never use
them for anything that matters. They attest with the root in DIR/root.pem, which
a system in production must not be configured to trust.`,
	}
	c.PersistentFlags().StringVar(&dir, "dir", "", "the directory of the cards (required)")
	_ = c.MarkPersistentFlagRequired("dir")
	c.AddCommand(command.Server(newRun(&dir)), newCreate(&dir), newList(&dir), newFault(&dir))
	return c
}

// parseSerial reads a serial number as people type it.
func parseSerial(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, term.WithHint(errors.New("a serial number is a number of up to ten digits"), "privyseal-virtualcard list shows the cards")
	}
	return uint32(n), nil
}
