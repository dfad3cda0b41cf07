package main

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/cmd/internal/api"
	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// csrs makes a directory of certificate requests, NAME.csr each.
func csrs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		host := strings.TrimPrefix(name, "wild-")
		if host != name {
			host = "*." + host
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{host, "alt." + name},
		}, ledgertest.NewSigner(t, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".csr"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// machines approves at two calculators and one combiner of the small plan, but
// for persons left out.
func (r *rig) machines() { r.officers("device-1", "device-2", "device-4") }

// A batch through everything: asked for from a directory, shown, approved with
// one PIN, written into a new directory, verified by OpenSSL.
func TestCertificates(t *testing.T) {
	r := newRig(t, "officer-1a")
	r.Authority(ledgertest.SmallPlan(1))
	names := []string{"a.example", "b.example", "d.example", "e.example", "wild-c.example"}
	dir := csrs(t, names...)
	write(t, filepath.Join(dir, "README"), []byte("not one"))
	x := r.ok("", "--json", "request", "certificate", "--csr", dir, "--profile", "server", "--requester-key", r.programKey())
	sent := decode[submitted](t, x)
	if sent.Count != len(names) || !strings.Contains(x.err, "a batch of 5 certificates") {
		t.Errorf("%+v\n%s", sent, x.err)
	}
	digest := sent.Request.String()

	card := []string{"--card", r.serial("officer-1a")}
	says(t, r.ok(virtual.DefaultPIN, append([]string{"officer", "inbox"}, card...)...).out, digest[:12]+"  Batch of 5 certificates: a.example, b.example, d.example, e.example, wild-c.example")
	show := r.ok(virtual.DefaultPIN, append([]string{"officer", "show", digest[:12]}, card...)...).out
	says(t, show, "Batch of 5 certificates\n", "Public key, the same in all 5", "Certificate 5 of 5", "alt.e.example", "SHA-256 of the key",
		"All 5, and what is to be noticed", "WARNING: DNS: *.c.example is good for every host of that domain", "5, all of them or none; remarks on 5\n")
	table := show[strings.Index(show, "All 5,"):]
	for n, name := range names {
		says(t, table, fmt.Sprintf("  %d    %s ", n+1, name), "alt."+name)
	}
	// What all of them have is said once, what one has under it.
	show = r.ok(virtual.DefaultPIN, append([]string{"officer", "show", digest[:12], "--public"}, card...)...).out
	says(t, show, "5, all of them or none; remarks on all, and more on 5\n")
	if n := strings.Count(show, "all 5: error: Subscriber Certificate: authorityInformationAccess MUST be present"); n != 1 {
		t.Errorf("%d times:\n%s", n, show)
	}
	all := decode[[]shown](t, r.ok(virtual.DefaultPIN, append([]string{"--json", "officer", "show", digest}, card...)...))
	if len(all) != 1 || all[0].Count != 5 || len(all[0].Certificates) != 5 || all[0].Certificates[4].Names[0] != "DNS: *.c.example" || len(all[0].Certificates[4].Warnings) != 1 {
		t.Errorf("%+v", all)
	}

	approve := append([]string{"officer", "approve", digest}, card...)
	for _, answer := range []string{"n\n", "y\n"} {
		p := &pins{give: []string{virtual.DefaultPIN}}
		x := r.run(p, &answer, approve...)
		if (x.code == exitOK) != (answer == "y\n") || len(p.asked) != 1 {
			t.Errorf("%q: %d\n%s", answer, x.code, x.err)
		}
		says(t, x.err, "approve this batch of 5 certificates? [y/N]")
		says(t, x.out, "All 5, and what is to be noticed")
	}
	r.approve("officer-1b")
	r.officers("device-2", "device-4")

	status := r.ok("", "request", "status", digest[:10])
	says(t, status.out, "done", "batch of 5 certificates for key ca-1", "results    a.example.pem, b.example.pem")
	if got := decode[trackingJSON](t, r.ok("", "--json", "request", "status", digest)); len(got.Names) != 5 || len(got.Signatures) != 5 {
		t.Errorf("%+v", got)
	}
	out := filepath.Join(t.TempDir(), "certs")
	x = r.ok("", "request", "status", digest[:10], "--wait", "--out", out)
	says(t, x.out, "5 certificates written to "+out)
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	r.ok("", "system", "export", "ca-1", "--out", filepath.Join(out, "..", "root.pem"))
	for _, name := range names {
		args := []string{"verify", "-attime", "1767326645", "-x509_strict", "-CAfile", "../root.pem", "-verify_hostname", "alt." + name, name + ".pem"}
		if got := openssl(t, out, args...); got != name+".pem: OK\n" {
			t.Error(got)
		}
		r.ok("", "verify", "certificate", filepath.Join(out, name+".pem"))
	}
	if left, _ := os.ReadDir(out); len(left) != 5 {
		t.Errorf("%v", left)
	}

	// Nothing is overwritten, and nothing is left behind.
	r.fails(exitFailed, r.nobody(), "exists already", "request", "status", digest, "--wait", "--out", out)
	r.fails(exitFailed, r.nobody(), "no such file", "request", "status", digest, "--wait", "--out", filepath.Join(out, "none", "certs"))
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 2 {
		t.Errorf("%v", left)
	}

	// One after the other, and what is in such a file is verified to its end.
	x = r.ok("", "request", "status", digest, "--wait")
	if strings.Count(x.out, "-----BEGIN CERTIFICATE-----") != 5 {
		t.Errorf("%s", x.out)
	}
	says(t, r.ok("", "verify", "certificate", file(t, "all.pem", []byte(x.out))).out, "all.pem, 5 of 5: good certificate under key ca-1")
	der, rest := pem.Decode([]byte(x.out))
	next, _ := pem.Decode(rest)
	next.Bytes[len(next.Bytes)-1] ^= 1
	r.fails(exitFailed, r.nobody(), "certificate 2 of 2: ", "verify", "certificate", file(t, "bad.pem", append(pem.EncodeToMemory(der), pem.EncodeToMemory(next)...)))
	done := decode[delivered](t, r.ok("", "--json", "request", "status", digest, "--wait", "--out", out+"2"))
	if len(done.Results) != 5 || done.Result != nil || done.Kind != "certificate" || done.Results[3].Name != "e.example.pem" || done.Results[3].File != filepath.Join(out+"2", "e.example.pem") {
		t.Errorf("%+v", done)
	}
	if got, err := os.ReadFile(done.Results[4].File); err != nil || string(got) != string(done.Results[4].Result) {
		t.Errorf("%v", err)
	}
}

// Waited for at once, with --csr for each.
func TestCertificatesWaitedFor(t *testing.T) {
	r := newRig(t)
	r.Authority(ledgertest.SmallPlan(1))
	dir := csrs(t, "a.example", "b.example")
	out := filepath.Join(t.TempDir(), "certs")
	done := make(chan ran, 1)
	go func() {
		done <- r.run(r.nobody(), nil, "request", "certificate", "--csr", filepath.Join(dir, "b.example.csr"), "--csr", filepath.Join(dir, "a.example.csr"),
			"--profile", "server", "--requester-key", r.programKey(), "--wait", "--out", out)
	}()
	for len(r.Requests()) == 0 {
		select {
		case x := <-done:
			t.Fatalf("%s", x.err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.machines()
	if x := <-done; x.code != exitOK {
		t.Fatalf("%s", x.err)
	}
	for _, name := range []string{"a.example", "b.example"} {
		if text := openssl(t, out, "x509", "-in", name+".pem", "-noout", "-subject"); !strings.Contains(text, name) {
			t.Errorf("%s.pem is of %s", name, text)
		}
	}
}

// A server that hands out the signatures of a batch in another order, or not all
// of them: nothing is written.
func TestCertificatesOfLiar(t *testing.T) {
	r := newRig(t)
	r.Authority(ledgertest.SmallPlan(1))
	digest := r.request("certificate", "--csr", csrs(t, "a.example", "b.example", "c.example"), "--profile", "server")
	r.machines()
	for name, lie := range map[string]func(*api.Tracking){
		"exchanged": func(t *api.Tracking) { t.Signatures[0], t.Signatures[2] = t.Signatures[2], t.Signatures[0] },
		"doubled":   func(t *api.Tracking) { t.Signatures[1] = t.Signatures[0] },
		"left out":  func(t *api.Tracking) { t.Signatures = t.Signatures[:2] },
		"one more":  func(t *api.Tracking) { t.Signatures = append(t.Signatures, t.Signatures[0]) },
		"none":      func(t *api.Tracking) { t.Signatures = [][]byte{} },
	} {
		r.Answer = func(v any) {
			if t, ok := v.(*api.Tracking); ok {
				lie(t)
			}
		}
		out := filepath.Join(t.TempDir(), "certs")
		x := r.fails(exitFailed, r.nobody(), "hands out a wrong signature", "request", "status", digest, "--wait", "--out", out)
		if _, err := os.Stat(out); err == nil || x.out != "" {
			t.Errorf("%s: something was written", name)
		}
	}
}

func TestCertificatesRefused(t *testing.T) {
	r := newRigWith(t, func(g *ledger.Genesis) {})
	dir, key := csrs(t, "a.example", "b.example"), r.programKey()
	a, b := filepath.Join(dir, "a.example.csr"), filepath.Join(dir, "b.example.csr")
	ask := func(csr ...string) []string {
		args := []string{"request", "certificate", "--profile", "server", "--requester-key", key}
		for _, path := range csr {
			args = append(args, "--csr", path)
		}
		return args
	}
	x := r.fails(exitFailed, r.nobody(), "key certs signs no batches", ask(a, b)...)
	says(t, x.err, "hint: make a request for each")
	r.Authority(ledgertest.SmallPlan(1))
	r.fails(exitFailed, r.nobody(), "key certs signs no batches", append(ask(a, b), "--key", "certs")...)
	r.fails(exitUsage, r.nobody(), "several keys can sign this: certs, ca-1", ask(a)...)

	data, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	write(t, filepath.Join(other, "a.example.pem"), data)
	write(t, filepath.Join(other, "copy.csr"), data)
	r.fails(exitUsage, r.nobody(), "would both be called a.example.pem", ask(a, filepath.Join(other, "a.example.pem"))...)
	r.fails(exitUsage, r.nobody(), "would both be called a.example.pem", ask(a, a)...)
	r.fails(exitUsage, r.nobody(), "hold the same request", ask(a, filepath.Join(other, "copy.csr"))...)
	r.fails(exitFailed, r.nobody(), "no such file", ask(a, dir+"/none")...)
	r.fails(exitFailed, r.nobody(), "holds no certificate requests", ask(t.TempDir())...)
	r.fails(exitFailed, r.nobody(), "exists already", append(ask(dir), "--wait", "--out", other)...)

	// What is no request is named, wherever it is.
	bad := filepath.Join(dir, "c.pem")
	write(t, bad, []byte("hello\n"))
	r.fails(exitFailed, r.nobody(), bad+": bad certificate request: the file is neither PEM nor DER", ask(dir)...)
	block, _ := pem.Decode(data)
	block.Bytes[len(block.Bytes)-1] ^= 1
	write(t, bad, pem.EncodeToMemory(block))
	r.fails(exitFailed, r.nobody(), bad+": the CSR's signature does not verify", ask(dir)...)
	// A good request for what this system does not certify, too.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "no host"}}, ledgertest.NewSigner(t, "c"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, bad, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	r.fails(exitFailed, r.nobody(), "c.pem: certificate 3 of 3: ", ask(dir)...)
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: r.rootSubject("ca-1"), DNSNames: []string{"c.example"}}, ledgertest.NewSigner(t, "c"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, bad, der)
	r.fails(exitFailed, r.nobody(), "c.pem: certificate 3 of 3: bad subject", ask(dir)...)

	k, _ := r.State.Key("ca-1")
	most := document.MaxBatch(&k)
	many := t.TempDir()
	for n := range most + 1 {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{fmt.Sprintf("%d.example", n)}}, ledgertest.NewSigner(t, "many"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(many, fmt.Sprintf("%d.pem", n)), der)
	}
	x = r.fails(exitFailed, r.nobody(), fmt.Sprintf("%d certificates are too many: key ca-1 signs at most %d with one request", most+1, most), ask(many)...)
	says(t, x.err, "hint: make several requests")
	if len(r.Requests()) != 0 {
		t.Error("something was sent")
	}
	if _, err := os.Stat(filepath.Join(r.home, "requests")); err == nil {
		t.Error("something was kept")
	}
}

func (r *rig) rootSubject(key string) []byte {
	r.t.Helper()
	k, _ := r.State.Key(key)
	root, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		r.t.Fatal(err)
	}
	return root.RawSubject
}

func TestResultName(t *testing.T) {
	for path, want := range map[string]string{
		"a.csr": "a.pem", "/x/a.b.CSR": "a.b.pem", "a.pem": "a.pem", "www.example.org": "www.example.org.pem", ".csr": ".csr.pem", "./a.p10": "a.pem",
	} {
		if got := resultName(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// What an officer is asked is never less than what he says yes to.
func TestThese(t *testing.T) {
	item := func(digest byte, certificates int) *client.Item {
		return &client.Item{Digest: envelope.Hash{digest}, Request: document.Request{Batch: make([]document.Draft, certificates)}}
	}
	for want, items := range map[string][]*client.Item{
		"this request":                                       {item(1, 0)},
		"this batch of 1 certificate":                        {item(1, 1)},
		"this batch of 20 certificates, for 3 devices":       {item(1, 20), item(1, 20), item(1, 20)},
		"these 2 requests":                                   {item(1, 0), item(2, 0)},
		"these 3 requests, with 23 certificates in batches":  {item(1, 20), item(2, 0), item(3, 3)},
		"these 4 requests, with 23 certificates in batches":  {item(1, 20), item(1, 20), item(2, 0), item(3, 3)},
		"these 2 requests, with 1 certificate in batches":    {item(1, 0), item(2, 1)},
		"these 2 requests, with 100 certificates in batches": {item(1, 50), item(2, 50)},
	} {
		if got := these(items); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestTableCut: a name that is too long for its column is not read as two names, and
// no subject as the row of another certificate.
func TestTableCut(t *testing.T) {
	x := &shown{Certificates: []certificateJSON{
		{Number: 1, Subject: "www.example.org", Names: []string{"DNS www.example.org"}, Key: "ECDSA P-256", NotAfter: "2026-12-01 00:00"},
		{Number: 2, Subject: "long", Names: []string{"DNS intranet.bank.test.elsewhere.test", "URI https://a.test/ DNS www.example.org"}, Key: "ECDSA P-256", NotAfter: "2026-12-01 00:00"},
		{Number: 3, Subject: "x                      4    safe.example.org", Names: []string{"DNS x.test"}, Key: "ECDSA P-256", NotAfter: "2026-12-01 00:00"},
	}}
	for width := 40; width <= 120; width++ {
		lines := x.table(width)
		number := 0
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, fmt.Sprintf("  %d", number+1)) {
				number++
				continue
			}
			// It goes on with a cell of the row, or has its second name.
			if text := strings.TrimLeft(line, " "); !strings.HasPrefix(text, "|") && (number != 2 || !strings.HasPrefix(text, "URI ")) {
				t.Errorf("%d columns: %q", width, line)
			}
		}
		if number != 3 {
			t.Errorf("%d columns: %d rows", width, number)
		}
		// Nothing is left out.
		for _, c := range x.Certificates {
			for _, text := range append(slices.Clone(c.Names), c.Subject) {
				joined := strings.Join(cut(text, width/3), "")
				if strings.ReplaceAll(joined, "| ", "") != text {
					t.Errorf("%q became %q", text, joined)
				}
			}
		}
	}
	for _, line := range cut(strings.Repeat("é漢", 40), 20) {
		if document.Columns(line) > 20 {
			t.Errorf("%q takes %d columns", line, document.Columns(line))
		}
	}
}
