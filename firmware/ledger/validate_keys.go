package ledger

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold"
)

func (t *tables) checkKeys() error {
	g := &t.genesis
	t.ledgerKey = -1
	shares := make(map[string]int) // by device
	for i := range g.Keys {
		k := &g.Keys[i]
		if err := t.claimID("key", k.ID); err != nil {
			return err
		}
		where := fmt.Sprintf("key %q", k.ID)
		t.keys[k.ID] = i
		if err := checkName("name", k.Name, maxName); err != nil {
			return invalid(where, "%v", err)
		}
		if k.Epoch == 0 {
			return invalid(where, "epoch is 0, epochs count from 1")
		}
		if k.Family == FamilyLedger {
			if t.ledgerKey >= 0 {
				return invalid(where, "is of family %q like key %q: a system has one authority", FamilyLedger, g.Keys[t.ledgerKey].ID)
			}
			t.ledgerKey = i
		}
		for _, check := range []func(*Key) error{checkFamily, checkSplit, checkAlgorithms, checkPublic, t.checkRoot} {
			if err := check(k); err != nil {
				return invalid(where, "%v", err)
			}
		}
		for j := range i {
			if err := checkModuli(k, &g.Keys[j]); err != nil {
				return invalid(where, "%v", err)
			}
		}
		if err := k.Commitment.CheckDealing(&k.Public, k.Split()); err != nil {
			return invalid(where, "commitment: %v", err)
		}
		if err := t.checkHolders(k); err != nil {
			return err
		}
		for _, h := range k.Holders {
			if shares[h.Device]++; shares[h.Device] > MaxSharesOfDevice {
				return invalid(fmt.Sprintf("device %q", h.Device), "holds more than %d shares", MaxSharesOfDevice)
			}
		}
	}
	if t.ledgerKey < 0 {
		return invalid("system", "no key is of family %q: nothing could ever change", FamilyLedger)
	}
	return t.checkFaults()
}

// checkFamily holds the fields that follow from what a key may sign (design §4).
func checkFamily(k *Key) error {
	switch k.Family {
	case FamilyLedger, FamilyCertificate:
		if k.MaxDays == 0 || k.MaxDays > maxCertifyDays {
			return fmt.Errorf("may certify for %d days where 1 to %d are possible", k.MaxDays, maxCertifyDays)
		}
		if k.AllowDigest {
			return fmt.Errorf("family %q cannot allow bare digests: officers would sign certificates blind", k.Family)
		}
	case FamilyFile:
		if k.MaxDays != 0 {
			return fmt.Errorf("family %q certifies nothing, yet for %d days", k.Family, k.MaxDays)
		}
	default:
		return fmt.Errorf("family %.32q is unknown", k.Family)
	}
	return nil
}

// checkSplit refuses what the mathematics allows and the system does not: a device that signs alone.
func checkSplit(k *Key) error {
	if k.Scheme == threshold.TwoLayer || k.Layers != nil {
		return fmt.Errorf("scheme %v, or layers: no ceremony deals a key in two layers, an entry of kind %q brings it", k.Scheme, KindDealing)
	}
	if err := k.Split().Validate(); err != nil {
		return err
	}
	if k.T < 2 {
		return fmt.Errorf("%d of %d devices sign: no signature may depend on one machine, at least 2", k.T, k.N)
	}
	if k.Scheme == threshold.Multiplicative && k.T > 2 && !k.SafePrimes {
		// A device in the middle of a chain demands a proof (row P3), and proofs are sound only in a group without small subgroups.
		return fmt.Errorf("sequential signing by %d devices needs proofs, and proofs need safe primes", k.T)
	}
	return nil
}

func checkAlgorithms(k *Key) error {
	if len(k.Algorithms) == 0 {
		return fmt.Errorf("no algorithm is allowed")
	}
	for i, a := range k.Algorithms {
		if threshold.Algorithm(a).Hash() == 0 {
			return fmt.Errorf("algorithm %.16q is unknown", a)
		}
		if slices.Contains(k.Algorithms[:i], a) {
			return fmt.Errorf("algorithm %q is listed twice", a)
		}
	}
	return nil
}

func checkPublic(k *Key) error { return k.Public.Validate() }

// checkModuli refuses two keys that share a modulus or a prime. Equal moduli would let a key of one family sign for the other;
// a common prime factors both.
func checkModuli(a, b *Key) error {
	x, y := new(big.Int).SetBytes(a.Public.N), new(big.Int).SetBytes(b.Public.N)
	if x.Cmp(y) == 0 {
		return fmt.Errorf("has the modulus of key %q", b.ID)
	}
	if new(big.Int).GCD(nil, nil, x, y).Cmp(big.NewInt(1)) != 0 {
		return fmt.Errorf("shares a prime with key %q: both are broken", b.ID)
	}
	return nil
}

