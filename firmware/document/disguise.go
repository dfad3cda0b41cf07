package document

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// DisguiseError: the octets are handed in as a file, but another reader would
// take them for something whose signature means more than a file's. A
// certificate key's signature on a TBSCertificate is a certificate; a file
// key's must never be one (design §4).
type DisguiseError struct {
	What    string   // "a TBSCertificate", …
	Layers  []string // what it was wrapped in, outermost first: "PEM", "base64", "hex", "DER"
	Trailer bool     // other octets follow it
}

func (e *DisguiseError) Error() string {
	s := "the file is " + e.What
	if len(e.Layers) > 0 {
		s += " wrapped in " + strings.Join(e.Layers, " in ")
	}
	if e.Trailer {
		s += " with more octets behind it"
	}
	return s + ", which a key for files does not sign: ask a key of the right family"
}

// detector looks for signed structures. It is lenient where ParseTBS is
// strict: what it does not see gets signed, so it reads as the laxest verifier
// would.
type detector struct {
	elements int // still to be looked at
}

// checkDisguise returns a *DisguiseError if file is, in any wrapping it knows,
// one of the structures that other readers act upon when they are signed.
func checkDisguise(file []byte) error {
	d := detector{elements: maxElements}
	if e := d.search(file, nil); e != nil {
		return e
	}
	return nil
}

func (d *detector) search(data []byte, layers []string) *DisguiseError {
	if bytes.HasPrefix(data, []byte(ledgerPrefix)) {
		return &DisguiseError{What: "a command of the ledger", Layers: layers}
	}
	if e := d.siblings(data, layers); e != nil {
		return e
	}
	// Readers of PEM and base64 skip a byte order mark and white space.
	text := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), "\x00 \t\r\n\v\f")
	if len(text) != len(data) {
		if e := d.siblings(text, layers); e != nil {
			return e
		}
	}
	if len(layers) >= maxWrapping {
		return nil
	}
	inner := func(data []byte, layer string) *DisguiseError {
		return d.search(data, append(append([]string(nil), layers...), layer))
	}
	if e := d.pem(data, inner); e != nil {
		return e
	}
	if b := leadingHex(text); b != nil {
		if e := inner(b, "hex"); e != nil {
			return e
		}
	}
	if b := leadingBase64(text); b != nil {
		return inner(b, "base64")
	}
	return nil
}

// pem looks into PEM blocks where they make up the file: a script that
// contains a certificate among other things is a script.
func (d *detector) pem(data []byte, inner func([]byte, string) *DisguiseError) *DisguiseError {
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		return nil
	}
	rest, length := data, 0
	var found *DisguiseError
	for n := 0; n < maxSiblings; n++ {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		length += len(block.Bytes)
		rest = after
		if found == nil {
			found = inner(block.Bytes, "PEM")
		}
	}
	if found != nil && length*pemShare >= len(data) {
		return found
	}
	// Blocks that encoding/pem does not take (headers, no final line break).
	lead := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	if bytes.HasPrefix(lead, []byte("-----BEGIN ")) {
		if _, body, ok := bytes.Cut(lead[len("-----"):], []byte("-----")); ok {
			if b := leadingBase64(body); b != nil {
				return inner(b, "PEM")
			}
		}
	}
	return nil
}

// leadingBase64 decodes the longest beginning of text that is base64 in either
// alphabet, white space and padding aside; nil if it is too short to matter.
func leadingBase64(text []byte) []byte {
	clean := make([]byte, 0, min(len(text), 1<<16))
scan:
	for _, c := range text {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/':
			clean = append(clean, c)
		case c == '-':
			clean = append(clean, '+')
		case c == '_':
			clean = append(clean, '/')
		case c == ' ', c == '\t', c == '\r', c == '\n', c == '\v', c == '\f', c == '"', c == '\'':
		default:
			break scan
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	if len(clean) < minWrapped {
		return nil
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
	n, _ := base64.RawStdEncoding.Decode(out, clean)
	return out[:n]
}

// leadingHex does the same for hexadecimal, colons allowed.
func leadingHex(text []byte) []byte {
	clean := make([]byte, 0, min(len(text), 1<<16))
scan:
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			clean = append(clean, c)
		case c == ' ', c == '\t', c == '\r', c == '\n', c == ':':
		default:
			break scan
		}
	}
	clean = clean[:len(clean)&^1]
	if len(clean) < minWrapped {
		return nil
	}
	out := make([]byte, len(clean)/2)
	n, _ := hex.Decode(out, clean)
	return out[:n]
}

// siblings looks at BER elements laid end to end from the start of data.
func (d *detector) siblings(data []byte, layers []string) *DisguiseError {
	for n := 0; n < maxSiblings && len(data) > 0; n++ {
		e, rest, ok := readBER(data)
		if !ok {
			return nil
		}
		if found := d.element(e, layers, 0); found != nil {
			found.Trailer = found.Trailer || len(rest) > 0
			return found
		}
		data = rest
	}
	return nil
}

// element looks at one BER element, then at what it contains.
func (d *detector) element(e berElement, layers []string, depth int) *DisguiseError {
	if d.elements--; d.elements < 0 || depth > maxDepth {
		return nil
	}
	if what := recognise(e); what != "" {
		if depth > 0 {
			layers = append(append([]string(nil), layers...), "DER")
		}
		return &DisguiseError{What: what, Layers: layers}
	}
	body := e.body
	switch {
	case e.constructed():
	case e.tag == 0x03 && len(body) > 1: // BIT STRING
		body = body[1:]
	case e.tag == 0x04, e.tag&0xc0 == 0x80: // OCTET STRING, implicit tags
	default:
		return nil
	}
	for len(body) > 0 {
		child, rest, ok := readBER(body)
		if !ok {
			return nil
		}
		if found := d.element(child, layers, depth+1); found != nil {
			return found
		}
		body = rest
	}
	return nil
}

const (
	// minWrapped is the shortest base64 or hex that could hold a structure.
	minWrapped = 64
	// pemShare: PEM blocks count as the file itself when they hold at least one
	// octet of this many. `openssl x509 -text` writes five times the PEM.
	pemShare = 12
)

// ledgerPrefix begins what the ledger key signs for a command.
var ledgerPrefix = string(ledgerDomain())

func ledgerDomain() []byte {
	tbs := ledger.ToBeSigned(nil)
	if len(tbs) == 0 {
		panic(fmt.Sprintf("document: ledger commands have no domain: %x", tbs))
	}
	return tbs
}
