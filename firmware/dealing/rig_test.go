package dealing_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

const keyID = "bank-ca"

// rig is a system whose devices are invited by an enterprise.
type rig struct {
	*ledgertest.System
	t *testing.T
	// oneTime are the private keys of the last invitations.
	oneTime map[string]*ecdh.PrivateKey
	invited map[string]envelope.Hash // their digests
	// held is what devices installed: parts by term or combination.
	held map[string]map[string]threshold.Secret
	now  int64
}

func newRig(t *testing.T, devices int) *rig {
	t.Helper()
	r := &rig{System: ledgertest.New(t, ledgertest.WithDevices(devices)), t: t, oneTime: map[string]*ecdh.PrivateKey{}, invited: map[string]envelope.Hash{},
		held: map[string]map[string]threshold.Secret{}}
	r.now = r.Now + 60
	return r
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) inputs() dealing.Inputs {
	return dealing.Inputs{Now: r.now, Rand: rand.Reader, Isolated: true}
}

// machines numbers devices from a number on.
func machines(number uint64, devices ...string) (out []dealing.Machine) {
	for i, d := range devices {
		out = append(out, dealing.Machine{Number: number + uint64(i), Device: d})
	}
	return out
}

// plan is one for any 2 of the first 3 devices and one of the next 2, with
// three keepers of whom two are needed.
func (r *rig) plan() *dealing.Plan {
	p := &dealing.Plan{
		Enterprise: ledger.Enterprise{Code: 7, Name: "Example Bank"},
		Key:        dealing.PlanKey{ID: keyID, Name: "Example Bank CA", Bits: 2048, Algorithms: []string{"PS256", "RS256"}, MaxDays: 398, RootDays: 3650},
		Need:       2, Redundant: 1, Quorum: 2, Pieces: 2, OfficerDays: 365,
		Calculators:  machines(1, "device-1", "device-2", "device-3"),
		Combiners:    machines(1, "device-4", "device-5"),
		Distributors: []ledger.Distributor{{Number: 1, Server: "server-1"}},
		Operator:     ledgertest.Operator,
		Reserve: &dealing.Keepers{Need: 2, Persons: []dealing.Keeper{
			{Person: "officer-1a"}, {Person: "officer-2a"}, {Person: ledgertest.Requester, Card: 92},
		}},
	}
	r.officers(p)
	return p
}

// officers gives every machine of a plan its device's two.
func (r *rig) officers(p *dealing.Plan) {
	p.Officers = nil
	for _, d := range p.Devices() {
		for _, o := range r.Officers(d) {
			p.Officers = append(p.Officers, dealing.Officer{Person: o.ID, Device: d})
		}
	}
}

// invitation is a device's.
func (r *rig) invitation(device string, change func(*firmware.Invitation, *envelope.Header)) []byte {
	r.t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	r.check(err)
	in := firmware.Invitation{
		Enterprise: 7, Device: device, Instance: [16]byte{1}, Public: key.PublicKey().Bytes(), Created: r.now, Expires: r.now + 3600,
	}
	h := envelope.Header{Type: firmware.TypeInvitation, Version: 1, System: r.State.System(), LedgerHead: r.State.Head()}
	if change != nil {
		change(&in, &h)
	}
	if h.Created == 0 {
		h.Created, h.Expires = in.Created, in.Expires
	}
	payload, err := envelope.Marshal(&in)
	r.check(err)
	raw, err := envelope.Sign(rand.Reader, r.Devices[device].Sign, h, payload)
	r.check(err)
	u, err := envelope.Parse(raw)
	r.check(err)
	r.oneTime[device], r.invited[device] = key, u.UnverifiedDigest()
	return raw
}

// invite is every device's of a plan.
func (r *rig) invite(p *dealing.Plan) (out [][]byte) {
	r.t.Helper()
	for _, d := range p.Devices() {
		out = append(out, r.invitation(d, nil))
	}
	return out
}

// deal deals a plan with a key for tests.
func (r *rig) deal(p *dealing.Plan) *dealing.Result {
	r.t.Helper()
	d, err := dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil)
	r.check(err)
	out, err := d.DealKey(r.inputs(), thresholdtest.Key(2048, false))
	r.check(err)
	r.check(out.Confirm(rand.Reader, r.now, r.State, r.Persons[p.Operator].Card().Sign))
	return out
}

// enter has the ledger take a dealing.
func (r *rig) enter(d *ledger.Dealing) {
	r.t.Helper()
	e := r.Entry(r.t, r.State, ledger.KindDealing, d, r.now)
	next, err := ledger.Catchup(r.State, []ledger.SignedEntry{e})
	r.check(err)
	r.State = next
}

// opened is a device's share.
func (r *rig) opened(out *dealing.Result, device string) *firmware.DealtShare {
	r.t.Helper()
	s, err := r.open(out, device, r.oneTime[device])
	r.check(err)
	return s
}

