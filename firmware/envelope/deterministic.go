package envelope

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// checkDeterministic walks one CBOR item that must fill data to its last byte,
// and refuses whatever RFC 8949 section 4.2.1 (core deterministic encoding)
// forbids, and what no message of ours has: tags, floats, undefined and other
// simple values, more than MaxDepth levels.
//
// The decoder behind Unmarshal refuses most of this too. The walk comes first
// because it is short enough to be read, allocates nothing, and says at which
// byte the fault is.
func checkDeterministic(data []byte) error {
	if len(data) > MaxMessage {
		return fmt.Errorf("%w: %d bytes of cbor, limit %d", ErrTooLarge, len(data), MaxMessage)
	}
	w := walker{data: data}
	if err := w.item(0); err != nil {
		return err
	}
	if w.pos != len(data) {
		return w.fault("%d trailing bytes", len(data)-w.pos)
	}
	return nil
}

type walker struct {
	data []byte
	pos  int
}

func (w *walker) fault(format string, args ...any) error {
	return &EncodingError{Offset: w.pos, Fault: fmt.Sprintf(format, args...)}
}

// head reads an initial byte and its argument (RFC 8949 section 3).
func (w *walker) head() (major byte, arg uint64, err error) {
	if w.pos >= len(w.data) {
		return 0, 0, w.fault("ends early")
	}
	b := w.data[w.pos]
	major, info := b>>5, b&0x1f
	if info < 24 {
		w.pos++
		return major, uint64(info), nil
	}
	if info > 27 {
		if info == 31 {
			return 0, 0, w.fault("indefinite length")
		}
		return 0, 0, w.fault("reserved additional information %d", info)
	}
	if major == 7 { // two-byte simple values and floats
		return 0, 0, w.fault("float or simple value 0x%02x", b)
	}
	n := 1 << (info - 24)
	if len(w.data)-w.pos-1 < n {
		return 0, 0, w.fault("ends early")
	}
	for _, c := range w.data[w.pos+1 : w.pos+1+n] {
		arg = arg<<8 | uint64(c)
	}
	if (n == 1 && arg < 24) || (n > 1 && arg>>(4*n) == 0) {
		return 0, 0, w.fault("number %d is not in its shortest form", arg)
	}
	w.pos += 1 + n
	return major, arg, nil
}

func (w *walker) item(depth int) error {
	start := w.pos
	major, arg, err := w.head()
	if err != nil {
		return err
	}
	if (major == 4 || major == 5) && depth >= MaxDepth {
		w.pos = start
		return w.fault("nested deeper than %d levels", MaxDepth)
	}
	left := uint64(len(w.data) - w.pos)
	switch major {
	case 0, 1: // integers
		return nil
	case 2, 3: // byte string, text
		if arg > left {
			return w.fault("string of %d bytes where %d are left", arg, left)
		}
		s := w.data[w.pos : w.pos+int(arg)]
		if major == 3 && !utf8.Valid(s) {
			return w.fault("text is not UTF-8")
		}
		w.pos += int(arg)
		return nil
	case 4: // array
		if arg > left { // every element takes a byte at least
			return w.fault("array of %d elements where %d bytes are left", arg, left)
		}
		for range arg {
			if err := w.item(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case 5: // map
		if arg > left/2 {
			return w.fault("map of %d pairs where %d bytes are left", arg, left)
		}
		var last []byte
		for range arg {
			from := w.pos
			if err := w.item(depth + 1); err != nil {
				return err
			}
			key := w.data[from:w.pos]
			if last != nil {
				switch c := bytes.Compare(last, key); {
				case c == 0:
					w.pos = from
					return w.fault("map key repeated")
				case c > 0:
					w.pos = from
					return w.fault("map keys out of order")
				}
			}
			last = key
			if err := w.item(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case 6:
		w.pos = start
		return w.fault("tag %d", arg)
	default: // 7: one-byte simple values
		if arg != 20 && arg != 21 && arg != 22 { // false, true, null
			w.pos = start
			return w.fault("simple value %d", arg)
		}
		return nil
	}
}

// appendHead appends the shortest head of the major type in the top three bits
// of major.
func appendHead(b []byte, major byte, arg uint64) []byte {
	switch {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg < 1<<8:
		return append(b, major|24, byte(arg))
	case arg < 1<<16:
		return append(b, major|25, byte(arg>>8), byte(arg))
	case arg < 1<<32:
		return append(b, major|26, byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg))
	}
	return append(b, major|27, byte(arg>>56), byte(arg>>48), byte(arg>>40), byte(arg>>32),
		byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg))
}
