package ledger_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A signature under a genesis with some things wrong.
func genesisSign(t *testing.T, key *ecdsa.PrivateKey, payload any, edit func(*envelope.Header)) []byte {
	t.Helper()
	h := envelope.Header{Type: ledger.TypeGenesisSign, Version: 1, Created: ledgertest.Epoch, Expires: ledgertest.Epoch + 60}
	if edit != nil {
		edit(&h)
	}
	p, err := envelope.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Sign(rand.Reader, key, h, p)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestVerifyGenesisRefuses(t *testing.T) {
	s := ledgertest.New(t)
	system := s.State.System()
	device := s.Devices["device-1"] // its signature is Signatures[1]
	for _, c := range []struct {
		name string
		edit func(*ledger.Bundle)
		want string
	}{
		{"no signatures", func(b *ledger.Bundle) { b.Signatures = nil }, `not signed by administrator "admin", device "device-1", device "device-2"`},
		{"no administrator", func(b *ledger.Bundle) { b.Signatures = b.Signatures[1:] }, `not signed by administrator "admin"`},
		{"one device missing", func(b *ledger.Bundle) { b.Signatures = b.Signatures[:5] }, `not signed by device "device-5"`},
		{"a device twice", func(b *ledger.Bundle) { b.Signatures[2] = b.Signatures[1] }, `signature 2 by device "device-1" (sign key): signed twice`},
		{"one too many", func(b *ledger.Bundle) { b.Signatures = append(b.Signatures, b.Signatures[0]) }, "7 signatures where 6 are expected"},
		{"an officer", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, s.Persons["officer-1a"].Card().Sign, system, nil)
		}, "only the administrator's card and the devices' token keys"},
		{"a server", func(b *ledger.Bundle) { b.Signatures[1] = genesisSign(t, s.Servers["server-1"].Sign, system, nil) }, "only the administrator's card"},
		{"a device's boot key", func(b *ledger.Bundle) { b.Signatures[1] = genesisSign(t, device.Boot, system, nil) }, "only the administrator's card"},
		{"a stranger", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, ledgertest.NewSigner(t, "stranger"), system, nil)
		}, "unknown signer"},
		{"another genesis", func(b *ledger.Bundle) { b.Signatures[1] = genesisSign(t, device.Sign, envelope.Hash{1}, nil) }, "belongs to system 01"},
		{"another type", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, device.Sign, system, func(h *envelope.Header) { h.Type = "genesis" })
		}, `message of type "genesis"`},
		{"another version", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, device.Sign, system, func(h *envelope.Header) { h.Version = 2 })
		}, "version 2"},
		{"after commissioning", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, device.Sign, system, func(h *envelope.Header) { h.System = system })
		}, "names a system"},
		{"too early", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, device.Sign, system, func(h *envelope.Header) { h.Created = ledgertest.Epoch - 601 })
		}, "outside the administrator's window"},
		{"too late", func(b *ledger.Bundle) {
			b.Signatures[1] = genesisSign(t, device.Sign, system, func(h *envelope.Header) { h.Created += 7200; h.Expires += 7200 })
		}, "outside the administrator's window"},
		{"a payload that is no hash", func(b *ledger.Bundle) { b.Signatures[1] = genesisSign(t, device.Sign, []byte("hash"), nil) }, "not a byte string of 32 bytes"},
		{"rubbish", func(b *ledger.Bundle) { b.Signatures[1] = []byte("rubbish") }, "signature 1"},
		{"huge", func(b *ledger.Bundle) { b.Signatures[1] = make([]byte, 5000) }, "has 5000 bytes"},
		{"signature altered", func(b *ledger.Bundle) {
			b.Signatures[1] = bytes.Clone(b.Signatures[1])
			b.Signatures[1][len(b.Signatures[1])-1] ^= 1
		}, "signature"},
		{"genesis altered", func(b *ledger.Bundle) {
			b.Genesis = bytes.Replace(b.Genesis, []byte("Test system"), []byte("Fest system"), 1)
		}, "belongs to system"},
		{"genesis with a byte more", func(b *ledger.Bundle) { b.Genesis = append(bytes.Clone(b.Genesis), 0) }, "trailing"},
		{"genesis with an unknown field", func(b *ledger.Bundle) { b.Genesis = withField(t, b.Genesis) }, "genesis"},
		{"empty", func(b *ledger.Bundle) { *b = ledger.Bundle{} }, "genesis"},
		{"huge genesis", func(b *ledger.Bundle) { b.Genesis = make([]byte, ledger.MaxGenesis+1) }, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := ledger.Bundle{Genesis: s.Bundle.Genesis, Signatures: slices.Clone(s.Bundle.Signatures)}
			c.edit(&b)
			v, err := ledger.VerifyGenesis(b)
			if err == nil || v != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
		})
	}
}

