package vpcd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxReaders is how many readers one daemon serves: pcsc-lite is built for
	// 16, and one entry of its configuration always makes two.
	MaxReaders = 15

	// maxSocketPath is sun_path of a Unix socket, less the final zero.
	maxSocketPath = 107

	// startTimeout bounds one attempt to start pcscd; it is ready in 40 ms.
	startTimeout = 10 * time.Second

	// runDir is compiled into pcscd, which does not start without it.
	runDir = "/run/pcscd"

	// attempts at finding free ports: another process may take one between
	// our look and pcscd's bind.
	attempts = 8
)

// driverPaths is where distributions put the vpcd driver.
var driverPaths = []string{
	"/usr/lib/pcsc/drivers/serial/libifdvpcd.so",
	"/usr/lib64/pcsc/drivers/serial/libifdvpcd.so",
	"/usr/local/lib/pcsc/drivers/serial/libifdvpcd.so",
}

// Config says what daemon to start. The zero value of each field but Dir and
// Readers has a meaning.
type Config struct {
	Dir     string    // where the daemon's files go, in a directory of their own that Close removes
	Readers int       // 1 to MaxReaders
	Name    string    // how readers' names begin; "Virtual PIV" if empty
	Socket  string    // path of the PC/SC socket; in the daemon's directory if empty
	Log     io.Writer // what pcscd prints; discarded but for error messages if nil
}

// Daemon is a running private pcscd.
type Daemon struct {
	Socket  string   // for PCSCLITE_CSOCK_NAME
	Readers []string // names of the readers as PC/SC shows them, in order

	dir   string
	ports []int
	cmd   *exec.Cmd
	done  chan struct{} // closed when pcscd has ended
	once  sync.Once
}

// StartDaemon starts a pcscd with n readers and returns when it is ready for
// clients and cards. Its files, its socket among them, go into a new directory
// within dir.
func StartDaemon(dir string, n int) (*Daemon, error) {
	return Config{Dir: dir, Readers: n}.Start()
}

// Start starts the daemon. pcscd insists on /run/pcscd, which is made if
// missing; usually that takes root. The machine's own pcscd may run beside it.
func (c Config) Start() (*Daemon, error) {
	if c.Readers < 1 || c.Readers > MaxReaders {
		return nil, fmt.Errorf("vpcd: %d readers; a daemon has 1 to %d", c.Readers, MaxReaders)
	}
	if c.Name == "" {
		c.Name = "Virtual PIV"
	}
	if strings.ContainsAny(c.Name, "\"\n") || len(c.Name) > 60 {
		return nil, errors.New("vpcd: a reader's name has at most 60 characters and no quotes")
	}
	pcscd, err := exec.LookPath("pcscd")
	if err != nil {
		if pcscd, err = exec.LookPath("/usr/sbin/pcscd"); err != nil {
			return nil, errors.New("vpcd: pcscd is not installed (Debian: apt-get install pcscd)")
		}
	}
	driver, err := findDriver()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("vpcd: pcscd needs its run-time directory: %w", err)
	}
	for range attempts {
		d, err := c.try(pcscd, driver)
		if !errors.Is(err, errPortTaken) {
			return d, err
		}
	}
	return nil, errPortTaken
}

var errPortTaken = errors.New("vpcd: found no free ports for the readers")

