package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
)

func newHeartbeatPiece(a *app) *cobra.Command {
	var request, out string
	c := &cobra.Command{
		Use:   "piece FILE --for REQUEST",
		Short: "Hand over your piece of a lost source's keys",
		Long: `Open your piece of a heartbeat source's keys with your card, and seal it to
whoever restores the source. Enough pieces make the source anew, and whoever
has it keeps devices alive.

Anybody can make a request. So ask whoever restores the source, by voice, for
the fingerprint that 'privyseal-heartbeat restore' shows, and type it; it is not
shown here.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.handOver(c.Context(), args[0], request, out)
		},
	}
	c.Flags().StringVar(&request, "for", "", "the request of whoever restores the source")
	c.Flags().StringVar(&out, "out", "", "file for the answer; nothing is overwritten (default: FILE with .answer.json)")
	_ = c.MarkFlagRequired("for")
	return c
}

func (a *app) handOver(ctx context.Context, file, request, out string) error {
	if out == "" {
		out = strings.TrimSuffix(file, ".json") + ".answer.json"
	}
	if err := checkNew(out); err != nil {
		return err
	}
	p, err := source.ReadPiece(file)
	if err != nil {
		return err
	}
	r, err := source.ReadRequest(request)
	if err != nil {
		return err
	}
	if p.Source != r.Source || p.Backup != r.Backup {
		return fmt.Errorf("the request is for another backup: of source %s, made as %s, where the piece is of source %s, made as %s",
			r.Source, short(r.Backup), p.Source, short(p.Backup))
	}
	a.tell("piece      %d of %d, of %s, sealed to card %d", p.Index, p.Pieces, p.Person, p.Card)
	a.tell("source     %s (%s): any %d pieces make it anew", p.Source, p.Name, p.Threshold)
	// The home says more, if there is one; the piece opens without it.
	if s, err := a.system(); err == nil {
		if row, ok := s.State().Source(p.Source); ok {
			a.tell("           of system %q, operated by %s", s.State().Name(), listOr(row.Operators, "nobody"))
		}
	}
	a.tell("request    made %s", timeText(r.Created))
	a.tell("Whoever made the request gets your piece. Ask whom you help for its fingerprint, by voice.")
	err = term.ConfirmHeard(a.in, a.err, "fingerprint", r.Fingerprint())
	if errors.Is(err, term.ErrNotConfirmed) {
		err = term.WithHint(err, "you may hold a request that somebody else made: do not hand your piece over")
	}
	if err != nil {
		return err
	}
	var answer *source.Answer
	why := fmt.Sprintf("hand over piece %d of source %s", p.Index, p.Source)
	if err := a.useCard(ctx, p.Card, card.Options{}, why, func(c *card.Card) error {
		agree, err := c.Agreement(ctx)
		if err != nil {
			return err
		}
		answer, err = source.HandOver(agree, p, r)
		return err
	}); err != nil {
		return err
	}
	data, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return err
	}
	if err := writeNew(out, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return a.result(struct {
		Source string        `json:"source"`
		Backup envelope.Hash `json:"backup"`
		Index  uint64        `json:"index"`
		File   string        `json:"file"`
	}{p.Source, p.Backup, p.Index, out}, func() {
		a.say("piece %d of source %s written to %s", p.Index, p.Source, out)
		a.tell("give it to whoever restores the source; only the request's key opens it")
	})
}
