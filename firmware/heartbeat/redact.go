package heartbeat

import (
	"fmt"
	"io"
	"log/slog"
)

// What sequences come from is never printed: neither the secret itself nor the
// chains that a station made of it.

func (c StationConfig) String() string               { return "StationConfig(" + c.ID + ", redacted)" }
func (c StationConfig) GoString() string             { return c.String() }
func (c StationConfig) Format(f fmt.State, _ rune)   { io.WriteString(f, c.String()) }
func (c StationConfig) LogValue() slog.Value         { return slog.StringValue(c.String()) }
func (c StationConfig) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (st *Station) String() string             { return "Station(" + st.cfg.ID + ", redacted)" }
func (st *Station) GoString() string           { return st.String() }
func (st *Station) Format(f fmt.State, _ rune) { io.WriteString(f, st.String()) }
func (st *Station) LogValue() slog.Value       { return slog.StringValue(st.String()) }
