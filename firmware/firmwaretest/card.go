package firmwaretest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// CardModel is the model of the tests' cards.
const CardModel = "Privyseal test card"

// CardMaker is a manufacturer of officers' cards.
type CardMaker struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Card is an officer's card without its reader: slots 9C and 9D with
// attestations. Tests of cards themselves use package virtual.
type Card struct {
	*ecdsa.PrivateKey
	Exchange *ecdh.PrivateKey
	ledger   ledger.Card
}

// NewCardMaker makes a manufacturer of cards.
func NewCardMaker(t testing.TB) *CardMaker {
	t.Helper()
	key, root := newRoot(t, "test card manufacturer")
	return &CardMaker{root, key}
}

// Agree is the public key of slot 9D.
func (c *Card) Agree() *ecdh.PublicKey { return c.Exchange.PublicKey() }

// Describe is what the card shows of itself.
func (c *Card) Describe() ledger.Card { return c.ledger }

// New makes a card.
func (m *CardMaker) New(t testing.TB, serial uint32) *Card {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	agree, err := ecdh.P256().GenerateKey(rand.Reader)
	fail(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	der, err := x509.CreateCertificate(rand.Reader, rootTemplate(fmt.Sprintf("card %d", serial)), m.Root, key.Public(), m.key)
	fail(err)
	inter, err := x509.ParseCertificate(der)
	fail(err)
	c := &Card{PrivateKey: sign, Exchange: agree, ledger: ledger.Card{Serial: serial, Model: CardModel, Intermediate: der}}
	c.ledger.Sign, err = x509.MarshalPKIXPublicKey(sign.Public())
	fail(err)
	c.ledger.Agree, err = x509.MarshalPKIXPublicKey(agree.PublicKey())
	fail(err)
	c.ledger.AttestSign = attestation(t, inter, key, "9c", serial, 3, sign.Public())
	c.ledger.AttestAgree = attestation(t, inter, key, "9d", serial, 2, mustECDSA(t, agree.PublicKey()))
	return c
}

// attestation states what a YubiKey states of a key: firmware version, serial
// number, PIN and touch policy.
func attestation(t testing.TB, inter *x509.Certificate, key *ecdsa.PrivateKey, slot string, serial uint32, pinPolicy byte, pub any) []byte {
	t.Helper()
	oid := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, n} }
	number, err := asn1.Marshal(int64(serial))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "YubiKey PIV Attestation " + slot},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		ExtraExtensions: []pkix.Extension{
			{Id: oid(3), Value: []byte{5, 7, 1}},
			{Id: oid(7), Value: number},
			{Id: oid(8), Value: []byte{pinPolicy, 1}},
		},
	}, inter, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
