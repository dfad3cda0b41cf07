// Command bench measures what scripts/bench prints: the mathematics beside
// what others need for the same, groupings of two layers and an authority in
// two layers, a device's start and memory, lock-downs under load, the cost of
// beats, and a running system's latency, throughput and memory. It is no part of
// the product.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/privyseal/privyseal/firmware/threshold/modexp"
	"github.com/privyseal/privyseal/hsm"
)

type flags struct {
	rounds, starts, requests int
	cuts, beats              int
	certificates, sites      int
	batch, batches           int
	steps                    uint64
	bits                     sizeList
	device, source, system   string
	server                   string
	json, restart            bool
}

func main() {
	var f flags
	flag.IntVar(&f.rounds, "rounds", 30, "rounds of the primitives; 0 leaves them out")
	flag.StringVar(&f.device, "device", "", "the program privyseal-device; empty leaves out its start, lock-downs and beats")
	flag.StringVar(&f.source, "source", "", "the program privyseal-heartbeat; empty leaves the cost of beats out")
	flag.IntVar(&f.starts, "starts", 7, "how often the device is started; 0 leaves it out")
	flag.IntVar(&f.cuts, "cuts", 100, "how often the beats of a device at work are cut; 0 leaves it out")
	flag.IntVar(&f.beats, "beats", 60, "for how many seconds the cost of beats is measured; 0 leaves it out")
	flag.Uint64Var(&f.steps, "grouping", 1<<17, "steps of the whole search for each grouping, of some microseconds; 0 leaves groupings out")
	flag.StringVar(&f.server, "server", "", "the program privyseal-server; empty leaves the authority in two layers out")
	flag.IntVar(&f.certificates, "tolerant", 60, "certificates of an authority in two layers, at once; 0 leaves it out")
	flag.IntVar(&f.batch, "batch", 100, "certificates of a batch, if the key signs so many at once; 0 leaves batches out")
	flag.IntVar(&f.batches, "batches", 6, "batches of the authority in two layers, at once")
	flag.IntVar(&f.sites, "sites", 1, "message servers of its devices")
	f.bits = sizes
	flag.Var(&f.bits, "bits", "lengths of its keys, with commas")
	flag.StringVar(&f.system, "system", "", "directory of a running system; empty leaves it out")
	flag.BoolVar(&f.restart, "restart", false, "start the system's devices anew, too, and leave them stopped")
	flag.IntVar(&f.requests, "requests", 60, "signatures one after the other, and as many at once, with each key")
	flag.BoolVar(&f.json, "json", false, "print JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (f *flags) run(ctx context.Context) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	r := newReport()
	if f.rounds > 0 {
		f.tell("primitives: %d rounds of %d, %d and %d bits", f.rounds, sizes[0], sizes[1], sizes[2])
		ops, err := measurePrimitives(f.rounds)
		if err != nil {
			return fmt.Errorf("primitives: %w", err)
		}
		r.addPrimitives(f.rounds, ops)
	}
	if f.steps > 0 {
		if err := measureGroupings(ctx, f, r); err != nil {
			return fmt.Errorf("groupings: %w", err)
		}
	}
	if f.device != "" && f.server != "" && f.certificates > 0 {
		if err := measureTolerant(ctx, f, r); err != nil {
			return fmt.Errorf("authority in two layers: %w", err)
		}
	}
	if f.device != "" && f.starts > 0 {
		f.tell("device: %d starts", f.starts)
		s, err := startAlone(ctx, f.device, f.starts)
		if err != nil {
			return fmt.Errorf("start of a device: %w", err)
		}
		r.addStarts(s)
	}
	if f.device != "" && f.cuts > 0 {
		f.tell("lock-downs: %d devices at work, %d cuts", signers, f.cuts)
		if err := measureLockDowns(ctx, f, r); err != nil {
			return fmt.Errorf("lock-downs: %w", err)
		}
	}
	if f.device != "" && f.source != "" && f.beats > 0 {
		f.tell("beats: %d s", f.beats)
		if err := measureBeats(ctx, f, r); err != nil {
			return fmt.Errorf("cost of beats: %w", err)
		}
	}
	if f.system != "" {
		if err := measureSystem(ctx, f, r); err != nil {
			return fmt.Errorf("running system: %w", err)
		}
	}
	if f.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.print(os.Stdout)
}

// tell says on the standard error what goes on: all of it takes some minutes.
func (f *flags) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// measurePrimitives makes keys of all sizes and a token, and measures.
func measurePrimitives(rounds int) ([]*operation, error) {
	// As in a device. Not enough locked memory is no obstacle here.
	_ = modexp.LockHeap(1 << 20)
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	token, err := makeToken(dir)
	if err != nil {
		return nil, err
	}
	defer token.Close()
	const kek = "kek"
	if err := token.GenerateKEK(kek, hsm.InToken); err != nil {
		return nil, err
	}
	var ops []*operation
	for _, bits := range sizes {
		o, err := primitives(bits, token, kek)
		if err != nil {
			return nil, err
		}
		ops = append(ops, o...)
	}
	return ops, interleave(ops, rounds)
}

// makeToken makes a SoftHSM2 token in dir and unlocks it.
func makeToken(dir string) (*hsm.Token, error) {
	if err := hsm.UseSoftHSM(dir); err != nil {
		return nil, err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	pin := hsm.PIN(hex.EncodeToString(secret[:]))
	c := hsm.Config{TokenLabel: "bench"}
	if _, err := hsm.InitToken(c, pin, pin); err != nil {
		return nil, err
	}
	t, err := hsm.Open(c)
	if err != nil {
		return nil, err
	}
	if err := t.Unlock(pin); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}
