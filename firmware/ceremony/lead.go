package ceremony

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// typeCode is A10's "type code identifying the key as a signature key share".
const typeCode = "rsa signature key share"

// deal is stage 3 at the lead (A10, Fig. 5): it makes one key from everyone's
// seeds, signs the key's root certificate, splits the key and erases it. The
// whole key exists between two lines of this function and never on a disk: a
// crash here means a new attempt with new seeds.
func (s *Session) deal(in Inputs, m Deal) (*Answer, error) {
	switch {
	case s.stage != onRoster:
		return nil, ErrOutOfOrder
	case s.open.Plan().Lead != s.local.ID:
		return nil, fmt.Errorf("ceremony: device %s is not the lead", s.local.ID)
	case m.Roster != s.roster.digest:
		return nil, fmt.Errorf("%w: another roster is in force", ErrOutOfOrder)
	}
	p := s.open.Plan()
	k := p.key(m.Key)
	if k == nil {
		return nil, fmt.Errorf("ceremony: key %q is not in the plan", m.Key)
	}
	if _, ok := s.dealt[k.ID]; ok {
		return nil, fmt.Errorf("%w: key %q was dealt; a lost dealing means a new attempt", ErrOutOfOrder, k.ID)
	}
	if err := s.collectSeeds(m.Joined); err != nil {
		return nil, err
	}
	drbg, err := s.seedReader(k.ID)
	if err != nil {
		return nil, err
	}
	defer drbg.Wipe()
	whole, err := threshold.GenerateKey(drbg, int(k.Bits), k.SafePrimes, nil)
	if err != nil {
		return nil, err
	}
	defer whole.Wipe()
	key := ledger.Key{
		ID: k.ID, Name: k.Name, Family: k.Family, Scheme: k.Scheme, T: k.T, N: uint64(len(k.Devices)),
		Public: *whole.Public(), SafePrimes: k.SafePrimes, Epoch: 1, Algorithms: k.Algorithms,
		AllowDigest: k.AllowDigest, MaxDays: k.MaxDays, Holders: p.holders(k),
	}
	if k.Family != ledger.FamilyFile {
		if key.Certificate, err = rootCertificate(in, p.Name, k, whole); err != nil {
			return nil, err
		}
	}
	// The randomness of the split is the lead's own: the seeds determine the
	// key (same seeds, same modulus), not who gets which share of it.
	shares, commitment, err := threshold.Deal(in.Rand, whole, k.Split())
	if err != nil {
		return nil, err
	}
	whole.Wipe()
	key.Commitment = *commitment
	defer func() {
		for _, sh := range shares {
			sh.Wipe()
		}
	}()
	out := Dealt{Roster: s.roster.digest, Key: key}
	for i, h := range key.Holders {
		sealed, err := s.sealTo(in, s.roster.oneTimeKey(h.Device), TypeShare, ShareMessage{
			TypeCode: typeCode, Roster: s.roster.digest, Key: key.ID, Epoch: key.Epoch, ShareID: h.Share,
			N: key.N, T: key.T, Holders: key.Holders, Officers: s.officerKeys(h.Device),
			Modulus: key.Public.N, Share: shares[i],
		})
		if err != nil {
			return nil, err
		}
		out.Shares = append(out.Shares, SealedShare{Device: h.Device, Sealed: sealed})
	}
	s.dealt[k.ID] = key
	if len(s.dealt) == len(p.Keys) {
		for _, v := range s.seeds {
			v.Wipe()
		}
	}
	return &Answer{Type: TypeDealt, Payload: out}, nil
}

// collectSeeds opens every device's seed, once an attempt.
func (s *Session) collectSeeds(joined [][]byte) error {
	if s.seeds != nil {
		return nil
	}
	p := s.open.Plan()
	if len(joined) != len(p.Devices) {
		return fmt.Errorf("ceremony: %d devices joined of %d", len(joined), len(p.Devices))
	}
	seeds := map[string]threshold.Secret{}
	for i, d := range p.Devices {
		var j Joined
		if err := s.verifyFrom(d.ID, TypeJoined, joined[i], &j); err != nil {
			return err
		}
		var seed Seed
		if err := s.openFrom(d.ID, TypeSeed, j.Seed, &seed); err != nil {
			return fmt.Errorf("ceremony: seed of device %s: %w", d.ID, err)
		}
		switch {
		case j.Roster != s.roster.digest || seed.Roster != s.roster.digest:
			return fmt.Errorf("ceremony: seed of device %s is for another roster", d.ID)
		case seed.Device != d.ID:
			return fmt.Errorf("ceremony: device %s passed on the seed of %s", d.ID, seed.Device)
		case seed.Value.Len() != SeedSize:
			return fmt.Errorf("ceremony: seed of device %s has %d bytes, not %d", d.ID, seed.Value.Len(), SeedSize)
		}
		seeds[d.ID] = seed.Value
	}
	s.seeds = seeds
	return nil
}

