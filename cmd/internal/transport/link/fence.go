package link

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// ErrInterrupted is the end of a link whose peer was too slow for a lock-down.
var ErrInterrupted = errors.New("link: interrupted while it wrote")

// fence is the socket below a link. While a rule is set, it asks before each
// single call that hands octets to the operating system, also after having
// waited for room: what a slow peer has not taken by then is not sent. It lies
// below TLS, which knows nothing of it.
type fence struct {
	net.Conn
	may atomic.Pointer[func() error] // nil: no rule
}

// Write is asked by one writer at a time, and with TLS also for what the
// protocol says by itself.
func (f *fence) Write(b []byte) (int, error) {
	may := f.may.Load()
	if may == nil {
		return f.Conn.Write(b)
	}
	sc, ok := f.Conn.(syscall.Conn)
	if !ok {
		return 0, errors.New("link: not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) {
			if failed = (*may)(); failed != nil {
				return true
			}
			m, err := syscall.Write(int(fd), b[n:])
			switch {
			case err == syscall.EAGAIN:
				return false // wait for room, or for the deadline
			case err == syscall.EINTR:
				continue
			case err != nil:
				failed = os.NewSyscallError("write", err)
				return true
			}
			n += m
		}
		return true
	})
	return n, errors.Join(failed, err)
}

// Interrupt ends the link, without waiting for anybody, if it is in the middle
// of a write. What the operating system took is sent; the rest never is.
func (c *Conn) Interrupt() {
	if c.writing.Load() == 0 {
		return
	}
	c.interrupted.Store(true)
	// Below TLS, whose own Close would wait for room to say goodbye.
	c.fence.Conn.Close()
	c.end(ErrInterrupted)
}
