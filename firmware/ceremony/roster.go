package ceremony

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/firmware/attest"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// VerifiedRoster is a roster in which everything holds: every signature,
// every manufacturer's certificate, every attestation.
type VerifiedRoster struct {
	open       *Open
	digest     envelope.Hash
	roster     Roster
	identities []*Identity
	oneTime    []*ecdh.PublicKey
	cards      map[uint32]ledger.Card
}

// Digest identifies the roster.
func (r *VerifiedRoster) Digest() envelope.Hash { return r.digest }

// Plan is what was reviewed.
func (r *VerifiedRoster) Plan() *Plan { return &r.open.Plan }

// Firmware is the hash that all devices run.
func (r *VerifiedRoster) Firmware() envelope.Hash { return r.identities[0].Firmware }

// Identity returns the identity of a device of the plan, or nil.
func (r *VerifiedRoster) Identity(device string) *Identity {
	for i, d := range r.open.Plan.Devices {
		if d.ID == device {
			return r.identities[i]
		}
	}
	return nil
}

func (r *VerifiedRoster) oneTimeKey(device string) *ecdh.PublicKey {
	for i, d := range r.open.Plan.Devices {
		if d.ID == device {
			return r.oneTime[i]
		}
	}
	return nil
}

// CardOf returns the enrolled card with the serial number.
func (r *VerifiedRoster) CardOf(serial uint32) (ledger.Card, bool) {
	c, ok := r.cards[serial]
	return c, ok
}

// VerifyRoster checks a roster under an opening. A device that verified it
// compares firmware hashes with [VerifiedRoster.CompareFirmware].
func VerifyRoster(o *VerifiedOpen, raw []byte, now int64) (*VerifiedRoster, error) {
	if err := o.Live(now); err != nil {
		return nil, err
	}
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("ceremony: roster: %w", err)
	}
	v, err := u.Verify(o.admin)
	if err != nil {
		return nil, fmt.Errorf("ceremony: roster: %w", err)
	}
	r := &VerifiedRoster{open: &o.open, digest: v.Digest(), cards: map[uint32]ledger.Card{}}
	if err := envelope.Decode(v, TypeRoster, MessageVersion, &r.roster); err != nil {
		return nil, fmt.Errorf("ceremony: roster: %w", err)
	}
	if r.roster.Open != o.digest {
		return nil, errors.New("ceremony: the roster belongs to another opening")
	}
	if r.roster.NotBefore < o.open.NotBefore || r.roster.NotAfter > o.open.NotAfter {
		return nil, errors.New("ceremony: the roster outlives the opening")
	}
	if !slices.Equal(r.roster.Witnesses, o.open.Plan.Witnesses) {
		return nil, errors.New("ceremony: the roster names other witnesses than the plan; change the plan and begin a new attempt")
	}
	if err := r.verifyIdentities(o, now); err != nil {
		return nil, err
	}
	if err := r.verifyEnrolments(o, now); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *VerifiedRoster) verifyIdentities(o *VerifiedOpen, now int64) error {
	p := &o.open.Plan
	if len(r.roster.Identities) != len(p.Devices) {
		return fmt.Errorf("ceremony: roster lists %d devices, the plan %d", len(r.roster.Identities), len(p.Devices))
	}
	seen, instances := map[string]string{}, map[[16]byte]string{}
	for i, raw := range r.roster.Identities {
		d := p.Devices[i]
		id, oneTime, err := verifyIdentity(o, d, raw, now)
		if err != nil {
			return &RosterError{Who: "device " + d.ID, Err: err}
		}
		for _, k := range [][]byte{id.Sign, id.Agree, id.Boot, id.OneTime} {
			if other, ok := seen[string(k)]; ok {
				return &RosterError{Who: "device " + d.ID, Err: fmt.Errorf("shares a key with device %s", other)}
			}
			seen[string(k)] = d.ID
		}
		if d.Heartbeat != nil {
			if other, ok := instances[id.Instance]; ok {
				return &RosterError{Who: "device " + d.ID, Err: fmt.Errorf("has the instance of device %s: one of them is a copy", other)}
			}
			instances[id.Instance] = d.ID
		}
		r.identities = append(r.identities, id)
		r.oneTime = append(r.oneTime, oneTime)
	}
	return nil
}

