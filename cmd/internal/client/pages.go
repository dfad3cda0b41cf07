package client

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/api"
)

// Commission gives the server its system, and those of the entries that it does
// not have.
func (c *Conn) Commission(ctx context.Context, bundle []byte, entries [][]byte) error {
	var taken api.SystemTaken
	if err := c.ask(ctx, api.PathSystem, &api.System{Bundle: bundle}, &taken); err != nil {
		return err
	}
	if taken.Height >= uint64(len(entries)) {
		return nil
	}
	return c.Extend(ctx, taken.Height, entries[taken.Height:])
}

// Extend gives the server the entries that follow a position, page by page. It
// keeps each page: whoever is interrupted goes on where the server is. A page that
// takes longer than pageTimeout is an *UnreachableError.
func (c *Conn) Extend(ctx context.Context, after uint64, entries [][]byte) error {
	for len(entries) > 0 {
		page := api.FirstOf(entries, api.PageOctets)
		taken, err := c.give(ctx, &api.System{After: after, Entries: page})
		if err != nil {
			return err
		}
		n := uint64(len(page))
		if taken.Height < after+n {
			return fmt.Errorf("message server %s was given entries %d to %d of the ledger and says that it has %d", c.name, after+1, after+n, taken.Height)
		}
		after, entries = after+n, entries[n:]
	}
	return nil
}

func (c *Conn) give(ctx context.Context, page *api.System) (taken api.SystemTaken, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.pageTimeout)
	defer cancel()
	return taken, c.ask(ctx, api.PathSystem, page, &taken)
}

// System asks for the page of the system that follows a position, with the
// bundle if that is wanted. Verify it. A server that says nothing for pageSilence,
// or takes longer than pageTimeout, is an *UnreachableError.
func (c *Conn) System(ctx context.Context, after uint64, bundle bool) (*api.SystemPage, error) {
	ctx, cancel := c.forPage(ctx)
	defer cancel()
	out := new(api.SystemPage)
	if err := c.ask(ctx, api.PathSystemShow, &api.SystemAsk{After: after, Bundle: bundle}, out); err != nil {
		return nil, err
	}
	n := uint64(len(out.System.Entries))
	switch {
	case out.System.After != after:
		return nil, fmt.Errorf("message server %s shows the ledger after position %d, asked for it after %d", c.name, out.System.After, after)
	case n > 0 && (out.Height < after || n > out.Height-after):
		return nil, fmt.Errorf("message server %s shows %d entries of the ledger after position %d, and says that there are %d in all", c.name, n, after, out.Height)
	case n == 0 && out.Height > after && !bundle:
		return nil, fmt.Errorf("message server %s says that it has %d entries of the ledger, and shows none after position %d", c.name, out.Height, after)
	}
	return out, nil
}

// forPage bounds a call for a page. A server that has begun to answer is alive,
// and has the time that a slow line takes.
func (c *Conn) forPage(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(ctx, c.pageTimeout)
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(c.pageSilence, func() { cancel(context.DeadlineExceeded) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { silent.Stop() }})
	return ctx, func() {
		silent.Stop()
		cancel(nil)
		stop()
	}
}
