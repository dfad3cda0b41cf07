package envelope

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/veraison/go-cose"
)

// Header is what a message says about itself. All of it stands in the COSE
// protected header and is covered by the signature. Package documentation has
// the table of labels.
type Header struct {
	Type       string   // what the payload is: lower-case letters, digits, '.', '-'; e.g. "request"
	Version    uint64   // version of that type, at least 1
	Signer     KeyID    // signature key of the sender
	ID         [16]byte // message id, random
	Re         [16]byte // id of the message this answers, or zero
	System     Hash     // genesis hash, zero before commissioning
	To         []KeyID  // recipients' agreement keys; empty: not addressed
	Key        string   // id of the split key it concerns, or ""
	Epoch      uint64   // and that key's epoch; 0 if there is no key
	LedgerHead Hash     // head of the ledger as the signer knows it, or zero
	Created    int64    // seconds since 1970
	Expires    int64    // seconds since 1970, later than Created
}

// Labels of the protected header that are ours (RFC 9052 section 11.1: below
// -65536 is for private use).
const (
	labelVersion    = -70001
	labelID         = -70002
	labelRe         = -70003
	labelSystem     = -70004
	labelTo         = -70005
	labelKey        = -70006
	labelEpoch      = -70007
	labelLedgerHead = -70008
	labelCreated    = -70009
	labelExpires    = -70010
)

const (
	contentTypePrefix = "application/vnd.privyseal."
	contentTypeSuffix = "+cbor"
)

// wireHeader is the protected header. omitzero plus the comparison in Unmarshal
// means that an absent field and a zero one cannot both be written.
type wireHeader struct {
	Alg         int64    `cbor:"1,keyasint"`
	Crit        []int64  `cbor:"2,keyasint"`
	ContentType string   `cbor:"3,keyasint"`
	KID         KeyID    `cbor:"4,keyasint"`
	Version     uint64   `cbor:"-70001,keyasint,omitzero"`
	ID          [16]byte `cbor:"-70002,keyasint,omitzero"`
	Re          [16]byte `cbor:"-70003,keyasint,omitzero"`
	System      Hash     `cbor:"-70004,keyasint,omitzero"`
	To          []KeyID  `cbor:"-70005,keyasint,omitempty"`
	Key         string   `cbor:"-70006,keyasint,omitzero"`
	Epoch       uint64   `cbor:"-70007,keyasint,omitzero"`
	LedgerHead  Hash     `cbor:"-70008,keyasint,omitzero"`
	Created     int64    `cbor:"-70009,keyasint,omitzero"`
	Expires     int64    `cbor:"-70010,keyasint,omitzero"`
}

// present returns our labels that h has, in the order of the encoding. That
// list is the value of crit: a reader that does not know one of them must not
// go on (RFC 9052 section 3.1).
func (h *wireHeader) present() []int64 {
	var l []int64
	add := func(label int64, is bool) {
		if is {
			l = append(l, label)
		}
	}
	add(labelVersion, h.Version != 0)
	add(labelID, h.ID != [16]byte{})
	add(labelRe, h.Re != [16]byte{})
	add(labelSystem, !h.System.IsZero())
	add(labelTo, len(h.To) != 0)
	add(labelKey, h.Key != "")
	add(labelEpoch, h.Epoch != 0)
	add(labelLedgerHead, !h.LedgerHead.IsZero())
	add(labelCreated, h.Created != 0)
	add(labelExpires, h.Expires != 0)
	return l
}

// encodeHeader validates h and returns the bytes of the protected header.
func encodeHeader(h *Header) ([]byte, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	w := wireHeader{
		Alg: int64(cose.AlgorithmES256), ContentType: contentTypePrefix + h.Type + contentTypeSuffix, KID: h.Signer,
		Version: h.Version, ID: h.ID, Re: h.Re, System: h.System, To: h.To, Key: h.Key, Epoch: h.Epoch,
		LedgerHead: h.LedgerHead, Created: h.Created, Expires: h.Expires,
	}
	w.Crit = w.present()
	return Marshal(w)
}

