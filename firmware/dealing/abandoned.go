package dealing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// A dealing is abandoned if its shares may have been given out and the ledger
// never took it in. Two extensions of one revision, each of them safe, need not
// be so together (grouping.TestTwoExtensionsTellMoreThanOne), and the ledger
// counts only what was entered, and what revisions that were entered say of
// others (ledger.Counted). So whatever was given out is brought to the
// distributor; an extension is safe beside it, and the next revision, whatever it
// is, says so to the ledger.

// Abandoned is a dealing of the authority that was given out and that never came
// into force, as far as whoever brings it knows.
type Abandoned struct {
	Digest   envelope.Hash
	Revision uint64
	// Dealing is nil for one that is known of another abandoned dealing alone, which
	// counted it.
	Dealing *ledger.Dealing
	// Given are the machines that the ledger does not have, and those that got
	// combinations that neither it nor the dealing that is prepared gave out, by the
	// numbers that count.
	Given []ledger.Machine
	// Again says that the dealing that is prepared gives out all that this one
	// did.
	Again bool

	machines []ledger.Machine   // by its own numbers, or of whoever counted it
	grouping *grouping.Grouping // by these
	named    *grouping.Grouping // its machines named after their devices
	counted  ledger.Counted     // what the ledger is told
}

// An AbandonedError is a dealing that was brought as an abandoned one and is none
// of this authority.
type AbandonedError struct {
	Digest envelope.Hash
	Why    string
}

func (e *AbandonedError) Error() string {
	return fmt.Sprintf("the abandoned dealing %s: %s", e.Digest, e.Why)
}

// An ExposedError says that what was given out already, with dealings that never
// came into force, may have told somebody the key. No extension mends that.
type ExposedError struct{ Err error }

func (e *ExposedError) Error() string {
	return fmt.Sprintf("what was given out, with the dealings that never came into force, is not safe together: %v; replace this authority by a new one", e.Err)
}

// Unwrap returns the coalition: a *grouping.UnsafeError.
func (e *ExposedError) Unwrap() error { return e.Err }

// A ForgottenError names dealings that a reserve remembers, and that were neither
// brought nor counted in the ledger.
type ForgottenError struct{ Digests []envelope.Hash }

func (e *ForgottenError) Error() string {
	return fmt.Sprintf("%d dealings were given out and never came into force, as the reserve says, and are not here to be counted: %v: invite again, with --abandoned for each of them",
		len(e.Digests), e.Digests)
}

// Abandoned are the abandoned dealings that are counted here first, in the order
// of their digests: the ledger knows none of them yet.
func (d *Prepared) Abandoned() []Abandoned { return slices.Clone(d.abandoned) }

// Counted are the abandoned dealings that the ledger counts already.
func (d *Prepared) Counted() []ledger.Counted { return slices.Clone(d.known) }

