package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

func checkDealingEntry(s State, e *Entry) (effect, error) {
	var d Dealing
	if err := envelope.Unmarshal(e.Body, &d); err != nil {
		return nil, err
	}
	// The confirmation first: what follows takes a device's time, and only an operator's card gets so far.
	if err := checkConfirmation(s, &d, e.Created); err != nil {
		return nil, err
	}
	a, err := checkDealing(s, &d, e.Created)
	if err != nil {
		return nil, err
	}
	return func(s State) State { return s.withAuthority(a) }, nil
}

// CheckDealing refuses a dealing that an entry created at now could not bring into s. Devices call it before they store a share of it.
func CheckDealing(s State, d *Dealing, now int64) error {
	if err := checkConfirmation(s, d, now); err != nil {
		return fmt.Errorf("ledger: dealing: %w", err)
	}
	return CheckUnconfirmed(s, d, now)
}

// CheckUnconfirmed is CheckDealing but for the operator's confirmation, for which it leaves room: the distributor calls it before it asks
// for that.
func CheckUnconfirmed(s State, d *Dealing, now int64) error {
	bare := *d
	bare.Confirmation = nil
	raw, err := envelope.Marshal(&bare)
	if err != nil {
		return fmt.Errorf("ledger: dealing: %w", err)
	}
	if len(raw) > maxUnconfirmed {
		return fmt.Errorf("ledger: dealing: has %d bytes without its confirmation, and an entry has room for %d: deal to fewer machines, or with fewer combinations",
			len(raw), maxUnconfirmed)
	}
	if _, err := checkDealing(s, d, now); err != nil {
		return fmt.Errorf("ledger: dealing: %w", err)
	}
	return nil
}

// dealt is a dealing under check.
type dealt struct {
	*Dealing
	s    State
	t    *tables
	prev *authority // nil for a first revision
	at   int64      // the entry's time
	next *authority // what the row becomes
	// grows says that there is a new machine or combination.
	grows bool
}

func (x *dealt) where(format string, args ...any) string {
	return fmt.Sprintf("enterprise %d, ", x.Enterprise.Code) + fmt.Sprintf(format, args...)
}

