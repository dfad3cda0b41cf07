package ceremony_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func TestVerifyOpenRefuses(t *testing.T) {
	r := newRoom(t)
	raw := sign(t, r.cards[1].PrivateKey, ceremony.TypeOpen, r.opening(t))
	o, err := ceremony.VerifyOpen(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	if o.Attempt() != 1 || o.NotAfter() != now+4*3600 || !o.Desk().Equal(r.desk.Sign.Public()) || !o.DeskAgree().Equal(r.desk.Agree.PublicKey()) || o.Plan().File != r.plan.File {
		t.Error("the opening lost something")
	}
	for name, tc := range map[string]struct {
		now    int64
		change func(*ceremony.Open)
		want   string
	}{
		"bad plan":               {now, func(o *ceremony.Open) { o.Plan.Hours = 0 }, "hours"},
		"attempt 0":              {now, func(o *ceremony.Open) { o.Attempt = 0 }, "count from 1"},
		"longer than planned":    {now, func(o *ceremony.Open) { o.NotAfter++ }, "the plan allows 4 h"},
		"no life":                {now, func(o *ceremony.Open) { o.NotAfter = o.NotBefore }, "holds for 0 s"},
		"too early":              {now - 301, nil, "check this device's clock"},
		"at its end":             {now + 4*3600, nil, "expired"},
		"another person's card":  {now, func(o *ceremony.Open) { o.Administrator.Serial = 2 }, "card 2 is not the administrator's"},
		"attested as another":    {now, func(o *ceremony.Open) { o.Plan.Persons[0].Cards[0], o.Administrator.Serial = 77, 77 }, "person admin: attestation of card 77, slot 9C: is of card 1"},
		"model not approved":     {now, func(o *ceremony.Open) { o.Administrator.Model = "Toy" }, `card model "Toy"`},
		"maker not approved":     {now, func(o *ceremony.Open) { o.Plan.Models[1].Root = r.cardsB.Root.Raw }, "slot 9C"},
		"9D of another card":     {now, func(o *ceremony.Open) { o.Administrator.AttestAgree = r.cards[2].Describe().AttestAgree }, "slot 9D"},
		"9D attested by 9C":      {now, func(o *ceremony.Open) { o.Administrator.AttestAgree = o.Administrator.AttestSign }, "slot 9D: is of slot 9C"},
		"9D another key":         {now, func(o *ceremony.Open) { o.Administrator.Agree = r.cards[2].Describe().Agree }, "slot 9D: is of another key"},
		"no intermediate":        {now, func(o *ceremony.Open) { o.Administrator.Intermediate = nil }, "attestation certificate of card 1"},
		"desk without signature": {now, func(o *ceremony.Open) { o.DeskSign = nil }, "desk's signature key: missing"},
		"desk without agreement": {now, func(o *ceremony.Open) { o.DeskAgree = []byte("key") }, "desk's agreement key"},
	} {
		x := raw
		if tc.change != nil {
			x = alter(t, r.cards[1].PrivateKey, raw, tc.change)
		}
		if _, err := ceremony.VerifyOpen(x, tc.now); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ceremony.VerifyOpen(raw, now-300); err != nil {
		t.Errorf("five minutes early, as clocks are: %v", err)
	}
	if _, err := ceremony.VerifyOpen(raw, now+4*3600); !errors.Is(err, ceremony.ErrExpired) {
		t.Errorf("late: %v", err)
	}
	other := sign(t, r.cards[2].PrivateKey, ceremony.TypeOpen, r.opening(t))
	if _, err := ceremony.VerifyOpen(other, now); err == nil {
		t.Error("opened with an officer's card")
	}
	if _, err := ceremony.VerifyOpen(sign(t, r.cards[1].PrivateKey, ceremony.TypeRecord, r.opening(t)), now); err == nil {
		t.Error("opened by a message of another type")
	}
	// An attacker's own card, made by an approved maker, in the same plan.
	mine := alter(t, r.cards[2].PrivateKey, raw, func(o *ceremony.Open) { o.Administrator = r.cards[2].Describe() })
	if _, err := ceremony.VerifyOpen(mine, now); err == nil || !strings.Contains(err.Error(), "card 2 is not the administrator's") {
		t.Errorf("opened by an officer: %v", err)
	}
}

func TestVerifyRosterRefuses(t *testing.T) {
	r := newRoom(t)
	o, open := r.open(t)
	base := r.roster(t, o, open)
	v, err := r.certify(t, o, base)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := v.CardOf(1); !ok || !bytes.Equal(c.Sign, r.cards[1].Describe().Sign) {
		t.Error("the administrator's card is not on the roster")
	}
	if v.Firmware() != firmwaretest.Firmware || v.Identity("d2") == nil || v.Identity("d9") != nil {
		t.Error("devices are not on the roster")
	}

	identity := func(i int, change func(*ceremony.Identity)) func(*ceremony.Roster) {
		return func(x *ceremony.Roster) {
			x.Identities[i] = alter(t, r.signs[r.plan.Devices[i].ID], x.Identities[i], change)
		}
	}
	card := uint32(2) // of officer-1a, who is enrolled second
	enrolment := func(change func(*ceremony.Enrolment)) func(*ceremony.Roster) {
		return func(x *ceremony.Roster) {
			x.Enrolments[1] = alter(t, r.cards[card].PrivateKey, x.Enrolments[1], change)
		}
	}
	for name, tc := range map[string]struct {
		change func(*ceremony.Roster)
		want   string
	}{
		"another opening":          {func(x *ceremony.Roster) { x.Open[0] ^= 1 }, "belongs to another opening"},
		"before the opening":       {func(x *ceremony.Roster) { x.NotBefore-- }, "outlives"},
		"after the opening":        {func(x *ceremony.Roster) { x.NotAfter++ }, "outlives"},
		"other witnesses":          {func(x *ceremony.Roster) { x.Witnesses = []string{"Wilma"} }, "other witnesses"},
		"a device too few":         {func(x *ceremony.Roster) { x.Identities = x.Identities[:2] }, "lists 2 devices"},
		"devices in another order": {func(x *ceremony.Roster) { x.Identities[0], x.Identities[1] = x.Identities[1], x.Identities[0] }, `device d1: calls itself "d2"`},
		"one device twice":         {func(x *ceremony.Roster) { x.Identities[1] = x.Identities[0] }, `device d2: calls itself "d1"`},
		"identity rubbish":         {func(x *ceremony.Roster) { x.Identities[1] = []byte("d2") }, "device d2: "},
		"identity by another": {func(x *ceremony.Roster) {
			x.Identities[1] = alter(t, r.signs["d1"], x.Identities[1], func(*ceremony.Identity) {})
		}, "device d2: "},
		"identity for another":     {identity(1, func(id *ceremony.Identity) { id.Open[0] ^= 1 }), "device d2: answers another opening"},
		"serial number":            {identity(1, func(id *ceremony.Identity) { id.Serial = "serial-d1" }), `the plan says "serial-d2"`},
		"model":                    {identity(1, func(id *ceremony.Identity) { id.Model = "Toy" }), `model is "Toy"`},
		"token that cannot":        {identity(2, func(id *ceremony.Identity) { id.InToken = false }), "failed the self-test"},
		"agreement key":            {identity(1, func(id *ceremony.Identity) { id.Agree = nil }), "agreement key: missing"},
		"boot key":                 {identity(1, func(id *ceremony.Identity) { id.Boot = []byte("boot") }), "boot key: "},
		"one-time key":             {identity(1, func(id *ceremony.Identity) { id.OneTime[1] ^= 1 }), "one-time key: "},
		"no certificate":           {identity(1, func(id *ceremony.Identity) { id.SignCert = nil }), "vault ceremony"},
		"certificate rubbish":      {identity(1, func(id *ceremony.Identity) { id.SignCert[0] = []byte("cert") }), "of the signature key: "},
		"certificate of agreement": {identity(1, func(id *ceremony.Identity) { id.SignCert = id.AgreeCert }), "of the signature key: certifies another key"},
		"certificate of signing":   {identity(1, func(id *ceremony.Identity) { id.AgreeCert = id.SignCert }), "of the agreement key: certifies another key"},
		"certificate's serial": {identity(1, func(id *ceremony.Identity) {
			id.SignCert[0] = r.maker.Certify(t, "serial-d1", &r.signs["d2"].PublicKey)
		}), `serial number "serial-d1", not "serial-d2"`},
		"another maker": {identity(1, func(id *ceremony.Identity) {
			id.SignCert[0] = r.makerB.Certify(t, "serial-d2", &r.signs["d2"].PublicKey)
		}), "unknown authority"},
		"boot key of another":       {identity(1, func(id *ceremony.Identity) { id.Boot = v.Identity("d1").Boot }), "device d2: shares a key with device d1"},
		"boot key for signing":      {identity(1, func(id *ceremony.Identity) { id.Boot = id.Sign }), "device d2: shares a key with device d2"},
		"one-time key of another":   {identity(2, func(id *ceremony.Identity) { id.OneTime = v.Identity("d1").OneTime }), "device d3: shares a key with device d1"},
		"a card too few":            {func(x *ceremony.Roster) { x.Enrolments = x.Enrolments[:6] }, "person officer-3b: card 7 was not enrolled"},
		"a card twice":              {func(x *ceremony.Roster) { x.Enrolments = append(x.Enrolments, x.Enrolments[1]) }, "person officer-1a: card 2 is enrolled twice"},
		"enrolment rubbish":         {func(x *ceremony.Roster) { x.Enrolments[1] = nil }, "enrolment"},
		"enrolled elsewhere":        {enrolment(func(e *ceremony.Enrolment) { e.Open[0] ^= 1 }), "enrolled for another opening"},
		"enrolled as a stranger":    {enrolment(func(e *ceremony.Enrolment) { e.Person = "nobody" }), "person nobody: is not in the plan"},
		"enrolled as another":       {enrolment(func(e *ceremony.Enrolment) { e.Person = "officer-1b" }), "person officer-1b: card 2 is not his"},
		"enrolled with another key": {enrolment(func(e *ceremony.Enrolment) { e.Card.Sign = r.cards[3].Describe().Sign }), "person officer-1a"},
		"enrolled by another maker": {func(x *ceremony.Roster) {
			c := r.cardsB.New(t, card)
			x.Enrolments[1] = sign(t, c.PrivateKey, ceremony.TypeEnrol, &ceremony.Enrolment{Open: o.Digest(), Person: "officer-1a", Card: c.Describe()})
		}, "person officer-1a: attestation of card 2"},
		"enrolled with a toy": {enrolment(func(e *ceremony.Enrolment) { e.Card.Model = "Toy" }), `card model "Toy"`},
	} {
		x := *base
		x.Witnesses, x.Identities, x.Enrolments = slices.Clone(x.Witnesses), slices.Clone(x.Identities), slices.Clone(x.Enrolments)
		tc.change(&x)
		if _, err := r.certify(t, o, &x); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ceremony.VerifyRoster(o, sign(t, r.cards[card].PrivateKey, ceremony.TypeRoster, base), now); err == nil {
		t.Error("a roster by an officer's card")
	}
	if _, err := ceremony.VerifyRoster(o, sign(t, r.cards[1].PrivateKey, ceremony.TypeRoster, base), o.NotAfter()); !errors.Is(err, ceremony.ErrExpired) {
		t.Errorf("late: %v", err)
	}
}

// TestVaultNeedsNoCertificates: in a vault ceremony the room vouches for the
// devices, and in no other.
func TestVaultNeedsNoCertificates(t *testing.T) {
	r := newRoom(t)
	r.plan.Vault = true
	for id, l := range r.locals {
		l.SignCert, l.AgreeCert = nil, nil
		r.locals[id] = l
	}
	o, open := r.open(t)
	if _, err := r.certify(t, o, r.roster(t, o, open)); err != nil {
		t.Error(err)
	}
	r.plan.Vault = false
	o, open = r.open(t)
	if _, err := r.certify(t, o, r.roster(t, o, open)); err == nil || !strings.Contains(err.Error(), "device d1: manufacturer's certificate of the signature key: missing") {
		t.Errorf("without a vault: %v", err)
	}
}

// TestFirmwareMustBeTheSame: all who run something else are named (A8).
func TestFirmwareMustBeTheSame(t *testing.T) {
	r := newRoom(t)
	for _, id := range []string{"d2", "d3"} {
		l := r.locals[id]
		l.Firmware = envelope.HashOf("altered", []byte(id))
		r.locals[id] = l
	}
	o, open := r.open(t)
	v, err := r.certify(t, o, r.roster(t, o, open))
	if err != nil {
		t.Fatal(err)
	}
	for id, others := range map[string][]string{"d1": {"d2", "d3"}, "d2": {"d1", "d3"}} {
		var e *ceremony.FirmwareMismatchError
		err := v.CompareFirmware(id, r.locals[id].Firmware)
		if !errors.As(err, &e) || e.Device != id || len(e.Other) != 2 {
			t.Fatalf("device %s: %v", id, err)
		}
		for _, x := range others {
			if e.Other[x] != r.locals[x].Firmware {
				t.Errorf("device %s does not name %s: %v", id, x, err)
			}
		}
	}
}

// TestBeginRefuses: a device answers only the desk that the administrator's
// card named, and only a plan that it is in.
func TestBeginRefuses(t *testing.T) {
	r := newRoom(t)
	_, open := r.open(t)
	in := ceremony.Inputs{Now: now, Rand: rand.Reader}
	other := ledgertest.NewPair(t, "another desk")
	if _, _, err := ceremony.Begin(in, r.locals["d1"], verified(t, other.Sign, ceremony.TypeHello, ceremony.Hello{Open: open})); err == nil || !strings.Contains(err.Error(), "not signed by the desk") {
		t.Errorf("another desk: %v", err)
	}
	stranger := r.locals["d1"]
	stranger.ID = "d9"
	if _, _, err := ceremony.Begin(in, stranger, verified(t, r.desk.Sign, ceremony.TypeHello, ceremony.Hello{Open: open})); err == nil || !strings.Contains(err.Error(), "device d9 is not in the plan") {
		t.Errorf("a stranger: %v", err)
	}
}