// seedReader is the generator from which a key's primes come: a function of
// all seeds, in the order of device ids, and of what the key is for.
func (s *Session) seedReader(key string) (*threshold.SeedReader, error) {
	var seeds []threshold.Seed
	for _, id := range sortedKeys(s.seeds) {
		seeds = append(seeds, threshold.Seed{ID: id, Value: s.seeds[id]})
	}
	return threshold.NewSeedReader("privyseal ceremony key "+key, seeds)
}

// rootCertificate makes the key's own root certificate while the key is whole.
func rootCertificate(in Inputs, system string, k *PlanKey, whole *threshold.WholeKey) ([]byte, error) {
	return document.SignRoot(in.Rand, whole, document.Name{Organization: system, CommonName: k.Name},
		threshold.Algorithm(k.Algorithms[0]), document.Validity{NotBefore: in.Now, NotAfter: in.Now + int64(k.RootDays)*86400})
}

// officerKeys lists the signing keys that may authorize a device.
func (s *Session) officerKeys(device string) [][]byte {
	var out [][]byte
	for _, o := range s.open.Plan().officersOf(device) {
		card, _ := s.roster.CardOf(o.Card)
		id := envelope.KeyIDOfSPKI(card.Sign)
		out = append(out, id[:])
	}
	return out
}

// checkDealt verifies what the lead published of a key against the plan.
func (s *Session) checkDealt(raw []byte) (*Dealt, error) {
	p := s.open.Plan()
	var d Dealt
	if err := s.verifyFrom(p.Lead, TypeDealt, raw, &d); err != nil {
		return nil, err
	}
	k := p.key(d.Key.ID)
	if k == nil {
		return nil, fmt.Errorf("ceremony: the lead dealt key %q, which is not in the plan", d.Key.ID)
	}
	bad := func(what string) error { return fmt.Errorf("ceremony: the lead's dealing of key %s: %s", k.ID, what) }
	g := &d.Key
	switch {
	case d.Roster != s.roster.digest:
		return nil, bad("is for another roster")
	case g.Name != k.Name, g.Family != k.Family, g.Scheme != k.Scheme, g.T != k.T, g.N != uint64(len(k.Devices)),
		g.SafePrimes != k.SafePrimes, g.AllowDigest != k.AllowDigest, g.MaxDays != k.MaxDays, g.Epoch != 1,
		!slices.Equal(g.Algorithms, k.Algorithms), !slices.Equal(g.Holders, p.holders(k)):
		return nil, bad("differs from the plan")
	case g.Public.Bits() != int(k.Bits):
		return nil, bad(fmt.Sprintf("modulus has %d bits, the plan asks for %d", g.Public.Bits(), k.Bits))
	case len(d.Shares) != len(g.Holders):
		return nil, bad("does not serve every holder")
	}
	if err := g.Public.Validate(); err != nil {
		return nil, bad(err.Error())
	}
	if err := checkCommitment(g); err != nil {
		return nil, bad(err.Error())
	}
	if k.Family != ledger.FamilyFile {
		if err := document.VerifyRoot(g.Certificate, &g.Public); err != nil {
			return nil, bad("root certificate: " + err.Error())
		}
	} else if len(g.Certificate) > 0 {
		return nil, bad("a key for files has no root certificate")
	}
	if _, ok := s.dealt[k.ID]; ok && s.open.Plan().Lead != s.local.ID {
		return nil, fmt.Errorf("%w: key %q was dealt already", ErrOutOfOrder, k.ID)
	}
	return &d, nil
}

// checkCommitment checks that what the lead published of a key's sub-shares is
// complete, and for additive sharing that it adds up to the private exponent.
func checkCommitment(k *ledger.Key) error {
	if k.Scheme == threshold.Additive {
		return k.Commitment.CheckDealing(&k.Public, k.Split())
	}
	return k.Commitment.Validate(&k.Public, k.Split())
}

var errShareFacts = errors.New("ceremony: the lead's share message states other facts than its dealing")
