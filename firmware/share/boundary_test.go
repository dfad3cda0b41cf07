package share_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/hsm"
)

// recorder keeps a copy of every byte string that crosses the PKCS#11 boundary.
type recorder struct {
	mu    sync.Mutex
	known [][]byte
	calls map[string]int
}

func (r *recorder) trace(call string, in, out [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = map[string]int{}
	}
	r.calls[call]++
	for _, b := range slices.Concat(in, out) {
		r.known = append(r.known, bytes.Clone(b))
	}
}

// forget starts a new recording and returns the one so far.
func (r *recorder) forget() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.known
	r.known, r.calls = nil, nil
	return k
}

// An adversary knows byte strings and looks for one secret number.
type adversary struct {
	known   [][]byte
	needles [][]byte
	aads    [][]byte // associated data he can compute
}

func newAdversary(secret []byte, known ...[]byte) *adversary {
	a := &adversary{}
	d := bytes.TrimLeft(secret, "\x00")
	// Sixteen bytes from either end and from the middle find the number bare,
	// padded, in PKCS#8 or any other frame, and if a part of it is missing.
	// PKCS#8 repeats it as an INTEGER: the same bytes.
	for _, part := range [][]byte{d[:16], d[len(d)/2 : len(d)/2+16], d[len(d)-16:]} {
		rev := bytes.Clone(part)
		slices.Reverse(rev)
		a.needles = append(a.needles, part, rev)
	}
	a.learn(known...)
	return a
}

// learn adds what is new, at most some thousand strings.
func (a *adversary) learn(b ...[]byte) {
	for _, s := range b {
		if len(s) > 0 && len(a.known) < 4000 && !slices.ContainsFunc(a.known, func(k []byte) bool { return bytes.Equal(k, s) }) {
			a.known = append(a.known, bytes.Clone(s))
		}
	}
}

func (a *adversary) sees(s []byte) bool {
	for _, n := range a.needles {
		if bytes.Contains(s, n) {
			return true
		}
	}
	return false
}

// found reports whether the secret is among what is known.
func (a *adversary) found() bool { return slices.ContainsFunc(a.known, a.sees) }

// combine tries every known string as a key on every other (AES-KW, AES-KWP,
// AES-GCM with every nonce and associated data, raw AES and CBC), adds, subtracts
// and xors pairs, and learns what decrypts or, where nothing says whether it
// did, looks at the result at once. It reports whether the secret was found.
func (a *adversary) combine() bool {
	if a.found() {
		return true
	}
	known := slices.Clone(a.known)
	var keys [][]byte
	for _, k := range known {
		if len(k) == 16 || len(k) == 24 || len(k) == 32 {
			keys = append(keys, k)
		}
		h := sha256.Sum256(k)
		keys = append(keys, h[:])
	}
	var nonces [][]byte
	for _, n := range known {
		if len(n) == 12 {
			nonces = append(nonces, n)
		}
	}
	nonces = append(nonces, make([]byte, 12))
	aads := append([][]byte{nil}, a.aads...)
	for _, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			panic(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			panic(err)
		}
		for _, c := range known {
			if p, ok := unwrapKWP(block, c); ok {
				a.learn(p)
			}
			if len(c) >= 16 {
				for _, n := range nonces {
					for _, aad := range aads {
						if p, err := gcm.Open(nil, n, c, aad); err == nil {
							a.learn(p)
						}
					}
				}
				whole := c[:len(c)/16*16]
				p := make([]byte, len(whole))
				for i := 0; i < len(whole); i += 16 {
					block.Decrypt(p[i:], whole[i:])
				}
				if a.sees(p) {
					return true
				}
				cipher.NewCBCDecrypter(block, make([]byte, 16)).CryptBlocks(p, whole)
				if a.sees(p) {
					return true
				}
			}
		}
	}
	for i, x := range known {
		for _, y := range known[:i] {
			if len(x) < 16 || len(y) < 16 {
				continue
			}
			bx, by := new(big.Int).SetBytes(x), new(big.Int).SetBytes(y)
			for _, z := range []*big.Int{new(big.Int).Add(bx, by), new(big.Int).Sub(bx, by), new(big.Int).Xor(bx, by)} {
				if a.sees(z.Bytes()) {
					return true
				}
			}
		}
	}
	return a.found()
}

