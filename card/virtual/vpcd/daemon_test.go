package vpcd_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/privyseal/privyseal/card/virtual"
	"github.com/privyseal/privyseal/card/virtual/vpcd"
)

// TestFifteenReaders fills a daemon. Each card must show up in its own reader
// and in no other.
func TestFifteenReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my cards") // a path that pcscd's configuration cannot hold
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := vpcd.Config{Dir: dir, Readers: vpcd.MaxReaders, Name: "Full"}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	for i := range vpcd.MaxReaders {
		go vpcd.Serve(t.Context(), d.Addr(i), virtual.NewSlot(newCard(t, virtual.Profile54(), uint32(5000+i), virtual.Config{})))
	}
	for i := range vpcd.MaxReaders {
		waitForCard(t, d.Socket, d.Readers[i])
	}
	for i := range vpcd.MaxReaders {
		cmd := exec.Command("yubico-piv-tool", "-r", d.Readers[i], "-a", "status")
		cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+d.Socket)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprintf("Serial Number:\t%d\n", 5000+i)) {
			t.Errorf("reader %q: %v\n%s", d.Readers[i], err, out)
		}
	}
}

// TestCloseLeavesNothing: no process, no port, no file.
func TestCloseLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	d, err := vpcd.StartDaemon(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(d.Socket); err != nil || fi.Mode().Type() != os.ModeSocket {
		t.Fatalf("socket: %v %v", fi, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	select {
	case <-d.Done():
	default:
		t.Error("pcscd is still there")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	for i := range 3 {
		l, err := net.Listen("tcp4", strings.Replace(d.Addr(i), "127.0.0.1", "0.0.0.0", 1))
		if err != nil {
			t.Errorf("port of reader %d: %v", i, err)
			continue
		}
		l.Close()
	}
}

func TestStartRefuses(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]vpcd.Config{
		"no readers":       {Dir: t.TempDir(), Readers: 0},
		"16 readers":       {Dir: t.TempDir(), Readers: 16},
		"a quote":          {Dir: t.TempDir(), Readers: 1, Name: `a "b"`},
		"a long path":      {Dir: deep, Readers: 1},
		"no directory":     {Dir: filepath.Join(deep, "missing"), Readers: 1},
		"a long socket":    {Dir: t.TempDir(), Readers: 1, Socket: filepath.Join(deep, "s")},
		"no socket parent": {Dir: t.TempDir(), Readers: 1, Socket: "/nonexistent/s"},
	} {
		if d, err := c.Start(); err == nil {
			d.Close()
			t.Errorf("%s: started", name)
		}
		if c.Dir == deep {
			if left, _ := os.ReadDir(deep); len(left) != 0 {
				t.Errorf("%s: left %v", name, left)
			}
		}
	}
}

// TestDaemonsSideBySide starts several at once: their ports must not collide.
func TestDaemonsSideBySide(t *testing.T) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	addrs := make(map[string]bool)
	for range 4 {
		wg.Go(func() {
			d, err := vpcd.StartDaemon(t.TempDir(), 4)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { d.Close() })
			mu.Lock()
			defer mu.Unlock()
			for i := range 4 {
				if addrs[d.Addr(i)] {
					t.Errorf("%s serves two daemons", d.Addr(i))
				}
				addrs[d.Addr(i)] = true
			}
		})
	}
	wg.Wait()
}

// TestDiesWithParent kills a process that runs a daemon, so that it can tidy
// nothing up: the daemon must end too.
func TestDiesWithParent(t *testing.T) {
	const helper = "VPCD_TEST_PARENT"
	if dir := os.Getenv(helper); dir != "" {
		d, err := vpcd.StartDaemon(dir, 1)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\npid %d\n", vpcd.PID(d))
		<-d.Done()
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestDiesWithParent$")
	cmd.Env = append(os.Environ(), helper+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		if n, ok := strings.CutPrefix(s.Text(), "pid "); ok {
			if pid, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pid == 0 {
		t.Fatal("the child started no daemon")
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the daemon is not running: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if gone(pid) {
			return
		}
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the daemon outlived its parent")
		}
	}
}

// gone says whether a process has ended; a zombie that nobody has buried has.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// TestBesideTheMachines: the machine's own pcscd, if one runs, keeps its files.
// One is played by a file with its process id.
func TestBesideTheMachines(t *testing.T) {
	const pid = "/run/pcscd/pcscd.pid"
	before, err := os.ReadFile(pid)
	if errors.Is(err, os.ErrNotExist) {
		before = []byte(strconv.Itoa(os.Getpid()) + "\n")
		if err := os.WriteFile(pid, before, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(pid) })
	} else if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if now, err := os.ReadFile(pid); err != nil || string(now) != string(before) {
			t.Errorf("%s: %s holds %q, %v; it held %q", when, pid, now, err, before)
		}
	}
	d, err := vpcd.StartDaemon(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !vpcd.Private(d) {
		t.Cleanup(func() { d.Close() })
		if os.Getenv("CI") != "" {
			t.Fatal("no mount namespaces here: CAP_SYS_ADMIN is missing")
		}
		t.Skip("no mount namespaces here: CAP_SYS_ADMIN is missing")
	}
	check("while a daemon runs")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	check("after it was closed")
}
