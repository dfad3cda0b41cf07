package source

import (
	"log/slog"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
)

// clocks are read together, to tell people when one has jumped. No beat
// depends on the wall clock.
type clocks struct{ wall, boot, up int64 } // nanoseconds

func readClocks() clocks {
	return clocks{time.Now().Round(0).UnixNano(), bootclock.Now(), bootclock.Up()}
}

func (c clocks) compare(now clocks, log *slog.Logger) {
	passed := now.boot - c.boot
	if slept := time.Duration(passed - (now.up - c.up)); slept > clockJump {
		log.Warn("the machine was suspended: the beats of that time are skipped", "for", slept.Round(time.Second))
	}
	if jump := time.Duration(now.wall - c.wall - passed); jump > clockJump || jump < -clockJump {
		log.Warn("the wall clock was set: beats go by another clock, but revocations are compared with it", "by", jump.Round(time.Second))
	}
	if late := time.Duration(now.up - c.up); late > glance+clockJump {
		log.Warn("this process was stopped or starved, or its disk or link held it up: the beats of that time are skipped", "for", late.Round(time.Millisecond))
	}
}