// unwrapKWP is RFC 5649 section 4.2, and RFC 3394 for the other initial value.
// ok reports whether it authenticates.
func unwrapKWP(block cipher.Block, c []byte) (p []byte, ok bool) {
	if len(c) < 16 || len(c)%8 != 0 {
		return nil, false
	}
	n := len(c)/8 - 1
	a, r := make([]byte, 8), bytes.Clone(c[8:])
	copy(a, c)
	if n == 1 {
		b := make([]byte, 16)
		block.Decrypt(b, c)
		a, r = b[:8], b[8:]
	} else {
		for t := 6 * n; t >= 1; t-- {
			i := (t-1)%n + 1
			b := make([]byte, 16)
			copy(b, a)
			for k := range 8 {
				b[k] ^= byte(uint64(t) >> (56 - 8*k))
			}
			copy(b[8:], r[8*(i-1):8*i])
			block.Decrypt(b, b)
			copy(a, b[:8])
			copy(r[8*(i-1):], b[8:])
		}
	}
	if bytes.Equal(a, bytes.Repeat([]byte{0xa6}, 8)) {
		return r, true
	}
	if !bytes.Equal(a[:4], []byte{0xa6, 0x59, 0x59, 0xa6}) {
		return nil, false
	}
	size := int(a[4])<<24 | int(a[5])<<16 | int(a[6])<<8 | int(a[7])
	if size <= len(r)-8 || size > len(r) {
		return nil, false
	}
	return r[:size], true
}

// wrapKWP is RFC 5649 section 4.1, for the adversary's own test.
func wrapKWP(block cipher.Block, p []byte) []byte {
	a := []byte{0xa6, 0x59, 0x59, 0xa6, byte(len(p) >> 24), byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p))}
	r := append(bytes.Clone(p), make([]byte, (8-len(p)%8)%8)...)
	n := len(r) / 8
	for t := 1; t <= 6*n; t++ {
		i := (t-1)%n + 1
		b := append(bytes.Clone(a), r[8*(i-1):8*i]...)
		block.Encrypt(b, b)
		for k := range 8 {
			b[k] ^= byte(uint64(t) >> (56 - 8*k))
		}
		copy(a, b[:8])
		copy(r[8*(i-1):], b[8:])
	}
	return append(a, r...)
}

func pkcs8DH(n, d []byte) []byte {
	type parameters struct{ P, G *big.Int }
	type algorithm struct {
		OID        asn1.ObjectIdentifier
		Parameters parameters
	}
	value, err := asn1.Marshal(new(big.Int).SetBytes(d))
	if err != nil {
		panic(err)
	}
	b, err := asn1.Marshal(struct {
		Version   int
		Algorithm algorithm
		Key       []byte
	}{0, algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 3, 1}, parameters{new(big.Int).SetBytes(n), big.NewInt(2)}}, value})
	if err != nil {
		panic(err)
	}
	return b
}

