package systemtest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestClockSetBack sets a device's clock back to before a request expired. What
// the device has once seen expired stays so.
func TestClockSetBack(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("too late"))
	offer := s.MustOffer("d2", r)
	task := r.Task(offer, s.Approvals(r, offer, nil), order(2, 1), 0)
	s.Advance(25 * time.Hour)
	s.Status("d2") // leaves no record
	s.Advance(-25 * time.Hour)
	defer s.Advance(25 * time.Hour)
	l := s.Letter("d2", firmware.TypeTask, task)
	l.Header.Expires += 48 * 3600
	_, err := s.Deliver("d2", l)
	wantRefusal(t, err, firmware.CodeExpired, "expired")
}

// TestRefusalsDoNotFillTheJournal asks a device for what it refuses, again and
// again.
func TestRefusalsDoNotFillTheJournal(t *testing.T) {
	s := Shared(t)
	s.Advance(time.Hour)
	defer s.Advance(time.Hour)
	d := s.Devices["d5"]
	before := len(d.Journal)
	const asked = 150
	for i := range asked {
		r := s.RequestBy(s.Servers["d5"].Sign, Requester, FileOf(Pair, []byte(fmt.Sprint(i))))
		if _, err := s.Offer("d5", r); err == nil {
			t.Fatal("a message server made a request")
		}
	}
	if n := len(d.Journal) - before; n == 0 || n > 64 {
		t.Errorf("%d refusals left %d records, want some and at most 64", asked, n)
	}
}

// TestOneRequesterLeavesRoom has one requester ask until a device refuses him.
// Another still gets his one-time key.
func TestOneRequesterLeavesRoom(t *testing.T) {
	s := Shared(t)
	defer s.Restart("d5")
	for i := 0; ; i++ {
		_, err := s.Offer("d5", s.File(Pair, []byte(fmt.Sprint(i))))
		if err != nil {
			wantRefusal(t, err, firmware.CodeOffer, "requests by "+Requester)
			break
		}
		if i > 2000 {
			t.Fatal("one requester was never stopped")
		}
	}
	s.MustOffer("d5", s.Request(Program, FileOf(Pair, []byte("another's"))))
}

// TestHeaderSaysWhatPayloadSays: servers route by the header of a request,
// devices decide by its payload.
func TestHeaderSaysWhatPayloadSays(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("x"))
	for what, change := range map[string]func(*envelope.Header){
		"key":     func(h *envelope.Header) { h.Key = Files },
		"epoch":   func(h *envelope.Header) { h.Epoch = 2 },
		"expires": func(h *envelope.Header) { h.Expires++ },
		"created": func(h *envelope.Header) { h.Created-- },
	} {
		h := envelope.Header{
			Type: document.TypeRequest, Version: document.VersionRequest, System: s.State.System(), LedgerHead: s.State.Head(),
			Key: r.Key, Epoch: r.Epoch, Created: r.Created, Expires: r.Expires,
		}
		change(&h)
		body, err := envelope.Marshal(r.Request)
		s.check(err)
		raw, err := envelope.Sign(rand.Reader, s.People[Requester][0], h, body)
		s.check(err)
		_, err = s.Offer("d4", &Request{Request: r.Request, Raw: raw})
		t.Log(what)
		wantRefusal(t, err, firmware.CodeMessage, "header and payload")
	}
}

// TestOnePieceTwice has an officer hand in another's piece as his own.
func TestOnePieceTwice(t *testing.T) {
	s := Shared(t)
	r := s.File(Pair, []byte("x"))
	offer := s.MustOffer("d2", r)
	o := s.Officers("d2")
	sealed, piece := s.Piece(o[0], offer.Pieces)
	approvals := [][]byte{s.Approve(o[0], r, offer, nil), s.approveWith(o[1], r, offer, sealed.ID, piece, nil)}
	_, _, err := s.Do("d2", r.Task(offer, approvals, order(2, 1), 0))
	wantRefusal(t, err, firmware.CodeShare, o[0].Person, o[1].Person, "same piece")
}

// TestForeignRecords starts a device from records that are not its own, and
// from its own with more behind them.
func TestForeignRecords(t *testing.T) {
	s := Shared(t)
	journal := s.Devices["d1"].Journal
	sign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.check(err)
	agree, err := ecdh.P256().GenerateKey(rand.Reader)
	s.check(err)
	_, err = firmware.New(firmware.Config{Local: ceremony.Local{ID: "d1", Sign: sign, Agree: agree.PublicKey()}}, journal, firmware.Inputs{Now: s.Now().Unix()})
	if err == nil || !strings.Contains(err.Error(), "lists other keys") {
		t.Errorf("a genesis for another token: got %v", err)
	}

	var commissioned firmware.Record
	for _, raw := range journal {
		var r firmware.Record
		s.check(envelope.Unmarshal(raw, &r))
		if r.Kind == "commissioned" {
			commissioned = r
		}
	}
	var last firmware.Record
	s.check(envelope.Unmarshal(journal[len(journal)-1], &last))
	for _, kind := range []string{"prepared", "aborted", "commissioned"} {
		raw, err := envelope.Marshal(firmware.Record{
			Kind: kind, At: last.At, Prev: envelope.HashOf("privyseal device record", journal[len(journal)-1]), Body: commissioned.Body,
		})
		s.check(err)
		records := append(append([][]byte{}, journal...), raw)
		if _, err := firmware.New(firmware.Config{}, records, firmware.Inputs{Now: s.Now().Unix()}); !errors.Is(err, firmware.ErrRecords) || !strings.Contains(err.Error(), "out of place") {
			t.Errorf("%s after the commissioning: got %v, want ErrRecords", kind, err)
		}
	}
}
