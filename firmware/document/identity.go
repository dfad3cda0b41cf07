package document

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// ErrIdentity: the certificate is not the one this system gives to that device
// or officer.
var ErrIdentity = errors.New("not an identity of this system")

// IdentityTBS makes the TBSCertificate by which the system-wide authority
// certifies a public key that its tables hold (A12, A13): the signature or
// agreement key of a device, or of an officer's card. subject is the key's id.
// serial is the content of the INTEGER: positive, 64 bits to 20 octets. See
// IdentityValidity for v.
//
// Everything but serial number and validity follows from the tables, so that
// nothing else can be certified under the ledger key.
func IdentityTBS(state ledger.State, subject envelope.KeyID, alg threshold.Algorithm, v Validity, serial []byte) ([]byte, error) {
	key, ok := state.LedgerKey()
	if !ok {
		return nil, fmt.Errorf("%w: the tables have no ledger key", ErrIdentity)
	}
	root, err := parseRoot(key.Certificate, &key)
	if err != nil {
		return nil, err
	}
	s, err := lookUp(state, subject)
	if err != nil {
		return nil, err
	}
	return s.tbs(state, root, alg, v, serial)
}

// IdentityValidity returns the longest validity, from now on and up to days,
// that IdentityTBS may be given for subject: within the root's, within what
// the ledger key may certify, and for an officer not beyond his registration.
func IdentityValidity(state ledger.State, subject envelope.KeyID, days uint64, now int64) (Validity, error) {
	key, ok := state.LedgerKey()
	if !ok {
		return Validity{}, fmt.Errorf("%w: the tables have no ledger key", ErrIdentity)
	}
	root, err := parseRoot(key.Certificate, &key)
	if err != nil {
		return Validity{}, err
	}
	s, err := lookUp(state, subject)
	if err != nil {
		return Validity{}, err
	}
	v := Validity{max(now, root.tbs.NotBefore), root.tbs.NotAfter}
	v.NotAfter = min(v.NotAfter, v.NotBefore+int64(min(days, key.MaxDays))*day-1)
	if s.officer {
		v.NotAfter = min(v.NotAfter, s.expires-1)
	}
	if v.NotAfter <= v.NotBefore {
		return Validity{}, fmt.Errorf("%w: nothing is left of the validity of the root or of the registration", ErrValidity)
	}
	return v, nil
}

// identitySubject is a key of the tables and whom it belongs to.
type identitySubject struct {
	id      ledger.Identity
	name    Name
	spki    []byte
	officer bool
	expires int64 // of an officer's longest registration
	lines   []string
}

// lookUp finds the key and says who its owner is.
func lookUp(state ledger.State, subject envelope.KeyID) (*identitySubject, error) {
	id, ok := state.Identity(subject)
	if !ok {
		return nil, fmt.Errorf("%w: key %s is not in the tables", ErrIdentity, subject)
	}
	if id.Use != ledger.UseSign && id.Use != ledger.UseAgree {
		return nil, fmt.Errorf("%w: key %s is a %s key, which gets no certificate", ErrIdentity, subject, id.Use)
	}
	s := &identitySubject{id: id, name: Name{Organization: state.Name()}}
	pick := func(sign, agree []byte) []byte {
		if id.Use == ledger.UseSign {
			return sign
		}
		return agree
	}
	switch id.Kind {
	case ledger.OwnerDevice:
		d, ok := state.Device(id.Owner)
		if !ok {
			return nil, fmt.Errorf("%w: device %q is not in the tables", ErrIdentity, id.Owner)
		}
		s.spki = pick(d.Sign, d.Agree)
		s.name.OrganizationalUnit, s.name.UserID, s.name.CommonName = "signing device", d.ID, d.Name
		s.lines = []string{"device " + d.ID, "name " + d.Name, "token " + d.Model + " " + d.Serial}
	case ledger.OwnerPerson:
		p, c, ok := state.PersonOfKey(subject)
		if !ok || c.Serial == 0 || c.Serial != id.Card {
			return nil, fmt.Errorf("%w: key %s is on no card", ErrIdentity, subject)
		}
		for _, row := range state.Registrations(p.ID) {
			if row.Card == c.Serial {
				s.officer, s.expires = true, max(s.expires, row.Expires)
				s.lines = append(s.lines, row.Class+" of device "+row.Device+" until "+formatTime(row.Expires))
			}
		}
		if !s.officer {
			return nil, fmt.Errorf("%w: card %d of person %q is registered at no device", ErrIdentity, c.Serial, p.ID)
		}
		s.spki = pick(c.Sign, c.Agree)
		s.name.OrganizationalUnit, s.name.Title = "officer", p.Title
		s.name.UserID, s.name.CommonName = p.ID, p.Name
		s.name.SerialNumber = strconv.FormatUint(uint64(c.Serial), 10)
		s.lines = append([]string{"person " + p.ID, "name " + p.Name, fmt.Sprintf("card %d (%s)", c.Serial, c.Model)}, s.lines...)
	default:
		return nil, fmt.Errorf("%w: key %s belongs to a %s", ErrIdentity, subject, id.Kind)
	}
	if envelope.KeyIDOfSPKI(s.spki) != subject {
		return nil, fmt.Errorf("%w: the tables disagree about key %s", ErrIdentity, subject)
	}
	return s, nil
}