// TestAdversaryIsAble: the searches below are worth something only if they find
// a secret that is there.
func TestAdversaryIsAble(t *testing.T) {
	// RFC 5649 section 6.
	key, _ := hex.DecodeString("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	wrapped, _ := hex.DecodeString("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a")
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := unwrapKWP(block, wrapped); !ok || hex.EncodeToString(p) != "c37b7e6492584340bed12207808941155068f738" {
		t.Fatalf("AES-KWP gives %x", p)
	}

	random := func(n int) []byte {
		b := make([]byte, n)
		rand.Read(b)
		return b
	}
	d, n, kekBytes, officers, nonce, mask := random(256), random(256), random(32), random(32), random(12), random(256)
	rev := bytes.Clone(d)
	slices.Reverse(rev)
	kekBlock, err := aes.NewCipher(kekBytes)
	if err != nil {
		t.Fatal(err)
	}
	officersBlock, err := aes.NewCipher(officers)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(officersBlock)
	if err != nil {
		t.Fatal(err)
	}
	aad := random(32)
	inner := wrapKWP(kekBlock, pkcs8DH(n, d))
	masked := new(big.Int).Xor(new(big.Int).SetBytes(d), new(big.Int).SetBytes(mask)).Bytes()
	sum := new(big.Int).Add(new(big.Int).SetBytes(d), new(big.Int).SetBytes(mask)).Bytes()
	for name, known := range map[string][][]byte{
		"bare": {d}, "reversed": {rev}, "PKCS#8": {pkcs8DH(n, d)}, "PKCS#8 without its end": {pkcs8DH(n, d)[:500]},
		"KEK and wrapped":         {kekBytes, inner},
		"KEK and all layers":      {kekBytes, officers, nonce, gcm.Seal(nil, nonce, inner, aad)},
		"KEK after both layers":   {officers, nonce, gcm.Seal(nil, nonce, inner, nil), kekBytes},
		"masked, and the mask":    {masked, mask},
		"a difference":            {sum, mask},
		"officers' key by itself": {officers, nonce, gcm.Seal(nil, nonce, pkcs8DH(n, rev), nil)},
	} {
		a := newAdversary(d, append(known, random(48), []byte("noise"))...)
		a.aads = [][]byte{aad}
		if !a.combine() && !a.combine() && !a.combine() {
			t.Errorf("does not find: %s", name)
		}
	}
	a := newAdversary(d, officers, nonce, gcm.Seal(nil, nonce, inner, nil), inner, n, mask)
	if a.combine() || a.combine() {
		t.Error("finds what is not there")
	}
}

// TestBoundary records every byte string that crosses the PKCS#11 boundary
// while a sub-share is used in the token. None is the sub-share, and no
// combination of them, the stored share and the officers' key opens it.
func TestBoundary(t *testing.T) {
	rec := &recorder{}
	in := install(t, hsm.InToken, rec.trace)
	subset := in.share.Subs[1].Subset
	secret := in.share.Subs[1].Value.Reveal()

	// At installation the share does pass through the host: the recorder and
	// the search would see it.
	if !newAdversary(secret, rec.forget()...).found() {
		t.Fatal("the share was not seen at its installation: the recorder misses something")
	}

	// A restart of the device, so that nothing of the installation is left,
	// then one partial signature as a device makes it.
	in.hsm.Reopen(t)
	in.hsm.MustUnlock(t)
	token := share.Bind(in.hsm.Token, kek)
	wrapped, err := in.stored.Open(in.facts, in.officers, subset)
	if err != nil {
		t.Fatal(err)
	}
	e, err := share.InToken(token, in.pub.N, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	x := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, len(in.pub.N)-2)...)
	y, err := e.Exp(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	calls := fmt.Sprint(rec.calls)
	known := rec.forget()
	for what, b := range map[string][]byte{"x": x, "y": y, "the wrapped sub-share": wrapped, "N": in.pub.N, "the PIN": []byte("correct horse")} {
		if !slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, b) }) {
			t.Errorf("%s was not recorded: the recorder misses something (%s)", what, calls)
		}
	}

	a := newAdversary(secret, known...)
	a.learn(in.officers.Reveal(), in.data)
	for _, s := range in.stored.Subs {
		a.learn(s.Nonce, s.Ciphertext)
		a.aads = append(a.aads, associatedData(in.stored, s))
	}
	before := len(a.known)
	for range 2 {
		if a.combine() {
			t.Fatal("the sub-share can be had from what crossed the boundary")
		}
	}
	// The officers' key did open the outer layer, so the search was at work.
	if wrappedAll := len(a.known) - before; wrappedAll < 1 {
		t.Errorf("learned %d strings; at least the other sub-share's wrapping was to be had", wrappedAll)
	}

	// The same in the host: the sub-share does cross, and is seen.
	host := &recorder{}
	in2 := install(t, hsm.InHost, host.trace)
	wrapped, err = in2.stored.Open(in2.facts, in2.officers, subset)
	if err != nil {
		t.Fatal(err)
	}
	host.forget()
	memory := newMemory(t)
	if e, err = share.InHost(in2.token, memory, in2.pub.N, wrapped); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !newAdversary(in2.share.Subs[1].Value.Reveal(), host.forget()...).found() {
		t.Error("in-host use was not seen: the recorder misses something")
	}
}

// associatedData is what a thief who read the source computes: all the facts
// are in clear in the stored share.
func associatedData(s *share.Stored, sub share.StoredSub) []byte {
	num := func(n uint64) []byte { return new(big.Int).SetUint64(n).FillBytes(make([]byte, 8)) }
	h := envelope.HashOf("privyseal share at rest v1", s.N, []byte(s.Key), num(s.Epoch), []byte(s.ShareID), num(s.Index),
		num(s.Version), num(uint64(sub.Label)))
	return h[:]
}
