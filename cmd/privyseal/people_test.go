package main

import (
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/cmd/internal/client"
	"github.com/privyseal/privyseal/cmd/internal/coordinator/coordtest"
	"github.com/privyseal/privyseal/firmware/document"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// officers approves everything at devices, with cards in software.
func (r *rig) officers(devices ...string) {
	r.t.Helper()
	for _, device := range devices {
		for _, p := range r.Officers(device) {
			r.approve(p.ID)
		}
	}
}

// approve approves everything in a person's inbox, with a card in software.
func (r *rig) approve(person string) {
	c := r.Persons[person].Card()
	k := client.Keys{Sign: c.Sign, Agree: c.Agree}
	fail := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Errorf("%s: %v", person, err)
		}
	}
	o, err := client.FindOfficer(r.State, c.Serial, r.Clock().Unix())
	fail(err)
	conn, err := client.Dial(o.Servers(r.State)[0])
	fail(err)
	defer conn.Close()
	sealed, err := conn.Inbox(r.t.Context(), o, 0)
	fail(err)
	for _, raw := range sealed {
		i, err := client.OpenItem(r.State, o, k.Agree, raw, r.Clock().Unix())
		fail(err)
		word, err := i.Approve(rand.Reader, r.State, k, r.Clock().Unix())
		fail(err)
		_, err = conn.Say(r.t.Context(), word)
		fail(err)
	}
}