// certificateAlgorithms are the names of X.509 signature algorithms in JOSE.
var certificateAlgorithms = map[x509.SignatureAlgorithm]string{
	x509.SHA256WithRSA: "RS256", x509.SHA384WithRSA: "RS384", x509.SHA512WithRSA: "RS512",
	x509.SHA256WithRSAPSS: "PS256", x509.SHA384WithRSAPSS: "PS384", x509.SHA512WithRSAPSS: "PS512",
}

func (t *tables) checkRoot(k *Key) error { return checkCertificate(k, t.genesis.Created) }

// checkCertificate looks at the root that was made before the split (row A10): a certificate authority's, of this very key, signed by
// it. The key came to be at created.
func checkCertificate(k *Key, created int64) error {
	if k.Family == FamilyFile {
		if len(k.Certificate) != 0 {
			return fmt.Errorf("family %q has a certificate, which is a signature of another family", k.Family)
		}
		return nil
	}
	if len(k.Certificate) == 0 {
		return fmt.Errorf("root certificate is missing")
	}
	c, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	pub, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || !pub.Equal(k.Public.RSA()) {
		return fmt.Errorf("root certificate is of another public key")
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return fmt.Errorf("root certificate is not signed by its own key: %w", err)
	}
	switch {
	case !slices.Contains(k.Algorithms, certificateAlgorithms[c.SignatureAlgorithm]):
		return fmt.Errorf("root certificate is signed with %v, which the key does not allow", c.SignatureAlgorithm)
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("root certificate is not a certificate authority's")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("root certificate does not allow certificates to be signed")
	case !slices.Equal(c.RawSubject, c.RawIssuer):
		return fmt.Errorf("root certificate names another issuer")
	case !c.NotAfter.After(c.NotBefore):
		return fmt.Errorf("root certificate has no validity")
	case c.NotAfter.Unix() <= created:
		return fmt.Errorf("root certificate has expired before the key was made")
	}
	return nil
}

// checkHolders demands the indices 1..N exactly, each at a device of its own.
func (t *tables) checkHolders(k *Key) error {
	where := fmt.Sprintf("key %q", k.ID)
	if uint64(len(k.Holders)) != k.N {
		return invalid(where, "%d holders for %d shares", len(k.Holders), k.N)
	}
	indices, devices := make(map[uint64]string), make(map[string]bool)
	for i, h := range k.Holders {
		where := fmt.Sprintf("key %q, share %.64q", k.ID, h.Share)
		if err := t.claimID("share", h.Share); err != nil {
			return err
		}
		if h.Index < 1 || h.Index > k.N {
			return invalid(where, "index %d is not 1 to %d", h.Index, k.N)
		}
		if other, ok := indices[h.Index]; ok {
			return invalid(where, "index %d is also that of share %q", h.Index, other)
		}
		if h.Index != uint64(i+1) { // Holders[i−1] is looked up for index i
			return invalid(where, "index %d at place %d: holders are listed by index", h.Index, i+1)
		}
		indices[h.Index] = h.Share
		if _, ok := t.devices[h.Device]; !ok {
			return invalid(where, "device %.64q is unknown", h.Device)
		}
		if devices[h.Device] {
			return invalid(where, "device %q holds two shares of the key", h.Device)
		}
		devices[h.Device] = true
		if h.Layer != 0 || h.Version != 0 {
			return invalid(where, "layer %d, version %d: only keys in two layers have them", h.Layer, h.Version)
		}
		if err := h.checkQuorum(); err != nil {
			return invalid(where, "%v", err)
		}
	}
	return nil
}

// checkQuorum demands 2 ≤ L ≤ quorum ≤ M: row A21 and the length of the officers' key sharing. A quorum below L could never open the
// share, one above M could never assemble.
func (h Holder) checkQuorum() error {
	switch {
	case h.Quorum < MinQuorum:
		return fmt.Errorf("quorum is %d officers, at least %d", h.Quorum, MinQuorum)
	case h.Threshold < MinQuorum:
		return fmt.Errorf("%d pieces open the share, at least %d", h.Threshold, MinQuorum)
	case h.Threshold > h.Quorum:
		return fmt.Errorf("%d pieces open the share, more than the quorum of %d", h.Threshold, h.Quorum)
	case h.Quorum > h.Pieces:
		return fmt.Errorf("quorum of %d officers, but %d pieces", h.Quorum, h.Pieces)
	case h.Pieces > MaxOfficersOfDevice:
		return fmt.Errorf("%d pieces, at most %d", h.Pieces, MaxOfficersOfDevice)
	}
	return nil
}

// Faults is the number of lying devices that a vote of q of n devices tolerates: two quorums of q share at least 2q−n devices, and
// one of those must be honest (design §4). Negative if two quorums need not meet.
func Faults(n, q uint64) int64 { return 2*int64(q) - int64(n) - 1 }

