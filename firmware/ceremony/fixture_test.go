package ceremony_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/firmwaretest"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// now is the moment of the ceremony.
const now = 1_800_000_000

// room is everyone at a ceremony, with keys in software: stages 1 and 2 ask
// nothing else of a token.
type room struct {
	plan   ceremony.Plan
	maker  *firmwaretest.Maker
	makerB *firmwaretest.Maker // approved by nobody
	cardsB *firmwaretest.CardMaker
	cards  map[uint32]*firmwaretest.Card
	locals map[string]ceremony.Local
	signs  map[string]*ecdsa.PrivateKey
	desk   ledgertest.Pair
}

// newRoom makes three devices with two officers each, an administrator with
// card 1, and a program that may ask.
func newRoom(t testing.TB) *room {
	t.Helper()
	cards := firmwaretest.NewCardMaker(t)
	r := &room{
		maker: firmwaretest.NewMaker(t), makerB: firmwaretest.NewMaker(t), cardsB: firmwaretest.NewCardMaker(t),
		cards: map[uint32]*firmwaretest.Card{}, locals: map[string]ceremony.Local{}, signs: map[string]*ecdsa.PrivateKey{},
		desk: ledgertest.NewPair(t, "desk"),
	}
	p := &r.plan
	*p = ceremony.Plan{
		Name: "Test system", File: envelope.HashOf("file"), Lead: "d1", Witnesses: []string{"Wilma", "Walter"},
		Administrator: "admin", Hours: 4, OfficerDays: 365,
		Models: []ledger.Model{
			{Kind: ledger.ModelDevice, Manufacturer: "M", Model: firmwaretest.Model, Root: r.maker.Root.Raw},
			{Kind: ledger.ModelCard, Manufacturer: "C", Model: firmwaretest.CardModel, Root: cards.Root.Raw},
		},
	}
	person := func(id string) uint32 {
		serial := uint32(len(r.cards) + 1)
		r.cards[serial] = cards.New(t, serial)
		p.Persons = append(p.Persons, ceremony.PlanPerson{ID: id, Name: "Person " + id, Cards: []uint32{serial}})
		return serial
	}
	person("admin")
	for i, use := range []string{"auto", "host", "token"} {
		id := fmt.Sprintf("d%d", i+1)
		server := ledgertest.NewPair(t, "server "+id)
		p.Servers = append(p.Servers, ledger.Server{
			ID: "s" + id, Name: "Server " + id, Sign: ledgertest.SPKI(t, server.Sign.Public()), Agree: ledgertest.SPKI(t, server.Agree.PublicKey()),
			TLS: envelope.HashOf("tls", []byte(id)), URL: "https://" + id + ".test", Route: id + ".test:4222",
		})
		p.Devices = append(p.Devices, ceremony.PlanDevice{
			ID: id, Name: "Device " + id, Server: "s" + id, Model: firmwaretest.Model, Serial: "serial-" + id, Use: use, UnlockQuorum: 2,
		})
		for _, x := range []string{"a", "b"} {
			who := fmt.Sprintf("officer-%d%s", i+1, x)
			p.Officers = append(p.Officers, ceremony.PlanOfficer{Person: who, Card: person(who), Device: id, Class: ledger.ClassOfficer})
		}
		pair, boot := ledgertest.NewPair(t, "device "+id), ledgertest.NewSigner(t, "boot "+id)
		r.signs[id] = pair.Sign
		r.locals[id] = ceremony.Local{
			ID: id, Serial: "serial-" + id, Model: firmwaretest.Model, Sign: pair.Sign, Agree: pair.Agree.PublicKey(),
			Boot:      ledgertest.SPKI(t, boot.Public()),
			SignCert:  [][]byte{r.maker.Certify(t, "serial-"+id, pair.Sign.Public())},
			AgreeCert: [][]byte{r.maker.Certify(t, "serial-"+id, ecdsaOf(t, pair.Agree.PublicKey()))},
			Firmware:  firmwaretest.Firmware, Instance: [16]byte{byte(i + 1)}, InToken: true,
		}
	}
	robot := ledgertest.NewSigner(t, "robot")
	p.Persons = append(p.Persons, ceremony.PlanPerson{ID: "robot", Name: "Robot", Software: ledgertest.SPKI(t, robot.Public())})
	key := func(id, family string, scheme threshold.Scheme, t uint64) ceremony.PlanKey {
		return ceremony.PlanKey{
			ID: id, Name: "Key " + id, Family: family, Scheme: scheme, T: t, Devices: []string{"d1", "d2", "d3"}, Bits: 2048,
			SafePrimes: scheme == threshold.Multiplicative, Algorithms: []string{"RS256", "PS256"}, MaxDays: 400, RootDays: 3650,
			Quorum: 2, Threshold: 2,
		}
	}
	files := key("files", ledger.FamilyFile, threshold.Multiplicative, 3)
	files.MaxDays, files.RootDays = 0, 0
	p.Keys = []ceremony.PlanKey{
		key("swa", ledger.FamilyLedger, threshold.Additive, 3),
		key("certs", ledger.FamilyCertificate, threshold.Additive, 2),
		files,
	}
	return r
}

