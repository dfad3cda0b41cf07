package card

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/firmware/attest"
)

var testDigest = sha256.Sum256([]byte("test"))

func (r *rig) signer(t *testing.T, o Options) (*Card, *Signer) {
	t.Helper()
	c := r.open(t, o)
	s, err := c.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestWrongPIN: tries are told, a wrong PIN is not sent twice, the right one is
// wiped, and in the end the card is blocked.
func TestWrongPIN(t *testing.T) {
	profiles(t, func(t *testing.T, p virtual.Profile) {
		r, _ := enrolled(t, p)
		src := &pins{give: []string{
			"000000", "000000", "123", "123456789", virtual.DefaultPIN, "000000",
			"000001", "000002", // 1 try left, blocked
		}}
		_, s := r.signer(t, Options{PIN: src.source})
		sign := func() error {
			_, err := s.Sign(nil, testDigest[:], crypto.SHA256)
			return err
		}
		wantLeft := func(n int, err error) {
			t.Helper()
			var wrong *PINError
			if !errors.As(err, &wrong) || wrong.Retries != n || wrong.Serial != r.serial || errors.Is(err, ErrPINBlocked) {
				t.Fatalf("%v; want %d tries left", err, n)
			}
		}
		wantLeft(2, sign())
		wantLeft(2, sign()) // the same PIN again: not sent
		for range 2 {
			if err := sign(); !errors.Is(err, ErrPINLength) {
				t.Fatalf("length: %v", err)
			}
		}
		if err := sign(); err != nil { // the counter is full again
			t.Fatal(err)
		}
		wantLeft(2, sign())
		wantLeft(1, sign())
		if err := sign(); !errors.Is(err, ErrPINBlocked) {
			t.Fatalf("third wrong PIN: %v", err)
		}
		asked := len(src.prompts)
		if err := sign(); !errors.Is(err, ErrPINBlocked) {
			t.Fatalf("blocked: %v", err)
		}
		if len(src.prompts) != asked {
			t.Error("asked for the PIN of a blocked card")
		}
		if got := src.prompts[0]; got != (Prompt{Serial: r.serial, Reader: r.reader, Slot: SlotSign, Retries: 3}) {
			t.Errorf("first prompt: %+v", got)
		}
		if got := src.prompts[7].Retries; got != 1 {
			t.Errorf("last prompt: %d tries left", got)
		}
		for i, pin := range src.given {
			if !bytes.Equal(pin, make([]byte, len(pin))) {
				t.Errorf("PIN %d was not wiped", i)
			}
		}
	})
}

func TestChangeAndUnblockPIN(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	src := &pins{give: []string{"000000", "000001", "000002", "654321"}}
	c, s := r.signer(t, Options{PIN: src.source})
	b := func(s string) []byte { return []byte(s) }
	if err := c.ChangePIN(t.Context(), b("111111"), b("222222")); err == nil {
		t.Fatal("changed with a wrong PIN")
	}
	if err := c.ChangePIN(t.Context(), b(virtual.DefaultPIN), b("987654")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Sign(nil, testDigest[:], crypto.SHA256)
	}
	var wrong *PINError
	if err := c.Unblock(t.Context(), b("00000000"), b("654321")); !errors.As(err, &wrong) || !wrong.PUK || wrong.Retries != 2 {
		t.Fatalf("wrong PUK: %v", err)
	}
	if err := c.Unblock(t.Context(), b(virtual.DefaultPUK), b("654321")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
		t.Errorf("after unblocking: %v", err)
	}
	for _, n := range []string{"", "12345", "123456789"} {
		if err := c.ChangePIN(t.Context(), b("654321"), b(n)); !errors.Is(err, ErrPINLength) {
			t.Errorf("new PIN %q: %v", n, err)
		}
	}
}

func TestPINSourceFails(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	src := &pins{}
	_, s := r.signer(t, Options{PIN: src.source})
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, errNoMorePINs) {
		t.Fatalf("%v", err)
	}
	src.give = []string{virtual.DefaultPIN} // the card is as good as before
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
}

// TestPINPolicies: 9C asks for each signature, 9D once.
func TestPINPolicies(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	src := &pins{give: []string{virtual.DefaultPIN, virtual.DefaultPIN, virtual.DefaultPIN}}
	c, s := r.signer(t, Options{PIN: src.source})
	a, err := c.Agreement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := a.ECDH(a.PublicKey()); err != nil {
			t.Fatal(err)
		}
	}
	if len(src.prompts) != 1 || src.prompts[0].Slot != SlotAgree {
		t.Errorf("three agreements asked %+v", src.prompts)
	}
	for range 2 {
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if len(src.prompts) != 3 {
		t.Errorf("two signatures asked %d times", len(src.prompts)-1)
	}
}