// checkDealing checks all but the confirmation and returns the row that the dealing makes, which shares no memory with d.
func checkDealing(s State, d *Dealing, at int64) (*authority, error) {
	c := d.clone()
	x := &dealt{Dealing: &c, s: s, t: s.tables(), at: at}
	x.prev = s.authority(d.Enterprise.Code)
	for _, check := range []func() error{
		x.checkEnterprise, x.checkTimes, x.checkKey, x.checkHolders, x.checkGrowth, x.checkCounted, x.checkGrouping, x.checkOfficers, x.checkDistributors,
		x.checkReserve, x.checkDestruction,
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	x.next.dealing = c
	return x.next, nil
}

func (x *dealt) checkEnterprise() error {
	e := x.Enterprise
	if e.Code < 1 || e.Code > MaxEnterpriseCode {
		return fmt.Errorf("enterprise code %d is not 1 to %d", e.Code, MaxEnterpriseCode)
	}
	if err := checkName("name", e.Name, maxName); err != nil {
		return fmt.Errorf("%s%v", x.where(""), err)
	}
	for _, a := range x.s.authorities {
		if o := a.dealing.Enterprise; o.Code != e.Code && strings.EqualFold(o.Name, e.Name) {
			return fmt.Errorf("%s", x.where("name %q is also that of enterprise %d: people could not tell them apart", e.Name, o.Code))
		}
	}
	switch {
	case x.prev == nil && x.Revision != 1:
		return fmt.Errorf("%s", x.where("revision %d of an authority that is not in the ledger: the first is 1", x.Revision))
	case x.prev == nil && len(x.s.authorities) >= MaxEnterprises:
		return fmt.Errorf("there are %d enterprises already, no more are possible", len(x.s.authorities))
	case x.prev == nil && len(x.s.allKeys()) >= maxKeys:
		return fmt.Errorf("there are %d keys already, no more are possible", len(x.s.allKeys()))
	case x.prev == nil:
		return nil
	case x.Revision != x.prev.dealing.Revision+1:
		return fmt.Errorf("%s", x.where("revision %d where %d follows: deal again from the ledger as it is", x.Revision, x.prev.dealing.Revision+1))
	case x.Revision > MaxRevisions:
		return fmt.Errorf("%s", x.where("revision %d, at most %d: deal a new authority", x.Revision, MaxRevisions))
	case e.Name != x.prev.dealing.Enterprise.Name:
		return fmt.Errorf("%s", x.where("name %q, in the ledger %q: it never changes", e.Name, x.prev.dealing.Enterprise.Name))
	}
	return nil
}

func (x *dealt) checkTimes() error {
	if err := checkTime("dealt at", x.Created); err != nil {
		return fmt.Errorf("%s%v", x.where(""), err)
	}
	low := x.t.genesis.Created
	if x.prev != nil {
		low = x.prev.dealing.Created
	}
	if x.Created < low || x.Created > x.at {
		return fmt.Errorf("%s", x.where("dealt at %d, not between %d and this entry (%d): compare the distributor's clock", x.Created, low, x.at))
	}
	return nil
}

// checkKey looks at the key's row but for its holders.
func (x *dealt) checkKey() error {
	k := &x.Key
	where := x.where("key %.64q: ", k.ID)
	if x.prev == nil {
		if err := x.claim("key", k.ID, maxID); err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
	}
	if err := checkName("name", k.Name, maxName); err != nil {
		return fmt.Errorf("%s%w", where, err)
	}
	switch {
	case k.Family != FamilyCertificate:
		return fmt.Errorf("%sfamily %.32q: an authority in two layers is of family %q", where, k.Family, FamilyCertificate)
	case k.Scheme != threshold.TwoLayer:
		return fmt.Errorf("%sscheme %v: a dealing brings a key in two layers", where, k.Scheme)
	case k.Layers == nil:
		return fmt.Errorf("%slayers are missing", where)
	case k.Epoch != 1:
		return fmt.Errorf("%sepoch %d: a dealt key has epoch 1, and revisions", where, k.Epoch)
	case len(k.Commitment.G) != 0 || len(k.Commitment.V) != 0:
		return fmt.Errorf("%shas a commitment of a key in one layer: its check values are in the layers", where)
	case k.T < 2:
		return fmt.Errorf("%s%d of %d calculators sign: no signature may depend on one machine, at least 2", where, k.T, k.N)
	case k.T > k.N:
		return fmt.Errorf("%s%d of %d calculators cannot sign", where, k.T, k.N)
	case k.T == k.N && x.prev == nil:
		// B [0063]: t < k. A revision may come to it by taking away a calculator that was broken.
		return fmt.Errorf("%sall of %d calculators have to sign: deal to more than t, so that one may fail", where, k.N)
	}
	for _, check := range []func(*Key) error{checkFamily, checkAlgorithms, checkPublic} {
		if err := check(k); err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
	}
	if x.prev != nil {
		return x.checkSameKey(where)
	}
	if err := checkCertificate(k, x.Created); err != nil {
		return fmt.Errorf("%s%w", where, err)
	}
	for _, other := range x.s.allKeys() {
		if err := checkModuli(k, other); err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
	}
	return nil
}

// checkSameKey refuses a revision that changes more of the key than its machines.
func (x *dealt) checkSameKey(where string) error {
	k, old := &x.Key, &x.prev.dealing.Key
	for _, f := range []struct {
		name string
		same bool
	}{
		{"id", k.ID == old.ID},
		{"name", k.Name == old.Name},
		{"number of calculators that sign (t)", k.T == old.T},
		{"public key", k.Public.E == old.Public.E && bytes.Equal(k.Public.N, old.Public.N)},
		{"kind of primes", k.SafePrimes == old.SafePrimes},
		{"list of algorithms", slices.Equal(k.Algorithms, old.Algorithms)},
		{"root certificate", bytes.Equal(k.Certificate, old.Certificate)},
		{"longest validity", k.MaxDays == old.MaxDays},
	} {
		if !f.same {
			return fmt.Errorf("%s%s differs from the ledger's key %q: a revision changes machines, officers and distributors only", where, f.name, old.ID)
		}
	}
	return nil
}

// claim refuses an id that anything in the system has or had, but for shares of the authority itself.
func (x *dealt) claim(what, id string, max int) error {
	if err := checkID(id, max); err != nil {
		return err
	}
	lower := strings.ToLower(id)
	if other, ok := x.t.ids[lower]; ok {
		return fmt.Errorf("id %q is also that of %s", id, other)
	}
	for _, a := range x.s.authorities {
		k := a.dealing.Key.ID
		if strings.ToLower(k) == lower {
			return fmt.Errorf("id %q is also that of key %q", id, k)
		}
		for _, m := range a.machines {
			if strings.ToLower(m.row.Share) == lower {
				return fmt.Errorf("id %q is also that of a share of key %q, now or before", id, k)
			}
		}
	}
	return nil
}

// checkConfirmation verifies that the operator confirmed this dealing with a card.
func checkConfirmation(s State, d *Dealing, at int64) error {
	where := fmt.Sprintf("enterprise %d, confirmation: ", d.Enterprise.Code)
	t := s.tables()
	i, ok := t.persons[d.Operator]
	switch {
	case !ok:
		return fmt.Errorf("%soperator %.64q is not among the persons", where, d.Operator)
	case len(t.genesis.Persons[i].Cards) == 0:
		return fmt.Errorf("%soperator %q has no card, and only a card confirms", where, d.Operator)
	case d.Operator == t.genesis.Ceremony.Administrator:
		return fmt.Errorf("%sthe temporary administrator's power ends with the ceremony: he cannot confirm", where)
	case len(d.Confirmation) == 0:
		return fmt.Errorf("%sis missing: the operator %q signs the dealing at the distributor", where, d.Operator)
	case len(d.Confirmation) > MaxSignature:
		return fmt.Errorf("%shas %d bytes, at most %d", where, len(d.Confirmation), MaxSignature)
	}
	u, err := envelope.Parse(d.Confirmation)
	if err != nil {
		return fmt.Errorf("%s%w", where, err)
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != OwnerPerson || id.Owner != d.Operator || id.Use != UseSign {
		return fmt.Errorf("%sis not signed in slot 9C of a card of the operator %q", where, d.Operator)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return fmt.Errorf("%s%w", where, err)
	}
	var c Confirm
	if err := envelope.Decode(v, TypeConfirm, ConfirmVersion, &c); err != nil {
		return fmt.Errorf("%s%w", where, err)
	}
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	h := v.Header()
	switch {
	case h.System != s.System():
		return fmt.Errorf("%s%w", where, &SystemError{Got: h.System, Want: s.System()})
	case h.Key != d.Key.ID || h.Epoch != d.Key.Epoch:
		return fmt.Errorf("%sis for epoch %d of key %.64q, not for epoch %d of %q", where, h.Epoch, h.Key, d.Key.Epoch, d.Key.ID)
	case c.Dealing != digest:
		return fmt.Errorf("%sis of another dealing (%v, this is %v)", where, c.Dealing, digest)
	case h.Created < d.Created || h.Created > at:
		return fmt.Errorf("%sgiven at %d, not between the dealing (%d) and this entry (%d): compare the distributor's clock", where, h.Created, d.Created, at)
	case at >= h.Expires || h.Expires-h.Created > ConfirmationLife:
		return fmt.Errorf("%sheld until %d, at most %d days, and it is %d: deal again", where, h.Expires, ConfirmationLife/86400, at)
	}
	return nil
}

func (x *dealt) checkReserve() error {
	r := x.Reserve
	if r == nil {
		return nil
	}
	switch n := uint64(len(r.Keepers)); {
	case n < MinQuorum || n > MaxOfficersOfDevice:
		return fmt.Errorf("%s", x.where("the reserve's key is in the pieces of %d persons: %d to %d, or there is no reserve", n, MinQuorum, MaxOfficersOfDevice))
	case r.Need < MinQuorum || r.Need > n:
		return fmt.Errorf("%s", x.where("any %d of %d persons open the reserve, which is the whole key: at least %d", r.Need, n, MinQuorum))
	case x.prev != nil && x.prev.dealing.Reserve == nil:
		return fmt.Errorf("%s", x.where("a reserve for an authority that was dealt without one: there is nothing it could be made of"))
	}
	for i, k := range r.Keepers {
		where := x.where("keeper %.64q of the reserve", k.Person)
		at, ok := x.t.persons[k.Person]
		switch {
		case !ok:
			return fmt.Errorf("%s is not among the persons", where)
		case slices.ContainsFunc(r.Keepers[:i], func(o Keeper) bool { return o.Person == k.Person }):
			return fmt.Errorf("%s is named twice: a person keeps one piece", where)
		case !slices.ContainsFunc(x.t.genesis.Persons[at].Cards, func(c Card) bool { return c.Serial == k.Card }):
			return fmt.Errorf("%s: %d is no card of that person", where, k.Card)
		}
	}
	return nil
}

func (x *dealt) checkDistributors() error {
	if n := len(x.Distributors); n < 1 || n > MaxDistributors {
		return fmt.Errorf("%s", x.where("%d distributors where 1 to %d are possible", n, MaxDistributors))
	}
	if x.prev != nil {
		x.next.distributors = slices.Clone(x.prev.distributors)
	}
	for i, d := range x.Distributors {
		where := x.where("distributor %d", d.Number)
		if d.Number < 1 || d.Number > MaxDistributorNumber {
			return fmt.Errorf("%s: the number is not 1 to %d", where, MaxDistributorNumber)
		}
		if _, ok := x.t.servers[d.Server]; !ok {
			return fmt.Errorf("%s: server %.64q is unknown", where, d.Server)
		}
		for _, o := range x.Distributors[:i] {
			switch {
			case o.Number == d.Number:
				return fmt.Errorf("%s: the number is given twice", where)
			case o.Server == d.Server:
				return fmt.Errorf("%s: server %q has the number %d already", where, d.Server, o.Number)
			}
		}
		j := slices.IndexFunc(x.next.distributors, func(o Distributor) bool { return o.Number == d.Number })
		switch {
		case j < 0:
			x.next.distributors = append(x.next.distributors, d)
		case x.next.distributors[j].Server != d.Server:
			// Task numbers are counted by the server that has the number: another would begin with some that were seen.
			return fmt.Errorf("%s: the number is that of server %q for ever: give %q another", where, x.next.distributors[j].Server, d.Server)
		}
	}
	return nil
}

// checkOfficers holds the rows to the rules of those of the genesis, and to this key alone.
func (x *dealt) checkOfficers() error {
	if n := len(x.Officers); n < 1 || n > maxOfficers {
		return fmt.Errorf("%s", x.where("%d officers where 1 to %d are possible", n, maxOfficers))
	}
	serves := make(map[string]string) // person → device
	at := make(map[string]uint64)     // by device
	for i := range x.Officers {
		o := &x.Officers[i]
		fail := func(err error) error {
			return fmt.Errorf("%s: %w", x.where("officer %.64q at device %.64q", o.Person, o.Device), err)
		}
		if err := x.t.checkOfficer(o); err != nil {
			return fail(err)
		}
		if o.Expires <= x.at {
			return fail(fmt.Errorf("has expired at %d, before this entry (%d): renew him or leave him out", o.Expires, x.at))
		}
		if len(o.Keys) != 1 || o.Keys[0] != x.Key.ID {
			return fail(fmt.Errorf("keys are %.64q: an enterprise's officer approves for its key %q and no other", o.Keys, x.Key.ID))
		}
		if _, ok := holderOf(&x.Key, o.Device); !ok {
			return fail(errors.New("the device is no machine of the authority"))
		}
		switch other, ok := serves[o.Person]; {
		case ok && other == o.Device:
			return fail(errors.New("is registered twice: one card of a person for each device"))
		case ok && !x.t.genesis.SharedOfficers:
			return fail(fmt.Errorf("also serves device %q of the key: one person could stand for two devices", other))
		case ok && slices.ContainsFunc(x.Officers[:i], func(p Officer) bool { return p.Person == o.Person && p.Device == o.Device }):
			return fail(errors.New("is registered twice: one card of a person for each device"))
		}
		serves[o.Person] = o.Device
		at[o.Device]++
	}
	for _, h := range x.Key.Holders {
		where := x.where("share %q", h.Share)
		switch n := at[h.Device]; {
		case n < h.Quorum:
			return fmt.Errorf("%s: device %q has %d officers for the key, fewer than the quorum of %d", where, h.Device, n, h.Quorum)
		case n != h.Pieces:
			return fmt.Errorf("%s: %d pieces for %d officers: each officer holds one", where, h.Pieces, n)
		}
	}
	return nil
}
