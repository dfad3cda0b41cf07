package term

import (
	"context"
	"io"
)

// Interruptible is where people answer, of which ctx ends a read that waits: a
// program that catches SIGINT would else wait for an answer still. What is typed
// after that is lost.
func Interruptible(ctx context.Context, in io.Reader) io.Reader { return &interruptible{ctx, in} }

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	type got struct {
		b   []byte
		err error
	}
	done := make(chan got, 1)
	go func() {
		b := make([]byte, len(p))
		n, err := i.r.Read(b)
		done <- got{b[:n], err}
	}()
	select {
	case g := <-done:
		return copy(p, g.b), g.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}
