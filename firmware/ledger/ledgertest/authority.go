package ledgertest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// Plan is what a test wants dealt to an enterprise.
type Plan struct {
	// Code is the enterprise's. The key's id is "ca-<code>"; codes 1, 2 and 3 have different keys, of which that of 1 has safe primes.
	Code uint64
	// Grouping names all machines.
	Grouping grouping.Grouping
	// Calculators and Combiners are the ids of their devices, in the order of the grouping.
	Calculators, Combiners []string
	// Reserve says that there is a reserve, so that the authority can grow.
	Reserve bool
}

// SmallPlan is for the five devices of the test system: any 2 of 3 calculators (device-1 to device-3) with one of 2 combiners (device-4
// and device-5), each of which serves every pair.
func SmallPlan(code uint64) Plan {
	return Plan{
		Code: code, Reserve: true,
		Grouping: grouping.Grouping{T: 2, L: 2, Calculators: []uint64{1, 2, 3}, Combiners: []grouping.Group{
			Group(1, "11,21", "12,31", "22,32"), Group(2, "12,22", "11,32", "21,31"),
		}},
		Calculators: deviceIDs(1, 3), Combiners: deviceIDs(4, 5),
	}
}

// GrownPlan is SmallPlan with a fourth calculator (device-6), a third combiner (device-7), and combinations of the calculator at the other
// combiners, which get new versions of their shares. It needs [WithDevices].
func GrownPlan(code uint64) Plan {
	p := SmallPlan(code)
	p.Grouping.Calculators = append(p.Grouping.Calculators, 4)
	p.Grouping.Combiners = []grouping.Group{
		Group(1, "11,21", "12,31", "22,32", "11,42", "32,41"), Group(2, "12,22", "11,32", "21,31", "21,41"),
		Group(3, "11,21", "12,31", "22,32", "12,41"),
	}
	p.Calculators, p.Combiners = append(p.Calculators, "device-6"), append(p.Combiners, "device-7")
	return p
}

// Without is the plan without some machines and without the combinations of these calculators.
func (p Plan) Without(calculators, combiners []uint64) Plan {
	g, err := p.Grouping.Without(calculators, combiners)
	if err != nil {
		panic(err) // of a test's own plan
	}
	left := p
	left.Grouping, left.Calculators, left.Combiners = *g, nil, nil
	for i, j := range p.Grouping.Calculators {
		if !slices.Contains(calculators, j) {
			left.Calculators = append(left.Calculators, p.Calculators[i])
		}
	}
	for i, c := range p.Grouping.Combiners {
		if !slices.Contains(combiners, c.Number) {
			left.Combiners = append(left.Combiners, p.Combiners[i])
		}
	}
	return left
}

// PrintedPlan is the worked example of B [0084] to [0088]: any 3 of 5 calculators (device-1 to device-5) with one of 3 combiners
// (device-6 to device-8). It needs [WithDevices].
func PrintedPlan(code uint64) Plan {
	return Plan{
		Code: code, Reserve: true,
		Grouping: grouping.Grouping{T: 3, L: 2, Calculators: []uint64{1, 2, 3, 4, 5}, Combiners: []grouping.Group{
			Group(1, "11,22,31", "21,32,41", "31,42,51", "11,41,52", "12,21,51"),
			Group(2, "11,21,42", "22,41,51", "21,31,52", "11,32,51", "12,31,41"),
			Group(3, "11,32,41", "12,21,31", "11,22,51", "21,41,52", "31,42,51"),
		}},
		Calculators: deviceIDs(1, 5), Combiners: deviceIDs(6, 8),
	}
}

// Group is a combiner's group with combinations as B prints them: "11,22,31".
func Group(number uint64, combinations ...string) grouping.Group {
	g := grouping.Group{Number: number}
	for _, text := range combinations {
		var c grouping.Combination
		for i := 0; i+1 < len(text); i += 3 {
			c = append(c, grouping.Term{Calculator: uint64(text[i] - '0'), Key: uint64(text[i+1] - '0')})
		}
		g.Combinations = append(g.Combinations, c)
	}
	return g
}

func deviceIDs(from, to int) []string {
	var ids []string
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprintf("device-%d", i))
	}
	return ids
}

// Authority is an authority in two layers with all its secrets, which nobody but a test has at once.
type Authority struct {
	Dealing ledger.Dealing
	Whole   *rsa.PrivateKey
	// Calculators and Combiners are the shares by machine number.
	Calculators map[uint64]twolayer.CalculatorShare
	Combiners   map[uint64]twolayer.CombinerShare
	// Entry is the entry that brought the dealing, zero before [System.Enter].
	Entry ledger.SignedEntry

	dealt *twolayer.Dealing
}

// Authority deals what p says, has the SWA sign the entry, and folds it into s.State.
func (s *System) Authority(t testing.TB, p Plan) *Authority {
	t.Helper()
	a := s.Deal(t, p)
	s.Enter(t, a)
	return a
}

