package ledger_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLargestGenesis: a genesis of MaxGenesis bytes is signed and verified, one of a byte more is refused before anybody signs it.
func TestLargestGenesis(t *testing.T) {
	sign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := func(octets int) []byte {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, octets)}},
		}, &x509.Certificate{}, sign.Public(), sign)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	const each = 40 << 10
	der := root(each)
	fill := func(name string, roots int, last []byte) ledgertest.Option {
		return func(g *ledger.Genesis) {
			g.Name = name
			for i := range roots {
				g.Models = append(g.Models, ledger.Model{Kind: ledger.ModelCard, Manufacturer: "M", Model: fmt.Sprintf("%03d", i), Root: der})
			}
			g.Models = append(g.Models, ledger.Model{Kind: ledger.ModelCard, Manufacturer: "M", Model: "last", Root: last})
		}
	}
	// As many roots as fit, and a name that fills the rest. A signature is a byte or two longer or shorter at times.
	sizeOf := func(o ledgertest.Option) int { return len(ledgertest.New(t, o).Bundle.Genesis) }
	empty, one := sizeOf(fill("n", 0, der)), sizeOf(fill("n", 1, der))
	roots := (ledger.MaxGenesis - empty) / (one - empty)
	small := root(1000)
	rest := ledger.MaxGenesis - sizeOf(fill("n", roots-1, small))
	last := root(1000 + rest - 60)
	name := func(n int) string { return strings.Repeat("n", n) }
	rest = ledger.MaxGenesis - sizeOf(fill(name(30), roots-1, last))
	if rest < -6 || rest > 90 {
		t.Fatalf("%d bytes are left", rest)
	}
	s := ledgertest.New(t, fill(name(30+rest), roots-1, last))
	if len(s.Bundle.Genesis) != ledger.MaxGenesis {
		t.Fatalf("%d bytes, not %d", len(s.Bundle.Genesis), ledger.MaxGenesis)
	}
	if _, err := ledger.VerifyGenesis(s.Bundle); err != nil {
		t.Error(err)
	}
	g := s.Genesis
	g.Name += "n"
	if _, err := g.Encode(); err == nil || !strings.Contains(err.Error(), "3801089 bytes, at most 3801088 go through a device's link") {
		t.Error(err)
	}
}
