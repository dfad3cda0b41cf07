package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the version of the link's protocol, the first two octets of a
// hello. There is one.
const Version = 1

// A frame is a 4-octet big-endian length, that many octets, of which the first
// is the kind. The length is never zero.
const (
	kindMessage   = 1 // a sealed envelope
	kindKeepAlive = 2 // nothing else to say; empty body
	kindHello     = 3 // 2-octet version, then the sender's id
	kindRefusal   = 4 // why the server will not speak; text
)

const frameHeader = 5

// maxBody returns the largest body of a kind, or false for an unknown kind.
func maxBody(kind byte) (int, bool) {
	switch kind {
	case kindMessage:
		return MaxMessage, true
	case kindKeepAlive:
		return 0, true
	case kindHello:
		return 2 + maxID, true
	case kindRefusal:
		return maxReason, true
	}
	return 0, false
}

// A FrameError means that the peer does not speak this protocol. The link is
// closed: after a bad frame there is no telling where the next one starts.
type FrameError struct {
	Kind   byte
	Length uint32 // as announced, kind included
	Reason string
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("link: frame of kind %d and length %d refused: %s", e.Kind, e.Length, e.Reason)
}

// readFrame reads one frame. started is called once the first octet is there,
// so that the caller can change from waiting for a peer to timing it.
func readFrame(r io.Reader, started func() error) (kind byte, body []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:1]); err != nil {
		return 0, nil, err
	}
	if started != nil {
		if err := started(); err != nil {
			return 0, nil, err
		}
	}
	if _, err := io.ReadFull(r, h[1:]); err != nil {
		return 0, nil, halfFrame(err)
	}
	length, kind := binary.BigEndian.Uint32(h[:4]), h[4]
	limit, known := maxBody(kind)
	switch {
	case !known:
		return 0, nil, &FrameError{kind, length, "unknown kind"}
	case length == 0:
		return 0, nil, &FrameError{kind, length, "a frame has at least its kind"}
	case uint64(length)-1 > uint64(limit):
		return 0, nil, &FrameError{kind, length, fmt.Sprintf("the body of this kind has at most %d octets", limit)}
	}
	body, err = readBody(r, int(length)-1)
	return kind, body, halfFrame(err)
}

// readBody reads exactly n octets. Memory follows what has arrived, not what
// was announced: a length costs the peer nothing.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, min(n, step))
	for have := 0; ; {
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			return nil, err
		}
		if have = len(body); have == n {
			return body, nil
		}
		grown := make([]byte, min(n, 2*have))
		copy(grown, body)
		body = grown
	}
}

// halfFrame tells an end inside a frame from one between frames.
func halfFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame encodes a frame. The caller has checked the body's length.
func appendFrame(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(body)))
	b = append(b, kind)
	return append(b, body...)
}

func encodeHello(id string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, Version), id...)
}

// decodeHello returns the peer's id. The version comes first in every version
// to come, so that this refusal can always be made.
func decodeHello(body []byte) (id string, err error) {
	if len(body) < 2 {
		return "", fmt.Errorf("link: hello of %d octets is too short", len(body))
	}
	if v := binary.BigEndian.Uint16(body); v != Version {
		return "", fmt.Errorf("link: version %d is not spoken here, version %d is: upgrade the older end", v, Version)
	}
	id = string(body[2:])
	return id, checkID(id)
}

// checkID admits what can stand in a log line, a file name and a subject.
func checkID(id string) error {
	if len(id) == 0 || len(id) > maxID {
		return fmt.Errorf("link: an id has 1 to %d characters, not %d", maxID, len(id))
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("link: an id is made of letters, digits, '-', '_' and '.', not %q", c)
		}
	}
	return nil
}
