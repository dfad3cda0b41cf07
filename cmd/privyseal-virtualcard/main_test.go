package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as the program.
const asProgram = "PRIVYSEAL_VIRTUALCARD_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	// The race detector makes every process linger a second at its end.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// ok runs the program to its end and returns what it printed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	cmd := program(t, args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, talk.String())
	}
	return out.String()
}

// fails runs the program, which must fail with an error that says want and
// print nothing else on standard output.
func fails(t *testing.T, want string, args ...string) {
	t.Helper()
	cmd := program(t, args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err == nil || !strings.HasPrefix(talk.String(), "error: ") || !strings.Contains(talk.String(), want) || out.Len() != 0 {
		t.Errorf("%v: %v\nstdout: %s\nstderr: %s\nwant an error with %q", args, err, out.String(), talk.String(), want)
	}
}

// start starts run and waits for its JSON.
func start(t *testing.T, args ...string) (runJSON, *exec.Cmd) {
	t.Helper()
	cmd := program(t, append([]string{"run"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var r runJSON
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		cmd.Wait()
		t.Fatalf("run printed no JSON: %v", err)
	}
	go io.Copy(io.Discard, out)
	return r, cmd
}

func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("run ended with %v", err)
	}
}

// tool runs a foreign client of the private daemon.
func tool(t *testing.T, r runJSON, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+r.Socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func status(t *testing.T, r runJSON, reader string) string {
	t.Helper()
	out, err := tool(t, r, "yubico-piv-tool", "-r", reader, "-a", "status")
	if err != nil {
		return "failed: " + err.Error() + "\n" + out
	}
	return out
}

func serialLine(n uint32) string {
	return "Serial Number:\t" + strconv.FormatUint(uint64(n), 10) + "\n"
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	r, cmd := start(t, "--dir", dir, "--cards", "3", "--name", "My YubiKey")
	if len(r.Serials) != 3 || len(r.Readers) != 3 || len(r.Cards) != 3 {
		t.Fatalf("run printed %+v", r)
	}
	if b, err := os.ReadFile(r.Root); err != nil || !bytes.Contains(b, []byte("BEGIN CERTIFICATE")) || r.Root != filepath.Join(dir, "root.pem") {
		t.Errorf("root certificate %s: %v", r.Root, err)
	}
	for i, reader := range r.Readers {
		if !strings.HasPrefix(reader, "My YubiKey") {
			t.Errorf("reader %q", reader)
		}
		if s := status(t, r, reader); !strings.Contains(s, serialLine(r.Serials[i])) {
			t.Errorf("%q: %s", reader, s)
		}
	}
	fails(t, "are in use", "run", "--dir", dir)

	// A wrong PIN is remembered across a restart, and so are the cards.
	if out, err := tool(t, r, "yubico-piv-tool", "-r", r.Readers[0], "-a", "verify-pin", "-P", "000000"); err == nil {
		t.Errorf("a wrong PIN was accepted: %s", out)
	}
	stop(t, cmd)
	for _, name := range []string{"pcscd.comm", "control.sock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("run left %s", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "pcscd*")); len(left) != 0 {
		t.Errorf("run left %v", left)
	}
	again, cmd := start(t, "--dir", dir, "--socket", filepath.Join(dir, "other.sock"))
	if again.Socket != filepath.Join(dir, "other.sock") || strings.Join(again.Readers, "") == strings.Join(r.Readers, "") {
		t.Errorf("%+v", again)
	}
	for i := range r.Serials {
		if again.Serials[i] != r.Serials[i] {
			t.Fatalf("serials %d; before %d", again.Serials, r.Serials)
		}
	}
	if s := status(t, again, again.Readers[0]); !strings.Contains(s, "PIN tries left:\t2") {
		t.Error(s)
	}

	// Killed outright, the next run tidies up.
	cmd.Process.Kill()
	cmd.Wait()
	_, cmd = start(t, "--dir", dir)
	stop(t, cmd)
	if left, _ := filepath.Glob(filepath.Join(dir, "pcscd*")); len(left) != 0 {
		t.Errorf("after a kill: %v", left)
	}
}

func TestFault(t *testing.T) {
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte("246810\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok(t, "create", "--dir", dir, "--serial", "11", "--profile", "5.4")
	ok(t, "create", "--dir", dir, "--serial", "12", "--profile", "5.4", "--pin-file", pin)
	fails(t, "not plugged in", "fault", "unplug", "11", "--dir", dir)
	r, cmd := start(t, "--dir", dir, "--cards", "1")
	reader := r.Readers[0]

	var cards []cardJSON
	list := func() {
		t.Helper()
		cards = nil
		if err := json.Unmarshal([]byte(ok(t, "list", "--dir", dir, "--json")), &cards); err != nil || len(cards) != 2 {
			t.Fatalf("list: %v %+v", err, cards)
		}
	}
	list()
	if cards[0] != (cardJSON{11, "5.4", reader, true}) || cards[1] != (cardJSON{12, "5.4", "", false}) {
		t.Errorf("list %+v", cards)
	}
	ok(t, "fault", "status", "11", "6f00", "--at", "f8", "--times", "-1", "--dir", dir)
	if s := status(t, r, reader); strings.Contains(s, serialLine(11)) {
		t.Errorf("with a fault in GET SERIAL: %s", s)
	}
	ok(t, "fault", "status", "11", "6f00", "--after", "50", "--dir", dir)
	ok(t, "fault", "clear", "11", "--dir", dir)
	ok(t, "fault", "delay", "11", "10ms", "--dir", dir)
	if s := status(t, r, reader); !strings.Contains(s, serialLine(11)) {
		t.Errorf("without one: %s", s)
	}

	ok(t, "fault", "unplug", "11", "--dir", dir)
	if list(); cards[0].Present || cards[0].Reader != reader {
		t.Errorf("list %+v", cards)
	}
	fails(t, "unplugged already", "fault", "unplug", "11", "--dir", dir)
	ok(t, "fault", "insert", "11", "--dir", dir)
	fails(t, "plugged in already", "fault", "insert", "11", "--dir", dir)

	fails(t, "in a reader of its own", "fault", "swap", "11", "11", "--dir", dir)
	fails(t, "in no reader", "fault", "unplug", "12", "--dir", dir)
	fails(t, "reading card 13", "fault", "swap", "11", "13", "--dir", dir)
	ok(t, "fault", "swap", "11", "12", "--dir", dir)
	for deadline := time.Now().Add(10 * time.Second); ; {
		// pcscd looks for a card when its clients leave the reader alone.
		time.Sleep(500 * time.Millisecond)
		s := status(t, r, reader)
		if strings.Contains(s, serialLine(12)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the swap: %s", s)
		}
	}
	if out, err := tool(t, r, "yubico-piv-tool", "-r", reader, "-a", "verify-pin", "-P", "246810"); err != nil {
		t.Errorf("the PIN of the file: %s", out)
	}
	ok(t, "fault", "unplug", "12", "--at", "20", "--late", "--for", "1s", "--dir", dir)
	if out, err := tool(t, r, "yubico-piv-tool", "-r", reader, "-a", "verify-pin", "-P", "246810"); err == nil {
		t.Errorf("a card that was pulled answered: %s", out)
	}
	stop(t, cmd)
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, bytes.Repeat([]byte("1"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, "dir", "list")
	fails(t, "1 to 15", "run", "--dir", dir, "--cards", "16")
	fails(t, "profile", "run", "--dir", dir, "--cards", "1", "--profile", "6")
	fails(t, "profile", "create", "--dir", dir, "--profile", "6")
	fails(t, "too long", "create", "--dir", dir, "--pin-file", long)
	fails(t, "no such file", "create", "--dir", dir, "--puk-file", filepath.Join(dir, "missing"))
	fails(t, "serial number", "fault", "insert", "x", "--dir", dir)
	fails(t, "duration", "fault", "delay", "1", "soon", "--dir", dir)
	fails(t, "status word", "fault", "status", "1", "wrong", "--dir", dir)
	fails(t, "--key without --at", "fault", "unplug", "1", "--key", "9c", "--dir", dir)
	fails(t, "hexadecimal", "fault", "unplug", "1", "--at", "sign", "--dir", dir)
	if out := ok(t, "list", "--dir", dir, "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("an empty list: %s", out)
	}
	serial := strings.TrimSpace(ok(t, "create", "--dir", dir))
	if out := ok(t, "list", "--dir", dir); !strings.Contains(out, serial) {
		t.Errorf("list without card %s: %s", serial, out)
	}
	fails(t, "already there", "create", "--dir", dir, "--serial", serial)
	ok(t, "--help")
}
