package desk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// introduce is stage 1: every device says who it is and what it runs. It
// reports true if it met a device that is in a committed system of this very
// ceremony: then only the commitment is left to do.
func (d *desk) introduce(ctx context.Context) (committed bool, err error) {
	d.Say("stage 1: exchange of device keys, comparison of firmware")
	var prepared []string
	identities := make([][]byte, len(d.Plan.Devices))
	for i, dev := range d.Plan.Devices {
		u, err := d.hello(ctx, dev.ID, false)
		if err != nil {
			return false, err
		}
		switch u.Header().Type {
		case firmware.TypeGenesis:
			return true, d.adoptGenesis(dev.ID, u)
		case ceremony.TypeCommitted:
			if err := d.meetPrepared(dev.ID, u); err != nil {
				return false, err
			}
			prepared = append(prepared, dev.ID)
		default:
			if identities[i], err = d.meet(dev.ID, u); err != nil {
				return false, err
			}
		}
	}
	// Every device was asked, each answered with its own key, and none is in a
	// system: what some signed in an earlier attempt was committed nowhere.
	for _, id := range prepared {
		d.Say("device %s leaves an earlier attempt", id)
		u, err := d.hello(ctx, id, true)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(d.Plan.Devices, func(x ceremony.PlanDevice) bool { return x.ID == id })
		if identities[i], err = d.meet(id, u); err != nil {
			return false, err
		}
	}
	d.t.state.Identities = identities
	return false, d.t.save()
}

func (d *desk) hello(ctx context.Context, device string, leave bool) (*envelope.Unverified, error) {
	delete(d.peers, device)
	u, err := d.send(ctx, device, ceremony.TypeHello, ceremony.Hello{Open: d.opening, Leave: leave})
	if err != nil {
		return nil, err
	}
	return u, refused(u)
}

// meet verifies an identity: the device's signature, its maker's certificates.
func (d *desk) meet(device string, u *envelope.Unverified) ([]byte, error) {
	id, err := ceremony.VerifyIdentity(d.open, device, u.Raw(), d.Now().Unix())
	if err != nil {
		return nil, err
	}
	if d.peers[device], err = newPeer(id.Sign, id.Agree); err != nil {
		return nil, err
	}
	use := "host"
	if id.InToken {
		use = "token"
	}
	d.Say("  device %s: %s %s, key %s, can exponentiate in the %s, firmware %s", device, id.Model, id.Serial, short(envelope.KeyIDOfSPKI(id.Sign)), use, short(id.Firmware))
	return u.Raw(), nil
}

// meetPrepared verifies that a device itself says that it signed a genesis: by
// its word others may be told to forget theirs.
func (d *desk) meetPrepared(device string, u *envelope.Unverified) error {
	var c ceremony.Committed
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &c); err != nil {
		return err
	}
	id, err := ceremony.VerifyIdentity(d.open, device, c.Identity, d.Now().Unix())
	if err != nil {
		return err
	}
	p, err := newPeer(id.Sign, id.Agree)
	if err != nil {
		return err
	}
	if _, err := u.Verify(p.sign); err != nil {
		return fmt.Errorf("answer of device %s: %w", device, err)
	}
	if c.Phase != firmware.PhasePrepared {
		return fmt.Errorf("device %s is in phase %q, which answers no hello", device, term.Clean(c.Phase))
	}
	return nil
}

func short(h fmt.Stringer) string { return h.String()[:16] }

func newPeer(sign, agree []byte) (*peer, error) {
	s, err := envelope.ParseSigningKey(sign)
	if err != nil {
		return nil, err
	}
	a, err := envelope.ParseAgreementKey(agree)
	if err != nil {
		return nil, err
	}
	return &peer{s, a}, nil
}

// adoptGenesis takes the genesis from a device that is in a system, when that
// system is the outcome of this ceremony.
func (d *desk) adoptGenesis(device string, u *envelope.Unverified) error {
	var g firmware.Genesis
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &g); err != nil {
		return err
	}
	var b ledger.Bundle
	if err := envelope.Unmarshal(g.Bundle, &b); err != nil {
		return err
	}
	v, err := ledger.VerifyGenesis(b)
	if err != nil {
		return err
	}
	gen := v.Genesis()
	if gen.Ceremony.File != d.Plan.File {
		return fmt.Errorf("device %s is in system %s already (%q); a device is in one system only", device, v.System(), gen.Name)
	}
	for _, x := range gen.Devices {
		if d.peers[x.ID], err = newPeer(x.Sign, x.Agree); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(gen.Devices, func(x ledger.Device) bool { return x.ID == device })
	if i < 0 {
		return fmt.Errorf("device %s holds a genesis that does not list it", device)
	}
	if err := spokenBy(&gen.Devices[i], u); err != nil {
		return err
	}
	d.Say("device %s is commissioned in system %s: going on with its genesis", device, v.System())
	d.t.state.Bundle = g.Bundle
	return d.t.save()
}

