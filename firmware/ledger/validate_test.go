package ledger_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

type genesis = ledger.Genesis

// The positions of rows in the test genesis.
const (
	swa = iota
	certs
	files
)
const requesterRow = 11 // ten officers, the administrator, the requester, the program

func p384(t *testing.T) []byte {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ledgertest.SPKI(t, k.Public())
}

// Every rule of a genesis, broken alone, with what the refusal must say.
func TestValidateRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*genesis)
		want string
	}{
		{"version", func(g *genesis) { g.Version = 2 }, "genesis has version 2"},
		{"version zero", func(g *genesis) { g.Version = 0 }, "genesis has version 0"},
		{"no name", func(g *genesis) { g.Name = "" }, "system: name is empty"},
		{"long name", func(g *genesis) { g.Name = strings.Repeat("x", 129) }, "system: name has 129 bytes"},
		{"name with newline", func(g *genesis) { g.Name = "a\nb" }, "unprintable"},
		{"name that turns the text", func(g *genesis) { g.Name = "a\u202eb" }, "unprintable character U+202E"},
		{"name not UTF-8", func(g *genesis) { g.Name = "a\xff" }, "not UTF-8"},
		{"name with space at its end", func(g *genesis) { g.Name = "a " }, "begins or ends with a space"},
		{"created zero", func(g *genesis) { g.Created = 0 }, "created 0 is not a time"},
		{"firmware zero", func(g *genesis) { g.Firmware = envelope.Hash{} }, "hash of the firmware is zero"},
		{"no servers", func(g *genesis) { g.Servers = nil }, "0 servers"},
		{"no devices", func(g *genesis) { g.Devices = nil }, "0 devices"},
		{"no persons", func(g *genesis) { g.Persons = nil }, "0 persons"},
		{"no officers", func(g *genesis) { g.Officers = nil }, "0 officers"},
		{"no keys", func(g *genesis) { g.Keys = nil }, "0 keys"},
		{"no witness", func(g *genesis) { g.Ceremony.Witnesses = nil }, "0 witnesses"},
		{"too many devices", func(g *genesis) { g.Devices = make([]ledger.Device, 65) }, "65 devices"},

		{"ceremony file zero", func(g *genesis) { g.Ceremony.File = envelope.Hash{} }, "ceremony: hash of the reviewed file is zero"},
		{"attempt zero", func(g *genesis) { g.Ceremony.Attempt = 0 }, "attempt is 0"},
		{"administrator's window from nowhere", func(g *genesis) { g.Ceremony.NotBefore = 0 }, "not-before 0 is not a time"},
		{"administrator's window to nowhere", func(g *genesis) { g.Ceremony.NotAfter = 1 << 60 }, "not-after 1152921504606846976 is not a time"},
		{"administrator's days", func(g *genesis) { g.Ceremony.NotAfter = g.Ceremony.NotBefore + 86401 }, "at most 24 h"},
		{"administrator's window reversed", func(g *genesis) { g.Ceremony.NotAfter = g.Ceremony.NotBefore }, "must be positive"},
		{"created before the window", func(g *genesis) { g.Created = g.Ceremony.NotBefore - 1 }, "outside the administrator's window"},
		{"created after the window", func(g *genesis) { g.Created = g.Ceremony.NotAfter }, "outside the administrator's window"},
		{"witness twice", func(g *genesis) { g.Ceremony.Witnesses[1] = g.Ceremony.Witnesses[0] }, "listed twice"},
		{"witness without name", func(g *genesis) { g.Ceremony.Witnesses[0] = "" }, "witness is empty"},
		{"administrator unknown", func(g *genesis) { g.Ceremony.Administrator = "nobody" }, `administrator "nobody" is not among the persons`},
		{"administrator's key of another", func(g *genesis) {
			g.Ceremony.AdminKey = envelope.KeyIDOfSPKI(g.Persons[requesterRow].Cards[0].Sign)
		}, `not the signature key of a card of "admin"`},
		{"administrator's key an agreement key", func(g *genesis) {
			g.Ceremony.AdminKey = envelope.KeyIDOfSPKI(g.Persons[10].Cards[0].Agree)
		}, "not the signature key"},
		{"administrator an officer", func(g *genesis) {
			g.Officers[0].Person, g.Officers[0].Card = "admin", 90
		}, "administrator's power ends with the ceremony"},

		{"id empty", func(g *genesis) { g.Devices[0].ID = "" }, "device: id is empty"},
		{"id long", func(g *genesis) { g.Devices[0].ID = strings.Repeat("d", 65) }, "id has 65 bytes"},
		{"id with a space", func(g *genesis) { g.Devices[0].ID = "device 1" }, "letters, digits"},
		{"server id", func(g *genesis) { g.Servers[0].ID = "" }, "server: id is empty"},
		{"share id long", func(g *genesis) { g.Keys[0].Holders[0].Share = strings.Repeat("s", 130) }, "id has 130 bytes, at most 129"},
		{"id with a slash", func(g *genesis) { g.Devices[0].ID = "../etc" }, "letters, digits"},
		{"id with a wildcard", func(g *genesis) { g.Devices[0].ID = "device*" }, "letters, digits"},
		{"id not ASCII", func(g *genesis) { g.Devices[0].ID = "gerät" }, "letters, digits"},
		{"id begins with a hyphen", func(g *genesis) { g.Devices[0].ID = "-rf" }, "beginning with a letter or digit"},
		{"id twice", func(g *genesis) { g.Devices[1].ID = "device-1" }, `id is also that of device "device-1"`},
		{"id twice but for case", func(g *genesis) { g.Devices[1].ID = "Device-1" }, `id is also that of device "device-1"`},
		{"id of a person like a device", func(g *genesis) { g.Persons[0].ID = "device-1" }, `id is also that of device "device-1"`},
		{"id of a key like a server", func(g *genesis) { g.Keys[0].ID = "server-1" }, `id is also that of server "server-1"`},
		{"id of a share like a person", func(g *genesis) { g.Keys[0].Holders[0].Share = "admin" }, `id is also that of person "admin"`},

		{"server without name", func(g *genesis) { g.Servers[0].Name = "" }, `server "server-1": name is empty`},
		{"server without key", func(g *genesis) { g.Servers[0].Sign = nil }, "sign key: missing"},
		{"server without agreement key", func(g *genesis) { g.Servers[0].Agree = nil }, "agree key: missing"},
		{"server without TLS", func(g *genesis) { g.Servers[0].TLS = envelope.Hash{} }, "hash of the TLS key is zero"},
		{"server without URL", func(g *genesis) { g.Servers[0].URL = "" }, "url is empty"},
		{"server URL too long", func(g *genesis) { g.Servers[0].URL = "https://" + strings.Repeat("x", 505) }, "url has 513 bytes"},
		{"server in the clear", func(g *genesis) { g.Servers[0].URL = "http://x" }, "does not begin with https://"},
		{"server URL with a space", func(g *genesis) { g.Servers[0].URL = "https://x y" }, "no address has"},
		{"server route without port", func(g *genesis) { g.Servers[0].Route = "host" }, "is not host:port"},
		{"server route twice", func(g *genesis) { g.Servers[1].Route = g.Servers[0].Route }, "is also that of server"},

		{"device name", func(g *genesis) { g.Devices[0].Name = "" }, "name is empty"},
		{"device name twice", func(g *genesis) { g.Devices[1].Name = g.Devices[0].Name }, "logical name"},
		{"device serial", func(g *genesis) { g.Devices[0].Serial = "" }, "serial is empty"},
		{"device serial twice", func(g *genesis) { g.Devices[1].Serial = g.Devices[0].Serial }, "model and serial are also those"},
		{"device model", func(g *genesis) { g.Devices[0].Model = "" }, "model is empty"},
		{"device server", func(g *genesis) { g.Devices[0].Server = "server-9" }, `server "server-9" is unknown`},
		{"device firmware", func(g *genesis) { g.Devices[2].Firmware[0] ^= 1 }, `device "device-3": firmware`},
		{"device sign key", func(g *genesis) { g.Devices[0].Sign = nil }, "sign key: missing"},
		{"device agreement key", func(g *genesis) { g.Devices[0].Agree = nil }, "agree key: missing"},
		{"device boot key", func(g *genesis) { g.Devices[0].Boot = nil }, "boot key: missing"},
		{"device key rubbish", func(g *genesis) { g.Devices[0].Sign = []byte("rubbish") }, "sign key: "},
		{"device key on another curve", func(g *genesis) { g.Devices[0].Sign = p384(t) }, "sign key"},
		{"device key with trailing bytes", func(g *genesis) { g.Devices[0].Sign = append(bytes.Clone(g.Devices[0].Sign), 0) }, "sign key: "},
		{"device key off the curve", func(g *genesis) { g.Devices[0].Sign[90] ^= 1 }, "sign key: "},
		{"device unlocked by one", func(g *genesis) { g.Devices[0].UnlockQuorum = 1 }, "unlock quorum is 1"},
		{"device unlocked by none", func(g *genesis) { g.Devices[0].UnlockQuorum = 0 }, "unlock quorum is 0"},
		{"device unlocked by more than there are", func(g *genesis) { g.Devices[0].UnlockQuorum = 3 }, "3 officers are to unlock it, it has 2"},
		{"device unattended and attended", func(g *genesis) { g.Devices[0].Unattended = true }, "choose one"},
		{"device without certificate", func(g *genesis) { g.Ceremony.Vault = false }, "certificate of the signature key: chain of 0"},

		{"person without name", func(g *genesis) { g.Persons[0].Name = "" }, "name is empty"},
		{"person name twice", func(g *genesis) { g.Persons[1].Name = "officer 1A" }, "one person is one row"},
		{"person title", func(g *genesis) { g.Persons[0].Title = "\x00" }, "title"},
		{"person without keys", func(g *genesis) { g.Persons[12].Software = nil }, "neither a card nor a software key"},
		{"person with nine cards", func(g *genesis) { g.Persons[0].Cards = make([]ledger.Card, 9) }, "has 9 cards"},
		{"card serial zero", func(g *genesis) { g.Persons[0].Cards[0].Serial = 0 }, "serial is zero"},
		{"card of two persons", func(g *genesis) { g.Persons[1].Cards[0].Serial = 11 }, `is also a card of person "officer-1a"`},
		{"card model", func(g *genesis) { g.Persons[0].Cards[0].Model = "" }, "model is empty"},
		{"card unattested", func(g *genesis) { g.UnattestedCards = false }, "attestation of the signature key"},
		{"card half attested", func(g *genesis) { g.Persons[0].Cards[0].Intermediate = []byte{1} }, "attestation of the signature key"},

		{"key reused: sign and agree", func(g *genesis) { g.Devices[0].Agree = g.Devices[0].Sign }, "is also the sign key"},
		{"key reused: two devices", func(g *genesis) { g.Devices[1].Sign = g.Devices[0].Sign }, "is also the sign key of device \"device-1\""},
		{"key reused: boot and sign", func(g *genesis) { g.Devices[0].Boot = g.Devices[0].Sign }, "is also the sign key"},
		{"key reused: device and server", func(g *genesis) { g.Devices[0].Sign = g.Servers[0].Sign }, "of server"},
		{"key reused: device and card", func(g *genesis) { g.Persons[0].Cards[0].Sign = g.Devices[0].Sign }, "of device"},
		{"key reused: two persons", func(g *genesis) { g.Persons[1].Cards[0].Sign = g.Persons[0].Cards[0].Sign }, `of person "officer-1a"`},
		{"key reused: software and card", func(g *genesis) { g.Persons[12].Software = g.Persons[0].Cards[0].Sign }, `of person "officer-1a"`},
		{"key reused: administrator and officer", func(g *genesis) { g.Persons[10].Cards[0].Sign = g.Persons[0].Cards[0].Sign }, `of person "officer-1a"`},

		{"model kind", func(g *genesis) { g.Models = []ledger.Model{{Kind: "phone"}} }, `kind "phone"`},
		{"model root", func(g *genesis) { g.Models = []ledger.Model{{Kind: "card", Manufacturer: "M", Model: "X"}} }, "root: "},

		{"key name", func(g *genesis) { g.Keys[0].Name = "" }, "name is empty"},
		{"key epoch", func(g *genesis) { g.Keys[certs].Epoch = 0 }, "epoch is 0"},
		{"key family", func(g *genesis) { g.Keys[certs].Family = "money" }, `family "money" is unknown`},
		{"key family empty", func(g *genesis) { g.Keys[certs].Family = "" }, `family "" is unknown`},
		{"two authorities", func(g *genesis) { g.Keys[certs].Family = ledger.FamilyLedger }, "a system has one authority"},
		{"no authority", func(g *genesis) { g.Keys[swa].Family = ledger.FamilyCertificate }, "nothing could ever change"},
		{"SWA certifies for no time", func(g *genesis) { g.Keys[swa].MaxDays = 0 }, "may certify for 0 days"},
		{"key certifies for ever", func(g *genesis) { g.Keys[certs].MaxDays = 1 << 40 }, "may certify for"},
		{"files key certifies", func(g *genesis) { g.Keys[files].MaxDays = 1 }, "certifies nothing"},
		{"certificates signed blind", func(g *genesis) { g.Keys[certs].AllowDigest = true }, "officers would sign certificates blind"},
		{"commands signed blind", func(g *genesis) { g.Keys[swa].AllowDigest = true }, "blind"},
		{"scheme", func(g *genesis) { g.Keys[certs].Scheme = 4 }, "unknown scheme 4"},
		{"scheme of two layers", func(g *genesis) { g.Keys[certs].Scheme = threshold.TwoLayer }, "no ceremony deals a key in two layers"},
		{"layers", func(g *genesis) { g.Keys[certs].Layers = new(twolayer.Public) }, "no ceremony deals a key in two layers"},
		{"layer of a holder", func(g *genesis) { g.Keys[certs].Holders[1].Layer = 1 }, "only keys in two layers"},
		{"version of a share", func(g *genesis) { g.Keys[certs].Holders[1].Version = 1 }, "only keys in two layers"},
		{"T zero", func(g *genesis) { g.Keys[certs].T = 0 }, "0 of 5 devices"},
		{"T one", func(g *genesis) { g.Keys[certs].T = 1 }, "no signature may depend on one machine"},
		{"T above N", func(g *genesis) { g.Keys[certs].T = 6 }, "6 of 5 devices"},
		{"N zero", func(g *genesis) { g.Keys[certs].N = 0 }, "3 of 0 devices"},
		{"N above the limit", func(g *genesis) { g.Keys[certs].N = 17 }, "3 of 17 devices"},
		{"sequential without safe primes", func(g *genesis) { g.Keys[files].SafePrimes = false }, "needs proofs"},
		{"holders out of order", func(g *genesis) {
			h := g.Keys[certs].Holders
			h[0], h[1] = h[1], h[0]
		}, "holders are listed by index"},
		{"no algorithm", func(g *genesis) { g.Keys[certs].Algorithms = nil }, "no algorithm is allowed"},
		{"algorithm", func(g *genesis) { g.Keys[certs].Algorithms[0] = "RS1" }, `algorithm "RS1" is unknown`},
		{"algorithm twice", func(g *genesis) { g.Keys[certs].Algorithms[1] = "RS256" }, "listed twice"},
		{"modulus one bit short", func(g *genesis) {
			n := new(big.Int).SetBytes(g.Keys[files].Public.N)
			g.Keys[files].Public.N = n.SetBit(n, 2047, 0).Bytes()
		}, "need exactly"},
		{"modulus with a leading zero", func(g *genesis) { g.Keys[files].Public.N = append([]byte{0}, g.Keys[files].Public.N...) }, "need exactly"},
		{"modulus even", func(g *genesis) { g.Keys[files].Public.N[255] &^= 1 }, "even modulus"},
		{"modulus empty", func(g *genesis) { g.Keys[files].Public.N = nil }, "need exactly"},
		{"exponent 3", func(g *genesis) { g.Keys[files].Public.E = 3 }, "public exponent 3"},
		{"exponent even", func(g *genesis) { g.Keys[files].Public.E = 65536 }, "public exponent 65536"},
		{"exponent zero", func(g *genesis) { g.Keys[files].Public.E = 0 }, "public exponent 0"},
		{"common modulus", func(g *genesis) { g.Keys[files].Public = g.Keys[certs].Public }, `has the modulus of key "certs"`},
		{"common prime", func(g *genesis) { g.Keys[files].Public.N = withCommonPrime(g.Keys[certs].Public.N) }, `shares a prime with key "certs"`},
		{"no certificate", func(g *genesis) { g.Keys[certs].Certificate = nil }, "root certificate is missing"},
		{"certificate of another key", func(g *genesis) { g.Keys[certs].Certificate = g.Keys[swa].Certificate }, "root certificate is of another public key"},
		{"certificate altered", func(g *genesis) { g.Keys[certs].Certificate[len(g.Keys[certs].Certificate)-1] ^= 1 }, "not signed by its own key"},
		{"certificate's algorithm", func(g *genesis) { g.Keys[certs].Algorithms = []string{"PS256"} }, "which the key does not allow"},
		{"certificate of a files key", func(g *genesis) { g.Keys[files].Certificate = g.Keys[certs].Certificate }, "a signature of another family"},
		{"commitment missing", func(g *genesis) { g.Keys[certs].Commitment = threshold.Commitment{} }, `key "certs": commitment: `},
		{"commitment lacks a value", func(g *genesis) { v := &g.Keys[certs].Commitment.V; *v = (*v)[:len(*v)-1] }, "is missing or not in its place"},
		{"commitment has one too many", func(g *genesis) { v := &g.Keys[certs].Commitment.V; *v = append(*v, (*v)[0]) }, "too many"},
		{"commitment out of order", func(g *genesis) { v := g.Keys[files].Commitment.V; v[0], v[1] = v[1], v[0] }, "not in its place"},
		{"commitment of another key", func(g *genesis) { g.Keys[certs].Commitment = g.Keys[swa].Commitment }, "commitment: "},
		{"commitment that does not sum", func(g *genesis) { v := g.Keys[certs].Commitment.V; v[0].Value = v[3].Value }, "do not sum to the private exponent"},
		{"commitment value zero", func(g *genesis) { g.Keys[files].Commitment.V[0].Value = make([]byte, 256) }, "not between 1 and N"},

		{"holder missing", func(g *genesis) { g.Keys[certs].Holders = g.Keys[certs].Holders[:4] }, "4 holders for 5 shares"},
		{"holder index zero", func(g *genesis) { g.Keys[certs].Holders[0].Index = 0 }, "index 0 is not 1 to 5"},
		{"holder index six", func(g *genesis) { g.Keys[certs].Holders[0].Index = 6 }, "index 6 is not 1 to 5"},
		{"holder index twice", func(g *genesis) { g.Keys[certs].Holders[1].Index = 1 }, "index 1 is also that of share"},
		{"holder device unknown", func(g *genesis) { g.Keys[certs].Holders[0].Device = "device-9" }, `device "device-9" is unknown`},
		{"holder device twice", func(g *genesis) { g.Keys[certs].Holders[1].Device = "device-1" }, "holds two shares of the key"},
		{"share id twice", func(g *genesis) { g.Keys[certs].Holders[1].Share = "certs.device-1" }, `id is also that of share "certs.device-1"`},
		{"share id empty", func(g *genesis) { g.Keys[certs].Holders[1].Share = "" }, "share: id is empty"},
		{"quorum zero", func(g *genesis) { g.Keys[certs].Holders[0].Quorum = 0 }, "quorum is 0 officers, at least 2"},
		{"quorum one", func(g *genesis) { g.Keys[certs].Holders[0].Quorum = 1 }, "quorum is 1 officers, at least 2"},
		{"threshold zero", func(g *genesis) { g.Keys[certs].Holders[0].Threshold = 0 }, "0 pieces open the share"},
		{"threshold one", func(g *genesis) { g.Keys[certs].Holders[0].Threshold = 1 }, "1 pieces open the share"},
		{"threshold above quorum", func(g *genesis) { g.Keys[certs].Holders[0].Threshold = 3 }, "more than the quorum of 2"},
		{"quorum above pieces", func(g *genesis) { h := &g.Keys[certs].Holders[0]; h.Quorum = 3 }, "quorum of 3 officers, but 2 pieces"},
		{"quorum above officers", func(g *genesis) { h := &g.Keys[certs].Holders[0]; h.Quorum, h.Pieces = 3, 3 }, "has 2 officers for the key, fewer than the quorum of 3"},
		{"pieces for nobody", func(g *genesis) { g.Keys[certs].Holders[0].Pieces = 3 }, "3 pieces for 2 officers"},
		{"pieces zero", func(g *genesis) { g.Keys[certs].Holders[0].Pieces = 0 }, "but 0 pieces"},
		{"pieces without end", func(g *genesis) { g.Keys[certs].Holders[0].Pieces = 1 << 60 }, "at most 64"},
		{"no lying device tolerated", func(g *genesis) { toThree(t, g) }, "tolerates no lying device"},

		{"two quorums that need not meet", func(g *genesis) {
			p := ledgertest.Primes(ledgertest.KeyLedger)
			whole, err := threshold.WholeKeyFromPrimes(p[0].Bytes(), p[1].Bytes(), false)
			if err != nil {
				t.Fatal(err)
			}
			k := &g.Keys[swa]
			k.T = 2
			_, commitment, err := threshold.Deal(rand.Reader, whole, k.Split())
			if err != nil {
				t.Fatal(err)
			}
			k.Commitment, g.AcknowledgeNoFault = *commitment, true
		}, "two quorums could decide differently"},
		{"officers without end", func(g *genesis) {
			for i := range 63 {
				id := fmt.Sprintf("extra-%d", i)
				p := ledgertest.NewPair(t, id)
				g.Persons = append(g.Persons, ledger.Person{ID: id, Name: id, Cards: []ledger.Card{{Serial: uint32(1000 + i), Model: "Software card",
					Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.PublicKey())}}})
				o := g.Officers[0]
				o.Person, o.Card = id, uint32(1000+i)
				g.Officers = append(g.Officers, o)
			}
		}, "device has more than 64 officers"},
		{"officer unknown", func(g *genesis) { g.Officers[0].Person = "nobody" }, "person is unknown"},
		{"officer at unknown device", func(g *genesis) { g.Officers[0].Device = "device-9" }, "device is unknown"},
		{"officer without card", func(g *genesis) { g.Officers[0].Person = "program" }, "has no card and may only make requests"},
		{"officer with another's card", func(g *genesis) { g.Officers[0].Card = 12 }, "card 12 is not the person's"},
		{"officer with unknown card", func(g *genesis) { g.Officers[0].Card = 99 }, "card 99 is not the person's"},
		{"officer of unknown class", func(g *genesis) { g.Officers[0].Class = "king" }, `class "king" is unknown`},
		{"officer expired", func(g *genesis) { g.Officers[0].Expires = g.Created }, "has expired before the system began"},
		{"officer without expiry", func(g *genesis) { g.Officers[0].Expires = 0 }, "expires 0 is not a time"},
		{"officer twice", func(g *genesis) { g.Officers[1] = g.Officers[0] }, "is registered twice"},
		{"officer twice, two cards", func(g *genesis) { g.Officers[1] = g.Officers[0]; g.Officers[1].Card = 111 }, "is registered twice"},
		{"officer of two devices", func(g *genesis) { g.Officers[2].Person, g.Officers[2].Card = "officer-1a", 111 }, "one person could stand for two devices"},
		{"officer without keys", func(g *genesis) { g.Officers[0].Keys = nil }, "may approve for no key"},
		{"officer of unknown key", func(g *genesis) { g.Officers[0].Keys[0] = "gold" }, `key "gold" is unknown`},
		{"officer of a key twice", func(g *genesis) { g.Officers[0].Keys[1] = "swa" }, "listed twice"},
		{"officer of a key elsewhere", func(g *genesis) {
			g.Devices = append(g.Devices, spare(t))
			g.Officers[0].Device = "device-6"
		}, "the device holds no share of key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ledgertest.Unsigned(t)
			c.edit(&s.Genesis)
			err := s.Genesis.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
			var invalid *ledger.InvalidError
			var version *ledger.VersionError
			if !errors.As(err, &invalid) && !errors.As(err, &version) {
				t.Errorf("error is a %T", err)
			}
			if _, err := s.Genesis.Encode(); err == nil {
				t.Error("encoded, yet not valid")
			}
		})
	}
}

