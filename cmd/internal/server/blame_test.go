package server

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/transport/bus"
	"github.com/privyseal/privyseal/firmware"
)

// TestBlame: a name is said once, wherever the words come from.
func TestBlame(t *testing.T) {
	device := func(err error) error { return &blame{theDevice("d1"), err} }
	site := func(err error) error { return &blame{theSite("s2"), &busError{err}} }
	says := func(text string) error { return site(&bus.RemoteError{Subject: "site.s2.device.d1", Text: text}) }
	refused := func(text string) error { return &RefusedError{firmware.Refusal{Device: "d1", Text: text}} }
	late := fmt.Errorf("bus: no answer: %w", context.DeadlineExceeded)
	for _, x := range []struct {
		err        error
		want, bare string // bare: behind the name of device d1
	}{
		{device(ErrNoLink), "device d1 has no link to its message server", "it has no link to its message server"},
		{device(silence(context.DeadlineExceeded)), "device d1 did not answer in time", "it did not answer in time"},
		{device(silence(context.Canceled)), "device d1 did not answer: context canceled", "it did not answer: context canceled"},
		{device(errors.New("link: closed")), "device d1: link: closed", "link: closed"},
		{refused("device d1 is unlocked already"), "device d1 is unlocked already", "it is unlocked already"},
		{refused("too many invitations"), "device d1: too many invitations", "too many invitations"},
		{refused("device d10 is not on the route"), "device d1: device d10 is not on the route", "device d10 is not on the route"},
		{site(bus.ErrNoSite), "site s2 does not answer", "site s2 does not answer"},
		{site(late), "site s2 does not answer in time", "site s2 does not answer in time"},
		{site(bus.ErrBusy), "site s2: the site is busy, try again later", "site s2: the site is busy, try again later"},
		{says("no such key"), "site s2 says: no such key", "site s2 says: no such key"},
		{device(site(bus.ErrNoSite)), "device d1: site s2 does not answer", "site s2 does not answer"},
		{device(says("it has no link to its message server")), "device d1: site s2 says: it has no link to its message server", "site s2 says: it has no link to its message server"},
	} {
		if got := x.err.Error(); got != x.want {
			t.Errorf("%q, not %q", got, x.want)
		}
		if got := bare(theDevice("d1"), x.err.Error()); got != x.bare {
			t.Errorf("bare: %q, not %q", got, x.bare)
		}
	}
	if !errors.Is(device(site(bus.ErrNoSite)), bus.ErrNoSite) || !errors.Is(device(ErrNoLink), ErrNoLink) || !errors.Is(site(late), context.DeadlineExceeded) {
		t.Error("what is behind it is lost")
	}
}