// VerifyIdentity checks a device's answer to Hello on its own, so that the
// desk can say at once which device is at fault.
func VerifyIdentity(o *VerifiedOpen, device string, raw []byte, now int64) (*Identity, error) {
	d := o.open.Plan.device(device)
	if d == nil {
		return nil, fmt.Errorf("ceremony: device %q is not in the plan", device)
	}
	id, _, err := verifyIdentity(o, *d, raw, now)
	if err != nil {
		return nil, &RosterError{Who: "device " + device, Err: err}
	}
	return id, nil
}

func verifyIdentity(o *VerifiedOpen, d PlanDevice, raw []byte, now int64) (*Identity, *ecdh.PublicKey, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, nil, err
	}
	var id Identity
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &id); err != nil {
		return nil, nil, err
	}
	sign, err := envelope.ParseSigningKey(id.Sign)
	if err != nil {
		return nil, nil, fmt.Errorf("signature key: %w", err)
	}
	v, err := u.Verify(sign)
	if err != nil {
		return nil, nil, err
	}
	if err := envelope.Decode(v, TypeIdentity, MessageVersion, &id); err != nil {
		return nil, nil, err
	}
	if id.Open != o.digest {
		return nil, nil, errors.New("answers another opening")
	}
	if id.Device != d.ID {
		return nil, nil, fmt.Errorf("calls itself %q; check which socket leads to which device", id.Device)
	}
	if d.Serial != "" && d.Serial != id.Serial {
		return nil, nil, fmt.Errorf("serial number is %q, the plan says %q", id.Serial, d.Serial)
	}
	if d.Model != id.Model {
		return nil, nil, fmt.Errorf("model is %q, the plan says %q", id.Model, d.Model)
	}
	if d.Use == "token" && !id.InToken {
		return nil, nil, errors.New(`the plan has "use: token", but its token failed the self-test of partial exponentiation; plan "use: host"`)
	}
	if d.Heartbeat != nil && id.Instance == [16]byte{} {
		return nil, nil, errors.New("names no instance, which its sources are to know it by; update its firmware")
	}
	if _, err := envelope.ParseAgreementKey(id.Agree); err != nil {
		return nil, nil, fmt.Errorf("agreement key: %w", err)
	}
	if _, err := envelope.ParseSigningKey(id.Boot); err != nil {
		return nil, nil, fmt.Errorf("boot key: %w", err)
	}
	oneTime, err := ecdh.P256().NewPublicKey(id.OneTime)
	if err != nil {
		return nil, nil, fmt.Errorf("one-time key: %w", err)
	}
	if o.open.Plan.Vault {
		return &id, oneTime, nil
	}
	if err := verifyMaker(&o.open.Plan, id.Model, id.Serial, id.Sign, id.SignCert, now); err != nil {
		return nil, nil, fmt.Errorf("manufacturer's certificate of the signature key: %w", err)
	}
	if err := verifyMaker(&o.open.Plan, id.Model, id.Serial, id.Agree, id.AgreeCert, now); err != nil {
		return nil, nil, fmt.Errorf("manufacturer's certificate of the agreement key: %w", err)
	}
	return &id, oneTime, nil
}

// verifyMaker checks a manufacturer's certificate: it certifies this key, for
// this serial number, and chains to the root of an approved device model.
func verifyMaker(p *Plan, model, serial string, key []byte, chain [][]byte, now int64) error {
	if len(chain) == 0 {
		return errors.New("missing; a ceremony without manufacturer's certificates is a vault ceremony")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, key) {
		return errors.New("certifies another key")
	}
	if leaf.Subject.SerialNumber != serial {
		return fmt.Errorf("is for serial number %q, not %q", leaf.Subject.SerialNumber, serial)
	}
	roots, err := p.roots("device", model)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: time.Unix(now, 0),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func (p *Plan) roots(kind, model string) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for _, m := range p.Models {
		if m.Kind != kind || m.Model != model {
			continue
		}
		c, err := x509.ParseCertificate(m.Root)
		if err != nil {
			return nil, err
		}
		pool.AddCert(c)
		found = true
	}
	if !found {
		return nil, fmt.Errorf("%s model %q is not approved by the plan", kind, model)
	}
	return pool, nil
}

// CompareFirmware is stage 1's comparison in both directions (A8): each
// device hands its own hash and stops if any other differs.
func (r *VerifiedRoster) CompareFirmware(device string, own envelope.Hash) error {
	other := map[string]envelope.Hash{}
	for i, id := range r.identities {
		if id.Firmware != own {
			other[r.open.Plan.Devices[i].ID] = id.Firmware
		}
	}
	if len(other) > 0 {
		return &FirmwareMismatchError{Device: device, Own: own, Other: other}
	}
	return nil
}

