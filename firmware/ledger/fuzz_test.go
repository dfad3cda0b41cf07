package ledger_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// Whatever decodes as a genesis is valid, and is the only encoding of what it says.
func FuzzDecodeGenesis(f *testing.F) {
	for _, c := range golden {
		raw, err := os.ReadFile(c.genesis)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := ledger.DecodeGenesis(raw)
		if err != nil {
			return
		}
		again, err := g.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("decoded, but encodes to something else: %v", err)
		}
	})
}

// Whatever decodes as an entry is the only encoding of what it says; and nothing verifies without the authority's signature.
func FuzzEntry(f *testing.F) {
	s := ledgertest.New(f)
	good := s.Entry(f, s.State, ledger.KindNotice, &ledger.Notice{Text: "power work", From: s.Now, Until: s.Now + 60}, s.Now)
	f.Add(good.Entry, good.Signature)
	backup := s.Entry(f, s.State, ledger.KindBackup, &ledger.Backup{Device: "device-1", Share: "swa.device-1", Place: "safe", Tested: s.Now}, s.Now)
	f.Add(backup.Entry, make([]byte, len(backup.Signature)))
	f.Add([]byte{0xa0}, []byte{})
	f.Fuzz(func(t *testing.T, raw, signature []byte) {
		x := ledger.SignedEntry{Entry: raw, Algorithm: "RS256", Signature: signature}
		// One message has one PKCS #1 v1.5 signature.
		if v, err := ledger.VerifyEntry(s.State, x); (err == nil) != (bytes.Equal(raw, good.Entry) && bytes.Equal(signature, good.Signature)) {
			t.Fatalf("verified %v, %v", v, err)
		}
		e, err := ledger.DecodeEntry(raw)
		if err != nil {
			return
		}
		if again, err := envelope.Marshal(e); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("decoded, but encodes to something else: %v", err)
		}
		// With the signature forced, the body's decoder is reached.
		if v, err := ledger.VerifyEntry(s.State, s.SignEntry(t, raw)); err == nil {
			next, err := ledger.ApplyVerified(s.State, v)
			if err != nil || next.Height() != 1 || next.Head() != ledger.EntryHash(raw) {
				t.Fatalf("verified, but not applied: %v", err)
			}
		}
	})
}
