package heartbeat

import (
	"crypto/ecdsa"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

func (r *rig) revocation(t testing.TB, source string) *Revoke {
	reply := ledgertest.NewPair(t, "reply").Agree
	return &Revoke{
		Device: "device-1", Source: source, Reason: "stolen", Reply: reply.PublicKey().Bytes(), Created: r.Now, Expires: r.Now + 600,
	}
}

func (r *rig) agreeOf(id string) *ledgertest.Pair {
	if p, ok := r.Sources[id]; ok {
		return p
	}
	return &r.Devices[id].Pair
}

func TestWhoMayRevoke(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		source, who string
		key         *ecdsa.PrivateKey
		may         bool
	}{
		{"message-1", "its operator", r.Persons[ledgertest.Operator].Card().Sign, true},
		{"message-1", "its operator, with the other card", r.Persons[ledgertest.Operator].Cards[1].Sign, true},
		{"message-1", "an officer of the device", r.Persons["officer-1b"].Card().Sign, true},
		{"message-1", "an officer of another", r.Persons["officer-3a"].Card().Sign, false},
		{"message-1", "the administrator", r.Persons[ledgertest.Administrator].Card().Sign, false},
		{"message-1", "a program", r.Persons[ledgertest.Program].Software, false},
		{"message-1", "the source", r.Sources["message-1"].Sign, false},
		{"message-1", "the device", r.Devices["device-1"].Sign, false},
		{"message-1", "a message server", r.Servers["server-1"].Sign, false},
		{"message-1", "a stranger", ledgertest.NewSigner(t, "stranger"), false},
		{"device-2", "an officer of the satellite", r.Persons["officer-2a"].Card().Sign, true},
		{"device-2", "an officer of the device", r.Persons["officer-1a"].Card().Sign, true},
		{"device-2", "an operator of sources", r.Persons[ledgertest.Operator].Card().Sign, false},
	} {
		frame, digest, err := SealRevoke(rand.Reader, c.key, r.State, r.revocation(t, c.source))
		if err != nil {
			t.Fatal(err)
		}
		v, err := OpenRevoke(r.State, c.source, frame, r.agreeOf(c.source).Agree, r.Now+1)
		if (err == nil) != c.may {
			t.Errorf("%s silences %s: %v", c.who, c.source, err)
		}
		if err == nil && (v.digest != digest || v.Device != "device-1" || v.Person == "") {
			t.Errorf("%+v", v)
		}
	}
}

