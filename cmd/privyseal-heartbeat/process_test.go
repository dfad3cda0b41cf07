package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/cmd/internal/command"
	"github.com/privyseal/privyseal/cmd/internal/command/commandtest"
	"github.com/privyseal/privyseal/cmd/internal/source"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/heartbeat"
	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/ledger/ledgertest"
)

// TestMain is the program itself when a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("PRIVYSEAL_TEST_HEARTBEAT") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a system, a message server's link, and the directory of a source.
type rig struct {
	t    *testing.T
	sys  *ledgertest.System
	dir  string
	addr string
	l    *link.Listener
}

const id = "sequence-1"

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "h"), addr: "unix:" + filepath.Join(t.TempDir(), "link")}
	r.sys = ledgertest.New(t, ledgertest.WithHeartbeat(ledger.Heartbeat{Sources: []string{id}, Needed: 1, Period: 1000, Lease: 5000}, "device-1"))
	row, _ := r.sys.State.Source(id)
	var err error
	r.l, err = link.Listen(r.addr, link.ListenOptions{ID: row.Server, Allow: func(string, pinned.Pin) error { return nil }})
	r.check(err)
	t.Cleanup(func() { r.l.Close() })
	return r
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// do runs a command in this process.
func (r *rig) do(in string, args ...string) (out, talk string, err error) {
	r.t.Helper()
	var o, e bytes.Buffer
	code := command.Run(r.t.Context(), command.Streams{In: strings.NewReader(in), Out: &o, Err: &e}, args, func(command.Streams) *cobra.Command { return newCommand() })
	if code != command.ExitOK {
		err = fmt.Errorf("exit %d", code)
	}
	return o.String(), e.String(), err
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, talk, err := r.do("", args...)
	if err != nil {
		r.t.Fatalf("%v: %s", args, talk)
	}
	return out
}