func (r *VerifiedRoster) verifyEnrolments(o *VerifiedOpen, now int64) error {
	p := &o.open.Plan
	keys := map[envelope.KeyID]string{}
	add := func(who string, spki []byte) error {
		id := envelope.KeyIDOfSPKI(spki)
		if other, ok := keys[id]; ok {
			return fmt.Errorf("its key is %s's already", other)
		}
		keys[id] = who
		return nil
	}
	for _, raw := range r.roster.Enrolments {
		e, err := VerifyEnrolment(o, raw, now)
		if err != nil {
			return err
		}
		if _, ok := r.cards[e.Card.Serial]; ok {
			return &RosterError{Who: "person " + e.Person, Err: fmt.Errorf("card %d is enrolled twice", e.Card.Serial)}
		}
		for _, k := range [][]byte{e.Card.Sign, e.Card.Agree} {
			if err := add(e.Person, k); err != nil {
				return &RosterError{Who: "person " + e.Person, Err: err}
			}
		}
		r.cards[e.Card.Serial] = e.Card
	}
	for _, x := range p.Persons {
		for _, serial := range x.Cards {
			if _, ok := r.cards[serial]; !ok {
				return &RosterError{Who: "person " + x.ID, Err: fmt.Errorf("card %d was not enrolled", serial)}
			}
		}
	}
	if admin := r.cards[o.open.Administrator.Serial]; !bytes.Equal(admin.Sign, o.open.Administrator.Sign) {
		return &RosterError{Who: "person " + p.Administrator, Err: errors.New("is enrolled with another key than the opening's")}
	}
	return nil
}

// VerifyEnrolment checks one person's enrolment on its own, so that the desk
// can say at once whose card is at fault.
func VerifyEnrolment(o *VerifiedOpen, raw []byte, now int64) (*Enrolment, error) {
	u, err := envelope.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("ceremony: enrolment: %w", err)
	}
	var e Enrolment
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &e); err != nil {
		return nil, fmt.Errorf("ceremony: enrolment: %w", err)
	}
	fail := func(err error) error { return &RosterError{Who: "person " + e.Person, Err: err} }
	key, err := envelope.ParseSigningKey(e.Card.Sign)
	if err != nil {
		return nil, fail(err)
	}
	v, err := u.Verify(key)
	if err != nil {
		return nil, fail(err)
	}
	if err := envelope.Decode(v, TypeEnrol, MessageVersion, &e); err != nil {
		return nil, fail(err)
	}
	if e.Open != o.digest {
		return nil, fail(errors.New("enrolled for another opening"))
	}
	x := o.open.Plan.person(e.Person)
	if x == nil {
		return nil, fail(errors.New("is not in the plan"))
	}
	if !slices.Contains(x.Cards, e.Card.Serial) {
		return nil, fail(fmt.Errorf("card %d is not his", e.Card.Serial))
	}
	if err := verifyCard(&o.open.Plan, &e.Card, now); err != nil {
		return nil, fail(err)
	}
	return &e, nil
}

// verifyCard checks that both keys of a card were made in it and stay there,
// as its attestation under an approved model's root says (A13, A17).
func verifyCard(p *Plan, c *ledger.Card, now int64) error {
	roots, err := p.roots("card", c.Model)
	if err != nil {
		return err
	}
	inter, err := x509.ParseCertificate(c.Intermediate)
	if err != nil {
		return fmt.Errorf("attestation certificate of card %d: %w", c.Serial, err)
	}
	verify := func(slot byte, der, key []byte) (*attest.Attestation, error) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		a, err := attest.Verify(roots, cert, inter, time.Unix(now, 0))
		switch {
		case err != nil:
			return nil, err
		case a.Serial != c.Serial:
			return nil, fmt.Errorf("is of card %d", a.Serial)
		case a.Slot != slot:
			return nil, fmt.Errorf("is of slot %X", a.Slot)
		case !bytes.Equal(cert.RawSubjectPublicKeyInfo, key):
			return nil, errors.New("is of another key")
		}
		return a, nil
	}
	sign, err := verify(0x9c, c.AttestSign, c.Sign)
	if err != nil {
		return fmt.Errorf("attestation of card %d, slot 9C: %w", c.Serial, err)
	}
	agree, err := verify(0x9d, c.AttestAgree, c.Agree)
	if err != nil {
		return fmt.Errorf("attestation of card %d, slot 9D: %w", c.Serial, err)
	}
	return attest.CheckPair(sign, agree)
}
