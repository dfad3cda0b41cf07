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
	days := uint64(identityDays)
	if key.MaxDays > 0 {
		days = min(days, key.MaxDays)
	}
	v, err := document.IdentityValidity(s, subject, days, c.Now)
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
		Route:   document.Route{Mode: document.ModeParallel, Approvals: document.ApprovalsSet},
		Comment: "recertification under the system-wide authority",
	}
	if key.Scheme == threshold.Multiplicative {
		req.Route.Mode = document.ModeSequential
	}
	for _, h := range key.Holders {
		req.Route.Devices = append(req.Route.Devices, h.Device)
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
// its table (A12, A13). Others are refused by name.
func (m *Machine) register(c *ctx, in Register) (*Status, error) {
	if len(m.state.certificates)+len(in.Certificates) > maxRegister {
		return nil, refuse(CodeMessage, "more than %d certificates", maxRegister)
	}
	var fresh [][]byte
	for _, der := range in.Certificates {
		if slices.ContainsFunc(m.state.certificates, func(have []byte) bool { return string(have) == string(der) }) {
			continue
		}
		if _, err := m.identityOf(m.state.ledger, der); err != nil {
			return nil, faulty(CodeMessage, err)
		}
		fresh = append(fresh, der)
	}
	if len(fresh) > 0 {
		if err := c.add(recRegistered, registeredBody{Certificates: fresh}); err != nil {
			return nil, err
		}
	}
	return m.describe(c.draft.state), nil
}

// identityOf verifies a certificate of the SWA for this device or one of its
// officers, and returns whose it is.
func (m *Machine) identityOf(s ledger.State, der []byte) (ledger.Identity, error) {
	id, _, err := document.VerifyIdentity(s, der)
	if err != nil {
		return id, fmt.Errorf("certificate: %w", err)
	}
	mine := (id.Kind == ledger.OwnerDevice && id.Owner == m.cfg.Local.ID ||
		id.Kind == ledger.OwnerPerson && slices.ContainsFunc(s.OfficersOf(m.cfg.Local.ID, 0), func(o ledger.Officer) bool { return o.Person == id.Owner }))
	if !mine {
		return ledger.Identity{}, fmt.Errorf("certificate of %s %s: neither this device's nor one of its officers'", id.Kind, id.Owner)
	}
	return id, nil
}

// certified says whether the device holds its own SWA certificate, and which
// of its officers are registered with theirs.
func (m *Machine) certified(s *state) (own bool, officers []string) {
	officers = []string{}
	for _, der := range s.certificates {
		id, err := m.identityOf(s.ledger, der)
		switch {
		case err != nil:
		case id.Kind == ledger.OwnerDevice:
			own = true
		case !slices.Contains(officers, id.Owner):
			officers = append(officers, id.Owner)
		}
	}
	return own, officers
}