func (r *rig) open(out *dealing.Result, device string, key *ecdh.PrivateKey) (*firmware.DealtShare, error) {
	digest, err := out.Dealing.Digest()
	if err != nil {
		return nil, err
	}
	invitation := r.invited[device]
	info := envelope.HashOf("privyseal dealt share v1", invitation[:], digest[:])
	plain, err := envelope.OpenWith(key, info[:], nil, out.Sealed[device])
	if err != nil {
		return nil, err
	}
	s := new(firmware.DealtShare)
	return s, envelope.Unmarshal(plain, s)
}

// install has the devices open their shares, as many as there are, and checks
// them against the dealing.
func (r *rig) install(out *dealing.Result) {
	r.t.Helper()
	k := &out.Dealing.Key
	digest, err := out.Dealing.Digest()
	r.check(err)
	for _, h := range k.Holders {
		if out.Sealed[h.Device] == nil {
			continue
		}
		s := r.opened(out, h.Device)
		if s.Dealing != digest || s.Device != h.Device || s.Share != h.Share || s.Version != h.Version || s.Layer != h.Layer || s.Number != h.Index {
			r.t.Errorf("share of %s: %+v", h.Device, s)
		}
		held := map[string]threshold.Secret{}
		if h.Layer == ledger.LayerCalculator {
			r.check(k.Layers.CheckCalculator(&k.Public, &twolayer.CalculatorShare{Number: h.Index, Keys: s.Parts}))
			for i, d := range s.Parts {
				held[grouping.Term{Calculator: h.Index, Key: uint64(i + 1)}.String()] = d
			}
		} else {
			r.check(k.Layers.CheckCombiner(&k.Public, &twolayer.CombinerShare{Number: h.Index, Parts: s.Parts}))
			for _, g := range k.Layers.Grouping.Combiners {
				for i, c := range g.Combinations {
					if g.Number == h.Index {
						held[c.String()] = s.Parts[i]
					}
				}
			}
		}
		r.held[h.Device] = held
	}
}

// signs signs with what the devices of a key hold: every combination of every
// combiner.
func (r *rig) signs(k ledger.Key) {
	r.t.Helper()
	digest := sha256.Sum256([]byte("a document"))
	x, err := threshold.Encode(threshold.RS256, digest[:], nil, k.Public.Bits())
	r.check(err)
	power := func(layer, number uint64, name string) []byte {
		h, ok := k.Machine(layer, number)
		d, there := r.held[h.Device][name]
		if !ok || !there {
			r.t.Fatalf("machine %d of layer %d does not hold %s", number, layer, name)
		}
		e, err := twolayer.NewExponentiator(&k.Public, d)
		r.check(err)
		y, err := twolayer.Power(&k.Public, x, e)
		r.check(err)
		return y
	}
	g := &k.Layers.Grouping
	var powers []twolayer.Powers
	for _, n := range g.Calculators {
		p := twolayer.Powers{Calculator: n}
		for i := range g.L {
			p.Y = append(p.Y, power(ledger.LayerCalculator, n, grouping.Term{Calculator: n, Key: i + 1}.String()))
		}
		powers = append(powers, p)
	}
	served := map[string]bool{}
	for _, b := range g.Combiners {
		for _, c := range b.Combinations {
			_, err := twolayer.CombineVarTime(&k.Public, threshold.RS256, digest[:], c, powers, power(ledger.LayerCombiner, b.Number, c.String()))
			r.check(err)
			served[fmt.Sprint(c.Calculators())] = true
		}
	}
	if n := len(g.Calculators); len(served) != n*(n-1)/2 {
		r.t.Errorf("%d pairs of %d calculators served", len(served), n)
	}
}

// pieces opens keepers' pieces with their cards.
func (r *rig) pieces(raw []byte, persons ...string) (out []share.Piece) {
	r.t.Helper()
	reserve, err := dealing.ParseReserve(raw)
	r.check(err)
	for i, p := range reserve.Pieces {
		if !slices.Contains(persons, p.Person) {
			continue
		}
		for _, c := range r.Persons[p.Person].Cards {
			if c.Serial == p.Card {
				piece, err := reserve.OpenPiece(i, c.Agree)
				r.check(err)
				out = append(out, piece)
			}
		}
	}
	return out
}

// dealExtension prepares and deals an extension.
func dealExtension(in dealing.Inputs, s ledger.State, p *dealing.Plan, invitations [][]byte, reserve []byte, pieces []share.Piece, progress func(string)) (*dealing.Result, error) {
	d, err := dealing.Prepare(in, s, p, invitations, progress)
	if err != nil {
		return nil, err
	}
	return d.Extend(in, reserve, pieces, progress)
}
