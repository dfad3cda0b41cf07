package tolerant

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Channels (B [0061]). Physically they are subjects of one bus.
const (
	B1 = "b1" // task distributor and machines
	B2 = "b2" // calculators to combiners
	B3 = "b3" // combiners to the output interface
)

// Channels lists all of them.
var Channels = []string{B1, B2, B3}

// Subject is the bus's subject of an enterprise's channel.
func Subject(code uint64, channel string) string {
	return "tolerant." + strconv.FormatUint(code, 10) + "." + channel
}

// Kinds of packets.
const (
	// From the task distributor, on B1.
	KindTask      = "task"      // Distribution, Message: the request, Acked
	KindConfirmed = "confirmed" // Device, Offer, Approvals, Doubt: the operators of one machine confirmed
	KindRejected  = "rejected"  // Device, Message: the approval that says no
	KindDone      = "done"      // Signatures

	// To the task distributor, on B1.
	KindAck     = "ack"     // Device, Message: what it answered to offer.ask
	KindFailed  = "failed"  // Device, Message: its refusal, or Text: why it is silent
	KindUnknown = "unknown" // Device: it was confirmed, but its site does not know the task (any more)

	KindPowers   = "powers"   // Device, Message: firmware.Powers, signed by the calculator; on B2
	KindCombined = "combined" // Device, Message: firmware.Combined, signed by the combiner, Evidence; on B3
)

// Packet is what travels on a channel. Besides the numbers, which every packet
// has (B [0096]), each kind has the fields that it is listed with and no other.
type Packet struct {
	Kind        string        `cbor:"1,keyasint"`
	Site        string        `cbor:"2,keyasint"` // server that sent it, for logs: it proves nothing
	Enterprise  uint64        `cbor:"3,keyasint"` // code
	Distributor uint64        `cbor:"4,keyasint"` // number
	Task        uint64        `cbor:"5,keyasint"` // number
	Request     envelope.Hash `cbor:"6,keyasint"` // digest of the request message

	Device       string   `cbor:"7,keyasint,omitempty"`
	Distribution []byte   `cbor:"8,keyasint,omitempty"` // firmware.Distribution, signed by the distributor's server
	Message      []byte   `cbor:"9,keyasint,omitempty"` // a COSE_Sign1
	Offer        []byte   `cbor:"10,keyasint,omitempty"`
	Approvals    [][]byte `cbor:"11,keyasint,omitempty"`
	// Doubt asks a calculator for proofs that its powers are right. It is the message
	// of the combiner that doubts them: its signatures, or its refusal.
	Doubt []byte `cbor:"12,keyasint,omitempty"`
	// Acked are devices that need not acknowledge: the distributor has their
	// offers, or leaves them alone for now.
	Acked []string `cbor:"13,keyasint,omitempty"`
	// Evidence is what a combiner was given by the calculators that it says were
	// wrong: their messages.
	Evidence [][]byte `cbor:"14,keyasint,omitempty"`
	// Signatures are the bare RSA signatures of all documents, |N| octets.
	Signatures [][]byte `cbor:"15,keyasint,omitempty"`
	Text       string   `cbor:"16,keyasint,omitempty"`
}

// ErrPacket is returned for a packet that is not of this protocol.
var ErrPacket = errors.New("tolerant: malformed packet")

// Fields that a packet may have, as a set.
const (
	hasDevice = 1 << iota
	hasDistribution
	hasMessage
	hasOffer
	hasApprovals
	hasDoubt
	hasAcked
	hasEvidence
	hasSignatures
	hasText
)

// kinds says on which channel each kind travels, which fields it needs, and
// which it may have.
var kinds = map[string]struct {
	channel   string
	need, may uint
}{
	KindTask:      {B1, hasDistribution | hasMessage, hasAcked},
	KindConfirmed: {B1, hasDevice | hasOffer | hasApprovals, hasDoubt},
	KindRejected:  {B1, hasDevice | hasMessage, 0},
	KindDone:      {B1, hasSignatures, 0},
	KindAck:       {B1, hasDevice | hasMessage, 0},
	KindFailed:    {B1, hasDevice, hasMessage | hasText},
	KindUnknown:   {B1, hasDevice, 0},
	KindPowers:    {B2, hasDevice | hasMessage, 0},
	KindCombined:  {B3, hasDevice | hasMessage, hasEvidence},
}

// Channel is where packets of this kind travel.
func (p Packet) Channel() string { return kinds[p.Kind].channel }

// Marshal encodes a packet.
func Marshal(p Packet) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return envelope.Marshal(p)
}

// Unmarshal decodes one strictly, and refuses whatever does not belong to its
// kind. What the packet says is for the desk and the distributor to verify.
func Unmarshal(data []byte) (Packet, error) {
	var p Packet
	if len(data) > MaxPacket {
		return p, fmt.Errorf("%w: %d octets, at most %d", ErrPacket, len(data), MaxPacket)
	}
	if err := envelope.Unmarshal(data, &p); err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrPacket, err)
	}
	if err := p.check(); err != nil {
		return Packet{}, err
	}
	return p, nil
}

func (p *Packet) has() uint {
	var set uint
	add := func(field uint, there bool) {
		if there {
			set |= field
		}
	}
	add(hasDevice, p.Device != "")
	add(hasDistribution, len(p.Distribution) > 0)
	add(hasMessage, len(p.Message) > 0)
	add(hasOffer, len(p.Offer) > 0)
	add(hasApprovals, len(p.Approvals) > 0)
	add(hasDoubt, len(p.Doubt) > 0)
	add(hasAcked, len(p.Acked) > 0)
	add(hasEvidence, len(p.Evidence) > 0)
	add(hasSignatures, len(p.Signatures) > 0)
	add(hasText, p.Text != "")
	return set
}

func (p *Packet) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrPacket}, args...)...)
	}
	kind, ok := kinds[p.Kind]
	has := p.has()
	switch {
	case !ok:
		return bad("unknown kind %q", document.Escape(clip(p.Kind)))
	case p.Enterprise < 1 || p.Enterprise > ledger.MaxEnterpriseCode:
		return bad("enterprise code %d", p.Enterprise)
	case p.Distributor < 1 || p.Distributor > ledger.MaxDistributorNumber:
		return bad("distributor number %d", p.Distributor)
	case p.Task == 0:
		return bad("no task number")
	case p.Request.IsZero():
		return bad("no request")
	case p.Site == "" || len(p.Site) > maxID || len(p.Device) > maxID:
		return bad("an id is missing or too long")
	case has&kind.need != kind.need || has&^(kind.need|kind.may) != 0:
		return bad("%s with fields that do not belong to it, or without one that does", p.Kind)
	case p.Kind == KindFailed && has&(hasMessage|hasText) != hasMessage && has&(hasMessage|hasText) != hasText:
		return bad("%s needs a message or a text", p.Kind)
	case len(p.Text) > maxText:
		return bad("a text of %d octets", len(p.Text))
	case len(p.Approvals) > maxApprovals || len(p.Acked) > maxMachines || len(p.Evidence) > maxMachines:
		return bad("a list that is too long")
	}
	for _, id := range p.Acked {
		if id == "" || len(id) > maxID {
			return bad("an id is missing or too long")
		}
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), maxText)] }
