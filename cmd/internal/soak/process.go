package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/transport/link"
	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// process is a program with one link, to here.
type process struct {
	id      string
	program string
	dir     string // its directory
	socket  string // what it dials
	take    func(frame []byte, at stamp)
	down    func() // a link has ended; may be nil

	tap  *tap
	ln   *link.Listener
	conn atomic.Pointer[link.Conn]
	up   chan *link.Conn // each new link, for nextLink
	// links counts them, drained those that ended and of which all was read.
	links, drained atomic.Int64
	said           *lines
	cmd            *exec.Cmd
	wg             sync.WaitGroup
	ends           chan struct{} // closed when the process has ended
	exit           error         // how
	// stopping: that it ends is wanted.
	stopping atomic.Bool
}

// listen makes the ends that the process will dial. sockets is a directory
// with a short path.
func (p *process) listen(sockets string) error {
	p.socket = filepath.Join(sockets, p.id)
	inner := p.socket + ".link"
	var err error
	if p.ln, err = link.Listen("unix:"+inner, link.ListenOptions{
		ID: serverID, Allow: func(string, pinned.Pin) error { return nil },
	}); err != nil {
		return err
	}
	if p.tap, err = newTap(p.socket, inner); err != nil {
		p.ln.Close()
		return err
	}
	p.up = make(chan *link.Conn, 64)
	p.wg.Go(p.accept)
	return nil
}

func (p *process) accept() {
	for {
		c, err := p.ln.Accept(context.Background())
		if err != nil {
			return
		}
		x := <-p.tap.conns
		p.conn.Store(c)
		p.links.Add(1)
		select {
		case p.up <- c:
		default:
		}
		p.wg.Go(func() {
			for {
				frame, err := c.Recv(context.Background())
				if err != nil {
					p.drained.Add(1)
					if p.down != nil {
						p.down()
					}
					return
				}
				p.take(frame, <-x.stamps)
			}
		})
	}
}

// start runs the program, with each line of its standard error given to line.
func (p *process) start(line func(string)) error {
	p.said = &lines{line: line}
	p.ends = make(chan struct{})
	p.cmd = exec.Command(p.program, "run", "--dir", p.dir)
	p.cmd.Stderr = p.said
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.exit = p.cmd.Wait()
		close(p.ends)
	}()
	return nil
}

// nextLink waits for the process's next link.
func (p *process) nextLink(ctx context.Context) (*link.Conn, error) {
	select {
	case c := <-p.up:
		return c, nil
	case <-p.ends:
		return nil, fmt.Errorf("%s ended: %v\n%s", p.id, p.exit, p.said)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// errLink is the end of a link. A device dials again: a lock-down ends the
// link in the middle of a write.
var errLink = errors.New("the link has ended")

func (p *process) send(frame []byte) error {
	c := p.conn.Load()
	if c == nil {
		return errLink
	}
	if err := c.Send(context.Background(), frame); err != nil {
		return fmt.Errorf("%s: %w: %v", p.id, errLink, err)
	}
	return nil
}

// stopPatience bounds the end of a process.
const stopPatience = 20 * time.Second

// stop ends the process and reports an end that was not in order.
func (p *process) stop() error {
	p.stopping.Store(true)
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	select {
	case <-p.ends:
		return fmt.Errorf("%s ended by itself: %v\n%s", p.id, p.exit, p.said)
	default:
	}
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(stopPatience, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.ends
	var exit *exec.ExitError
	if errors.As(p.exit, &exit) && exit.ExitCode() != 0 && exit.ExitCode() != 1 { // 1: it says that it was told to
		return fmt.Errorf("%s ended badly: %v\n%s", p.id, p.exit, p.said)
	}
	return nil
}

// close ends everything, whatever state it is in.
func (p *process) close() {
	p.stopping.Store(true)
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		<-p.ends
	}
	if p.ln != nil {
		p.ln.Close()
	}
	if p.tap != nil {
		p.tap.close()
	}
	p.wg.Wait()
	os.Remove(p.socket)
}

// cpu is the processor time that the process has used, user and system, to the
// nanosecond (clock_getcpuclockid(3)).
func (p *process) cpu() (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.id, err)
	}
	return time.Duration(ts.Nano()), nil
}

// lines keeps what is written and hands it on line by line.
type lines struct {
	line func(string)

	mu   sync.Mutex
	all  []byte
	rest []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.all = append(l.all, b...)
	l.rest = append(l.rest, b...)
	var whole []string
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			break
		}
		whole = append(whole, string(l.rest[:i]))
		l.rest = l.rest[i+1:]
	}
	l.mu.Unlock()
	for _, s := range whole {
		if l.line != nil {
			l.line(s)
		}
	}
	return len(b), nil
}

// String is the end of what was written.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 4 << 10
	return strings.ToValidUTF8(string(l.all[max(0, len(l.all)-most):]), "?")
}
