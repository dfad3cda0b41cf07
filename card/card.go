package card

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-piv/piv-go/v2/piv"
)

// Options says how a card is used. The zero value can do everything that needs
// no PIN.
type Options struct {
	PIN     PINSource     // asked when the card wants its PIN
	Touch   func(Prompt)  // told just before the card waits for a touch; may be nil
	Timeout time.Duration // of one exchange with the card; 0 means 30 s. Time a person takes to type does not count
	Reader  string        // look in this reader only; "" means all

	// The keys the card must have, if the caller knows them already. Another
	// key is a WrongKeyError.
	SignKey  *ecdsa.PublicKey
	AgreeKey *ecdh.PublicKey
}

// Card is an open PIV card. No other program can use it until Close.
type Card struct {
	serial  uint32
	reader  string
	version Version
	opts    Options

	ctx  context.Context // done at Close: ends prompts and queues
	stop context.CancelFunc

	// turn holds one token. Who has it may use the fields below.
	turn    chan struct{}
	yk      *piv.YubiKey // nil when dead
	dead    error
	refused [32]byte // SHA-256 of the PIN refused last
	retries int      // tries left after it
}

// Open opens the card with that serial number, in whichever reader it is.
//
// If another program holds the card, or a reader that might have the card, Open
// tries again until ctx's deadline (5 s if it has none) and then returns
// ErrInUse. Errors: ErrNoService, ErrNoReader, *NotFoundError, ErrInUse,
// ErrRemoved, ErrTimeout, *WrongKeyError.
func Open(ctx context.Context, serial uint32, o Options) (*Card, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	patience, ok := ctx.Deadline()
	if !ok {
		patience = time.Now().Add(inUsePatience)
	}
	var last error // why the attempt before had to be repeated
	for {
		c, err := open(ctx, serial, o)
		if err == nil {
			return c, nil
		}
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded) && last != nil:
			err = last // not how far the last attempt came
		case errors.Is(ctx.Err(), context.Canceled):
			err = stopped(ctx)
		}
		// Exchanged or taken between the look and the opening: look again.
		again := errors.Is(err, ErrInUse) || errors.Is(err, errMoved)
		if !again || ctx.Err() != nil || !time.Now().Add(inUseRetry).Before(patience) {
			return nil, fmt.Errorf("opening card %d: %w", serial, err)
		}
		last = err
		select {
		case <-ctx.Done(): // the next attempt ends at once
		case <-time.After(inUseRetry):
		}
	}
}

// errMoved: the card seen in a reader was not there any more a moment later.
var errMoved = errors.New("the card left its reader while it was being opened")

// open makes one attempt.
func open(ctx context.Context, serial uint32, o Options) (*Card, error) {
	late := func(c *Card, err error) {
		if err == nil {
			lists.Lock()
			defer lists.Unlock()
			c.yk.Close()
		}
	}
	r, err := find(ctx, serial, o.Reader)
	if err != nil {
		return nil, err
	}
	lists.Lock()
	defer lists.Unlock()
	c, err := apart(ctx, o.Timeout, func() (*Card, error) {
		yk, err := piv.Open(r.Name)
		if err != nil {
			if err = classify(err); errors.Is(err, ErrRemoved) {
				return nil, fmt.Errorf("%w: %w", errMoved, err)
			}
			return nil, err
		}
		c := &Card{serial: serial, reader: r.Name, version: r.Version, opts: o, yk: yk, turn: make(chan struct{}, 1)}
		if err := c.same(yk); err != nil {
			yk.Close()
			return nil, fmt.Errorf("%w: %w", errMoved, err)
		}
		if err := c.checkExpected(yk); err != nil {
			yk.Close()
			return nil, err
		}
		return c, nil
	}, late)
	if err != nil {
		return nil, err
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.turn <- struct{}{}
	return c, nil
}

// find looks for a card in all readers, or in the one named.
func find(ctx context.Context, serial uint32, only string) (Reader, error) {
	names, err := readers(ctx)
	if err != nil {
		return Reader{}, err
	}
	if only != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n != only })
	}
	missing := &NotFoundError{Serial: serial}
	var busy, odd error
	for r := range look(ctx, names) {
		switch {
		case r.PIV && r.Serial == serial:
			return r, nil
		case r.PIV:
			missing.Seen = append(missing.Seen, r.Serial)
		case errors.Is(r.Err, ErrInUse):
			busy = fmt.Errorf("%s: %w", r.Name, r.Err)
		case r.Err != nil && !errors.Is(r.Err, ErrNotPIV):
			odd = fmt.Errorf("%s: %w", r.Name, r.Err)
		}
	}
	slices.Sort(missing.Seen)
	switch {
	case busy != nil:
		return Reader{}, busy // it may be ours
	case ctx.Err() != nil:
		return Reader{}, stopped(ctx)
	case odd != nil:
		return Reader{}, fmt.Errorf("%w; %w", missing, odd)
	}
	return Reader{}, missing
}