func TestRevocationIsShortLivedAndForOneSource(t *testing.T) {
	r := newRig(t)
	card := r.Persons[ledgertest.Operator].Card().Sign
	open := func(station string, v *Revoke, now int64) error {
		frame, _, err := SealRevoke(rand.Reader, card, r.State, v)
		if err != nil {
			return err
		}
		_, err = OpenRevoke(r.State, station, frame, r.agreeOf(v.Source).Agree, now)
		return err
	}
	for name, c := range map[string]struct {
		change func(*Revoke)
		now    int64
		ok     bool
	}{
		"fresh":              {func(*Revoke) {}, r.Now, true},
		"last second":        {func(*Revoke) {}, r.Now + 599, true},
		"expired":            {func(*Revoke) {}, r.Now + 600, false},
		"clock ahead":        {func(*Revoke) {}, r.Now - revokeSkew, true},
		"clock too far":      {func(*Revoke) {}, r.Now - revokeSkew - 1, false},
		"an hour":            {func(v *Revoke) { v.Expires = v.Created + MaxRevokeLife }, r.Now, true},
		"more than an hour":  {func(v *Revoke) { v.Expires = v.Created + MaxRevokeLife + 1 }, r.Now, false},
		"long reason":        {func(v *Revoke) { v.Reason = strings.Repeat("x", maxText+1) }, r.Now, false},
		"no device":          {func(v *Revoke) { v.Device = "nobody" }, r.Now, false},
		"no reply key":       {func(v *Revoke) { v.Reply = nil }, r.Now, false},
		"reply key no point": {func(v *Revoke) { v.Reply[9] ^= 1 }, r.Now, false},
	} {
		v := r.revocation(t, "message-1")
		c.change(v)
		if err := open("message-1", v, c.now); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused(t, open("sequence-1", r.revocation(t, "message-1"), r.Now), "for source")
	if _, _, err := SealRevoke(rand.Reader, card, r.State, r.revocation(t, "nobody")); err == nil {
		t.Error("sealed to nobody")
	}
	// Header and payload have to agree about its life.
	v := r.revocation(t, "message-1")
	body, err := envelope.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, card, envelope.Header{
		Type: TypeRevoke, Version: MessageVersion, System: r.State.System(), LedgerHead: r.State.Head(), Created: r.Now, Expires: r.Now + 601,
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := u.Verify(&card.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyRevoke(r.State, "message-1", ledgertest.Operator, verified, r.Now)
	refused(t, err, "different times")
	// Another system's.
	other := newRig(t, func(g *ledger.Genesis) { g.Name = "Another system" })
	frame, _, err := SealRevoke(rand.Reader, card, other.State, v)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenRevoke(r.State, "message-1", frame, r.Sources["message-1"].Agree, r.Now)
	refused(t, err, "of system")
}

func TestRevocationIsConfirmed(t *testing.T) {
	r := newRig(t)
	frame, digest, err := SealRevoke(rand.Reader, r.Persons[ledgertest.Operator].Card().Sign, r.State, r.revocation(t, "message-1"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := OpenRevoke(r.State, "message-1", frame, r.Sources["message-1"].Agree, r.Now)
	if err != nil {
		t.Fatal(err)
	}
	st, err := NewStation(StationConfig{ID: "message-1"}, r.State, nil)
	if err != nil {
		t.Fatal(err)
	}
	done, stored, err := st.TakeRevoke(Inputs{Now: r.Now}, v)
	if err != nil || stored == nil {
		t.Fatal(stored, err)
	}
	reply := ledgertest.NewPair(t, "reply").Agree
	confirm := func(key *ecdsa.PrivateKey, done *Revoked) error {
		frame, err := SealRevoked(rand.Reader, key, r.State, v, done, r.Now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := OpenRevoked(r.State, "message-1", frame, reply, digest)
		if err == nil && (*got != Revoked{"device-1", "message-1", digest, r.Now}) {
			t.Fatalf("%+v", got)
		}
		return err
	}
	if err := confirm(r.Sources["message-1"].Sign, done); err != nil {
		t.Error(err)
	}
	if confirm(r.Sources["sequence-1"].Sign, done) == nil {
		t.Error("another source confirms")
	}
	if confirm(r.Servers["server-1"].Sign, done) == nil {
		t.Error("a message server confirms")
	}
	wrong := *done
	wrong.Revocation[0]++
	refused(t, confirm(r.Sources["message-1"].Sign, &wrong), "another revocation")
	wrong = *done
	wrong.Source = "sequence-1"
	refused(t, confirm(r.Sources["message-1"].Sign, &wrong), "another revocation")

	// Once more, after a restart: it is confirmed with the time of the first,
	// and the device that its officers took back stays.
	st, err = NewStation(StationConfig{ID: "message-1"}, r.State, stored)
	if err != nil {
		t.Fatal(err)
	}
	e := &refEvidence{"device-1", [16]byte{9}, r.Now + 5, 1, envelope.Hash{1}, false, true}
	c := &VerifiedChallenge{Challenge: Challenge{
		Device: "device-1", Sign: []byte{1}, Agree: []byte{2}, Counter: 1, Log: 1, LogHead: envelope.Hash{1}, Begin: []string{"message-1"},
	}, agree: r.instance.Agree().PublicKey()}
	e.instance = c.Instance()
	c.Enrolment = enrolment(t, r.System, e, r.Now+5)
	out, _, err := st.Answer(Inputs{Now: r.Now + 6}, c)
	if err != nil || out.Beat.Kind != KindAnswer {
		t.Fatal(out, err)
	}
	again, stored, err := st.TakeRevoke(Inputs{Now: r.Now + 7}, v)
	if err != nil || stored != nil || *again != *done {
		t.Errorf("%+v, %x, %v", again, stored, err)
	}
	if k := st.Devices()[0]; k.Revoked != 0 || !k.Beating {
		t.Errorf("%+v", k)
	}
}