// Extend deals the next revision of a and folds it into s.State. p is the whole plan, with the machines that stay in their places:
// combiners that get combinations, and new machines, are dealt their shares.
func (s *System) Extend(t testing.TB, a *Authority, p Plan) *Authority {
	t.Helper()
	next := s.DealNext(t, a, p)
	s.Enter(t, next)
	return next
}

// Enter has the SWA sign the entry of a dealing, and folds it into s.State. The entry stays in a.
func (s *System) Enter(t testing.TB, a *Authority) {
	t.Helper()
	a.Entry = s.Entry(t, s.State, ledger.KindDealing, &a.Dealing, max(s.Now, s.State.Time()))
	next, err := ledger.Catchup(s.State, []ledger.SignedEntry{a.Entry})
	if err != nil {
		t.Fatal(err)
	}
	s.State = next
}

// Deal makes the confirmed first dealing of an authority, which is in no entry yet. It needs nothing of s.State. The operator is
// [Operator]; the distributors are server-1 and server-2 with the numbers 1 and 2; officers are the two of each device.
func (s *System) Deal(t testing.TB, p Plan) *Authority {
	t.Helper()
	id := fmt.Sprintf("ca-%d", p.Code)
	name := fmt.Sprintf("Enterprise %d", p.Code)
	a := &Authority{Whole: authorityKey(t, p.Code)}
	var err error
	a.Dealing = ledger.Dealing{
		Enterprise: ledger.Enterprise{Code: p.Code, Name: name}, Revision: 1,
		Key: ledger.Key{
			ID: id, Name: name + " Authority", Family: ledger.FamilyCertificate, Scheme: threshold.TwoLayer, Epoch: 1, MaxDays: 825,
			SafePrimes: p.Code%3 == 1, Public: threshold.PublicKey{N: a.Whole.N.Bytes(), E: threshold.PublicExponent},
			Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
		},
		Distributors: []ledger.Distributor{{Number: 1, Server: "server-1"}, {Number: 2, Server: "server-2"}},
		Operator:     Operator, Created: s.Now, Isolated: true,
	}
	if a.Dealing.Key.Certificate, err = authorityRoot(a.Dealing.Key.Name, a.Whole); err != nil {
		t.Fatal(err)
	}
	s.fill(t, nil, a, p)
	return a
}

// DealNext makes the confirmed next revision of a, which is in no entry yet.
func (s *System) DealNext(t testing.TB, a *Authority, p Plan) *Authority {
	t.Helper()
	next := &Authority{Whole: a.Whole, Dealing: a.Dealing}
	next.Dealing.Revision++
	next.Dealing.Created = max(s.Now, s.State.Time())
	s.fill(t, a, next, p)
	return next
}

// Reserve is one that any two of three officers open: officer-1a, officer-2a and officer-3a with their first cards.
func (s *System) Reserve() *ledger.Reserve {
	r := &ledger.Reserve{Need: 2}
	for _, id := range []string{"officer-1a", "officer-2a", "officer-3a"} {
		r.Keepers = append(r.Keepers, ledger.Keeper{Person: id, Card: s.Persons[id].Card().Serial})
	}
	return r
}

// Confirm confirms the dealing anew, after a test changed it.
func (s *System) Confirm(t testing.TB, d *ledger.Dealing) {
	t.Helper()
	if err := d.Confirm(rand.Reader, s.Persons[d.Operator].Card().Sign, s.Verified.System(), d.Created); err != nil {
		t.Fatal(err)
	}
}

// fill makes the shares and rows of a plan.
func (s *System) fill(t testing.TB, old, a *Authority, p Plan) {
	t.Helper()
	if len(p.Calculators) != len(p.Grouping.Calculators) || len(p.Combiners) != len(p.Grouping.Combiners) {
		t.Fatalf("plan: %d calculators and %d combiners have %d and %d devices", len(p.Grouping.Calculators), len(p.Grouping.Combiners), len(p.Calculators), len(p.Combiners))
	}
	a.share(t, old, p.Grouping)
	k := &a.Dealing.Key
	k.T, k.N, k.Holders, a.Dealing.Officers = p.Grouping.T, uint64(len(p.Calculators)), nil, nil
	machine := func(layer, number uint64, name, device string) {
		h := ledger.Holder{
			Index: number, Share: fmt.Sprintf("%s.%s-%d", k.ID, name, number), Device: device, Quorum: 2, Pieces: 2, Threshold: 2, Layer: layer, Version: 1,
		}
		if old != nil {
			if was, ok := old.Dealing.Key.Machine(layer, number); ok {
				h.Version = was.Version
				if layer == ledger.LayerCombiner && grew(old.Dealing.Key.Layers, k.Layers, number) {
					h.Version++
				}
			}
		}
		k.Holders = append(k.Holders, h)
		for _, o := range s.Genesis.Officers {
			if o.Device == device {
				o.Keys = []string{k.ID}
				a.Dealing.Officers = append(a.Dealing.Officers, o)
			}
		}
	}
	for i, j := range p.Grouping.Calculators {
		machine(ledger.LayerCalculator, j, "calculator", p.Calculators[i])
	}
	for i, c := range p.Grouping.Combiners {
		machine(ledger.LayerCombiner, c.Number, "combiner", p.Combiners[i])
	}
	if a.Dealing.Reserve = nil; p.Reserve {
		a.Dealing.Reserve = s.Reserve()
	}
	s.Confirm(t, &a.Dealing)
}

