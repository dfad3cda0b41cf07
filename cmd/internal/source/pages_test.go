package source

import (
	"context"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// TestPagesOfLedger: a source asks for what it lacks, one page at a time, goes on
// where it was after a restart, and is led nowhere by pages that do not fit.
func TestPagesOfLedger(t *testing.T) {
	w := newWorld(t, ledger.SourceSatellite)
	ctx := context.Background()
	row, _ := w.sys.State.Source(w.id)
	key := w.sys.Servers[row.Server].Sign
	bundle, err := envelope.Marshal(w.sys.Bundle)
	must(t, err)
	grow := func(text string, to int, list ...ledger.SignedEntry) ([]ledger.SignedEntry, ledger.State) {
		t.Helper()
		state, err := ledger.Catchup(w.sys.State, list)
		must(t, err)
		for len(list) < to {
			x := w.sys.Entry(t, state, ledger.KindNotice, ledger.Notice{Text: text, From: w.now, Until: w.now + 10}, w.now)
			list = append(list, x)
			state, err = ledger.Catchup(state, []ledger.SignedEntry{x})
			must(t, err)
		}
		return list, state
	}
	all, state := grow("works", 9)
	fork, _ := grow("other works", 10, all[:8:8]...)
	page := func(after, n int) []byte {
		return w.page(key, heartbeat.System{After: uint64(after), Height: uint64(len(all))}, all, n)
	}
	s, l, err := w.start(realDisk(), nil)
	must(t, err)
	asked := func(what string, after int, withBundle bool) {
		t.Helper()
		frames := l.take()
		if len(frames) != 1 {
			t.Fatalf("%s: %d frames, not one ask", what, len(frames))
		}
		ask, err := heartbeat.OpenAsk(state, w.id, frames[0])
		must(t, err)
		if ask.After != uint64(after) || ask.Bundle != withBundle {
			t.Fatalf("%s: asked for %+v", what, ask)
		}
	}
	silent := func(what string) {
		t.Helper()
		if n := len(l.take()); n > 0 {
			t.Fatalf("%s: %d frames", what, n)
		}
	}
	refused := func(what, want string, frame []byte, height int) {
		t.Helper()
		if err := s.handle(ctx, frame); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
		if s.state.Height() != uint64(height) {
			t.Errorf("%s: %d entries", what, s.state.Height())
		}
		silent(what)
	}
	must(t, s.handle(ctx, page(9, 0)))
	asked("an announcement to a source that knows no system", 0, true)
	must(t, s.handle(ctx, page(9, 0)))
	silent("announced twice")
	w.boot += int64(askAgain)
	must(t, s.askMore(ctx))
	asked("an answer that did not come", 0, true)
	must(t, s.handle(ctx, w.page(key, heartbeat.System{Bundle: bundle, Height: 9}, all, 2)))
	asked("the first page", 2, false)
	refused("a gap", "follows position 4, and this source has 2", page(4, 2), 2)
	refused("one left out", "does not follow", w.shuffled(key, all, 2, 3, 5), 2)
	must(t, s.handle(ctx, page(0, 2)))
	silent("a page again")
	must(t, s.handle(ctx, page(1, 3)))
	asked("a page that begins with what is known", 4, false)

	// A restart among the pages, after which the link comes up.
	must(t, s.Close())
	s, l, err = w.start(realDisk(), nil)
	must(t, err)
	if s.state.Height() != 4 {
		t.Fatalf("%d entries after a restart", s.state.Height())
	}
	must(t, s.handle(ctx, page(9, 0)))
	asked("an announcement", 4, false)
	must(t, s.handle(ctx, page(4, 5)))
	silent("the last page")
	w.boot += int64(askAgain)
	must(t, s.askMore(ctx))
	silent("nothing is missing")
	refused("an older copy", "ends at 8", w.page(key, heartbeat.System{After: 8, Height: 8}, all[:8], 0), 9)
	refused("a fork", "differs at position 9", w.page(key, heartbeat.System{After: 9, Height: 9}, fork[:9], 0), 9)
	refused("a fork's entry", "differs at position 9", w.page(key, heartbeat.System{After: 8, Height: 10}, fork, 1), 9)

	// What is on the disk is the whole of it.
	must(t, s.Close())
	if known, err := System(w.dir); err != nil || known.Head() != state.Head() {
		t.Errorf("the ledger on the disk has %d entries: %v", known.Height(), err)
	}
}
