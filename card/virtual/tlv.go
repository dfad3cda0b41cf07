package virtual

import (
	"encoding/binary"
	"errors"
)

var errTLV = errors.New("virtual: malformed TLV")

// tlv encodes a BER-TLV of ISO 7816-4 section 5.2.2: tags of one or two bytes,
// definite lengths below 65536.
func tlv(tag uint16, parts ...[]byte) []byte {
	var out []byte
	if tag > 0xff {
		out = append(out, byte(tag>>8))
	}
	out = append(out, byte(tag))
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	default:
		out = append(out, 0x82)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// readTLV takes the first element off b.
func readTLV(b []byte) (tag uint16, value, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, errTLV
	}
	tag, b = uint16(b[0]), b[1:]
	if tag&0x1f == 0x1f {
		tag, b = tag<<8|uint16(b[0]), b[1:]
	}
	if len(b) == 0 {
		return 0, nil, nil, errTLV
	}
	n := int(b[0])
	b = b[1:]
	switch {
	case n < 0x80:
	case n == 0x81 && len(b) >= 1:
		n, b = int(b[0]), b[1:]
	case n == 0x82 && len(b) >= 2:
		n, b = int(binary.BigEndian.Uint16(b)), b[2:]
	default:
		return 0, nil, nil, errTLV
	}
	if len(b) < n {
		return 0, nil, nil, errTLV
	}
	return tag, b[:n], b[n:], nil
}

// readTLVs reads b as a sequence of elements, none of them twice.
func readTLVs(b []byte) (map[uint16][]byte, error) {
	m := make(map[uint16][]byte)
	for len(b) > 0 {
		tag, value, rest, err := readTLV(b)
		if err != nil {
			return nil, err
		}
		if _, dup := m[tag]; dup {
			return nil, errTLV
		}
		m[tag] = value
		b = rest
	}
	return m, nil
}
