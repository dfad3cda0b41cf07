package share_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/hsm"
)

// TestInTokenAndInHost: pieces to key, key to sub-share, sub-share to x^d, in
// the token and in the host, and by math/big.
func TestInTokenAndInHost(t *testing.T) {
	for _, tc := range []struct {
		name string
		use  hsm.Use
	}{{"token", hsm.InToken}, {"host", hsm.InHost}} {
		t.Run(tc.name, func(t *testing.T) {
			in := install(t, tc.use, nil)
			memory := newMemory(t)
			pieces, err := share.SplitSecret(rand.Reader, in.officers.Reveal(), 2, 3)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := share.ParseStored(in.data)
			if err != nil {
				t.Fatal(err)
			}
			key, wrong, err := stored.RecoverOfficersKey(2, pieces[1:])
			if err != nil || len(wrong) != 0 {
				t.Fatal(wrong, err)
			}
			x := append([]byte{0, 1}, bytes.Repeat([]byte{0x5a}, len(in.pub.N)-2)...)
			for _, sub := range in.share.Subs {
				wrapped, err := stored.Open(in.facts, key, sub.Subset)
				if err != nil {
					t.Fatal(err)
				}
				var e share.Exponent
				if tc.use == hsm.InToken {
					e, err = share.InToken(in.token, in.pub.N, wrapped)
				} else {
					e, err = share.InHost(in.token, memory, in.pub.N, wrapped)
				}
				if err != nil {
					t.Fatal(err)
				}
				got, err := e.Exp(x)
				if err != nil {
					t.Fatal(err)
				}
				want := new(big.Int).Exp(new(big.Int).SetBytes(x), new(big.Int).SetBytes(sub.Value.Reveal()), new(big.Int).SetBytes(in.pub.N))
				if !bytes.Equal(got, want.FillBytes(make([]byte, len(in.pub.N)))) {
					t.Errorf("subset %v: wrong result", sub.Subset)
				}
				if _, err := threshold.Partial(in.pub, x, e); err != nil {
					t.Errorf("subset %v: %v", sub.Subset, err)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := e.Exp(x); err == nil {
					t.Error("used after Close")
				}
				if memory.last != nil && !bytes.Equal(memory.last, make([]byte, len(memory.last))) {
					t.Error("not wiped")
				}
			}
			if tc.use == hsm.InHost && memory.last == nil {
				t.Error("locked memory was not used")
			}
			// Both ways of use of the same stored share: a KEK for the host
			// serves both and they agree; one for the token refuses to reveal.
			wrapped, err := stored.Open(in.facts, key, in.share.Subs[0].Subset)
			if err != nil {
				t.Fatal(err)
			}
			host, err := share.InHost(in.token, memory, in.pub.N, wrapped)
			if tc.use == hsm.InToken {
				if !errors.Is(err, hsm.ErrConfined) {
					t.Errorf("a share confined to the token was revealed: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			token, err := share.InToken(in.token, in.pub.N, wrapped)
			if err != nil {
				t.Fatal(err)
			}
			defer token.Close()
			a, err := host.Exp(x)
			if err != nil {
				t.Fatal(err)
			}
			b, err := token.Exp(x)
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("token and host disagree: %v", err)
			}
		})
	}
}

// TestStoredRefuses: with the facts in force, whatever is not them is named.
func TestStoredRefuses(t *testing.T) {
	in := install(t, hsm.InHost, nil)
	subset := in.share.Subs[0].Subset
	other, err := share.NewOfficersKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := threshold.SubsetOf(1, 3)
	if err != nil {
		t.Fatal(err)
	}
	n := bytes.Clone(in.facts.Modulus)
	n[len(n)-2] ^= 1
	for _, tc := range []struct {
		name  string
		facts func(*share.Facts)
		key   threshold.Secret
		sub   threshold.Subset
		want  error
		text  string
	}{
		{"another officers' key", nil, other, subset, share.ErrWrongPieces, "pieces"},
		{"a subset without this share", nil, in.officers, outside, share.ErrNoSubset, "{1 3}"},
		{"another modulus in force", func(f *share.Facts) { f.Modulus = n }, in.officers, subset, share.ErrWrongModulus, "modulus"},
		{"another key", func(f *share.Facts) { f.Key = "files" }, in.officers, subset, share.ErrWrongShare, "key is root, in force is files"},
		{"another share", func(f *share.Facts) { f.ShareID = "root/3" }, in.officers, subset, share.ErrWrongShare, "share id"},
		{"another index", func(f *share.Facts) { f.Index = 3 }, in.officers, subset, share.ErrWrongShare, "index"},
		{"an older epoch", func(f *share.Facts) { f.Epoch = 4 }, in.officers, subset, share.ErrRolledBack, "epoch is 3, in force is 4"},
		{"a later epoch", func(f *share.Facts) { f.Epoch = 2 }, in.officers, subset, share.ErrWrongShare, "epoch"},
		{"an older version", func(f *share.Facts) { f.Version = 6 }, in.officers, subset, share.ErrRolledBack, "version is 5, in force is 6"},
		{"a later version", func(f *share.Facts) { f.Version = 4 }, in.officers, subset, share.ErrWrongShare, "version"},
		{"no version", func(f *share.Facts) { f.Version = 0 }, in.officers, subset, nil, "version is missing"},
		{"short officers' key", nil, threshold.NewSecret(make([]byte, 31)), subset, nil, "31 bytes"},
		{"wiped officers' key", nil, threshold.Secret{}, subset, nil, "0 bytes"},
	} {
		f := in.facts
		if tc.facts != nil {
			tc.facts(&f)
		}
		_, err := in.stored.Open(f, tc.key, tc.sub)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestStoredTampered: an attacker who can write the object, and is believed
// about the facts, edits one thing at a time; nothing opens.
func TestStoredTampered(t *testing.T) {
	in := install(t, hsm.InHost, nil)
	subset := in.share.Subs[0].Subset
	n := bytes.Clone(in.facts.Modulus)
	n[len(n)-2] ^= 1
	for _, tc := range []struct {
		name string
		edit func(s *share.Stored)
		want error
	}{
		{"nothing", func(s *share.Stored) {}, nil},
		{"modulus", func(s *share.Stored) { s.N = n }, share.ErrTampered},
		{"key", func(s *share.Stored) { s.Key = "files" }, share.ErrTampered},
		{"epoch", func(s *share.Stored) { s.Epoch = 9 }, share.ErrTampered},
		{"share id", func(s *share.Stored) { s.ShareID = "root/1" }, share.ErrTampered},
		{"version", func(s *share.Stored) { s.Version = 9 }, share.ErrTampered},
		{"index", func(s *share.Stored) { s.Index = 1; s.Subs = s.Subs[:1] }, share.ErrTampered},
		{"bit of the ciphertext", func(s *share.Stored) { s.Subs[0].Ciphertext[40] ^= 1 }, share.ErrTampered},
		{"bit of the nonce", func(s *share.Stored) { s.Subs[0].Nonce[0] ^= 1 }, share.ErrTampered},
		{"sub-shares swapped", func(s *share.Stored) {
			a, b := &s.Subs[0], &s.Subs[1]
			a.Nonce, b.Nonce, a.Ciphertext, b.Ciphertext = b.Nonce, a.Nonce, b.Ciphertext, a.Ciphertext
		}, share.ErrTampered},
		{"key check", func(s *share.Stored) { s.KeyCheck[0] ^= 1 }, share.ErrWrongPieces},
		{"no sub-shares", func(s *share.Stored) { s.Subs = nil }, share.ErrFormat},
		{"order", func(s *share.Stored) { slices.Reverse(s.Subs) }, share.ErrFormat},
		{"sub-share twice", func(s *share.Stored) { s.Subs[1] = s.Subs[0] }, share.ErrFormat},
		{"foreign sub-share", func(s *share.Stored) { s.Subs[1].Label = 0b101 }, share.ErrFormat},
		{"label beyond a subset", func(s *share.Stored) { s.Subs[1].Label |= 1 << 16 }, share.ErrFormat},
		{"format", func(s *share.Stored) { s.Format = 3 }, share.ErrFormat},
		{"format of parts", func(s *share.Stored) { s.Format = 2 }, share.ErrFormat},
		{"layer", func(s *share.Stored) { s.Layer = share.LayerCombiner }, share.ErrFormat},
		{"empty nonce", func(s *share.Stored) { s.Subs[0].Nonce = nil }, share.ErrFormat},
		{"empty ciphertext", func(s *share.Stored) { s.Subs[0].Ciphertext = nil }, share.ErrFormat},
		{"huge ciphertext", func(s *share.Stored) { s.Subs[0].Ciphertext = make([]byte, 9000) }, share.ErrFormat},
		{"modulus with a leading zero", func(s *share.Stored) { s.N = append([]byte{0}, s.N...) }, share.ErrFormat},
		{"no key", func(s *share.Stored) { s.Key = "" }, share.ErrFormat},
		{"index 17", func(s *share.Stored) { s.Index = 17 }, share.ErrFormat},
	} {
		s, err := share.ParseStored(in.data)
		if err != nil {
			t.Fatal(err)
		}
		tc.edit(s)
		data, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s, err = share.ParseStored(data)
		if err == nil {
			_, err = s.Open(share.Facts{Key: s.Key, Epoch: s.Epoch, ShareID: s.ShareID, Index: s.Index, Modulus: s.N, Version: s.Version}, in.officers, subset)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	for i := 0; i < len(in.data); i += 1 + len(in.data)/200 {
		bad := bytes.Clone(in.data)
		bad[i] ^= 1
		s, err := share.ParseStored(bad)
		if err != nil {
			continue
		}
		for _, sub := range in.share.Subs {
			if _, e := s.Open(in.facts, in.officers, sub.Subset); e != nil {
				err = e
			}
		}
		if err == nil {
			t.Errorf("byte %d altered and all opened", i)
		}
	}
	if _, err := share.ParseStored(make([]byte, share.MaxStored+1)); !errors.Is(err, share.ErrFormat) {
		t.Errorf("too large: %v", err)
	}
}

// TestInnerLayerIsTheTokens: what Open returns is useless elsewhere and for
// another modulus.
func TestInnerLayerIsTheTokens(t *testing.T) {
	in := install(t, hsm.InHost, nil)
	wrapped, err := in.stored.Open(in.facts, in.officers, in.share.Subs[0].Subset)
	if err != nil {
		t.Fatal(err)
	}
	d := bytes.TrimLeft(in.share.Subs[0].Value.Reveal(), "\x00")
	if bytes.Contains(wrapped, d[:16]) || bytes.Contains(in.data, d[:16]) {
		t.Fatal("the sub-share is readable")
	}
	memory := newMemory(t)
	n := bytes.Clone(in.pub.N)
	n[len(n)-2] ^= 1
	for name, err := range map[string]error{
		"host": second(share.InHost(in.token, memory, n, wrapped)), "token": second(share.InToken(in.token, n, wrapped)),
	} {
		if !errors.Is(err, hsm.ErrWrongModulus) {
			t.Errorf("another modulus, %s: %v", name, err)
		}
	}
	if err := in.hsm.GenerateKEK("other kek", hsm.InHost); err != nil {
		t.Fatal(err)
	}
	if err := second(share.InHost(share.Bind(in.hsm.Token, "other kek"), memory, in.pub.N, wrapped)); err == nil {
		t.Error("another KEK unwrapped it")
	}
	wrapped[20] ^= 1
	if err := second(share.InToken(in.token, in.pub.N, wrapped)); !errors.Is(err, hsm.ErrAuthentication) {
		t.Errorf("altered wrapping: %v", err)
	}
	in.hsm.Lock()
	if err := second(share.InToken(in.token, in.pub.N, wrapped)); !errors.Is(err, hsm.ErrLocked) {
		t.Errorf("locked token: %v", err)
	}
}

func second(_ share.Exponent, err error) error { return err }

func TestSealRefuses(t *testing.T) {
	in := install(t, hsm.InHost, nil)
	short := threshold.Share{Index: 2, Subs: []threshold.SubShare{{Subset: 0b11, Value: threshold.NewSecret(make([]byte, 255))}}}
	foreign := threshold.Share{Index: 2, Subs: []threshold.SubShare{{Subset: 0b101, Value: in.share.Subs[0].Value}}}
	for name, f := range map[string]func() (*share.Stored, error){
		"index": func() (*share.Stored, error) {
			s := in.share
			s.Index = 1
			return share.Seal(rand.Reader, in.token, in.officers, in.facts, &s)
		},
		"length": func() (*share.Stored, error) { return share.Seal(rand.Reader, in.token, in.officers, in.facts, &short) },
		"foreign": func() (*share.Stored, error) {
			return share.Seal(rand.Reader, in.token, in.officers, in.facts, &foreign)
		},
		"no key": func() (*share.Stored, error) {
			return share.Seal(rand.Reader, in.token, threshold.Secret{}, in.facts, &in.share)
		},
		"no facts": func() (*share.Stored, error) {
			return share.Seal(rand.Reader, in.token, in.officers, share.Facts{}, &in.share)
		},
		"no entropy": func() (*share.Stored, error) {
			return share.Seal(strings.NewReader(""), in.token, in.officers, in.facts, &in.share)
		},
		"no subs": func() (*share.Stored, error) {
			return share.Seal(rand.Reader, in.token, in.officers, in.facts, &threshold.Share{Index: 2})
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	a, err := share.Seal(rand.Reader, in.token, in.officers, in.facts, &in.share)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Subs[0].Nonce, in.stored.Subs[0].Nonce) || bytes.Equal(a.Subs[0].Nonce, a.Subs[1].Nonce) {
		t.Error("a nonce was used twice")
	}
}

// failingMemory has no pages left to lock.
type failingMemory struct{ err error }

func (m failingMemory) Alloc(int) ([]byte, error) { return nil, m.err }
func (failingMemory) Free([]byte)                 {}

func TestHostExponentRefuses(t *testing.T) {
	k, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	n := k.Public().N
	full := errors.New("RLIMIT_MEMLOCK")
	if _, err := share.NewHostExponent(failingMemory{full}, n, threshold.NewSecret(make([]byte, len(n)))); !errors.Is(err, full) {
		t.Errorf("no memory: %v", err)
	}
	memory := newMemory(t)
	if _, err := share.NewHostExponent(memory, n, threshold.NewSecret(make([]byte, len(n)-1))); err == nil {
		t.Error("short sub-share")
	}
	if _, err := share.NewHostExponent(memory, append(bytes.Clone(n[:len(n)-1]), 2), threshold.NewSecret(make([]byte, len(n)))); err == nil {
		t.Error("even modulus")
	}
	e, err := share.NewHostExponent(memory, n, threshold.NewSecret(bytes.Repeat([]byte{1}, len(n))))
	if err != nil {
		t.Fatal(err)
	}
	// A lock-down closes it while others work: they get a result or ErrClosed,
	// never the power of a wiped exponent (which is 1).
	x := append([]byte{0}, bytes.Repeat([]byte{2}, len(n)-1)...)
	want, err := e.Exp(x)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			for {
				y, err := e.Exp(x)
				if err != nil {
					done <- err
					return
				}
				if !bytes.Equal(y, want) {
					done <- errors.New("a wrong power")
					return
				}
			}
		}()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for range cap(done) {
		if err := <-done; !errors.Is(err, share.ErrClosed) {
			t.Error(err)
		}
	}
	if err := e.Close(); !errors.Is(err, share.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// revealing is a token that keeps hold of what it revealed.
type revealing struct {
	share.Token
	d []byte
}

func (r *revealing) Reveal(n, wrapped []byte) (d []byte, err error) {
	r.d, err = r.Token.Reveal(n, wrapped)
	return r.d, err
}

// TestInHostWipesWhatTheTokenGave: the copy outside locked memory is gone as
// soon as the locked one is made, and also when none can be made.
func TestInHostWipesWhatTheTokenGave(t *testing.T) {
	in := install(t, hsm.InHost, nil)
	wrapped, err := in.stored.Open(in.facts, in.officers, in.share.Subs[0].Subset)
	if err != nil {
		t.Fatal(err)
	}
	for _, memory := range []share.Memory{newMemory(t), failingMemory{errors.New("full")}} {
		token := &revealing{Token: in.token}
		e, err := share.InHost(token, memory, in.pub.N, wrapped)
		if len(token.d) != len(in.pub.N) || !bytes.Equal(token.d, make([]byte, len(token.d))) {
			t.Error("the sub-share was left behind")
		}
		if err == nil {
			e.Close()
		}
	}
}
