package ledgertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// KeyMore is the key that the devices of [WithDevices] beyond the fifth share, any two of them: a device in the tables holds some.
const KeyMore = "more"

// WithDevices makes a system of n devices, 7 to 12, for authorities with many machines. The devices beyond the fifth hang on server-1 to
// server-5 in turn, have two officers each like the others (device-6: officer-6a with card 61, officer-6b with card 62), and hold shares of
// the file key [KeyMore].
func WithDevices(n int) Option {
	return func(g *ledger.Genesis) {
		k, err := more(n)
		if err != nil {
			panic(err) // of fixed primes
		}
		for i := Devices + 1; i <= n; i++ {
			id := fmt.Sprintf("device-%d", i)
			p, err := newPair(id)
			if err != nil {
				panic(err) // of a fixed hash
			}
			g.Devices = append(g.Devices, ledger.Device{
				ID: id, Name: fmt.Sprintf("Seal %d", i), Serial: fmt.Sprintf("%08d", i), Model: "Software token",
				Server: fmt.Sprintf("server-%d", (i-1)%Devices+1),
				Sign:   spki(p.Sign.Public()), Agree: spki(p.Agree.PublicKey()), Boot: spki(newSigner(id + " boot").Public()),
				Firmware: g.Firmware, UnlockQuorum: 2,
			})
			for j, letter := range []string{"a", "b"} {
				person, serial := fmt.Sprintf("officer-%d%s", i, letter), uint32(10*i+j+1)
				if i >= 9 { // 91 and 92 are the requester's
					serial += 1000
				}
				c, err := newPair(fmt.Sprintf("card %d", serial))
				if err != nil {
					panic(err)
				}
				g.Persons = append(g.Persons, ledger.Person{ID: person, Name: "Officer " + fmt.Sprint(i) + letter, Cards: []ledger.Card{{
					Serial: serial, Model: "Software card", Sign: spki(c.Sign.Public()), Agree: spki(c.Agree.PublicKey()),
				}}})
				g.Officers = append(g.Officers, ledger.Officer{
					Person: person, Card: serial, Device: id, Class: ledger.ClassOfficer, Expires: Epoch + 10*365*86400, Keys: []string{KeyMore},
				})
			}
		}
		g.Keys = append(g.Keys, k.Ledger)
	}
}

// addPrivate makes the private keys of devices and persons that options added to the genesis.
func (s *System) addPrivate() error {
	for _, d := range s.Genesis.Devices {
		if s.Devices[d.ID] == nil {
			p, err := newPair(d.ID)
			if err != nil {
				return err
			}
			s.Devices[d.ID] = &Device{ID: d.ID, Pair: p, Boot: newSigner(d.ID + " boot"), Shares: make(map[string]threshold.Share)}
		}
	}
	for _, row := range s.Genesis.Persons {
		if s.Persons[row.ID] != nil {
			continue
		}
		p := &Person{ID: row.ID}
		for _, c := range row.Cards {
			pair, err := newPair(fmt.Sprintf("card %d", c.Serial))
			if err != nil {
				return err
			}
			p.Cards = append(p.Cards, &Card{Serial: c.Serial, Pair: pair})
		}
		s.Persons[row.ID] = p
	}
	for _, k := range s.Genesis.Keys {
		if k.ID != KeyMore || s.Keys[KeyMore] != nil {
			continue
		}
		dealt, err := more(Devices + len(k.Holders))
		if err != nil {
			return err
		}
		s.Keys[KeyMore] = dealt.clone()
		for i, h := range k.Holders {
			s.Devices[h.Device].Shares[KeyMore] = s.Keys[KeyMore].Shares[i]
		}
	}
	return nil
}

var (
	moreMu   sync.Mutex
	moreKeys = make(map[int]*Key)
)

// more is KeyMore for a system of n devices, dealt once for a test binary.
func more(n int) (*Key, error) {
	moreMu.Lock()
	defer moreMu.Unlock()
	if k := moreKeys[n]; k != nil {
		return k, nil
	}
	spec := ledger.Key{ID: KeyMore, Name: "More files", Family: ledger.FamilyFile, Scheme: threshold.Multiplicative, T: 2}
	for i := Devices + 1; i <= n; i++ {
		spec.Holders = append(spec.Holders, ledger.Holder{Device: fmt.Sprintf("device-%d", i)})
	}
	k, err := deal(spec)
	if err == nil {
		moreKeys[n] = k
	}
	return k, err
}

func spki(pub any) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err) // of a fixed hash
	}
	return der
}

func newSigner(name string) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar(name))
	if err != nil {
		panic(err)
	}
	return k
}
