package virtual

import (
	"fmt"
	"io"
	"log/slog"
)

// The parts of a state keep out of messages and logs; only json.Marshal, which
// writes the state file, shows them. Format covers every print verb, for
// values and pointers alike.

func (s State) summary() string {
	return fmt.Sprintf("virtual.State(card %d, secrets redacted)", s.Serial)
}

// Format prints the serial number only.
func (s State) Format(f fmt.State, _ rune) { io.WriteString(f, s.summary()) }

// LogValue logs the serial number only.
func (s State) LogValue() slog.Value { return slog.StringValue(s.summary()) }

const redacted = "(redacted)"

// Format prints no secret.
func (r Reference) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs no secret.
func (r Reference) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format prints no secret.
func (k ManagementKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs no secret.
func (k ManagementKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format prints no secret.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs no secret.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }
