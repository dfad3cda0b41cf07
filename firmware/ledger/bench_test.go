package ledger_test

import (
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// A device verifies its genesis at every start, and must be ready in a second.
func BenchmarkVerifyGenesis(b *testing.B) {
	s := ledgertest.New(b)
	for b.Loop() {
		if _, err := ledger.VerifyGenesis(s.Bundle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyEntry(b *testing.B) {
	s := ledgertest.New(b)
	x := s.Entry(b, s.State, ledger.KindNotice, &ledger.Notice{Text: "t", From: s.Now, Until: s.Now + 1}, s.Now)
	for b.Loop() {
		if _, err := ledger.VerifyEntry(s.State, x); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	s := ledgertest.New(b)
	for b.Loop() {
		s.State.Key(ledgertest.KeyCertificates)
	}
}
