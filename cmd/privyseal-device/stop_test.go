package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/bootclock"
	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
	"github.com/privyseal/privyseal/firmware"
)

// envProgram makes of the test the program itself.
const envProgram = "PRIVYSEAL_TEST_DEVICE"

// The environment of a device process that stops itself.
const (
	envDir   = "PRIVYSEAL_TEST_DIR"
	envStop  = "PRIVYSEAL_TEST_STOP" // step, and which time
	envLease = "PRIVYSEAL_TEST_LEASE"
)

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
	}
	if dir := os.Getenv(envDir); dir != "" {
		if err := stopping(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Where the scripted interpreter can be stopped besides.
const (
	stepBefore = "before the exponentiation"
	stepTwice  = "between two exponentiations"
)

// stopping runs a device that stops itself at a step of the answer to "ask", or to
// "batch", which is made in two pieces. A
// lease is granted by "grant", for the time in the environment, and answered
// with its end.
func stopping(dir string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	d, s, err := scripted(dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	defer d.stop()
	lease, err := time.ParseDuration(os.Getenv(envLease))
	if err != nil {
		return err
	}
	step, time, _ := strings.Cut(os.Getenv(envStop), "#")
	left, _ := strconv.Atoi(time)
	granted, armed := false, false
	d.step = func(name string) {
		armed = armed || granted && name == stepReceived
		if !armed || name != step {
			return
		}
		if left--; left == 0 {
			stopHere()
		}
	}
	d.gate.step = d.step
	d.watch.closed = func(_, _ int64) {
		in, err := loggedIn(d.cfg)
		fmt.Printf("closed %v %v\n", in, err)
	}
	use, err := s.share(d)
	if err != nil {
		return err
	}
	s.tick = func(firmware.Inputs) firmware.Effects { s.fall(); return firmware.Effects{} }
	answer := func(y []byte, err error) firmware.Effects {
		if err != nil {
			return firmware.Effects{Reply: []byte("refused")}
		}
		return firmware.Effects{Records: [][]byte{[]byte("one"), []byte("two")}, Reply: append([]byte("partial "), y...), Release: true}
	}
	s.piece = func(firmware.Inputs) firmware.Effects { return answer(use()) }
	s.handle = func(in firmware.Inputs, frame []byte) firmware.Effects {
		switch string(frame) {
		case "batch":
			if y, err := use(); err != nil {
				return answer(y, err)
			}
			return firmware.Effects{More: true}
		case "grant":
			s.grant(in.Boot + int64(lease))
			granted = true
			return firmware.Effects{Reply: fmt.Append(nil, s.Lease().Until)}
		case "ask":
			d.step(stepBefore)
			y, err := use()
			d.step(stepTwice)
			if err == nil {
				_, err = use()
			}
			return answer(y, err)
		}
		return firmware.Effects{Reply: frame}
	}
	fmt.Println("ready")
	if err := d.run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// stopHere stops this process on this very line: a signal to the process could
// be taken by another of its threads, and this one would go on for a while.
func stopHere() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
		panic(err)
	}
}

// stopped is a device process and this end of its link.
type stopped struct {
	t     *testing.T
	pid   int
	lines chan string
	link  *link.Conn
	until int64
}

func startStopping(t *testing.T, dir string, c *config, stop string, lease time.Duration) *stopped {
	t.Helper()
	// The script's records mean nothing to the next process.
	if err := os.Remove(filepath.Join(dir, fileJournal)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	l, err := link.Listen(c.Link, link.ListenOptions{ID: "s", Allow: func(string, pinned.Pin) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=50", envDir+"="+dir, envStop+"="+stop, envLease+"="+lease.String())
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &stopped{t: t, pid: cmd.Process.Pid, lines: make(chan string, 10)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		unix.Kill(p.pid, unix.SIGCONT)
		unix.Kill(p.pid, unix.SIGTERM)
		for range p.lines {
		}
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the device: %v\n%s", err, said.Bytes())
		}
	})
	p.says("ready")
	if p.link, err = l.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(t, p.link, "grant")
	until, err := p.link.Recv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.until, err = strconv.ParseInt(string(until), 10, 64); err != nil {
		t.Fatal(err)
	}
	return p
}

// says reads the device's next line.
func (p *stopped) says(want string) {
	p.t.Helper()
	if line, ok := <-p.lines; !ok || line != want {
		p.t.Fatalf("the device says %q, want %q", line, want)
	}
}

// stops waits until the device has stopped itself.
func (p *stopped) stops() {
	p.t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.pid, &ws, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !ws.Stopped() {
			p.t.Fatalf("the device did not stop: %v, %v", ws, err)
		}
		return
	}
}

// answersWithout checks that the device still answers, and with nothing of a
// kind before that.
func (p *stopped) answersWithout(what string) {
	p.t.Helper()
	send(p.t, p.link, "after")
	for {
		frame, err := p.link.Recv(p.t.Context())
		switch {
		case err != nil:
			p.t.Fatal(err)
		case bytes.HasPrefix(frame, []byte(what)):
			p.t.Fatalf("a %s left after the lease", what)
		case string(frame) == "after":
			return
		}
	}
}

func (p *stopped) goesOn() {
	p.t.Helper()
	if err := unix.Kill(p.pid, unix.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// sleepUntil waits by the clock of leases.
func sleepUntil(t *testing.T, at int64) {
	t.Helper()
	tm, err := bootclock.NewTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer tm.Close()
	if err := tm.Reset(at); err != nil {
		t.Fatal(err)
	}
	<-tm.C
}

var stops = []struct{ ask, stop string }{
	{"ask", stepReceived + "#1"},
	{"ask", stepBefore + "#1"},
	{"ask", stepTwice + "#1"},
	{"ask", stepHandled + "#1"},
	{"ask", stepRecorded + "#1"},
	{"ask", stepRecorded + "#2"},
	{"ask", stepDurable + "#1"},
	{"ask", stepAtGate + "#1"},
	{"ask", stepInGate + "#1"},
	{"ask", stepPassed + "#1"},
	{"batch", stepHandled + "#1"}, // between the pieces
	{"batch", stepHandled + "#2"},
	{"batch", stepInGate + "#1"},
}

// TestStoppedPastTheLease stops a device at each step of an answer, lets its
// lease pass, and wakes it. Whatever was made by then stays in the device, and
// the token's session is closed.
func TestStoppedPastTheLease(t *testing.T) {
	dir, c := newDevice(t)
	for _, s := range stops {
		t.Run(s.ask+" "+s.stop, func(t *testing.T) {
			p := startStopping(t, dir, c, s.stop, 700*time.Millisecond)
			send(t, p.link, s.ask)
			p.stops()
			if now := bootclock.Now(); now >= p.until {
				t.Fatalf("stopped %d ns after the lease: nothing is tested", now-p.until)
			}
			sleepUntil(t, p.until)
			p.goesOn()
			p.says("closed false <nil>")
			p.answersWithout("partial")
			// Nor does it come later, and the share cannot be used.
			send(t, p.link, "ask")
			receive(t, p.link, "refused")
		})
	}
}

// TestStoppedWithinTheLease shows that the test above can fail: woken in time,
// the device answers.
func TestStoppedWithinTheLease(t *testing.T) {
	dir, c := newDevice(t)
	for _, s := range stops {
		t.Run(s.ask+" "+s.stop, func(t *testing.T) {
			p := startStopping(t, dir, c, s.stop, time.Hour)
			send(t, p.link, s.ask)
			p.stops()
			p.goesOn()
			frame, err := p.link.Recv(t.Context())
			if err != nil || !bytes.HasPrefix(frame, []byte("partial")) {
				t.Fatalf("%.20q, %v", frame, err)
			}
		})
	}
}

// TestStoppedIdle stops a device from outside while it has nothing to do.
func TestStoppedIdle(t *testing.T) {
	dir, c := newDevice(t)
	p := startStopping(t, dir, c, "never", 700*time.Millisecond)
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.stops()
	send(t, p.link, "ask")
	sleepUntil(t, p.until)
	p.goesOn()
	p.says("closed false <nil>")
	p.answersWithout("partial")
}
