package share_test

import (
	"crypto/rand"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
	"github.com/privyseal/privyseal/hsm/hsmtest"
)

const kek = "share kek"

// testKey is one RSA key of 2048 bits for the whole test binary.
var testKey = sync.OnceValues(func() (*threshold.WholeKey, error) {
	return threshold.GenerateKey(rand.Reader, 2048, false, nil)
})

// installed is a share at rest in a real token.
type installed struct {
	token    share.Token
	hsm      *hsmtest.Token
	pub      *threshold.PublicKey
	facts    share.Facts
	share    threshold.Share // what went in, for comparison
	officers threshold.Secret
	stored   *share.Stored
	data     []byte
}

func install(t testing.TB, use hsm.Use, trace hsm.TraceFunc) *installed {
	t.Helper()
	tok := hsmtest.NewTraced(t, trace)
	tok.MustUnlock(t)
	if err := tok.GenerateKEK(kek, use); err != nil {
		t.Fatal(err)
	}
	k, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	pub := k.Public()
	shares, _, err := threshold.Deal(rand.Reader, k, threshold.Split{Scheme: threshold.Additive, T: 2, N: 3})
	if err != nil {
		t.Fatal(err)
	}
	in := &installed{
		token: share.Bind(tok.Token, kek), hsm: tok, pub: pub, share: shares[1],
		facts: share.Facts{Key: "root", Epoch: 3, ShareID: "root/2", Index: 2, Modulus: pub.N, Version: 5},
	}
	if in.officers, err = share.NewOfficersKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if in.stored, err = share.Seal(rand.Reader, in.token, in.officers, in.facts, &in.share); err != nil {
		t.Fatal(err)
	}
	if in.data, err = in.stored.Marshal(); err != nil {
		t.Fatal(err)
	}
	return in
}

// lockedMemory asserts what the real one relies on: whatever is freed was
// allocated, once, and was wiped; nothing stays.
type lockedMemory struct {
	t    testing.TB
	mu   sync.Mutex
	live map[*byte]int
	last []byte // the latest allocation, to look at after Free
}

func newMemory(t testing.TB) *lockedMemory {
	m := &lockedMemory{t: t, live: map[*byte]int{}}
	t.Cleanup(func() {
		if len(m.live) != 0 {
			t.Errorf("%d allocations of locked memory were not freed", len(m.live))
		}
	})
	return m
}

func (m *lockedMemory) Alloc(n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := make([]byte, n)
	m.live[&b[0]] = n
	m.last = b
	return b, nil
}

func (m *lockedMemory) Free(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.live[&b[0]]; !ok || n != len(b) {
		m.t.Errorf("freed %d bytes that were not allocated", len(b))
	}
	for _, c := range b {
		if c != 0 {
			m.t.Error("freed before it was wiped")
			break
		}
	}
	delete(m.live, &b[0])
}