func findDriver() ([]byte, error) {
	for _, p := range driverPaths {
		if b, err := os.ReadFile(p); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("vpcd: the vpcd driver is not installed (Debian: apt-get install vsmartcard-vpcd)")
}

const unwritable = " \t\n'\"#"

func (c Config) try(pcscd string, driver []byte) (_ *Daemon, err error) {
	// pcscd's configuration has no way to write a blank or a quote in a path.
	parent := c.Dir
	if strings.ContainsAny(parent, unwritable) {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "pcscd-")
	if err != nil {
		return nil, fmt.Errorf("vpcd: %w", err)
	}
	d := &Daemon{dir: dir, Socket: c.Socket, done: make(chan struct{})}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if d.Socket == "" {
		d.Socket = filepath.Join(dir, "pcscd.comm")
	}
	if len(d.Socket) > maxSocketPath {
		return nil, fmt.Errorf("vpcd: socket path %q is longer than %d bytes; choose a shorter directory", d.Socket, maxSocketPath)
	}
	if err := c.configure(d, driver); err != nil {
		return nil, err
	}
	return d, c.run(d, pcscd)
}

// configure writes reader.conf. Each entry loads its own copy of the driver:
// entries that share one share its table of readers, and a card shows up in
// several. An entry makes two readers, on a port and the next.
func (c Config) configure(d *Daemon, driver []byte) error {
	entries := (c.Readers + 1) / 2
	bases, err := freePairs(entries)
	if err != nil {
		return err
	}
	var conf bytes.Buffer
	for i, port := range bases {
		lib := filepath.Join(d.dir, fmt.Sprintf("vpcd%02d.so", i))
		if err := os.WriteFile(lib, driver, 0o755); err != nil {
			return fmt.Errorf("vpcd: %w", err)
		}
		name := fmt.Sprintf("%s %02d", c.Name, i)
		fmt.Fprintf(&conf, "FRIENDLYNAME %q\nDEVICENAME /dev/null:%d\nLIBPATH %s\nCHANNELID %d\n\n", name, port, lib, port)
		for slot := range 2 {
			d.ports = append(d.ports, port+slot)
			// pcsc-lite appends an index of equal names, always 00 here, and
			// the slot.
			d.Readers = append(d.Readers, fmt.Sprintf("%s 00 %02d", name, slot))
		}
	}
	d.Readers = d.Readers[:c.Readers]
	if err := os.Mkdir(filepath.Join(d.dir, "drivers"), 0o755); err != nil {
		return fmt.Errorf("vpcd: %w", err)
	}
	return os.WriteFile(d.config(), conf.Bytes(), 0o600)
}

func (d *Daemon) config() string { return filepath.Join(d.dir, "reader.conf") }

// run starts pcscd with a socket that is listening already (systemd's socket
// activation), since its own path cannot be chosen.
func (c Config) run(d *Daemon, pcscd string) error {
	os.Remove(d.Socket) // of a daemon that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("vpcd: %w", err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	// Our copies must go, or clients of a dead daemon would wait for ever.
	l.Close()
	if err != nil {
		return fmt.Errorf("vpcd: %w", err)
	}
	defer f.Close()

	var out tail
	// A clean daemon writes /run/pcscd/pcscd.pid over the machine's, and
	// removes it when it ends. In a mount namespace it has a directory of its
	// own; where that is not allowed, as in containers, or not possible, as
	// where / is no mount point of its own (chroot), there is seldom a second
	// pcscd to disturb.
	err = c.start(d, pcscd, f, &out, syscall.CLONE_NEWNS)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		err = c.start(d, pcscd, f, &out, 0)
	}
	if err != nil {
		os.Remove(d.Socket)
		return fmt.Errorf("vpcd: starting pcscd: %w", err)
	}
	if err := d.ready(); err != nil {
		d.Close()
		if errors.Is(err, errPortTaken) || strings.Contains(out.String(), "Address already in use") {
			return errPortTaken
		}
		return fmt.Errorf("%w; pcscd said: %s", err, out.String())
	}
	return nil
}

// start forks pcscd with the socket as descriptor 3.
func (c Config) start(d *Daemon, pcscd string, socket *os.File, out *tail, unshare uintptr) error {
	// LISTEN_PID must be the pid of pcscd itself, which the shell knows before
	// it becomes pcscd. In the machine's namespace nothing is mounted.
	script := `LISTEN_PID=$$ exec "$@"`
	if unshare != 0 {
		script = "mount -t tmpfs pcscd " + runDir + " || :; " + script
	}
	cmd := exec.Command("/bin/sh", "-c", script, "sh", pcscd, "--foreground", "--config", d.config())
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1",
		// No drivers for USB readers: those belong to the machine's daemon.
		"PCSCLITE_HP_DROPDIR="+filepath.Join(d.dir, "drivers"))
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unshare}
	cmd.Stdout = out
	if c.Log != nil {
		cmd.Stdout = io.MultiWriter(out, c.Log)
	}
	cmd.Stderr = cmd.Stdout

	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the *thread* that forked
		// ends, so this one stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			d.cmd = cmd
		}
		started <- err
		if err != nil {
			return
		}
		cmd.Wait()
		close(d.done)
	}()
	return <-started
}

// ready waits until this very pcscd listens on every port. It looks at the
// kernel's tables instead of dialling: who dials is a card.
func (d *Daemon) ready() error {
	deadline := time.Now().Add(startTimeout)
	for {
		if ok, err := d.listening(); ok || err != nil {
			return err
		}
		select {
		case <-d.done:
			return errors.New("vpcd: pcscd ended at once")
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("vpcd: pcscd does not listen on its ports after %v", startTimeout)
		}
	}
}

// Addr returns the address of reader i, for [Serve].
func (d *Daemon) Addr(i int) string { return fmt.Sprintf("127.0.0.1:%d", d.ports[i]) }

// Done is closed when pcscd has ended, for whatever reason.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Close stops pcscd and removes its files.
func (d *Daemon) Close() error {
	var err error
	d.once.Do(func() {
		// Killed, not asked: it has nothing to tidy up, and where it shares
		// runDir it would take the machine's files along.
		d.cmd.Process.Kill()
		<-d.done
		os.Remove(d.Socket)
		err = os.RemoveAll(d.dir)
	})
	return err
}

// tail keeps the end of what pcscd printed, for error messages.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - tailBytes; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
