package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

const (
	// settle is how long a process is left alone before its memory is read.
	settle = 2 * time.Second
	// startPatience bounds the start of a device.
	startPatience = 30 * time.Second
	// stopPatience bounds its end.
	stopPatience = 10 * time.Second
)

// process is a running program of a system.
type process struct {
	pid  int
	argv []string
}

// program is the name of the program, such as "privyseal-device".
func (p process) program() string { return filepath.Base(p.argv[0]) }

// flag is the value of one of its flags, such as "--dir".
func (p process) flag(name string) string {
	for i, a := range p.argv {
		if a == name && i+1 < len(p.argv) {
			return p.argv[i+1]
		}
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// dir is the directory that it works in.
func (p process) dir() string { return p.flag("--dir") }

// String is the program and the last element of its directory.
func (p process) String() string { return p.program() + " " + filepath.Base(p.dir()) }

// findProcesses finds the long-running programs whose directories are below a
// system's.
func findProcesses(system string) ([]process, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var out []process
	for _, name := range lines {
		data, err := os.ReadFile(name)
		if err != nil || len(data) == 0 {
			continue // it ended, or is the kernel's
		}
		p := process{argv: strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")}
		if p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(name))); err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(system, p.dir())
		if strings.HasPrefix(p.program(), "privyseal-") && err == nil && filepath.IsLocal(rel) {
			out = append(out, p)
		}
	}
	return out, nil
}

// resident reads how much memory a process has now and had at most, in bytes:
// all pages, those it shares with others included.
func resident(pid int) (now, peak int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		for field, into := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			var kib int64
			if rest, ok := strings.CutPrefix(line, field); ok {
				if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
					return 0, 0, fmt.Errorf("/proc/%d/status: %w", pid, err)
				}
				*into = kib * 1024
			}
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("process %d has ended", pid)
	}
	return now, peak, nil
}

// started is a device that was started here, and what was seen of it.
type started struct {
	name  string
	ready time.Duration // from its start until it could be unlocked
	rss   int64         // some time after
}

// startAlone makes a device that has no system yet, starts it some times before
// a message server that only accepts its link, and measures. A device that has
// its link answers; one that was commissioned can then be unlocked.
func startAlone(ctx context.Context, program string, times int) ([]started, error) {
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := link.Listen("unix:"+filepath.Join(dir, "link"), link.ListenOptions{
		ID: "bench", Allow: func(string, pinned.Pin) error { return nil },
	})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	home := filepath.Join(dir, "device")
	if out, err := exec.CommandContext(ctx, program, "init", "--dir", home,
		"--id", "bench", "--serial", "1", "--model", "bench", "--link", l.Addr()).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s init: %w\n%s", program, err, out)
	}
	var all []started
	for range times {
		s := started{name: "device alone, no system"}
		err := s.run(ctx, []string{program, "run", "--dir", home}, new(marker), func(ctx context.Context) error {
			_, err := l.Accept(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// run starts a device, waits until it is ready, reads its memory some time
// after and stops it. said gets what the device says.
func (s *started) run(ctx context.Context, argv []string, said *marker, ready func(context.Context) error) (err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = said
	t0 := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		if e := stop(cmd); err == nil {
			err = e
		}
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, said)
		}
	}()
	within, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := ready(within); err != nil {
		return err
	}
	s.ready = time.Since(t0)
	time.Sleep(settle)
	s.rss, _, err = resident(cmd.Process.Pid)
	return err
}

// stop ends a child, at first with the signal that it obeys.
func stop(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(stopPatience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return nil // it was told to end, and said so
	}
	return err
}
