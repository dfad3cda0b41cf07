package dealing_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/dealing"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// TestPlanRefused changes one thing of a good plan at a time.
func TestPlanRefused(t *testing.T) {
	r := newRig(t, 8)
	for name, c := range map[string]struct {
		change func(*dealing.Plan)
		path   string // of the *PlanError
		words  []string
	}{
		"code 0":              {func(p *dealing.Plan) { p.Enterprise.Code = 0 }, "enterprise.code", nil},
		"code too large":      {func(p *dealing.Plan) { p.Enterprise.Code = 1_000_000 }, "enterprise.code", nil},
		"no name":             {func(p *dealing.Plan) { p.Enterprise.Name = "" }, "enterprise.name", nil},
		"lines in a name":     {func(p *dealing.Plan) { p.Enterprise.Name = "Bank\nisolated     yes" }, "enterprise.name", nil},
		"a turned name":       {func(p *dealing.Plan) { p.Key.Name = "Bank \u202eAC" }, "key.name", nil},
		"a long name":         {func(p *dealing.Plan) { p.Key.Name = strings.Repeat("x", 129) }, "key.name", nil},
		"strange key id":      {func(p *dealing.Plan) { p.Key.ID = "../x" }, "key.id", nil},
		"key id with a space": {func(p *dealing.Plan) { p.Key.ID = "a b" }, "key.id", nil},
		"no key id":           {func(p *dealing.Plan) { p.Key.ID = "" }, "key.id", nil},
		"a key that is there": {func(p *dealing.Plan) { p.Key.ID = ledgertest.KeyCertificates }, "key.id", []string{"there is a key"}},
		"no root's name":      {func(p *dealing.Plan) { p.Key.Name = "" }, "key.name", nil},
		"1024 bits":           {func(p *dealing.Plan) { p.Key.Bits = 1024 }, "key.bits", []string{"2048, 3072 or 4096"}},
		"no algorithm":        {func(p *dealing.Plan) { p.Key.Algorithms = nil }, "key.algorithms", nil},
		"SHA-1":               {func(p *dealing.Plan) { p.Key.Algorithms = []string{"RS1"} }, "key.algorithms.0", nil},
		"algorithm twice":     {func(p *dealing.Plan) { p.Key.Algorithms = []string{"RS256", "RS256"} }, "key.algorithms.1", nil},
		"no max_days":         {func(p *dealing.Plan) { p.Key.MaxDays = 0 }, "key.max_days", nil},
		"no root_days":        {func(p *dealing.Plan) { p.Key.RootDays = 0 }, "key.root_days", nil},
		"one signs alone":     {func(p *dealing.Plan) { p.Need = 1 }, "need", []string{"one machine"}},
		"more than there are": {func(p *dealing.Plan) { p.Need = 4 }, "need", nil},
		"all must sign":       {func(p *dealing.Plan) { p.Need = 3 }, "need", []string{"so that one may fail"}},
		"no calculators":      {func(p *dealing.Plan) { p.Calculators = nil }, "calculators", nil},
		"no combiners":        {func(p *dealing.Plan) { p.Combiners = nil }, "combiners", nil},
		"numbers fall":        {func(p *dealing.Plan) { p.Calculators[2].Number = 2 }, "calculators.2.number", nil},
		"a gap":               {func(p *dealing.Plan) { p.Calculators[2].Number = 4 }, "calculators.2.number", nil},
		"unknown device": {func(p *dealing.Plan) {
			p.Combiners[1].Device = "device-99"
			p.Officers[8].Device, p.Officers[9].Device = "device-99", "device-99"
		}, "combiners.1.device", []string{"no device"}},
		"device twice":       {func(p *dealing.Plan) { p.Combiners[1].Device = "device-1" }, "combiners.1.device", []string{"calculator 1 already"}},
		"17 sub-keys":        {func(p *dealing.Plan) { p.SubKeys = 17 }, "sub_keys", nil},
		"too redundant":      {func(p *dealing.Plan) { p.Redundant = 127 }, "redundant", nil},
		"resist too much":    {func(p *dealing.Plan) { p.Resist = dealing.Resist{Combiners: 1, Calculators: 2} }, "resist.calculators", nil},
		"resist too little":  {func(p *dealing.Plan) { p.Resist = dealing.Resist{Combiners: 1} }, "resist.calculators", []string{"threshold"}},
		"resist nobody":      {func(p *dealing.Plan) { p.Resist = dealing.Resist{Calculators: 1} }, "resist.combiners", nil},
		"quorum 1":           {func(p *dealing.Plan) { p.Quorum = 1 }, "quorum", nil},
		"quorum left out":    {func(p *dealing.Plan) { p.Quorum = 0 }, "quorum", nil},
		"one piece opens":    {func(p *dealing.Plan) { p.Pieces = 1 }, "pieces", nil},
		"more pieces":        {func(p *dealing.Plan) { p.Pieces = 3 }, "pieces", nil},
		"few officers":       {func(p *dealing.Plan) { p.Officers = p.Officers[1:] }, "officers", []string{"device-1 has 1"}},
		"no days":            {func(p *dealing.Plan) { p.OfficerDays = 0 }, "officer_days", nil},
		"stranger":           {func(p *dealing.Plan) { p.Officers[3].Person = "mallory" }, "officers.3.person", []string{"mallory"}},
		"somebody twice":     {func(p *dealing.Plan) { p.Officers[1] = p.Officers[0] }, "officers.1", []string{"once"}},
		"two devices":        {func(p *dealing.Plan) { p.Officers[2].Person = p.Officers[0].Person }, "officers.2", []string{"serves device-1 too"}},
		"a program":          {func(p *dealing.Plan) { p.Officers[0].Person = ledgertest.Program }, "officers.0.person", []string{"no card"}},
		"which card":         {func(p *dealing.Plan) { p.Officers[0].Person = ledgertest.Requester }, "officers.0.card", []string{"several cards"}},
		"another's card":     {func(p *dealing.Plan) { p.Officers[0].Card = 12 }, "officers.0.card", []string{"no card of officer-1a"}},
		"another class":      {func(p *dealing.Plan) { p.Officers[0].Class = "king" }, "officers.0.class", nil},
		"officer of nothing": {func(p *dealing.Plan) { p.Officers[0].Device = "device-8" }, "officers.0.device", nil},
		"no distributor":     {func(p *dealing.Plan) { p.Distributors = nil }, "distributors", nil},
		"unknown server":     {func(p *dealing.Plan) { p.Distributors[0].Server = "server-9" }, "distributors.0.server", nil},
		"distributor 0":      {func(p *dealing.Plan) { p.Distributors[0].Number = 0 }, "distributors.0.number", nil},
		"distributor twice":  {func(p *dealing.Plan) { p.Distributors = append(p.Distributors, p.Distributors[0]) }, "distributors.1", nil},
		"no operator":        {func(p *dealing.Plan) { p.Operator = "" }, "operator", nil},
		"unknown operator":   {func(p *dealing.Plan) { p.Operator = "mallory" }, "operator", nil},
		"operator's card":    {func(p *dealing.Plan) { p.Operator = ledgertest.Program }, "operator", []string{"no card"}},
		"administrator":      {func(p *dealing.Plan) { p.Operator = ledgertest.Administrator }, "operator", []string{"administrator"}},
		"no word of reserve": {func(p *dealing.Plan) { p.Reserve = nil }, "reserve", []string{"ever"}},
		"nothing to keep":    {func(p *dealing.Plan) { p.Reserve, p.KeepReserve = nil, true }, "reserve", []string{"none to keep"}},
		"both":               {func(p *dealing.Plan) { p.NoReserve = true }, "reserve", nil},
		"one keeper opens":   {func(p *dealing.Plan) { p.Reserve.Need = 1 }, "reserve.need", []string{"whole key"}},
		"too few keepers":    {func(p *dealing.Plan) { p.Reserve.Need = 4 }, "reserve.persons", nil},
		"keeper twice":       {func(p *dealing.Plan) { p.Reserve.Persons[1] = p.Reserve.Persons[0] }, "reserve.persons.1", nil},
		"unknown keeper":     {func(p *dealing.Plan) { p.Reserve.Persons[1].Person = "mallory" }, "reserve.persons.1.person", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.plan()
			c.change(p)
			_, err := dealing.Draft(r.inputs(), r.State, p, nil)
			var at *dealing.PlanError
			if !errors.As(err, &at) || at.Path != c.path {
				t.Fatalf("%v: expected an error at %s", err, c.path)
			}
			wants(t, err, c.words...)
		})
	}
	if _, err := dealing.Draft(r.inputs(), r.State, r.plan(), nil); err != nil {
		t.Errorf("the plan unchanged: %v", err)
	}
}

