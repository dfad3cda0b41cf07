package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// answerPatience is how long sources are waited for.
const answerPatience = 3 * time.Second

func newChallenge() *cobra.Command {
	var t things
	return t.flags(&cobra.Command{
		Use:   "challenge",
		Short: "Ask the real sources for beats, over the real network, with the token's own signature",
		Long: `Ask the real sources for beats, over the real network, in the device's name and
with the token's own signature: first in an instance of his own, then with the
device's last challenge, which the tap has heard, word for word.`,
		RunE: func(c *cobra.Command, _ []string) error { return t.challenge(c.Context(), c.OutOrStdout()) },
	}, "home", "device", "pin-file", "recording", "link", "id")
}

func (t *things) challenge(ctx context.Context, w io.Writer) error {
	s, d, err := t.row()
	if err != nil {
		return err
	}
	if d.Heartbeat == nil {
		return fmt.Errorf("device %s needs no beats", d.ID)
	}
	token, err := t.token()
	if err != nil {
		return err
	}
	defer token.Close()
	sign, _, err := token.Keys(d.Sign, d.Agree)
	if err != nil {
		return err
	}
	records, err := t.records()
	if err != nil {
		return err
	}
	_, from, err := readRecording(t.recording)
	if err != nil {
		return err
	}
	c, err := link.Dial(ctx, t.link, link.Options{ID: d.ID})
	if err != nil {
		return err
	}
	defer c.Close()

	mine, err := heartbeat.NewInstance(rand.Reader)
	if err != nil {
		return err
	}
	// The log as it was last, and more of it than anybody has seen.
	q := &heartbeat.Challenge{Device: d.ID, Counter: 1, Log: uint64(len(records)) + 1000, LogHead: envelope.HashOf("thief"), Begin: oneWay(s, d)}
	if _, err := rand.Read(q.Nonce[:]); err != nil {
		return err
	}
	if err := mine.Complete(rand.Reader, q); err != nil {
		return err
	}
	frame, err := heartbeat.SealChallenge(rand.Reader, sign, s, d.Heartbeat.Sources, q, time.Now().Unix())
	if err != nil {
		return err
	}
	if err := c.Send(ctx, frame); err != nil {
		return err
	}
	refused, err := answers(ctx, w, c, s, d, mine)
	if err != nil {
		return err
	}
	if len(refused) != len(d.Heartbeat.Sources) {
		return fmt.Errorf("only %q answered: the attempt proves nothing", refused)
	}
	old := lastChallenge(from)
	if old == nil {
		return errors.New("the tap has heard no challenge")
	}
	if err := c.Send(ctx, old); err != nil {
		return err
	}
	if refused, err = answers(ctx, io.Discard, c, s, d, mine); err != nil {
		return err
	}
	fmt.Fprintf(w, "the device's own last challenge, word for word: nothing that he can read; %d answers\n", len(refused))
	return nil
}

// oneWay are the sources that have to be asked to begin.
func oneWay(s ledger.State, d ledger.Device) []string {
	return slices.DeleteFunc(slices.Clone(d.Heartbeat.Sources), func(id string) bool {
		src, ok := s.Source(id)
		return !ok || src.Kind == ledger.SourceSatellite
	})
}

// answers prints what sources say to an instance, and returns those that
// refused. It is an error if one beats.
func answers(ctx context.Context, w io.Writer, c *link.Conn, s ledger.State, d ledger.Device, mine *heartbeat.Instance) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	var refused []string
	for len(refused) < len(d.Heartbeat.Sources) {
		frame, err := c.Recv(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return refused, nil
		case err != nil:
			return refused, err
		}
		b, _, err := heartbeat.OpenBeat(s, mine, d.ID, frame, map[string]*heartbeat.VerifiedKey{})
		switch {
		case err != nil: // not a beat, or for somebody else
		case b.Kind != heartbeat.KindRefusal:
			return refused, fmt.Errorf("source %s beats for the thief: %s", b.Source, b.Kind)
		default:
			fmt.Fprintf(w, "%s refuses (%s): %s\n", b.Source, b.Code, b.Text)
			refused = append(refused, b.Source)
		}
	}
	return refused, nil
}

func lastChallenge(frames [][]byte) []byte {
	for _, f := range slices.Backward(frames) {
		if h, err := envelope.Peek(f); err == nil && h.Type == heartbeat.TypeChallenge {
			return f
		}
	}
	return nil
}
