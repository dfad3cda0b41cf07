package systemtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/firmware"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/share"
)

// TestTamperedShare alters the share at rest, in the token, in every way that
// leaves a stored share, and many that do not. The device says so, or what was
// altered is of another subset and its partial signature is the same as before.
func TestTamperedShare(t *testing.T) {
	s := New(t, Only(Pair, Certs))
	r := s.File(Pair, []byte("a nightly build\n"))
	key := s.Key(Pair)
	name := ceremony.ShareObject(key.Holders[0].Share)
	token := s.Devices["d1"].Token
	version, data, err := token.GetObject(name)
	s.check(err)
	put := func(data []byte) {
		t.Helper()
		version++
		s.check(token.PutObject(name, version, data))
	}
	x := order(1, 2)
	use := func() (*firmware.Partial, error) {
		p, _, err := s.Part(r, x, 0)
		return p, err
	}
	right, err := use()
	s.check(err)

	altered := func(change func(*share.Stored)) []byte {
		st, err := share.ParseStored(data)
		s.check(err)
		change(st)
		out, err := st.Marshal()
		s.check(err)
		return out
	}
	other := func(key string) []byte {
		_, data, err := token.GetObject(ceremony.ShareObject(s.Key(key).Holders[0].Share))
		s.check(err)
		return data
	}
	sub := 0 // subset {1, 2} is the first
	for what, c := range map[string]struct {
		data []byte
		word string
	}{
		"ciphertext": {altered(func(s *share.Stored) { s.Subs[sub].Ciphertext[40] ^= 1 }), "the stored share was altered"},
		"nonce":      {altered(func(s *share.Stored) { s.Subs[sub].Nonce[0] ^= 1 }), "the stored share was altered"},
		"subsets exchanged": {altered(func(s *share.Stored) {
			s.Subs[0].Ciphertext, s.Subs[1].Ciphertext = s.Subs[1].Ciphertext, s.Subs[0].Ciphertext
			s.Subs[0].Nonce, s.Subs[1].Nonce = s.Subs[1].Nonce, s.Subs[0].Nonce
		}), "the stored share was altered"},
		"modulus":         {altered(func(s *share.Stored) { s.N[200] ^= 4 }), "for another modulus"},
		"epoch":           {altered(func(s *share.Stored) { s.Epoch++ }), "epoch is 2, in force is 1"},
		"epoch, back":     {altered(func(s *share.Stored) { s.Epoch = 0 }), "older version"},
		"version":         {altered(func(s *share.Stored) { s.Version++ }), "version is 2, in force is 1"},
		"index":           {altered(func(s *share.Stored) { s.ShareID = "another" }), "another share is stored"},
		"check value":     {altered(func(s *share.Stored) { s.KeyCheck[3] ^= 1 }), "do not join to the right key"},
		"another share":   {other(Certs), "another share is stored"},
		"cut short":       {data[:len(data)-1], "malformed"},
		"a subset lost":   {altered(func(s *share.Stored) { s.Subs = s.Subs[1:] }), "no sub-share for this subset"},
		"one byte longer": {append(slices.Clone(data), 0), "malformed"},
	} {
		t.Run(what, func(t *testing.T) {
			s.t = t
			put(c.data)
			unmoved(t, s, "d1", func() {
				_, err := use()
				wantRefusal(t, err, firmware.CodeShare, c.word)
			})
			put(data)
		})
		// Each refusal counts as an answer of this request: ask anew.
		r = s.File(Pair, r.Document)
	}
	s.t = t

	refused := 0
	for at := 0; at < len(data); at += 1 + len(data)/60 {
		r.Request.Nonce[0]++
		r = s.Request(Requester, r.Request)
		bad := slices.Clone(data)
		bad[at] ^= 0x08
		put(bad)
		p, err := use()
		if err != nil {
			refused++
			wantRefusal(t, err, firmware.CodeShare)
		} else if !slices.Equal(p.Y, right.Y) {
			t.Errorf("byte %d altered: another partial signature", at)
		}
	}
	if refused < 10 {
		t.Errorf("only %d altered bytes were noticed", refused)
	}
	put(data)
	if p, err := use(); err != nil || !slices.Equal(p.Y, right.Y) {
		t.Errorf("the share put back: %v", err)
	}
	s.check(token.DeleteObject(name))
	_, err = use()
	wantRefusal(t, err, firmware.CodeShare, "the token does not give share")
}

// TestDeletedToken: the token's files are gone under a running device. It makes
// nothing and says what is wrong, with the boot key, since the other is gone.
func TestDeletedToken(t *testing.T) {
	for _, device := range []string{"d1", "d4"} { // in the token, in the host
		t.Run(device, func(t *testing.T) {
			s := New(t, Only(Certs))
			r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
			x := order(1, 4, 5)
			pos := slices.Index(x, uint64(device[1]-'0'))
			offer := s.MustOffer(device, r)
			approvals := s.Approvals(r, offer, nil)
			s.Devices[device].Token.Delete(t)
			for range 2 {
				_, _, err := s.Do(device, r.Task(offer, approvals, x, pos))
				wantRefusal(t, err, firmware.CodeInternal, "the token of device "+device+" is gone")
			}
			if st := s.Status(device); !strings.Contains(st.Token, "gone") || st.Partials != 0 {
				t.Errorf("token %q, %d partial signatures", st.Token, st.Partials)
			}
			// The others go on.
			s.MustSign(r, 2, 3, 5)
		})
	}
}
