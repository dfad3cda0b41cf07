package term

import (
	"fmt"
	"time"
)

// Span writes a length of time, without loss, in the largest unit in which it
// is a whole number; a day is 24 h.
func Span(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / u.unit; d%u.unit == 0 && (n > 1 || n == 1 && u.name != "days") {
			return fmt.Sprintf("%d %s", n, u.name)
		}
	}
	if d < time.Minute {
		return fmt.Sprintf("%g s", d.Seconds())
	}
	return d.String()
}