// withField adds a field 17 to the outer map of a genesis: a4 → a5 and so on, appended at the end, where its key sorts.
func withField(t *testing.T, genesis []byte) []byte {
	if genesis[0] != 0xae { // map of 14
		t.Fatalf("genesis begins with %x", genesis[0])
	}
	out := bytes.Clone(genesis)
	out[0]++
	return append(out, 0x11, 0x01)
}

func TestVerifyGenesisOf(t *testing.T) {
	s := ledgertest.New(t)
	if _, err := ledger.VerifyGenesisOf(s.State.System(), s.Bundle); err != nil {
		t.Fatal(err)
	}
	var other *ledger.SystemError
	if _, err := ledger.VerifyGenesisOf(envelope.Hash{1}, s.Bundle); !errors.As(err, &other) {
		t.Fatal(err)
	}
	// Order does not matter.
	slices.Reverse(s.Bundle.Signatures)
	if _, err := ledger.VerifyGenesis(s.Bundle); err != nil {
		t.Fatal(err)
	}
}

func TestSignGenesisRefuses(t *testing.T) {
	s := ledgertest.New(t)
	key := s.Devices["device-1"].Sign
	for _, now := range []int64{ledgertest.Epoch - 601, ledgertest.Epoch + 7200} {
		if _, err := ledger.SignGenesis(rand.Reader, key, s.Bundle.Genesis, now); err == nil {
			t.Errorf("signed at %d, outside the window", now)
		}
	}
	s.Genesis.Keys[0].Holders[0].Quorum = 0
	raw, err := envelope.Marshal(&s.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.SignGenesis(rand.Reader, key, raw, s.Now); err == nil || !strings.Contains(err.Error(), "quorum is 0") {
		t.Errorf("signed a genesis with a quorum of zero: %v", err)
	}
}

// The stored bundles must verify for ever: systems in the field were made by older code. A system's id is what sha256sum says of the file
// with its genesis.
var golden = []struct {
	genesis, bundle, system string
	options                 []ledgertest.Option
}{
	{"testdata/genesis.cbor", "testdata/bundle.cbor", "c6400260029e38ea2d3be671e5e0e474546b161f0837d7f5c83604c7eb686a9a", nil},
	{"testdata/genesis_heartbeat.cbor", "testdata/bundle_heartbeat.cbor", "8b6517bb5406ce81b9109909788941202fa5e42d36a2a70d1be35db223ed2363", goldenHeartbeat},
}

// goldenHeartbeat uses every field of sources and policies.
var goldenHeartbeat = []ledgertest.Option{
	ledgertest.WithHeartbeat(ledgertest.Policy(), "device-1", "device-2"),
	ledgertest.WithHeartbeat(ledger.Heartbeat{
		Sources: []string{"message-1", "message-2", "sequence-2", "satellite-2", "device-1"}, Needed: 3,
		Period: 500, Lease: 6000, Minimum: 4, Loss: 7, Destroy: 30 * 86400,
	}, "device-3"),
}

func TestGoldenGenesis(t *testing.T) {
	for _, c := range golden {
		t.Run(c.genesis, func(t *testing.T) { checkGolden(t, c.genesis, c.bundle, c.system, c.options) })
	}
}

func checkGolden(t *testing.T, genesisFile, bundleFile, system string, options []ledgertest.Option) {
	if *update {
		s := ledgertest.New(t, options...)
		raw, err := envelope.Marshal(&s.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(genesisFile, s.Bundle.Genesis, 0o644), os.WriteFile(bundleFile, raw, 0o644)); err != nil {
			t.Fatal(err)
		}
		t.Logf("the system is now %v", s.State.System())
	}
	genesis, err := os.ReadFile(genesisFile)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(bundleFile)
	if err != nil {
		t.Fatal(err)
	}
	var b ledger.Bundle
	if err := envelope.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Genesis, genesis) {
		t.Fatal("the two files hold different genesis")
	}
	sum := sha256.Sum256(genesis)
	if got := hex.EncodeToString(sum[:]); got != system {
		t.Fatalf("sha256 of the file is %s", got)
	}
	v, err := ledger.VerifyGenesis(b)
	if err != nil {
		t.Fatal(err)
	}
	if v.System().String() != system || !bytes.Equal(v.Raw(), genesis) {
		t.Fatalf("system id %v", v.System())
	}
	g := v.Genesis()
	again, err := g.Encode()
	if err != nil || !bytes.Equal(again, genesis) {
		t.Fatalf("does not encode to what it was decoded from: %v", err)
	}
	// ledgertest makes the very same system.
	if got := ledgertest.New(t, options...).State.System().String(); got != system {
		t.Fatalf("ledgertest's system is %s: was that intended? run with -update", got)
	}
}

