package card

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ebfe/scard"
)

// lists is held by whatever makes or ends a PC/SC context or a connection.
// libpcsclite (1.9.9) keeps the lists of them for the whole process, and walks
// all of them while another thread changes its own: a SCardReleaseContext beside
// a SCardDisconnect now and then crashed the process. A call that is abandoned
// no longer holds it.
var lists sync.Mutex

// withService runs f with a PC/SC context of its own. The caller holds lists.
func withService(f func(*scard.Context) error) error {
	sc, err := scard.EstablishContext()
	if err != nil {
		return classify(fmt.Errorf("connecting to the PC/SC service: %w", err))
	}
	defer sc.Release()
	return classify(f(sc))
}

// identity is what a card tells anybody about itself.
type identity struct {
	serial              uint32
	major, minor, patch byte
}

var (
	aidPIV = []byte{0xa0, 0x00, 0x00, 0x03, 0x08}
	aidOTP = []byte{0xa0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01, 0x01} // has the serial number before version 5
)

// probe asks the card in a reader for its serial number. It does not go through
// piv.Open, which keeps a handle, and with it the card, for the life of the
// process when the card has no PIV application.
//
// The connection is exclusive, so that the SELECT cannot disturb a program
// that is using another application of the card: it is ErrInUse instead.
func probe(sc *scard.Context, reader string) (identity, error) {
	var id identity
	h, err := sc.Connect(reader, scard.ShareExclusive, scard.ProtocolT1)
	if err != nil {
		return id, classify(err)
	}
	defer h.Disconnect(scard.LeaveCard)
	if _, err := transmit(h, 0xa4, 0x04, 0x00, aidPIV); err != nil {
		if statusWord(err) != 0 {
			return id, fmt.Errorf("%w: %w", ErrNotPIV, err)
		}
		return id, classify(err)
	}
	v, err := transmit(h, 0xfd, 0, 0, nil)
	if err != nil {
		return id, classify(fmt.Errorf("reading the version: %w", err))
	}
	if len(v) != 3 {
		return id, fmt.Errorf("the version has %d bytes, not 3", len(v))
	}
	id.major, id.minor, id.patch = v[0], v[1], v[2]
	var s []byte
	if id.major >= 5 {
		s, err = transmit(h, 0xf8, 0, 0, nil)
	} else if _, err = transmit(h, 0xa4, 0x04, 0x00, aidOTP); err == nil {
		s, err = transmit(h, 0x01, 0x10, 0x00, nil)
	}
	if err != nil {
		return id, classify(fmt.Errorf("reading the serial number: %w", err))
	}
	if len(s) != 4 {
		return id, fmt.Errorf("the serial number has %d bytes, not 4", len(s))
	}
	id.serial = binary.BigEndian.Uint32(s)
	return id, nil
}

// transmit sends one short APDU and follows 61xx.
func transmit(h *scard.Card, ins, p1, p2 byte, data []byte) ([]byte, error) {
	cmd := append([]byte{0x00, ins, p1, p2, byte(len(data))}, data...)
	var out []byte
	for {
		r, err := h.Transmit(cmd)
		if err != nil {
			return nil, err
		}
		if len(r) < 2 {
			return nil, errNoAnswer
		}
		sw := binary.BigEndian.Uint16(r[len(r)-2:])
		out = append(out, r[:len(r)-2]...)
		switch {
		case sw == swOK:
			return out, nil
		case sw>>8 == 0x61 && len(out) < maxResponse:
			cmd = []byte{0x00, 0xc0, 0x00, 0x00, byte(sw)}
		default:
			return nil, swError(sw)
		}
	}
}

// reset ends a transaction: the card forgets that its PIN was verified. The
// caller holds lists.
//
// piv-go disconnects and leaves the card as it is, and pcscd powers an unused
// card down only after a while. Between piv-go's disconnect and this connect
// another program may take the card; reset then waits for its turn until the
// deadline, and its failure is reported.
func reset(reader string, deadline time.Time) error {
	return withService(func(sc *scard.Context) error {
		for {
			h, err := sc.Connect(reader, scard.ShareExclusive, scard.ProtocolT1)
			err = classify(err)
			switch {
			case err == nil:
				return h.Disconnect(scard.ResetCard)
			case errors.Is(err, ErrRemoved):
				return nil // without power it has forgotten
			case !errors.Is(err, ErrInUse) || !time.Now().Before(deadline):
				return fmt.Errorf("resetting the card: %w", err)
			}
			time.Sleep(inUseRetry)
		}
	})
}