func TestBatch(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	src := &pins{give: []string{"000000", virtual.DefaultPIN}}
	source, forget := Batch(src.source)
	_, s := r.signer(t, Options{PIN: source})
	for range 3 { // a careless caller goes on with the wrong PIN: only one is sent
		var wrong *PINError
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.As(err, &wrong) || wrong.Retries != 2 {
			t.Fatalf("%v", err)
		}
	}
	forget()
	for range 5 {
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if len(src.prompts) != 2 {
		t.Errorf("asked %d times", len(src.prompts))
	}
	forget()
	for _, pin := range src.given {
		if !bytes.Equal(pin, make([]byte, len(pin))) {
			t.Error("a PIN was not wiped")
		}
	}
}

func TestTouch(t *testing.T) {
	r := plug(t, virtual.Profile57())
	touched := 0
	c := r.open(t, Options{PIN: right, Touch: func(p Prompt) {
		if p.Slot != SlotSign || !p.Touch {
			t.Errorf("%+v", p)
		}
		touched++
	}})
	_, err := c.Enrol(t.Context(), Enrolment{ManagementKey: virtual.DefaultManagementKey(), Now: time.Now(), Touch: attest.TouchAlways})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil || touched != 1 {
		t.Errorf("%v; told to touch %d times", err, touched)
	}
	// What a YubiKey answers after 15 s without a touch.
	if err := r.slot.Inject(virtual.Fault{Action: virtual.Status, Instruction: 0x87, P2: 0x9c, Status: swSecurityStatus}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrTouch) {
		t.Errorf("%v", err)
	}
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
		t.Errorf("after a missed touch: %v", err)
	}
}

// TestUnplugged: the card leaves in the middle of a signature, before or after
// it made it.
func TestUnplugged(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, e := enrolled(t, virtual.Profile57())
		c, s := r.signer(t, Options{PIN: right})
		if err := r.slot.Inject(virtual.Fault{Action: virtual.Unplug, Instruction: 0x87, P2: 0x9c, Late: late}); err != nil {
			t.Fatal(err)
		}
		if sig, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrRemoved) || sig != nil {
			t.Errorf("late %v: %v", late, err)
		}
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrRemoved) {
			t.Errorf("late %v: a dead card: %v", late, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("late %v: closing a dead card: %v", late, err)
		}
		// pcscd looks every 400 ms. The reader's driver may never come back from
		// a removal that was over before pcscd saw it, and no hand is so quick.
		time.Sleep(time.Second)
		if !r.slot.Reinsert() {
			t.Fatal("no card to put back")
		}
		if _, err := Wait(deadline(t, 10*time.Second), r.serial); err != nil {
			t.Fatal(err)
		}
		_, s = r.signer(t, Options{PIN: right, SignKey: e.Sign})
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
			t.Errorf("late %v: inserted again: %v", late, err)
		}
	}
}

// TestPulledAndReplaced: another card comes while the PIN is being typed, and
// pcscd may or may not have seen it. The PIN does not reach the other card.
func TestPulledAndReplaced(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	other, state := manufacture(t, virtual.Profile57(), lastSerial.Add(1))
	c, s := r.signer(t, Options{PIN: func(context.Context, Prompt) ([]byte, error) {
		r.slot.Insert(other)
		return []byte("000000"), nil
	}})
	sig, err := s.Sign(nil, testDigest[:], crypto.SHA256)
	if sig != nil || !errors.Is(err, ErrRemoved) && !errors.Is(err, ErrSwapped) {
		t.Errorf("%v", err)
	}
	c.Close()
	r.slot.Remove()
	if state.PIN.Tries != state.PIN.Max {
		t.Error("the PIN was sent to the other card")
	}
}