func TestLookups(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy()))
	st := s.State
	key := func(k *ecdsa.PrivateKey) envelope.KeyID { return ledgertest.KeyID(t, k) }
	agree := func(p ledgertest.Pair) envelope.KeyID {
		id, err := envelope.KeyIDOf(p.Agree.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	o := s.Persons["officer-1a"]
	first, second := o.Cards[0], o.Cards[1]
	for _, c := range []struct {
		name  string
		id    envelope.KeyID
		kind  string
		owner string
		use   ledger.Use
		card  uint32
	}{
		{"9C", key(first.Sign), "person", "officer-1a", ledger.UseSign, 11},
		{"9D", agree(first.Pair), "person", "officer-1a", ledger.UseAgree, 11},
		{"second card", key(second.Sign), "person", "officer-1a", ledger.UseSign, 111},
		{"software", key(s.Persons["program"].Software), "person", "program", ledger.UseSoftware, 0},
		{"device sign", key(s.Devices["device-2"].Sign), "device", "device-2", ledger.UseSign, 0},
		{"device agree", agree(s.Devices["device-2"].Pair), "device", "device-2", ledger.UseAgree, 0},
		{"device boot", key(s.Devices["device-2"].Boot), "device", "device-2", ledger.UseBoot, 0},
		{"server", key(s.Servers["server-3"].Sign), "server", "server-3", ledger.UseSign, 0},
		{"source", key(s.Sources["message-1"].Sign), "source", "message-1", ledger.UseSign, 0},
		{"source agree", agree(*s.Sources["message-1"]), "source", "message-1", ledger.UseAgree, 0},
	} {
		id, ok := st.Identity(c.id)
		if !ok || id.ID != c.id || id.Kind != c.kind || id.Owner != c.owner || id.Use != c.use || id.Card != c.card {
			t.Errorf("%s: %+v", c.name, id)
		}
		if (id.SignKey == nil) != (c.use == ledger.UseAgree) || (id.AgreeKey == nil) != (c.use != ledger.UseAgree) {
			t.Errorf("%s: keys for another use", c.name)
		}
		_, _, person := st.PersonOfKey(c.id)
		_, device := st.DeviceOfKey(c.id)
		_, server := st.ServerOfKey(c.id)
		_, source := st.SourceOfKey(c.id)
		if person != (c.kind == "person") || device != (c.kind == "device") || server != (c.kind == "server") || source != (c.kind == "source") {
			t.Errorf("%s: person %v, device %v, server %v, source %v", c.name, person, device, server, source)
		}
	}
	if p, card, ok := st.PersonOfKey(key(second.Sign)); !ok || p.ID != "officer-1a" || card.Serial != 111 {
		t.Error("second card:", p.ID, card.Serial, ok)
	}
	if !st.SamePerson(key(first.Sign), agree(second.Pair)) || st.SamePerson(key(first.Sign), key(s.Persons["officer-1b"].Card().Sign)) ||
		st.SamePerson(key(s.Devices["device-1"].Sign), key(s.Devices["device-1"].Boot)) || st.SamePerson(envelope.KeyID{}, envelope.KeyID{}) {
		t.Error("SamePerson")
	}
	if h, ok := st.HolderOf("certs", "device-4"); !ok || h.Index != 4 || h.Share != "certs.device-4" {
		t.Error("HolderOf:", h, ok)
	}
	if _, ok := st.HolderOf("certs", "device-9"); ok {
		t.Error("HolderOf found an unknown device")
	}
	if k, ok := st.LedgerKey(); !ok || k.ID != "swa" {
		t.Error("LedgerKey:", k.ID)
	}
	for _, id := range []string{"", "nobody", "DEVICE-1"} {
		_, server := st.Server(id)
		_, device := st.Device(id)
		_, person := st.Person(id)
		_, key := st.Key(id)
		_, source := st.Source(id)
		_, holder := st.HolderOf(id, "device-1")
		if server || device || person || key || source || holder {
			t.Errorf("%q: server %v, device %v, person %v, key %v, source %v, holder %v", id, server, device, person, key, source, holder)
		}
	}
	expires := s.Genesis.Officers[0].Expires
	if n := len(st.OfficersOf("device-1", expires-1)); n != 2 {
		t.Errorf("%d officers before they expire", n)
	}
	if n := len(st.OfficersOf("device-1", expires)); n != 0 {
		t.Errorf("%d officers after they expired", n)
	}
	if len(st.OfficersFor("certs", "device-1", s.Now)) != 2 || len(st.OfficersFor("gold", "device-1", s.Now)) != 0 {
		t.Error("OfficersFor")
	}
	if len(st.Registrations("officer-1a")) != 1 || len(st.Registrations("requester")) != 0 {
		t.Error("Registrations")
	}
}

// The zero State is safe to ask.
func TestZeroState(t *testing.T) {
	var s ledger.State
	if _, ok := s.Key(""); ok {
		t.Error("key")
	}
	if _, ok := s.LedgerKey(); ok {
		t.Error("ledger key")
	}
	if _, ok := s.Identity(envelope.KeyID{}); ok {
		t.Error("identity")
	}
	if _, ok := s.Knows(envelope.Hash{}); ok {
		t.Error("knows a head")
	}
	if s.Height() != 0 || s.Time() != 0 || !s.Head().IsZero() || !s.System().IsZero() || s.OfficersOf("", 0) != nil || s.Notices("", 0) != nil ||
		s.Sources() != nil || s.Backups("") != nil || s.MissingBackups("") != nil {
		t.Error("not empty")
	}
	if _, ok := s.Source(""); ok || s.MaySilence("", "", "", 0) || s.MayDestroy("") || s.Maintained("", 0) {
		t.Error("heartbeat")
	}
	x := ledgertest.New(t)
	e := x.Entry(t, x.State, ledger.KindNotice, &ledger.Notice{Text: "t", From: x.Now, Until: x.Now + 1}, x.Now)
	if _, err := ledger.VerifyEntry(s, e); err == nil {
		t.Error("zero state verified an entry")
	}
}

// What a State gives away does not lead back into it.
func TestStateIsImmutable(t *testing.T) {
	s := ledgertest.New(t, ledgertest.WithHeartbeat(ledgertest.Policy()))
	before, err := envelope.Marshal(ptr(s.State.Genesis()))
	if err != nil {
		t.Fatal(err)
	}
	g := s.State.Genesis()
	smash := func(bs ...[]byte) {
		for _, b := range bs {
			clear(b)
		}
	}
	for _, d := range append(g.Devices, s.State.Devices()...) {
		smash(d.Sign, d.Agree, d.Boot)
		d.Heartbeat.Sources[0], d.Heartbeat.Lease = "", 0
	}
	for _, p := range append(g.Persons, s.State.Persons()...) {
		smash(p.Software)
		for i := range p.Cards {
			smash(p.Cards[i].Sign, p.Cards[i].Agree)
			p.Cards[i].Serial = 0
		}
	}
	for _, k := range append(g.Keys, s.State.Keys()...) {
		smash(k.Public.N, k.Certificate, k.Commitment.G, k.Commitment.V[0].Value)
		k.Algorithms[0], k.Holders[0].Quorum, k.Commitment.V[0].Index = "", 0, 0
	}
	for _, o := range append(g.Officers, s.State.OfficersOf("device-1", s.Now)...) {
		o.Keys[0] = ""
	}
	for _, x := range append(g.Servers, s.State.Servers()...) {
		smash(x.Sign, x.Agree)
	}
	for _, x := range append(g.Sources, s.State.Sources()...) {
		smash(x.Sign, x.Agree)
		x.Operators[0] = ""
	}
	s.State.Ceremony().Witnesses[0] = ""
	clear(s.Verified.Raw())
	// The bundle that was verified and the genesis it was made from are the caller's.
	clear(s.Bundle.Genesis)
	after, err := envelope.Marshal(ptr(s.State.Genesis()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Fatal("the state changed")
	}
	if ledger.SystemID(s.Verified.Raw()) != s.State.System() {
		t.Fatal("the raw genesis changed")
	}
}

func ptr[T any](v T) *T { return &v }
