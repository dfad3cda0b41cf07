package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newBackup() *cobra.Command {
	var dir, out string
	var threshold int
	var pieces []string
	cmd := &cobra.Command{
		Use:   "backup --dir DIR --piece PERSON... --threshold K --out DIR2",
		Short: "Split the source's keys among persons",
		Long: `Split the source's secrets into pieces, of which any K give them back and fewer
say nothing: the identity key, the agreement key, the secret of a sequence. Each
piece is sealed to the card of its holder, as the ledger lists it (slot 9D), and
written into a file of DIR2 for him to keep, in another place than the others.
DIR2/manifest.json is public; everybody keeps a copy.

The beat key is not in it: a restored source makes a new one. Nor is what the
source knows of devices: a restored source is silent for each of them until its
officers unlock it. So a backup does not grow old with rotations and
revocations, and a new one is needed only when holders change.

A backup helps against a machine that broke. Where it may have been stolen, its
identity key is in strange hands: take the source out of the policies.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			holders, err := parseHolders(pieces)
			if err != nil {
				return err
			}
			m, err := source.Backup(dir, out, threshold, holders, time.Now().Unix())
			if err != nil {
				return hint(dir, err)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "source %s in %d pieces, any %d of which give it back\ncheck value %s\n\n", m.ID, len(m.Pieces), m.Threshold, m.Check)
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for _, p := range m.Pieces {
				fmt.Fprintf(t, "%s\t%s\tcard %d\n", p.File, term.Clean(p.Name), p.Card)
			}
			fmt.Fprintf(t, "%s\tpublic\tto all of them\n", source.FileManifest)
			return t.Flush()
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "directory for the pieces, made anew")
	f.IntVar(&threshold, "threshold", 0, "how many pieces give the source back, at least 2")
	f.StringSliceVar(&pieces, "piece", nil, "holder of a piece: PERSON, or PERSON:SERIAL where he has several cards; several with commas")
	for _, name := range []string{"out", "threshold", "piece"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func parseHolders(pieces []string) ([]source.Holder, error) {
	var out []source.Holder
	for _, p := range pieces {
		person, card, several := strings.Cut(p, ":")
		h := source.Holder{Person: person}
		if several {
			n, err := strconv.ParseUint(card, 10, 32)
			if err != nil || n == 0 {
				return nil, command.Usage(fmt.Sprintf("%q is not the serial number of a card", card), "it is printed on the card; --piece takes PERSON or PERSON:SERIAL")
			}
			h.Card = uint32(n)
		}
		out = append(out, h)
	}
	return out, nil
}