// openssl runs OpenSSL and returns what it says.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("openssl", args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A file, waited for while its officers approve, and the verdict of OpenSSL by
// the very commands that verify prints.
func TestFile(t *testing.T) {
	for _, alg := range []string{"RS256", "PS384"} {
		r := newRig(t)
		path := file(t, "release notes.txt", []byte("release 1.0\n"))
		done := make(chan ran)
		go func() {
			done <- r.run(r.nobody(), nil, "request", "file", path, "--algorithm", alg, "--mode", "chain", "--devices", "device-1,device-3,device-5",
				"--requester-key", r.programKey(), "--as", "program", "--wait")
		}()
		for len(r.Requests()) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		r.officers("device-1", "device-3", "device-5")
		x := <-done
		if x.code != exitOK || !strings.Contains(x.out, "signature written to "+path+".sig") {
			t.Fatalf("%d\n%s%s", x.code, x.out, x.err)
		}
		for _, want := range []string{"open: 1 of 3 partial signatures", "device-3: ", "done: 3 of 3", "signed by device-1, device-3, device-5"} {
			if !strings.Contains(x.err, want) {
				t.Errorf("progress lacks %q:\n%s", want, x.err)
			}
		}
		v := decode[struct {
			Valid     bool
			Key       string
			Algorithm string
			OpenSSL   []string
		}](t, r.ok("", "--json", "verify", "file", path))
		if !v.Valid || v.Key != "files" || v.Algorithm != alg || len(v.OpenSSL) != 2 {
			t.Fatalf("%+v", v)
		}
		dir := t.TempDir()
		r.ok("", "system", "export", "files", "--public", "--out", filepath.Join(dir, "files.pem"))
		sh := exec.Command("sh", "-c", v.OpenSSL[1])
		sh.Dir = dir
		if out, err := sh.CombinedOutput(); err != nil || string(out) != "Verified OK\n" {
			t.Errorf("%s: %v\n%s", v.OpenSSL[1], err, out)
		}
		if err := os.WriteFile(path, []byte("release 1.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.fails(exitFailed, r.nobody(), "the signature does not verify", "verify", "file", path, "--key", "files")
	}
}

// A certificate for a CSR made by OpenSSL, verified by OpenSSL.
func TestCertificateForOpenSSL(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	openssl(t, dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "www.csr",
		"-subj", "/CN=www.example.org")
	digest := r.request("certificate", "--csr", filepath.Join(dir, "www.csr"), "--profile", "server")
	r.officers("device-2", "device-3", "device-4")
	x := r.ok("", "request", "status", digest[:8], "--wait")
	if !strings.HasPrefix(x.out, "-----BEGIN CERTIFICATE-----") {
		t.Fatalf("%s", x.out)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(x.out), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ok("", "system", "export", "certs", "--out", filepath.Join(dir, "certs.pem"))
	at := []string{"-attime", "1767326645"} // when the test system lives
	if out := openssl(t, dir, append(append([]string{"verify"}, at...), "-CAfile", "certs.pem", "cert.pem")...); out != "cert.pem: OK\n" {
		t.Errorf("%s", out)
	}
	v := decode[map[string]any](t, r.ok("", "--json", "verify", "certificate", filepath.Join(dir, "cert.pem")))
	if v["key"] != "certs" || v["valid"] != true || v["names"].([]any)[0] != "www.example.org" {
		t.Errorf("%v", v)
	}
	r.fails(exitFailed, r.nobody(), "", "verify", "certificate", filepath.Join(dir, "www.csr"))
	tracking := decode[trackingJSON](t, r.ok("", "--json", "request", "status", digest))
	if tracking.State != "done" || len(tracking.Attempts) != 1 || tracking.Made != 3 {
		t.Errorf("%+v", tracking)
	}
}

// Who waits in vain is told who is missing, by name.
func TestWaitInVain(t *testing.T) {
	r := newRig(t)
	r.Devices["device-3"].SetFault(coordtest.Locked)
	path := file(t, "a.txt", []byte("a"))
	args := []string{"request", "file", path, "--devices", "device-1,device-2,device-3", "--requester-key", r.programKey(), "--wait", "--timeout", "300ms"}
	x := r.fails(exitFailed, r.nobody(), "no signature within", args...)
	for _, want := range []string{"device-1 (Seal 1): missing: Officer 1a, Officer 1b", "the device is locked", "hint: the request goes on; ask again: privyseal request status"} {
		if !strings.Contains(x.err, want) {
			t.Errorf("no %q in:\n%s", want, x.err)
		}
	}
	if _, err := os.Stat(path + ".sig"); err == nil {
		t.Error("a signature was written")
	}
	if err := os.WriteFile(path+".sig", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := len(r.Requests())
	r.fails(exitFailed, r.nobody(), "exists already", args...)
	nowhere := filepath.Join(t.TempDir(), "nowhere", "a.sig")
	r.fails(exitFailed, r.nobody(), "hint: there is no directory", append(args, "--out", nowhere)...)
	r.fails(exitFailed, r.nobody(), "hint: there is no directory", "request", "file", path, "--out", nowhere, "--requester-key", r.programKey())
	if len(r.Requests()) != n {
		t.Error("a request was made although its result could not be written")
	}
	// Who does not wait is told how to get what he named.
	out := filepath.Join(t.TempDir(), "my a.sig")
	x = r.ok("", "request", "file", path, "--out", out, "--requester-key", r.programKey())
	if want := x.out[:12] + " --wait --out '" + out + "'"; !strings.Contains(x.err, want) {
		t.Errorf("no %q in:\n%s", want, x.err)
	}
	// What a device lacks is in its own line, and not in the state's too.
	x = r.ok("", "request", "status", strings.TrimSpace(x.out))
	for line := range strings.Lines(x.out) {
		if len(line) > 120 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	if !strings.Contains(x.out, "device-1       missing: Officer 1a, Officer 1b") {
		t.Errorf("%s", x.out)
	}
}

func TestRequestRefuses(t *testing.T) {
	r := newRigWith(t, func(g *ledger.Genesis) {
		for i := range g.Keys {
			g.Keys[i].AllowDigest = false
		}
	})
	key, csr := r.programKey(), r.csr()
	broken, err := os.ReadFile(csr)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(broken)
	block.Bytes[len(block.Bytes)-1] ^= 1
	bad := file(t, "bad.csr", pem.EncodeToMemory(block))
	cert := []string{"request", "certificate", "--profile", "server", "--requester-key", key, "--csr"}
	r.fails(exitFailed, r.nobody(), "signature", append(cert, bad)...)
	r.fails(exitFailed, r.nobody(), "no such file", append(cert, csr+".none")...)
	r.fails(exitFailed, r.nobody(), "PEM nor DER", append(cert, file(t, "x", []byte("x")))...)
	r.fails(exitUsage, r.nobody(), "unknown profile", "request", "certificate", "--profile", "throne", "--csr", csr)
	r.fails(exitUsage, r.nobody(), "subordinate", "request", "certificate", "--profile", "ca", "--csr", csr)
	r.fails(exitUsage, r.nobody(), "exclude each other", append(cert, csr, "--card", "11")...)
	r.fails(exitUsage, r.nobody(), "no key \"seal\"", append(cert, csr, "--key", "seal")...)
	r.fails(exitFailed, r.nobody(), "not to officer-1a", append(cert, csr, "--as", "officer-1a")...)
	r.fails(exitUsage, r.nobody(), "--expires 0s: ", append(cert, csr, "--expires", "0s")...)
	r.fails(exitUsage, r.nobody(), "let it expire after 60 s at least", append(cert, csr, "--expires", "59s")...)
	r.fails(exitFailed, r.nobody(), "holds no share", append(cert, csr, "--devices", "device-1,device-2,device-x")...)
	r.fails(exitFailed, r.nobody(), "signs no digests", "request", "file", csr, "--digest", "--requester-key", key)
	r.fails(exitFailed, r.nobody(), "family", "request", "file", csr, "--key", "certs", "--requester-key", key)
	r.fails(exitUsage, r.nobody(), "made no request", "request", "status", "abcdef")
	r.fails(exitFailed, r.nobody(), "refuses", "request", "status", strings.Repeat("ab", 32))
	if len(r.Requests()) != 0 {
		t.Error("something was sent")
	}
	if _, err := os.Stat(filepath.Join(r.home, "requests")); err == nil {
		t.Error("something was kept")
	}
}

// Digests are signed blind, where the key allows it.
func TestDigest(t *testing.T) {
	r := newRigWith(t, func(g *ledger.Genesis) {
		for i := range g.Keys {
			g.Keys[i].AllowDigest = g.Keys[i].Family == ledger.FamilyFile
		}
	})
	path := file(t, "disk.img", make([]byte, document.MaxFile+1))
	r.fails(exitFailed, r.nobody(), "--digest", "request", "file", path, "--requester-key", r.programKey())
	digest := r.request("file", path, "--digest")
	r.officers("device-1", "device-2", "device-3")
	r.ok("", "request", "status", digest, "--wait", "--out", path+".sig")
	r.ok("", "verify", "file", path)
}

func TestRequesterKey(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(t.TempDir(), "key.pem")
	k := decode[struct{ ID, Software string }](t, r.ok("", "--json", "requester-key", "new", path))
	if block, rest := pem.Decode([]byte(k.Software)); block == nil || len(rest) > 0 || envelope.KeyIDOfSPKI(block.Bytes).String() != k.ID {
		t.Errorf("%+v", k)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	signer, err := readRequesterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := envelope.KeyIDOf(signer.Public()); id.String() != k.ID {
		t.Error("another key was written")
	}
	if out := openssl(t, "", "pkey", "-in", path, "-pubout"); out != k.Software {
		t.Errorf("OpenSSL reads another key: %s", out)
	}
	// For people: the public key alone on standard output.
	other := filepath.Join(t.TempDir(), "other.pem")
	if out, want := r.ok("", "requester-key", "new", other).out, openssl(t, "", "pkey", "-in", other, "-pubout"); out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	r.fails(exitFailed, r.nobody(), "exists already", "requester-key", "new", path)
	r.fails(exitFailed, r.nobody(), "is nobody's", "request", "file", path, "--requester-key", path)
	dir := filepath.Dir(path)
	openssl(t, dir, "ecparam", "-name", "prime256v1", "-genkey", "-out", "ec.pem")
	if _, err := readRequesterKey(filepath.Join(dir, "ec.pem")); err != nil {
		t.Errorf("OpenSSL's old form: %v", err)
	}
	openssl(t, dir, "ecparam", "-name", "secp384r1", "-genkey", "-out", "p384.pem")
	if _, err := readRequesterKey(filepath.Join(dir, "p384.pem")); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Errorf("P-384: %v", err)
	}
	for name, data := range map[string]string{"empty": "", "text": "hello", "public": k.Software} {
		if _, err := readRequesterKey(file(t, name, []byte(data))); err == nil {
			t.Errorf("%s is taken for a private key", name)
		}
	}
}

func TestStatusAndTables(t *testing.T) {
	r := newRigWith(t, func(g *ledger.Genesis) { g.Devices[1].Unattended, g.Devices[1].UnlockQuorum = true, 0 })
	r.Devices["device-4"].SetFault(coordtest.Silent)
	x := r.ok("", "status")
	for _, want := range []string{"Test system", "site server-3  Site 3", "device-3       Seal 3", "ready", "SILENT, no answer in time", "UNATTENDED"} {
		if !strings.Contains(x.out, want) {
			t.Errorf("status lacks %q:\n%s", want, x.out)
		}
	}
	var st struct {
		Sites []siteJSON `json:"sites"`
	}
	if err := json.Unmarshal([]byte(r.ok("", "--json", "status").out), &st); err != nil || len(st.Sites) != 5 || !st.Sites[1].Devices[0].Unattended || !st.Sites[3].Devices[0].Silent {
		t.Errorf("%+v, %v", st, err)
	}
	x = r.ok("", "system", "show")
	for _, want := range []string{
		r.State.System().String(), "swa", "4 of 5 devices, parallel", "3 of 5 devices, sequential", "officer Officer 4b (officer-4b), card 42",
		"device device-2 is unattended", "cards without a manufacturer's attestation", "pin " + r.pin("server-5"), "Wilma Witness", "UNATTENDED",
	} {
		if !strings.Contains(x.out, want) {
			t.Errorf("system show lacks %q:\n%s", want, x.out)
		}
	}
	tables := decode[tablesJSON](t, r.ok("", "--json", "system", "show"))
	if len(tables.Devices) != 5 || len(tables.Keys) != 3 || len(tables.Devices[0].Officers) != 2 || tables.System != r.State.System() {
		t.Errorf("%+v", tables)
	}
	if x := r.ok("", "system", "export", "swa"); !strings.HasPrefix(x.out, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("%s", x.out)
	}
	r.fails(exitUsage, r.nobody(), "--public", "system", "export", "files")
	r.fails(exitUsage, r.nobody(), "there is no key", "system", "export", "seal")
}

func TestJoin(t *testing.T) {
	r := newRig(t)
	known := r.home
	fresh := func() { r.home = filepath.Join(t.TempDir(), "home") }
	id := r.State.System().String()
	fresh()
	r.fails(exitFailed, r.nobody(), "hint: compare --system", "join", "--url", r.url("server-1"), "--pin", r.pin("server-1"), "--system", strings.Repeat("ab", 32))
	r.fails(exitFailed, r.nobody(), "hint: compare --url and --pin", "join", "--url", r.url("server-1"), "--pin", r.pin("server-2"), "--system", id)
	r.fails(exitUsage, r.nobody(), `--pin "12" is not 64 hex digits`, "join", "--url", r.url("server-1"), "--pin", "12", "--system", id)
	r.fails(exitUsage, r.nobody(), "--system", "join", "--url", r.url("server-1"), "--pin", r.pin("server-1"), "--system", "x")
	r.fails(exitUsage, r.nobody(), "https", "join", "--url", "http://127.0.0.1:1", "--pin", r.pin("server-1"), "--system", id)
	r.fails(exitUsage, r.nobody(), "required flag", "join")
	if _, err := os.Stat(r.home); err == nil {
		t.Error("a home was made by what failed")
	}
	r.fails(exitFailed, r.nobody(), "belongs to no system", "system", "show")
	x := r.ok("", "--json", "join", "--url", r.url("server-4"), "--pin", r.pin("server-4"), "--system", id)
	if got := decode[map[string]string](t, x); got["server"] != "server-4" || got["system"] != id {
		t.Errorf("%v", got)
	}
	// Every command refuses a home whose genesis does not verify.
	path := filepath.Join(known, client.FileSystem)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(data), id, strings.Repeat("ab", 32), 1)
	if err := os.WriteFile(path, []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	r.home = known
	for _, args := range [][]string{
		{"system", "show"}, {"system", "export", "swa"}, {"status"}, {"officer", "inbox", "--card", "11"}, {"officer", "unlock", "--card", "11"},
		{"officer", "approve", "--all", "--yes", "--card", "11"}, {"request", "status", id}, {"verify", "file", path}, {"verify", "certificate", path},
		{"request", "file", path, "--requester-key", path}, {"request", "certificate", "--csr", r.csr(), "--profile", "server"},
	} {
		r.fails(exitFailed, r.nobody(), "is refused", args...)
	}
}

// What is asked wrongly exits with 2, and says how to ask.
func TestUsage(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{"seal"}, {"officer"}, {"officer", "bribe"}, {"request"}, {"verify"}, {"system"}, {"requester-key"},
		{"officer", "approve"}, {"officer", "approve", "--all", "abcdef", "--card", "11"}, {"officer", "show"}, {"officer", "reject"}, {"officer", "unlock", "a", "b"},
		{"status", "now"}, {"request", "file"}, {"request", "certificate"}, {"status", "--loudly"}, {"requester-key", "new"},
		{"status", "--server", "server-9"}, {"request", "status", "--timeout", "soon", "aa"},
	} {
		x := r.fails(exitUsage, r.nobody(), "error: ", args...)
		if !strings.Contains(x.err, "hint: ") && !strings.Contains(x.err, "name one of") {
			t.Errorf("%v: no remedy:\n%s", args, x.err)
		}
		if x.out != "" {
			t.Errorf("%v prints on standard output:\n%s", args, x.out)
		}
	}
	if x := r.ok("", "--help"); !strings.Contains(x.out, "officer") {
		t.Errorf("%s", x.out)
	}
	home := r.home
	defer func() { r.home = home }()
	if s := r.run(r.nobody(), nil, "officer", "approve", "--help"); s.code != exitOK || !strings.Contains(s.out, "asked for\nonce") {
		t.Errorf("%d %s", s.code, s.out)
	}
}