// checkExpected compares the card's keys with those the caller knows.
func (c *Card) checkExpected(yk *piv.YubiKey) error {
	if want := c.opts.SignKey; want != nil {
		k, err := c.readKey(yk, SlotSign)
		if err != nil {
			return err
		}
		if !k.public.Equal(want) {
			return &WrongKeyError{c.serial, SlotSign}
		}
	}
	if want := c.opts.AgreeKey; want != nil {
		k, err := c.readKey(yk, SlotAgree)
		if err != nil {
			return err
		}
		if pub, err := k.public.ECDH(); err != nil || !pub.Equal(want) {
			return &WrongKeyError{c.serial, SlotAgree}
		}
	}
	return nil
}

// Serial returns the card's serial number.
func (c *Card) Serial() uint32 { return c.serial }

// Reader returns the name of the card's reader.
func (c *Card) Reader() string { return c.reader }

// Version returns the card's firmware version.
func (c *Card) Version() Version { return c.version }

// Close resets the card and lets go of it. It waits for an exchange that is
// under way, ends a prompt, and may be called more than once. An error means
// that the reset is not certain: then take the card out.
func (c *Card) Close() error {
	c.stop()
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	yk := c.yk
	c.yk = nil
	if c.dead == nil {
		c.dead = ErrClosed
	}
	if yk == nil {
		return nil
	}
	lists.Lock()
	defer lists.Unlock()
	_, err := apart(context.Background(), closeTimeout, func() (struct{}, error) {
		return struct{}{}, release(yk, c.reader)
	}, nil)
	if err != nil {
		return fmt.Errorf("closing card %d: %w", c.serial, err)
	}
	return nil
}

// release ends the connection and resets the card. The caller holds lists.
func release(yk *piv.YubiKey, reader string) error {
	// The error of a disconnect is of no use: the reset that follows tells
	// whether the card forgot its PIN.
	yk.Close()
	return reset(reader, time.Now().Add(closeTimeout/2))
}

// take waits for this goroutine's turn.
func (c *Card) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	select {
	case <-c.turn:
	case <-ctx.Done():
		return stopped(ctx)
	case <-c.ctx.Done():
		return ErrClosed
	}
	if c.dead != nil {
		defer c.give()
		return c.dead
	}
	return nil
}

func (c *Card) give() { c.turn <- struct{}{} }

// exchange runs f, which may send several commands, within the time limit. The
// caller has its turn. After an abandoned call or a fatal error the Card is
// dead, and the card is reset as soon as it lets go.
func exchange[T any](ctx context.Context, c *Card, f func(*piv.YubiKey) (T, error)) (T, error) {
	var zero T
	if c.dead != nil {
		return zero, c.dead
	}
	yk, reader := c.yk, c.reader
	v, err := apart(ctx, c.opts.Timeout, func() (T, error) { return f(yk) },
		func(T, error) {
			lists.Lock()
			defer lists.Unlock()
			release(yk, reader)
		})
	if err == nil {
		return v, nil
	}
	err = classify(err)
	var left *abandoned
	switch {
	case errors.As(err, &left):
		c.yk, c.dead = nil, err
	case errors.As(err, new(*notStarted)):
	case fatal(err):
		c.yk, c.dead = nil, err
		go release(yk, reader) // may block as the card does
	}
	return zero, err
}

// same checks that the card still is the one that was opened.
func (c *Card) same(yk *piv.YubiKey) error {
	serial, err := yk.Serial()
	switch {
	case err != nil && statusWord(err) == 0:
		return classify(err)
	case err != nil:
		return fmt.Errorf("%w: card %d was open: %w", ErrSwapped, c.serial, err)
	case serial != c.serial:
		return fmt.Errorf("%w: card %d was open, card %d is there", ErrSwapped, c.serial, serial)
	}
	return nil
}

// suspect looks whether a refusal came from another card, and returns
// ErrSwapped if so, else err.
func (c *Card) suspect(yk *piv.YubiKey, err error) error {
	if statusWord(err) == 0 {
		return classify(err)
	}
	if s := c.same(yk); s != nil {
		return fmt.Errorf("%w (%w)", s, err)
	}
	return err
}

// askPIN asks the person. The caller has its turn; Close ends the prompt.
func (c *Card) askPIN(ctx context.Context, p Prompt) ([]byte, error) {
	if c.opts.PIN == nil {
		return nil, fmt.Errorf("card %d wants its PIN and nobody can be asked", c.serial)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })()
	pin, err := c.opts.PIN(ctx, p)
	if err == nil && ctx.Err() != nil {
		clear(pin)
		err = stopped(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("PIN of card %d: %w", c.serial, err)
	}
	return pin, nil
}