// init makes the source with the keys that the ledger lists: what an
// interrupted init left is taken.
func (r *rig) init() string {
	r.t.Helper()
	r.check(os.MkdirAll(r.dir, 0o700))
	p := r.sys.Sources[id]
	agree, err := ecdsa.ParseRawPrivateKey(p.Sign.Curve, p.Agree.Bytes())
	r.check(err)
	for name, key := range map[string]*ecdsa.PrivateKey{"identity.key": p.Sign, "agree.key": agree} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		r.check(err)
		r.check(os.WriteFile(filepath.Join(r.dir, name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
	row, _ := r.sys.State.Source(id)
	return r.must("init", "--dir", r.dir, "--id", id, "--name", row.Name, "--kind", row.Kind, "--server", row.Server, "--link", r.addr,
		"--operator", strings.Join(row.Operators, ","))
}

// start runs the program as a process, and shows it the system.
func (r *rig) start(dir string) (p *exec.Cmd, log *bytes.Buffer) {
	r.t.Helper()
	log = new(bytes.Buffer)
	p = exec.Command(os.Args[0], "run", "--dir", dir)
	p.Env, p.Stderr = append(os.Environ(), "PRIVYSEAL_TEST_HEARTBEAT=1"), log
	r.check(p.Start())
	r.t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	c, err := r.l.Accept(ctx)
	r.check(err)
	bundle, err := envelope.Marshal(r.sys.Bundle)
	r.check(err)
	row, _ := r.sys.State.Source(id)
	frame, err := heartbeat.SealSystem(rand.Reader, r.sys.Servers[row.Server].Sign, r.sys.State, id, &heartbeat.System{Bundle: bundle}, time.Now().Unix())
	r.check(err)
	r.check(c.Send(ctx, frame))
	for {
		st := r.status(dir)
		if len(st.Devices) > 0 && st.Link {
			return p, log
		}
		r.check(ctx.Err())
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) status(dir string) *source.Status {
	r.t.Helper()
	st := new(source.Status)
	r.check(json.Unmarshal([]byte(r.must("status", "--dir", dir, "--json")), st))
	return st
}

func (r *rig) end(p *exec.Cmd, log *bytes.Buffer) {
	r.t.Helper()
	r.check(p.Process.Signal(syscall.SIGTERM))
	if err := p.Wait(); err != nil {
		r.t.Errorf("ended with %v\n%s", err, log)
	}
}

// TestLife takes a source through all its verbs.
func TestLife(t *testing.T) {
	r := newRig(t)
	if out := r.init(); !strings.HasPrefix(out, "  - id: \"sequence-1\"\n") {
		t.Errorf("init prints\n%s", out)
	}
	if _, talk, err := r.do("", "init", "--dir", r.dir, "--id", "x", "--name", "x", "--kind", "satellite", "--server", "s", "--link", "unix:x", "--operator", "a"); err == nil ||
		!strings.Contains(talk, "holds a source already") || !strings.Contains(talk, "hint: ") {
		t.Errorf("over another: %v\n%s", err, talk)
	}
	if out := r.must("status", "--dir", r.dir); !strings.Contains(out, "not known yet") {
		t.Errorf("status\n%s", out)
	}
	if _, talk, err := r.do("", "backup", "--dir", r.dir, "--out", r.dir+"-b", "--threshold", "2", "--piece", "officer-1a,officer-2a"); err == nil ||
		!strings.Contains(talk, "hint: run it") {
		t.Errorf("backup before the ceremony: %v\n%s", err, talk)
	}
	p, log := r.start(r.dir)
	if _, talk, err := r.do("", "run", "--dir", r.dir); err == nil || !strings.Contains(talk, "runs already") {
		t.Errorf("a second one: %v\n%s", err, talk)
	}
	if out := r.must("rotate", "--dir", r.dir); out != "2\n" {
		t.Errorf("rotate prints %q", out)
	}
	if _, talk, err := r.do("", "revoke", "--dir", r.dir, "device-9"); err == nil || !strings.HasPrefix(talk, "error: the system has no device") {
		t.Errorf("asked of a device that is not there: %v\n%s", err, talk)
	}
	c := exec.Command(os.Args[0], "revoke", "--dir", r.dir, "device-1")
	c.Env = append(os.Environ(), "PRIVYSEAL_TEST_HEARTBEAT=1")
	if code, screen := commandtest.CtrlC(t, c, `type "device-1" to go on: `); code != command.ExitFailed || !strings.HasSuffix(screen, "\nerror: interrupted\n") {
		t.Errorf("interrupted: exit %d\n%s", code, screen)
	}
	if out, _, err := r.do("yes\n", "revoke", "--dir", r.dir, "device-1"); err == nil || out != "" {
		t.Errorf("revoked by another word: %v, %q", err, out)
	}
	if st := r.status(r.dir); st.Devices[0].Revoked != 0 || st.Epoch != 2 {
		t.Errorf("status %+v", st)
	}
	out, talk, err := r.do("device-1\n", "revoke", "--dir", r.dir, "--reason", "not where it was", "device-1")
	if err != nil || out != "device-1 is silenced\n" || !strings.Contains(talk, "until its officers unlock it") {
		t.Errorf("revoke: %v, %q\n%s", err, out, talk)
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // taken into the table by itself
		entries, err := os.ReadDir(filepath.Join(r.dir, "revoked"))
		r.check(err)
		if len(entries) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the mark lies there\n%s", log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if st := r.status(r.dir); st.Devices[0].Revoked == 0 || st.Devices[0].Beating {
		t.Errorf("status %+v", st)
	}
	if out := r.must("status", "--dir", r.dir); !strings.Contains(out, "running, linked to server-1") || !strings.Contains(out, "device-1") {
		t.Errorf("status\n%s", out)
	}
	r.end(p, log)
	for _, says := range []string{"compare its id", "a new beat key", "not where it was"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %q\n%s", says, log)
		}
	}
}

// What is asked wrongly makes nothing.
func TestMisuse(t *testing.T) {
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "h")}
	init := []string{"init", "--dir", r.dir, "--id", "x", "--name", "x", "--kind", "satellite", "--server", "s", "--operator", "a", "--link"}
	init = slices.Clip(init)
	for want, args := range map[string][]string{
		"DEVICE is missing\nhint: usage: privyseal-heartbeat revoke DEVICE --dir DIR": {"revoke", "--dir", r.dir},
		`unknown command "rvk"`:                  {"rvk"},
		"hint: see: privyseal-heartbeat --help":  {"rvoke"},
		`required flag(s) "dir" not set`:         {"status"},
		"no pieces":                              {"restore", "--dir", r.dir},
		"is not the serial number of a card":     {"backup", "--dir", r.dir, "--out", "o", "--threshold", "2", "--piece", "a:b"},
		"--system: ":                             append(init, "unix:x", "--system", "x"),
		"is neither unix:PATH nor tls:HOST:PORT": append(init, "bogus"),
		"the path of a socket has at most":       append(init, "unix:"+strings.Repeat("x", 107)),
	} {
		if out, talk, err := r.do("", args...); err == nil || err.Error() != "exit 2" || !strings.Contains(talk, want) || !strings.Contains(talk, "\nhint: ") || out != "" {
			t.Errorf("%q: %v\n%s%s", args, err, out, talk)
		}
	}
	if _, talk, err := r.do("", "revoke", "--dir", r.dir, "d9"); err == nil || !strings.HasPrefix(talk, "error: the directory holds no source") {
		t.Errorf("asked where there is no source: %v\n%s", err, talk)
	}
	if _, err := os.Stat(r.dir); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	if out := r.must("--version"); !strings.HasPrefix(out, "privyseal-heartbeat version ") {
		t.Errorf("%q", out)
	}
}

// TestBackupAndRestore takes a source apart and puts it together elsewhere,
// with the program and three cards.
func TestBackupAndRestore(t *testing.T) {
	r := newRig(t)
	before := r.init()
	p, log := r.start(r.dir)
	out := filepath.Join(t.TempDir(), "backup")
	if got := r.must("backup", "--dir", r.dir, "--piece", "officer-1b,officer-2a,requester:92", "--threshold", "2", "--out", out); !strings.Contains(got, "in 3 pieces, any 2") {
		t.Errorf("backup prints\n%s", got)
	}
	r.end(p, log)
	dir, manifest := filepath.Join(t.TempDir(), "back"), filepath.Join(out, source.FileManifest)
	if _, talk, err := r.do("", "restore", "--dir", dir, "piece"); err == nil || !strings.Contains(talk, "begin one with") {
		t.Errorf("not begun: %v\n%s", err, talk)
	}
	asked, talk, err := r.do("", "restore", "--dir", dir, "--begin", "--manifest", manifest, "--link", r.addr)
	if err != nil || !strings.Contains(talk, "fingerprint") || !strings.Contains(talk, "card 92") {
		t.Fatalf("begin: %v\n%s", err, talk)
	}
	request := filepath.Join(t.TempDir(), "request.json")
	r.check(os.WriteFile(request, []byte(asked), 0o600))
	q, err := source.ReadRequest(request)
	r.check(err)
	args := []string{"restore", "--dir", dir}
	for i, h := range []struct {
		file   string
		person string
		card   int
	}{{"piece-3-requester.json", "requester", 1}, {"piece-2-officer-2a.json", "officer-2a", 0}} {
		piece, err := source.ReadPiece(filepath.Join(out, h.file))
		r.check(err)
		a, err := source.HandOver(r.sys.Persons[h.person].Cards[h.card].Agree, piece, q)
		r.check(err)
		data, err := json.Marshal(a)
		r.check(err)
		file := filepath.Join(t.TempDir(), fmt.Sprintf("handed-%d.json", i))
		r.check(os.WriteFile(file, data, 0o600))
		if i == 1 {
			if _, talk, err := r.do("", args...); err == nil || !strings.Contains(talk, "1 of the 2 pieces that are needed: ask officer-1b, officer-2a") {
				t.Errorf("one piece: %v\n%s", err, talk)
			}
		}
		args = append(args, file)
	}
	if after := r.must(args...); after != before {
		t.Errorf("it was\n%sand is\n%s", before, after)
	}
	p, log = r.start(dir)
	if st := r.status(dir); st.Restored == 0 || st.Epoch < 1<<20 || st.Devices[0].Revoked == 0 || st.Devices[0].Instance != "" {
		t.Errorf("status %+v", st)
	}
	r.end(p, log)
}
