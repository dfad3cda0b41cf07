package source

import (
	"log/slog"
	"time"
)

// told keeps what would be said again and again to once in a while.
type told struct {
	clock func() int64
	last  map[string]int64 // boot-time clock, by what was said
	more  map[string]int   // how often since
}

func newTold(clock func() int64) *told {
	return &told{clock, make(map[string]int64), make(map[string]int)}
}

func (t *told) warn(log *slog.Logger, key, msg string, args ...any) {
	now := t.clock()
	if at, ok := t.last[key]; ok && now-at < int64(quiet) {
		t.more[key]++
		return
	}
	if len(t.last) >= maxTold { // somebody makes things up; begin again
		clear(t.last)
		clear(t.more)
	}
	if n := t.more[key]; n > 0 {
		args = append(args, "before", n, "within", quiet.Round(time.Second))
	}
	t.last[key], t.more[key] = now, 0
	log.Warn(msg, args...)
}