// takeAbandoned checks what was brought as abandoned and names its machines.
func (d *Prepared) takeAbandoned(in Inputs) error {
	if len(in.Abandoned) == 0 {
		return d.checkNumbers()
	}
	if d.row == nil {
		return errors.New("this enterprise has no authority in the ledger, and its first dealing makes a key of its own, which nothing before tells anything of: leave the abandoned dealings out")
	}
	if len(in.Abandoned) > MaxAbandoned {
		return fmt.Errorf("%d abandoned dealings, at most %d are counted: replace this authority by a new one", len(in.Abandoned), MaxAbandoned)
	}
	for i := range in.Abandoned {
		x := &in.Abandoned[i]
		a := Abandoned{Dealing: x, Revision: x.Revision}
		var err error
		if a.Digest, err = x.Digest(); err != nil {
			return err
		}
		if d.counts(a.Digest) {
			continue // it came twice, or the ledger has it: once is enough
		}
		if err := checkAbandoned(d.state, d.row, &a); err != nil {
			return err
		}
		a.grouping = &x.Key.Layers.Grouping
		for _, h := range x.Key.Holders {
			a.machines = append(a.machines, ledger.Machine{Layer: h.Layer, Number: h.Index, Device: h.Device})
		}
		d.abandoned = append(d.abandoned, a)
	}
	if err := d.takeCounted(); err != nil {
		return err
	}
	if len(d.abandoned) > MaxAbandoned {
		return fmt.Errorf("%d abandoned dealings with those that they counted, at most %d are counted: replace this authority by a new one", len(d.abandoned), MaxAbandoned)
	}
	slices.SortFunc(d.abandoned, func(a, b Abandoned) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	if err := d.checkNumbers(); err != nil {
		return err
	}
	return d.name()
}

// counts reports whether a dealing is counted already, here or in the ledger.
func (d *Prepared) counts(digest envelope.Hash) bool {
	return slices.ContainsFunc(d.known, func(c ledger.Counted) bool { return c.Dealing == digest }) ||
		slices.ContainsFunc(d.abandoned, func(a Abandoned) bool { return a.Digest == digest })
}

// takeCounted adds what abandoned dealings counted themselves: that was given out
// before them, and they never told the ledger. Each says only what it did not give
// out itself, and is counted too: no matter which is asked.
func (d *Prepared) takeCounted() error {
	t, l := d.row.Key.T, d.row.Key.Layers.Grouping.L
	for _, by := range slices.Clone(d.abandoned) {
		for _, c := range by.Dealing.Counted {
			if d.counts(c.Dealing) || d.state.WasEntered(d.row.Enterprise.Code, c.Dealing) {
				continue
			}
			g, err := c.Grouping(t, l)
			if err == nil && c.Revision < 2 {
				err = fmt.Errorf("revision %d is no extension", c.Revision)
			}
			for _, m := range c.Machines {
				if _, ok := d.state.Device(m.Device); !ok && err == nil {
					err = fmt.Errorf("the system has no device %.64q", m.Device)
				}
			}
			if err != nil {
				return &AbandonedError{Digest: by.Digest, Why: fmt.Sprintf("it counts the dealing %s: %v", c.Dealing, err)}
			}
			d.abandoned = append(d.abandoned, Abandoned{Digest: c.Dealing, Revision: min(c.Revision, d.Revision()), machines: c.Machines, grouping: g})
		}
	}
	return nil
}

// checkAbandoned reports whether a dealing is another one of the authority whose
// row is in force: of the same key, shared with the same sub-keys, and confirmed
// by its operator's card, since nothing is given out before that. Its revision
// may be long past: what was given out stays known.
func checkAbandoned(s ledger.State, row *ledger.Dealing, a *Abandoned) error {
	x := a.Dealing
	fail := func(format string, args ...any) error {
		return &AbandonedError{Digest: a.Digest, Why: fmt.Sprintf(format, args...)}
	}
	force, err := row.Digest()
	if err != nil {
		return err
	}
	switch {
	case x.Enterprise.Code != row.Enterprise.Code:
		return fail("it is of enterprise %d, not of %d", x.Enterprise.Code, row.Enterprise.Code)
	case x.Key.ID != row.Key.ID || string(x.Key.Public.N) != string(row.Key.Public.N) || x.Key.Public.E != row.Key.Public.E:
		return fail("it is of another key than %s in force: it tells nothing of that, leave it out", row.Key.ID)
	case a.Digest == force:
		return fail("it is in force: leave it out")
	case s.WasEntered(row.Enterprise.Code, a.Digest):
		return fail("it was entered, as revision %d: leave it out", x.Revision)
	case x.Revision > row.Revision+1:
		return fail("it is revision %d, and the ledger here has %d: fetch a newer ledger", x.Revision, row.Revision)
	case x.Revision < 2 || x.Key.Layers == nil:
		return fail("revision %d is no extension", x.Revision)
	}
	layers, old := x.Key.Layers, row.Key.Layers
	if err := layers.Validate(&x.Key.Public); err != nil {
		return fail("%v", err)
	}
	if layers.Grouping.T != old.Grouping.T || layers.Grouping.L != old.Grouping.L || string(layers.H) != string(old.H) {
		return fail("it has another t, l or h than the row in force, and so is no extension of it")
	}
	for _, g := range layers.Grouping.Combiners {
		if len(g.Combinations) > ledger.MaxParts {
			return fail("combiner %d has %d combinations, at most %d", g.Number, len(g.Combinations), ledger.MaxParts)
		}
	}
	if err := checkRows(s, &x.Key); err != nil {
		return fail("%v", err)
	}
	if err := checkConfirmed(s, x, a.Digest); err != nil {
		return fail("%v", err)
	}
	return nil
}

// checkRows demands one row for each machine, each at a device of its own.
func checkRows(s ledger.State, k *ledger.Key) error {
	g, seen := &k.Layers.Grouping, map[string]bool{}
	want := map[place]bool{}
	for _, n := range g.Calculators {
		want[place{ledger.LayerCalculator, n}] = true
	}
	for _, c := range g.Combiners {
		want[place{ledger.LayerCombiner, c.Number}] = true
	}
	for _, h := range k.Holders {
		at := place{h.Layer, h.Index}
		if _, ok := s.Device(h.Device); !ok || seen[h.Device] || !want[at] {
			return fmt.Errorf("the row of %v at device %.64q is of no machine, or given twice", at, h.Device)
		}
		seen[h.Device] = true
		delete(want, at)
	}
	if len(want) > 0 {
		return fmt.Errorf("%d machines have no device", len(want))
	}
	return nil
}

// checkConfirmed verifies the operator's confirmation, however old it is.
func checkConfirmed(s ledger.State, x *ledger.Dealing, digest envelope.Hash) error {
	if len(x.Confirmation) == 0 || len(x.Confirmation) > ledger.MaxSignature {
		return errors.New("no operator confirmed it: nothing is given out before that")
	}
	u, err := envelope.Parse(x.Confirmation)
	if err != nil {
		return fmt.Errorf("confirmation: %w", err)
	}
	id, ok := s.Identity(u.Header().Signer)
	if !ok || id.Kind != ledger.OwnerPerson || id.Owner != x.Operator || id.Use != ledger.UseSign {
		return fmt.Errorf("confirmation: not signed by a card of the operator %.64q", x.Operator)
	}
	v, err := u.Verify(id.SignKey)
	if err != nil {
		return fmt.Errorf("confirmation: %w", err)
	}
	var c ledger.Confirm
	if err := envelope.Decode(v, ledger.TypeConfirm, ledger.ConfirmVersion, &c); err != nil {
		return fmt.Errorf("confirmation: %w", err)
	}
	if h := v.Header(); h.System != s.System() || h.Key != x.Key.ID || h.Epoch != x.Key.Epoch || c.Dealing != digest {
		return errors.New("confirmation: it is of another dealing")
	}
	return nil
}

// settle says to the ledger what abandoned dealings gave out that it does not
// learn from the one that is prepared.
func (d *Prepared) settle() {
	if len(d.abandoned) == 0 {
		return
	}
	known := &d.Grouping
	if g, ok := d.state.EverDealt(d.plan.Enterprise.Code); ok {
		known = together(&g, known)
	}
	for i := range d.abandoned {
		a := &d.abandoned[i]
		a.counted.Dealing, a.counted.Revision, a.counted.Combiners = a.Digest, a.Revision, lost(a.named.Combiners, known.Combiners)
		a.Again = len(a.counted.Combiners) == 0
		a.Given = d.state.Given(d.row.Enterprise.Code, &a.counted)
	}
}

// tell is what the ledger is told.
func (d *Prepared) tell() []ledger.Counted {
	var out []ledger.Counted
	for _, a := range d.abandoned {
		out = append(out, a.counted)
	}
	return out
}

// forgotten are those of a reserve's abandoned dealings that are not counted, and
// the one that it was made with, if that was never entered itself.
func (d *Prepared) forgotten(r *Reserve) error {
	var missing []envelope.Hash
	if r.Revision > 1 && !d.counts(r.Dealing) && !d.state.WasEntered(r.Enterprise, r.Dealing) {
		missing = append(missing, r.Dealing)
	}
	for _, x := range r.Abandoned {
		if !d.counts(x) {
			missing = append(missing, x)
		}
	}
	if len(missing) > 0 {
		return &ForgottenError{missing}
	}
	return nil
}

// remember are the digests of the dealings that the next reserve names: if the
// dealing that it was made with is never entered itself, then nothing else does.
func (d *Prepared) remember() []envelope.Hash {
	var out []envelope.Hash
	for _, a := range d.abandoned {
		if !a.Again {
			out = append(out, a.Digest)
		}
	}
	return out
}

// gone is what combiners were given of the dealing that is extended and have no
// longer, with what abandoned dealings gave them. Sub-keys that are drawn now have
// the plan's numbers, also where others were drawn for the same machine before:
// those get numbers here that nothing else has.
func (d *Prepared) gone(dealt *twolayer.Dealing) []grouping.Group {
	if len(d.abandoned)+len(d.known) == 0 {
		return dealt.Gone
	}
	all := &grouping.Grouping{Combiners: slices.Clone(dealt.Gone)}
	for _, a := range d.abandoned {
		all.Combiners = append(all.Combiners, a.named.Combiners...)
	}
	for _, c := range d.known {
		all.Combiners = append(all.Combiners, c.Combiners...)
	}
	used := map[uint64]bool{}
	for _, group := range all.Combiners {
		for _, c := range group.Combinations {
			for _, n := range c.Calculators() {
				used[n] = true
			}
		}
	}
	drawn := map[uint64]uint64{} // new calculator -> what others of its number are called
	free := uint64(grouping.MaxNumber)
	for _, n := range d.Grouping.Calculators {
		if slices.Contains(dealt.Public.Grouping.Calculators, n) || !used[n] {
			continue
		}
		for used[free] || slices.Contains(d.Grouping.Calculators, free) {
			free--
		}
		drawn[n], used[free] = free, true
	}
	return renamed(all, func(p place) uint64 {
		if n, ok := drawn[p.number]; ok && p.layer == ledger.LayerCalculator {
			return n
		}
		return p.number
	}).Combiners
}
