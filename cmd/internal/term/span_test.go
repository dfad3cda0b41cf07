package term

import (
	"testing"
	"time"
)

// Every length of time is written without loss.
func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		50 * time.Millisecond: "0.05 s", time.Second: "1 s", 90 * time.Second: "90 s", 2 * time.Minute: "2 min", time.Minute: "1 min", time.Hour: "1 h", 24 * time.Hour: "24 h",
		30 * 24 * time.Hour: "30 days", 0: "0 s", 61 * time.Minute: "61 min", time.Hour + 1500*time.Millisecond: "1h0m1.5s",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q, expected %q", d, got, want)
		}
	}
}
