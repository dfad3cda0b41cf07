package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

func newPatched() *cobra.Command {
	var t things
	return t.flags(&cobra.Command{
		Use:   "patched",
		Short: "Run the device's own interpreter on the copy, with the token open, and say to it all that was ever said",
		Long: `Run the device's own interpreter on the copy of its records, changed so that the
token is opened with the PIN and never locks, and say to it, word for word, all
that was ever said to the device.`,
		RunE: func(c *cobra.Command, _ []string) error { return t.patched(c.OutOrStdout()) },
	}, "device", "pin-file", "server", "recording")
}

// openToken is a token that its device cannot lock.
type openToken struct{ *devicetoken.Token }

func (openToken) Lock() error { return nil }

// plainMemory is good enough for a thief.
type plainMemory struct{}

func (plainMemory) Alloc(n int) ([]byte, error) { return make([]byte, n), nil }
func (plainMemory) Free([]byte)                 {}

func inputs() firmware.Inputs {
	return firmware.Inputs{Now: time.Now().Unix(), Boot: bootclock.Now(), Up: bootclock.Up(), Rand: rand.Reader}
}

// machine is the device's interpreter, with all that the device has.
func (t *things) machine(token *devicetoken.Token) (*firmware.Machine, error) {
	var id struct {
		ID, Serial, Model string
		Sign, Agree, Boot []byte
		InToken           bool `json:"in_token"`
	}
	data, err := os.ReadFile(filepath.Join(t.device, "identity.json"))
	if err == nil {
		err = json.Unmarshal(data, &id)
	}
	if err != nil {
		return nil, err
	}
	sign, agree, err := token.Keys(id.Sign, id.Agree)
	if err != nil {
		return nil, err
	}
	boot, err := readKey(filepath.Join(t.device, "boot.key"))
	if err != nil {
		return nil, err
	}
	records, err := t.records()
	if err != nil {
		return nil, err
	}
	return firmware.New(firmware.Config{
		Local: ceremony.Local{
			ID: id.ID, Serial: id.Serial, Model: id.Model, Sign: sign, Agree: agree.PublicKey(), Boot: id.Boot, InToken: id.InToken,
		},
		Agree: agree, Boot: boot, Token: openToken{token}, Memory: plainMemory{},
	}, records, inputs())
}

func (t *things) patched(w io.Writer) error {
	token, err := t.token()
	if err != nil {
		return err
	}
	defer token.Close()
	m, err := t.machine(token)
	if err != nil {
		return err
	}
	to, _, err := readRecording(t.recording)
	if err != nil {
		return err
	}
	agree, err := exchangers(filepath.Join(t.server, "agree.key"))
	if err != nil {
		return err
	}
	h := &host{agree: agree[0]}
	said, answers := map[string]int{}, map[string]int{}
	take := func(e firmware.Effects) {
		m.Durable(&e)
		for _, f := range e.Send {
			answers[h.typeOf(f)]++
		}
		if e.Reply != nil {
			answers[h.typeOf(e.Reply)]++
		}
	}
	for _, frame := range to {
		said[typeOf(frame)]++
		e := m.Handle(inputs(), frame)
		for take(e); e.More; take(e) {
			e = m.Continue(inputs())
		}
		take(m.Tick(inputs()))
	}
	l := m.Lease()
	fmt.Fprintf(w, "said again: %s\nits answers: %s\n", counts(said), counts(answers))
	fmt.Fprintf(w, "token open: %v; lease: %v\n", !token.Locked(), l.Until > bootclock.Now())
	switch {
	case token.Locked() || said["beat"] == 0 || said[firmware.TypeTask] == 0:
		return errors.New("the token is locked, or nothing that counts was said: the attempt proves nothing")
	case answers[firmware.TypePartial] > 0 || answers[firmware.TypeOffered] > 0 || !l.Guarded || l.Until != 0:
		return errors.New("it works for the thief")
	}
	return nil
}
