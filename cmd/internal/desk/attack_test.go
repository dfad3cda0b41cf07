package desk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm/devicetoken"
)

// evil is a message server that keeps what passes.
type evil struct {
	*room
	before func(device string, frame []byte)
}

func (e evil) Relay(ctx context.Context, device string, frame []byte) ([]byte, error) {
	e.before(device, frame)
	return e.room.Relay(ctx, device, frame)
}

// desk makes a desk that a test drives step by step.
func (r *room) desk(dir string, sites Sites) *desk {
	t, err := openTranscript(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	t.state.File = r.plan.File
	return &desk{t: t, peers: map[string]*peer{}, Config: Config{
		Plan: r.plan, Dir: dir, Sites: sites, Cards: r, Rand: rand.Reader, Now: func() time.Time { return r.now },
		Say: func(f string, a ...any) { r.said = append(r.said, fmt.Sprintf(f, a...)) },
	}}
}

// TestLeaveIsNotReplayed has a message server repeat the desk's word to leave
// an earlier attempt after the device has signed the genesis of the present
// one. The device keeps its share, and the system becomes whole.
func TestLeaveIsNotReplayed(t *testing.T) {
	r := newRoom(t)
	r.small()
	dir := t.TempDir()
	prepared := func(id string) bool { return r.devices[id].Machine().Phase() == firmware.PhasePrepared }
	// The first attempt ends when d2 has signed and d3 has not.
	sites := evil{r, func(device string, _ []byte) {
		if device == "d3" && prepared("d2") {
			r.devices["d3"].Kill()
		}
	}}
	d := r.desk(dir, sites)
	if err := d.deal(context.Background()); err == nil || !prepared("d2") {
		t.Fatalf("got %v with d2 in phase %s, want a cut after it signed", err, r.devices["d2"].Machine().Phase())
	}
	r.revive()

	var hellos [][]byte
	replayed := 0
	res, err := Run(context.Background(), Config{
		Plan: r.plan, Dir: dir, Cards: r, Rand: rand.Reader, Now: func() time.Time { return r.now }, Say: d.Say,
		Sites: evil{r, func(device string, frame []byte) {
			u, err := envelope.Parse(frame)
			if device == "d2" && err == nil && u.Header().Type == ceremony.TypeHello {
				hellos = append(hellos, frame)
			}
			if device == "d3" && prepared("d2") && len(hellos) > 1 {
				for _, h := range hellos {
					replayed++
					_, _ = r.devices["d2"].Relay(h)
				}
			}
		}},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(r.said, "\n"))
	}
	if replayed == 0 {
		t.Fatal("nothing was replayed")
	}
	r.whole(res)
}

// TestRefusedOpeningForgetsNothing sends a prepared device an opening of the
// same administrator's that does not have the device in its plan.
func TestRefusedOpeningForgetsNothing(t *testing.T) {
	r := newRoom(t)
	r.small()
	dir := t.TempDir()
	ctx := context.Background()
	d := r.desk(dir, r)
	if err := d.deal(ctx); err != nil {
		t.Fatal(err)
	}
	other := r.desk(t.TempDir(), r)
	other.Attempt = 7
	other.Plan.Devices = other.Plan.Devices[:2]
	other.Plan.Keys = append([]ceremony.PlanKey{}, other.Plan.Keys...)
	other.Plan.Keys[0].Devices = []string{"d1", "d2"}
	other.Plan.Officers = other.Plan.Officers[:4]
	if err := other.begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := other.hello(ctx, "d3", true); err == nil {
		t.Fatal("a device took part in a plan that it is not in")
	}
	res, err := d.commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.whole(res)
	for id, dev := range r.devices {
		if _, _, err := dev.Token.GetObject(ceremony.ShareObject("swa." + id)); err != nil {
			t.Errorf("device %s: %v", id, err)
		}
	}
}

// TestTestIsNoOracle has a corrupt device hand on a value of its choice in a
// test signature, at a desk that plays along. The last device must not let go
// of that value raised to its share.
func TestTestIsNoOracle(t *testing.T) {
	r := newRoom(t)
	r.plan.Keys = r.plan.Keys[:2]
	r.plan.Keys[1] = ceremony.PlanKey{
		ID: "files", Name: "Files", Family: ledger.FamilyFile, Scheme: threshold.Multiplicative, T: 2, Devices: []string{"d1", "d2", "d3"},
		Bits: 2048, Algorithms: []string{"RS256"}, Quorum: 2, Threshold: 2,
	}
	ctx := context.Background()
	d := r.desk(t.TempDir(), r)
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(d.begin(ctx))
	_, err := d.introduce(ctx)
	fatal(err)
	fatal(d.enrol(ctx))
	joined, err := d.join(ctx)
	fatal(err)
	var dealt ceremony.Dealt
	raw, err := d.ask(ctx, "d1", ceremony.TypeDeal, ceremony.Deal{Roster: d.roster.Digest(), Key: "files", Joined: joined}, ceremony.TypeDealt, &dealt)
	fatal(err)
	for _, dev := range d.Plan.Devices {
		var in ceremony.Installed
		_, err := d.ask(ctx, dev.ID, ceremony.TypeInstall, ceremony.Install{Dealt: raw}, ceremony.TypeInstalled, &in)
		fatal(err)
	}
	order := []uint64{1, 2}
	var first ceremony.Tested
	right, err := d.ask(ctx, "d1", ceremony.TypeTest, ceremony.Test{Key: "files", Order: order}, ceremony.TypeTested, &first)
	fatal(err)

	lie := first
	lie.Y = make([]byte, len(first.Y))
	lie.Y[len(lie.Y)-1] = 2
	body, err := envelope.Marshal(lie)
	fatal(err)
	corrupt, err := r.devices["d1"].Token.Signer(devicetoken.LabelSign)
	fatal(err)
	wrong, err := envelope.Sign(rand.Reader, corrupt, envelope.Header{
		Type: ceremony.TypeTested, Version: ceremony.MessageVersion, Created: r.now.Unix(), Expires: r.now.Unix() + 300,
	}, body)
	fatal(err)
	var out ceremony.Tested
	_, err = d.ask(ctx, "d2", ceremony.TypeTest, ceremony.Test{Key: "files", Order: order, Position: 1, Prior: [][]byte{wrong}}, ceremony.TypeTested, &out)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "test signature") {
		t.Errorf("got %v, want a refusal of the test signature", err)
	}
	_, err = d.ask(ctx, "d2", ceremony.TypeTest, ceremony.Test{Key: "files", Order: order, Position: 1, Prior: [][]byte{right}}, ceremony.TypeTested, &out)
	fatal(err)
}

