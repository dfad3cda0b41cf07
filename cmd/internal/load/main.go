// Command load keeps a running system busy: one person asks for certificates,
// again and again, and officers of all devices approve each with their cards.
// The demo has a device stolen meanwhile and counts what fails.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/card"
	"github.com/privyseal/privyseal/cmd/internal/client"
)

func main() {
	var o options
	var officers string
	flag.StringVar(&o.home, "home", "", "directory with the system's tables")
	flag.StringVar(&o.pins, "pins", "", "directory with the cards' PINs")
	flag.StringVar(&o.key, "key", "", "id of the key")
	flag.UintVar(&o.requester, "requester", 0, "serial number of the requester's card")
	flag.StringVar(&officers, "officers", "", "serial numbers of the officers' cards, with commas")
	flag.DurationVar(&o.every, "every", 500*time.Millisecond, "pause between two requests")
	flag.IntVar(&o.open, "open", 8, "how many requests may be open at once")
	flag.Parse()
	for s := range strings.SplitSeq(officers, ",") {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			fail(fmt.Errorf("-officers: %w", err))
		}
		o.officers = append(o.officers, uint32(n))
	}
	// The first signal ends the asking, and what is open is waited for.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

type options struct {
	home, pins, key string
	requester       uint
	officers        []uint32
	every           time.Duration
	open            int
}

func (o *options) openCard(ctx context.Context, serial uint32) (*card.Card, client.Keys, error) {
	pin := func(context.Context, card.Prompt) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(o.pins, strconv.FormatUint(uint64(serial), 10)))
		return bytes.TrimSpace(b), err
	}
	c, err := card.Open(ctx, serial, card.Options{PIN: pin})
	if err != nil {
		return nil, client.Keys{}, err
	}
	sign, err := c.Signer(ctx)
	if err == nil {
		var agree *card.Agreement
		if agree, err = c.Agreement(ctx); err == nil {
			return c, client.Keys{Sign: sign, Agree: agree}, nil
		}
	}
	return nil, client.Keys{}, errors.Join(err, c.Close())
}