// spokenBy verifies an answer of a commissioned device: with its token's key,
// or with the boot key if it has restarted and is locked.
func spokenBy(x *ledger.Device, u *envelope.Unverified) error {
	for _, spki := range [][]byte{x.Sign, x.Boot} {
		p, err := newPeer(spki, x.Agree)
		if err != nil {
			return err
		}
		if _, err = u.Verify(p.sign); err == nil {
			return nil
		} else if !errors.Is(err, envelope.ErrWrongKey) {
			return fmt.Errorf("answer of device %s: %w", x.ID, err)
		}
	}
	return fmt.Errorf("the answer of device %s is signed by somebody else", x.ID)
}

// enrol is stage 2: every card is enrolled by its owner, then the
// administrator certifies devices and officers for some hours, before
// witnesses.
func (d *desk) enrol(ctx context.Context) error {
	d.Say("stage 2: temporary certificates, before %s", strings.Join(d.Plan.Witnesses, ", "))
	d.t.state.Enrolments = nil
	for _, x := range d.Plan.Persons {
		for _, serial := range x.Cards {
			err := d.Cards.Use(ctx, x.ID, x.Name, serial, "to be enrolled", func(card Card) error {
				raw, err := d.signWith(card, ceremony.TypeEnrol, ceremony.Enrolment{
					Open: d.open.Digest(), Person: x.ID, Card: card.Describe(),
				}, d.expires())
				if err != nil {
					return err
				}
				if _, err := ceremony.VerifyEnrolment(d.open, raw, d.Now().Unix()); err != nil {
					return err
				}
				d.t.state.Enrolments = append(d.t.state.Enrolments, raw)
				return nil
			})
			if err != nil {
				return err
			}
			d.Say("  %s enrolled with card %d", x.Name, serial)
		}
	}
	return d.admin(ctx, "to certify devices and officers for this ceremony", func(card Card) error {
		now := d.Now().Unix()
		raw, err := d.signWith(card, ceremony.TypeRoster, ceremony.Roster{
			Open: d.open.Digest(), Identities: d.t.state.Identities, Enrolments: d.t.state.Enrolments,
			Witnesses: d.Plan.Witnesses, NotBefore: now, NotAfter: d.expires(),
		}, d.expires())
		if err != nil {
			return err
		}
		if d.roster, err = ceremony.VerifyRoster(d.open, raw, now); err != nil {
			return err
		}
		d.t.state.Roster = raw
		return d.t.save()
	})
}

// expires is when the administrator's word ends.
func (d *desk) expires() int64 { return d.open.NotAfter() }

