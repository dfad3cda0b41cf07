package client_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/profile"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// batch is a wish for n certificates of ca-1.
func batch(t *testing.T, n int) client.Wish {
	t.Helper()
	p, err := profile.Find("server")
	if err != nil {
		t.Fatal(err)
	}
	w := client.Wish{Key: "ca-1", Kind: document.KindCertificates, Profile: p, Days: 30, Lifetime: 3600}
	for i := range n {
		name := fmt.Sprintf("host-%d.example", i+1)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		}, ledgertest.NewSigner(t, name))
		if err != nil {
			t.Fatal(err)
		}
		w.CSRs, w.Names = append(w.CSRs, der), append(w.Names, name+".pem")
	}
	return w
}

// What comes back is compared with what was asked for, certificate by
// certificate.
func TestBatchResults(t *testing.T) {
	w := newWorld(t)
	a := w.Authority(ledgertest.SmallPlan(1))
	srv, _ := w.sys.Server("")
	for _, alg := range []threshold.Algorithm{threshold.RS256, threshold.PS384} {
		wish := batch(t, 4)
		wish.Algorithm = alg
		r, err := client.NewRequest(rand.Reader, w.State, w.program(), wish, srv, w.unix())
		if err != nil {
			t.Fatal(err)
		}
		sign := func(r *client.Signed) *api.Tracking {
			out := &api.Tracking{State: api.StateDone}
			for _, part := range r.Checked.Parts() {
				var opts crypto.SignerOpts = alg.Hash()
				if alg.PSS() {
					opts = &rsa.PSSOptions{SaltLength: alg.SaltLen(), Hash: alg.Hash()}
				}
				sig, err := a.Whole.Sign(rand.Reader, part.Digest(), opts)
				if err != nil {
					t.Fatal(err)
				}
				out.Signatures = append(out.Signatures, sig)
			}
			return out
		}
		good := sign(r)
		ders, err := r.Results(good)
		if err != nil || len(ders) != 4 {
			t.Fatalf("%s: %v", alg, err)
		}
		for i, der := range ders {
			if _, cert, err := client.VerifyCertificate(w.State, der, w.unix()); err != nil || !slices.Equal(cert.DNSNames, []string{fmt.Sprintf("host-%d.example", i+1)}) {
				t.Errorf("%s: certificate %d: %v", alg, i+1, err)
			}
		}
		again, err := client.NewRequest(rand.Reader, w.State, w.program(), wish, srv, w.unix())
		if err != nil {
			t.Fatal(err)
		}
		other := sign(again)
		for name, lie := range map[string]func([][]byte) [][]byte{
			"two exchanged":           func(s [][]byte) [][]byte { s[1], s[2] = s[2], s[1]; return s },
			"one left out":            func(s [][]byte) [][]byte { return s[:3] },
			"the first left out":      func(s [][]byte) [][]byte { return s[1:] },
			"one doubled":             func(s [][]byte) [][]byte { s[3] = s[2]; return s },
			"one more":                func(s [][]byte) [][]byte { return append(s, s[0]) },
			"an empty one":            func(s [][]byte) [][]byte { s[2] = nil; return s },
			"one of the same request": func(s [][]byte) [][]byte { s[0] = other.Signatures[0]; return s },
			"none":                    func([][]byte) [][]byte { return nil },
		} {
			told := &api.Tracking{State: api.StateDone, Signatures: lie(slices.Clone(good.Signatures))}
			if got, err := r.Results(told); err == nil || got != nil || !strings.Contains(err.Error(), "wrong signature") {
				t.Errorf("%s, %s: %d results, %v", alg, name, len(got), err)
			}
			// What the server assembled itself is nothing.
			told.Documents = ders
			if _, err := r.Results(told); err == nil {
				t.Errorf("%s, %s: the server's documents are taken", alg, name)
			}
		}
		if _, err := r.Result(good); err == nil {
			t.Errorf("%s: a batch has one result", alg)
		}
	}
}

func TestBatchNames(t *testing.T) {
	w := newWorld(t)
	w.Authority(ledgertest.SmallPlan(1))
	srv, _ := w.sys.Server("")
	for name, c := range map[string]struct {
		change func(*client.Wish)
		want   string
	}{
		"good":       {func(*client.Wish) {}, ""},
		"no names":   {func(x *client.Wish) { x.Names = nil }, ""},
		"too few":    {func(x *client.Wish) { x.Names = x.Names[1:] }, "2 names for 3 certificates"},
		"twice":      {func(x *client.Wish) { x.Names[2] = x.Names[0] }, "two certificates would be called"},
		"a path":     {func(x *client.Wish) { x.Names[0] = "../x.pem" }, "no name of a file"},
		"above":      {func(x *client.Wish) { x.Names[0] = ".." }, "no name of a file"},
		"here":       {func(x *client.Wish) { x.Names[0] = "." }, "no name of a file"},
		"empty":      {func(x *client.Wish) { x.Names[0] = "" }, "no name of a file"},
		"absolute":   {func(x *client.Wish) { x.Names[0] = "/etc/x.pem" }, "no name of a file"},
		"broken CSR": {func(x *client.Wish) { x.CSRs[1] = x.CSRs[1][:20] }, "host-2.example.pem: certificate 2 of 3: "},
		"too long":   {func(x *client.Wish) { x.Days = 4000 }, "host-1.example.pem: certificate 1 of 3: "},
		"none":       {func(x *client.Wish) { x.CSRs, x.Names = nil, nil }, "empty"},
		"other key":  {func(x *client.Wish) { x.Key = ledgertest.KeyCertificates }, "only keys in two layers sign batches"},
		"no such":    {func(x *client.Wish) { x.Key = ledgertest.KeyFiles }, "not certificates"},
	} {
		wish := batch(t, 3)
		c.change(&wish)
		r, err := client.NewRequest(rand.Reader, w.State, w.program(), wish, srv, w.unix())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !slices.Equal(r.Names, wish.Names) {
			t.Errorf("%s: %q", name, r.Names)
		}
	}
}

// The home keeps the names, and refuses those that somebody put there.
func TestBatchKept(t *testing.T) {
	w := newWorld(t)
	w.Authority(ledgertest.SmallPlan(1))
	if err := w.sys.Refresh(t.Context(), w.dial("")); err != nil {
		t.Fatal(err)
	}
	srv, _ := w.sys.Server("")
	r, err := client.NewRequest(rand.Reader, w.State, w.program(), batch(t, 3), srv, w.unix())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sys.Keep(r); err != nil {
		t.Fatal(err)
	}
	k, err := w.sys.Kept(r.Digest.String())
	if err != nil || !slices.Equal(k.Names, []string{"host-1.example.pem", "host-2.example.pem", "host-3.example.pem"}) || len(k.Checked.Parts()) != 3 {
		t.Fatalf("%+v, %v", k, err)
	}
	r.Names[1] = "../../.bashrc"
	if err := w.sys.Keep(r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sys.Kept(r.Digest.String()); err == nil || !strings.Contains(err.Error(), "no name of a file") {
		t.Errorf("%v", err)
	}
}