// opening is what the administrator signs.
func (r *room) opening(t testing.TB) *ceremony.Open {
	t.Helper()
	return &ceremony.Open{
		Plan: r.plan, Attempt: 1, Administrator: r.cards[1].Describe(),
		DeskSign: ledgertest.SPKI(t, r.desk.Sign.Public()), DeskAgree: ledgertest.SPKI(t, r.desk.Agree.PublicKey()),
		NotBefore: now, NotAfter: now + 4*3600,
	}
}

// open makes a verified opening.
func (r *room) open(t testing.TB) (*ceremony.VerifiedOpen, []byte) {
	t.Helper()
	raw := sign(t, r.cards[1].PrivateKey, ceremony.TypeOpen, r.opening(t))
	o, err := ceremony.VerifyOpen(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	return o, raw
}

// roster gathers all that the administrator's card certifies.
func (r *room) roster(t testing.TB, o *ceremony.VerifiedOpen, open []byte) *ceremony.Roster {
	t.Helper()
	out := &ceremony.Roster{Open: o.Digest(), Witnesses: r.plan.Witnesses, NotBefore: now, NotAfter: o.NotAfter()}
	for _, d := range r.plan.Devices {
		out.Identities = append(out.Identities, sign(t, r.signs[d.ID], ceremony.TypeIdentity, r.identity(t, d.ID, open)))
	}
	for _, p := range r.plan.Persons {
		for _, serial := range p.Cards {
			out.Enrolments = append(out.Enrolments, sign(t, r.cards[serial].PrivateKey, ceremony.TypeEnrol,
				&ceremony.Enrolment{Open: o.Digest(), Person: p.ID, Card: r.cards[serial].Describe()}))
		}
	}
	return out
}

// identity is how a device introduces itself.
func (r *room) identity(t testing.TB, device string, open []byte) *ceremony.Identity {
	t.Helper()
	_, a, err := ceremony.Begin(ceremony.Inputs{Now: now, Rand: rand.Reader}, r.locals[device],
		verified(t, r.desk.Sign, ceremony.TypeHello, ceremony.Hello{Open: open}))
	if err != nil {
		t.Fatal(err)
	}
	id := a.Payload.(ceremony.Identity)
	return &id
}

// certify signs a roster and verifies it.
func (r *room) certify(t testing.TB, o *ceremony.VerifiedOpen, x *ceremony.Roster) (*ceremony.VerifiedRoster, error) {
	t.Helper()
	return ceremony.VerifyRoster(o, sign(t, r.cards[1].PrivateKey, ceremony.TypeRoster, x), now)
}

func sign(t testing.TB, key *ecdsa.PrivateKey, typ string, payload any) []byte {
	t.Helper()
	body, err := envelope.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, key, envelope.Header{Type: typ, Version: ceremony.MessageVersion, Created: now, Expires: now + 3600}, body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func verified(t testing.TB, key *ecdsa.PrivateKey, typ string, payload any) *envelope.Verified {
	t.Helper()
	u, err := envelope.Parse(sign(t, key, typ, payload))
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ecdsaOf(t testing.TB, pub *ecdh.PublicKey) *ecdsa.PublicKey {
	t.Helper()
	k, err := envelope.ParseSigningKey(ledgertest.SPKI(t, pub))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// alter decodes a signed message, changes it, and signs it again.
func alter[T any](t testing.TB, key *ecdsa.PrivateKey, raw []byte, change func(*T)) []byte {
	t.Helper()
	u, err := envelope.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var x T
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &x); err != nil {
		t.Fatal(err)
	}
	change(&x)
	return sign(t, key, u.Header().Type, &x)
}

// clone copies what tests change of a plan.
func clone(p ceremony.Plan) ceremony.Plan {
	p.Servers, p.Devices, p.Persons = slices.Clone(p.Servers), slices.Clone(p.Devices), slices.Clone(p.Persons)
	p.Officers, p.Models, p.Keys = slices.Clone(p.Officers), slices.Clone(p.Models), slices.Clone(p.Keys)
	p.Witnesses = slices.Clone(p.Witnesses)
	return p
}
