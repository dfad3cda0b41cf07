package source

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "redacted"

// Private keys print as one word under every verb, as JSON and in logs.

func (keys) String() string               { return redacted }
func (keys) GoString() string             { return redacted }
func (keys) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (keys) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (keys) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (keys) LogValue() slog.Value         { return slog.StringValue(redacted) }

func (beatKey) String() string               { return redacted }
func (beatKey) GoString() string             { return redacted }
func (beatKey) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (beatKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (beatKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (beatKey) LogValue() slog.Value         { return slog.StringValue(redacted) }

func (secrets) String() string               { return redacted }
func (secrets) GoString() string             { return redacted }
func (secrets) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (secrets) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (secrets) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (secrets) LogValue() slog.Value         { return slog.StringValue(redacted) }

// A beatFile is JSON: that is how a beat key is stored.

func (beatFile) String() string             { return redacted }
func (beatFile) GoString() string           { return redacted }
func (beatFile) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
func (beatFile) LogValue() slog.Value       { return slog.StringValue(redacted) }
