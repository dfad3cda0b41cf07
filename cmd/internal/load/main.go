// Command load keeps a running system busy: one person asks for certificates,
// again and again, and officers of all devices approve each with their cards.
// The demo has a device stolen meanwhile and counts what fails.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
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
	flag.IntVar(&o.count, "count", 0, "how many requests to make; 0: until it is ended")
	flag.StringVar(&o.out, "out", "", "directory for the certificates, 001.pem and so on; none if empty")
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
	open, count     int
	out             string
}
