package desk

import (
	"crypto/ecdh"
	"crypto/rand"
	"math"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/web"
	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestLargestGenesisFits: the largest genesis, with as many signatures as it can
// have and each as long as may be, goes through every message and body that
// carries it. The ledger says by name what is larger; no link does, at the end of
// a ceremony.
func TestLargestGenesisFits(t *testing.T) {
	marshal := func(v any) []byte {
		t.Helper()
		raw, err := envelope.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	b := ledger.Bundle{Genesis: make([]byte, ledger.MaxGenesis)}
	for range 64 + 1 { // as many devices as the ledger has, and the administrator
		b.Signatures = append(b.Signatures, make([]byte, ledger.MaxSignature))
	}
	bundle := marshal(&b)
	signer := ledgertest.NewSigner(t, "desk")
	kx := ledgertest.NewPair(t, "device").Agree
	to, err := envelope.KeyIDOf(kx.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	// A full header: other messages to come may say more in theirs.
	header := envelope.Header{
		Type: strings.Repeat("t", envelope.MaxType), Version: math.MaxUint32, System: envelope.Hash{1}, LedgerHead: envelope.Hash{1}, To: []envelope.KeyID{to},
		Key: strings.Repeat("k", envelope.MaxKeyName), Epoch: math.MaxInt64, Created: envelope.MaxTime - 1, Expires: envelope.MaxTime,
	}
	for name, payload := range map[string]any{
		"ceremony.prepare": ceremony.Prepare{Genesis: b.Genesis},
		"ceremony.commit":  ceremony.Commit{Bundle: bundle},
		"genesis":          firmware.Genesis{Bundle: bundle},
		"beat.system":      heartbeat.System{Bundle: bundle, After: math.MaxUint64, Height: math.MaxUint64},
	} {
		raw, err := envelope.Sign(rand.Reader, signer, header, marshal(payload))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := envelope.Seal(rand.Reader, raw, []*ecdh.PublicKey{kx.PublicKey()})
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > link.MaxMessage {
			t.Errorf("%s: %d octets, a link takes %d", name, len(sealed), link.MaxMessage)
		}
		if n := len(marshal(&api.Relay{Device: strings.Repeat("d", 64), Frame: sealed})); n > web.MaxBody {
			t.Errorf("%s, relayed: %d octets, a body has %d", name, n, web.MaxBody)
		}
	}
	for name, body := range map[string]any{
		"system":      &api.System{Bundle: bundle},
		"system page": &api.SystemPage{System: api.System{Bundle: bundle}, Height: math.MaxUint64},
	} {
		if n := len(marshal(body)); n > web.MaxBody {
			t.Errorf("%s: %d octets, a body has %d", name, n, web.MaxBody)
		}
	}
	// Nor would it be too long with the longest headers.
	if n := len(bundle) + 2*envelope.MaxProtected; n > link.MaxMessage {
		t.Errorf("%d octets with the longest headers", n)
	}
}
