package ledgertest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// Key is a split key, and the whole of it, which exists in tests only.
type Key struct {
	Ledger ledger.Key
	// Shares by index − 1.
	Shares []threshold.Share
	Whole  *rsa.PrivateKey
}

// Sign makes an ordinary signature with the whole key.
func (k *Key) Sign(t testing.TB, algorithm string, message []byte) []byte {
	t.Helper()
	a := threshold.Algorithm(algorithm)
	h := a.Hash().New()
	h.Write(message)
	var opts crypto.SignerOpts = a.Hash()
	if a.PSS() {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash()}
	}
	sig, err := k.Whole.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Dealing takes 80 exponentiations, so it is done once for a test binary. Shares are cloned, as callers may wipe theirs.
var dealt = sync.OnceValues(func() (map[string]*Key, error) {
	keys := make(map[string]*Key)
	for _, spec := range []ledger.Key{
		{ID: KeyLedger, Name: "Test System Authority", Family: ledger.FamilyLedger, Scheme: threshold.Additive, T: 4, MaxDays: 3650},
		{ID: KeyCertificates, Name: "Test Certificate Authority", Family: ledger.FamilyCertificate, Scheme: threshold.Additive, T: 3, MaxDays: 825},
		{ID: KeyFiles, Name: "Test Files", Family: ledger.FamilyFile, Scheme: threshold.Multiplicative, T: 3, SafePrimes: true, AllowDigest: true},
	} {
		k, err := deal(spec)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.ID, err)
		}
		keys[spec.ID] = k
	}
	return keys, nil
})

func splitKeys(t testing.TB) map[string]*Key {
	t.Helper()
	keys, err := dealt()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*Key)
	for id, k := range keys {
		out[id] = k.clone()
	}
	return out
}

func (k *Key) clone() *Key {
	c := &Key{Ledger: k.Ledger, Whole: k.Whole}
	c.Ledger.Public.N = bytes.Clone(k.Ledger.Public.N)
	c.Ledger.Algorithms = append([]string(nil), k.Ledger.Algorithms...)
	c.Ledger.Certificate = bytes.Clone(k.Ledger.Certificate)
	c.Ledger.Holders = append([]ledger.Holder(nil), k.Ledger.Holders...)
	c.Ledger.Commitment.G = bytes.Clone(k.Ledger.Commitment.G)
	c.Ledger.Commitment.V = append([]threshold.SubCommitment(nil), k.Ledger.Commitment.V...)
	for i := range c.Ledger.Commitment.V {
		c.Ledger.Commitment.V[i].Value = bytes.Clone(c.Ledger.Commitment.V[i].Value)
	}
	for _, s := range k.Shares {
		clone := threshold.Share{Index: s.Index}
		for _, sub := range s.Subs {
			clone.Subs = append(clone.Subs, threshold.SubShare{Subset: sub.Subset, Value: threshold.NewSecret(bytes.Clone(sub.Value.Reveal()))})
		}
		c.Shares = append(c.Shares, clone)
	}
	return c
}

func deal(k ledger.Key) (*Key, error) {
	p, _ := hex.DecodeString(primes[k.ID][0])
	q, _ := hex.DecodeString(primes[k.ID][1])
	whole, err := threshold.WholeKeyFromPrimes(p, q, k.SafePrimes)
	if err != nil {
		return nil, err
	}
	k.Epoch, k.Public = 1, *whole.Public()
	k.Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	if k.Holders == nil {
		for i := 1; i <= Devices; i++ {
			k.Holders = append(k.Holders, ledger.Holder{Device: fmt.Sprintf("device-%d", i)})
		}
	}
	k.N = uint64(len(k.Holders))
	for i := range k.Holders {
		h := &k.Holders[i]
		h.Index, h.Share, h.Quorum, h.Pieces, h.Threshold = uint64(i+1), k.ID+"."+h.Device, 2, 2, 2
	}
	seed := sha256.Sum256([]byte("privyseal ledgertest " + k.ID))
	shares, commitment, err := threshold.Deal(mathrand.NewChaCha8(seed), whole, k.Split())
	if err != nil {
		return nil, err
	}
	k.Commitment = *commitment
	priv, err := privateKey(p, q)
	if err != nil {
		return nil, err
	}
	if k.Family != ledger.FamilyFile {
		if k.Certificate, err = root(k.Name, priv); err != nil {
			return nil, err
		}
	}
	return &Key{Ledger: k, Shares: shares, Whole: priv}, nil
}

func privateKey(p, q []byte) (*rsa.PrivateKey, error) {
	P, Q, one := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q), big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(P, one), new(big.Int).Sub(Q, one))
	k := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(P, Q), E: threshold.PublicExponent},
		D:         new(big.Int).ModInverse(big.NewInt(threshold.PublicExponent), phi),
		Primes:    []*big.Int{P, Q},
	}
	k.Precompute()
	return k, k.Validate()
}

func root(name string, key *rsa.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Privyseal tests"}},
		NotBefore: time.Unix(Epoch, 0).UTC(), NotAfter: time.Unix(Epoch+20*365*86400, 0).UTC(),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// Primes are the factors of a test key's modulus.
func Primes(key string) []*big.Int {
	var out []*big.Int
	for _, s := range primes[key] {
		p, _ := new(big.Int).SetString(s, 16)
		out = append(out, p)
	}
	return out
}
