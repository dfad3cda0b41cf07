package card

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ebfe/scard"
)

// Reader is a card reader and what is in it.
type Reader struct {
	Name    string
	Present bool    // a card is there
	PIV     bool    // it is a PIV card and told its serial number
	Serial  uint32  // of a PIV card
	Version Version // of a PIV card
	Err     error   // why a card that is there could not be read: ErrInUse, ErrNotPIV, ErrTimeout or other
}

// Version is a card's firmware version.
type Version struct{ Major, Minor, Patch byte }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// List tells which readers there are and which PIV cards are in them. A card
// that another program holds is listed with ErrInUse and no serial number, one
// that does not answer with ErrTimeout.
func List(ctx context.Context) ([]Reader, error) {
	names, err := readers(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Reader, len(names))
	at := make(map[string]int, len(names))
	for i, name := range names {
		list[i] = Reader{Name: name, Present: true, Err: ErrTimeout}
		at[name] = i
	}
	for r := range look(ctx, names) {
		list[at[r.Name]] = r
	}
	if ctx.Err() != nil {
		return nil, stopped(ctx)
	}
	return list, nil
}

// readers lists the names of the readers; none is ErrNoReader.
func readers(ctx context.Context) ([]string, error) {
	lists.Lock()
	defer lists.Unlock()
	return apart(ctx, lookTimeout, func() ([]string, error) {
		var names []string
		err := withService(func(sc *scard.Context) (err error) {
			names, err = sc.ListReaders()
			return err
		})
		if err == nil && len(names) == 0 {
			err = ErrNoReader
		}
		return names, err
	}, nil)
}

// look reads the readers one after the other, as far as the caller wants: PC/SC
// in one process does not bear several at once (see lists). Cards that take
// their time come last, so that a mute one does not hide the others.
func look(ctx context.Context, names []string) iter.Seq[Reader] {
	return func(yield func(Reader) bool) {
		var slow []string
		for _, name := range names {
			if ctx.Err() != nil {
				return
			}
			r := lookAt(ctx, name, lookBriefly)
			if errors.Is(r.Err, ErrTimeout) {
				slow = append(slow, name)
			} else if !yield(r) {
				return
			}
		}
		for _, name := range slow {
			if ctx.Err() != nil {
				return
			}
			r := lookAt(ctx, name, lookTimeout)
			if errors.Is(r.Err, ErrInUse) {
				r.Err = ErrTimeout // by the brief look, which still waits for an answer
			}
			if !yield(r) {
				return
			}
		}
	}
}

// lookAt reads one reader.
func lookAt(ctx context.Context, name string, limit time.Duration) Reader {
	r := Reader{Name: name, Present: true}
	var id identity
	var err error
	for range lookTries {
		if id, err = lookOnce(ctx, name, limit); !errors.Is(err, ErrInUse) {
			break
		}
		time.Sleep(inUseRetry)
		if ctx.Err() != nil {
			break // with ErrInUse
		}
	}
	switch {
	case errors.Is(err, ErrRemoved):
		r.Present = false
	case err != nil:
		r.Err = err
	default:
		r.PIV, r.Serial = true, id.serial
		r.Version = Version{id.major, id.minor, id.patch}
	}
	return r
}

func lookOnce(ctx context.Context, name string, limit time.Duration) (identity, error) {
	lists.Lock()
	defer lists.Unlock()
	return apart(ctx, limit, func() (identity, error) {
		var id identity
		err := withService(func(sc *scard.Context) (err error) {
			id, err = probe(sc, name)
			return err
		})
		return id, err
	}, nil)
}

// Wait returns the reader that holds the card with that serial number, as soon
// as it is inserted. It waits for readers and for the PC/SC service, too.
// Other programs that use the card are waited for. The error at the deadline is
// ErrTimeout and the reason seen last.
func Wait(ctx context.Context, serial uint32) (Reader, error) {
	var last error = &NotFoundError{Serial: serial}
	for {
		list, err := List(ctx)
		if ctx.Err() == nil {
			if err != nil {
				last = err
			} else {
				last = &NotFoundError{Serial: serial, Seen: serials(list)}
			}
		}
		for _, r := range list {
			if r.PIV && r.Serial == serial {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return Reader{}, fmt.Errorf("%w: %w", stopped(ctx), last)
		case <-time.After(waitPoll):
		}
	}
}

func serials(list []Reader) []uint32 {
	var s []uint32
	for _, r := range list {
		if r.PIV {
			s = append(s, r.Serial)
		}
	}
	return s
}

// stopped is the error of a context that is done: ErrTimeout at its deadline.
func stopped(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// apart runs f in a goroutine of its own, because a call of PC/SC cannot be
// interrupted. If ctx or the time limit ends first, f is left to itself and
// late, if not nil, gets its result to clean up after it.
func apart[T any](ctx context.Context, limit time.Duration, f func() (T, error), late func(T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	if ctx.Err() != nil {
		return zero, &notStarted{stopped(ctx)}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		if late != nil {
			go func() {
				r := <-done
				late(r.v, r.err)
			}()
		}
		return zero, &abandoned{stopped(ctx)}
	}
}

// notStarted is the error of a call that was never made; the card is untouched.
type notStarted struct{ error }

func (e *notStarted) Unwrap() error { return e.error }

// abandoned is the error of a call that may still be running.
type abandoned struct{ error }

func (e *abandoned) Unwrap() error { return e.error }