// TestPlanCannotBeHad: a plan that no grouping serves is refused with the reason.
func TestPlanCannotBeHad(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	p.SubKeys = 1
	_, err := dealing.Draft(r.inputs(), r.State, p, nil)
	var impossible *grouping.ImpossibleError
	if !errors.As(err, &impossible) || impossible.Reason == "" {
		t.Errorf("one sub-key: %v", err)
	}
	wants(t, err, "cannot be had")
	// Left open, the fewest that do are taken.
	p.SubKeys = 0
	d, err := dealing.Draft(r.inputs(), r.State, p, nil)
	r.check(err)
	if d.Grouping.L != 2 || d.Searched == "" {
		t.Errorf("l = %d, %q", d.Grouping.L, d.Searched)
	}
	in := r.inputs()
	in.Now = r.State.Time() - 3600
	_, err = dealing.Draft(in, r.State, p, nil)
	var clock *dealing.ClockError
	if !errors.As(err, &clock) {
		t.Errorf("a clock that is behind: %v", err)
	}
}

// TestInvitationsRefused changes one invitation at a time.
func TestInvitationsRefused(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	other := ledgertest.New(t, ledgertest.WithDevices(7))
	for name, c := range map[string]struct {
		change func(*firmware.Invitation, *envelope.Header)
		words  []string
	}{
		"expired":            {func(i *firmware.Invitation, _ *envelope.Header) { i.Created, i.Expires = r.now-600, r.now-1 }, []string{"device-2"}},
		"of the future":      {func(i *firmware.Invitation, _ *envelope.Header) { i.Created, i.Expires = r.now+4000, r.now+5000 }, []string{"device-2"}},
		"another system":     {func(_ *firmware.Invitation, h *envelope.Header) { h.System = other.State.System() }, []string{"device-2", "another system"}},
		"a newer ledger":     {func(_ *firmware.Invitation, h *envelope.Header) { h.LedgerHead = envelope.Hash{9} }, []string{"bring a newer one"}},
		"another enterprise": {func(i *firmware.Invitation, _ *envelope.Header) { i.Enterprise = 8 }, []string{"enterprise 8", "invite again"}},
		"another's name":     {func(i *firmware.Invitation, _ *envelope.Header) { i.Device = "device-1" }, []string{"device-1"}},
		"no point":           {func(i *firmware.Invitation, _ *envelope.Header) { i.Public = make([]byte, 65) }, []string{"P-256"}},
		"lives too long":     {func(i *firmware.Invitation, _ *envelope.Header) { i.Expires = i.Created + 365*86400 }, []string{"device-2"}},
		"another message":    {func(_ *firmware.Invitation, h *envelope.Header) { h.Type = "offer" }, []string{"device-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := r.invite(p)
			all[1] = r.invitation("device-2", c.change)
			_, err := dealing.Prepare(r.inputs(), r.State, p, all, nil)
			wants(t, err, c.words...)
		})
	}
	all := r.invite(p)
	_, err := dealing.Prepare(r.inputs(), r.State, p, all[1:], nil)
	wants(t, err, "device-1 is missing")
	_, err = dealing.Prepare(r.inputs(), r.State, p, append(all, all[0]), nil)
	wants(t, err, "two invitations of device device-1")
	_, err = dealing.Prepare(r.inputs(), r.State, p, append(all, r.invitation("device-8", nil)), nil)
	wants(t, err, "device-8", "no machine of the plan")
	all[0][len(all[0])-1] ^= 1
	_, err = dealing.Prepare(r.inputs(), r.State, p, all, nil)
	wants(t, err, "invitation 1")

	// Somebody put another key in the place of a device's token.
	thief := r.Devices["device-1"].Sign
	r.Devices["device-1"].Sign = ledgertest.NewSigner(t, "thief")
	_, err = dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil)
	wants(t, err, "no device's token")
	r.Devices["device-1"].Sign = r.Devices["device-1"].Boot
	_, err = dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil)
	wants(t, err, "no device's token")
	r.Devices["device-1"].Sign = thief
	if _, err := dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// TestReserveRefused tries wrong reserves, wrong pieces and too few.
