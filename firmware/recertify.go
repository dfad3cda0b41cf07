package firmware

import (
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// identityDays is the validity of SWA certificates of devices and officers,
// cut to what the ledger key and the officer's registration allow.
const identityDays = 365

// recertify has the device ask for its own SWA certificate and its officers'
// (A12, A13; certified devices may be requesters, A16). The keys are those that
// the administrator certified for some hours; from now on the SWA vouches for
// them.
func (m *Machine) recertify(c *ctx, in Recertify) (*Requests, error) {
	s := m.state.ledger
	key, ok := s.LedgerKey()
	if !ok {
		return nil, refuse(CodeLedger, "the ledger has no system-wide authority")
	}
	self, _ := m.self()
	subjects := []envelope.KeyID{envelope.KeyIDOfSPKI(self.Sign)}
	for _, o := range s.OfficersOf(self.ID, c.Now) {
		p, _ := s.Person(o.Person)
		for _, card := range p.Cards {
			if card.Serial == o.Card {
				subjects = append(subjects, envelope.KeyIDOfSPKI(card.Sign))
			}
		}
	}
	out := &Requests{}
	for _, id := range subjects {
		raw, err := m.identityRequest(c, key, id, in.Expires)
		if err != nil {
			return nil, err
		}
		out.Requests = append(out.Requests, raw)
	}
	return out, nil
}

func (m *Machine) identityRequest(c *ctx, key ledger.Key, subject envelope.KeyID, expires int64) ([]byte, error) {
	s := m.state.ledger
	v, err := document.IdentityValidity(s, subject, identityDays, c.Now)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	serial, err := document.NewSerial(c.Rand)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	alg := threshold.Algorithm(key.Algorithms[0])
	tbs, err := document.IdentityTBS(s, subject, alg, v, serial)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	req := document.Request{
		Key: key.ID, Epoch: key.Epoch, Algorithm: alg, Kind: document.KindIdentity, Document: tbs,
		Requester: m.cfg.Local.ID, Created: c.Now, Expires: expires,
		Route:   document.RouteTo(&key, document.ApprovalsSet),
		Comment: "recertification under the system-wide authority",
	}
	if _, err := io.ReadFull(c.Rand, req.Nonce[:]); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	if _, err := document.CheckIn(s, &req, c.Now); err != nil {
		return nil, faulty(CodeInternal, err)
	}
	body, err := envelope.Marshal(req)
	if err != nil {
		return nil, faulty(CodeInternal, err)
	}
	raw, err := envelope.Sign(c.Rand, m.cfg.Local.Sign, envelope.Header{
		Type: document.TypeRequest, Version: document.VersionRequest, System: s.System(), Key: key.ID, Epoch: key.Epoch,
		LedgerHead: s.Head(), Created: req.Created, Expires: req.Expires,
	}, body)
	return raw, faulty(CodeInternal, err)
}

// register keeps SWA certificates: this device's own, and its officers' in
// its table (A12, A13). Those of others are passed over; what the SWA did not
// sign is refused.
func (m *Machine) register(c *ctx, in Register) (*Status, error) {
	var fresh [][]byte
	for _, der := range in.Certificates {
		id, _, err := document.VerifyIdentity(m.state.ledger, der)
		if err != nil {
			return nil, faulty(CodeMessage, fmt.Errorf("certificate: %w", err))
		}
		same := func(have []byte) bool { return string(have) == string(der) }
		known := slices.ContainsFunc(m.state.certificates, same) || slices.ContainsFunc(fresh, same)
		if !known && m.concerns(m.state.ledger, id) {
			fresh = append(fresh, der)
		}
	}
	if len(m.state.certificates)+len(fresh) > maxRegister {
		return nil, refuse(CodeMessage, "more than %d certificates", maxRegister)
	}
	if len(fresh) > 0 {
		if err := c.add(recRegistered, registeredBody{Certificates: fresh}); err != nil {
			return nil, err
		}
	}
	return m.describe(c.draft.state, c.Boot), nil
}

// concerns reports whether an identity is this device or one of its officers.
func (m *Machine) concerns(s ledger.State, id ledger.Identity) bool {
	if id.Kind == ledger.OwnerDevice {
		return id.Owner == m.cfg.Local.ID
	}
	return slices.ContainsFunc(s.OfficersOf(m.cfg.Local.ID, 0), func(o ledger.Officer) bool { return o.Person == id.Owner })
}

// certified says whether the device holds its own SWA certificate, and which
// of its officers are registered with theirs.
func (m *Machine) certified(s *state) (own bool, officers []string) {
	officers = []string{}
	for _, der := range s.certificates {
		id, valid, err := document.VerifyIdentity(s.ledger, der)
		switch {
		case err != nil || s.mark > valid.NotAfter:
		case id.Kind == ledger.OwnerDevice:
			own = true
		case !slices.Contains(officers, id.Owner):
			officers = append(officers, id.Owner)
		}
	}
	return own, officers
}