// TestDeviceFindsForeignKeys has a desk list a device with keys that are not the
// device's, in a vault ceremony, where no manufacturer's certificate tells.
func TestDeviceFindsForeignKeys(t *testing.T) {
	r := newRoom(t)
	r.small()
	r.plan.Vault = true
	ctx := context.Background()
	d := r.desk(t.TempDir(), r)
	if err := d.begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.introduce(ctx); err != nil {
		t.Fatal(err)
	}
	u, err := envelope.Parse(d.t.state.Identities[1])
	if err != nil {
		t.Fatal(err)
	}
	var id ceremony.Identity
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &id); err != nil {
		t.Fatal(err)
	}
	foreign := ledgertest.NewPair(t, "in d2's place")
	id.Sign, id.Agree = ledgertest.SPKI(t, foreign.Sign.Public()), ledgertest.SPKI(t, foreign.Agree.PublicKey())
	body, err := envelope.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	h := u.Header()
	h.Signer = envelope.KeyIDOfSPKI(id.Sign)
	if d.t.state.Identities[1], err = envelope.Sign(rand.Reader, foreign.Sign, h, body); err != nil {
		t.Fatal(err)
	}
	if err := d.enrol(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.join(ctx); err == nil || !strings.Contains(err.Error(), "not its own") {
		t.Fatalf("got %v, want device d2 to refuse the roster", err)
	}
}