// grew reports whether a combiner has combinations that it had not.
func grew(old, now *twolayer.Public, number uint64) bool {
	had := make(map[string]bool)
	for _, c := range groupOf(old, number) {
		had[c.String()] = true
	}
	return slices.ContainsFunc(groupOf(now, number), func(c grouping.Combination) bool { return !had[c.String()] })
}

func groupOf(l *twolayer.Public, number uint64) []grouping.Combination {
	for _, c := range l.Grouping.Combiners {
		if c.Number == number {
			return c.Combinations
		}
	}
	return nil
}

// share makes the secrets of a grouping. They depend on the key and the grouping alone.
func (a *Authority) share(t testing.TB, old *Authority, g grouping.Grouping) {
	t.Helper()
	k := &a.Dealing.Key
	random := mathrand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "privyseal ledgertest %s %v", k.ID, g)))
	var err error
	if old == nil {
		whole, err := wholeKey(authorityName(a.Dealing.Enterprise.Code), k.SafePrimes)
		if err != nil {
			t.Fatal(err)
		}
		if a.dealt, err = twolayer.Deal(random, whole, g); err != nil {
			t.Fatal(err)
		}
	} else if a.dealt, err = old.dealt.Extend(random, g, &k.Public); err != nil {
		t.Fatal(err)
	}
	public := a.dealt.Public
	k.Layers = &public
	a.Calculators, a.Combiners = make(map[uint64]twolayer.CalculatorShare), make(map[uint64]twolayer.CombinerShare)
	for _, c := range a.dealt.Calculators {
		a.Calculators[c.Number] = twolayer.CalculatorShare{Number: c.Number, Keys: cloneSecrets(c.Keys)}
	}
	for _, c := range a.dealt.Combiners {
		a.Combiners[c.Number] = twolayer.CombinerShare{Number: c.Number, Parts: cloneSecrets(c.Parts)}
	}
}

// wholeKey checks the primes of a key once for a test binary: for safe ones that takes longer than a dealing.
func wholeKey(name string, safe bool) (*threshold.WholeKey, error) {
	wholeMu.Lock()
	defer wholeMu.Unlock()
	if k := wholeKeys[name]; k != nil {
		return k, nil
	}
	p, _ := hex.DecodeString(primes[name][0])
	q, _ := hex.DecodeString(primes[name][1])
	k, err := threshold.WholeKeyFromPrimes(p, q, safe)
	if err == nil {
		wholeKeys[name] = k
	}
	return k, err
}

var (
	wholeMu   sync.Mutex
	wholeKeys = make(map[string]*threshold.WholeKey)
)

// authorityRoot is a root as the document package makes them, which devices insist on: an authority over end entities, the key's identifier
// by SHA-256 (RFC 7093), and nothing else, in its order.
func authorityRoot(name string, key *rsa.PrivateKey) ([]byte, error) {
	id := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	serial := sha256.Sum256([]byte(name))
	serial[0] = serial[0]&0x3f | 0x40
	extension := func(n int, critical bool, value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, n}, Critical: critical, Value: value}
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:19]), Subject: pkix.Name{CommonName: name, Organization: []string{"Privyseal tests"}},
		NotBefore: time.Unix(Epoch, 0).UTC(), NotAfter: time.Unix(Epoch+20*365*86400, 0).UTC(), SignatureAlgorithm: x509.SHA256WithRSA,
		ExtraExtensions: []pkix.Extension{
			extension(19, true, 0x30, 6, 1, 1, 0xff, 2, 1, 0),
			extension(15, true, 3, 2, 1, 6),
			extension(14, false, append([]byte{4, 20}, id[:20]...)...),
		},
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

func cloneSecrets(in []threshold.Secret) []threshold.Secret {
	var out []threshold.Secret
	for _, s := range in {
		out = append(out, threshold.NewSecret(bytes.Clone(s.Reveal())))
	}
	return out
}

func authorityName(code uint64) string { return fmt.Sprintf("authority %d", (code+2)%3+1) }

func authorityKey(t testing.TB, code uint64) *rsa.PrivateKey {
	t.Helper()
	x := primes[authorityName(code)]
	p, _ := hex.DecodeString(x[0])
	q, _ := hex.DecodeString(x[1])
	k, err := privateKey(p, q)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// LooseRoot is a root for the key of an enterprise that the tables accept and that no device would make: what an authority may do is less
// narrow in it.
func LooseRoot(t testing.TB, code uint64) []byte {
	t.Helper()
	der, err := root("Loose", authorityKey(t, code))
	if err != nil {
		t.Fatal(err)
	}
	return der
}