// What the rules do allow.
func TestValidateAccepts(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*genesis)
	}{
		{"as it is", func(*genesis) {}},
		{"no lying device, acknowledged", func(g *genesis) { toThree(t, g); g.AcknowledgeNoFault = true }},
		{"a shared officer, allowed", func(g *genesis) {
			g.SharedOfficers = true
			g.Officers[2].Person, g.Officers[2].Card = "officer-1a", 11
		}},
		{"a shared officer of different keys", func(g *genesis) {
			// Officer 1a serves device-1 for certs only, and device-2 for the other two; quorums follow.
			g.Officers[0].Keys = []string{"certs"}
			g.Officers = append(g.Officers, ledger.Officer{Person: "officer-1a", Card: 111, Device: "device-2", Class: "officer",
				Expires: g.Officers[0].Expires, Keys: []string{"swa", "files"}})
			g.Officers = append(g.Officers, ledger.Officer{Person: "requester", Card: 91, Device: "device-1", Class: "administrator",
				Expires: g.Officers[0].Expires, Keys: []string{"swa", "files"}})
			g.Keys[swa].Holders[1].Pieces, g.Keys[files].Holders[1].Pieces = 3, 3
		}},
		{"unattended", func(g *genesis) { d := &g.Devices[0]; d.Unattended, d.UnlockQuorum, d.Boot = true, 0, nil }},
		{"a device that holds nothing yet", func(g *genesis) {
			g.Devices = append(g.Devices, spare(t))
			g.Devices[5].Unattended, g.Devices[5].UnlockQuorum = true, 0
		}},
		{"a share named after long names", func(g *genesis) { g.Keys[0].Holders[0].Share = strings.Repeat("s", 129) }},
		{"a server that only dials out", func(g *genesis) { g.Servers[0].Route = "" }},
		{"sequential, three in host", func(g *genesis) { g.Devices[0].InToken, g.Devices[1].InToken = true, true }},
		{"names in any script", func(g *genesis) {
			g.Persons[0].Name, g.Persons[0].Title = "Zoë Ångström 王", "Große Siegelverwahrerin"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ledgertest.Unsigned(t)
			c.edit(&s.Genesis)
			if err := s.Genesis.Validate(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		n, q uint64
		want int64
	}{{5, 4, 2}, {5, 3, 0}, {4, 3, 1}, {3, 2, 0}, {2, 2, 1}, {5, 2, -2}, {7, 5, 2}, {10, 5, -1}} {
		if got := ledger.Faults(c.n, c.q); got != c.want {
			t.Errorf("%d of %d: f = %d, want %d", c.q, c.n, got, c.want)
		}
	}
}

// toThree makes the SWA 3 of 5 by exchanging it for the certificates key, whose dealing fits.
func toThree(t *testing.T, g *genesis) {
	s := ledgertest.Unsigned(t)
	a, b := s.Genesis.Keys[certs], s.Genesis.Keys[swa]
	a.Family, b.Family = b.Family, a.Family
	g.Keys[swa], g.Keys[certs] = b, a
}

func spare(t *testing.T) ledger.Device {
	p := ledgertest.NewPair(t, "device-6")
	return ledger.Device{
		ID: "device-6", Name: "Seal 6", Serial: "00000006", Model: "Software token", Server: "server-1",
		Sign: ledgertest.SPKI(t, p.Sign.Public()), Agree: ledgertest.SPKI(t, p.Agree.Public()),
		Boot: ledgertest.SPKI(t, ledgertest.NewSigner(t, "device-6 boot").Public()), Firmware: sha256.Sum256([]byte("firmware")), UnlockQuorum: 2,
	}
}

// withCommonPrime returns another 2048-bit modulus with a prime of n. The primes are ledgertest's, so it has to be told one.
func withCommonPrime(n []byte) []byte {
	p := ledgertest.Primes(ledgertest.KeyCertificates)[0]
	q := ledgertest.Primes(ledgertest.KeyFiles)[0]
	m := new(big.Int).Mul(p, q)
	if m.BitLen() != 2048 || new(big.Int).Mod(new(big.Int).SetBytes(n), p).Sign() != 0 {
		panic("test primes do not fit")
	}
	return m.Bytes()
}