// TestSwapped: exchanges that pcscd does not see.
func TestSwapped(t *testing.T) {
	serial := lastSerial.Add(1)
	setup := func(t *testing.T, o Options) (*changeling, *Card, *Signer) {
		card, _ := manufacture(t, virtual.Profile57(), serial)
		ch := plugChangeling(t, card)
		r := &rig{serial: serial}
		r.enrol(t)
		c, s := r.signer(t, o)
		return ch, c, s
	}
	swapped := func(t *testing.T, s *Signer) {
		t.Helper()
		if sig, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrSwapped) || sig != nil {
			t.Errorf("%v", err)
		}
		if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrSwapped) {
			t.Errorf("the card is not dead: %v", err)
		}
	}

	for name, selected := range map[string]bool{"at the prompt, selected": true, "at the prompt, not selected": false} {
		t.Run(name, func(t *testing.T) {
			var ch *changeling
			other, state := manufacture(t, virtual.Profile57(), serial+1000)
			ch, c, s := setup(t, Options{PIN: func(context.Context, Prompt) ([]byte, error) {
				ch.become(other, selected)
				return []byte("000000"), nil
			}})
			swapped(t, s)
			c.Close()
			ch.mu.Lock()
			defer ch.mu.Unlock()
			if state.PIN.Tries != state.PIN.Max {
				t.Error("the PIN was sent to the other card")
			}
		})
	}
	t.Run("before the prompt", func(t *testing.T) {
		src := &pins{}
		ch, _, s := setup(t, Options{PIN: src.source})
		other, _ := manufacture(t, virtual.Profile57(), serial+1000)
		ch.become(other, true)
		swapped(t, s)
		if len(src.prompts) != 0 {
			t.Error("asked for the PIN")
		}
	})
	t.Run("same number, another key", func(t *testing.T) {
		other, _ := manufacture(t, virtual.Profile57(), serial)
		ch := plugChangeling(t, other)
		r := &rig{serial: serial}
		r.enrol(t) // a card with that number, with a key of its own
		first, _ := manufacture(t, virtual.Profile57(), serial)
		ch.become(first, false)
		r.enrol(t)
		c, s := r.signer(t, Options{PIN: right})
		defer c.Close()
		ch.become(other, true)
		swapped(t, s)
	})
	t.Run("a wrong signature", func(t *testing.T) {
		ch, _, s := setup(t, Options{PIN: right})
		ch.mu.Lock()
		ch.tamper = func(apdu, answer []byte) []byte {
			if apdu[1] == 0x87 && len(answer) > 10 {
				answer[len(answer)-4] ^= 1 // in s
			}
			return answer
		}
		ch.mu.Unlock()
		swapped(t, s)
	})
	t.Run("during agreement", func(t *testing.T) {
		ch, c, _ := setup(t, Options{PIN: right})
		a, err := c.Agreement(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other, _ := manufacture(t, virtual.Profile57(), serial+1000)
		ch.mu.Lock()
		ch.tamper = func(apdu, answer []byte) []byte {
			if apdu[1] == 0x87 { // after its answer another card is there
				ch.card, ch.tamper = other, nil
			}
			return answer
		}
		ch.mu.Unlock()
		if secret, err := a.ECDH(a.PublicKey()); !errors.Is(err, ErrSwapped) || secret != nil {
			t.Errorf("%v", err)
		}
	})
}

// TestDeadline: a card that does not answer in time is given up, and freed when
// it answers after all.
func TestDeadline(t *testing.T) {
	r, e := enrolled(t, virtual.Profile57())
	c := r.open(t, Options{PIN: right})
	ctx := deadline(t, 500*time.Millisecond)
	s, err := c.Signer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slow := virtual.Fault{Action: virtual.Delay, Instruction: 0x87, P2: 0x9c, Delay: 2 * time.Second}
	if err := r.slot.Inject(slow); err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrTimeout) || sig != nil {
		t.Errorf("deadline of the context: %v", err)
	}
	if _, err := c.Signer(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("a dead card: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing a dead card: %v", err)
	}
	// Open waits until the reader is free, and finds the PIN forgotten.
	src := &pins{give: []string{virtual.DefaultPIN}}
	_, s = r.signer(t, Options{PIN: src.source, SignKey: e.Sign, Timeout: 1500 * time.Millisecond})
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); err != nil {
		t.Errorf("after the delay: %v", err)
	}
	if len(src.prompts) != 1 || src.prompts[0].Retries != 3 {
		t.Errorf("prompts: %+v", src.prompts)
	}
	if err := r.slot.Inject(slow); err != nil {
		t.Fatal(err)
	}
	src.give = []string{virtual.DefaultPIN}
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, ErrTimeout) {
		t.Errorf("time limit of an exchange: %v", err)
	}
}

// TestCancel: a cancelled context is its own error.
func TestCancel(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	c := r.open(t, Options{PIN: right})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Signer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Sign(nil, testDigest[:], crypto.SHA256); !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
		t.Errorf("%v", err)
	}
	if _, err := c.Signer(t.Context()); err != nil {
		t.Errorf("the card was touched: %v", err)
	}
}

// TestCloseEndsPrompt: Close does not wait for a person.
func TestCloseEndsPrompt(t *testing.T) {
	r, _ := enrolled(t, virtual.Profile57())
	asked := make(chan struct{})
	c, s := r.signer(t, Options{PIN: func(ctx context.Context, _ Prompt) ([]byte, error) {
		close(asked)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}})
	signed := make(chan error)
	go func() {
		_, err := s.Sign(nil, testDigest[:], crypto.SHA256)
		signed <- err
	}()
	<-asked
	queued := make(chan error)
	go func() {
		_, err := c.Signer(context.Background())
		queued <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-signed; !errors.Is(err, ErrClosed) {
		t.Errorf("prompt: %v", err)
	}
	if err := <-queued; !errors.Is(err, ErrClosed) {
		t.Errorf("queue: %v", err)
	}
}

// TestMuteCard: a card that does not answer does not hide the others.
func TestMuteCard(t *testing.T) {
	mute, good := plug(t, virtual.Profile57()), plug(t, virtual.Profile57())
	if err := mute.slot.Inject(virtual.Fault{Action: virtual.Delay, Instruction: 0xa4, Delay: lookTimeout + 2*time.Second}); err != nil {
		t.Fatal(err)
	}
	c, err := Open(deadline(t, lookTimeout-time.Second), good.serial, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
