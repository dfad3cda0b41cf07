package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestIssued: what an independent output interface saw signed is fetched by whoever
// knows the request's digest, and every word of it that counts is verified.
func TestIssued(t *testing.T) {
	r := newRig(t)
	r.Authority(ledgertest.SmallPlan(1))
	digest := r.request("certificate", "--csr", csrs(t, "a.example", "b.example"), "--profile", "server")
	at := []string{"--server", "server-5", "authority", "issued"}
	r.fails(exitFailed, r.nobody(), "nothing was seen signed", append(at, digest)...)
	r.fails(exitUsage, r.nobody(), "this home made no request", append(at, "abc")...)
	r.fails(exitFailed, r.nobody(), "nothing was seen signed", append(at, envelope.Hash{7}.String())...)
	r.fails(exitFailed, r.nobody(), "without --server all are asked", append(at, digest)...)
	r.fails(exitFailed, r.nobody(), "no message server that answers saw request "+digest[:12]+" signed\nhint: servers listen that have", "authority", "issued", digest)
	r.officers("device-1", "device-2", "device-4")

	out := filepath.Join(t.TempDir(), "certs")
	x := r.ok("", append(at, digest[:10], "--out", out)...)
	says(t, x.out, "2 certificates written to "+out)
	says(t, x.err, "server server-5 saw it signed", "combined by device-4")
	r.ok("", "verify", "certificate", filepath.Join(out, "a.example.pem"))
	r.fails(exitFailed, r.nobody(), "exists", append(at, digest, "--out", out)...)
	j := decode[issuedJSON](t, r.ok("", append([]string{"--json"}, append(at, digest)...)...))
	if j.Request.String() != digest || j.Server != "server-5" || len(j.Results) != 2 || len(j.Combiners) != 1 || j.Results[1].Name != "b.example.pem" {
		t.Errorf("%+v", j)
	}
	tracked := decode[trackingJSON](t, r.ok("", "--json", "request", "status", digest))
	if tracked.State != api.StateDone || j.Task == 0 {
		t.Errorf("%+v", tracked)
	}

	// Somebody who has nothing but the digest.
	if err := os.RemoveAll(filepath.Join(r.home, "requests")); err != nil {
		t.Fatal(err)
	}
	says(t, r.ok("", append(at, digest)...).out, "BEGIN CERTIFICATE")

	// A server that lies.
	for want, lie := range map[string]func(*api.Issued){
		"wrong signature":     func(x *api.Issued) { x.Signatures[1][9] ^= 1 },
		"answers for request": func(x *api.Issued) { x.Request[0] ^= 1 },
		"2 documents":         func(x *api.Issued) { x.Signatures = x.Signatures[:1] },
		"the request":         func(x *api.Issued) { x.Message[len(x.Message)-1] ^= 1 },
	} {
		r.Answer = func(v any) {
			if x, ok := v.(*api.Issued); ok {
				raw, err := envelope.Marshal(x)
				if err == nil {
					*x = api.Issued{}
					err = envelope.Unmarshal(raw, x)
				}
				if err != nil {
					t.Error(err)
				}
				lie(x)
			}
		}
		r.fails(exitFailed, r.nobody(), want, append(at, digest)...)
	}
	// Its own assembly is not looked at.
	r.Answer = func(v any) {
		if x, ok := v.(*api.Issued); ok {
			x.Documents, x.Server = nil, "evil\x1b[31m"
		}
	}
	x = r.ok("", append(at, digest)...)
	says(t, x.out, "BEGIN CERTIFICATE")
	if strings.Contains(x.err, "\x1b[31m") {
		t.Error("a server's escapes reach the terminal")
	}

	r.Answer = nil
	// Whoever does not know which server listens: the one that does is found.
	r.Stop("server-1")
	x = r.ok("", "authority", "issued", digest)
	says(t, x.out, "BEGIN CERTIFICATE")
	says(t, x.err, "warning: message server server-1 cannot be reached", "server server-5 saw it signed")
}
