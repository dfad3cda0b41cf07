package document

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
)

// layersRequest is a certificate request under the key of an authority in two layers, routed to all its machines.
func layersRequest(t testing.TB, s *ledgertest.System, id string) *Request {
	t.Helper()
	key, ok := s.State.Key(id)
	if !ok {
		t.Fatal("no key", id)
	}
	csr := opensslCSR(t, newEC, san...)
	tbs := leaf(t, key, csr, threshold.RS256)
	tbs.NotBefore, tbs.NotAfter = now, now+90*day-1
	r := certificateRequest(t, key, csr, tbs, threshold.RS256)
	r.Route = RouteTo(&key, ApprovalsSet)
	r.Created, r.Expires = s.Now, s.Now+3600
	return r
}

// A certificate of an authority in two layers is one as any other.
func TestLayersCertificate(t *testing.T) {
	s := ledgertest.New(t)
	a := s.Authority(t, ledgertest.SmallPlan(1))
	r := layersRequest(t, s, "ca-1")
	if want := []string{"device-1", "device-2", "device-3", "device-4", "device-5"}; !slices.Equal(r.Route.Devices, want) || r.Route.Mode != ModeParallel {
		t.Error("route", r.Route)
	}
	c, err := CheckIn(s.State, r, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	if der := finish(t, c, a.Whole); len(der) == 0 {
		t.Error("no certificate")
	}
	view := strings.Join(c.View().Lines(1000), "\n")
	for _, want := range []string{"2 of: device-1 (1), device-2 (2), device-3 (3)", "1 of: device-4 (1), device-5 (2)", "parallel, approvals as a set"} {
		if !strings.Contains(view, want) {
			t.Errorf("%q is missing in\n%s", want, view)
		}
	}
}

// A route on which no signature could be made is refused, and so is a chain.
func TestLayersRoute(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	s.Authority(t, ledgertest.PrintedPlan(1))
	key, _ := s.State.Key("ca-1")
	calculators := []string{"device-1", "device-2", "device-3"}
	for _, c := range []struct {
		name  string
		route Route
		want  string
	}{
		{"all", RouteTo(&key, ApprovalsSet), ""},
		{"three calculators, served by combiner 1", Route{ModeParallel, ApprovalsSet, append([]string{"device-6"}, calculators...)}, ""},
		{"chain", Route{ModeParallel, ApprovalsChain, key2devices(key)}, `the approvals must be a "set"`},
		{"sequential", Route{ModeSequential, ApprovalsSet, key2devices(key)}, `shared for parallel signing, the mode must be "parallel"`},
		{"no combiner", Route{ModeParallel, ApprovalsSet, calculators}, "names no combiner"},
		{"two calculators", Route{ModeParallel, ApprovalsSet, []string{"device-1", "device-2", "device-6", "device-7", "device-8"}}, "names 2 calculators, key \"ca-1\" needs 3"},
		{"a combiner that serves others", Route{ModeParallel, ApprovalsSet, append([]string{"device-7"}, calculators...)}, "none of its combiners has a combination of its calculators"},
		{"a device twice", Route{ModeParallel, ApprovalsSet, append([]string{"device-6", "device-6"}, calculators...)}, "named twice"},
		{"a device of no machine", Route{ModeParallel, ApprovalsSet, append([]string{"device-6", "device-9"}, calculators...)}, `device "device-9" holds no share`},
		{"no devices", Route{ModeParallel, ApprovalsSet, nil}, "names no device"},
	} {
		err := c.route.Validate(&key)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrRoute)) {
			t.Errorf("%s:\ngot  %v\nwant …%s…", c.name, err, c.want)
		}
	}
	key.Layers = nil
	r := RouteTo(&key, ApprovalsSet)
	if err := r.Validate(&key); err == nil || !strings.Contains(err.Error(), "has no layers") {
		t.Error(err)
	}
}

func key2devices(key ledger.Key) []string { r := RouteTo(&key, ""); return r.Devices }

// A machine that is taken away takes no request with it, as long as the others can sign; one that never was a machine does.
func TestLayersRouteOutlivesMachines(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(7))
	a := s.Authority(t, ledgertest.SmallPlan(1))
	r := layersRequest(t, s, "ca-1")
	few := *r
	few.Route.Devices = []string{"device-1", "device-2", "device-4"}
	stranger := *r
	stranger.Route.Devices = append([]string{"device-6"}, r.Route.Devices...)
	s.Extend(t, a, ledgertest.SmallPlan(1).Without([]uint64{1}, []uint64{2}))
	c, err := CheckIn(s.State, r, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	if view := strings.Join(c.View().Lines(1000), "\n"); !strings.Contains(view, "2 of: device-2 (2), device-3 (3)") || !strings.Contains(view, "1 of: device-4 (1)") {
		t.Error(view)
	}
	if len(r.Route.Devices) != 5 {
		t.Error("the request was changed")
	}
	if _, err := CheckIn(s.State, &few, s.Now); err == nil || !strings.Contains(err.Error(), "names 1 calculators") {
		t.Error(err)
	}
	if _, err := CheckIn(s.State, &stranger, s.Now); err == nil || !strings.Contains(err.Error(), `device "device-6" holds no share`) {
		t.Error(err)
	}
}

