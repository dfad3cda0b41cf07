// Package vpcd puts virtual cards behind the real pcscd, by way of the vpcd
// driver of vsmartcard (Debian: vsmartcard-vpcd).
//
// [StartDaemon] runs a private pcscd with readers of its own, so that tests
// neither see nor disturb the machine's cards; [Serve] plugs a slot into one of
// them. To use both in a test:
//
//	d, err := vpcd.StartDaemon(t.TempDir(), 1)
//	if err != nil { t.Fatal(err) }
//	t.Cleanup(func() { d.Close() })
//	t.Setenv("PCSCLITE_CSOCK_NAME", d.Socket)
//	go vpcd.Serve(t.Context(), d.Addr(0), virtual.NewSlot(card))
//
// libpcsclite reads PCSCLITE_CSOCK_NAME once: a process can talk to one daemon
// in its life. A test binary therefore starts its daemon in TestMain.
package vpcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/card/virtual"
)

// Control bytes of the vpcd protocol (vsmartcard, virtualsmartcard/src/vpcd.h).
const (
	controlOff   = 0
	controlOn    = 1
	controlReset = 2
	controlATR   = 4
)

// redial is how long Serve waits before it dials a daemon that did not answer.
const redial = 20 * time.Millisecond

// Serve plugs slot into the vpcd reader that listens at addr until ctx ends,
// and returns ctx's error. The connection is the contact: it is closed when
// the card leaves the slot and dialled anew when one comes, and a daemon that
// is not there (yet, or any more) is dialled until it is.
func Serve(ctx context.Context, addr string, slot *virtual.Slot) error {
	for ctx.Err() == nil {
		insertion, changed := slot.Present()
		if insertion == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		err := contact(ctx, addr, slot, insertion)
		if err == nil || errors.Is(err, virtual.ErrRemoved) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(redial):
		}
	}
	return ctx.Err()
}

// contact is one card in one reader, from dialling to removal.
func contact(ctx context.Context, addr string, slot *virtual.Slot, insertion uint64) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer conn.Close()
	wg.Go(func() { // pull the contact when the card goes
		for {
			now, changed := slot.Present()
			if now != insertion {
				break
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
			break
		}
		conn.Close()
	})
	slot.Reset()
	for {
		frame, err := readFrame(conn)
		if err != nil {
			return err
		}
		var answer []byte
		if len(frame) == 1 {
			switch frame[0] {
			case controlOff, controlOn, controlReset:
				slot.Reset()
				continue
			case controlATR:
				answer = slot.ATR()
			default:
				return fmt.Errorf("vpcd: unknown control byte %d", frame[0])
			}
		} else if answer, err = slot.Transmit(ctx, insertion, frame); err != nil {
			return err
		}
		if err := writeFrame(conn, answer); err != nil {
			return err
		}
	}
}

// readFrame reads two bytes of length and the payload. vpcd sends them apart;
// unless each half is acknowledged at once, Nagle's algorithm over there and
// delayed acknowledgement over here cost 40 ms a command. The kernel takes
// TCP_QUICKACK back when it sees fit, so it is set before each read.
func readFrame(conn *net.TCPConn) ([]byte, error) {
	var head [2]byte
	if err := quickACK(conn); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint16(head[:]))
	if err := quickACK(conn); err != nil {
		return nil, err
	}
	_, err := io.ReadFull(conn, frame)
	return frame, err
}

func quickACK(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}); err != nil {
		return err
	}
	return set
}

func writeFrame(conn *net.TCPConn, b []byte) error {
	if len(b) > 0xffff {
		return fmt.Errorf("vpcd: a response of %d bytes does not fit a frame", len(b))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b)))
	_, err := conn.Write(append(frame, b...))
	return err
}
