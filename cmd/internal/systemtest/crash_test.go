package systemtest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// TestCrashAtEveryRecord kills a device at each durable record of the life of a
// request, once with the record on the disk and once without. No answer leaves
// without its record; after the restart the device goes on from what its disk
// says.
func TestCrashAtEveryRecord(t *testing.T) {
	kinds := []string{"partial", "check", "closed", "refused", "locked", "unlocked"}
	for _, kind := range kinds {
		for _, persist := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, persisted %v", kind, persist), func(t *testing.T) {
				c := newScene(t)
				d := c.Devices["d1"]
				before := len(d.Journal)
				broke := 0
				d.Break = func(raw []byte) (bool, error) {
					var r firmware.Record
					c.check(envelope.Unmarshal(raw, &r))
					if r.Kind != kind {
						return true, nil
					}
					broke++
					return persist, firmwaretest.ErrJournal
				}
				err := c.life()
				if !errors.Is(err, firmwaretest.ErrJournal) || broke != 1 {
					t.Fatalf("%d records of kind %q were written; error: %v", broke, kind, err)
				}
				if !d.Dead() {
					t.Fatal("the device lives on")
				}
				last := c.lastKind()
				if persist != (last == kind) {
					t.Errorf("the last record on the disk is %q after %d more", last, len(d.Journal)-before)
				}
				d.Break = nil
				d.Restart(t)
				if p := d.Machine().Phase(); p != firmware.PhaseLocked {
					t.Fatalf("after the restart the device is %s", p)
				}
				// Its log is the chain that is on the disk.
				if st := c.Status("d1"); st.Log != uint64(len(d.Journal)) || st.LogHead != headOf(d.Journal) {
					t.Errorf("log of %d entries, head %s; on the disk are %d", st.Log, st.LogHead, len(d.Journal))
				}
				c.Unlock("d1")
				if kind == "locked" || kind == "unlocked" || kind == "closed" && persist {
					_, err := c.Offer("d1", c.r)
					wantRefusal(t, err, firmware.CodeClosed)
					c.r = c.File(Pair, c.r.Document)
				}
				c.offer = c.MustOffer("d1", c.r)
				c.check(c.life())
			})
		}
	}
}

// life is everything that a device does for a request, in the order in which
// its records come: it signs, answers a check, refuses, closes, is locked and
// unlocked.
func (c *scene) life() error {
	c.t.Helper()
	task := c.r.Task(c.offer, c.Approvals(c.r, c.offer, nil), c.order, 0)
	partial, _, err := c.Do("d1", task)
	if err != nil {
		return err
	}
	// The answer names the log's head with its own record in it, and that
	// record is on the disk by now.
	if head := headOf(c.Devices["d1"].Journal); partial.LogHead != head || c.lastKind() != "partial" {
		c.t.Errorf("a partial signature left under log head %s; on the disk is %s", partial.LogHead, head)
	}
	key := c.Key(Pair)
	ch, opening, err := threshold.NewChallenge(randReader, &key.Public, &key.Commitment, encoded(c.t, c.System, c.r))
	c.check(err)
	if _, _, err := Ask[firmware.CheckCommit](c.System, "d1", firmware.TypeCheckAsk, firmware.CheckAsk{Task: task, Challenge: *ch}, firmware.TypeCheckCommit); err != nil {
		return err
	}
	if _, _, err := Ask[firmware.CheckAnswer](c.System, "d1", firmware.TypeCheckOpen, firmware.CheckOpen{Request: c.r.Digest, Opening: *opening}, firmware.TypeCheckAnswer); err != nil {
		return err
	}
	var refused *RefusedError
	if _, _, err := c.Do("d1", c.r.Task(c.offer, nil, c.order, 0)); !errors.As(err, &refused) {
		return err
	}
	sig, err := c.Sign(c.r, 2, 3) // others finish it
	c.check(err)
	if err := c.Close("d1", c.r, sig); err != nil {
		return err
	}
	if _, err := c.Send("d1", firmware.TypeLock, firmware.Lock{Device: "d1", Reason: "test"}); err != nil {
		return err
	}
	offer, err := c.AskUnlock("d1")
	if err != nil {
		return err
	}
	var approvals [][]byte
	for _, o := range []Officer{c.a, c.b} {
		sealed, piece := c.Piece(o, offer.Pieces)
		approvals = append(approvals, c.UnlockApproval(o, "d1", offer, sealed.ID, piece))
	}
	return c.SendUnlock("d1", offer, approvals)
}

func headOf(journal [][]byte) envelope.Hash {
	return envelope.HashOf("privyseal device record", journal[len(journal)-1])
}

func (c *scene) lastKind() string {
	c.t.Helper()
	j := c.Devices["d1"].Journal
	var r firmware.Record
	c.check(envelope.Unmarshal(j[len(j)-1], &r))
	return r.Kind
}

// TestJournalCutOrAltered: a journal that is not the chain it was is refused
// at the start; what is cut off at its end is a device that did less.
func TestJournalCutOrAltered(t *testing.T) {
	c := newScene(t)
	c.check(c.life())
	j := c.Devices["d1"].Journal
	try := func(records [][]byte) error {
		_, err := firmware.New(c.config("d1"), records, firmware.Inputs{Now: c.Now().Unix()})
		return err
	}
	c.check(try(j))
	c.check(try(j[:len(j)-1]))
	cut := append(append([][]byte{}, j[:len(j)-3]...), j[len(j)-2:]...)
	if err := try(cut); !errors.Is(err, firmware.ErrRecords) {
		t.Errorf("a record cut out: %v", err)
	}
	swapped := append([][]byte{}, j...)
	swapped[len(j)-2], swapped[len(j)-1] = swapped[len(j)-1], swapped[len(j)-2]
	if err := try(swapped); !errors.Is(err, firmware.ErrRecords) {
		t.Errorf("two records exchanged: %v", err)
	}
	altered := append([][]byte{}, j...)
	altered[len(j)-2] = append([]byte{}, altered[len(j)-2]...)
	altered[len(j)-2][len(altered[len(j)-2])-1] ^= 1
	if err := try(altered); !errors.Is(err, firmware.ErrRecords) {
		t.Errorf("a record altered: %v", err)
	}
}