// Officers of the SWA see what they bring into the ledger.
func TestDealingView(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithDevices(8))
	show := func(d *ledger.Dealing) (string, error) {
		t.Helper()
		entry, err := ledger.NewEntry(s.State, ledger.KindDealing, d, s.Now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := CheckIn(s.State, swaRequest(t, s, KindEntry, entry), s.Now)
		if err != nil {
			return "", err
		}
		return strings.Join(c.View().Lines(1000), "\n"), nil
	}
	contains := func(got string, err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is missing in\n%s", w, got)
			}
		}
	}
	first := s.Deal(t, ledgertest.SmallPlan(1))
	got, err := show(&first.Dealing)
	digest, derr := first.Dealing.Digest()
	if derr != nil {
		t.Fatal(derr)
	}
	contains(got, err, digest.String(), "brings a new certificate authority", "1, Enterprise 1", "ca-1, Enterprise 1 Authority", "RSA 2048 bits",
		"Rita Requester (requester)", "any 2 calculators", "calculator 3: device device-3, Seal 3, share ca-1.calculator-3",
		"officer Officer 4b (officer-4b), card 42", "2: server server-2", "yes, as far as", "any 2 of 3 persons open it", "Officer 2a (officer-2a), card 21", "coalitions that do", "combiners 1+2 with")
	if strings.Contains(got, "WARNING") || strings.Contains(got, "new version") {
		t.Error(got)
	}
	// A machine with a network, and no reserve.
	open := first.Dealing
	open.Isolated, open.Reserve = false, nil
	s.Confirm(t, &open)
	got, err = show(&open)
	contains(got, err, "WARNING: the distributor's machine had a network", "none: machines can be lost, and never added")

	s.Enter(t, first)
	second := s.DealNext(t, first, ledgertest.GrownPlan(1))
	got, err = show(&second.Dealing)
	contains(got, err, "replaces revision 1", "its share is dealt again, as version 2", "combiner 3: device device-7", "new")
	s.Enter(t, second)
	third := s.DealNext(t, second, ledgertest.GrownPlan(1).Without([]uint64{4}, []uint64{1, 3}))
	got, err = show(&third.Dealing)
	contains(got, err, "taken away, for good", "combiner 1: device device-4")
	third = s.DealNext(t, second, ledgertest.GrownPlan(1).Without(nil, []uint64{1, 3}))
	got, err = show(&third.Dealing)
	contains(got, err, "WARNING: calculators", "yet no combiner serves them")

	// One that was given out and never entered, and an empty one, are shown by the revision that counts them, and by later ones.
	lost := ledger.Counted{Dealing: [32]byte{0xab}, Revision: 3, Combiners: []grouping.Group{ledgertest.Group(1, "12,22")}}
	for _, h := range second.Dealing.Key.Holders {
		lost.Machines = append(lost.Machines, ledger.Machine{Layer: h.Layer, Number: h.Index, Device: h.Device})
	}
	same := lost
	same.Dealing, same.Combiners = [32]byte{0xcd}, nil
	lost.Machines = slices.Insert(slices.Clone(lost.Machines), 4, ledger.Machine{Layer: ledger.LayerCalculator, Number: 5, Device: "device-8"})
	third = s.DealNext(t, second, ledgertest.GrownPlan(1))
	third.Dealing.Counted = []ledger.Counted{lost, same}
	s.Confirm(t, &third.Dealing)
	got, err = show(&third.Dealing)
	contains(got, err, "dealing "+lost.Dealing.String()+", revision 3, never entered, given to devices:", "device-8, Seal 8, as calculator 5, which is no machine of this dealing",
		"device-4, Seal 4, as combiner 1\n", "dealing "+same.Dealing.String()+", revision 3, never entered, gave out nothing but what this one does")
	if strings.Contains(got, "counted before") || strings.Contains(got, "as combiner 2") {
		t.Error(got)
	}
	s.Enter(t, third)
	fourth := s.DealNext(t, third, ledgertest.GrownPlan(1))
	fourth.Dealing.Counted = nil
	s.Confirm(t, &fourth.Dealing)
	got, err = show(&fourth.Dealing)
	contains(got, err, "counted before", "dealing "+lost.Dealing.String()+", revision 3, never entered")

	// The printed example's weak coalitions are seen (combiners 1+2 with one calculator; 1+3 with calculator 4: d mod 2).
	printed := s.Deal(t, ledgertest.PrintedPlan(2))
	got, err = show(&printed.Dealing)
	contains(got, err, "combiners 1+2 with calculator 1: d", "combiners 1+3 with calculator 4: d mod 2")

	// A root that the tables take and devices would not make.
	bad := s.Deal(t, ledgertest.SmallPlan(2)).Dealing
	bad.Key.Certificate = ledgertest.LooseRoot(t, 2)
	s.Confirm(t, &bad)
	if _, err := show(&bad); !errors.Is(err, ErrRoot) {
		t.Error("a loose root:", err)
	}
}