// decodeHeader is the inverse of encodeHeader: it accepts nothing that
// encodeHeader does not produce.
func decodeHeader(protected []byte) (*Header, error) {
	if len(protected) > MaxProtected {
		return nil, fmt.Errorf("%w: protected header of %d bytes, limit %d", ErrTooLarge, len(protected), MaxProtected)
	}
	if err := checkLabels(protected); err != nil {
		return nil, err
	}
	var w wireHeader
	if err := Unmarshal(protected, &w); err != nil {
		return nil, fmt.Errorf("protected header: %w", err)
	}
	if w.Alg != int64(cose.AlgorithmES256) {
		return nil, &HeaderError{"alg", fmt.Sprintf("%d where only -7 (ES256) is accepted", w.Alg)}
	}
	present := w.present()
	for _, l := range w.Crit {
		if !slices.Contains(present, l) {
			return nil, &HeaderError{"crit", fmt.Sprintf("names label %d, which is unknown or absent", l)}
		}
	}
	if !slices.Equal(w.Crit, present) {
		return nil, &HeaderError{"crit", "must list every private label that is present, in order"}
	}
	typ, ok := strings.CutPrefix(w.ContentType, contentTypePrefix)
	typ, ok2 := strings.CutSuffix(typ, contentTypeSuffix)
	if !ok || !ok2 {
		return nil, &HeaderError{"content type", fmt.Sprintf("%.80q is not one of ours", w.ContentType)}
	}
	h := &Header{
		Type: typ, Version: w.Version, Signer: w.KID, ID: w.ID, Re: w.Re, System: w.System, To: w.To, Key: w.Key,
		Epoch: w.Epoch, LedgerHead: w.LedgerHead, Created: w.Created, Expires: w.Expires,
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	return h, nil
}

// checkLabels names the first label that is not in the table. The decoder would
// refuse it as well, but not say which.
func checkLabels(protected []byte) error {
	if err := checkDeterministic(protected); err != nil {
		return fmt.Errorf("protected header: %w", err)
	}
	w := walker{data: protected}
	major, pairs, err := w.head()
	if err != nil || major != 5 {
		return &HeaderError{"protected", "is not a map"}
	}
	for range pairs {
		major, arg, err := w.head()
		if err != nil {
			return err
		}
		switch {
		case major == 0 && arg >= 1 && arg <= 4:
		case major == 1 && arg >= -labelVersion-1 && arg <= -labelExpires-1: // CBOR writes n as -1-n
		case major == 0:
			return &HeaderError{"label", fmt.Sprintf("%d is unknown", arg)}
		case major == 1:
			return &HeaderError{"label", fmt.Sprintf("-1-%d is unknown", arg)}
		default:
			return &HeaderError{"label", "that is not an integer"}
		}
		if err := w.item(1); err != nil {
			return err
		}
	}
	return nil
}

// validate holds for every header that is signed and every one that is read.
func (h *Header) validate() error {
	switch {
	case h.Type == "" || len(h.Type) > MaxType:
		return &HeaderError{"type", fmt.Sprintf("must have 1 to %d characters", MaxType)}
	case !onlyTypeChars(h.Type):
		return &HeaderError{"type", fmt.Sprintf("%q has other characters than a-z, 0-9, '.', '-'", h.Type)}
	case h.Version == 0:
		return &HeaderError{"version", "is missing"}
	case h.Signer.IsZero():
		return &HeaderError{"signer", "is missing"}
	case h.ID == [16]byte{}:
		return &HeaderError{"id", "is missing"}
	case h.Re == h.ID:
		return &HeaderError{"re", "names the message itself"}
	case len(h.To) > MaxRecipients:
		return &HeaderError{"to", fmt.Sprintf("has %d recipients, limit %d", len(h.To), MaxRecipients)}
	case len(h.Key) > MaxKeyName:
		return &HeaderError{"key", fmt.Sprintf("has %d bytes, limit %d", len(h.Key), MaxKeyName)}
	case !printable(h.Key):
		return &HeaderError{"key", "has characters that do not print"}
	case h.Key == "" && h.Epoch != 0:
		return &HeaderError{"epoch", "without a key"}
	case h.Created < 0 || h.Created > MaxTime:
		return &HeaderError{"created", "is out of range"}
	case h.Expires == 0:
		return &HeaderError{"expires", "is missing"}
	case h.Expires < 0 || h.Expires > MaxTime:
		return &HeaderError{"expires", "is out of range"}
	case h.Expires <= h.Created:
		return &HeaderError{"expires", "is not later than created"}
	}
	for i, k := range h.To {
		if k.IsZero() {
			return &HeaderError{"to", "has an empty recipient"}
		}
		if slices.Contains(h.To[:i], k) {
			return &HeaderError{"to", fmt.Sprintf("names %v twice", k)}
		}
	}
	return nil
}

func onlyTypeChars(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// printable: ASCII from '!' to '~', so that a key id looks the same on every
// screen and in every log.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// NewID returns a random message id.
func NewID(rand io.Reader) ([16]byte, error) {
	var id [16]byte
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return id, fmt.Errorf("envelope: message id: %w", err)
	}
	return id, nil
}

func (h *Header) clone() Header {
	c := *h
	c.To = slices.Clone(h.To)
	return c
}
