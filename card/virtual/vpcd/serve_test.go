package vpcd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
)

// generate makes an ordinary signature key on a card and returns its signer.
func generate(t *testing.T, yk *piv.YubiKey) func() error {
	t.Helper()
	pub, err := yk.GenerateKey(piv.DefaultManagementKey, piv.SlotSignature, piv.Key{
		Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyAlways, TouchPolicy: piv.TouchPolicyNever})
	if err != nil {
		t.Fatal(err)
	}
	key, err := yk.PrivateKey(piv.SlotSignature, pub, piv.KeyAuth{PIN: piv.DefaultPIN})
	if err != nil {
		t.Fatal(err)
	}
	return func() error {
		digest := sha256.Sum256([]byte("document"))
		_, err := key.(*piv.ECDSAPrivateKey).Sign(rand.Reader, digest[:], nil)
		return err
	}
}

// TestUnplug pulls the card while it signs, seen through PC/SC, and puts it
// back with its key.
func TestUnplug(t *testing.T) {
	for _, late := range []bool{false, true} {
		reader, slot := plug(t, newCard(t, virtual.Profile57(), 3000, virtual.Config{}))
		yk := open(t, reader)
		sign := generate(t, yk)
		if err := sign(); err != nil {
			t.Fatal(err)
		}
		if err := slot.Inject(virtual.Fault{Action: virtual.Unplug, Instruction: 0x87, P2: 0x9c, Late: late}); err != nil {
			t.Fatal(err)
		}
		if err := sign(); err == nil {
			t.Fatal("a card that was pulled signed")
		}
		if err := sign(); err == nil {
			t.Fatal("a card that is gone signed")
		}
		yk.Close()
		await(t, reader, false)
		if _, err := piv.Open(reader); err == nil {
			t.Fatal("an empty reader was opened")
		}
		if !slot.Reinsert() {
			t.Fatal("there was no card to put back")
		}
		yk = open(t, reader)
		if info, err := yk.KeyInfo(piv.SlotSignature); err != nil || info.Origin != piv.OriginGenerated {
			t.Errorf("the key after the return: %+v, %v", info, err)
		}
		if _, err := yk.Serial(); err != nil {
			t.Error(err)
		}
		yk.Close()
	}
}

// TestSwap puts another card in a reader: the handle to the first is dead, and
// who opens again sees the second.
func TestSwap(t *testing.T) {
	reader, slot := plug(t, newCard(t, virtual.Profile54(), 3100, virtual.Config{}))
	yk := open(t, reader)
	other := newCard(t, virtual.Profile57(), 3101, virtual.Config{})
	if err := slot.Inject(virtual.Fault{Action: virtual.Swap, Instruction: 0xf8, Card: other, Delay: time.Second}); err != nil {
		t.Fatal(err)
	}
	if serial, err := yk.Serial(); err == nil {
		t.Fatalf("card %d answered while it was swapped", serial)
	}
	yk.Close()
	await(t, reader, false)
	yk = open(t, reader)
	if serial, err := yk.Serial(); err != nil || serial != 3101 {
		t.Errorf("serial %d, %v; want the other card's", serial, err)
	}
}

// TestStatusAndDelay are the faults that leave the card in.
func TestStatusAndDelay(t *testing.T) {
	reader, slot := plug(t, newCard(t, virtual.Profile57(), 3200, virtual.Config{}))
	yk := open(t, reader)
	sign := generate(t, yk)
	for _, f := range []virtual.Fault{
		{Action: virtual.Status, Instruction: 0x87, P2: 0x9c, Status: 0x6f00},
		{Action: virtual.Delay, Instruction: 0x87, P2: 0x9c, Delay: 20 * time.Millisecond},
	} {
		if err := slot.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := sign(); err == nil || !strings.Contains(err.Error(), "6f00") {
		t.Errorf("sign with a faulty card: %v", err)
	}
	if err := sign(); err != nil {
		t.Errorf("sign with a slow card: %v", err)
	}
}

// reader is the daemon's end of the vpcd protocol.
type readerEnd struct {
	t *testing.T
	net.Conn
}

func (r readerEnd) send(payload []byte) {
	r.t.Helper()
	// As vpcd does: length and payload apart.
	if _, err := r.Write(binary.BigEndian.AppendUint16(nil, uint16(len(payload)))); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.Write(payload); err != nil {
		r.t.Fatal(err)
	}
}

func (r readerEnd) receive() []byte {
	r.t.Helper()
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		r.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		r.t.Fatal(err)
	}
	return b
}

func TestProtocol(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	card := newCard(t, virtual.Profile57(), 3300, virtual.Config{})
	slot := virtual.NewSlot(card)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- vpcd.Serve(ctx, l.Addr().String(), slot) }()
	accept := func() readerEnd {
		t.Helper()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return readerEnd{t, c}
	}
	closed := func(r readerEnd) {
		t.Helper()
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the contact is not closed: %d bytes, %v", n, err)
		}
		r.Close()
	}
	selectPIV := []byte{0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8}
	tries := []byte{0, 0x20, 0, 0x80}

	r := accept()
	r.send([]byte{4})
	if atr := r.receive(); !bytes.Equal(atr, card.ATR()) {
		t.Errorf("ATR %x", atr)
	}
	r.send([]byte{1})
	r.send(selectPIV)
	if a := r.receive(); !bytes.HasSuffix(a, []byte{0x90, 0}) {
		t.Errorf("SELECT: %x", a)
	}
	r.send([]byte{2}) // reset: no answer, and the application is gone
	r.send(tries)
	if a := r.receive(); !bytes.Equal(a, []byte{0x6d, 0}) {
		t.Errorf("after a reset: %x", a)
	}
	r.send([]byte{9}) // no such control byte: the contact is given up and made anew
	closed(r)
	r = accept()
	r.send(nil) // an empty frame is no command
	if a := r.receive(); !bytes.Equal(a, []byte{0x67, 0}) {
		t.Errorf("an empty frame: %x", a)
	}

	slot.Remove()
	closed(r)
	slot.Reinsert()
	r = accept()
	slot.Insert(newCard(t, virtual.Profile54(), 3301, virtual.Config{}))
	closed(r)
	r = accept()
	r.Close() // the daemon went away and comes back
	r = accept()
	r.send(selectPIV)
	r.receive()

	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	closed(r)
}