func TestReserveRefused(t *testing.T) {
	r := newRig(t, 8)
	p := r.plan()
	first := r.deal(p)
	twin := r.deal(p) // the same key dealt again, which the ledger never takes
	other := r.plan()
	other.Enterprise, other.Key.ID = ledger.Enterprise{Code: 8, Name: "Other Bank"}, "other-ca"
	otherResult := func() *dealing.Result {
		var all [][]byte
		for _, d := range other.Devices() {
			all = append(all, r.invitation(d, func(i *firmware.Invitation, _ *envelope.Header) { i.Enterprise = 8 }))
		}
		d, err := dealing.Prepare(r.inputs(), r.State, other, all, nil)
		r.check(err)
		out, err := d.DealKey(r.inputs(), thresholdtest.Key(2048, true))
		r.check(err)
		return out
	}()
	r.enter(&first.Dealing)
	_, err := dealing.Deal(r.inputs(), r.State, p, r.invite(p), nil)
	if !errors.Is(err, dealing.ErrAuthority) {
		t.Errorf("dealt twice: %v", err)
	}
	p.Combiners = append(p.Combiners, machines(3, "device-6")...)
	p.Redundant = 3
	r.officers(p)
	d, err := dealing.Prepare(r.inputs(), r.State, p, r.invite(p), nil)
	r.check(err)
	if d.Revision() != 2 || !d.NeedsReserve() || !d.Fresh("device-6") || d.Fresh("device-1") {
		t.Errorf("revision %d", d.Revision())
	}
	good := r.pieces(first.Reserve, "officer-1a", "officer-2a")
	try := func(reserve []byte, pieces []share.Piece) error {
		t.Helper()
		out, err := d.Extend(r.inputs(), reserve, pieces, nil)
		if err == nil {
			t.Error("dealt")
			out.Wipe()
		}
		return err
	}
	if err := try(nil, nil); !errors.Is(err, dealing.ErrNoReserve) {
		t.Errorf("no reserve: %v", err)
	}
	if err := try(first.Reserve, nil); !errors.Is(err, share.ErrTooFewPieces) {
		t.Errorf("no pieces: %v", err)
	}
	if err := try(first.Reserve, good[:1]); !errors.Is(err, share.ErrTooFewPieces) {
		t.Errorf("one piece: %v", err)
	}
	if err := try(first.Reserve, r.pieces(twin.Reserve, "officer-1a", "officer-2a")); !errors.Is(err, share.ErrWrongPieces) {
		t.Errorf("pieces of another reserve: %v", err)
	}
	var wrong *dealing.ReserveError
	// Its pieces open it, and what is in it is not what the ledger publishes.
	if err := try(twin.Reserve, r.pieces(twin.Reserve, "officer-1a", "officer-2a")); !errors.As(err, &wrong) {
		t.Errorf("the reserve of another dealing of the key: %v", err)
	}
	err = try(otherResult.Reserve, r.pieces(otherResult.Reserve, "officer-1a", "officer-2a"))
	wants(t, err, "enterprise 8, not of 7")
	err = try([]byte("no reserve"), good)
	wants(t, err, "reserve")

	// Every field is authenticated, or refused before anything is opened.
	for name, change := range map[string]func(*dealing.Reserve){
		"format":     func(x *dealing.Reserve) { x.Format++ },
		"system":     func(x *dealing.Reserve) { x.System[0] ^= 1 },
		"enterprise": func(x *dealing.Reserve) { x.Enterprise++ },
		"key":        func(x *dealing.Reserve) { x.Key = "x" },
		"modulus":    func(x *dealing.Reserve) { x.Modulus[5] ^= 1 },
		"revision":   func(x *dealing.Reserve) { x.Revision = 2 },
		"revision 0": func(x *dealing.Reserve) { x.Revision = 0 },
		"dealing":    func(x *dealing.Reserve) { x.Dealing[0] ^= 1 },
		"created":    func(x *dealing.Reserve) { x.Created++ },
		"need":       func(x *dealing.Reserve) { x.Need = 3 },
		"need 1":     func(x *dealing.Reserve) { x.Need = 1 },
		"check":      func(x *dealing.Reserve) { x.KeyCheck[0] ^= 1 },
		"piece":      func(x *dealing.Reserve) { x.Pieces[2].Sealed[70] ^= 1 },
		"person":     func(x *dealing.Reserve) { x.Pieces[2].Person = "mallory" },
		"keeper":     func(x *dealing.Reserve) { x.Pieces = x.Pieces[:2] },
		"nonce":      func(x *dealing.Reserve) { x.Nonce[0] ^= 1 },
		"no nonce":   func(x *dealing.Reserve) { x.Nonce = nil },
		"secrets":    func(x *dealing.Reserve) { x.Ciphertext[1000] ^= 1 },
		"shorter":    func(x *dealing.Reserve) { x.Ciphertext = x.Ciphertext[:1000] },
	} {
		x, err := dealing.ParseReserve(first.Reserve)
		r.check(err)
		change(x)
		raw, err := envelope.Marshal(x)
		r.check(err)
		if err := try(raw, good); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	// A piece opens with its own card alone, and in its own place alone.
	x, err := dealing.ParseReserve(first.Reserve)
	r.check(err)
	if _, err := x.OpenPiece(0, r.Persons["officer-2a"].Card().Agree); err == nil {
		t.Error("opened with another's card")
	}
	x.Pieces[0].Sealed = x.Pieces[1].Sealed
	if _, err := x.OpenPiece(0, r.Persons["officer-2a"].Card().Agree); err == nil {
		t.Error("another's piece opens in this place")
	}
	// One keeper's piece is wrong, and three came: it works, and he is named.
	three := r.pieces(first.Reserve, "officer-1a", "officer-2a", "requester")
	three[1].Value.Reveal()[3] ^= 1
	out, err := d.Extend(r.inputs(), first.Reserve, three, nil)
	r.check(err)
	if !slices.Equal(out.WrongPieces, []string{"officer-2a"}) {
		t.Errorf("wrong: %q", out.WrongPieces)
	}
	// A piece of a reserve is for the distributor: nothing seals it for a device.
	one, err := ecdh.P256().GenerateKey(rand.Reader)
	r.check(err)
	if _, err := share.SealPieceForOffer(one.PublicKey(), share.OfferContext{
		ID: "x", Purpose: share.PurposeReserve, Request: envelope.Hash{1}, Offer: envelope.Hash{2}, Device: "device-1", Share: keyID, Officer: envelope.KeyID{3},
	}, good[0]); err == nil {
		t.Error("a reserve's piece is handed over for an offer")
	}
}

// TestExtensionRefused: an extension changes machines only.
func TestExtensionRefused(t *testing.T) {
	r := newRig(t, 8)
	bare := r.plan()
	bare.Reserve, bare.NoReserve = nil, true
	first := r.deal(bare)
	if first.Reserve != nil || first.Dealing.Reserve != nil {
		t.Error("a reserve that nobody asked for")
	}
	_, err := dealExtension(r.inputs(), r.State, bare, r.invite(bare), nil, nil, nil)
	if !errors.Is(err, dealing.ErrNoAuthority) {
		t.Errorf("extends what is not there: %v", err)
	}
	r.enter(&first.Dealing)
	for name, c := range map[string]struct {
		change func(*dealing.Plan)
		path   string
	}{
		"name":       {func(p *dealing.Plan) { p.Enterprise.Name = "Bank of Mallory" }, "enterprise.name"},
		"key":        {func(p *dealing.Plan) { p.Key.ID = "x" }, "key.id"},
		"root":       {func(p *dealing.Plan) { p.Key.Name = "x" }, "key.name"},
		"bits":       {func(p *dealing.Plan) { p.Key.Bits = 4096 }, "key.bits"},
		"primes":     {func(p *dealing.Plan) { p.Key.SafePrimes = true }, "key.safe_primes"},
		"algorithms": {func(p *dealing.Plan) { p.Key.Algorithms = []string{"RS256"} }, "key.algorithms"},
		"max_days":   {func(p *dealing.Plan) { p.Key.MaxDays = 3650 }, "key.max_days"},
		"need":       {func(p *dealing.Plan) { p.Need = 3 }, "need"},
		"sub-keys":   {func(p *dealing.Plan) { p.SubKeys = 3 }, "sub_keys"},
		"device":     {func(p *dealing.Plan) { p.Calculators[0].Device = "device-6"; r.officers(p) }, "calculators.0.device"},
		"quorum": {func(p *dealing.Plan) {
			p.Officers = p.Officers[2:]
			p.Officers = append(p.Officers, dealing.Officer{Person: "officer-6a", Device: "device-1"}, dealing.Officer{Person: "officer-6b", Device: "device-1"})
		}, "calculators.0"},
		"reserve": {func(p *dealing.Plan) { p.Reserve, p.NoReserve = r.plan().Reserve, false }, "reserve"},
		"growth": {func(p *dealing.Plan) {
			p.Calculators = append(p.Calculators, machines(4, "device-6")...)
			r.officers(p)
		}, "reserve"},
	} {
		p := r.plan()
		p.Reserve, p.NoReserve = nil, true
		c.change(p)
		_, err := dealing.Draft(r.inputs(), r.State, p, nil)
		var at *dealing.PlanError
		if !errors.As(err, &at) || at.Path != c.path {
			t.Errorf("%s: %v, expected an error at %s", name, err, c.path)
		}
	}
	// Officers may be renewed without dealing anything.
	p := r.plan()
	p.Reserve, p.NoReserve, p.OfficerDays = nil, true, 700
	r.now += 100
	out, err := dealExtension(r.inputs(), r.State, p, nil, nil, nil, nil)
	r.check(err)
	if len(out.Sealed) != 0 || out.Dealing.Officers[0].Expires != r.now+700*86400 {
		t.Errorf("%d sealed, officers until %d", len(out.Sealed), out.Dealing.Officers[0].Expires)
	}
}