// join hands the roster to every device, which compares firmware hashes, and
// collects the seeds, sealed to the lead.
func (d *desk) join(ctx context.Context) ([][]byte, error) {
	var out [][]byte
	for _, dev := range d.Plan.Devices {
		var j ceremony.Joined
		raw, err := d.ask(ctx, dev.ID, ceremony.TypeJoin, ceremony.Join{Roster: d.t.state.Roster}, ceremony.TypeJoined, &j)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	d.Say("  all %d devices run firmware %s and gave their seed", len(out), short(d.roster.Firmware()))
	return out, nil
}

// keys is stage 3: the lead makes and splits each key, every device installs
// its share, and every subset of devices signs a test.
func (d *desk) keys(ctx context.Context, joined [][]byte) ([]ledger.Key, error) {
	d.Say("stage 3: generation of %d keys by device %s", len(d.Plan.Keys), d.Plan.Lead)
	var out []ledger.Key
	for _, k := range d.Plan.Keys {
		d.Say("  key %s: %d bits, any %d of %d devices (%v)", k.ID, k.Bits, k.T, len(k.Devices), k.Scheme)
		var dealt ceremony.Dealt
		raw, err := d.ask(ctx, d.Plan.Lead, ceremony.TypeDeal, ceremony.Deal{Roster: d.roster.Digest(), Key: k.ID, Joined: joined}, ceremony.TypeDealt, &dealt)
		if err != nil {
			return nil, err
		}
		for _, dev := range d.Plan.Devices {
			var in ceremony.Installed
			if _, err := d.ask(ctx, dev.ID, ceremony.TypeInstall, ceremony.Install{Dealt: raw}, ceremony.TypeInstalled, &in); err != nil {
				return nil, err
			}
		}
		if err := d.test(ctx, &dealt.Key); err != nil {
			return nil, err
		}
		out = append(out, dealt.Key)
	}
	return out, d.t.save()
}

// test has every subset sign once.
func (d *desk) test(ctx context.Context, k *ledger.Key) error {
	subsets := k.Split().Subsets()
	for _, s := range subsets {
		order := s.Indices()
		var tested []ceremony.Tested
		var prior [][]byte
		for pos, i := range order {
			in := ceremony.Test{Key: k.ID, Order: order, Position: uint64(pos)}
			if k.Scheme == threshold.Multiplicative {
				in.Prior = prior
			}
			var t ceremony.Tested
			raw, err := d.ask(ctx, k.Holders[i-1].Device, ceremony.TypeTest, in, ceremony.TypeTested, &t)
			if err != nil {
				return err
			}
			tested, prior = append(tested, t), append(prior, raw)
		}
		sig, err := ceremony.FinishTestVarTime(d.roster, k, order, tested)
		if err != nil {
			return fmt.Errorf("key %s: the test signature of devices %v is wrong: %w", k.ID, order, err)
		}
		d.t.state.Tests = append(d.t.state.Tests, ceremony.TestSignature{Key: k.ID, Order: order, Signature: sig})
	}
	d.Say("    all %d subsets signed a test", len(subsets))
	return nil
}

// prepare draws up the genesis and collects the signatures of the
// administrator's card and of all devices.
func (d *desk) prepare(ctx context.Context, keys []ledger.Key) error {
	d.Say("genesis: every device signs what it computed itself")
	for _, line := range HeartbeatLines(&d.Plan) {
		d.Say("  %s", line)
	}
	created := d.Now().Unix()
	g := ceremony.BuildGenesis(d.roster, keys, created)
	raw, err := g.Encode()
	if err != nil {
		return err
	}
	b := ledger.Bundle{Genesis: raw}
	err = d.admin(ctx, "to sign the genesis of system "+short(ledger.SystemID(raw)), func(card Card) error {
		sig, err := ledger.SignGenesis(d.Rand, card, raw, d.Now().Unix())
		b.Signatures = append(b.Signatures, sig)
		return err
	})
	if err != nil {
		return err
	}
	for _, dev := range d.Plan.Devices {
		var p ceremony.Prepared
		if _, err := d.ask(ctx, dev.ID, ceremony.TypePrepare, ceremony.Prepare{Genesis: raw}, ceremony.TypePrepared, &p); err != nil {
			return err
		}
		b.Signatures = append(b.Signatures, p.Signature)
	}
	if _, err := ledger.VerifyGenesis(b); err != nil {
		return err
	}
	if d.t.state.Bundle, err = envelope.Marshal(b); err != nil {
		return err
	}
	// From this line on there is one system, whoever dies: any holder of the
	// bundle can finish the commitment.
	return d.t.save()
}

// commit puts the genesis into force at every device. It can be repeated.
func (d *desk) commit(ctx context.Context) (*Result, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(d.t.state.Bundle, &b); err != nil {
		return nil, err
	}
	g, err := ledger.VerifyGenesis(b)
	if err != nil {
		return nil, err
	}
	if d.open == nil { // resumed: a new desk speaks for the same administrator
		if err := d.begin(ctx); err != nil {
			return nil, err
		}
	}
	for _, x := range g.Genesis().Devices {
		if err := d.commitOne(ctx, x); err != nil {
			return nil, err
		}
	}
	d.Say("system %s is in force at %d devices", g.System(), len(g.Genesis().Devices))
	return &Result{Bundle: b, State: ledger.New(g), record: ceremony.Record{
		Plan: d.Plan, Attempt: g.Genesis().Ceremony.Attempt, System: g.System(), Bundle: d.t.state.Bundle,
		Open: d.t.state.Open, Roster: d.t.state.Roster, Tests: d.t.state.Tests,
	}}, nil
}

func (d *desk) commitOne(ctx context.Context, x ledger.Device) error {
	u, err := d.hello(ctx, x.ID, false)
	if err != nil {
		return err
	}
	switch u.Header().Type {
	case firmware.TypeGenesis:
		return d.adoptGenesisOf(x, u)
	case ceremony.TypeCommitted:
		if err := d.meetPrepared(x.ID, u); err != nil {
			return err
		}
	default:
		return fmt.Errorf("device %s has forgotten the genesis it signed; it must be replaced", x.ID)
	}
	if d.peers[x.ID], err = newPeer(x.Sign, x.Agree); err != nil {
		return err
	}
	var c ceremony.Committed
	_, err = d.ask(ctx, x.ID, ceremony.TypeCommit, ceremony.Commit{Bundle: d.t.state.Bundle}, ceremony.TypeCommitted, &c)
	return err
}

// adoptGenesisOf checks that a device that is in a system is in this one.
func (d *desk) adoptGenesisOf(x ledger.Device, u *envelope.Unverified) error {
	if err := spokenBy(&x, u); err != nil {
		return err
	}
	var g firmware.Genesis
	if err := envelope.Unmarshal(u.UnverifiedPayload(), &g); err != nil {
		return err
	}
	var mine, its ledger.Bundle
	if err := errors.Join(envelope.Unmarshal(d.t.state.Bundle, &mine), envelope.Unmarshal(g.Bundle, &its)); err != nil {
		return err
	}
	if string(mine.Genesis) != string(its.Genesis) {
		return fmt.Errorf("device %s is in another system", x.ID)
	}
	return nil
}