// tbs makes the certificate. The alternative name carries the system's id:
// names of people and devices may repeat from system to system.
func (s *identitySubject) tbs(state ledger.State, root *root, alg threshold.Algorithm, v Validity, serial []byte) ([]byte, error) {
	if err := checkSerial(serial); err != nil {
		return nil, err
	}
	algorithm, err := AlgorithmIdentifier(alg)
	if err != nil {
		return nil, err
	}
	subject, err := s.name.Marshal()
	if err != nil {
		return nil, err
	}
	id, err := KeyIdentifier(s.spki)
	if err != nil {
		return nil, err
	}
	usage := uint16(KeyUsageDigitalSignature)
	if s.id.Use == ledger.UseAgree {
		usage = KeyUsageKeyAgreement
	}
	owner := strings.ReplaceAll(s.id.Owner, "#", "%23") // the only character of an id that a URI reserves
	uri := fmt.Sprintf("urn:privyseal:%s:%s:%s:%s", state.System(), s.id.Kind, owner, s.id.Use)
	t := &TBS{
		Serial: serial, Algorithm: algorithm, Issuer: root.tbs.Subject, NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		Subject: subject, SPKI: s.spki,
		Extensions: []Extension{EndEntity(), KeyUsage(usage), uriName(uri), SubjectKeyID(id), AuthorityKeyID(root.keyID)},
	}
	return t.Marshal()
}

// checkIdentity makes the certificate again from the tables and compares.
func checkIdentity(state ledger.State, req *Request, key *ledger.Key, now int64) (*content, error) {
	if err := req.only(fieldDocument); err != nil {
		return nil, err
	}
	root, err := parseRoot(key.Certificate, key)
	if err != nil {
		return nil, err
	}
	t, err := readIssued(req.Document, req.Algorithm, root)
	if err != nil {
		return nil, err
	}
	s, err := lookUp(state, envelope.KeyIDOfSPKI(t.SPKI))
	if err != nil {
		return nil, err
	}
	again, err := s.tbs(state, root, req.Algorithm, Validity{t.NotBefore, t.NotAfter}, t.Serial)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, req.Document) {
		return nil, fmt.Errorf("%w: it differs from what the tables say about %s %q", ErrIdentity, s.id.Kind, s.id.Owner)
	}
	if err := checkValidity(t, root, key.MaxDays, now); err != nil {
		return nil, err
	}
	if s.officer && t.NotAfter >= s.expires {
		return nil, fmt.Errorf("%w: it ends after the officer's registration, at %s", ErrValidity, formatTime(s.expires))
	}
	return &content{issuer: root, view: func(v *View) { identityView(v, s, t) }}, nil
}

// VerifyIdentity checks a whole identity certificate in DER, against the tables
// and under the ledger key's root, and says whose it is. It does not look at
// the validity, which is returned.
func VerifyIdentity(state ledger.State, der []byte) (ledger.Identity, Validity, error) {
	fail := func(err error) (ledger.Identity, Validity, error) {
		return ledger.Identity{}, Validity{}, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	key, ok := state.LedgerKey()
	if !ok {
		return fail(errors.New("the tables have no ledger key"))
	}
	root, err := parseRoot(key.Certificate, &key)
	if err != nil {
		return fail(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	t, err := ParseTBS(c.RawTBSCertificate)
	if err != nil {
		return fail(err)
	}
	s, err := lookUp(state, envelope.KeyIDOfSPKI(t.SPKI))
	if err != nil {
		return fail(err)
	}
	v := Validity{t.NotBefore, t.NotAfter}
	for _, alg := range key.Algorithms {
		again, err := s.tbs(state, root, threshold.Algorithm(alg), v, t.Serial)
		if err != nil || !bytes.Equal(again, c.RawTBSCertificate) {
			continue
		}
		if err := c.CheckSignatureFrom(root.x509); err != nil {
			return fail(err)
		}
		return s.id, v, nil
	}
	return fail(fmt.Errorf("it differs from what the tables say about %s %q", s.id.Kind, s.id.Owner))
}

// checkEntry checks a command of the ledger: the next one, of a known kind.
func checkEntry(state ledger.State, req *Request, now int64) (*content, error) {
	if err := req.only(fieldDocument); err != nil {
		return nil, err
	}
	if len(req.Document) > maxEntry {
		return nil, fmt.Errorf("%w: an entry of %d octets, more than %d", ErrRequest, len(req.Document), maxEntry)
	}
	e, err := ledger.CheckDraft(state, req.Document)
	if err != nil {
		return nil, err
	}
	// Devices' clocks never fall below the ledger's: an entry from the future
	// would expire every request of the system.
	if e.Created > now+maxClockSkew {
		return nil, fmt.Errorf("%w: the entry is from %s", ErrNotYet, formatTime(e.Created))
	}
	if e.Kind == ledger.KindDealing {
		d, err := ledger.DecodeDealing(e.Body)
		if err != nil {
			return nil, err
		}
		// The tables ask for less than devices do of a root from the ceremony's lead.
		if err := VerifyRoot(d.Key.Certificate, &d.Key.Public); err != nil {
			return nil, err
		}
	}
	return &content{signed: ledger.ToBeSigned(req.Document), view: func(v *View) { entryView(v, state, e) }}, nil
}