func (t *tables) checkFaults() error {
	k := &t.genesis.Keys[t.ledgerKey]
	where := fmt.Sprintf("key %q", k.ID)
	switch f := Faults(k.N, k.T); {
	case f < 0:
		return invalid(where, "%d of %d devices decide: two quorums could decide differently", k.T, k.N)
	case f == 0 && !t.genesis.AcknowledgeNoFault:
		return invalid(where, "%d of %d devices decide, which tolerates no lying device (f = 2·%d − %d − 1 = 0): raise the quorum, or acknowledge it", k.T, k.N, k.T, k.N)
	}
	return nil
}

func (t *tables) checkOfficers() error {
	g := &t.genesis
	atDevice := make(map[[2]string]bool) // person, device
	perDevice := make(map[string]int)
	serves := make(map[[2]string]string) // person, key → device
	for _, o := range g.Officers {
		where := fmt.Sprintf("officer %.64q at device %.64q", o.Person, o.Device)
		if err := t.checkOfficer(&o); err != nil {
			return invalid(where, "%v", err)
		}
		if o.Expires <= g.Created {
			return invalid(where, "has expired before the system began")
		}
		if atDevice[[2]string{o.Person, o.Device}] {
			return invalid(where, "is registered twice: one card of a person for each device")
		}
		atDevice[[2]string{o.Person, o.Device}] = true
		if perDevice[o.Device]++; perDevice[o.Device] > MaxOfficersOfDevice {
			return invalid(where, "device has more than %d officers", MaxOfficersOfDevice)
		}
		if len(o.Keys) == 0 {
			return invalid(where, "may approve for no key")
		}
		for j, id := range o.Keys {
			k, ok := t.keys[id]
			if !ok {
				return invalid(where, "key %.64q is unknown", id)
			}
			if slices.Contains(o.Keys[:j], id) {
				return invalid(where, "key %q is listed twice", id)
			}
			if _, ok := holderOf(&g.Keys[k], o.Device); !ok {
				return invalid(where, "the device holds no share of key %q", id)
			}
			if other, ok := serves[[2]string{o.Person, id}]; ok && !g.SharedOfficers {
				return invalid(where, "also serves device %q of key %q: one person could stand for two devices", other, id)
			}
			serves[[2]string{o.Person, id}] = o.Device
		}
	}
	return nil
}

// checkOfficer looks at what a row says of a person, whichever key it is for.
func (t *tables) checkOfficer(o *Officer) error {
	i, ok := t.persons[o.Person]
	if !ok {
		return fmt.Errorf("person is unknown")
	}
	if _, ok := t.devices[o.Device]; !ok {
		return fmt.Errorf("device is unknown")
	}
	if len(t.genesis.Persons[i].Cards) == 0 {
		return fmt.Errorf("person has no card and may only make requests")
	}
	if owner, ok := t.cards[o.Card]; !ok || owner != o.Person {
		return fmt.Errorf("card %d is not the person's", o.Card)
	}
	if o.Person == t.genesis.Ceremony.Administrator {
		return fmt.Errorf("the temporary administrator's power ends with the ceremony: he cannot be an officer")
	}
	if o.Class != ClassOfficer && o.Class != ClassAdministrator {
		return fmt.Errorf("class %.32q is unknown", o.Class)
	}
	return checkTime("expires", o.Expires)
}

// checkQuorums compares quorums with the officers there are, at the moment of the genesis.
func (t *tables) checkQuorums() error {
	g := &t.genesis
	for _, k := range g.Keys {
		for _, h := range k.Holders {
			n := uint64(0)
			for _, o := range g.Officers { // all live, one row a person: checkOfficers
				if o.Device == h.Device && slices.Contains(o.Keys, k.ID) {
					n++
				}
			}
			where := fmt.Sprintf("key %q, share %q", k.ID, h.Share)
			if n < h.Quorum {
				return invalid(where, "device %q has %d officers for the key, fewer than the quorum of %d", h.Device, n, h.Quorum)
			}
			if n != h.Pieces {
				return invalid(where, "%d pieces for %d officers: each officer holds one", h.Pieces, n)
			}
		}
	}
	for _, d := range g.Devices {
		n := uint64(0)
		for _, o := range g.Officers {
			if o.Device == d.ID {
				n++
			}
		}
		if d.UnlockQuorum > n {
			return invalid(fmt.Sprintf("device %q", d.ID), "%d officers are to unlock it, it has %d", d.UnlockQuorum, n)
		}
	}
	return nil
}

func holderOf(k *Key, device string) (Holder, bool) {
	for _, h := range k.Holders {
		if h.Device == device {
			return h, true
		}
	}
	return Holder{}, false
}
