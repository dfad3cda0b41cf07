package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/term"
)

func newFault(dir *string) *cobra.Command {
	cmd := command.Group("fault", "Make a card fail: pull it out, delay it, swap it",
		newUnplug(dir), newInsert(dir), newDelay(dir), newStatus(dir), newSwap(dir), newClear(dir))
	cmd.Long = `Make a card of a running "run" fail. Without --at a card is pulled or swapped at
once. With --at, and always for delay and status, the fault waits for the next
command that matches: an instruction in hexadecimal (87 signs and agrees, 20 is
VERIFY), or any.`
	return cmd
}

// when are the flags that choose a fault's moment.
type when struct {
	at, key      string
	after, times int
	late         bool
}

func (w *when) flags(cmd *cobra.Command, at string) {
	cmd.Flags().StringVar(&w.at, "at", at, "instruction that the fault waits for, in hexadecimal, or any")
	cmd.Flags().StringVar(&w.key, "key", "", "only with this key slot (P2), in hexadecimal, such as 9c")
	cmd.Flags().IntVar(&w.after, "after", 0, "matching commands that pass first")
	cmd.Flags().IntVar(&w.times, "times", 1, "matching commands that are struck; -1 is all")
	cmd.Flags().BoolVar(&w.late, "late", false, "the card executes the command, only the answer is lost")
}

func (w *when) fill(f *fault) error {
	var err error
	if w.at != "any" {
		if f.Instruction, err = hexByte(w.at); err != nil {
			return fmt.Errorf("--at: %w", err)
		}
	}
	if w.key != "" {
		if f.P2, err = hexByte(w.key); err != nil {
			return fmt.Errorf("--key: %w", err)
		}
	}
	if w.times == 0 {
		return errors.New("--times 0 would be no fault")
	}
	f.After, f.Times, f.Late = w.after, w.times, w.late
	return nil
}

func hexByte(s string) (byte, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(s), "0x"), 16, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no byte in hexadecimal, 01 to ff", s)
	}
	return byte(n), nil
}

// unused refuses the flags that mean nothing without a moment.
func unused(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return term.WithHint(fmt.Errorf("--%s without --at", name), "name the instruction, or --at any")
		}
	}
	return nil
}

// tell sends a request about a card named on the command line.
func tell(cmd *cobra.Command, dir, verb, serial string, f *fault) error {
	n, err := parseSerial(serial)
	if err != nil {
		return err
	}
	_, err = request{Verb: verb, Serial: n, Fault: f}.send(cmd.Context(), dir)
	return err
}

func newUnplug(dir *string) *cobra.Command {
	var w when
	var during time.Duration
	cmd := &cobra.Command{
		Use:   "unplug SERIAL",
		Short: "Pull a card out, now or at a command",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.at == "" {
				if err := unused(cmd, "key", "after", "times", "late", "for"); err != nil {
					return err
				}
				return tell(cmd, *dir, "unplug", args[0], nil)
			}
			f := fault{Action: virtual.Unplug, Delay: during}
			if err := w.fill(&f); err != nil {
				return err
			}
			return tell(cmd, *dir, "arm", args[0], &f)
		},
	}
	w.flags(cmd, "")
	cmd.Flags().DurationVar(&during, "for", 0, "put it back after this time; 0 leaves it out")
	return cmd
}

func newInsert(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "insert SERIAL",
		Short: "Put a card that was pulled out back into its reader",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return tell(cmd, *dir, "insert", args[0], nil)
		},
	}
}

func newClear(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "clear SERIAL",
		Short: "Disarm the faults that wait for a card",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return tell(cmd, *dir, "clear", args[0], nil)
		},
	}
}

func newDelay(dir *string) *cobra.Command {
	var w when
	cmd := &cobra.Command{
		Use:   "delay SERIAL DURATION",
		Short: "Let a card answer late",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := time.ParseDuration(args[1])
			if err != nil || d <= 0 {
				return fmt.Errorf("%q is no duration, such as 2s or 500ms", args[1])
			}
			f := fault{Action: virtual.Delay, Delay: d}
			if err := w.fill(&f); err != nil {
				return err
			}
			return tell(cmd, *dir, "arm", args[0], &f)
		},
	}
	w.flags(cmd, "any")
	return cmd
}

func newStatus(dir *string) *cobra.Command {
	var w when
	cmd := &cobra.Command{
		Use:   "status SERIAL SW",
		Short: "Let a card answer with a status word, such as 6f00",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[1], 16, 16)
			if err != nil {
				return fmt.Errorf("%q is no status word of four hexadecimal digits", args[1])
			}
			f := fault{Action: virtual.Status, Status: uint16(n)}
			if err := w.fill(&f); err != nil {
				return err
			}
			return tell(cmd, *dir, "arm", args[0], &f)
		},
	}
	w.flags(cmd, "any")
	return cmd
}

func newSwap(dir *string) *cobra.Command {
	var w when
	var during time.Duration
	cmd := &cobra.Command{
		Use:   "swap SERIAL OTHER",
		Short: "Put another card in the place of one, now or at a command",
		Long: `Put another card, one that is in no reader, in the place of one. pcscd looks for
cards every 400 ms: it sees a swap only if the reader is empty for longer (--for).`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			other, err := parseSerial(args[1])
			if err != nil {
				return err
			}
			f := fault{Action: virtual.Swap, Other: other, Delay: during}
			if w.at == "" {
				if err := unused(cmd, "key", "after", "times", "late"); err != nil {
					return err
				}
				return tell(cmd, *dir, "swap", args[0], &f)
			}
			if err := w.fill(&f); err != nil {
				return err
			}
			return tell(cmd, *dir, "arm", args[0], &f)
		},
	}
	w.flags(cmd, "")
	cmd.Flags().DurationVar(&during, "for", 0, "how long the reader is empty in between")
	return cmd
}
